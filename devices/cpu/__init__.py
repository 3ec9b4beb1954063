"""The host's processor."""

from __future__ import annotations

import importlib
import os
import platform
from pathlib import Path
from typing import Any, Callable, ClassVar, Dict, Mapping, Optional

from siderostat.devices.base import DeviceAdapter, DeviceRefusal, OutOfCapacity, Program, Unsupported
from siderostat.record import Reason
from siderostat.workloads.base import Phase, Step


class Cpu(DeviceAdapter):
    """The host's processor, through PyTorch, TensorFlow or plain NumPy."""

    kind = "cpu"
    title = "the host's processor"
    computes_on_host = True
    settings_help: ClassVar[Mapping[str, str]] = {
        "threads": "how many threads compute; default: one per core this process may use"
    }

    def __init__(self, index: str, settings: Mapping[str, str]) -> None:
        super().__init__(index, settings)
        wanted = settings.get("threads", str(usable_cores()))
        if not wanted.isdigit() or int(wanted) < 1:
            raise ValueError(f"threads is a whole number of at least 1, not {wanted!r}")
        self.threads = int(wanted)
        self._framework = ""

    def describe(self) -> Dict[str, Any]:
        """See :meth:`DeviceAdapter.describe`."""
        return {
            "name": model_name(),
            "cores": os.cpu_count(),
            "usable_cores": usable_cores(),
            "memory_bytes": memory_bytes(),
        }

    def configure(self, framework: str) -> None:
        """See :meth:`DeviceAdapter.configure`."""
        self._framework = framework
        programs = _programs(framework)
        if programs is not None:
            programs.configure(self.threads)

    def compile(self, step: Step, precision: str) -> Program:
        """See :meth:`DeviceAdapter.compile`."""
        if precision != "fp32":
            raise Unsupported(f"precision {precision!r} is not available on the CPU in this version; use fp32")
        if step.framework == "torch":
            from siderostat.devices.cpu.torch import TorchProgram

            return TorchProgram(step)
        if step.framework == "tensorflow":
            from siderostat.devices.cpu.tensorflow import TensorFlowProgram

            return TensorFlowProgram(step)
        if step.framework == "numpy":
            from siderostat.devices.cpu.loop import Loop

            return Loop([_numpy_closure(phase) for phase in step.phases])
        raise Unsupported(f"framework {step.framework!r} does not run on the CPU in this version")

    def effective(self) -> Dict[str, Any]:
        """See :meth:`DeviceAdapter.effective`."""
        programs = _programs(self._framework)
        return {} if programs is None else dict(programs.effective())

    def refusal(self, error: BaseException) -> Optional[DeviceRefusal]:
        """See :meth:`DeviceAdapter.refusal`."""
        text = str(error)
        if isinstance(error, RuntimeError) and "can't allocate memory" in text:
            words = text.rpartition("you tried to allocate ")[2].split()
            need = int(words[0]) if words and words[0].isdigit() else None
        elif type(error).__name__ == "ResourceExhaustedError" and type(error).__module__.startswith("tensorflow."):
            need = _programs("tensorflow").refused_bytes(text)
        else:
            return super().refusal(error)
        return OutOfCapacity("the host's memory, or the worker's share of it, is used up", Reason.OOM_HOST, need)


def _programs(framework: str) -> Any:
    """Return the module of a framework that has settings of its own; None for plain Python."""
    if framework not in ("torch", "tensorflow"):
        return None
    return importlib.import_module(f"siderostat.devices.cpu.{framework}")


def _numpy_closure(phase: Phase) -> Callable[[], Any]:
    model, feed = phase.model, phase.feed
    return lambda: model(*feed.next())


def usable_cores() -> int:
    """Return how many processors this process may run on: its affinity, and its cgroup's quota where there is one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))


def memory_bytes() -> int:
    """Return the memory of the machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def model_name() -> str:
    """Return the processor's name as its maker gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
