"""Galaxies as a few numbers, drawn from a catalogue: a made-up one here, the real COSMOS one in ``cosmos.py``."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Tuple

import numpy as np

SYNTHETIC = "synthetic COSMOS-like catalogue, version 1"
"""Identity of the made-up catalogue. Its number rises with every change of the sampler."""

BRIGHTEST_MAG = 18.0
FAINTEST_MAG = 25.2  # F814W limit of the deeper of the two public COSMOS samples
SEDS = ("E", "Sbc", "Scd")
SERSIC_LIMITS = (0.3, 6.0)  # what GalSim can draw
CONCENTRATED = 3.0  # the Sersic index from which on the steps are coarse
FINE_STEP, COARSE_STEP = 0.05, 0.25


@dataclass(frozen=True)
class Component:
    """A Sersic profile with elliptical isophotes and one spectrum."""

    sersic_index: float
    half_light_radius_arcsec: float  # of the circle with the area of the half-light ellipse
    axis_ratio: float  # minor over major, in (0, 1]
    angle_rad: float  # of the major axis, from the x axis
    sed: str  # "E", "Sbc" or "Scd": a Coleman, Wu & Weedman (1980) template
    magnitude: float  # F814W


@dataclass(frozen=True)
class Galaxy:
    """A galaxy of one or two components. ``axis_ratio`` and ``angle_rad`` are those of the whole."""

    redshift: float
    magnitude: float  # F814W
    axis_ratio: float
    angle_rad: float
    components: Tuple[Component, ...]

    def rotated(self, by_rad: float) -> Galaxy:
        """Return the galaxy turned by ``by_rad``, label and components alike."""
        parts = tuple(replace(c, angle_rad=c.angle_rad + by_rad) for c in self.components)
        return replace(self, angle_rad=self.angle_rad + by_rad, components=parts)

    def ellipticity(self) -> Tuple[float, float]:
        """Return e1, e2 = (1 - q) / (1 + q) (cos 2 phi, sin 2 phi)."""
        size = (1 - self.axis_ratio) / (1 + self.axis_ratio)
        return size * math.cos(2 * self.angle_rad), size * math.sin(2 * self.angle_rad)


class Catalogue(ABC):
    """What galaxies are drawn from."""

    @abstractmethod
    def draw(self, rng: np.random.Generator) -> Galaxy:
        """Return one galaxy, in the orientation that the catalogue has it in."""


class SyntheticCatalogue(Catalogue):
    """Galaxies with the statistics of COSMOS at F814W < 25.2, without its file.

    Number counts follow 10^(0.34 m), redshifts z^2 exp(-(z / z0)^1.5) with a
    median that grows with the magnitude. The other distributions were tuned until the percentiles of
    magnitude, redshift, index, radius and axis ratio were those of the published sample; correlations
    beyond those with the magnitude are not modelled.
    """

    def draw(self, rng: np.random.Generator) -> Galaxy:
        """Return one galaxy at a random angle."""
        magnitude = _magnitude(rng)
        redshift = _redshift(rng, magnitude)
        radius = 10 ** rng.normal(math.log10(_by_magnitude(magnitude, _RADIUS)), 0.20)
        ratio = float(np.clip(0.9 * rng.beta(2.3, 1.6) + 0.1, 0.12, 1.0))
        angle = rng.uniform(0, math.pi)
        if rng.random() < _by_magnitude(magnitude, _TWO_COMPONENTS):
            components = _bulge_and_disc(rng, magnitude, radius, ratio, angle)
        else:
            index = _sersic_index(rng, magnitude)
            components = (Component(index, radius, ratio, angle, sed_of(index), magnitude),)
        return Galaxy(redshift, magnitude, ratio, angle, components)


def sed_of(sersic_index: float) -> str:
    """Spectrum of a single-component galaxy: a spiral's below 1.5, an early spiral's below 3, else an elliptical's.

    The rule of GalSim's ``COSMOSCatalog``.
    """
    if sersic_index < 1.5:
        return "Scd"
    return "Sbc" if sersic_index < 3.0 else "E"


def drawable_index(sersic_index: float) -> float:
    """Bring a Sersic index within [0.3, 6] and to the nearest 0.05, from 3 on to the nearest 0.25.

    GalSim keeps a table of 100 indices at most, and takes 1 ms (n = 1) to 250 ms (n = 6) for each: with these steps
    there are 67. Its own ``COSMOSCatalog`` rounds to 0.05 throughout.
    """
    clipped = min(max(sersic_index, SERSIC_LIMITS[0]), SERSIC_LIMITS[1])
    step = FINE_STEP if clipped < CONCENTRATED else COARSE_STEP
    return round(round(clipped / step) * step, 2)


def share_magnitude(magnitude: float, share: float) -> float:
    """Magnitude of a part that gives ``share``, above 0, of the light."""
    return magnitude - 2.5 * math.log10(share)


# Magnitudes and, at each, a value; in between interpolated.
_RADIUS = ((18.0, 20.0, 22.0, 23.5, 25.2), (1.6, 0.9, 0.55, 0.40, 0.27))  # arcsec
_TWO_COMPONENTS = ((20.0, 23.5, 25.2), (0.45, 0.33, 0.20))
_EARLY_TYPE = ((20.0, 23.0, 25.2), (0.35, 0.18, 0.10))


def _by_magnitude(magnitude: float, table: Tuple[Tuple[float, ...], Tuple[float, ...]]) -> float:
    return float(np.interp(magnitude, *table))


def _magnitude(rng: np.random.Generator) -> float:
    slope = 0.34 * math.log(10)
    return BRIGHTEST_MAG + math.log1p(rng.random() * math.expm1(slope * (FAINTEST_MAG - BRIGHTEST_MAG))) / slope


def _redshift(rng: np.random.Generator, magnitude: float) -> float:
    median = max(0.10 * (magnitude - 18) + 0.12 * max(magnitude - 22, 0.0), 0.08)
    # (z / z0)^1.5 has a gamma distribution of shape 2, whose median to the power 2/3 is 1.412.
    return float(np.clip(median / 1.412 * rng.gamma(2.0) ** (1 / 1.5), 0.02, 4.5))


def _sersic_index(rng: np.random.Generator, magnitude: float) -> float:
    if rng.random() < _by_magnitude(magnitude, _EARLY_TYPE):
        return drawable_index(max(rng.normal(4.0, 1.1), 2.0))
    return drawable_index(rng.lognormal(math.log(1.15), 0.62))


def _bulge_and_disc(
    rng: np.random.Generator, magnitude: float, radius: float, ratio: float, angle: float
) -> Tuple[Component, ...]:
    bulge_share = float(np.clip(rng.beta(1.6, 2.2), 0.02, 0.98))
    bulge_radius = radius * 10 ** rng.normal(-0.25, 0.2)
    disc_radius = radius * 10 ** rng.normal(0.05, 0.08)
    bulge_ratio = float(np.clip(ratio * 10 ** rng.normal(0.08, 0.08), 0.15, 1.0))
    return (
        Component(4.0, bulge_radius, bulge_ratio, angle, "E", share_magnitude(magnitude, bulge_share)),
        Component(1.0, disc_radius, ratio, angle, "Scd", share_magnitude(magnitude, 1 - bulge_share)),
    )
