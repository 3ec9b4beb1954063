"""Speed ratios between two sides, from processes measured in lock-step or, failing that, apart.

R = t_reference / t_cell, in time per item: above 1, the cell is faster than its reference.

In lock-step the processes of a *pair* are alive and warm together, and their bursts take turns, so that whatever the
machine does to one it does to the other. A pair gives one figure, d = mean over the turns of log(median time of the
reference's burst / median time of the cell's burst); R = exp(mean d) over the pairs, with Student's t. Measured apart,
R is the ratio of geometric means over processes, with Welch's interval on the logarithms.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from siderostat import stats
from siderostat.record import THROUGHPUT, Burst, Cell, Provenance, Record, Status
from siderostat.stats import Case, Estimate, LogEstimate

MATCHED = "matched"
"""The two cells that were set against each other: at the same batch, unless the plan says otherwise."""
BEST = "best"
"""Each side at the batch at which it handles most items per second."""
CLOCKS_DIFFER = "clocks_differ"
WALL_S: Callable[[Burst], Sequence[float]] = attrgetter("seconds")
CPU_S: Callable[[Burst], Sequence[float]] = attrgetter("cpu_s")
"""What of a burst's samples a ratio is taken of: the clock's time, or the processor's."""

ByRound = Mapping[int, float]
"""Round of the plan -> logarithm of a time or of a ratio."""


@dataclass(frozen=True)
class Pair:
    """Two ``ok`` processes whose bursts took turns.

    Attributes:
        reference: process of the reference.
        cell: process of what is compared with it.
        is_contended: whether other work disturbed one of the processes that were measured with them.
        log_ratio: logarithm of the reference's time per item over the cell's.
    """

    reference: Record
    cell: Record
    is_contended: bool
    log_ratio: float


@dataclass(frozen=True)
class Ratio:
    """How many times as fast a cell is as its reference.

    Attributes:
        kind: ``MATCHED`` or ``BEST``.
        reference: what it is compared with.
        cell: what is compared.
        log: logarithm of the ratio.
        is_paired: whether the two were measured in lock-step.
        n_reference: processes of the reference that it rests on.
        n_cell: processes of the cell that it rests on; in lock-step as many, the pairs.
        provenance: the least direct of both sides'; a ratio to a modelled time is modelled.
        flags: those of either side, ``noisy`` for more than 30 % of the pairs contended, and ``clocks_differ``.
        terms: sign and logarithms by round, whose means add up to ``log``.
    """

    kind: str
    reference: Cell
    cell: Cell
    log: LogEstimate
    is_paired: bool
    n_reference: int
    n_cell: int
    provenance: Provenance | None
    flags: tuple[str, ...]
    terms: tuple[tuple[float, ByRound], ...] = field(repr=False, compare=False)

    @property
    def estimate(self) -> Estimate:
        """The ratio with its 95 % interval."""
        return self.log.estimate()


@dataclass(frozen=True)
class Missing:
    """A comparison that has no ratio.

    Attributes:
        reference: what was to be compared with.
        cell: what was to be compared.
        without: the last record of each side that has no figure; empty where both have figures.
    """

    reference: Cell
    cell: Cell
    without: tuple[Record, ...]


@dataclass(frozen=True)
class Mean:
    """Geometric mean of the ratios of two sides over tasks; a task is a workload, variant and mode.

    The interval covers the errors of measuring, and not the choice of tasks: ``least`` and ``largest`` say how much
    that matters.

    Attributes:
        parts: for each task its matched ratios, one for each batch.
        log: logarithm of the mean.
        least: smallest ratio of a task.
        largest: largest ratio of a task.
    """

    parts: tuple[tuple[Ratio, ...], ...]
    log: LogEstimate
    least: float
    largest: float

    @property
    def estimate(self) -> Estimate:
        """The mean with its 95 % interval."""
        return self.log.estimate()

    @property
    def ratios(self) -> list[Ratio]:
        """All ratios that it rests on."""
        return [ratio for part in self.parts for ratio in part]


@dataclass(frozen=True)
class Comparison:
    """What came of comparing cells.

    Attributes:
        ratios: those that there are, ``MATCHED`` before ``BEST``.
        missing: comparisons without a ratio.
    """

    ratios: list[Ratio]
    missing: list[Missing]

    @property
    def means(self) -> list[Mean]:
        """The geometric means over tasks, of the sides that were compared on several."""
        return means(self.ratios)


def within(cases: Sequence[Case]) -> Comparison:
    """Compare the cells of one run with their references, as its plan says."""
    by_key = _by_key(cases)
    references = {
        (reference, key): None
        for key, case in by_key.items()
        for record in case.records
        if (reference := record.attempt.reference) not in (None, key) and reference in by_key
    }
    links = [(by_key[reference], by_key[key]) for reference, key in references if reference]
    return _compare(links, cases, cases, disturbed_groups(r for case in cases for r in case.records))


def between(references: Sequence[Case], cases: Sequence[Case]) -> Comparison:
    """Compare the cells of one run with those of another, the reference, as on another host: never in lock-step.

    A cell is compared with the same cell of the other run where there is one, else with each that has the same
    workload, variant, mode, batch, size and options.
    """
    known = _by_key(references)
    links = []
    by_task: dict[str, list[Case]] = {}
    for reference in references:
        by_task.setdefault(_task(reference.cell), []).append(reference)
    for key, case in _by_key(cases).items():
        alike = [known[key]] if key in known else by_task.get(_task(case.cell), [])
        links += [(reference, case) for reference in alike if reference.cell.measure == THROUGHPUT]
    return _compare(links, references, cases, None)


def pairs(
    references: Iterable[Record],
    cells: Iterable[Record],
    disturbed: Collection[str],
    clock: Callable[[Burst], Sequence[float]] = WALL_S,
) -> list[Pair]:
    """Return one pair for each round: the first whose group was left alone, else the last.

    Args:
        references: records of the reference, in the order of measuring.
        cells: records of the cell that is compared.
        disturbed: the groups in which other work disturbed a process.
        clock: ``WALL_S`` or ``CPU_S``.
    """
    partners = {r.group: r for r in references if r.group and _is_timed(r)}
    rounds: dict[int, Pair] = {}
    for record in cells:
        partner = partners.get(record.group)
        if partner is None or not _is_timed(record):
            continue
        held = rounds.get(record.attempt.round)
        d = pair_log_ratio(partner, record, clock)
        if d is not None and (held is None or held.is_contended):
            rounds[record.attempt.round] = Pair(partner, record, record.group in disturbed, d)
    return [rounds[number] for number in sorted(rounds)]


def disturbed_groups(records: Iterable[Record]) -> frozenset[str]:
    """Return the lock-step groups in which other work disturbed a process."""
    return frozenset(r.group for r in records if r.group and stats.is_contended(r))


def pair_log_ratio(reference: Record, cell: Record, clock: Callable[[Burst], Sequence[float]] = WALL_S) -> float | None:
    """Return the logarithm of the ratio of two processes measured in lock-step; None if they had no turn together."""
    ours, theirs = _times_by_turn(cell, clock), _times_by_turn(reference, clock)
    turns = sorted(ours.keys() & theirs.keys())
    return log_ratio([theirs[t] for t in turns], [ours[t] for t in turns]) if turns else None


def log_ratio(reference_s: Sequence[float], cell_s: Sequence[float]) -> float:
    """Return the mean logarithm of the ratio of two times, turn by turn."""
    return statistics.fmean(math.log(a / b) for a, b in zip(reference_s, cell_s, strict=True))


def means(ratios: Iterable[Ratio]) -> list[Mean]:
    """Return the geometric mean over tasks of each pair of sides that was compared on several.

    Within a task the batches are averaged round by round first, since those of one round were measured close together
    and may err alike. The errors of different tasks are taken as independent.
    """
    sides: dict[Any, dict[Any, list[Ratio]]] = defaultdict(lambda: defaultdict(list))
    for ratio in ratios:
        if ratio.kind == MATCHED:
            sides[_sides(ratio)][_set(ratio.reference), _set(ratio.cell)].append(ratio)
    found = []
    for by_set in sides.values():
        if len(by_set) > 1:
            logs = [over_batches(part) for part in by_set.values()]
            values = [math.exp(log.value) for log in logs]
            log = stats.combined([(1 / len(logs), log) for log in logs])
            found.append(Mean(tuple(map(tuple, by_set.values())), log, min(values), max(values)))
    return found


def over_batches(ratios: Sequence[Ratio]) -> LogEstimate:
    """Return the mean logarithm of the ratios of two sides at several batches of one task.

    Rounds that have a figure at every batch count. Where there is no such round, or some ratios are paired and some are
    not, the batches are taken as independent.
    """
    signs = {tuple(sign for sign, _ in ratio.terms) for ratio in ratios}
    if len(signs) == 1:
        columns = [_over_rounds(column) for column in zip(*(_figures(r) for r in ratios), strict=True)]
        if all(columns):
            return stats.combined([(s, stats.log_mean(c)) for s, c in zip(signs.pop(), columns, strict=True)])
    return stats.combined([(1 / len(ratios), ratio.log) for ratio in ratios])


def _figures(ratio: Ratio) -> list[ByRound]:
    return [figures for _, figures in ratio.terms]


def _over_rounds(batches: Sequence[ByRound]) -> list[float]:
    """Return the mean over batches for each round that all of them have."""
    rounds = sorted(frozenset.intersection(*(frozenset(batch) for batch in batches)))
    return [statistics.fmean(batch[number] for batch in batches) for number in rounds]


def _compare(
    links: Sequence[tuple[Case, Case]],
    references: Sequence[Case],
    cases: Sequence[Case],
    disturbed: Collection[str] | None,
) -> Comparison:
    """Return the ratios of linked cases, and those of the best batches of the series that they belong to.

    The best batch is the one whose estimate is highest. The highest of several noisy figures is on average too high,
    on either side, so that this ratio favours the side with more batches or more noise.
    """
    matched = [_ratio(MATCHED, reference, case, disturbed) for reference, case in links]
    series = {(_series(reference.cell), _series(case.cell)): None for reference, case in links}
    best = []
    of_references, of_cases = (_timed(references), _timed(cases)) if series else ({}, {})
    for theirs, ours in series:
        all_theirs, all_ours = of_references.get(theirs, []), of_cases.get(ours, [])
        if all_theirs and all_ours and max(len(all_theirs), len(all_ours)) > 1:
            best.append(_ratio(BEST, _fastest(all_theirs), _fastest(all_ours), disturbed))
    found = [*matched, *best]
    return Comparison([r for r in found if isinstance(r, Ratio)], [m for m in matched if isinstance(m, Missing)])


def _ratio(kind: str, reference: Case, case: Case, disturbed: Collection[str] | None) -> Ratio | Missing:
    """Return the ratio of two cases: paired where they were measured in lock-step, else unpaired.

    Args:
        kind: of the ratio.
        reference: what is compared with.
        case: what is compared.
        disturbed: groups disturbed by other work; None: they are of different runs.
    """
    paired = [] if disturbed is None else pairs(reference.records, case.records, disturbed)
    theirs, ours = stats.counted(reference.records), stats.counted(case.records)
    if not theirs or not ours:
        without = [c.records[-1] for c, counted in ((reference, theirs), (case, ours)) if not counted]
        return Missing(reference.cell, case.cell, tuple(without))
    if paired:
        theirs, ours = [p.reference for p in paired], [p.cell for p in paired]
        terms: tuple[tuple[float, ByRound], ...] = ((1.0, {p.cell.attempt.round: p.log_ratio for p in paired}),)
    else:
        terms = ((1.0, _log_times(theirs)), (-1.0, _log_times(ours)))
    found = stats.flags(theirs) | stats.flags(ours) | ({"converged_false"} & {*reference.flags, *case.flags})
    if paired and stats.is_noisy([p.is_contended for p in paired]):
        found.add("noisy")
    if {r.clock for r in theirs} != {r.clock for r in ours}:
        found.add(CLOCKS_DIFFER)
    return Ratio(
        kind,
        reference.cell,
        case.cell,
        stats.combined(_parts(terms, theirs, ours)),
        bool(paired),
        len(theirs),
        len(ours),
        stats.least_direct(r.provenance for r in (*theirs, *ours)),
        tuple(sorted(found)),
        terms,
    )


def _parts(
    terms: Sequence[tuple[float, ByRound]], theirs: Sequence[Record], ours: Sequence[Record]
) -> list[tuple[float, LogEstimate]]:
    """Return what adds up to the logarithm of a ratio; the error of a modelled side is that of its model.

    In lock-step that comes on top of the scatter of the pairs. The errors of two models are taken as independent.
    """
    bands = [stats.modelled(theirs[0]), stats.modelled(ours[0])]
    parts = [(sign, stats.log_mean(list(figures.values()))) for sign, figures in terms]
    if len(terms) == 1:
        errors = [dataclasses.replace(band, value=0.0, n=parts[0][1].n) for band in bands if band is not None]
        return [*parts, *((1.0, error) for error in errors)]
    return [(sign, log if band is None else band) for (sign, log), band in zip(parts, bands, strict=True)]


def _log_times(records: Sequence[Record]) -> ByRound:
    return {r.attempt.round: math.log(stats.process_seconds_per_item(r)) for r in records}


def _times_by_turn(record: Record, clock: Callable[[Burst], Sequence[float]]) -> dict[int, float]:
    """Return the median time per item of each burst, in seconds."""
    assert record.items_per_step
    items = record.items_per_step
    return {b.turn: statistics.median(clock(b)) / b.block_steps / items for b in stats.measured_bursts(record)}


def _is_timed(record: Record) -> bool:
    return record.status is Status.OK and bool(stats.measured_bursts(record))


def _by_key(cases: Iterable[Case]) -> dict[str, Case]:
    return {case.cell.key(): case for case in cases if case.cell.measure == THROUGHPUT}


def _timed(cases: Iterable[Case]) -> dict[str, list[Case]]:
    """Return the cases that have a time, by series."""
    found: dict[str, list[Case]] = {}
    for case in cases:
        if case.seconds_per_item is not None:
            found.setdefault(_series(case.cell), []).append(case)
    return found


def _fastest(cases: Iterable[Case]) -> Case:
    """Return the case with the most items per second."""
    return min(cases, key=lambda c: c.seconds_per_item.value if c.seconds_per_item else math.inf)


def _series(cell: Cell) -> str:
    """Return what is equal for cells that differ in batch alone."""
    return dataclasses.replace(cell, batch=0).key()


def _set(cell: Cell) -> tuple[str, str, str]:
    return cell.workload, cell.variant, cell.mode


def _task(cell: Cell) -> str:
    """Return what must be equal for cells of different runs to be compared."""
    return repr((*_set(cell), cell.batch, cell.size, sorted(cell.options.items()), cell.measure))


def _sides(ratio: Ratio) -> tuple[Any, ...]:
    """Return what tells two sides from each other and from other sides, whatever the workload."""
    reference, cell = dataclasses.asdict(ratio.reference), dataclasses.asdict(ratio.cell)
    always = ("framework", "device", "devices", "precision")
    where_different = ("variant", "mode", "size", "options")
    return tuple(
        (name, str(reference[name]), str(cell[name]))
        for name in (*always, *where_different)
        if name in always or reference[name] != cell[name]
    )
