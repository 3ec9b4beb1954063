"""Stand-ins, on a machine without a GPU: for torch.cuda over CPU tensors, and for NVML's view of a few GPUs.

The torch.cuda here shows what a program may rely on and no more. A copy on a stream lands when somebody waits for that
stream, and holds NaN until then, so that a batch used too early is seen. Time stands still but for what is asked for.
"""

from __future__ import annotations

import contextlib
import types
from collections.abc import Iterator, Sequence

import torch


class Stream:
    def __init__(self, cuda: Cuda, name: str) -> None:
        self.cuda = cuda
        self.name = name
        self.pending: list[tuple[torch.Tensor, torch.Tensor]] = []

    def wait_stream(self, other: Stream) -> None:
        self.cuda.log.append("wait")
        other.land()

    def land(self) -> None:
        for target, source in self.pending:
            target.copy_(source)
        self.pending.clear()


class Event:
    def __init__(self, cuda: Cuda) -> None:
        self.cuda = cuda
        self.at_ms = float("nan")

    def record(self) -> None:
        self.cuda.log.append("event")
        self.at_ms = self.cuda.now_ms

    def elapsed_time(self, later: Event) -> float:
        assert self.cuda.log[-1] == "synchronize", "an event is read before the device has come to it"
        return later.at_ms - self.at_ms


class Cuda:
    """Answers as torch.cuda. ``log`` holds what was asked for, in order; ``now_ms`` is the device's time."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.now_ms = 0.0
        self._compute = Stream(self, "compute")
        self._stream = self._compute

    def Event(self, enable_timing: bool = False) -> Event:  # noqa: N802 - torch's name
        assert enable_timing
        return Event(self)

    def Stream(self, device: torch.device) -> Stream:  # noqa: N802
        return Stream(self, "copies")

    def current_stream(self, device: torch.device) -> Stream:
        return self._stream

    @contextlib.contextmanager
    def stream(self, stream: Stream) -> Iterator[None]:
        before, self._stream = self._stream, stream
        yield
        self._stream = before

    def synchronize(self, device: torch.device) -> None:
        self.log.append("synchronize")

    def memory_reserved(self, device: torch.device) -> int:
        return 3 << 20

    def max_memory_allocated(self, device: torch.device) -> int:
        return 2 << 20

    def empty_cache(self) -> None:
        self.log.append("empty_cache")

    def pinned(self, tensor: torch.Tensor) -> Pinned:
        """Stands for ``Tensor.pin_memory``."""
        self.log.append("pin")
        return Pinned(self, tensor.clone())


class Pinned:
    def __init__(self, cuda: Cuda, tensor: torch.Tensor) -> None:
        self.cuda = cuda
        self.tensor = tensor

    def __getitem__(self, place: slice) -> Pinned:
        return Pinned(self.cuda, self.tensor[place])

    def to(self, device: torch.device, non_blocking: bool = False) -> torch.Tensor:
        assert non_blocking
        self.cuda.log.append(f"copy on {self.cuda._stream.name}")
        landing = torch.full_like(self.tensor, float("nan") if self.tensor.is_floating_point() else -1)
        self.cuda._stream.pending.append((landing, self.tensor))
        return landing


UUIDS = ("GPU-aaaa0000-1111-2222-3333-444444444444", "GPU-aabb0000-1111-2222-3333-444444444444")


class NVMLError(Exception):
    value = 0


def nvml(
    names: Sequence[str] = ("NVIDIA V9", "NVIDIA V9"), mig: Sequence[bool] = (False, False), **changes: object
) -> types.ModuleType:
    """Return a module that answers as pynvml for GPUs of these names; ``changes`` replace its functions."""
    module = types.ModuleType("pynvml")
    answers = {
        "NVMLError": NVMLError,
        "NVML_DEVICE_MIG_ENABLE": 1,
        "NVML_CLOCK_SM": 1,
        "NVML_CLOCK_MEM": 2,
        "NVML_TEMPERATURE_GPU": 0,
        "NVML_SUCCESS": 0,
        "nvmlInit": lambda: None,
        "nvmlSystemGetDriverVersion": lambda: "999.1",
        "nvmlDeviceGetCount": lambda: len(names),
        "nvmlDeviceGetHandleByIndex": lambda i: i,
        "nvmlDeviceGetHandleByUUID": UUIDS.index,
        "nvmlDeviceGetName": lambda i: names[i],
        "nvmlDeviceGetUUID": lambda i: UUIDS[i],
        "nvmlDeviceGetPciInfo": lambda i: types.SimpleNamespace(busId=f"00000000:0{i}:00.0"),
        "nvmlDeviceGetMemoryInfo": lambda i: types.SimpleNamespace(total=80 << 30, used=1 << 30),
        "nvmlDeviceGetCudaComputeCapability": lambda i: (9, 0),
        "nvmlDeviceIsMigDeviceHandle": lambda i: False,
        "nvmlDeviceGetMigMode": lambda i: (int(mig[i]), int(mig[i])),
        "nvmlDeviceGetClockInfo": lambda i, clock: 1000,
        "nvmlDeviceGetDefaultApplicationsClock": lambda i, clock: 1000,
        "nvmlDeviceGetCurrentClocksEventReasons": lambda i: 0,
        "nvmlDeviceGetTemperature": lambda i, sensor: 40,
        "nvmlDeviceGetFieldValues": lambda i, fields: [],
        "nvmlDeviceGetPowerUsage": lambda i: 100_000,
        "nvmlDeviceGetEnforcedPowerLimit": lambda i: 700_000,
        "nvmlDeviceGetComputeRunningProcesses": lambda i: [],
    }
    for name, value in {**answers, **changes}.items():
        setattr(module, name, value)
    return module
