"""Speed ratios: which processes are compared, and what the figure rests on."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import datetime

import numpy as np
import pytest
from scipy import stats as scipy_stats

from siderostat import ratios, stats
from siderostat.record import Provenance, Reason, Record, Status
from siderostat.stats import Estimate
from tests.records import burst, cell, failed, lockstep, ok

ONE, TWO, FOUR = (cell(device=f"cpu:threads={n}") for n in (1, 2, 4))
NOISE = (0.98, 1.0, 1.03)


def group(factor: float = 2.0, round: int = 0, level: float = 1.0, **changes) -> list[Record]:
    """One pair, in which the second cell is ``factor`` times as fast; the machine's level differs from turn to turn."""
    levels = [level * x for x in (0.1, 0.2, 0.1, 0.3)]
    return lockstep([(ONE, [factor * x for x in levels]), (TWO, levels)], round, **changes)


def within(*records: Record) -> ratios.Comparison:
    return ratios.within(stats.cases(records))


def only(*records: Record, kind: str = ratios.MATCHED) -> ratios.Ratio:
    (found,) = (r for r in within(*records).ratios if r.kind == kind)
    return found


def rounds(factors=NOISE, times: float = 2.0, **changes) -> list[Record]:
    """Pairs whose ratios are ``times`` the factors, on a machine that gets twice as slow from round to round."""
    return [r for i, f in enumerate(factors) for r in group(times * f, i, level=2.0**i, **changes)]


def test_a_ratio_is_the_mean_over_pairs_whatever_the_machine_does_between_them():
    found = only(*rounds())
    low, high = scipy_stats.t.interval(0.95, 2, np.log(NOISE).mean(), scipy_stats.sem(np.log(NOISE)))
    assert (found.reference, found.cell) == (ONE, TWO)
    assert found.is_paired
    assert found.estimate.value == pytest.approx(2 * scipy_stats.gmean(NOISE))
    assert (found.estimate.low, found.estimate.high) == pytest.approx((2 * math.exp(low), 2 * math.exp(high)))
    assert (found.estimate.n, found.n_reference, found.n_cell) == (3, 3, 3)


def test_above_one_the_cell_is_faster_than_its_reference():
    assert only(*rounds(times=3.0)).estimate.value == pytest.approx(3, rel=0.02)
    assert only(*rounds(times=0.25)).estimate.value == pytest.approx(0.25, rel=0.02)


def test_a_pair_is_the_mean_over_turns_of_log_ratios_of_medians():
    slow, fast = group()
    slow = replace(slow, bursts=[burst([0.4, 0.5, 9.0], 0), burst([0.2], 1)])
    fast = replace(fast, bursts=[burst([0.1], 0), burst([0.1], 1)])
    assert ratios.pair_log_ratio(slow, fast) == pytest.approx((math.log(5) + math.log(2)) / 2)


def test_blocks_and_batches_may_differ_since_time_is_per_item():
    slow, fast = group(factor=1.0)
    fast = replace(fast, bursts=[replace(b, block_steps=2) for b in fast.bursts], items_per_step=12)
    assert ratios.pair_log_ratio(slow, fast) == pytest.approx(math.log(2 * 3))


def test_warm_up_and_turns_of_one_alone_do_not_count():
    slow, fast = group(factor=4.0)
    slow.bursts.insert(0, burst([99.0], turn=-1))
    slow.bursts.append(burst([99.0], turn=7))
    assert ratios.pair_log_ratio(slow, fast) == pytest.approx(math.log(4))
    assert ratios.pair_log_ratio(replace(slow, bursts=[burst([1.0], turn=9)]), fast) is None


def test_of_a_round_the_first_group_left_alone_counts_else_the_last():
    spoilt = group(9.0, flags=["contended"])
    again = group(2.0, repeat=1)
    assert only(*spoilt, *again, *group(7.0, repeat=2)).estimate.value == pytest.approx(2)
    worse = group(3.0, repeat=1, flags=["contended"])
    assert only(*spoilt, *worse).estimate.value == pytest.approx(3)


def test_a_group_is_left_alone_if_all_of_its_processes_were():
    def three(factor: float, repeat: int, flags: list[str]) -> list[Record]:
        times = [0.1, 0.2]
        made = lockstep([(ONE, [factor * t for t in times]), (TWO, times), (FOUR, times)], repeat=repeat)
        return [*made[:2], replace(made[2], flags=flags)]

    found = within(*three(9.0, 0, ["contended"]), *three(2.0, 1, []))
    assert [r.estimate.value for r in found.ratios] == pytest.approx([2, 2])


def test_processes_of_an_interrupted_group_are_not_paired_with_those_of_the_next():
    torn = group(9.0, group="torn")[:1]
    found = only(*torn, *group(2.0))
    assert found.estimate.value == pytest.approx(2)
    assert found.n_reference == 1


def test_a_pair_whose_other_side_failed_does_not_count():
    slow, fast = group(9.0, 1)
    dead = replace(fast, status=Status.CRASH, reason=Reason.KILLED)
    found = only(*group(2.0), slow, dead, *group(2.0, 2))
    assert (found.estimate.n, found.n_reference, found.n_cell) == (2, 2, 2)
    assert found.estimate.value == pytest.approx(2)


def test_more_than_two_cells_are_each_compared_with_the_reference():
    times = [0.1, 0.2]
    sides = [(ONE, [4 * t for t in times]), (TWO, [2 * t for t in times]), (FOUR, times)]
    found = within(*lockstep(sides), *lockstep(sides, 1))
    assert [(r.cell, round(r.estimate.value, 6), r.estimate.n) for r in found.ratios] == [(TWO, 2, 2), (FOUR, 4, 2)]


def test_a_side_that_does_not_fit_has_no_ratio_and_the_others_have():
    times = [0.1, 0.2]
    gone = failed(Status.CAPACITY, Reason.OOM_DEVICE, of=FOUR, reference=ONE.key())
    found = within(*lockstep([(ONE, times), (TWO, times)]), gone)
    assert [r.cell for r in found.ratios] == [TWO]
    (missing,) = found.missing
    assert (missing.reference, missing.cell) == (ONE, FOUR)
    assert [r.reason for r in missing.without] == [Reason.OOM_DEVICE]


def test_where_both_sides_failed_both_are_named():
    gone = [failed(of=c, reference=ONE.key()) for c in (ONE, TWO)]
    (missing,) = within(*gone).missing
    assert [r.attempt.cell for r in missing.without] == [ONE, TWO]


def test_cells_measured_alone_are_not_compared():
    assert within(ok(of=ONE), ok(of=TWO)) == ratios.Comparison([], [])


def test_what_was_to_be_paired_and_never_was_is_compared_unpaired():
    records = [ok([0.2], i, of=ONE, reference=ONE.key()) for i in range(3)]
    records += [ok([0.1 * f], i, of=TWO, reference=ONE.key()) for i, f in enumerate(NOISE)]
    found = only(*records)
    assert not found.is_paired
    assert found.estimate.value == pytest.approx(2 / scipy_stats.gmean(NOISE))


def test_a_single_pair_has_no_interval():
    assert only(*group(2.0)).estimate == Estimate(pytest.approx(2), None, None, 1)


def test_provenance_is_that_of_the_less_direct_side_and_differing_clocks_are_flagged():
    slow, fast = group()
    modelled = replace(fast, provenance=Provenance.MODELLED, clock="model")
    assert only(slow, fast).provenance is Provenance.MEASURED
    assert only(slow, modelled).provenance is Provenance.MODELLED
    assert ratios.CLOCKS_DIFFER in only(slow, modelled).flags
    assert ratios.CLOCKS_DIFFER not in only(slow, fast).flags


def test_flags_of_either_side_hold_for_the_ratio():
    slow, fast = group()
    fast = replace(fast, bursts=[burst([0.1] * 9 + [0.5])])
    slow = replace(slow, flags=["warmup_unstable"])
    ended = replace(group(2.0, 1)[0], flags=["converged_false"])
    assert only(slow, fast, ended).flags == ("converged_false", "heavy_tail", "warmup_unstable")


def test_noisy_is_more_than_30_percent_of_the_pairs_contended():
    def flags(contended: int) -> tuple[str, ...]:
        # One side each time, so that neither side alone is noisy.
        made = []
        for i in range(10):
            pair = group(2.0, i)
            if i < contended:
                pair[i % 2] = replace(pair[i % 2], flags=["contended"])
            made += pair
        return only(*made).flags

    assert "noisy" not in flags(3)
    assert "noisy" in flags(4)


def test_best_batches_of_one_lock_step_group_are_paired_and_others_are_not():
    def records(times_of_large: float) -> list[Record]:
        made = []
        for i, f in enumerate(NOISE):
            made += group(2.0 * f, i)
            large = [replace(c, batch=8) for c in (ONE, TWO)]
            made += lockstep([(large[0], [0.8 * times_of_large]), (large[1], [0.1 * f])], i)
        return made

    same = only(*records(0.5), kind=ratios.BEST)
    assert (same.reference.batch, same.cell.batch, same.is_paired) == (8, 8, True)
    other = only(*records(5.0), kind=ratios.BEST)
    assert (other.reference.batch, other.cell.batch, other.is_paired) == (4, 8, False)
    assert other.estimate.value == pytest.approx(2 * 0.15 / 4 / (0.1 / 8), rel=0.05)
    assert not [r for r in within(*rounds()).ratios if r.kind == ratios.BEST]


def test_the_unpaired_interval_is_welchs():
    reference, other = [0.20, 0.21, 0.19, 0.22], [0.10, 0.13, 0.09]
    here = stats.cases(ok([s], i) for i, s in enumerate(reference))
    there = stats.cases(ok([s], i, of=cell(device="cuda")) for i, s in enumerate(other))
    (found,) = ratios.between(here, there).ratios
    welch = scipy_stats.ttest_ind(np.log(reference), np.log(other), equal_var=False).confidence_interval()
    assert (found.estimate.low, found.estimate.high) == pytest.approx((math.exp(welch.low), math.exp(welch.high)))
    assert (found.is_paired, found.estimate.n, found.n_reference, found.n_cell) == (False, 3, 4, 3)


def test_runs_are_never_paired_even_if_their_groups_have_the_same_name():
    found = ratios.between(stats.cases(rounds()), stats.cases(rounds())).ratios
    assert [r.is_paired for r in found] == [False, False]
    assert [r.estimate.value for r in found] == pytest.approx([1, 1])


def test_between_runs_a_cell_is_compared_with_itself_else_with_what_has_the_same_task():
    here = stats.cases([ok([0.4], of=ONE), ok([0.4], of=TWO)])
    same = ratios.between(here, stats.cases([ok(of=TWO)])).ratios
    assert [(r.reference, r.cell) for r in same] == [(TWO, TWO)]
    new = ratios.between(here, stats.cases([ok(of=FOUR)])).ratios
    assert [(r.reference, r.cell) for r in new] == [(ONE, FOUR), (TWO, FOUR)]
    for other in (cell(batch=8), cell(size="tiny"), cell(mode="infer"), cell(options={"images": 2})):
        assert ratios.between(here, stats.cases([ok(of=other)])) == ratios.Comparison([], [])


def test_the_mean_over_tasks_is_geometric_and_has_its_extremes():
    def task(variant: str, factor: float, noise: float) -> list[Record]:
        sides = [replace(c, variant=variant) for c in (ONE, TWO)]
        made = []
        for i, sign in enumerate((-1, 0, 1)):
            ratio = factor * math.exp(sign * noise)
            made += lockstep([(sides[0], [0.1 * ratio]), (sides[1], [0.1])], i, group=f"{variant}{i}")
        return made

    (mean,) = within(*task("dnn", 2.0, 0.02), *task("bnn", 8.0, 0.04)).means
    errors = np.array([0.02, 0.04]) / math.sqrt(3) / 2
    freedom = (errors**2).sum() ** 2 / (errors**4 / 2).sum()
    half = scipy_stats.t.ppf(0.975, freedom) * math.sqrt((errors**2).sum())
    assert mean.estimate.value == pytest.approx(4)
    assert mean.estimate.high == pytest.approx(4 * math.exp(half))
    assert (mean.least, mean.largest) == pytest.approx((2, 8))
    assert not within(*task("dnn", 2.0, 0.02)).means


def test_batches_are_averaged_within_rounds_so_that_what_they_share_stays_in_the_interval():
    """Two batches that err alike are worth one: the interval must not shrink by the square root of two."""
    made = []
    for i, f in enumerate(NOISE):
        for batch in (4, 8):
            sides = [replace(c, batch=batch) for c in (ONE, TWO)]
            made += lockstep([(sides[0], [0.1 * f]), (sides[1], [0.1])], i, group=f"{batch}.{i}")
    matched = [r for r in within(*made).ratios if r.kind == ratios.MATCHED]
    assert ratios.over_batches(matched).error == pytest.approx(matched[0].log.error)


def test_a_round_that_lacks_a_batch_does_not_count_in_the_mean_over_batches():
    """Else the mean would depend on which batches happened to be measured."""
    made = rounds((1.0, 1.0, 1.0))
    large = [replace(c, batch=8) for c in (ONE, TWO)]
    made += [r for i in (0, 2) for r in lockstep([(large[0], [0.8]), (large[1], [0.1])], i, group=f"large{i}")]
    log = ratios.over_batches([r for r in within(*made).ratios if r.kind == ratios.MATCHED])
    assert log.n == 2
    assert math.exp(log.value) == pytest.approx(math.sqrt(2 * 8))


def test_paired_and_unpaired_batches_are_averaged_as_independent():
    large = [replace(c, batch=8) for c in (ONE, TWO)]
    alone = [
        ok([s * f], i, of=c, reference=large[0].key())
        for c, s in zip(large, (0.8, 0.1), strict=True)
        for i, f in enumerate(NOISE)
    ]
    matched = [r for r in within(*rounds(), *alone).ratios if r.kind == ratios.MATCHED]
    log = ratios.over_batches(matched)
    assert [r.is_paired for r in matched] == [True, False]
    assert log.value == pytest.approx(sum(r.log.value for r in matched) / 2)
    assert log.error == pytest.approx(math.hypot(*(r.log.error for r in matched)) / 2)


def test_sides_that_differ_in_the_variant_are_compared():
    sides = [(ONE, [0.1]), (replace(ONE, variant="bnn"), [0.4])]
    found = only(*lockstep(sides), *lockstep(sides, 1))
    assert found.estimate.value == pytest.approx(0.25)


def drifting(change: float, n: int = 10, noise: float = 0.01, cells=(ONE, TWO)) -> list[Record]:
    random = np.random.default_rng(3)
    made = []
    for i in range(n):
        for place, one in enumerate(cells):
            share = (i + place / len(cells)) / (n - 1 / len(cells))
            seconds = 0.1 * (1 + place) * math.exp(math.log1p(change) * share + noise * random.standard_normal())
            at = {"started_at": f"2026-11-22T10:{2 * i:02d}:{30 * place:02d}.000Z"}
            made.append(ok([seconds], i, of=one, process=at))
    return made


def test_drift_is_found_with_its_interval_and_its_time():
    found = stats.drift(drifting(0.12))
    assert found.is_clear
    assert found.change.low < 1.12 < found.change.high
    assert found.change.value == pytest.approx(1.12, abs=0.02)
    assert found.seconds == 18 * 60 + 30
    assert found.change.n == 20


def test_no_drift_and_a_small_drift_are_not_told_of():
    assert not stats.drift(drifting(0.0)).is_clear
    assert not stats.drift(drifting(0.015, noise=1e-4)).is_clear
    assert not stats.drift(drifting(0.05, noise=0.2)).is_clear


def test_different_levels_of_cells_are_no_drift():
    """One cell was measured early and is slow, the other late and is fast."""
    early = [r for r in drifting(0.0) if r.attempt.cell == ONE][:5]
    late = [r for r in drifting(0.0) if r.attempt.cell == TWO][5:]
    slow = [replace(r, bursts=[burst([5.0 * b for b in r.bursts[0].seconds])]) for r in early]
    assert not stats.drift([*slow, *late]).is_clear


def test_the_drift_has_one_degree_of_freedom_less_than_figures_and_levels():
    records = drifting(0.1)
    found = stats.drift(records)
    at = np.array([datetime.fromisoformat(r.process["started_at"]).timestamp() for r in records])
    logs = np.log([stats.process_seconds_per_item(r) for r in records])
    levels = np.array([[r.attempt.cell == c for c in (ONE, TWO)] for r in records], float)
    design = np.column_stack([at - at.min(), levels])
    solution, (rest,), *_ = np.linalg.lstsq(design, logs, rcond=None)
    error = math.sqrt(rest / (20 - 2 - 1) * np.linalg.inv(design.T @ design)[0, 0])
    high = found.seconds * (solution[0] + scipy_stats.t.ppf(0.975, 17) * error)
    assert found.change.high == pytest.approx(math.exp(high), rel=1e-6)


def test_processes_of_one_group_are_one_figure_of_the_drift():
    alone = drifting(0.1)
    together = [replace(r, group=f"g{r.attempt.round}") for r in alone]
    assert stats.drift(together).change.n == 10
    assert stats.drift(together).change.value == pytest.approx(1.1, abs=0.02)


def test_without_times_or_enough_of_them_there_is_no_drift():
    assert stats.drift([ok(), ok(round=1), ok(round=2)]) is None
    assert stats.drift(drifting(0.1, n=1)) is None
    assert stats.drift([]) is None
    modelled = [replace(r, provenance=Provenance.MODELLED) for r in drifting(0.1)]
    assert stats.drift(modelled) is None


def test_drift_is_told_of_where_there_is_none_in_one_of_a_hundred_sessions():
    random = np.random.default_rng(12)
    moments = np.arange(20.0)
    clear = 0
    for _ in range(2000):
        levels = [list(zip(moments, 0.03 * random.standard_normal(20), strict=True)) for _ in range(2)]
        clear += stats.trend(levels).is_clear
    assert clear / 2000 <= 0.02
