"""Bands by Monte Carlo: every figure that is known to a factor only is drawn, and what follows from it with it."""

from __future__ import annotations

import math
import zlib
from typing import Any, Dict, Mapping, Sequence

import numpy as np

from siderostat.devices.sim.spec import Spec

DRAWS = 1000
SEED = 2021
QUANTILES = {"p2_5": 0.025, "p16": 0.16, "p50": 0.5, "p84": 0.84, "p97_5": 0.975}
"""The median, and the ends of the bands that hold 68 and 95 %."""


class Draws:
    """Values of the figures of some specifications, drawn together.

    A figure is drawn from a log-normal distribution with its value as median and its spread as standard deviation. The
    same figure of the same specification gets the same numbers whenever it is drawn, so that what two batch sizes share
    cancels in their ratio.

    Args:
        count: how many; 1 gives the values themselves.
        seed: of the random numbers.
    """

    def __init__(self, count: int = DRAWS, seed: int = SEED) -> None:
        self.count = count
        self._seed = seed

    def of(self, spec: Spec, key: str) -> Any:
        """Return a figure's values, shape (count,); a plain number if it is exact or only one is wanted."""
        figure = spec.figures[key]
        if self.count == 1 or figure.spread == 1.0:
            return figure.value
        random = np.random.default_rng([self._seed, zlib.crc32(f"{spec.kind}/{spec.name}/{key}".encode())])
        half = random.standard_normal((self.count + 1) // 2)
        both = random.permutation(np.concatenate([half, -half])[: self.count])  # as many above the value as below
        return figure.value * np.exp(math.log(figure.spread) * both)

    def get(self, spec: Spec, key: str, default: float) -> Any:
        """Return a figure's values, or ``default`` where the specification does not have it."""
        return self.of(spec, key) if key in spec.figures else default


def band(values: Any) -> Dict[str, float]:
    """Return the quantiles of drawn values."""
    found = np.quantile(np.atleast_1d(values), list(QUANTILES.values()))
    return dict(zip(QUANTILES, map(float, found)))


def share_at_most(values: Any, limit: float) -> float:
    """Return the share of drawn values that are no larger than a limit: a probability."""
    return float(np.mean(np.atleast_1d(values) <= limit))


def total(parts: Mapping[str, Any], names: Sequence[str] = ()) -> Any:
    """Return the sum of the drawn values of some parts, all of them where none is named."""
    return sum(parts[name] for name in (names or parts))
