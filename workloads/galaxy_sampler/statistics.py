"""What is measured on images of galaxies, sampled or drawn, and how far two samples are apart."""

from __future__ import annotations

from typing import Dict, Mapping, Tuple

import numpy as np

from siderostat.workloads.galaxy_images.survey import BANDS, PIXEL_SCALE_ARCSEC, PIXELS

APERTURE_ARCSEC = 2.5
WEIGHT_SIGMA_ARCSEC = 0.8  # of the Gaussian weight; images of the point spread function have 0.28
COMPARED = ("flux", "size", "ellipticity")

THUMBNAIL = 32  # pixels on a side
COLOURS = "irg"  # bands shown as red, green and blue
_QUANTILES = np.linspace(0, 1, 201)


def measure(electrons: np.ndarray) -> Dict[str, np.ndarray]:
    """Measure each image in r, where nearly all galaxies are brightest.

    Args:
        electrons: noise-free, shape (n, 6, 64, 64).

    Returns:
        Arrays of shape (n,), float64:

        - ``flux``: electrons within 2.5 arcsec of the image's centre;
        - ``offset``: distance of the centroid from the image's centre, arcsec;
        - ``size``: arcsec, square root of half the trace of the second moments about the centroid;
        - ``ellipticity``: |Qxx - Qyy + 2 i Qxy| / (Qxx + Qyy), 0 to 1, of the same moments.

        Moments are taken with a Gaussian weight of 0.8 arcsec. The point spread function is not taken out.
    """
    r = np.asarray(electrons[:, BANDS.index("r")], np.float64)
    axis = (np.arange(PIXELS) - (PIXELS - 1) / 2) * PIXEL_SCALE_ARCSEC
    inside = np.hypot(axis[:, None], axis) <= APERTURE_ARCSEC
    x, y = np.zeros((2, len(r), 1))
    for _ in range(3):  # the weight follows the centroid
        weighted, sums = _weighted(r, axis, x, y)
        x = np.einsum("nyx,x->n", weighted, axis)[:, None] / sums
        y = np.einsum("nyx,y->n", weighted, axis)[:, None] / sums
    dx, dy = axis - x, axis - y
    weighted, sums = _weighted(r, axis, x, y)
    xx = np.einsum("nyx,nx->n", weighted, dx * dx) / sums[:, 0]
    yy = np.einsum("nyx,ny->n", weighted, dy * dy) / sums[:, 0]
    xy = np.einsum("nyx,nx,ny->n", weighted, dx, dy) / sums[:, 0]
    return {
        "flux": r[:, inside].sum(1),
        "offset": np.hypot(x, y)[:, 0],
        "size": np.sqrt(0.5 * (xx + yy)),
        "ellipticity": np.hypot(xx - yy, 2 * xy) / (xx + yy),
    }


def _weighted(images: np.ndarray, axis: np.ndarray, x: np.ndarray, y: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Weight images by a Gaussian about x, y, both (n, 1); return them, and their sums, (n, 1)."""
    across, down = (np.exp(-0.5 * ((axis - c) / WEIGHT_SIGMA_ARCSEC) ** 2) for c in (x, y))
    weighted = images * down[:, :, None] * across[:, None, :]
    # An image without light has no moments; they come out as 0 and not as a fault.
    return weighted, np.maximum(weighted.sum((1, 2)), np.finfo(np.float64).tiny)[:, None]


def quantiles(measured: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
    """Return 201 evenly spaced quantiles of each measure: a sample as :func:`compare` takes it, and short."""
    return {name: np.quantile(values, _QUANTILES) for name, values in measured.items()}


def compare(sampled: Mapping[str, np.ndarray], real: Mapping[str, np.ndarray]) -> Dict[str, float]:
    """Return how far two samples are apart.

    Args:
        sampled: as :func:`measure` returns it.
        real: likewise, or its :func:`quantiles`.

    Returns:
        For flux, size and ellipticity the Kolmogorov-Smirnov distance ``..._ks``, 0 to 1, the largest of them as
        ``largest_ks``, and the ratio of the medians, ``..._median_ratio``.
    """
    figures = {f"{name}_ks": ks_distance(sampled[name], real[name]) for name in COMPARED}
    figures["largest_ks"] = max(figures.values())
    for name in COMPARED:
        figures[f"{name}_median_ratio"] = float(np.median(sampled[name]) / np.median(real[name]))
    return figures


def ks_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Return the largest difference between the cumulative distributions of two samples (Kolmogorov-Smirnov)."""
    a, b = np.sort(a), np.sort(b)
    everywhere = np.concatenate([a, b])
    of_a = np.searchsorted(a, everywhere, side="right") / len(a)
    of_b = np.searchsorted(b, everywhere, side="right") / len(b)
    return float(np.abs(of_a - of_b).max())


def thumbnails(electrons: np.ndarray) -> np.ndarray:
    """Return colour pictures of the central 6.4 arcsec, uint8 of shape (k, 32, 32, 3): i, r, g as red, green, blue.

    The intensity, the mean of the three bands, passes through asinh, as in Lupton et al. (2004), so that the colour
    does not depend on the brightness; each picture has its own white.

    Args:
        electrons: noise-free, shape (k, 6, 64, 64).
    """
    start = (PIXELS - THUMBNAIL) // 2
    crop = slice(start, start + THUMBNAIL)
    bands = np.stack([electrons[:, BANDS.index(band), crop, crop] for band in COLOURS], -1)
    bands = np.maximum(bands, 0) / _THUMBNAIL_WHITE
    intensity = bands.mean(-1, keepdims=True)
    brightest = np.maximum(intensity.max((1, 2, 3), keepdims=True), 1e-30)
    shown = np.arcsinh(_SOFTENING * intensity / brightest) / np.arcsinh(_SOFTENING)
    pictures = bands / np.maximum(intensity, 1e-30) * shown
    return np.asarray(np.clip(pictures * 255, 0, 255), np.uint8)


_THUMBNAIL_WHITE = np.array([1.3, 1.0, 0.28])  # electrons of a typical galaxy in i, r and g, relative to r
_SOFTENING = 30.0
