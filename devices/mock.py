"""A device that takes the time it is told and computes nothing: it makes tests of the harness exact.

Its records are marked ``modelled``, since nothing was measured.
"""

from __future__ import annotations

import copy
import math
import os
import random
from typing import Any, ClassVar, Dict, List, Mapping, Sequence

import numpy as np

from siderostat.devices.base import DeviceAdapter, OutOfCapacity, Program, Window
from siderostat.devices.cpu.loop import Loop
from siderostat.devices.energy import Counter, Missing
from siderostat.record import EnergyStatus, Provenance
from siderostat.workloads.base import Step


class Mock(DeviceAdapter):
    """Pretends that a step takes ``step_s`` seconds times a factor that each process draws once."""

    kind = "mock"
    title = "takes the time it is told, for tests of the harness"
    clock = "model"
    provenance = Provenance.MODELLED
    runs_numpy = True
    settings_help: ClassVar[Mapping[str, str]] = {
        "step_s": "seconds per step; default 0.001",
        "process_noise": "standard deviation between processes of the logarithm of the time; default 0",
        "sample_noise": "the same between samples of one process; default 0",
        "largest": "largest batch that fits; default: any does",
    }

    def describe(self) -> Dict[str, Any]:
        """See :meth:`DeviceAdapter.describe`."""
        return {"name": "mock"}

    def counters(self) -> List[Counter]:
        """See :meth:`DeviceAdapter.counters`."""
        return [Missing("a simulated device uses no energy", status=EnergyStatus.NOT_MEASURABLE)]

    def compile(self, step: Step, precision: str) -> Program:
        """See :meth:`DeviceAdapter.compile`."""
        numbers = {key: float(value) for key, value in self.settings.items() if value}
        batch = len(copy.copy(step.phases[0].feed).next()[0])
        if batch > numbers.get("largest", math.inf):
            raise OutOfCapacity(f"a batch of {batch} does not fit on this device")
        return _MockProgram(step, numbers)


class _MockProgram(Program):
    def __init__(self, step: Step, numbers: Mapping[str, float]) -> None:
        self._step = step
        self._random = random.Random(os.getpid())
        self._sample_noise = numbers.get("sample_noise", 0.0)
        self._step_s = numbers.get("step_s", 1e-3) * self._random.lognormvariate(0, numbers.get("process_noise", 0.0))

    def run(self, steps: int) -> Window:
        seconds = steps * self._step_s * self._random.lognormvariate(0, self._sample_noise)
        return Window(steps, seconds, seconds)

    def outputs(self) -> List[np.ndarray]:
        phase = self._step.phases[-1]
        return [np.asarray(a) for a in phase.feed.next()] if self._step.framework == "numpy" else []

    def infer(self, model: Any, arrays: Sequence[np.ndarray]) -> List[np.ndarray]:
        return Loop([]).infer(model, arrays) if self._step.framework == "numpy" else super().infer(model, arrays)
