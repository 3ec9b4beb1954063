"""What stands in the sky: one lens galaxy for all images, dark matter substructure of three classes, a source.

The lens galaxy is the same in every image of every class, so that nothing but the substructure tells the classes apart.
Masses become deflections by angular diameter distances. The public code of the DeepLense sets takes luminosity
distances instead, and the difference of two of them for that between lens and source: there the same mass has an
Einstein radius 1.30 times smaller.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Tuple

import numpy as np

CLASSES = ("no substructure", "CDM subhalos", "vortex")
"""By label: 0, 1, 2."""

LENS_REDSHIFT, SOURCE_REDSHIFT = 0.5, 1.0
HUBBLE_KM_S_MPC, MATTER_DENSITY = 70.0, 0.3  # flat, without radiation

SUBHALOS = 25
SUBHALO_MASSES_MSUN = (1e6, 1e10)
SUBHALO_SLOPE = -0.9
"""dN/dm ~ m^slope, as the public code draws; its comment says -1.9, with which 25 subhalos would weigh a hundredth."""
SUBHALO_RADII_ARCSEC = (0.25, 2.0)

VORTEX_MASS_MSUN = 3e10
VORTEX_POINTS = 100
VORTEX_HALF_LENGTHS_ARCSEC = (0.03, 3.0)  # for axions of 1e-22 and 1e-24 eV

SOURCE_OFFSET_ARCSEC = 0.35  # at most, in each direction

_GM_SUN_M3_S2 = 1.3271244e20  # IAU 2015 nominal
_LIGHT_M_S = 299792458.0
_MPC_M = 3.0856775814913673e22
_ARCSEC_PER_RAD = 180 * 3600 / math.pi


@dataclass(frozen=True)
class Macro:
    """The lens galaxy: a singular isothermal ellipsoid with external shear, in lenstronomy's parameters.

    Attributes:
        mass_msun: within the Einstein radius.
        e1: ellipticity, (1 - q) / (1 + q) cos 2 phi.
        e2: (1 - q) / (1 + q) sin 2 phi.
        gamma1: shear along the axes.
        gamma2: shear along the diagonals.
    """

    mass_msun: float = 1e12
    e1: float = 0.1
    e2: float = 0.0
    gamma1: float = 0.05
    gamma2: float = 0.0


MACRO = Macro()


@dataclass(frozen=True)
class Scene:
    """One lens and what is behind it.

    Attributes:
        label: of :data:`CLASSES`.
        masses_msun: point masses of the substructure, shape (n,).
        x_arcsec: where they are, shape (n,).
        y_arcsec: the same.
        source: surface brightness of the source galaxy, float64 of shape (rows, columns); see ``sources.py``.
        source_x_arcsec: centre of the source.
        source_y_arcsec: the same.
        source_angle: by which the source is turned, radians.
    """

    label: int
    masses_msun: np.ndarray
    x_arcsec: np.ndarray
    y_arcsec: np.ndarray
    source: np.ndarray
    source_x_arcsec: float
    source_y_arcsec: float
    source_angle: float


def draw_scene(label: int, source: np.ndarray, rng: np.random.Generator) -> Scene:
    """Draw the substructure of a class, and where the source is.

    Args:
        label: of :data:`CLASSES`.
        source: surface brightness of the source galaxy.
        rng: what all is drawn from.
    """
    x, y = rng.uniform(-SOURCE_OFFSET_ARCSEC, SOURCE_OFFSET_ARCSEC, 2)
    angle = rng.uniform(-math.pi, math.pi)
    masses = (_no_masses, _subhalos, _vortex)[label](rng)
    return Scene(label, *masses, source, float(x), float(y), float(angle))


def einstein_radius_arcsec(mass_msun: float) -> float:
    """Return the Einstein radius of a point mass at the lens's redshift, for a source at the source's."""
    return _einstein_radius_of_the_sun() * math.sqrt(mass_msun)


def angular_diameter_distance_mpc(from_redshift: float, to_redshift: float) -> float:
    """Return the angular diameter distance in the flat cosmology of this module (Hogg 1999, equations 14 and 19)."""
    nodes, weights = np.polynomial.legendre.leggauss(20)
    half = (to_redshift - from_redshift) / 2
    redshifts = from_redshift + half * (nodes + 1)
    expansion = np.sqrt(MATTER_DENSITY * (1 + redshifts) ** 3 + 1 - MATTER_DENSITY)
    comoving = _LIGHT_M_S / 1e3 / HUBBLE_KM_S_MPC * half * float((weights / expansion).sum())
    return comoving / (1 + to_redshift)


@functools.lru_cache(maxsize=None)
def _einstein_radius_of_the_sun() -> float:
    lens = angular_diameter_distance_mpc(0, LENS_REDSHIFT)
    source = angular_diameter_distance_mpc(0, SOURCE_REDSHIFT)
    between = angular_diameter_distance_mpc(LENS_REDSHIFT, SOURCE_REDSHIFT)
    length_m = 4 * _GM_SUN_M3_S2 / _LIGHT_M_S**2
    return math.sqrt(length_m / _MPC_M * between / (lens * source)) * _ARCSEC_PER_RAD


_Masses = Tuple[np.ndarray, np.ndarray, np.ndarray]


def _no_masses(rng: np.random.Generator) -> _Masses:
    return np.zeros(0), np.zeros(0), np.zeros(0)


def _subhalos(rng: np.random.Generator) -> _Masses:
    power = SUBHALO_SLOPE + 1
    least, most = (m**power for m in SUBHALO_MASSES_MSUN)
    masses = (least + (most - least) * rng.uniform(size=SUBHALOS)) ** (1 / power)
    radii, angles = rng.uniform(*SUBHALO_RADII_ARCSEC, SUBHALOS), rng.uniform(0, 2 * math.pi, SUBHALOS)
    return masses, radii * np.cos(angles), radii * np.sin(angles)


def _vortex(rng: np.random.Generator) -> _Masses:
    """Equal masses in a row through the centre; the logarithm of its length is uniform."""
    half_length = math.exp(rng.uniform(*np.log(VORTEX_HALF_LENGTHS_ARCSEC)))
    angle = rng.uniform(0, 2 * math.pi)
    along = np.linspace(-half_length, half_length, VORTEX_POINTS)
    masses = np.full(VORTEX_POINTS, VORTEX_MASS_MSUN / VORTEX_POINTS)
    return masses, along * math.cos(angle), along * math.sin(angle)
