"""By how much light is bent: the smooth lens galaxy's deflection, in closed form."""

from __future__ import annotations

import math
from typing import Tuple

import numpy as np

from siderostat.workloads.lens_images.catalogue import Macro, einstein_radius_arcsec
from siderostat.workloads.lens_images.instruments import Instrument

CORE_ARCSEC = 1e-10
"""Radius within which lenstronomy softens its "SIE"; kept, so that both agree to rounding."""


def pixel_centres(instrument: Instrument) -> Tuple[np.ndarray, np.ndarray]:
    """Return x and y of the pixels in arcseconds from the middle of the field, each of shape (pixels, pixels)."""
    pixels = instrument.field_pixels
    along = (np.arange(pixels) - (pixels - 1) / 2) * instrument.pixel_arcsec
    x, y = np.meshgrid(along, along)
    return x, y


def macro_deflection(macro: Macro, x: np.ndarray, y: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Return both components of the deflection by the lens galaxy, in arcseconds.

    Args:
        macro: the lens galaxy, at the origin.
        x: where, in arcseconds.
        y: the same.
    """
    along_x, along_y = isothermal_deflection(einstein_radius_arcsec(macro.mass_msun), macro.e1, macro.e2, x, y)
    return along_x + macro.gamma1 * x + macro.gamma2 * y, along_y + macro.gamma2 * x - macro.gamma1 * y


def isothermal_deflection(
    einstein_arcsec: float, e1: float, e2: float, x: np.ndarray, y: np.ndarray
) -> Tuple[np.ndarray, np.ndarray]:
    """Return the deflection by an isothermal ellipsoid (Keeton & Kochanek 1998, equations 9 and 10).

    Args:
        einstein_arcsec: Einstein radius, averaged over the axes as a product, as lenstronomy has it.
        e1: ellipticity along the axes; not both may be 0.
        e2: ellipticity along the diagonals.
        x: where, in arcseconds.
        y: the same.
    """
    size = math.hypot(e1, e2)
    angle, ratio = math.atan2(e2, e1) / 2, (1 - size) / (1 + size)
    scale, core, eccentricity = (
        einstein_arcsec * math.sqrt(ratio),
        CORE_ARCSEC / math.sqrt(ratio),
        math.sqrt(1 - ratio**2),
    )
    cos, sin = math.cos(angle), math.sin(angle)
    major, minor = cos * x + sin * y, cos * y - sin * x
    psi = np.sqrt(ratio**2 * (core**2 + major**2) + minor**2)
    along = scale / eccentricity * np.arctan(eccentricity * major / (psi + core))
    across = scale / eccentricity * np.arctanh(eccentricity * minor / (psi + ratio**2 * core))
    return cos * along - sin * across, sin * along + cos * across
