"""A Gaussian random field in a periodic box, and how matter moves in the approximation of Zel'dovich (1970)."""

from __future__ import annotations

from typing import Tuple

import numpy as np

SINGLE = np.float32


class LinearField:
    """One realisation of the linear matter density at redshift 0, kept in Fourier space: 8 bytes for each half cell.

    Args:
        rng: where the realisation comes from.
        box_mpc_h: side of the box, Mpc/h.
        mesh: cells along a side, even.
        wave_number, power: the linear power spectrum, h/Mpc and (Mpc/h)^3.
    """

    def __init__(
        self, rng: np.random.Generator, box_mpc_h: float, mesh: int, wave_number: np.ndarray, power: np.ndarray
    ) -> None:
        from scipy import fft

        self.box_mpc_h = box_mpc_h
        self.mesh = mesh
        waves = fft.rfftn(rng.standard_normal((mesh,) * 3, dtype=SINGLE), workers=1)
        log_k, log_amplitude = np.log(wave_number), 0.5 * np.log(power)
        for x, plane in zip(_frequencies(mesh, box_mpc_h), waves):  # plane by plane, so that little memory is needed
            squared = x**2 + _plane_squared(mesh, box_mpc_h)
            squared[squared == 0] = 1.0
            plane *= np.exp(np.interp(0.5 * np.log(squared), log_k, log_amplitude)).astype(SINGLE)
        waves *= SINGLE((mesh / box_mpc_h) ** 1.5)
        waves[0, 0, 0] = 0
        self._waves = waves

    def smoothed(self, mesh: int, radius_mpc_h: float) -> np.ndarray:
        """Return the density after a Gaussian filter, on a mesh that is as fine or coarser; float32, (mesh,) * 3.

        Waves that the coarser mesh cannot hold are left out.
        """
        from scipy import fft

        half = mesh // 2
        keep = np.r_[0:half, self.mesh - half : self.mesh]
        waves = self._waves[np.ix_(keep, keep, np.arange(half + 1))]
        squared = _frequencies(mesh, self.box_mpc_h) ** 2
        filters = np.exp(-0.5 * radius_mpc_h**2 * squared).astype(SINGLE)
        waves *= filters[:, None, None] * filters[None, :, None] * filters[None, None, : half + 1]
        density = fft.irfftn(waves, s=(mesh,) * 3, workers=1, overwrite_x=True)
        return np.asarray(density * SINGLE((mesh / self.mesh) ** 3))

    def displacement(self, axis: int) -> np.ndarray:
        """Return how far the matter of each cell has moved along an axis, Mpc/h; float32, (mesh,) * 3.

        Psi(k) = i k / k^2 delta(k): Zel'dovich (1970), A&A 5, 84.
        """
        from scipy import fft

        frequencies = _frequencies(self.mesh, self.box_mpc_h)
        along = frequencies.copy()
        along[self.mesh // 2] = 0.0  # the derivative of the highest wave a mesh holds is not defined
        moved = np.empty_like(self._waves)
        for i, (x, plane) in enumerate(zip(frequencies, self._waves)):
            squared = x**2 + _plane_squared(self.mesh, self.box_mpc_h)
            squared[squared == 0] = 1.0
            if axis == 0:
                component = np.full_like(squared, along[i])
            elif axis == 1:
                component = np.broadcast_to(along[:, None], squared.shape)
            else:
                component = np.broadcast_to(along[None, : self.mesh // 2 + 1], squared.shape)
            moved[i] = plane * (1j * component / squared).astype(np.complex64)
        return np.asarray(fft.irfftn(moved, s=(self.mesh,) * 3, workers=1, overwrite_x=True))


def cell_of(positions: np.ndarray, box_mpc_h: float, mesh: int) -> Tuple[np.ndarray, ...]:
    """Return the cell that each position lies in, one array of indices per axis. Positions are within the box."""
    return tuple(np.minimum((positions * (mesh / box_mpc_h)).astype(np.intp), mesh - 1).T)


def _frequencies(mesh: int, box_mpc_h: float) -> np.ndarray:
    return np.asarray(2 * np.pi * np.fft.fftfreq(mesh, box_mpc_h / mesh))


def _plane_squared(mesh: int, box_mpc_h: float) -> np.ndarray:
    frequencies = _frequencies(mesh, box_mpc_h) ** 2
    return np.asarray(frequencies[:, None] + frequencies[None, : mesh // 2 + 1])
