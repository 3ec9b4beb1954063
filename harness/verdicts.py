"""From the records of two revisions to a verdict for each series: what the gate in CI says.

A series is a cell that both revisions were measured on, in lock-step. Its times are judged by the rule of
:mod:`siderostat.gate`; figures that a machine cannot disturb (parameters, operations, the memory that a step's tensors
need, modelled times) are compared as they are.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from siderostat import devices, gate, ratios, stats
from siderostat.gate import Judgement, Verdict
from siderostat.record import FAILURES, Cell, Record, Status
from siderostat.stats import Estimate

SIDES = BASE, HEAD = ("base", "head")
WALL, CPU, MODEL = "wall", "cpu", "model"
EXACT = {
    "parameters": "parameters",
    "flops": "floating-point operations of a step",
    "operations": "operations of a step",
    "moved_bytes": "bytes moved by a step",
    "live_bytes": "memory of a step's tensors, in bytes",
}
"""Figures of a traced step that are compared as they are, and what they are."""
MODELLED_TIME = "modelled seconds per step"
_SAME = 1e-9  # relative; what rounding may change


@dataclass(frozen=True)
class Exact:
    """A figure that is the same whenever it is looked at.

    Attributes:
        name: what it is.
        base: of the base.
        head: of the head.
    """

    name: str
    base: float
    head: float

    @property
    def verdict(self) -> Verdict:
        """FAIL where the head needs more, PASS where it needs as much or less."""
        return Verdict.FAIL if self.head > self.base * (1 + _SAME) else Verdict.PASS


@dataclass(frozen=True)
class Series:
    """What the gate says of one cell.

    Attributes:
        name: of the cell, in a few words; no other series has it.
        cell: without a revision.
        verdict: the gravest of time and exact figures.
        time: of the time alone.
        reason: why there is nothing to compare, or what is wrong with one side; empty where all is well.
        judgement: the rule's; None where nothing was timed.
        basis: ``wall``, ``cpu`` (of a single thread on this host: other work disturbs it less) or ``model``.
        pairs: processes of both revisions that the judgement rests on.
        fresh: how many of them were measured because the first stage did not pass the head.
        base_s: seconds per item of the base, over all its processes.
        head_s: the same of the head.
        exact: figures compared as they are.
        has_failed: whether a process of either side crashed, timed out, failed or was invalid.
        flags: what must be known to read the times.
    """

    name: str
    cell: Cell
    verdict: Verdict
    time: Verdict
    reason: str
    judgement: Judgement | None
    basis: str
    pairs: int
    fresh: int
    base_s: Estimate | None
    head_s: Estimate | None
    exact: tuple[Exact, ...] = ()
    has_failed: bool = False
    flags: tuple[str, ...] = field(default=())

    @property
    def slowdown(self) -> Estimate | None:
        """How many times as long the head takes as the base, with the 95 % interval."""
        return self.judgement.slowdown.estimate() if self.judgement and self.judgement.slowdown else None

    @property
    def detectable(self) -> float | None:
        """The least slowdown that would more likely than not have been found, 0.03 for 3 %."""
        return self.judgement.detectable if self.judgement else None


@dataclass(frozen=True)
class Outcome:
    """What the gate says of two revisions.

    Attributes:
        base: what the base is, in words.
        head: what the head is, in words.
        series: one for each cell.
        floor: the slowdown up to which nothing fails, 0.05 for 5 %.
        untraced: why a step could not be traced, for each that could not.
    """

    base: str
    head: str
    series: tuple[Series, ...]
    floor: float
    untraced: tuple[str, ...] = ()

    def of(self, verdict: Verdict) -> list[Series]:
        """Return the series with this verdict."""
        return [one for one in self.series if one.verdict is verdict]


def sides(cells: Sequence[Cell]) -> list[list[Cell]]:
    """Return for each cell the group that is measured in lock-step: the base, which is the reference, and the head."""
    return [[dataclasses.replace(cell, code=side) for side in SIDES] for cell in cells]


def unsettled(first: Sequence[Record], cells: Sequence[Cell], floor: float) -> tuple[list[Cell], list[Cell]]:
    """Return the cells whose head looks slower after the first stage, and those that cannot be passed without more.

    Args:
        first: all records of the first stage.
        cells: without a revision.
        floor: the slowdown up to which nothing fails, 0.05 for 5 %.
    """
    suspects, undecided, held = [], [], _by_cell(first)
    for cell in cells:
        records = held.get(cell.key(), [])
        logs = _slowdowns(records, _basis(records))
        if _why_not(_by_side(records)) or _is_modelled(records) or len(logs) < 2:
            continue
        if gate.is_suspect(logs):
            suspects.append(cell)
        elif not gate.is_passed(logs, floor):
            undecided.append(cell)
    return suspects, undecided


def judge(
    cells: Sequence[Cell],
    first: Sequence[Record],
    fresh: Sequence[Record],
    traced: Mapping[str, Mapping[str, Mapping[str, float]]],
    floor: float = gate.FLOOR,
) -> list[Series]:
    """Return what the gate says of each cell.

    Args:
        cells: without a revision.
        first: all records of the first stage.
        fresh: all records of the second.
        traced: key of the cell -> revision -> figures by the names of :data:`EXACT`.
        floor: the slowdown up to which nothing fails, 0.05 for 5 %.
    """
    held, held_fresh = _by_cell(first), _by_cell(fresh)
    found = []
    for name, cell in zip(names(cells), cells, strict=True):
        key = cell.key()
        found.append(_series(name, cell, held.get(key, []), held_fresh.get(key, []), traced.get(key, {}), floor))
    return found


def names(cells: Sequence[Cell]) -> list[str]:
    """Return a name for each cell: its label and, where that is not its own, the size and the options that differ."""
    labels = [cell.label() for cell in cells]
    found = []
    for cell, label in zip(cells, labels, strict=True):
        alike = [other for other, its in zip(cells, labels, strict=True) if its == label]
        further = [f"size {cell.size}"] if len({other.size for other in alike}) > 1 else []
        for option, value in sorted(cell.options.items()):
            if len({str(other.options.get(option)) for other in alike}) > 1:
                further.append(f"{option}={value}")
        found.append(" ".join([label, *further]))
    return found


def _series(
    name: str,
    cell: Cell,
    first: Sequence[Record],
    fresh: Sequence[Record],
    traced: Mapping[str, Mapping[str, float]],
    floor: float,
) -> Series:
    records = [*first, *fresh]
    by_side = _by_side(records)
    exact = _exact(traced) + _modelled(by_side)
    basis = MODEL if _is_modelled(records) else _basis(records)
    reason = _why_not(by_side)
    judgement, first_logs, fresh_logs = None, _slowdowns(first, basis), _slowdowns(fresh, basis)
    if not reason and basis != MODEL:
        judgement = gate.judge(first_logs, fresh_logs, floor)
        if judgement.slowdown is None:
            reason = "fewer than two pairs were measured"
        elif basis == CPU and judgement.verdict is Verdict.PASS and _waits(first, floor):
            judgement = dataclasses.replace(judgement, verdict=Verdict.INCONCLUSIVE)
            reason = "the head takes longer by the clock and no more of the processor: it waits, or was made to wait"
    time = judgement.verdict if judgement else Verdict.PASS if basis == MODEL and not reason else Verdict.NOT_COMPARABLE
    return Series(
        name,
        cell,
        _gravest([time, *(figure.verdict for figure in exact)]),
        time,
        reason,
        judgement,
        basis,
        judgement.slowdown.n if judgement and judgement.slowdown else 0,
        len(fresh_logs) if judgement else 0,
        _seconds_per_item(by_side[BASE], basis),
        _seconds_per_item(by_side[HEAD], basis),
        exact,
        any(r.status in FAILURES for r in _newest(records)),
        tuple(sorted(stats.flags([r for r in records if r.status is Status.OK and stats.measured_bursts(r)]))),
    )


_GRAVITY = (Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.NOT_COMPARABLE, Verdict.FAIL)


def _gravest(verdicts: Sequence[Verdict]) -> Verdict:
    return max(verdicts, key=_GRAVITY.index)


def _by_cell(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Return the records of both sides by the key of their cell without a revision."""
    found: dict[str, list[Record]] = {}
    for record in records:
        found.setdefault(dataclasses.replace(record.attempt.cell, code="").key(), []).append(record)
    return found


def _by_side(records: Sequence[Record]) -> dict[str, list[Record]]:
    return {side: [r for r in records if r.attempt.cell.code == side] for side in SIDES}


def _newest(records: Sequence[Record]) -> list[Record]:
    """Return the newest record of each process that was planned."""
    newest: dict[tuple[str, int], Record] = {}
    for record in records:
        newest[record.attempt.cell.code, record.attempt.round] = record
    return list(newest.values())


def _slowdowns(records: Sequence[Record], basis: str) -> list[float]:
    """Return log(t_head / t_base) of each pair."""
    base = [r for r in records if r.attempt.cell.code == BASE]
    head = [r for r in records if r.attempt.cell.code == HEAD]
    disturbed = ratios.disturbed_groups(records)
    clock = ratios.CPU_S if basis == CPU else ratios.WALL_S
    return [-pair.log_ratio for pair in ratios.pairs(base, head, disturbed, clock)]


def _waits(records: Sequence[Record], floor: float) -> bool:
    """Say whether the clock finds the head slower by more than the floor."""
    logs = _slowdowns(records, WALL)
    return gate.is_suspect(logs) and stats.log_mean(logs).value > math.log1p(floor)


def _basis(records: Sequence[Record]) -> str:
    """Return the time that is judged: that of the processor where one thread of this host does all the work."""
    ok = [r for r in records if r.status is Status.OK]
    return CPU if ok and all(_is_single_thread(r) for r in ok) else WALL


def _is_single_thread(record: Record) -> bool:
    kind, _, settings = devices.split(record.attempt.cell.device)
    if not devices.adapter(kind).computes_on_host:
        return False
    return str(record.effective.get("threads", settings.get("threads"))) == "1"


def _is_modelled(records: Sequence[Record]) -> bool:
    return any(r.model.get("seconds_per_step") for r in records)


def _why_not(by_side: Mapping[str, Sequence[Record]]) -> str:
    """Say why the two sides cannot be compared; empty where they can."""
    held = {side: [r for r in records if r.status is Status.OK] for side, records in by_side.items()}
    for side, ok in held.items():
        if not ok:
            return f"{side}: {_last_words(by_side[side])}"
    for name, get in _FINGERPRINT.items():
        texts = {side: sorted({str(get(r)) for r in ok}) for side, ok in held.items()}
        if texts[BASE] != texts[HEAD]:
            return f"{name} differ: base {', '.join(texts[BASE])}; head {', '.join(texts[HEAD])}"
    return ""


_FINGERPRINT: Mapping[str, Callable[[Record], Any]] = {
    "time bases": lambda r: r.clock,
    "work units per step": lambda r: r.items_per_step,
    "work units": lambda r: r.item,
    "threads": lambda r: r.effective.get("threads"),
    "versions of Python": lambda r: r.process.get("python"),
    "versions of the framework": lambda r: " ".join(
        f"{package} {version}" for package, version in sorted(r.process.get("packages", {}).items())
    ),
}
"""What must be equal on both sides for their times to be compared."""


def _last_words(records: Sequence[Record]) -> str:
    if not records:
        return "not measured"
    last = next((r for r in reversed(records) if r.status is not Status.SKIPPED), records[-1])
    return f"{last.status.value} ({last.reason.value if last.reason else 'no reason'}): {last.detail}"


def _exact(traced: Mapping[str, Mapping[str, float]]) -> tuple[Exact, ...]:
    base, head = traced.get(BASE, {}), traced.get(HEAD, {})
    return tuple(Exact(title, base[n], head[n]) for n, title in EXACT.items() if n in base and n in head)


def _modelled(by_side: Mapping[str, Sequence[Record]]) -> tuple[Exact, ...]:
    """Return the modelled time: a model says the same whenever it is asked."""
    bands = [
        next((r.model["seconds_per_step"] for r in records if r.model.get("seconds_per_step")), None)
        for records in (by_side[BASE], by_side[HEAD])
    ]
    if bands[0] is None or bands[1] is None:
        return ()
    return (Exact(MODELLED_TIME, bands[0]["p50"], bands[1]["p50"]),)


def _seconds_per_item(records: Sequence[Record], basis: str) -> Estimate | None:
    """Return the time per item over all processes, in the time that is judged."""
    ok = stats.counted(records)
    if basis != CPU:
        return stats.case(records).seconds_per_item if ok else None
    return stats.geometric_mean([_cpu_per_item(r) for r in ok]) if ok else None


def _cpu_per_item(record: Record) -> float:
    assert record.items_per_step
    samples = [s / b.block_steps for b in stats.measured_bursts(record) for s in b.cpu_s]
    return statistics.median(samples) / record.items_per_step


def reach(scatter: float, pairs: int) -> float | None:
    """Return the least slowdown that a number of pairs would more likely than not find, 0.12 for 12 %.

    Args:
        scatter: standard deviation of the pairs' logarithms.
        pairs: how many.
    """
    if pairs < 2:
        return None
    return stats.LogEstimate(0.0, scatter / math.sqrt(pairs), pairs - 1, pairs).detectable
