"""What independent draws from a flow say about the action they are weighted for, with errors.

Draws have log-weights ln w = -S + ln det, so that <w> = Z in the Haar measure, and an observable, here the mean
plaquette. Errors are of the delete-one-block jackknife (Efron 1982) unless a function says otherwise. An effective
sample size certifies nothing: that draws are of the right distribution is for ln Z and the reweighted plaquette to say.
"""

from __future__ import annotations

from typing import Callable, Dict, NamedTuple

import numpy as np

BLOCKS = 100  # of the jackknife
STRONG = 1.0  # beta up to which the series of ln Z is good to 1e-5 of it
_WINDOW = 6.0  # of an autocorrelation function, in integrated autocorrelation times


class Estimate(NamedTuple):
    """A number with its standard error."""

    value: float
    error: float

    def sigmas_from(self, value: float, error: float = 0.0) -> float:
        """Return how far this is from another number, in standard errors of the difference."""
        return (self.value - value) / float(np.hypot(self.error, error))


class Chain(NamedTuple):
    """What an independence Metropolis chain made of draws.

    Attributes:
        acceptance: share of the proposals that were accepted.
        plaquette: mean over the chain; its error has the autocorrelation in it.
        autocorrelation_time: integrated, of the plaquette, in proposals; 0.5 where draws are independent.
    """

    acceptance: float
    plaquette: Estimate
    autocorrelation_time: float


def judge(log_weights: np.ndarray, plaquettes: np.ndarray, seed: int) -> Dict[str, float]:
    """Return all figures of draws and their errors, by name.

    Args:
        log_weights: (draws,).
        plaquettes: mean of each field, (draws,).
        seed: of the Metropolis chain.
    """
    chain = metropolis(log_weights, plaquettes, seed)
    estimates = {
        "log_weight_variance": log_weight_variance(log_weights),
        "ess": effective_sample_size(log_weights),
        "ln_z": log_partition(log_weights),
        "plaquette": reweighted(log_weights, plaquettes),
        "chain_plaquette": chain.plaquette,
    }
    figures = {name: estimate.value for name, estimate in estimates.items()}
    figures.update({f"{name}_error": estimate.error for name, estimate in estimates.items()})
    unweighted = {"mean_log_weight": float(log_weights.mean()), "flow_plaquette": float(plaquettes.mean())}
    walked = {"acceptance": chain.acceptance, "autocorrelation_time": chain.autocorrelation_time}
    return {**figures, **unweighted, **walked}


def effective_sample_size(log_weights: np.ndarray) -> Estimate:
    """Return <w>^2 / <w^2>, between 0 and 1, of log-weights of shape (draws,)."""
    w = _weights(log_weights)
    return _jackknife(np.stack([w, w * w]), lambda m: m[0] ** 2 / m[1])


def log_partition(log_weights: np.ndarray) -> Estimate:
    """Return ln Z = ln <w> of log-weights of shape (draws,)."""
    found = _jackknife(_weights(log_weights)[None], lambda w: np.log(w[0]))
    return Estimate(found.value + float(log_weights.max()), found.error)


def mean_weight(log_weights: np.ndarray, log_z: float) -> Estimate:
    """Return <w> / Z, which is 1 for a flow whose log-determinants are right, given ln Z from elsewhere."""
    w = np.exp(log_weights - log_z)
    return Estimate(float(w.mean()), float(w.std(ddof=1) / np.sqrt(len(w))))


def strong_coupling_log_partition(volume: int, beta: float) -> float:
    """Return ln Z of SU(3) in four dimensions at strong coupling, to beta^6, from character expansion.

    6 V ln z of independent plaquettes, z = int dP exp(beta / 3 Re tr P) by Weyl's integration formula, and the smallest
    closed surface: 4 V cubes, each 2 * 9 u^6 with u = z' / z, the mean of one plaquette (Drouffe and Zuber 1983). What
    is left out is of order beta^10, or winds around a lattice of at least 4 sites on a side.

    Args:
        volume: sites of the lattice.
        beta: of the Wilson action, at most :data:`STRONG`.

    Raises:
        ValueError: if beta is larger.
    """
    if abs(beta) > STRONG:
        raise ValueError(f"the series of ln Z holds up to beta = {STRONG:g}, and not at {beta:g}")
    first, second = np.meshgrid(*[2 * np.pi * np.arange(48) / 48] * 2)
    eigenvalues = np.exp(1j * np.stack([first, second, -first - second]))
    measure = np.prod([np.abs(eigenvalues[i] - eigenvalues[j]) ** 2 for i, j in ((0, 1), (0, 2), (1, 2))], axis=0)
    trace = eigenvalues.sum(0).real / 3
    weighted = measure * np.exp(beta * trace)
    u = (weighted * trace).sum() / weighted.sum()
    return float(6 * volume * np.log(weighted.sum() / measure.sum()) + 4 * volume * 18 * u**6)


def log_weight_variance(log_weights: np.ndarray) -> Estimate:
    """Return the variance of log-weights, 0 for a perfect flow: less noisy than the effective sample size."""
    centred = log_weights - log_weights.mean()
    return _jackknife(np.stack([centred, centred**2]), lambda m: m[1] - m[0] ** 2)


def reweighted(log_weights: np.ndarray, observable: np.ndarray) -> Estimate:
    """Return <w O> / <w>, the mean of an observable, (draws,), in the distribution that the weights are for."""
    w = _weights(log_weights)
    return _jackknife(np.stack([w, w * observable]), lambda m: m[1] / m[0])


def metropolis(log_weights: np.ndarray, observable: np.ndarray, seed: int) -> Chain:
    """Take draws in order as proposals of an independence Metropolis chain, accepted with min(1, w' / w).

    The first draw starts the chain, and what comes before the first tenth of the draws is left out of the mean.
    """
    chances = np.log(np.random.default_rng(seed).random(len(log_weights)))
    states = np.zeros(len(log_weights), np.int64)
    current = 0
    for proposed in range(1, len(log_weights)):
        if chances[proposed] < log_weights[proposed] - log_weights[current]:
            current = proposed
        states[proposed] = current
    accepted = float(np.mean(states[1:] == np.arange(1, len(states))))
    kept = observable[states[len(states) // 10 :]]
    time = autocorrelation_time(kept)
    error = float(kept.std() * np.sqrt(2 * time / len(kept)))
    return Chain(accepted, Estimate(float(kept.mean()), error), time)


def autocorrelation_time(series: np.ndarray) -> float:
    """Return the integrated autocorrelation time 1/2 + sum rho(t) of a series, (n,); 0.5 where it is white noise.

    Summed up to the first t that is at least six times the sum so far (Madras and Sokal 1988).
    """
    centred = series - series.mean()
    spectrum = np.fft.rfft(centred, 2 * len(centred))
    covariance = np.fft.irfft(spectrum * spectrum.conj())[: len(centred)]
    if covariance[0] <= 0:
        return 0.5
    sums = np.cumsum(covariance / covariance[0]) - 0.5
    ends = np.flatnonzero(np.arange(len(sums)) >= _WINDOW * sums)
    return float(max(sums[ends[0] if len(ends) else -1], 0.5))


def _weights(log_weights: np.ndarray) -> np.ndarray:
    """Return weights up to a factor that keeps them from overflowing."""
    weights: np.ndarray = np.exp(log_weights - log_weights.max())
    return weights


def _jackknife(terms: np.ndarray, function: Callable[[np.ndarray], np.ndarray]) -> Estimate:
    """Return a function of means with its error.

    Args:
        terms: what is averaged, (terms, draws).
        function: of the means, (terms, ...) to (...).
    """
    count = terms.shape[1]
    edges = np.linspace(0, count, min(BLOCKS, count) + 1).astype(int)
    sizes = np.diff(edges)
    sums = np.pad(np.add.reduceat(terms, edges[:-1], axis=1), ((0, 0), (1, 1)))
    # What lies before and behind each block, rather than all but it: one weight may be larger than all others.
    others = np.cumsum(sums, 1)[:, :-2] + np.cumsum(sums[:, ::-1], 1)[:, -3::-1]
    without = function(others / (count - sizes))
    error = np.sqrt((len(sizes) - 1) * np.mean((without - without.mean()) ** 2))
    return Estimate(float(function(terms.mean(1))), float(error))
