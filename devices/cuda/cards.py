"""Which GPU a device's name means, and what it is, asked of NVML so that nothing starts on the GPU itself.

Where NVML does not answer (AMD's GPUs, NVIDIA's Jetson), a short-lived process asks PyTorch.
"""

from __future__ import annotations

import importlib.util
import json
import os
import runpy
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from siderostat.devices.base import Unavailable, Unsupported

VISIBLE = "CUDA_VISIBLE_DEVICES"
_ORDER = "CUDA_DEVICE_ORDER"
_GET_TORCH = "https://pytorch.org/get-started/locally has builds that were"
_ASK_S = 120.0
_ASK_TORCH = """
import json, torch
cards = []
for i in range(torch.cuda.device_count()):
    p = torch.cuda.get_device_properties(i)
    cards.append([p.name, p.total_memory, getattr(p, "gcnArchName", "") or f"{p.major}.{p.minor}"])
print(json.dumps(cards))
"""


@dataclass(frozen=True)
class Card:
    """One GPU. What is empty or None was not told."""

    name: str
    memory_bytes: int
    compute_capability: str  # such as 9.0; of an AMD GPU its architecture
    uuid: str = ""
    pci: str = ""
    driver: str = ""
    ordinal: int = 0  # torch's number of it, once only it is visible where its uuid is known

    @property
    def has_tf32(self) -> bool:
        """Whether matrix products can be rounded to TensorFloat-32: compute capability 8.0 and more."""
        major = self.compute_capability.partition(".")[0]
        return major.isdigit() and int(major) >= 8


@dataclass(frozen=True)
class Build:
    """What the installed PyTorch was built for."""

    version: str
    cuda: Optional[str]
    hip: Optional[str]


def torch_build() -> Build:
    """Read what PyTorch was built for off its files; it is not imported, which would take seconds.

    Raises:
        Unavailable: if it is not installed.
    """
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        raise Unavailable(f"PyTorch is not installed for {sys.executable}, and must be built for CUDA; {_GET_TORCH}")
    told = runpy.run_path(str(Path(spec.origin).with_name("version.py")))
    return Build(str(told["__version__"]), told.get("cuda"), told.get("hip"))


def find(index: str) -> Card:
    """Return the GPU that an index means.

    Args:
        index: ``""`` for the first; a number, which counts the visible GPUs as torch does; or ``GPU-`` and the
            beginning of a UUID.

    Raises:
        Unavailable: if there is none, or PyTorch cannot use it; the text says what would help.
        Unsupported: if it is a part of a divided GPU (MIG).
    """
    build = torch_build()
    listed, trouble = _listed()
    if not (build.cuda or build.hip):
        if listed:
            raise Unavailable(
                f"torch {build.version} was not built for CUDA, and cannot use the {listed[0][0].name}; {_GET_TORCH}"
            )
        raise Unavailable(
            f"there is no GPU here that answers ({trouble}), and torch {build.version} was not built for CUDA; measure "
            f"on a machine with a GPU and its driver, with another torch: {_GET_TORCH}"
        )
    if build.hip or trouble:
        return _chosen(_told_by_torch(build, trouble), index)
    cards = _visible([card for card, _ in listed], index, os.environ)
    card = _chosen(cards, index)
    if dict(listed)[card]:
        raise Unsupported(_mig(f"{card.name} ({card.uuid})"))
    return card


def _listed() -> Tuple[List[Tuple[Card, bool]], str]:
    """Return all GPUs that NVML knows, in the order of their PCI addresses, and whether MIG divides each.

    The second value says why NVML does not answer.
    """
    try:
        import pynvml
    except ImportError:
        return [], "the package nvidia-ml-py is not installed"
    from siderostat.devices.energy import nvml

    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        return [(_card(pynvml, handle), nvml.is_mig(handle)) for handle in handles], ""
    except pynvml.NVMLError as error:
        return [], f"NVML: {error}"


def _card(pynvml: Any, handle: Any) -> Card:
    major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
    return Card(
        name=_text(pynvml.nvmlDeviceGetName(handle)),
        memory_bytes=int(pynvml.nvmlDeviceGetMemoryInfo(handle).total),
        compute_capability=f"{major}.{minor}",
        uuid=_text(pynvml.nvmlDeviceGetUUID(handle)),
        pci=_text(pynvml.nvmlDeviceGetPciInfo(handle).busId),
        driver=_text(pynvml.nvmlSystemGetDriverVersion()),
    )


def _visible(cards: Sequence[Card], index: str, environment: Mapping[str, str]) -> List[Card]:
    """Return the GPUs that CUDA_VISIBLE_DEVICES leaves, in its order; as in the driver, it ends at a wrong entry."""
    entries = [entry.strip() for entry in environment[VISIBLE].split(",")] if VISIBLE in environment else None
    counts = not index.startswith("GPU-") if entries is None else any(entry.isdigit() for entry in entries)
    if counts and len({card.name for card in cards}) > 1 and environment.get(_ORDER) != "PCI_BUS_ID":
        raise Unavailable(
            f"this machine has GPUs of several kinds ({', '.join(f'{c.name} {c.uuid}' for c in cards)}), which CUDA "
            f"and the driver may number differently; set {_ORDER}=PCI_BUS_ID, or name one: cuda:{cards[0].uuid[:12]}"
        )
    if entries is None:
        return list(cards)
    found: List[Card] = []
    for entry in entries:
        if entry.startswith("MIG"):
            raise Unsupported(_mig(f"{VISIBLE}={environment[VISIBLE]}"))
        by_uuid = entry.startswith("GPU-")
        fitting = [c for i, c in enumerate(cards) if (c.uuid.startswith(entry) if by_uuid else entry == str(i))]
        if len(fitting) != 1:
            break
        found += fitting
    return found


def _chosen(cards: Sequence[Card], index: str) -> Card:
    fitting = [c for i, c in enumerate(cards) if index in (str(i), "" if i == 0 else None)]
    if index.startswith("GPU-"):
        fitting = [card for card in cards if card.uuid.startswith(index)]
    if len(fitting) != 1:
        names = "; ".join(f"{i}: {c.name} {c.uuid}".strip() for i, c in enumerate(cards)) or "none"
        limit = f" with {VISIBLE}={os.environ[VISIBLE]}" if VISIBLE in os.environ else ""
        what = f"{len(fitting)} GPUs match {index!r}" if fitting else f"there is no GPU {index or '0'}"
        raise Unavailable(f"{what}; to be had{limit}: {names}")
    return fitting[0]


def _told_by_torch(build: Build, trouble: str) -> List[Card]:
    """Return the GPUs that torch sees, asked in a process of its own, which ends and leaves nothing on them."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _ASK_TORCH], capture_output=True, text=True, timeout=_ASK_S, check=False
        )
        told = json.loads(done.stdout) if done.returncode == 0 else []
    except (subprocess.TimeoutExpired, ValueError):
        told = []
    if not told:
        because = f" ({trouble})" if trouble and not build.hip else ""
        needs = "ROCm's driver" if build.hip else "NVIDIA's driver; in a container, start it with the NVIDIA runtime"
        raise Unavailable(
            f"torch {build.version} finds no GPU on this machine{because}; where there is one, install {needs}"
        )
    return [Card(name, int(memory), capability, ordinal=i) for i, (name, memory, capability) in enumerate(told)]


def _mig(what: str) -> str:
    return (
        f"{what} is divided (MIG): parts share sensors and power, so that clocks and energy of one are not its own; "
        "switch that off (nvidia-smi -mig 0), or name another GPU"
    )


def used_bytes(handle: Any) -> Optional[int]:
    """Return how much memory of a GPU is in use, by all processes and the driver; None: NVML does not tell."""
    import pynvml

    try:
        return int(pynvml.nvmlDeviceGetMemoryInfo(handle).used)
    except pynvml.NVMLError:
        return None


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def about(card: Card, build: Build) -> Dict[str, Any]:
    """Return what a record says of the GPU, without what was not told."""
    told = {
        "name": card.name, "uuid": card.uuid, "pci": card.pci, "memory_bytes": card.memory_bytes,
        "driver": card.driver, "compute_capability": card.compute_capability, "torch": build.version,
        "cuda": build.cuda, "hip": build.hip,
    }  # fmt: skip
    return {name: value for name, value in told.items() if value}
