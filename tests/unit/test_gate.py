"""The gate's rule: what passes, what fails, what blocks nobody."""

from __future__ import annotations

import math

import pytest
from scipy import stats as scipy_stats

from siderostat import gate
from siderostat.gate import Verdict


def series(by: float, spread: float = 0.01, n: int = gate.PAIRS) -> list[float]:
    """Logarithms whose mean is that of a slowdown ``by`` and whose standard deviation is about ``spread``."""
    return [math.log1p(by) + spread * (1 if i % 2 else -1) for i in range(n - n % 2)]


FIRST, FRESH = series(0.10), series(0.10, n=gate.FRESH_PAIRS)


def test_a_slowdown_seen_twice_fails():
    found = gate.judge(FIRST, FRESH)
    assert found.verdict is Verdict.FAIL
    assert found.is_suspect
    assert found.slowdown.estimate().value == pytest.approx(1.10)


def test_a_slowdown_seen_once_does_not_fail():
    assert gate.judge(FIRST, series(0.0, n=gate.FRESH_PAIRS)).verdict is Verdict.PASS
    assert gate.judge(FIRST, series(0.03, 0.04, gate.FRESH_PAIRS)).verdict is Verdict.INCONCLUSIVE


def test_a_suspect_without_fresh_pairs_blocks_nobody():
    assert gate.judge(FIRST).verdict is gate.judge(FIRST, FRESH[:1]).verdict is Verdict.INCONCLUSIVE
    assert gate.judge(FIRST).is_suspect


def test_what_the_first_stage_passes_needs_no_fresh_pairs():
    innocent = gate.judge(series(0.0), FRESH)
    assert gate.is_passed(series(0.0))
    assert innocent.verdict is Verdict.PASS
    assert innocent.slowdown.n == gate.PAIRS


def test_what_is_neither_suspect_nor_passed_is_judged_by_all_pairs():
    first, fresh = series(0.0, 0.05), series(0.0, 0.05, gate.FRESH_PAIRS)
    assert not gate.is_suspect(first)
    assert not gate.is_passed(first)
    assert gate.judge(first).verdict is Verdict.INCONCLUSIVE
    found = gate.judge(first, fresh)
    assert found.verdict is Verdict.PASS
    assert found.slowdown.n == len(first) + len(fresh)


def test_what_was_not_suspect_does_not_fail_whatever_fresh_pairs_say():
    assert gate.judge(series(0.0, 0.05), series(0.2, n=gate.FRESH_PAIRS)).verdict is Verdict.INCONCLUSIVE


def test_a_small_but_certain_slowdown_does_not_fail_and_is_not_passed():
    found = gate.judge(series(0.03, 0.001), series(0.03, 0.001, gate.FRESH_PAIRS))
    assert found.is_suspect
    assert found.verdict is Verdict.INCONCLUSIVE


def test_the_floor_can_be_moved():
    small = series(0.03, 0.001), series(0.03, 0.001, gate.FRESH_PAIRS)
    assert gate.judge(*small, floor=0.02).verdict is Verdict.FAIL
    assert gate.judge(*small, floor=0.07).verdict is Verdict.PASS
    assert gate.judge(FIRST, FRESH, floor=0.15).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("floor", [0.05, 0.03])
def test_passing_asks_for_an_upper_bound_of_97_5_percent_below_half_the_floor(floor: float):
    logs = series(0.0, 0.02)
    upper = scipy_stats.t.ppf(0.975, len(logs) - 1) * scipy_stats.sem(logs)
    shift = math.log1p(floor / 2) - upper
    assert gate.is_passed([x + shift - 1e-6 for x in logs], floor)
    assert not gate.is_passed([x + shift + 1e-6 for x in logs], floor)


def test_a_speedup_passes():
    assert gate.judge(series(-0.2)).verdict is Verdict.PASS


def test_noise_is_inconclusive_and_says_what_could_have_been_found():
    logs = series(0.0, 0.2)
    found = gate.judge(logs)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.detectable == pytest.approx(math.expm1(2.8 * scipy_stats.sem(logs)))


@pytest.mark.parametrize(("by", "suspect"), [(0.019, False), (0.021, True)])
def test_nothing_is_suspect_up_to_two_percent(by: float, suspect: bool):
    assert gate.is_suspect(series(by, 1e-4)) is suspect


def test_the_first_stage_asks_for_a_lower_bound_of_97_5_percent_above_zero():
    logs = series(0.05, 0.05)
    error = scipy_stats.sem(logs)
    lower = scipy_stats.t.ppf(0.025, 9) * error
    assert gate.is_suspect([x - math.log1p(0.05) - lower + 1e-6 for x in logs])
    assert not gate.is_suspect([x - math.log1p(0.05) - lower - 1e-6 for x in logs])


def test_failing_asks_for_a_lower_bound_of_99_percent_above_zero():
    fresh = series(0.0, 0.12, gate.FRESH_PAIRS)
    lower = scipy_stats.t.ppf(0.01, len(fresh) - 1) * scipy_stats.sem(fresh)
    assert -lower > math.log1p(gate.FLOOR)  # so that it is the bound that decides
    assert gate.judge(FIRST, [x - lower + 1e-6 for x in fresh]).verdict is Verdict.FAIL
    assert gate.judge(FIRST, [x - lower - 1e-6 for x in fresh]).verdict is Verdict.INCONCLUSIVE


def test_one_pair_is_nothing_to_compare():
    found = gate.judge([0.5])
    assert found.verdict is Verdict.NOT_COMPARABLE
    assert found.detectable is None
