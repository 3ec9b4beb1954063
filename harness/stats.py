"""From records to estimates. The process is the unit of evidence, never the sample.

Samples of one process hardly differ while processes do, so an interval over samples covers the truth far
less often than it claims. Each process gives one figure, the median over its samples; the interval is
Student's t over the logarithms of these figures.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Iterable, Sequence

from siderostat.record import THROUGHPUT, Burst, Cell, Provenance, Record, Status

CONFIDENCE = 0.95
_MANY = 1e9  # degrees of freedom of what is known to be normal
NOISY_SHARE = 0.3  # of processes measured under contention
HEAVY_TAIL = 0.05  # relative difference between mean-based and median-based time
DETECTABLE = 2.8  # standard errors
DRIFT_CONFIDENCE = 0.99
LEAST_DRIFT = 0.02  # relative change over a session from which one is told of it
DIRECTNESS = (Provenance.MEASURED, Provenance.ESTIMATED, Provenance.EMULATED, Provenance.MODELLED)


@dataclass(frozen=True)
class Estimate:
    """A figure and its two-sided interval; without a second process there is no interval."""

    value: float
    low: float | None
    high: float | None
    n: int

    def inverse(self) -> Estimate:
        """Return the estimate of 1 / x."""
        return Estimate(
            1 / self.value,
            None if self.high is None else 1 / self.high,
            None if self.low is None else 1 / self.low,
            self.n,
        )

    def times(self, factor: float) -> Estimate:
        """Return the estimate of ``factor`` * x, for a positive factor."""
        return Estimate(
            self.value * factor,
            None if self.low is None else self.low * factor,
            None if self.high is None else self.high * factor,
            self.n,
        )

    @property
    def half_width(self) -> float | None:
        """Half the interval's width on the logarithmic scale: about the relative error, 0.02 for 2 %."""
        if self.low is None or self.high is None:
            return None
        return math.log(self.high / self.low) / 2


@lru_cache(maxsize=1024)
def _student(freedom: float, probability: float) -> float:
    """Return the quantile of Student's t."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, probability))


@dataclass(frozen=True)
class LogEstimate:
    """An estimate on the logarithmic scale.

    Attributes:
        value: natural logarithm of the figure.
        error: standard error of ``value``; None where nothing says how large it is.
        freedom: degrees of freedom of ``error``.
        n: independent figures that it rests on.
    """

    value: float
    error: float | None
    freedom: float | None
    n: int

    def bound(self, probability: float) -> float | None:
        """Return the one-sided bound that lies above the truth with this probability; None without an error."""
        if self.error is None or self.freedom is None:
            return None
        return self.value + _student(self.freedom, probability) * self.error

    def estimate(self, confidence: float = CONFIDENCE) -> Estimate:
        """Return the figure itself with its two-sided interval."""
        low, high = self.bound(0.5 - confidence / 2), self.bound(0.5 + confidence / 2)
        if low is None or high is None:
            return Estimate(math.exp(self.value), None, None, self.n)
        return Estimate(math.exp(self.value), math.exp(low), math.exp(high), self.n)

    @property
    def detectable(self) -> float | None:
        """The least relative change that would more likely than not have been told from none: 0.03 for 3 %.

        2.8 standard errors: 1.96 for an interval that leaves out none, 0.84 for finding it in four of five
        measurements. That holds for many figures; with ten it is found in seven of ten. Never less than half the
        interval's width.
        """
        if self.error is None or self.freedom is None:
            return None
        return math.expm1(max(DETECTABLE, _student(self.freedom, 0.5 + CONFIDENCE / 2)) * self.error)


@dataclass(frozen=True)
class Drift:
    """How a machine's times changed while a run was measured.

    Attributes:
        change: times at the end over times at the beginning, with its 95 % interval.
        seconds: from the first start of a process to the last.
        is_clear: the 99 % interval leaves out no change, and the change is above 2 %.
    """

    change: Estimate
    seconds: float
    is_clear: bool


@dataclass(frozen=True)
class Case:
    """A cell with all records of it, and the time per item that follows from them."""

    cell: Cell
    records: tuple[Record, ...]
    seconds_per_item: Estimate | None
    flags: tuple[str, ...]

    @property
    def provenance(self) -> Provenance | None:
        """Where the figures come from; None where there are none."""
        return next((r.provenance for r in counted(self.records)), None)


def measured_bursts(record: Record) -> list[Burst]:
    """Return the bursts that count: all but the warm-up."""
    return [b for b in record.bursts if b.turn >= 0]


def process_seconds_per_item(record: Record) -> float:
    """Return the median time of a block over the items in it: one process, one figure."""
    assert record.items_per_step
    samples = [s / b.block_steps for b in measured_bursts(record) for s in b.seconds]
    return statistics.median(samples) / record.items_per_step


def log_mean(logs: Sequence[float]) -> LogEstimate:
    """Return the mean of independent logarithms, with the standard error s / sqrt n and n - 1 degrees of freedom."""
    n = len(logs)
    mean = math.fsum(logs) / n
    if n < 2:
        return LogEstimate(mean, None, None, n)
    squares = math.fsum((x - mean) ** 2 for x in logs)
    return LogEstimate(mean, math.sqrt(squares / (n - 1) / n), n - 1, n)


def combined(terms: Sequence[tuple[float, LogEstimate]]) -> LogEstimate:
    """Return the weighted sum of independent estimates.

    Its degrees of freedom are those of Welch (1947) and Satterthwaite (1946). It has no error where one of the terms
    has none, and the ``n`` of the smallest.

    Args:
        terms: weight and estimate of each.
    """
    value = math.fsum(weight * e.value for weight, e in terms)
    n = min(e.n for _, e in terms)
    parts = [((weight * e.error) ** 2, e.freedom) for weight, e in terms if e.error is not None and e.freedom]
    if len(parts) < len(terms):
        return LogEstimate(value, None, None, n)
    variance = math.fsum(v for v, _ in parts)
    if variance == 0:
        return LogEstimate(value, 0.0, min(freedom for _, freedom in parts), n)
    freedom = 1 / math.fsum((v / variance) ** 2 / freedom for v, freedom in parts)
    return LogEstimate(value, math.sqrt(variance), freedom, n)


def geometric_mean(figures: Sequence[float], confidence: float = CONFIDENCE) -> Estimate:
    """Return exp(mean log x) with the interval exp(mean +- t s / sqrt n) over independent positive figures."""
    return log_mean([math.log(x) for x in figures]).estimate(confidence)


def modelled(record: Record) -> LogEstimate | None:
    """Return the logarithm of the time per item of a simulated device, its error that of the model; None: no such band.

    The error is a quarter of the logarithm of the 95 % band's width, as if it were normal.
    """
    band = record.model.get("seconds_per_step")
    if not band or not record.items_per_step:
        return None
    error = math.log(band["p97_5"] / band["p2_5"]) / (2 * _student(_MANY, 0.5 + CONFIDENCE / 2))
    return LogEstimate(math.log(band["p50"] / record.items_per_step), error, _MANY, 1)


def _modelled_time(ok: Sequence[Record]) -> Estimate | None:
    """Return the time per item of a simulated device with the model's own 95 % band, which need not be symmetric."""
    if not ok or modelled(ok[0]) is None:
        return None
    band, items = ok[0].model["seconds_per_step"], ok[0].items_per_step
    assert items
    return Estimate(band["p50"] / items, band["p2_5"] / items, band["p97_5"] / items, 1)


def least_direct(origins: Iterable[Provenance | None]) -> Provenance | None:
    """Return the least direct of where figures come from; None where nothing is known of it."""
    return max((origin for origin in origins if origin is not None), key=DIRECTNESS.index, default=None)


def is_contended(record: Record) -> bool:
    """Say whether other work disturbed any burst that counts."""
    return "contended" in record.flags


def is_heavy_tailed(record: Record) -> bool:
    """Say whether total time over total steps differs from the median by more than ``HEAVY_TAIL``."""
    assert record.items_per_step
    bursts = measured_bursts(record)
    mean = sum(sum(b.seconds) for b in bursts) / sum(b.block_steps * len(b.seconds) for b in bursts)
    return abs(mean / record.items_per_step / process_seconds_per_item(record) - 1) > HEAVY_TAIL


def counted(records: Iterable[Record]) -> list[Record]:
    """Return one ``ok`` record for each round: of its repeats the first without contention, else the last."""
    rounds: dict[int, Record] = {}
    for record in records:
        if record.status is not Status.OK or not measured_bursts(record):
            continue
        held = rounds.get(record.attempt.round)
        if held is None or is_contended(held):
            rounds[record.attempt.round] = record
    return [rounds[r] for r in sorted(rounds)]


def time_to_quality(records: Iterable[Record]) -> Estimate | None:
    """Estimate the training time in seconds until the target was met, over the processes that met it.

    The first step, building and compiling are not in it. None where no process met the target.
    """
    met = [r.quality.reached for r in records if r.status is Status.OK and r.quality is not None]
    times = [look.seconds for look in met if look is not None and look.seconds > 0]
    return geometric_mean(times) if times else None


def case(records: Sequence[Record]) -> Case:
    """Estimate one cell from all its records; the interval of a simulated device is the band of its model.

    Flags: those that any counted record carries (such as ``warmup_unstable``), ``noisy`` (more than
    ``NOISY_SHARE`` of the processes contended) and ``heavy_tail``.
    """
    ok = counted(records)
    found = flags(ok) | ({"converged_false"} & {f for r in records for f in r.flags})  # the last one may have failed
    time = _modelled_time(ok) or (geometric_mean([process_seconds_per_item(r) for r in ok]) if ok else None)
    return Case(records[0].attempt.cell, tuple(records), time, tuple(sorted(found)))


def flags(ok: Sequence[Record]) -> set[str]:
    """Return what must be known to read the figures of these processes, all of one cell and ``ok``."""
    found = {f for r in ok for f in r.flags if f != "contended"}
    if is_noisy([is_contended(r) for r in ok]):
        found.add("noisy")
    if any(map(is_heavy_tailed, ok)):
        found.add("heavy_tail")
    return found


def is_noisy(contended: Sequence[bool]) -> bool:
    """Say whether more than ``NOISY_SHARE`` of processes, or of pairs, were disturbed."""
    return sum(contended) > NOISY_SHARE * len(contended)


def cases(records: Iterable[Record]) -> list[Case]:
    """Estimate every cell, in the order of first appearance."""
    by_cell: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        by_cell[record.attempt.cell.key()].append(record)
    return [case(group) for group in by_cell.values()]


def drift(records: Iterable[Record]) -> Drift | None:
    """Estimate how the times of one run changed while it was measured.

    A straight line through the logarithms of the processes' times over the time of their start, with a level of its
    own for each cell. Processes of one lock-step group ran at the same time, so that together they are one figure, and
    the cells of a group have one level. Degrees of freedom: figures - levels - 1. None where they do not suffice.
    """
    levels: dict[frozenset[str], list[tuple[float, float]]] = defaultdict(list)
    for group in _together(records):
        moments = [m for r in group if (m := _started(r)) is not None]
        if len(moments) == len(group):
            logs = [math.log(process_seconds_per_item(r)) for r in group]
            cells = frozenset(r.attempt.cell.key() for r in group)
            levels[cells].append((statistics.fmean(moments), statistics.fmean(logs)))
    return trend(list(levels.values()))


def trend(levels: Sequence[Sequence[tuple[float, float]]]) -> Drift | None:
    """Fit one slope to several series of (seconds, logarithm), each with a level of its own; None where it cannot."""
    x = [moment - mean for level in levels for mean in [statistics.fmean(m for m, _ in level)] for moment, _ in level]
    y = [log - mean for level in levels for mean in [statistics.fmean(v for _, v in level)] for _, log in level]
    freedom = len(x) - len(levels) - 1
    squares = math.fsum(a * a for a in x)
    if freedom < 1 or squares == 0:
        return None
    slope = math.fsum(a * b for a, b in zip(x, y, strict=True)) / squares
    rest = math.fsum((b - slope * a) ** 2 for a, b in zip(x, y, strict=True))
    moments = [moment for level in levels for moment, _ in level]
    span = max(moments) - min(moments)
    log = LogEstimate(slope * span, math.sqrt(rest / freedom / squares) * span, freedom, len(x))
    wide = log.estimate(DRIFT_CONFIDENCE)
    outside = wide.low is not None and wide.high is not None and not wide.low <= 1 <= wide.high
    change = log.estimate()
    return Drift(change, span, outside and abs(change.value - 1) > LEAST_DRIFT)


def _together(records: Iterable[Record]) -> list[list[Record]]:
    """Return the measured processes that count, those of one lock-step group together."""
    by_cell: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        by_cell[record.attempt.cell.key()].append(record)
    groups: dict[tuple[str, ...], list[Record]] = defaultdict(list)
    for held in by_cell.values():
        for r in counted(held):
            if r.provenance is Provenance.MEASURED and r.attempt.cell.measure == THROUGHPUT:
                groups[(r.group,) if r.group else ("", r.attempt.key())].append(r)
    return list(groups.values())


def _started(record: Record) -> float | None:
    """Return when a process was started, in Unix time; None where its record does not say."""
    try:
        return datetime.fromisoformat(str(record.process["started_at"])).timestamp()
    except (KeyError, ValueError):
        return None
