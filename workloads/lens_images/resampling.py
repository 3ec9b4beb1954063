"""Images in another number of pixels on the same sky."""

from __future__ import annotations

import functools

import numpy as np


@functools.lru_cache(maxsize=None)
def resampling(before: int, after: int) -> np.ndarray:
    """Return the weights that turn a row of ``before`` pixels into one of ``after``, on the same width.

    Linear interpolation where pixels become smaller; where they become larger, the same triangle as wide as the new
    pixels, so that noise is averaged. An image is ``weights @ image @ weights.T``; a constant one stays as it is.

    Returns:
        float64 of shape (after, before); each row adds up to 1.
    """
    scale = before / after
    centres = (np.arange(after) + 0.5) * scale - 0.5
    distances = np.abs(centres[:, None] - np.arange(before)) / max(scale, 1)
    weights = np.maximum(1 - distances, 0)
    return np.asarray(weights / weights.sum(1, keepdims=True))
