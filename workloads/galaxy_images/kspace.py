"""Six-band images computed in Fourier space, many at a time, with NumPy alone.

A galaxy is a sum of sheared Sersic profiles, each a function of one variable in Fourier space, so that what GalSim
computes anew for each image can be looked up. An image sampled at the points x is the sum over k of

    F((k r)^2) exp(-(k / k0)^(5/3)) sinc(kx p / 2) sinc(ky p / 2) cos(k . x),

where k r is stretched by the axis ratio and turned, k0 belongs to the point spread function (Fried 1966) and p is the
pixel. The sum is taken as it stands, at the pixels that are wanted and over all k where the transfer matters: there is
no aliasing to be added, and no pixel to be cropped. Profiles are the same at x and -x, so that the sum separates into
products of small matrices, cheaper than a fast transform of twice the side.
"""

from __future__ import annotations

import math
from typing import Dict, Sequence

import numpy as np

from siderostat.workloads.galaxy_images.catalogue import Galaxy
from siderostat.workloads.galaxy_images.making import Renderer
from siderostat.workloads.galaxy_images.survey import BANDS, PIXEL_SCALE_ARCSEC, PIXELS
from siderostat.workloads.galaxy_images.tables import OCTAVES, Tables, drawable_indices, transform_nodes

VERSION = 1
"""Of the renderer. Rises with every change that moves a pixel."""

LEAST_TRANSFER = 1e-6
"""Transfer of the point spread function beyond which k is left out: from 22 per arcsec on, 1.4 times Nyquist's."""

PERIODS = (128, 192, 256, 384, 512, 768, 1024)
"""Pixels after which an image may repeat itself, as a sum over discrete k makes it do."""

LEAST_BRIGHTNESS = 1e-5
"""Of the middle of the image: as much light may come in from its nearest repetition, which sets the period."""

_HALF = PIXELS // 2
_CELL_BITS = 7  # the lookup table has 2^7 cells to each factor of two of (k r)^2
_CELLS = (OCTAVES[1] - OCTAVES[0]) << _CELL_BITS
_MANTISSA_BITS, _EXPONENT_BIAS = 52, 1023  # of a float64
_POINTS = 1 << 15  # are worked on at a time: they stay in the cache of one core
_PSF_ARCSEC = 0.45  # about the half-light radius of point spread function and pixel


class KSpace(Renderer):
    """Looks up what GalSim would compute; within 2e-4 of the peak of GalSim's images, see ``errors.py``.

    Args:
        tables: what is looked up.
    """

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._lines = _lines(tables.transforms)
        self._grids: Dict[int, Grid] = {}

    def r_magnitude(self, galaxy: Galaxy) -> float:
        """See :meth:`Renderer.r_magnitude`."""
        return self._tables.r_magnitude(galaxy)

    def can_draw(self, galaxy: Galaxy) -> bool:
        """See :meth:`Renderer.can_draw`."""
        return self._tables.can_draw(galaxy)

    def draw_all(self, galaxies: Sequence[Galaxy]) -> np.ndarray:
        """See :meth:`Renderer.draw_all`. Sersic indices are those of :func:`tables.drawable_indices`, z is up to 10."""
        images = np.empty((len(galaxies), len(BANDS), PIXELS, PIXELS), np.float32)
        profiles = iter(self._profiles(galaxies))
        for image, galaxy in zip(images, galaxies):
            for part, component in enumerate(galaxy.components):
                electrons = self._tables.electrons(component, galaxy.redshift).astype(np.float32)[:, None, None]
                if part == 0:
                    np.multiply(electrons, next(profiles), out=image)
                else:
                    image += electrons * next(profiles)
        return images

    def _profiles(self, galaxies: Sequence[Galaxy]) -> np.ndarray:
        """Return images of unit flux of all components in turn, shape (components, 64, 64)."""
        row = self._tables.row
        components = [c for galaxy in galaxies for c in galaxy.components]
        rows = np.array([row(c.sersic_index) for c in components])
        shapes = np.array([(c.half_light_radius_arcsec, c.axis_ratio, c.angle_rad) for c in components])
        profiles = np.empty((len(components), PIXELS, PIXELS), np.float32)
        periods = _periods(rows, shapes)
        for period in np.unique(periods):
            grid = self._grid(int(period))
            members = np.flatnonzero(periods == period)
            for start in range(0, len(members), grid.at_a_time):
                some = members[start : start + grid.at_a_time]
                profiles[some] = grid.draw(self._lines, rows[some], shapes[some])
        return profiles

    def _grid(self, period: int) -> Grid:
        if period not in self._grids:
            self._grids[period] = Grid(period, self._tables.psf_k0)
        return self._grids[period]


class Grid:
    """The points k at which images of one period are summed: a quarter of the plane, for the rest is its mirror.

    Args:
        period: pixels after which an image repeats itself.
        psf_k0: scale of the point spread function's transfer, 1/arcsec.
    """

    def __init__(self, period: int, psf_k0: float) -> None:
        step = 2 * math.pi / (period * PIXEL_SCALE_ARCSEC)
        largest = psf_k0 * (-math.log(LEAST_TRANSFER)) ** (3 / 5)
        k = step * np.arange(int(largest / step) + 1)
        self._side = len(k)
        self.at_a_time = max(1, _POINTS // (2 * self._side**2))
        ky, kx = (axis.ravel() for axis in np.meshgrid(k, k, indexing="ij"))
        self._products = np.stack([kx * kx, ky * ky, kx * ky])
        pixel = np.sinc(k * PIXEL_SCALE_ARCSEC / (2 * math.pi))
        pixel[0] /= 2  # a point on an axis is its own mirror
        # The integral over k is a sum with step^2 / (2 pi)^2; twice, for k and -k; a pixel's flux is its area's.
        scale = 2 * (step * PIXEL_SCALE_ARCSEC / (2 * math.pi)) ** 2
        psf = np.exp(-((np.hypot(kx, ky) / psf_k0) ** (5 / 3)))
        self._transfer = (scale * np.outer(pixel, pixel).ravel() * psf).astype(np.float32)
        x = (np.arange(_HALF) + 0.5) * PIXEL_SCALE_ARCSEC
        self._cos, self._sin = (wave(np.outer(k, x)).astype(np.float32) for wave in (np.cos, np.sin))

    def draw(self, lines: np.ndarray, rows: np.ndarray, shapes: np.ndarray) -> np.ndarray:
        """Return images of unit flux, shape (profiles, 64, 64).

        Args:
            lines: transforms by Sersic index, from :func:`_lines`.
            rows: which of them, shape (profiles,).
            shapes: half-light radius in arcsec, axis ratio, angle of the major axis, shape (profiles, 3).
        """
        here, mirrored = self._transforms(lines, rows, shapes)
        # cos(k.x) at k and at its mirror image: cos cos -+ sin sin.
        even = self._sum((here + mirrored) * self._transfer, self._cos)
        odd = self._sum((here - mirrored) * self._transfer, self._sin)
        return _whole_plane(even - odd, even + odd)

    def _transforms(self, lines: np.ndarray, rows: np.ndarray, shapes: np.ndarray) -> np.ndarray:
        """Look up F at all (kx, ky) and all (-kx, ky), shape (2, profiles, points)."""
        squares = _stretches(shapes) @ self._products
        np.clip(squares, 2.0 ** OCTAVES[0], np.nextafter(2.0 ** OCTAVES[1], 0), out=squares)
        transforms: np.ndarray = squares.astype(np.float32)
        # The leading bits of a float are the number of its cell: no logarithm is needed.
        cells = squares.view(np.int64)
        cells >>= _MANTISSA_BITS - _CELL_BITS
        cells += (rows * _CELLS - ((_EXPONENT_BIAS + OCTAVES[0]) << _CELL_BITS))[:, None]
        transforms *= lines[1].take(cells)
        transforms += lines[0].take(cells)
        return transforms

    def _sum(self, spectra: np.ndarray, waves: np.ndarray) -> np.ndarray:
        """Sum spectra of shape (profiles, points) over k at the pixels x, y > 0, shape (profiles, 32, 32)."""
        rows = spectra.reshape(-1, self._side) @ waves
        return np.asarray(np.matmul(waves.T, rows.reshape(-1, self._side, _HALF)))


def _stretches(shapes: np.ndarray) -> np.ndarray:
    """What kx^2, ky^2, kx ky count in (k r)^2, at k and at (-kx, ky), shape (2, profiles, 3).

    A shear of constant area stretches the major axis to r / sqrt(q) and the minor one to r sqrt(q).
    """
    radius, ratio, angle = shapes.T
    major, minor = radius**2 / ratio, radius**2 * ratio
    cos, sin = np.cos(angle), np.sin(angle)
    cross = 2 * cos * sin * (major - minor)
    along_x, along_y = major * cos**2 + minor * sin**2, major * sin**2 + minor * cos**2
    return np.stack([np.stack([along_x, along_y, sign * cross], 1) for sign in (1, -1)])


def _whole_plane(same: np.ndarray, opposite: np.ndarray) -> np.ndarray:
    """Put images together from the quadrants where x and y have the same and opposite signs, shapes (n, 32, 32)."""
    images = np.empty((len(same), PIXELS, PIXELS), np.float32)
    images[:, _HALF:, _HALF:] = same
    images[:, :_HALF, :_HALF] = same[:, ::-1, ::-1]
    images[:, _HALF:, :_HALF] = opposite[:, :, ::-1]
    images[:, :_HALF, _HALF:] = opposite[:, ::-1]
    return images


def _lines(transforms: np.ndarray) -> np.ndarray:
    """Return intercept and slope of F as a function of (k r)^2 in each cell, float32 of shape (2, indices * cells).

    F at the edges of the cells is cubic through the four nearest nodes.
    """
    nodes = transform_nodes()
    intervals = len(nodes) - 1
    each = _CELLS // intervals
    edges = nodes[:-1, None] + np.diff(nodes)[:, None] * np.arange(each + 1) / each
    first = np.clip(np.arange(intervals) - 1, 0, intervals - 3)
    near = np.stack([nodes[first + i] for i in range(4)])[:, :, None]
    values = np.zeros((len(transforms), *edges.shape))
    for i in range(4):
        weight = np.prod([(edges - near[j]) / (near[i] - near[j]) for j in range(4) if j != i], axis=0)
        values += weight * transforms[:, first + i][:, :, None]
    slopes = np.diff(values) / np.diff(edges)
    intercepts = values[:, :, :-1] - slopes * edges[:, :-1]
    return np.stack([intercepts.ravel(), slopes.ravel()]).astype(np.float32)


def _periods(rows: np.ndarray, shapes: np.ndarray) -> np.ndarray:
    """Return the shortest of :data:`PERIODS` for each profile; the longest where none suffices.

    The surface brightness is I0 exp(-b (R / r)^(1/n)), b = 2 n - 1/3 + 4 / (405 n) (Ciotti & Bertin 1999), and that
    in the middle of the image about that of a Gaussian with the widths of profile and point spread function.
    """
    index = np.array(drawable_indices())[rows]
    radius, ratio, _ = shapes.T
    b = 2 * index - 1 / 3 + 4 / (405 * index)
    centre = b ** (2 * index) / (2 * math.pi * index * np.array([math.gamma(2 * n) for n in index])) / radius**2
    widths = (np.hypot(radius * np.sqrt(stretch), _PSF_ARCSEC) for stretch in (ratio, 1 / ratio))
    peak = 1 / (2 * math.pi * math.prod(widths))
    reach = radius / np.sqrt(ratio) * (np.log(np.maximum(centre / (LEAST_BRIGHTNESS * peak), 1)) / b) ** index
    place = np.searchsorted(PERIODS, reach / PIXEL_SCALE_ARCSEC + _HALF)
    return np.asarray(np.array(PERIODS)[np.minimum(place, len(PERIODS) - 1)])
