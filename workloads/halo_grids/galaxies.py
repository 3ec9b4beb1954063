"""From halos to galaxies: the relations of Behroozi et al. (2019), UniverseMachine, MNRAS 488, 3143, at redshift 0.

The constants were compared with the parameter file of the public data release as two independent public codes quote it
(-1.434595, 12.03538, 1.963342, 0.481788, 0.410851, -1.034197), and with the table of appendix J as remembered; the
paper itself was not at hand. The two scatters are round values, not fitted ones.
"""

from __future__ import annotations

import numpy as np

VELOCITY = 200.0
"""km/s: the peak velocity of a halo of :data:`VELOCITY_MASS`, equation E2."""
VELOCITY_MASS = 1.64e12 / ((1 / 0.378) ** -0.142 + (1 / 0.378) ** -1.79)
"""Msun (no h), 1.57e12: equation E2 at scale factor 1."""
VELOCITY_SLOPE = 0.3
"""v = 200 km/s (M / M200)^0.3, equation E2."""
VELOCITY_SCATTER = 0.06
"""Dex, at given mass. A round value: the paper's own follows from its merger trees."""

EFFICIENCY = -1.435
"""epsilon_0; this and the next five: table J1, observed stellar masses, all galaxies."""
CHARACTERISTIC_MASS = 12.035
"""log10 of Msun, M_0."""
FAINT_SLOPE = 1.963
BRIGHT_SLOPE = 0.482
BUMP_WIDTH = 0.411
BUMP_HEIGHT = 10**-1.034
STELLAR_SCATTER = 0.2
"""Dex in stellar mass at given peak velocity. A round value of the size that the paper finds at given halo mass."""


def peak_velocity(mass: np.ndarray) -> np.ndarray:
    """Median peak circular velocity, km/s, of halos with peak mass ``mass`` in Msun; equation E2."""
    return np.asarray(VELOCITY * (mass / VELOCITY_MASS) ** VELOCITY_SLOPE)


def mass_at(velocity: np.ndarray) -> np.ndarray:
    """Peak mass, Msun, whose median peak velocity is ``velocity``, km/s: the inverse of :func:`peak_velocity`."""
    return np.asarray(VELOCITY_MASS * (velocity / VELOCITY) ** (1 / VELOCITY_SLOPE))


def log_stellar_mass(velocity: np.ndarray) -> np.ndarray:
    """Median log10 of the stellar mass in Msun at a peak velocity in km/s.

    Equation J1 at the mass that :func:`mass_at` gives, so that the velocity alone decides, as it does in the paper.
    """
    x = np.log10(mass_at(velocity)) - CHARACTERISTIC_MASS
    bump = BUMP_HEIGHT * np.exp(-0.5 * (x / BUMP_WIDTH) ** 2)
    slopes = np.log10(10 ** (-FAINT_SLOPE * x) + 10 ** (-BRIGHT_SLOPE * x))
    return np.asarray(CHARACTERISTIC_MASS + EFFICIENCY - slopes + bump)
