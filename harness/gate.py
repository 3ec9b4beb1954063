"""Has a change made a step slower? The rule of a gate in CI, in two stages, over pairs measured in lock-step.

A pair's figure is log(t_head / t_base): above 0, the head is slower. Ten pairs say whether the head is suspect, can be
passed, or neither; where it cannot be passed, fifteen fresh ones follow. What fails has looked slow twice, so that a
series of measurements that chance made look slow has to look slow a second time. What passes is less than half the
floor slower, so that a slowdown just below the floor is not taken for none. Simulations of quiet, ordinary and noisy
machines (``tests/unit/test_published_evidence.py``) put false failures below one in a thousand series, and passes of a
slowdown of 3 % below three in a hundred.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from siderostat.stats import LogEstimate, log_mean

PAIRS = 10  # of the first stage
FRESH_PAIRS = 15  # of the second
FLOOR = 0.05  # slowdown up to which nothing fails
_SUSPECT = 0.02  # slowdown up to which nothing is suspect
_SUSPECT_CONFIDENCE = 0.975  # one-sided, as are the following
_FAIL_CONFIDENCE = 0.99
_PASS_CONFIDENCE = 0.975
_PASS_SHARE = 0.5  # of the floor, below which the slowdown of what passes lies


class Verdict(str, Enum):
    """What a gate says."""

    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"  # says what it could have seen, and never blocks
    NOT_COMPARABLE = "not_comparable"


@dataclass(frozen=True)
class Judgement:
    """What a gate says, and why.

    Attributes:
        verdict: in a word.
        slowdown: log(t_head / t_base) of the stage that decided; None where there is nothing to compare.
        is_suspect: whether the first stage found it slower.
    """

    verdict: Verdict
    slowdown: LogEstimate | None
    is_suspect: bool

    @property
    def detectable(self) -> float | None:
        """The least slowdown that would more likely than not have been found, 0.03 for 3 %."""
        return self.slowdown.detectable if self.slowdown else None


def is_suspect(first: Sequence[float]) -> bool:
    """Say whether the head looks slower: lower 97.5 % bound above 0, estimate above 2 %.

    Args:
        first: log(t_head / t_base) of each pair of the first stage, ``PAIRS`` of them.
    """
    slowdown = log_mean(first)
    return _is_above_zero(slowdown, _SUSPECT_CONFIDENCE) and slowdown.value > math.log1p(_SUSPECT)


def is_passed(first: Sequence[float], floor: float = FLOOR) -> bool:
    """Say whether the first stage is enough to pass the head.

    Args:
        first: log(t_head / t_base) of each pair of the first stage.
        floor: the slowdown up to which nothing fails, 0.05 for 5 %.
    """
    return not is_suspect(first) and _is_below(log_mean(first), floor)


def judge(first: Sequence[float], fresh: Sequence[float] = (), floor: float = FLOOR) -> Judgement:
    """Return the gate's verdict.

    FAIL needs a suspect whose ``fresh`` pairs have a lower 99 % bound above 0 and an estimate above the floor. PASS
    needs an upper 97.5 % bound below half the floor: of the first pairs or, where these did not suffice, of all pairs,
    or of the fresh pairs of a suspect, whose first ones were picked for being slow. All else is inconclusive, a suspect
    without fresh pairs among it.

    Args:
        first: log(t_head / t_base) of each pair of the first stage.
        fresh: the same of ``FRESH_PAIRS`` pairs measured because the first stage did not pass the head.
        floor: the slowdown up to which nothing fails, 0.05 for 5 %.
    """
    if len(first) < 2:
        return Judgement(Verdict.NOT_COMPARABLE, None, is_suspect=False)
    if not is_suspect(first):
        slowdown = log_mean(first if is_passed(first, floor) else [*first, *fresh])
        return Judgement(Verdict.PASS if _is_below(slowdown, floor) else Verdict.INCONCLUSIVE, slowdown, False)
    if len(fresh) < 2:
        return Judgement(Verdict.INCONCLUSIVE, log_mean(first), True)
    slowdown = log_mean(fresh)
    if _is_above_zero(slowdown, _FAIL_CONFIDENCE) and slowdown.value > math.log1p(floor):
        return Judgement(Verdict.FAIL, slowdown, True)
    return Judgement(Verdict.PASS if _is_below(slowdown, floor) else Verdict.INCONCLUSIVE, slowdown, True)


def _is_below(slowdown: LogEstimate, floor: float) -> bool:
    """Say whether the upper bound is below half the floor; without a bound it is not."""
    upper = slowdown.bound(_PASS_CONFIDENCE)
    return upper is not None and upper < math.log1p(_PASS_SHARE * floor)


def _is_above_zero(slowdown: LogEstimate, confidence: float) -> bool:
    """Say whether the one-sided lower bound is above 0; without a bound it is not."""
    lower = slowdown.bound(1 - confidence)
    return lower is not None and lower > 0
