"""From electrons to the numbers between 0 and 1 that the decoder's sigmoid gives, and back.

y = asinh(e / s) / asinh(5000), with s the standard deviation of the sky's noise in a pixel of the band: linear where
the sky would hide a galaxy, logarithmic where it would not. Pixels brighter than 5000 s, none in 6000 of the made-up
galaxies, become 1.
"""

from __future__ import annotations

import numpy as np

from siderostat.workloads.galaxy_images.survey import sky_electrons

BRIGHTEST = 5000.0  # in standard deviations of the sky


def stretch(electrons: np.ndarray) -> np.ndarray:
    """Return images between 0 and 1, float32, from electrons of shape (any, 6, 64, 64)."""
    stretched = np.arcsinh(electrons / _sky_sigma()) / np.float32(np.arcsinh(BRIGHTEST))
    return np.asarray(np.clip(stretched, 0, 1), np.float32)


def unstretch(images: np.ndarray) -> np.ndarray:
    """Return electrons, float32, from images between 0 and 1; both (any, 6, 64, 64)."""
    in_sky_sigmas = np.sinh(np.asarray(images, np.float32) * np.float32(np.arcsinh(BRIGHTEST)))
    return np.asarray(in_sky_sigmas * _sky_sigma())


def _sky_sigma() -> np.ndarray:
    """Standard deviation of the sky's Poisson noise in electrons per pixel, by band, shape (6, 1, 1)."""
    sigma = np.sqrt(sky_electrons()).astype(np.float32)
    return np.asarray(sigma[:, None, None])
