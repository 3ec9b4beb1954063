"""The loop that is timed on the host's clock."""

from __future__ import annotations

import time
from typing import Any, Callable, List, Optional, Sequence

import numpy as np

from siderostat import limits
from siderostat.devices.base import Program, Window


class Loop(Program):
    """Calls one closure per phase, step after step.

    Args:
        phases: each takes its next batch, computes, and returns one output or a tuple of them.
    """

    def __init__(self, phases: Sequence[Callable[[], Any]]) -> None:
        self._phases = list(phases)
        self._last: Any = ()

    def run(self, steps: int) -> Window:
        """See :meth:`Program.run`."""
        phases = self._phases
        last = self._last
        self._begin()
        cpu = time.process_time_ns()
        start = time.perf_counter_ns()
        for _ in range(steps):
            for phase in phases:
                last = phase()
        self._wait(last)
        stop = time.perf_counter_ns()
        cpu = time.process_time_ns() - cpu
        self._last = last
        return Window(steps, (stop - start) * 1e-9, cpu * 1e-9, self._device_s())

    def outputs(self) -> List[np.ndarray]:
        """See :meth:`Program.outputs`."""
        return self._as_arrays(self._last)

    def infer(self, model: Any, arrays: Sequence[np.ndarray]) -> List[np.ndarray]:
        """See :meth:`Program.infer`."""
        return self._as_arrays(model(*arrays))

    def _begin(self) -> None:
        """Mark the start of a block on the device, where it keeps time itself; the clock does not run yet."""

    def _wait(self, last: Any) -> None:
        """Wait until ``last``, the newest output, is there; at once where calls return no earlier."""

    def _device_s(self) -> Optional[float]:
        """Return how long the block took by the device's own time, where it keeps one."""
        return None

    def _as_arrays(self, outputs: Any) -> List[np.ndarray]:
        return [np.asarray(o) for o in (outputs if isinstance(outputs, tuple) else (outputs,))]

    def peak_bytes(self) -> Optional[int]:
        """Return the process's peak resident memory: interpreter, framework, inputs and the step's own."""
        return limits.peak_resident_bytes()
