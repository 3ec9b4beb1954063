"""Estimates: what the printed interval is worth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from siderostat import ratios, stats
from siderostat.record import Provenance, Status
from tests.records import burst, cell, failed, ok


def coverage(n: int, draws: int = 4000, noise: float = 0.05) -> float:
    """Share of intervals, over n processes, that hold the truth of 3 ms per item."""
    random = np.random.default_rng(20261122)
    figures = 3e-3 * np.exp(noise * random.standard_normal((draws, n)))
    estimates = [stats.geometric_mean(row) for row in figures]
    return float(np.mean([e.low <= 3e-3 <= e.high for e in estimates]))


@pytest.mark.parametrize("n", [3, 5, 10])
def test_the_95_percent_interval_covers_the_truth_in_93_to_97_percent(n: int):
    assert 0.93 <= coverage(n) <= 0.97


def test_coverage_holds_for_whole_records_with_noise_within_and_between_processes():
    random = np.random.default_rng(7)
    hits = 0
    draws = 600
    for _ in range(draws):
        levels = 0.1 * np.exp(0.05 * random.standard_normal(10))
        records = [ok(level * np.exp(0.01 * random.standard_normal(24)), round=i) for i, level in enumerate(levels)]
        estimate = stats.case(records).seconds_per_item
        hits += estimate.low <= 0.1 / 4 <= estimate.high
    assert 0.93 <= hits / draws <= 0.97


def test_an_interval_over_samples_of_one_process_would_not_cover():
    """The reason for it all: samples within a process say little about the next process."""
    random = np.random.default_rng(1)
    hits = 0
    for _ in range(500):
        samples = 0.1 * np.exp(0.05 * random.standard_normal() + 0.01 * random.standard_normal(24))
        naive = stats.geometric_mean(samples)
        hits += naive.low <= 0.1 <= naive.high
    assert hits / 500 < 0.4


def test_the_stopping_rule_keeps_the_coverage():
    """Stopping at a half-width of 2 % with at least 10 of 30 processes."""
    random = np.random.default_rng(3)
    hits = 0
    for _ in range(1500):
        figures = np.exp(0.04 * random.standard_normal(30))
        for n in range(10, 31):
            estimate = stats.geometric_mean(figures[:n])
            if estimate.half_width <= 0.02:
                break
        hits += estimate.low <= 1 <= estimate.high
    assert 0.925 <= hits / 1500 <= 0.97


def test_the_interval_is_students_t_on_the_logarithms():
    figures = [1.0, 1.1, 1.3, 0.9]
    logs = np.log(figures)
    low, high = scipy_stats.t.interval(0.95, 3, logs.mean(), scipy_stats.sem(logs))
    estimate = stats.geometric_mean(figures)
    assert estimate.value == pytest.approx(scipy_stats.gmean(figures))
    assert (estimate.low, estimate.high) == pytest.approx((math.exp(low), math.exp(high)))


def test_one_process_has_no_interval():
    estimate = stats.geometric_mean([2.0])
    assert (estimate.value, estimate.low, estimate.high) == (2.0, None, None)
    assert estimate.half_width is None


def test_throughput_is_the_inverted_time_with_the_inverted_interval():
    time = stats.Estimate(0.5, 0.4, 0.8, 3)
    assert time.inverse() == stats.Estimate(2.0, 1.25, 2.5, 3)


def test_a_process_gives_its_median_block_over_steps_and_items():
    record = ok([0.8, 0.9, 4.0], block_steps=2)
    assert stats.process_seconds_per_item(record) == pytest.approx(0.9 / 2 / 4)


def test_warm_up_is_kept_but_never_counted():
    record = ok([0.1])
    record.bursts.insert(0, burst([9.0], turn=-1))
    assert stats.process_seconds_per_item(record) == pytest.approx(0.1 / 4)


def test_only_ok_counts():
    case = stats.case([ok([0.1]), failed(round=1, bursts=[burst([5.0])], items_per_step=4)])
    assert case.seconds_per_item.n == 1
    assert case.seconds_per_item.value == pytest.approx(0.025)


def test_a_cell_without_figures_has_no_estimate_and_no_provenance():
    case = stats.case([failed(Status.CRASH)])
    assert case.seconds_per_item is None
    assert case.provenance is None


def test_noisy_is_more_than_30_percent_contended():
    def flags(contended: int) -> tuple[str, ...]:
        records = [ok(round=i, flags=["contended"] if i < contended else []) for i in range(10)]
        return stats.case(records).flags

    assert "noisy" not in flags(3)
    assert "noisy" in flags(4)


def test_a_repeat_replaces_a_contended_process_and_counts_once():
    case = stats.case([ok([0.2], flags=["contended"]), ok([0.1], repeat=1), ok([0.1], round=1)])
    assert case.seconds_per_item.n == 2
    assert case.seconds_per_item.value == pytest.approx(0.025)
    assert case.flags == ()


def test_what_did_not_converge_says_so_though_its_last_process_failed():
    assert "converged_false" in stats.case([ok(), ok(round=1), failed(round=2, flags=["converged_false"])]).flags


def test_heavy_tail_is_seen():
    assert "heavy_tail" in stats.case([ok([0.1] * 9 + [0.3])]).flags
    assert "heavy_tail" not in stats.case([ok([0.1] * 9 + [0.11])]).flags


def test_cases_keep_the_order_of_the_journal():
    records = [ok(of=cell(batch=8)), ok(of=cell(batch=2)), ok(of=cell(batch=8), round=1)]
    assert [c.cell.batch for c in stats.cases(records)] == [8, 2]


class TestModels:
    BAND = {"p2_5": 0.5, "p16": 0.7, "p50": 1.0, "p84": 1.5, "p97_5": 2.0}

    def record(self, round: int = 0, **changes):
        model = {"seconds_per_step": self.BAND}
        return ok([1.0], round=round, provenance=Provenance.MODELLED, clock="model", model=model, **changes)

    def test_the_interval_of_a_simulated_device_is_the_band_of_its_model(self):
        time = stats.case([self.record()]).seconds_per_item
        assert (time.value, time.low, time.high) == (1 / 4, 0.5 / 4, 2 / 4)

    def test_more_processes_do_not_make_a_model_better(self):
        time = stats.case([self.record(round=i) for i in range(10)]).seconds_per_item
        assert (time.low, time.high) == (0.5 / 4, 2 / 4)

    def test_a_ratio_to_a_modelled_time_carries_the_error_of_the_model(self):
        here = [ok([0.5 * x], round=i, of=cell(device="cpu")) for i, x in enumerate((0.99, 1.0, 1.01))]
        there = [self.record(of=cell(device="sim:x"))]
        (ratio,) = ratios.between([stats.case(here)], [stats.case(there)]).ratios
        assert ratio.provenance is Provenance.MODELLED
        assert ratio.estimate.value == pytest.approx(0.5, rel=0.01)
        assert ratio.estimate.high / ratio.estimate.value == pytest.approx(2, rel=0.05)
