"""The host's processor."""

from __future__ import annotations

import importlib
import os
import platform
from pathlib import Path
from typing import Any, Callable, ClassVar, Dict, List, Mapping, Optional

from siderostat.devices import refusals
from siderostat.devices.base import DeviceAdapter, DeviceRefusal, OutOfCapacity, Program, Unsupported
from siderostat.devices.cpu import cgroup, heap
from siderostat.devices.energy import Counter
from siderostat.devices.energy.powercap import powercap_counters
from siderostat.record import Reason
from siderostat.workloads.base import Phase, Step


class Cpu(DeviceAdapter):
    """The host's processor, through PyTorch, TensorFlow or plain NumPy."""

    kind = "cpu"
    title = "the host's processor"
    computes_on_host = True
    runs_numpy = True
    settings_help: ClassVar[Mapping[str, str]] = {
        "threads": "how many threads compute; default: one per core this process may use",
        "execution": "eager (default), or compiled: torch.compile, which needs a C++ compiler",
        "heap": "returned (default): freed memory goes back to the system; kept: it stays with the process (glibc)",
    }

    def __init__(self, index: str, settings: Mapping[str, str]) -> None:
        super().__init__(index, settings)
        wanted = settings.get("threads", str(usable_cores()))
        if not wanted.isdigit() or int(wanted) < 1:
            raise ValueError(f"threads is a whole number of at least 1, not {wanted!r}")
        self.threads = int(wanted)
        self._is_compiled = self.choice("execution", "eager", "compiled") == "compiled"
        self._heap = self.choice("heap", "returned", "kept")
        self._framework = ""
        self._program: Any = None

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
        if self._heap == "kept":
            heap.keep()
        programs = _programs(framework)
        if programs is not None:
            programs.configure(self.threads)

    def compile(self, step: Step, precision: str) -> Program:
        """See :meth:`DeviceAdapter.compile`."""
        if step.framework == "torch":
            if precision == "tf32":
                raise Unsupported("tf32 is a format of NVIDIA's tensor cores, and a CPU has none; use fp32 or bf16")
            self._program = _programs("torch").program(step, precision, self._is_compiled)
            return self._program  # type: ignore[no-any-return]
        if step.framework not in ("tensorflow", "numpy"):
            raise Unsupported(f"framework {step.framework!r} does not run on the CPU in this version")
        if step.framework == "tensorflow" and precision != "fp32":
            raise Unsupported(f"tensorflow steps compute in fp32 only on the CPU, not in {precision}; use fp32")
        if precision not in ("fp32", "fp64"):
            raise Unsupported(f"numpy steps compute in fp32 or fp64 on the CPU, not in {precision}; use fp32 or fp64")
        if self._is_compiled:
            raise Unsupported(f"execution=compiled is torch.compile, which {step.framework} steps have no use for")
        if step.framework == "tensorflow":
            from siderostat.devices.cpu.tensorflow import TensorFlowProgram

            return TensorFlowProgram(step)
        from siderostat.devices.cpu.loop import Loop

        return Loop([_numpy_closure(phase) for phase in step.phases])

    def effective(self) -> Dict[str, Any]:
        """See :meth:`DeviceAdapter.effective`."""
        programs = _programs(self._framework)
        return {
            "heap": self._heap,
            **({} if programs is None else programs.effective()),
            **({} if self._program is None else self._program.effective()),
        }

    def counters(self) -> List[Counter]:
        """See :meth:`DeviceAdapter.counters`."""
        return powercap_counters()

    def refusal(self, error: BaseException) -> Optional[DeviceRefusal]:
        """See :meth:`DeviceAdapter.refusal`."""
        if type(error).__name__ == "ResourceExhaustedError" and type(error).__module__.startswith("tensorflow."):
            need = _programs("tensorflow").refused_bytes(str(error))
            text = "the host's memory, or the worker's share of it, is used up"
            return OutOfCapacity(text, Reason.OOM_HOST, need)
        return refusals.host_memory(error) or refusals.compilation(error) or super().refusal(error)


def _programs(framework: str) -> Any:
    """Return the module of a framework that has settings of its own; None for plain Python."""
    if framework not in ("torch", "tensorflow"):
        return None
    return importlib.import_module(f"siderostat.devices.cpu.{framework}")


def _numpy_closure(phase: Phase) -> Callable[[], Any]:
    model, feed = phase.model, phase.feed
    return lambda: model(*feed.next())


def usable_cores() -> int:
    """Return how many processors this process may run on: its affinity, and the quotas of its control groups."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cgroup.cpu_quota()
    return cores if quota is None else max(1, min(cores, int(quota)))


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
