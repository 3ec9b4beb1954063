"""From what the sky sends to what is recorded: brightness, noise, and the common number of pixels.

The peak signal-to-noise ratio of an image is that of its brightest pixel before noise, in the instrument's own pixels:
S / sqrt(background^2 + S / t), where S is the pixel in electrons per second with the point spread function in it, t the
total exposure, and background that of :attr:`Instrument.background_sigma`. The source is made as bright as it takes
for that to be 20 in every image of every class and instrument, so that brightness tells nothing about the class.
"""

from __future__ import annotations

import math
from typing import Sequence

import numpy as np

from siderostat.workloads.lens_images.instruments import FIELD_ARCSEC, Instrument
from siderostat.workloads.lens_images.resampling import resampling

PEAK_SNR = 20.0
CORNERS_ARCSEC = 3.4  # from the middle of the field


def peak_electrons_s(instrument: Instrument) -> float:
    """Return how bright a pixel is whose signal-to-noise ratio is :data:`PEAK_SNR`, in electrons per second."""
    shot = PEAK_SNR**2 / instrument.total_exposure_s
    return (shot + math.sqrt(shot**2 + 4 * PEAK_SNR**2 * instrument.background_sigma**2)) / 2


def brightened(images: np.ndarray, instrument: Instrument) -> np.ndarray:
    """Return noise-free images, each scaled so that its brightest pixel has the wanted signal-to-noise ratio.

    Args:
        images: electrons per second for a source of any brightness, shape (images, pixels, pixels).
        instrument: the camera.
    """
    peaks = images.max((1, 2), keepdims=True)
    return np.asarray(images * (peak_electrons_s(instrument) / peaks))


def sigma(images: np.ndarray, instrument: Instrument) -> np.ndarray:
    """Return the standard deviation of each pixel's noise, in electrons per second."""
    return np.asarray(np.sqrt(instrument.background_sigma**2 + np.maximum(images, 0) / instrument.total_exposure_s))


def exposed(images: np.ndarray, instrument: Instrument, rngs: Sequence[np.random.Generator]) -> np.ndarray:
    """Return images with noise: sky, read-out and photons, all Gaussian as lenstronomy has them.

    Args:
        images: noise-free, in electrons per second, shape (images, pixels, pixels).
        instrument: the camera.
        rngs: one for each image.
    """
    noisy = np.empty_like(images)
    for light, out, rng in zip(images, noisy, rngs):  # one at a time, which stays in the processor's cache
        rng.standard_normal(out=out)
        out *= sigma(light, instrument)
        out += light
    return noisy


def resampled(images: np.ndarray, pixels: int) -> np.ndarray:
    """Return images of the same sky with ``pixels`` on a side, in electrons per second and instrument's pixel."""
    if images.shape[-1] == pixels:
        return images
    weights = resampling(images.shape[-1], pixels)
    return np.asarray(weights @ images @ weights.T)


def normalised(images: np.ndarray) -> np.ndarray:
    """Return images between 0 and 1: negative pixels 0, the brightest 1, as the public code does."""
    positive = np.maximum(images, 0)
    return np.asarray(positive / positive.max((-2, -1), keepdims=True))


def corner_sigmas(images: np.ndarray, instrument: Instrument) -> np.ndarray:
    """Return the standard deviation in the corners of each image, relative to that of sky and read-out.

    No light of a lens reaches the corners. Resampling makes noise smaller, which is taken into account.

    Args:
        images: with noise, shape (images, pixels, pixels).
        instrument: the camera.
    """
    pixels = images.shape[-1]
    along = ((np.arange(pixels) + 0.5) / pixels - 0.5) * FIELD_ARCSEC
    corners = np.hypot(along[:, None], along) > CORNERS_ARCSEC
    squares = resampling(instrument.field_pixels, pixels) ** 2
    shares = squares.sum(1)[:, None] * squares.sum(1)  # of a pixel's variance that is left
    due = instrument.background_sigma * np.sqrt(shares)
    return np.asarray((images / due)[:, corners].std(1))
