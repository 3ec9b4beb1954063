"""The cosmology of Bolshoi-Planck, and what colossus tabulates of it at redshift 0: matter power, abundance, bias.

colossus (Diemer 2018, ApJS 239, 35) keeps files in the home folder by default; here it keeps none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict

import numpy as np

VERSION = 1
"""Of the tables. Rises with every change of a value in them."""

HUBBLE = 0.678
"""H0 / (100 km/s/Mpc). This and the next four: Bolshoi-Planck, Rodriguez-Puebla et al. (2016), MNRAS 462, 893."""
OMEGA_MATTER = 0.307
OMEGA_BARYON = 0.048
SIGMA_8 = 0.823
SPECTRAL_INDEX = 0.96

CRITICAL_DENSITY = 2.7754e11
"""(Msun/h) / (Mpc/h)^3, 3 H0^2 / (8 pi G)."""

MEAN_DENSITY = OMEGA_MATTER * CRITICAL_DENSITY
"""Of matter today, in the same unit."""

COLLAPSE_THRESHOLD = 1.686
"""Linear overdensity at which a sphere collapses, for an Einstein-de Sitter universe."""

_WAVE_NUMBERS = (-3.5, 1.6, 400)  # log10 of h/Mpc: from, to, how many
_LARGEST_MASS = 15.8  # log10 of Msun/h; fewer than one halo in 10^7 (Mpc/h)^3 is heavier
_MASSES_PER_DECADE = 40
_GROWTH_NODES = 64


@dataclass(frozen=True)
class Tables:
    """Functions of wave number, of halo mass and of the scale factor, at redshift 0.

    Attributes:
        wave_number: h/Mpc.
        power: linear matter power spectrum, (Mpc/h)^3 (Eisenstein & Hu 1998 with baryons).
        log_mass: natural logarithm of the virial mass (Bryan & Norman 1998) in Msun/h, in equal steps.
        abundance: halos per (Mpc/h)^3 and unit of ln mass, Tinker et al. (2008), ApJ 688, 709.
        bias: of these halos, Tinker et al. (2010), ApJ 724, 878.
        variance: of the linear density in spheres that hold that mass.
        half_variance: of the linear density in spheres that hold half of it.
        growth: linear growth factor, 1 today, rising.
        scale_factor: at which it had those values.
    """

    wave_number: np.ndarray
    power: np.ndarray
    log_mass: np.ndarray
    abundance: np.ndarray
    bias: np.ndarray
    variance: np.ndarray
    half_variance: np.ndarray
    growth: np.ndarray
    scale_factor: np.ndarray


def constants() -> Dict[str, float]:
    """Return what the tables depend on, by name, as JSON takes it."""
    return {name: value for name, value in globals().items() if name.isupper() and not name.startswith("_")}


def tables(least_mass: float) -> Tables:
    """Tabulate from ``least_mass`` (Msun/h) up."""
    from colossus.cosmology import cosmology
    from colossus.lss import bias, mass_function

    before = cosmology.current_cosmo
    ours: Any = cosmology.setCosmology("siderostat-bolshoi-planck", params=_parameters(), persistence="")
    try:
        wave_number = np.logspace(*_WAVE_NUMBERS)
        decades = _LARGEST_MASS - np.log10(least_mass)
        mass = np.logspace(np.log10(least_mass), _LARGEST_MASS, int(np.ceil(decades * _MASSES_PER_DECADE)) + 1)
        scale_factor = np.linspace(0.05, 1.0, _GROWTH_NODES)
        return Tables(
            wave_number=wave_number,
            power=ours.matterPowerSpectrum(wave_number, 0.0),
            log_mass=np.log(mass),
            abundance=mass_function.massFunction(mass, 0.0, mdef="vir", model="tinker08", q_out="dndlnM"),
            bias=bias.haloBias(mass, 0.0, mdef="vir", model="tinker10"),
            variance=ours.sigma(lagrangian_radius(mass), 0.0) ** 2,
            half_variance=ours.sigma(lagrangian_radius(0.5 * mass), 0.0) ** 2,
            growth=ours.growthFactor(1 / scale_factor - 1),
            scale_factor=scale_factor,
        )
    finally:
        if before is not None:  # someone else's, who may go on using it
            cosmology.setCurrent(before)


def lagrangian_radius(mass: np.ndarray) -> np.ndarray:
    """Radius in Mpc/h of the sphere of mean density that holds ``mass`` (Msun/h)."""
    return np.asarray((3 * mass / (4 * np.pi * MEAN_DENSITY)) ** (1 / 3))


def virial_overdensity() -> float:
    """Mean density of a halo over the mean density of matter, Bryan & Norman (1998), ApJ 495, 80, equation 6: 333."""
    x = OMEGA_MATTER - 1
    return (18 * np.pi**2 + 82 * x - 39 * x**2) / OMEGA_MATTER


def _parameters() -> Dict[str, Any]:
    return {
        "flat": True,
        "H0": 100 * HUBBLE,
        "Om0": OMEGA_MATTER,
        "Ob0": OMEGA_BARYON,
        "sigma8": SIGMA_8,
        "ns": SPECTRAL_INDEX,
    }
