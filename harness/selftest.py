"""Measures this machine with siderostat itself: does it cry wolf, what is the least it can see, what does it cost?

The same step is measured against itself and against one that does a tenth more, all three in lock-step, pair after
pair. Which of the two equal sides is called the first is chance, and so is the sign of a pair's difference: every
choice of signs is a comparison of equal things with the noise that this machine really has. The share of them in which
the rule finds a difference is its rate of false alarms here.
"""

from __future__ import annotations

import dataclasses
import itertools
import random
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from siderostat import plan, ratios, stats
from siderostat.config import Sweep, groups
from siderostat.plan import GRADES, Plan
from siderostat.record import Cell, Protocol, Record
from siderostat.stats import Estimate

WORKLOAD = "arithmetic"
PASSES = 10
SLOWDOWN = 0.1  # planted; the step of the slower side does this much more
NOMINAL = 0.05
_ALL_SIGNS = 12  # pairs up to which every choice of signs is tried
_SIDES = ("base", "same", "slower")


@dataclass(frozen=True)
class Verdict:
    """What the machine can tell.

    Attributes:
        n: pairs that were measured.
        n_contended: those in which other work disturbed a process.
        same: times of a step over those of the same step, with the 95 % interval; 1 is right.
        false_alarms: share of comparisons of equal things in which the rule finds a difference; ``NOMINAL`` is right.
        detectable: the least relative difference that most comparisons of as many pairs would find.
        slower: times of the step that does a tenth more over those of the other.
        found: share of comparisons of as many pairs in which the planted slowdown is found.
        overhead: the harness's own time per step, in seconds.
        drift: how times changed over the session.
    """

    n: int
    n_contended: int
    same: Estimate
    false_alarms: float
    detectable: float | None
    slower: Estimate
    found: float
    overhead: Estimate | None
    drift: stats.Drift | None

    @property
    def is_sound(self) -> bool:
        """Whether figures of this machine can be trusted: no more alarms than twice the nominal rate, no bias."""
        low, high = self.same.low, self.same.high
        biased = low is not None and high is not None and not low <= 1 <= high and abs(self.same.value - 1) > 0.01
        return self.false_alarms <= 2 * NOMINAL and not biased


def make_plan(seed: int, device: str, protocol: Protocol) -> Plan:
    """Return the plan: ten pairs of three sides, and the null workload."""
    table = {"workload": WORKLOAD, "devices": [device], "options": {"passes": PASSES}}
    alone = groups(Sweep(tables=[table]))
    base = next(group[0] for group in alone if group[0].workload == WORKLOAD)
    sides = [_side(base, label) for label in _SIDES]
    others = [group for group in alone if group[0].workload != WORKLOAD]
    return plan.make([sides, *others], "selftest", GRADES["ci"], seed, protocol)


def _side(base: Cell, label: str) -> Cell:
    more = round(PASSES * SLOWDOWN) if label == "slower" else 0
    return dataclasses.replace(base, options={**base.options, "label": label, "passes": PASSES + more})


def judge(records: Sequence[Record], seed: int = 0) -> Verdict | None:
    """Return what the records of such a plan say; None where fewer than two pairs were measured."""
    sides = {label: [r for r in records if r.attempt.cell.options.get("label") == label] for label in _SIDES}
    disturbed = ratios.disturbed_groups(records)
    equal = ratios.pairs(sides["same"], sides["base"], disturbed)  # log(t_same / t_base)
    slow = ratios.pairs(sides["slower"], sides["base"], disturbed)
    if len(equal) < 2 or len(slow) < 2:
        return None
    same, slower = [p.log_ratio for p in equal], [p.log_ratio for p in slow]
    overheads = [c.seconds_per_item for c in stats.cases(r for r in records if r.attempt.cell.workload == "null")]
    known = [o for o in overheads if o is not None]
    return Verdict(
        len(equal),
        sum(p.is_contended for p in equal),
        stats.log_mean(same).estimate(),
        false_alarm_rate(same, seed),
        stats.log_mean(same).detectable,
        stats.log_mean(slower).estimate(),
        power(slower, seed),
        max(known, key=lambda o: o.value, default=None),
        stats.drift(records),
    )


def false_alarm_rate(same: Sequence[float], seed: int = 0) -> float:
    """Return how often the rule finds a difference where there is none.

    Args:
        same: logarithms of the ratios of equal things, one for each pair.
        seed: of the signs, where they are drawn.
    """
    return statistics.fmean(_is_alarm(sample) for sample in _exchanged(same, 0.0, seed))


def power(slower: Sequence[float], seed: int = 0) -> float:
    """Return how often the rule finds the planted slowdown, whose pairs scatter about their mean as they do here.

    Args:
        slower: logarithms of the ratios of the slower thing to the other, one for each pair.
        seed: of the signs, where they are drawn.
    """
    centre = statistics.fmean(slower)
    samples = _exchanged([d - centre for d in slower], centre, seed)
    return statistics.fmean(_is_alarm(sample) and statistics.fmean(sample) > 0 for sample in samples)


def _exchanged(figures: Sequence[float], centre: float, seed: int) -> Iterator[list[float]]:
    """Yield ``centre`` plus the figures with every choice of signs, or many drawn ones where there are too many."""
    draw = random.Random(seed)
    if len(figures) <= _ALL_SIGNS:
        choices: Iterable[Sequence[int]] = itertools.product((-1, 1), repeat=len(figures))
    else:
        choices = (draw.choices((-1, 1), k=len(figures)) for _ in range(1 << _ALL_SIGNS))
    for signs in choices:
        yield [centre + sign * d for sign, d in zip(signs, figures, strict=True)]


def _is_alarm(sample: Sequence[float]) -> bool:
    """Say whether the 95 % interval of the mean leaves out no difference."""
    log = stats.log_mean(sample)
    low, high = log.bound((1 - stats.CONFIDENCE) / 2), log.bound((1 + stats.CONFIDENCE) / 2)
    return low is not None and high is not None and not low <= 0 <= high
