"""GPUs through PyTorch: NVIDIA's, and AMD's, whose PyTorch answers the same calls."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
from pathlib import Path
from typing import Any, ClassVar, Dict, List, Mapping, Optional, Sequence, Set

from siderostat.devices import refusals
from siderostat.devices.base import DeviceAdapter, DeviceRefusal, Program, Unavailable, Unsupported
from siderostat.devices.cuda import cards
from siderostat.devices.energy import Counter, Missing, Refused, nvml
from siderostat.workloads.base import HOST_KERNELS, Step

_HELD_DOWN = frozenset({  # reasons of NVML's that are the device's own, not a setting of the user's
    "sw_power_cap", "hw_slowdown", "sw_thermal_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown",
})  # fmt: skip
_LEAST_CLOCK = 0.75  # of the default, below which samples should wait


class Cuda(DeviceAdapter):
    """One GPU.

    ``cuda:1`` counts within CUDA_VISIBLE_DEVICES, as torch does; ``cuda:GPU-8a5b`` is the one whose UUID begins so. The
    worker then sees this one only, so that torch and NVML speak of the same.
    """

    kind = "cuda"
    title = "GPUs, NVIDIA's and AMD's, through PyTorch"
    settings_help: ClassVar[Mapping[str, str]] = {
        "execution": "eager (default), or compiled: torch.compile, which needs Triton",
        "inputs": "host (default): each batch is copied while the step before computes; resident: all lie on the GPU",
    }
    pace: ClassVar[Mapping[str, float]] = {
        "block_s": 0.05,
        "burst_s": 2.2,  # 20 updates of NVML's counter of energy, one each 100 ms
        "warmup_steps": 20,
        "warmup_s": 2.0,
        "lead_s": 0.5,
    }
    must_start_cold = True

    def __init__(self, index: str, settings: Mapping[str, str]) -> None:
        super().__init__(index, settings)
        if not re.fullmatch(r"\d*|GPU-[0-9a-fA-F-]+", index):
            raise ValueError(f"a GPU is a number, or GPU- and the beginning of its UUID (nvidia-smi -L), not {index!r}")
        self._is_compiled = self.choice("execution", "eager", "compiled") == "compiled"
        self._is_resident = self.choice("inputs", "host", "resident") == "resident"
        self._card: Optional[cards.Card] = None
        self._nvml: Any = None
        self._program: Any = None
        self._foreign: Optional[Set[int]] = None  # processes on the GPU before this one was

    @property
    def card(self) -> cards.Card:
        """The GPU, looked for once.

        Raises:
            Unavailable: if it is not there, or PyTorch cannot use it.
            Unsupported: if it is a part of one (MIG).
        """
        if self._card is None:
            self._card = cards.find(self.index)
        return self._card

    @classmethod
    def may_be_here(cls) -> bool:
        """See :meth:`DeviceAdapter.may_be_here`."""
        return any(Path(node).exists() for node in ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd"))

    def lacks(self, framework: str) -> Mapping[str, str]:
        """See :meth:`DeviceAdapter.lacks`. Kernels are there in Triton too, which comes with torch for GPUs."""
        if importlib.util.find_spec("triton") is not None:
            return {}
        return {HOST_KERNELS: "install Triton, or use a variant that is written in PyTorch alone, such as real"}

    def describe(self) -> Dict[str, Any]:
        """See :meth:`DeviceAdapter.describe`. Starts nothing on the GPU."""
        return cards.about(self.card, cards.torch_build())

    def configure(self, framework: str) -> None:
        """See :meth:`DeviceAdapter.configure`. CUDA reads which GPUs it may see when it is first used."""
        if self.card.uuid:
            os.environ[cards.VISIBLE] = self.card.uuid

    def compile(self, step: Step, precision: str) -> Program:
        """See :meth:`DeviceAdapter.compile`."""
        if step.framework != "torch":
            raise Unsupported(
                f"{step.framework} steps do not run on a GPU in this version; use torch, or the device cpu"
            )
        if precision == "tf32" and not self.card.has_tf32:
            raise Unsupported(
                f"{self.card.name} has no tensor cores for tf32, which NVIDIA's have since Ampere; use fp32"
            )
        self._foreign = set(self._pids())
        device = _torch_device(self.card)
        from siderostat.devices.cuda.torch import CudaProgram

        self._program = CudaProgram(step, precision, self._is_compiled, self._is_resident, device)
        return self._program  # type: ignore[no-any-return]

    def effective(self) -> Dict[str, Any]:
        """See :meth:`DeviceAdapter.effective`."""
        return {
            **({} if self._program is None else self._program.effective()),
            "device_memory_used_bytes": self._memory_used_bytes(),
        }

    def counters(self) -> List[Counter]:
        """See :meth:`DeviceAdapter.counters`."""
        if not self.card.uuid:
            return [Missing("NVML, which tells the energy of NVIDIA's boards, does not know this GPU")]
        return nvml.nvml_counters(self.card.uuid)

    def sensors(self) -> Dict[str, float]:
        """See :meth:`DeviceAdapter.sensors`."""
        handle = self._handle()
        return {} if handle is None else nvml.sensors(handle)

    def is_throttled(self) -> bool:
        """See :meth:`DeviceAdapter.is_throttled`: below 75 % of the default clock, for a reason of the GPU's own."""
        handle = self._handle()
        if handle is None:
            return False
        clock, default = nvml.sensors(handle).get("sm_clock_mhz"), nvml.default_sm_clock_mhz(handle)
        if clock is None or default is None or clock >= _LEAST_CLOCK * default:
            return False
        return bool(_HELD_DOWN.intersection(nvml.throttle_reasons(handle)))

    def other_pids(self, ours: Sequence[int]) -> List[int]:
        """See :meth:`DeviceAdapter.other_pids`.

        In a container NVML may number processes as the host does, so that none of ``ours`` is among them. Then those
        are others' that were there before this one computed.
        """
        now = self._pids()
        known = {*ours, os.getpid()}
        if self._foreign is None or known.intersection(now):
            return [pid for pid in now if pid not in known]
        return [pid for pid in now if pid in self._foreign]

    def refusal(self, error: BaseException) -> Optional[DeviceRefusal]:
        """See :meth:`DeviceAdapter.refusal`."""
        return (
            refusals.device_memory(error)
            or refusals.host_memory(error)
            or refusals.compilation(error)
            or super().refusal(error)
        )

    def _handle(self) -> Any:
        """Return NVML's handle of the GPU; None where NVML does not know it."""
        if self._nvml is None and self.card.uuid:
            with contextlib.suppress(Refused):
                self._nvml = nvml.find(self.card.uuid)
        return self._nvml

    def _pids(self) -> List[int]:
        handle = self._handle()
        return [] if handle is None else nvml.compute_pids(handle)

    def _memory_used_bytes(self) -> Optional[int]:
        handle = self._handle()
        return None if handle is None else cards.used_bytes(handle)


def _torch_device(card: cards.Card) -> Any:
    """Return torch's name of the GPU, having seen that it is the one that NVML described.

    Raises:
        Unavailable: if CUDA does not start, or shows another GPU.
    """
    import torch

    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
        uuid = str(getattr(torch.cuda.get_device_properties(card.ordinal), "uuid", ""))
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise Unavailable(f"torch {torch.__version__} cannot use {card.name}: {reason}") from error
    if card.uuid and uuid and uuid not in card.uuid:
        raise Unavailable(
            f"torch shows the GPU {uuid} where {card.uuid} was asked for: CUDA was in use in this process before; "
            "measure in a fresh process"
        )
    return torch.device("cuda", card.ordinal)
