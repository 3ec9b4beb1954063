"""Noise of counting galaxy and sky electrons over all exposures, the mean sky subtracted."""

from __future__ import annotations

import numpy as np

from siderostat.workloads.galaxy_images.survey import sky_electrons

NOISES = ("poisson", "gaussian", "none")
"""``poisson`` is what a camera counts. ``gaussian`` has its mean and variance and takes a third of the time; it is not
whole numbers and lacks the skewness, at most 0.034 in u and 0.009 in g. ``none`` leaves images as they are."""


def add_noise(image: np.ndarray, rng: np.random.Generator, noise: str = "poisson") -> np.ndarray:
    """Return what is left of one exposure of galaxy and sky when the mean sky is subtracted.

    Args:
        image: noise-free electrons, float32 of shape (6, 64, 64).
        rng: the source of the noise.
        noise: one of :data:`NOISES`.
    """
    if noise == "none":
        return image
    sky = sky_electrons()[:, None, None]
    # Transforms leave ripples of a few 1e-6 of the peak, which must not make a mean negative.
    mean = np.maximum(image + sky, 0)
    if noise == "poisson":
        return np.asarray(rng.poisson(mean) - sky, np.float32)
    deviation = np.sqrt(mean, dtype=np.float32)
    deviation *= rng.standard_normal(image.shape, np.float32)
    return np.asarray(image + deviation)
