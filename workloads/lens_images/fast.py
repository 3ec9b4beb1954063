"""Lenses drawn many at a time by compiled loops; the lens galaxy's deflection is computed once for all images."""

from __future__ import annotations

import math
from typing import Any, Sequence

import numba
import numpy as np

from siderostat.workloads.lens_images.catalogue import MACRO, Scene, einstein_radius_arcsec
from siderostat.workloads.lens_images.deflection import macro_deflection, pixel_centres
from siderostat.workloads.lens_images.instruments import Instrument
from siderostat.workloads.lens_images.rendering import Renderer
from siderostat.workloads.lens_images.sources import PIXEL_ARCSEC

PSF_TRUNCATION = 5.0  # standard deviations, as lenstronomy's SingleBand


class Fast(Renderer):
    """The same images as lenstronomy's, to rounding, on one core.

    Args:
        instrument: the camera.
    """

    def __init__(self, instrument: Instrument) -> None:
        self._area_arcsec2 = instrument.pixel_arcsec**2
        x, y = pixel_centres(instrument)
        bent_x, bent_y = macro_deflection(MACRO, x, y)
        self._along, self._behind = np.ascontiguousarray(x[0]), (x - bent_x, y - bent_y)
        self._kernel = gaussian_kernel(instrument.psf_sigma_pixels)

    def draw_all(self, scenes: Sequence[Scene]) -> np.ndarray:
        """See :meth:`Renderer.draw_all`."""
        starts = np.cumsum([0, *(len(scene.masses_msun) for scene in scenes)])
        squares = np.concatenate([einstein_radius_arcsec(1.0) ** 2 * scene.masses_msun for scene in scenes])
        at_x, at_y = (np.concatenate([getattr(s, name) for s in scenes]) for name in ("x_arcsec", "y_arcsec"))
        places = np.array([[s.source_x_arcsec, s.source_y_arcsec, s.source_angle] for s in scenes])
        sources = np.zeros((len(scenes), *(side + 2 for side in scenes[0].source.shape)))  # with a black border
        sources[:, 1:-1, 1:-1] = [scene.source for scene in scenes]
        images = np.empty((len(scenes), len(self._along), len(self._along)))
        _draw(
            self._along, *self._behind, squares, at_x, at_y, starts, sources, places, PIXEL_ARCSEC, self._kernel, images
        )
        images *= self._area_arcsec2
        return images


def gaussian_kernel(sigma_pixels: float) -> np.ndarray:
    """Return a sampled Gaussian that adds up to 1, as ``scipy.ndimage.gaussian_filter`` has it."""
    radius = int(PSF_TRUNCATION * sigma_pixels + 0.5)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma_pixels) ** 2)
    return np.asarray(weights / weights.sum())


# What follows is compiled; its arguments have no types, for each is compiled for those that it is called with.


def _draw_images(  # type: ignore[no-untyped-def] # noqa: ANN202
    along, bent_x, bent_y, squares, at_x, at_y, starts, sources, places, scale, kernel, images  # noqa: ANN001
):  # fmt: skip
    """Write what the camera sees, per square arcsecond.

    Args:
        along: of the pixels in a row or a column, arcseconds, shape (pixels,).
        bent_x: where rays hit the source's plane behind the lens galaxy alone, shape (pixels, pixels).
        bent_y: the same.
        squares: squared Einstein radii of all point masses, shape (masses,).
        at_x: where they are, shape (masses,).
        at_y: the same.
        starts: where each image's point masses begin, shape (images + 1,).
        sources: with a black border, shape (images, rows, columns).
        places: x, y and angle of each source, shape (images, 3).
        scale: arcseconds in a pixel of a source.
        kernel: the point spread function along one axis.
        images: what is written, shape (images, pixels, pixels).
    """
    pixels = along.size
    behind_x, behind_y, sharp = np.empty(pixels), np.empty(pixels), np.empty((pixels, pixels))
    for image in range(images.shape[0]):
        source_x, source_y, angle = places[image]
        cos, sin = math.cos(angle) / scale, math.sin(angle) / scale
        for row in range(pixels):  # what a row needs stays in the fastest cache
            behind_x[:], behind_y[:] = bent_x[row], bent_y[row]
            for mass in range(starts[image], starts[image + 1]):
                square, mass_x, dy = squares[mass], at_x[mass], along[row] - at_y[mass]
                for column in range(pixels):
                    dx = along[column] - mass_x
                    # A ray through a mass is not bent by it; elsewhere the last term is below rounding.
                    strength = square / (dx * dx + dy * dy + 1e-300)
                    behind_x[column] -= strength * dx
                    behind_y[column] -= strength * dy
            for column in range(pixels):
                x, y = behind_x[column] - source_x, behind_y[column] - source_y
                sharp[row, column] = _light_at(sources[image], cos * x + sin * y, cos * y - sin * x)
        _blur(sharp, kernel, images[image])


def _interpolate(source, x, y):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """Return a source's surface brightness ``x`` columns and ``y`` rows from its middle, linearly interpolated.

    The source's border must be black: so is all beyond it.
    """
    rows, columns = source.shape
    column, row = x + (columns - 1) / 2, y + (rows - 1) / 2
    if not (0 <= column < columns - 1 and 0 <= row < rows - 1):
        return 0.0
    i, j = int(row), int(column)
    down, along = row - i, column - j
    upper = source[i, j] * (1 - along) + source[i, j + 1] * along
    lower = source[i + 1, j] * (1 - along) + source[i + 1, j + 1] * along
    return upper * (1 - down) + lower * down


def _convolve(sharp, kernel, blurred):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
    """Write ``sharp`` convolved along both axes; beyond the edges is what lies at them."""
    pixels, radius = sharp.shape[0], kernel.size // 2
    between = np.empty(pixels + 2 * radius)
    for row in range(pixels):
        between[:] = 0.0
        for step in range(kernel.size):
            weight, from_row = kernel[step], min(max(row + step - radius, 0), pixels - 1)
            for column in range(pixels):
                between[radius + column] += weight * sharp[from_row, column]
        between[:radius], between[radius + pixels :] = between[radius], between[radius + pixels - 1]
        blurred[row] = 0.0
        for step in range(kernel.size):
            for column in range(pixels):
                blurred[row, column] += kernel[step] * between[column + step]


def _compiled(function: Any) -> Any:
    # Python's check for a division by zero would keep the compiler from taking eight pixels at a time.
    return numba.njit(cache=True, error_model="numpy")(function)


_light_at = _compiled(_interpolate)
_blur = _compiled(_convolve)
_draw = _compiled(_draw_images)
