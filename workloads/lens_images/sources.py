"""Galaxies behind the lens: made up, from the Hubble Deep Field, or from Galaxy10 by path.

A source is 64 x 64 pixels of 0.02", its light adding up to one electron per second, and fades out towards the edges.
"""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np

from siderostat.workloads.base import BadInput

PIXELS = 64
PIXEL_ARCSEC = 0.02
SOURCES = ("synthetic", "hubble", "galaxy10")

FADE_PIXELS = PIXELS / 4.5  # standard deviation of the Gaussian that light is multiplied by
BLUR_PIXELS = 1.0  # of what is made up: no structure finer than a pixel

# The Hubble Deep Field as it comes with scikit-image, 1000 x 872 pixels: which patches of light are galaxies of use.
LEAST_AREA_PIXELS, LARGEST_AREA_PIXELS = 150, 2500
SATURATED = 250  # of 255: cores of stars
HUBBLE_BLUR_PIXELS = 2.0
MOST_DRAWS = 1000


class Sources(ABC):
    """Where source galaxies come from."""

    identity: str
    """What tells one origin from another, wherever a file lies."""

    @abstractmethod
    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Return surface brightness in electrons per second and square arcsecond, float64 of shape (64, 64)."""

    def provenance(self) -> Dict[str, Any]:
        """Return what the galaxies are from, as JSON takes it."""
        return {"source": self.identity}


def open_sources(source: str, path: str = "") -> Sources:
    """Return the origin called ``source``, one of :data:`SOURCES`.

    Args:
        source: which.
        path: of the Galaxy10 file; empty for the others.

    Raises:
        BadInput: if it is unknown, or the file is missing, not needed or cannot be used.
    """
    if source not in SOURCES:
        raise BadInput(f"source must be one of {', '.join(SOURCES)}, not {source!r}")
    if source == "galaxy10":
        from siderostat.workloads.lens_images.galaxy10 import Galaxy10

        return Galaxy10(Path(path)) if path else _lacks_path()
    if path:
        raise BadInput(f"a source file, {path}, was given, and source is {source!r}; set source=galaxy10 to use it")
    return Synthetic() if source == "synthetic" else HubbleDeepField()


def _lacks_path() -> Sources:
    raise BadInput("source galaxy10 needs the path of Galaxy10.h5 or Galaxy10_DECals.h5; it is not downloaded")


def normalised(light: np.ndarray) -> np.ndarray:
    """Return light that adds up to one electron per second."""
    return np.asarray(light / (light.sum() * PIXEL_ARCSEC**2))


def faded(light: np.ndarray, sigma_pixels: float) -> np.ndarray:
    """Return light that fades out towards the edges."""
    x, y = _offsets()
    return np.asarray(light * np.exp(-(x**2 + y**2) / (2 * sigma_pixels**2)))


@functools.lru_cache(maxsize=None)
def _offsets() -> Tuple[np.ndarray, np.ndarray]:
    along = np.arange(PIXELS) - (PIXELS - 1) / 2
    x, y = np.meshgrid(along, along)
    return x, y


class Synthetic(Sources):
    """Sersic profiles, three in five with two or three logarithmic spiral arms, and up to eight bright clumps."""

    identity = "synthetic galaxies, version 1"

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Draw one galaxy; see :meth:`Sources.draw`."""
        from scipy.ndimage import gaussian_filter

        ratio, angle = rng.uniform(0.4, 1), rng.uniform(0, math.pi)
        half_light = rng.uniform(6, 11)  # pixels: 0.12" to 0.22"
        x, y = _offsets()
        cos, sin = math.cos(angle), math.sin(angle)
        major, minor = cos * x + sin * y, (cos * y - sin * x) / ratio
        radius = np.hypot(major, minor) / half_light
        light = _sersic(radius, rng.uniform(0.8, 2.5))
        if rng.uniform() < 0.6:
            light *= _arms(radius, np.arctan2(minor, major), rng)
        light /= light.sum()
        share, clumps = rng.uniform(0.05, 0.35), int(rng.integers(0, 9))
        for _ in range(clumps):
            out, turn = half_light * math.sqrt(rng.exponential()), rng.uniform(0, 2 * math.pi)
            along, across = out * math.cos(turn), out * math.sin(turn) * ratio
            place = (cos * along - sin * across, sin * along + cos * across)
            light += share / clumps * _clump(place, rng.uniform(1, 2.2))
        return normalised(gaussian_filter(faded(light, FADE_PIXELS), BLUR_PIXELS))


def _sersic(radius: np.ndarray, index: float) -> np.ndarray:
    """Return a Sersic profile; ``radius`` is in half-light radii (b_n: Capaccioli 1989)."""
    return np.asarray(np.exp(-(1.9992 * index - 0.3271) * (radius ** (1 / index) - 1)))


def _arms(radius: np.ndarray, angle: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    arms, pitch, contrast = int(rng.integers(2, 4)), rng.uniform(0.15, 0.4), rng.uniform(0.3, 0.9)
    phase = arms * (angle - np.log(radius + 0.05) / pitch)
    return np.asarray(1 + contrast * np.cos(phase) * np.minimum(radius, 1))  # none in the middle


def _clump(place: Tuple[float, float], sigma: float) -> np.ndarray:
    x, y = _offsets()
    distance = (x - place[0]) ** 2 + (y - place[1]) ** 2
    return np.asarray(np.exp(-distance / (2 * sigma**2)) / (2 * math.pi * sigma**2))


class HubbleDeepField(Sources):
    """Cut-outs of the picture that comes with scikit-image, drawn with equal probability; nothing is downloaded."""

    identity = "Hubble Deep Field of scikit-image, cut-outs version 1"

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Draw one galaxy; see :meth:`Sources.draw`."""
        galaxies = cut_outs()
        return galaxies[int(rng.integers(len(galaxies)))]

    def provenance(self) -> Dict[str, Any]:
        """Return what the galaxies are from, and how many there are."""
        return {"source": self.identity, "rows": len(cut_outs())}


@functools.lru_cache(maxsize=None)
def cut_outs() -> List[np.ndarray]:
    """Return the galaxies of the Hubble Deep Field: patches of light of a useful size, without stars and neighbours."""
    from scipy import ndimage
    from skimage import data

    light = data.hubble_deep_field().astype(np.float64).mean(2)  # type: ignore[no-untyped-call]
    coarse = ndimage.median_filter(light[::4, ::4], size=25)
    sky = ndimage.zoom(coarse, (light.shape[0] / coarse.shape[0], light.shape[1] / coarse.shape[1]), order=1)
    above = light - sky
    noise = 1.4826 * float(np.median(np.abs(above - np.median(above))))
    patches, number = ndimage.label(ndimage.gaussian_filter(above, 1.5) > max(4 * noise, 6))
    numbers = np.arange(1, number + 1)
    areas = np.asarray(ndimage.sum_labels(np.ones_like(light), patches, numbers))
    peaks = ndimage.maximum(light, patches, numbers)
    centres: Any = ndimage.center_of_mass(np.maximum(above, 0), patches, numbers)
    useful = (areas > LEAST_AREA_PIXELS) & (areas < LARGEST_AREA_PIXELS) & (peaks < SATURATED)
    found = []
    for patch in numbers[useful]:
        corner = [round(place) - PIXELS // 2 for place in centres[patch - 1]]
        if min(corner) >= 0 and corner[0] + PIXELS <= light.shape[0] and corner[1] + PIXELS <= light.shape[1]:
            window = np.s_[corner[0] : corner[0] + PIXELS, corner[1] : corner[1] + PIXELS]
            found.append(_cut_out(above[window], patches[window], int(patch), float(areas[patch - 1])))
    return found


def _cut_out(light: np.ndarray, patches: np.ndarray, patch: int, area: float) -> np.ndarray:
    """Return one galaxy without what belongs to its neighbours."""
    from scipy import ndimage

    neighbours = ndimage.binary_dilation((patches > 0) & (patches != patch), iterations=2)
    alone = np.where(neighbours, 0, np.maximum(light, 0))
    sigma = min(max(1.2 * math.sqrt(area / math.pi), 4), FADE_PIXELS)
    return normalised(ndimage.gaussian_filter(faded(alone, sigma), HUBBLE_BLUR_PIXELS))
