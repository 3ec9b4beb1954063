"""The interface every device implements. The device owns the clock; the worker owns the protocol."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Dict, List, Mapping, Optional, Sequence

import numpy as np

from siderostat.devices.energy import Counter, Missing
from siderostat.record import Provenance, Reason, Status
from siderostat.workloads.base import Step


class DeviceRefusal(Exception):
    """A device cannot do what was asked. It ends the cell, never the run."""

    status: ClassVar[Status]
    reason: Reason
    need_bytes: Optional[int] = None


class OutOfCapacity(DeviceRefusal):
    """The step does not fit in memory."""

    status = Status.CAPACITY

    def __init__(self, message: str, reason: Reason = Reason.OOM_DEVICE, need_bytes: Optional[int] = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.need_bytes = need_bytes


class Unsupported(DeviceRefusal):
    """The device, or its framework, has no way to run this step."""

    status = Status.UNSUPPORTED
    reason = Reason.FEATURE


class CompileFailed(DeviceRefusal):
    """The step, which runs as it is, could not be compiled for the device."""

    status = Status.UNSUPPORTED
    reason = Reason.COMPILE_FAILED


class Unavailable(DeviceRefusal):
    """The device is not on this machine. The text says what would bring it."""

    status = Status.UNAVAILABLE
    reason = Reason.NO_DEVICE


@dataclass(frozen=True)
class Window:
    """Time taken by steps run back to back, the device drained at both ends.

    ``cpu_s`` is CPU time of this process over the same stretch, all threads; ``device_s`` the time between two events
    on the device itself, where it keeps such.
    """

    steps: int
    seconds: float
    cpu_s: float
    device_s: Optional[float] = None


class Program(ABC):
    """A step made ready for one device."""

    @abstractmethod
    def run(self, steps: int) -> Window:
        """Run ``steps`` steps, wait for the device, and say how long they took by the device's clock."""

    @abstractmethod
    def outputs(self) -> List[np.ndarray]:
        """Return what the last phase of the last step returned."""

    def infer(self, model: Any, arrays: Sequence[np.ndarray]) -> List[np.ndarray]:
        """Return what a network computes in inference, to see how good it is while it is trained.

        Training goes on as if nothing had been asked, except that random numbers the network drew are used up.

        Args:
            model: whose weights this program trains, on its device; a step's model or a part of it.
            arrays: one batch, laid out as the step's feed has it.

        Raises:
            Unsupported: if the device can only run the whole step.
        """
        raise Unsupported("this device cannot run a network in inference while it trains it")

    def peak_bytes(self) -> Optional[int]:
        """Return the most memory of the device in use so far, where it is known."""
        return None

    def modelled(self) -> Dict[str, Any]:
        """Return what the figures of a simulated device were computed from; empty where they were measured."""
        return {}

    def close(self) -> None:
        """Release the device."""


class DeviceAdapter(ABC):
    """One device: how to make a step ready for it.

    Args:
        index: which one, ``""`` for the only or first one.
        settings: from the device's name, ``cpu:threads=2``; only keys of :attr:`settings_help` come here.

    Raises:
        ValueError: if a setting has a value that cannot be.
    """

    kind: ClassVar[str]
    title: ClassVar[str]
    clock: ClassVar[str] = "host"  # "host", "device" or "model"
    provenance: Provenance = Provenance.MEASURED  # of the class, or of one device: an emulator instead of a chip
    settings_help: ClassVar[Mapping[str, str]] = {}
    pace: ClassVar[Mapping[str, float]] = {}  # fields of record.Protocol in which this device differs from a CPU
    computes_on_host: ClassVar[bool] = False  # a burst that gets less than a whole core is disturbed
    runs_numpy: ClassVar[bool] = False  # so that the null workload can measure the harness on it
    is_exact: ClassVar[bool] = False  # every process tells the same figure, so that one is enough
    must_start_cold: ClassVar[bool] = False  # what drives it does not survive a fork

    def __init__(self, index: str, settings: Mapping[str, str]) -> None:
        self.index = index
        self.settings = settings

    def choice(self, key: str, *allowed: str) -> str:
        """Return the value of a setting that has a few, the first of them where it is not given.

        Raises:
            ValueError: if it has another.
        """
        value = self.settings.get(key, allowed[0])
        if value not in allowed:
            raise ValueError(f"{key} is {' or '.join(allowed)}, not {value!r}")
        return value

    def lacks(self, framework: str) -> Mapping[str, str]:
        """Return what of :data:`siderostat.workloads.base.FEATURES` it lacks with a framework -> what to do instead."""
        return {}

    def require(self, needs: Sequence[str], framework: str) -> None:
        """Check, before anything is built, that the device has what a step says it needs.

        Args:
            needs: of :data:`siderostat.workloads.base.FEATURES`.
            framework: of the step.

        Raises:
            Unsupported: if it lacks one.
        """
        lacking = self.lacks(framework)
        for feature in needs:
            if feature in lacking:
                raise Unsupported(f"this step needs {feature}, which {self.title} lacks; {lacking[feature]}")

    @classmethod
    def may_be_here(cls) -> bool:
        """Say at once whether such a device may be on this machine; the tour takes in what may."""
        return False

    @abstractmethod
    def describe(self) -> Dict[str, Any]:
        """Return name, memory, driver and the like.

        Raises:
            Unavailable: if the device is not on this machine.
        """

    def configure(self, framework: str) -> None:
        """Set what a framework takes only before its first operation, such as the number of threads.

        Called once, right after the framework is imported and before the workload is built.

        Args:
            framework: its name; the device need not be able to run it.
        """

    @abstractmethod
    def compile(self, step: Step, precision: str) -> Program:
        """Make ``step`` ready. What is slow and done once belongs here.

        Raises:
            DeviceRefusal: if the device cannot run it.
        """

    def effective(self) -> Dict[str, Any]:
        """Return the settings in force, such as the number of threads, after :meth:`compile`."""
        return {}

    def counters(self) -> List[Counter]:
        """Return what energy can be read from, in order of preference within each scope; opened later.

        A device without a sensor returns a counter that says why, :class:`siderostat.devices.energy.Missing`.
        """
        return [Missing(f"{self.title}: this adapter reads no energy sensor")]

    def sensors(self) -> Dict[str, float]:
        """Return clocks, temperatures and the like, unit in the name, such as ``sm_clock_mhz``; read between bursts."""
        return {}

    def is_throttled(self) -> bool:
        """Say whether the device itself holds its clock down now, so that samples should wait."""
        return False

    def other_pids(self, ours: Sequence[int]) -> List[int]:
        """Return processes that compute on the device now, ours aside; empty where it is not known."""
        return []

    def refusal(self, error: BaseException) -> Optional[DeviceRefusal]:
        """Translate a framework's exception, such as its out-of-memory error; None if it is not one."""
        if isinstance(error, MemoryError):
            return OutOfCapacity("the host's memory, or the worker's share of it, is used up", Reason.OOM_HOST)
        return None
