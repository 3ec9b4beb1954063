"""Estimators of d<O>/d lambda for a density p(U) proportional to exp(-S_lambda(U)), with errors.

The correlated one is that of eqs (12) and (13) of arXiv:2502.00263 with what these leave out in print, 1 / (lambda1 -
lambda2) and weights that are normalised by their own sum. Observables come as (blocks, configurations): blocks, such as
chains of a heat bath, are independent of each other, and the error is that of the delete-one-block jackknife.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from siderostat.workloads.gauge_flow.ensemble import Estimate

Values = NDArray[np.float64]


def correlated(first: Values, moved: Values, log_weights: Values, gap: float) -> Estimate:
    """Return (<w O(f(U))> / <w> - <O(U)>) / gap over one ensemble; f = 1 is reweighting.

    Args:
        first: O(U) of an ensemble at lambda1, (blocks, configurations).
        moved: O(f(U)).
        log_weights: ln w = ln p2(f(U)) + ln det f - ln p1(U), up to a constant.
        gap: lambda2 - lambda1.
    """
    weights = np.exp(log_weights - log_weights.max())

    def difference(means: Values) -> Values:
        return np.asarray((means[1] / means[0] - means[2]) / gap)

    return _jackknife([weights, weights * moved, first], difference)


def independent(first: Values, second: Values, gap: float) -> Estimate:
    """Return (<O>_2 - <O>_1) / gap of two ensembles that have nothing to do with each other."""
    one, two = (_jackknife([values], lambda means: means[0]) for values in (first, second))
    return Estimate((two.value - one.value) / gap, float(np.hypot(one.error, two.error)) / abs(gap))


def connected(values: Values, conjugate: Values) -> Estimate:
    """Return the derivative at one coupling, -(<O dS> - <O> <dS>) with dS = dS/d lambda.

    Args:
        values: O, (blocks, configurations).
        conjugate: -dS/d lambda.
    """
    centred, other = values - values.mean(), conjugate - conjugate.mean()  # for rounding only
    return _jackknife([centred * other, centred, other], lambda means: means[0] - means[1] * means[2])


def mean(estimates: Sequence[Estimate]) -> Estimate:
    """Return the plain mean of independent estimates."""
    values, errors = [e.value for e in estimates], [e.error for e in estimates]
    return Estimate(float(np.mean(values)), float(np.linalg.norm(errors)) / len(errors))


def _jackknife(terms: Sequence[Values], function: Callable[[Values], Values]) -> Estimate:
    """Return a function of the means of terms, (terms, ...) to (...), with its error.

    The value is corrected for its bias to first order, which matters to a covariance of few configurations.
    """
    sums = np.stack(terms).mean(2)
    blocks = sums.shape[1]
    whole = float(function(sums.mean(1)))
    without = function((sums.sum(1, keepdims=True) - sums) / (blocks - 1))
    error = float(np.sqrt((blocks - 1) * np.mean((without - without.mean()) ** 2)))
    return Estimate(blocks * whole - (blocks - 1) * float(without.mean()), error)
