"""The survey that the images imitate: ten years of LSST in six bands, as in Arcelin (2021).

The values are those behind the published images; where they come from GalSim, it says so. Everything is a plain
constant, because all of it goes into the name under which images are cached.
"""

from __future__ import annotations

from typing import Any, Dict

import numpy as np

BANDS = "ugrizy"
"""The six LSST bands; the order of all arrays with a band dimension."""

PIXELS = 64
"""Pixels on a side of an image."""

PIXEL_SCALE_ARCSEC = 0.2
"""LSST pixel."""

PSF_FWHM_ARCSEC = 0.65
"""Full width at half maximum of the Kolmogorov point spread function, the same in every band."""

EXPOSURES = (56, 80, 184, 184, 160, 160)
"""Exposures in ten years, by band."""

EXPOSURE_S = 15.0
"""Seconds that each of :data:`EXPOSURES` lasts."""

ZERO_POINTS_MAG = (26.50, 28.30, 28.13, 27.79, 27.40, 26.58)
"""Magnitude that gives one electron per second, by band."""

SKY_MAG_PER_ARCSEC2 = (22.95, 22.24, 21.20, 20.47, 19.60, 18.63)
"""Brightness of the sky, by band."""

LSST_DIAMETER_M = 6.68
"""Diameter of a full circle with the collecting area of the LSST mirror."""

HST_DIAMETER_M = 2.4
"""Diameter of the HST mirror, which the F814W magnitudes refer to (GalSim, ``COSMOSCatalog.hst_eff_area``)."""

HST_OBSCURATION = 0.33
"""Share of the HST diameter hidden by its secondary mirror (GalSim, ``COSMOSCatalog.hst_eff_area``)."""

HST_ZERO_POINT_MAG = 25.94
"""F814W magnitude that gives HST one electron per second (GalSim, ``COSMOSCatalog.getBandpass``)."""

FAINTEST_R_MAG = 27.5
"""Galaxies fainter than this in r are not kept."""


def sky_electrons() -> np.ndarray:
    """Mean sky electrons per pixel over all exposures, shape (6,): 883.9 in u to 145354.1 in y."""
    magnitudes = np.subtract(ZERO_POINTS_MAG, SKY_MAG_PER_ARCSEC2)
    # 2.512, not the fifth root of 100: the rounded value is what gives the published counts.
    electrons: np.ndarray = 2.512**magnitudes * np.asarray(EXPOSURES) * EXPOSURE_S * PIXEL_SCALE_ARCSEC**2
    return electrons


def brightness_factors() -> np.ndarray:
    """Electrons over all LSST exposures per electron that HST would see in one second, shape (6,).

    Ratio of the collecting areas times the exposure time: 7302.7 in u to 23994.6 in r and i.
    """
    hst = HST_DIAMETER_M**2 * (1 - HST_OBSCURATION**2)
    return LSST_DIAMETER_M**2 / hst * EXPOSURE_S * np.asarray(EXPOSURES)


def r_magnitude(electrons: np.ndarray) -> float:
    """Magnitude in r of a source.

    Args:
        electrons: of the source over all exposures, by band, shape (6,); above 0 in r.
    """
    band = BANDS.index("r")
    per_second = float(electrons[band]) / (EXPOSURES[band] * EXPOSURE_S)
    return ZERO_POINTS_MAG[band] - 2.5 * float(np.log10(per_second))


def constants() -> Dict[str, Any]:
    """Return every constant of this module by name, as JSON takes them."""
    return {name: value for name, value in globals().items() if name.isupper()}
