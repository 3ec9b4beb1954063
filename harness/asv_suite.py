"""Benchmark classes that airspeed velocity (asv) runs by itself, timed as siderostat times a process.

A suite has one class for each workload and variant, in the module and by the name that :mod:`siderostat.asv_names`
gives it::

    # benchmarks/galaxy_shape.py
    class Dnn(Throughput):
        table = {"workload": "galaxy-shape", "batches": [8, 14]}

        def time_train(self, *point):
            self.run_bursts()

One sample of asv's is one process: the median time of a block over the items in it, by the device's own clock. So asv's
tests, which take samples for independent, are right to do so. It stays with the rules of one process: a comparison of
two revisions in lock-step is what ``siderostat gate`` is for.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from typing import Any, ClassVar

from siderostat import asv_names
from siderostat.config import Sweep, groups
from siderostat.devices.base import DeviceRefusal
from siderostat.errors import BadValue
from siderostat.plan import GRADES, paced
from siderostat.record import THROUGHPUT, Attempt, Cell, Protocol
from siderostat.worker import Bench


class Throughput:
    """Base of a benchmark class.

    Attributes:
        table: what is measured, as a ``[[sweep]]`` table of a sweep file has it: one workload, variant and mode.
        cells: by the values of asv's parameters.
    """

    table: ClassVar[Mapping[str, Any]]
    cells: ClassVar[Mapping[tuple[str | int, ...], Cell]]
    params: ClassVar[list[list[str | int]]]
    param_names: ClassVar[list[str]] = list(asv_names.PARAMETERS)
    version = asv_names.VERSION
    number = 1
    repeat = 1  # one sample of a process: its median
    rounds = GRADES["ci"].least_rounds  # processes; asv cannot tell two sets of fewer than seven apart
    warmup_time = 2.0  # s, after siderostat's own
    timeout = 600.0  # s, of one process

    _bench: Bench | None = None
    _block_steps = 0
    _samples = 0
    _items = 0
    _clock_s = 0.0

    def __init_subclass__(cls) -> None:
        """Lay out the parameters.

        Raises:
            BadValue: if the class would have another name in asv than an exported run of the same cells.
        """
        found = [cell for group in groups(Sweep(tables=[cls.table])) for cell in group]
        is_null = cls.table.get("workload") == "null"  # which every sweep has besides
        cells = [c for c in found if c.measure == THROUGHPUT and (c.workload == "null") == is_null]
        here = f"{cls.__module__.rpartition('.')[2]}.{cls.__name__}."
        for cell in cells:
            name, method = asv_names.benchmark(cell), asv_names.method(cell)
            if name != here + method or not hasattr(cls, method):
                raise BadValue(f"{here[:-1]} measures what asv knows as {name}: call its module, class and method so")
        cls.cells = {asv_names.point(cell): cell for cell in cells}
        cls.params = asv_names.axes(cells)

    def setup(self, *point: str | int) -> None:
        """Make the step ready, once for each process: asv calls this before each sample.

        Raises:
            NotImplementedError: if it cannot be measured here, which asv shows as n/a.
        """
        if self._bench is not None:
            return
        if point not in self.cells:
            raise NotImplementedError(f"no case has these values together: {point}")
        cell = self.cells[point]
        protocol = paced(Protocol(), cell.device)
        try:
            self._prepare(Bench(Attempt(cell, 0, 0, "cold", protocol)), protocol)
        except ModuleNotFoundError as error:
            raise NotImplementedError(f"package {error.name} is not installed") from error
        except DeviceRefusal as refusal:
            raise NotImplementedError(str(refusal)) from refusal

    def _prepare(self, bench: Bench, protocol: Protocol) -> None:
        for part in range(bench.workload.parts(bench.spec)):
            bench.workload.make_part(bench.spec, part)
        head = bench.prepare()
        self._bench, self._items, self._block_steps = bench, head["items_per_step"], head["block_steps"]
        self._samples = max(protocol.burst_samples, math.ceil(protocol.burst_s / (self._block_steps * head["step_s"])))

    def run_bursts(self) -> None:
        """Time as many bursts as a process has, and let the clock go on by the median time per item."""
        assert self._bench is not None
        bursts = self._bench.attempt.protocol.bursts
        answers = [self._bench.burst(self._block_steps, self._samples, []) for _ in range(bursts)]
        per_step = [seconds / answer["block_steps"] for answer in answers for seconds in answer["seconds"]]
        self._clock_s += statistics.median(per_step) / self._items

    def timer(self) -> float:
        """Return the clock that asv reads before and after: seconds per item."""
        return self._clock_s
