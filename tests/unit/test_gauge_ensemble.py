"""What is made of weighted draws: log-weights from a normal distribution have known answers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from siderostat.workloads.gauge_flow import ensemble, table
from siderostat.workloads.gauge_flow.ensemble import Estimate

SIGMA = 0.8


def _draws(count, seed=0, sigma=SIGMA):
    """Log-weights whose <w> is e^3, and an observable that the weights shift by sigma^2."""
    x = sigma * np.random.default_rng(seed).standard_normal(count)
    return x + 3 - sigma**2 / 2, x


def test_figures_of_normal_log_weights_are_the_known_ones_within_errors():
    log_weights, x = _draws(20_000)
    for found, expected in (
        (ensemble.effective_sample_size(log_weights), math.exp(-(SIGMA**2))),
        (ensemble.log_partition(log_weights), 3.0),
        (ensemble.mean_weight(log_weights, 3.0), 1.0),
        (ensemble.log_weight_variance(log_weights), SIGMA**2),
        (ensemble.reweighted(log_weights, x), SIGMA**2),
    ):
        assert 0 < found.error < 0.03
        assert abs(found.sigmas_from(expected)) < 3


def test_errors_are_the_scatter_of_repeated_draws():
    repeated = [_draws(2000, seed) for seed in range(200)]
    for function in (
        lambda w, x: ensemble.effective_sample_size(w),
        lambda w, x: ensemble.log_partition(w),
        lambda w, x: ensemble.log_weight_variance(w),
        ensemble.reweighted,
    ):
        found = [function(*draws) for draws in repeated]
        scatter = np.std([f.value for f in found])
        assert np.median([f.error for f in found]) == pytest.approx(scatter, rel=0.2)


def test_equal_weights_waste_nothing_and_one_weight_wastes_all_but_one():
    assert ensemble.effective_sample_size(np.full(500, -900.0)).value == pytest.approx(1)
    assert ensemble.effective_sample_size(np.array([0.0] + [-300.0] * 499)).value == pytest.approx(1 / 500)


def test_weights_of_any_size_neither_overflow_nor_vanish():
    log_weights, x = _draws(1000)
    for shift in (-5000.0, 5000.0):
        assert ensemble.log_partition(log_weights + shift).value - shift == pytest.approx(
            ensemble.log_partition(log_weights).value
        )
        assert ensemble.reweighted(log_weights + shift, x) == pytest.approx(ensemble.reweighted(log_weights, x))


def test_a_metropolis_chain_reaches_the_distribution_that_the_weights_are_for():
    log_weights, x = _draws(50_000, sigma=0.5)
    chain = ensemble.metropolis(log_weights, x, seed=1)
    # Accepted: the mean of min(1, w' / w) over w' drawn and w weighted; for normal log-weights erfc(sigma / 2).
    assert chain.acceptance == pytest.approx(math.erfc(0.25), abs=0.01)
    assert chain.autocorrelation_time > 0.6
    assert abs(chain.plaquette.sigmas_from(0.25)) < 3


def test_a_metropolis_chain_of_equal_weights_accepts_all():
    x = np.random.default_rng(2).standard_normal(4000)
    chain = ensemble.metropolis(np.zeros(4000), x, seed=0)
    assert chain.acceptance == 1
    assert chain.autocorrelation_time == pytest.approx(0.5, abs=0.1)


def test_a_metropolis_chain_leaves_three_states_with_their_probabilities():
    probabilities = np.array([0.6, 0.3, 0.1])
    states = np.random.default_rng(3).integers(0, 3, 60_000)
    for state in range(3):
        chain = ensemble.metropolis(np.log(probabilities)[states], (states == state).astype(float), seed=4)
        assert abs(chain.plaquette.sigmas_from(probabilities[state])) < 3.5


def test_the_autocorrelation_time_of_an_autoregressive_series_is_the_known_one():
    rng = np.random.default_rng(5)
    series = np.zeros(200_000)
    noise = rng.standard_normal(len(series))
    for t in range(1, len(series)):
        series[t] = 0.8 * series[t - 1] + noise[t]
    assert ensemble.autocorrelation_time(series) == pytest.approx(0.5 * 1.8 / 0.2, rel=0.05)
    assert ensemble.autocorrelation_time(noise) == pytest.approx(0.5, abs=0.05)
    assert ensemble.autocorrelation_time(np.ones(100)) == 0.5


def test_the_series_of_ln_z_has_the_heat_baths_plaquette_as_its_slope():
    before, near, at = (ensemble.strong_coupling_log_partition(256, beta) for beta in (0.998, 0.999, 1.0))
    slope = (3 * at - 4 * near + before) / 0.002 / (6 * 256)
    known = table.plaquettes()["4^4", 1.0]
    assert abs(slope - known.mean) < 3 * known.error
    assert ensemble.strong_coupling_log_partition(256, 0.0) == pytest.approx(0, abs=1e-9)
    # One plaquette: ln z = beta^2 / 36 + beta^3 / 648 + O(beta^5).
    assert ensemble.strong_coupling_log_partition(256, 0.1) == pytest.approx(1536 * (0.01 / 36 + 0.001 / 648), rel=1e-5)
    with pytest.raises(ValueError, match="holds up to beta = 1"):
        ensemble.strong_coupling_log_partition(256, 1.5)


def test_a_distance_counts_both_errors():
    assert Estimate(1.0, 0.3).sigmas_from(2.0, 0.4) == pytest.approx(-2)
