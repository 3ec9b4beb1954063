"""What a simulated device says beside what was measured on a real one, case by case; nothing is fitted here."""

from __future__ import annotations

import dataclasses
import json
import statistics
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from siderostat import devices
from siderostat.child import Child, Lost
from siderostat.devices.base import OutOfCapacity
from siderostat.devices.sim import Machine, Sim, chips, model
from siderostat.devices.sim.opgraph import OpGraph
from siderostat.devices.sim.spec import SpecError
from siderostat.errors import BadValue, NothingMeasured, UnknownName
from siderostat.record import THROUGHPUT, Attempt, Cell, Provenance, Record
from siderostat.stats import Case, Estimate, cases

_ASK_S = 900.0  # the inputs of a workload may have to be made first
FRAMEWORK = "torch"
AIM_ERROR, AIM_COVERAGE = 0.25, 0.90
"""What a model is to reach: at most this median error, and at least this share of the cases in the 95 % band."""


@dataclass(frozen=True)
class Point:
    """A case that was measured and modelled.

    Attributes:
        cell: as it was measured.
        item: the workload's unit.
        measured: seconds per item, with the interval over processes.
        flags: of the measurement.
        band: quantiles of the modelled seconds per item, as in :data:`siderostat.devices.sim.bands.QUANTILES`.
        parts: modelled seconds per item by part.
    """

    cell: Cell
    item: str
    measured: Estimate
    flags: tuple[str, ...]
    band: Mapping[str, float]
    parts: Mapping[str, float]

    @property
    def modelled_s(self) -> float:
        """Modelled seconds per item, the median."""
        return self.band["p50"]

    @property
    def error(self) -> float:
        """Modelled over measured time, minus 1: 0.2 where the model is 20 % too slow."""
        return self.modelled_s / self.measured.value - 1

    @property
    def is_in_68(self) -> bool:
        """Whether what was measured lies in the model's 68 % band."""
        return self.band["p16"] <= self.measured.value <= self.band["p84"]

    @property
    def is_in_95(self) -> bool:
        """Whether what was measured lies in the model's 95 % band."""
        return self.band["p2_5"] <= self.measured.value <= self.band["p97_5"]


@dataclass(frozen=True)
class LeftOut:
    """A case without a figure on one of the two sides, and why."""

    cell: Cell
    reason: str


@dataclass(frozen=True)
class Summary:
    """How well a model does on several cases.

    Attributes:
        name: of the workload; ``all``.
        n: cases.
        median_abs_error: median of the errors without their sign.
        median_error: median of the errors with it: where the model leans.
        share_68: of the cases that lie in the 68 % band.
        share_95: the same of the 95 % band.
    """

    name: str
    n: int
    median_abs_error: float
    median_error: float
    share_68: float
    share_95: float

    @property
    def reaches_aim(self) -> bool:
        """Whether error and coverage are as good as is aimed at."""
        return self.median_abs_error < AIM_ERROR and self.share_95 >= AIM_COVERAGE


@dataclass(frozen=True)
class Validation:
    """A simulated device against a run.

    Attributes:
        simulated: name of the device.
        title: of its chip.
        sources: files that the model was computed from -> their hashes.
        unchecked: figures of the chip that nobody compared with a source.
        run: the run's folder.
        device: of the run that was measured.
        hardware: that device's own name.
        points: cases with both figures.
        left_out: all others.
    """

    simulated: str
    title: str
    sources: Mapping[str, str]
    unchecked: Sequence[str]
    run: str
    device: str
    hardware: str
    points: Sequence[Point]
    left_out: Sequence[LeftOut]

    def overall(self) -> Summary:
        """Return how well the model does on all cases."""
        return summary("all", self.points)

    def by_workload(self) -> list[Summary]:
        """Return how well it does on each workload."""
        groups: dict[str, list[Point]] = {}
        for point in self.points:
            groups.setdefault(point.cell.workload, []).append(point)
        return [summary(name, points) for name, points in groups.items()]


def summary(name: str, points: Sequence[Point]) -> Summary:
    """Sum several cases up, at least one."""
    return Summary(
        name=name,
        n=len(points),
        median_abs_error=statistics.median(abs(p.error) for p in points),
        median_error=statistics.median(p.error for p in points),
        share_68=statistics.fmean(p.is_in_68 for p in points),
        share_95=statistics.fmean(p.is_in_95 for p in points),
    )


def machine(name: str) -> Machine:
    """Return what a device's name simulates.

    Raises:
        BadValue: if it is no simulated device, has several chips, or its files cannot be used.
    """
    if devices.split(name)[0] != Sim.kind:
        raise BadValue(f"{name!r} is no simulated device; write sim:CHIP, such as sim:nvidia-h200 or sim:cpu.toml")
    try:
        device = devices.load(name)
    except (ValueError, LookupError) as error:  # a SpecError is a ValueError
        raise BadValue(f"{name}: {error}") from None
    assert isinstance(device, Sim)
    if device.machine.chip_count > 1:
        raise BadValue(f"{name}: one chip is set beside one device; leave chips out")
    return device.machine


def measured_device(found: Iterable[Case], named: str | None) -> str:
    """Return the device of a run that is to be compared.

    Args:
        found: cases of the run.
        named: a device as the run has it, or its kind alone; None: the only one.

    Raises:
        NothingMeasured: if nothing was measured.
        BadValue: if it is not clear which.
        UnknownName: if the one that is named was not measured.
    """
    names = sorted({case.cell.device for case in found if case.provenance is Provenance.MEASURED})
    if not names:
        raise NothingMeasured("this run holds no measured throughput; measure with 'siderostat run' first")
    if named in names or (named is None and len(names) == 1):
        return named or names[0]
    alike = [name for name in names if named is None or devices.split(name)[0] == named]
    if len(alike) == 1:
        return alike[0]
    if not alike:
        raise UnknownName("device", str(named), names, "--device: ", " in this run")
    raise BadValue(f"--device: this run measured {', '.join(alike)}; name one of them")


def validate(name: str, records: Iterable[Record], run: str, device: str | None = None) -> Validation:
    """Set what a simulated device says beside every throughput that a run measured on one device.

    Args:
        name: of the simulated device.
        records: of the run.
        run: its folder, for people.
        device: of the run, see :func:`measured_device`.

    Raises:
        BadValue: if a name cannot be used.
        NothingMeasured: if no case has a figure on both sides.
    """
    of = machine(name)
    found = [c for c in cases(records) if c.cell.measure == THROUGHPUT and c.cell.workload != "null"]
    chosen = measured_device(found, device)
    held = sorted((case for case in found if case.cell.device == chosen), key=_order)
    sides = list(_compared(held, of))
    points = [side for side in sides if isinstance(side, Point)]
    left_out = [side for side in sides if isinstance(side, LeftOut)]
    if not points:
        first = f"; the first, {described(left_out[0].cell)}: {left_out[0].reason}" if left_out else ""
        raise NothingMeasured(f"no case of {run} on {chosen} can be compared with {name}{first}")
    return Validation(
        simulated=name,
        title=of.chip.title,
        sources={spec.name: spec.hash for spec in (of.chip, of.framework, of.calibration)},
        unchecked=of.chip.unchecked(),
        run=run,
        device=chosen,
        hardware=next((str(r.device["name"]) for c in held for r in c.records if r.device.get("name")), chosen),
        points=points,
        left_out=left_out,
    )


def _order(case: Case) -> tuple[Any, ...]:
    cell = case.cell
    words = (cell.workload, cell.variant, cell.mode, cell.framework, cell.size, cell.precision)
    return *words, sorted((name, str(value)) for name, value in cell.options.items()), cell.batch


def described(cell: Cell) -> str:
    """Return which case it is: "galaxy-shape dnn train, torch, batch 8, fp32, size paper"."""
    words = " ".join(word for word in (cell.workload, cell.variant, cell.mode) if word)
    return f"{words}, {cell.framework}, batch {cell.batch}, {cell.precision}, size {cell.size}"


def _compared(held: Sequence[Case], of: Machine) -> Iterator[Point | LeftOut]:
    with Tracer() as tracer:
        for case in held:
            yield _compare(case, of, tracer)


def _compare(case: Case, of: Machine, tracer: Tracer) -> Point | LeftOut:
    cell, measured = case.cell, case.seconds_per_item
    if cell.framework != FRAMEWORK:
        return LeftOut(cell, f"{cell.framework}: the models are of chips that {FRAMEWORK} drives")
    if cell.devices > 1:
        return LeftOut(cell, f"measured on {cell.devices} devices at once")
    if measured is None:
        last = case.records[-1]
        return LeftOut(cell, f"not measured: {last.status.value}{last.detail and f' ({last.detail})'}")
    if chips.peak_flops(of.chip, cell.precision) is None:
        return LeftOut(cell, f"the file of {of.chip.name} tells no peak in {cell.precision}")
    try:
        graph, item = tracer.ask(cell)
        told = model(graph, of, cell.precision)
    except Lost as lost:
        return LeftOut(cell, lost.detail.split("; its log is ")[0])
    except (OutOfCapacity, SpecError) as error:
        return LeftOut(cell, str(error))
    band = {name: value / graph.items for name, value in told["seconds_per_step"].items()}
    parts = {name: value / graph.items for name, value in told["parts_s"].items()}
    return Point(cell, item, measured, case.flags, band, parts)


class Tracer:
    """Has steps traced by one worker as long as it lives; one that has refused is followed by another."""

    def __init__(self) -> None:
        self._child: Child | None = None
        self._known: dict[str, tuple[OpGraph, str]] = {}

    def __enter__(self) -> Tracer:
        self._folder = tempfile.TemporaryDirectory()
        return self

    def __exit__(self, *_: object) -> None:
        self._end()
        self._folder.cleanup()

    def ask(self, cell: Cell) -> tuple[OpGraph, str]:
        """Return the operations of a step and the workload's unit; those of one step in several precisions are alike.

        Raises:
            Lost: if it cannot be traced.
        """
        step = dataclasses.replace(cell, device="cpu", precision="fp32")
        if step.key() not in self._known:
            self._known[step.key()] = self._ask(step)
        return self._known[step.key()]

    def _ask(self, step: Cell) -> tuple[OpGraph, str]:
        if self._child is None:
            self._child = Child(Path(self._folder.name) / "trace.log")
        request: dict[str, Any] = {"do": "trace", "attempt": dataclasses.asdict(Attempt(step, 0, 0))}
        try:
            answer = self._child.ask(request, _ASK_S)
        except BaseException:
            self._end()
            raise
        return OpGraph.from_dict(answer["graph"]), str(answer["item"])

    def _end(self) -> None:
        if self._child is not None:
            self._child.end()
        self._child = None


def to_json(of: Validation) -> str:
    """Return everything as JSON; times in seconds per item, errors and shares as numbers."""
    data = {
        "simulated": of.simulated,
        "chip": of.title,
        "sources": dict(of.sources),
        "unchecked": list(of.unchecked),
        "run": of.run,
        "device": of.device,
        "hardware": of.hardware,
        "overall": _flat(of.overall()),
        "by_workload": [_flat(one) for one in of.by_workload()],
        "cases": [row(point) for point in of.points],
        "left_out": [{**dataclasses.asdict(one.cell), "reason": one.reason} for one in of.left_out],
    }
    return json.dumps(data, indent=1)


def _flat(of: Summary) -> dict[str, Any]:
    return {**dataclasses.asdict(of), "reaches_aim": of.reaches_aim}


def row(of: Point) -> dict[str, Any]:
    """Return a case as a flat row, SI units in the names."""
    cell = dataclasses.asdict(of.cell)
    return {
        **{name: value for name, value in cell.items() if name not in ("options", "devices", "measure")},
        "options": "; ".join(f"{name}={value}" for name, value in sorted(of.cell.options.items())),
        "item": of.item,
        "measured_s": of.measured.value,
        "measured_s_low": of.measured.low,
        "measured_s_high": of.measured.high,
        "n_processes": of.measured.n,
        "flags": ",".join(of.flags),
        **{f"modelled_s_{name}": value for name, value in of.band.items()},
        **{f"modelled_{name}_s": value for name, value in of.parts.items()},
        "error": of.error,
        "is_in_68": of.is_in_68,
        "is_in_95": of.is_in_95,
    }
