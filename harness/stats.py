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
from typing import Iterable, Sequence

from siderostat.record import Burst, Cell, Provenance, Record, Status

CONFIDENCE = 0.95
NOISY_SHARE = 0.3  # of processes measured under contention
HEAVY_TAIL = 0.05  # relative difference between mean-based and median-based time


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


def geometric_mean(figures: Sequence[float], confidence: float = CONFIDENCE) -> Estimate:
    """Return exp(mean log x) with the interval exp(mean +- t s / sqrt n) over independent positive figures."""
    from scipy.special import stdtrit

    logs = [math.log(x) for x in figures]
    n = len(logs)
    mean = statistics.fmean(logs)
    if n < 2:
        return Estimate(math.exp(mean), None, None, n)
    half = float(stdtrit(n - 1, 0.5 + confidence / 2)) * statistics.stdev(logs) / math.sqrt(n)
    return Estimate(math.exp(mean), math.exp(mean - half), math.exp(mean + half), n)


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
    """Estimate one cell from all its records.

    Flags: those that any counted record carries (such as ``warmup_unstable``), ``noisy`` (more than
    ``NOISY_SHARE`` of the processes contended) and ``heavy_tail``.
    """
    ok = counted(records)
    flags = {f for r in ok for f in r.flags if f != "contended"}
    flags |= {"converged_false"} & {f for r in records for f in r.flags}  # the last process may be a failed one
    if ok and sum(map(is_contended, ok)) > NOISY_SHARE * len(ok):
        flags.add("noisy")
    if any(map(is_heavy_tailed, ok)):
        flags.add("heavy_tail")
    time = geometric_mean([process_seconds_per_item(r) for r in ok]) if ok else None
    return Case(records[0].attempt.cell, tuple(records), time, tuple(sorted(flags)))


def cases(records: Iterable[Record]) -> list[Case]:
    """Estimate every cell, in the order of first appearance."""
    by_cell: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        by_cell[record.attempt.cell.key()].append(record)
    return [case(group) for group in by_cell.values()]
