"""SU(3) matrices and gauge fields as NumPy arrays.

A gauge field U has shape (..., 4, L0, L1, L2, L3, 3, 3): U_mu(x) is the parallel transport from x + mu to x, and a
gauge transformation g(x) takes it to g(x) U_mu(x) g(x + mu)^dagger. The lattice is periodic.
"""

from __future__ import annotations

from typing import Tuple

import numpy as np

DIMENSIONS = 4
COLOURS = 3
PLANES = tuple((mu, nu) for mu in range(DIMENSIONS) for nu in range(mu))
"""Of plaquettes: (1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (3, 2)."""

_SITES = range(-2 - DIMENSIONS, -2)  # the axes of the lattice, counted from the end


def haar(rng: np.random.Generator, shape: Tuple[int, ...]) -> np.ndarray:
    """Draw SU(3) matrices from the Haar measure; complex128 of shape (*shape, 3, 3).

    Gram-Schmidt of two Gaussian vectors is uniform on orthonormal pairs; the third row follows from the determinant.
    """
    first, second = rng.standard_normal((2, *shape, COLOURS)) + 1j * rng.standard_normal((2, *shape, COLOURS))
    return completed(first, second)


def completed(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return SU(3) matrices whose first two rows span what two vectors of shape (..., 3) span."""
    first = first / np.linalg.norm(first, axis=-1, keepdims=True)
    second = second - (first.conj() * second).sum(-1, keepdims=True) * first
    second = second / np.linalg.norm(second, axis=-1, keepdims=True)
    return np.stack([first, second, np.cross(first, second).conj()], -2)


def dagger(matrices: np.ndarray) -> np.ndarray:
    """Return Hermitian conjugates, laid out in order: products of others take twice as long."""
    return np.ascontiguousarray(matrices.conj().swapaxes(-1, -2))


def shifted(field: np.ndarray, mu: int, steps: int = 1) -> np.ndarray:
    """Return M(x + steps mu) for a field of matrices M(x)."""
    return np.roll(field, -steps, _SITES[mu])


def transformed(links: np.ndarray, g: np.ndarray) -> np.ndarray:
    """Return the gauge transform of a field, g of shape (..., L0, L1, L2, L3, 3, 3)."""
    return np.stack([g @ direction(links, mu) @ dagger(shifted(g, mu)) for mu in range(DIMENSIONS)], _SITES[0] - 1)


def direction(links: np.ndarray, mu: int) -> np.ndarray:
    """Return the links of one direction, (..., L0, L1, L2, L3, 3, 3)."""
    of_mu: np.ndarray = np.take(links, mu, _SITES[0] - 1)
    return of_mu


def plaquettes(links: np.ndarray) -> np.ndarray:
    """Return Re tr P / 3 of all plaquettes, shape (..., 6, L0, L1, L2, L3), planes as in :data:`PLANES`."""
    traces = []
    for mu, nu in PLANES:
        a, b = direction(links, mu), direction(links, nu)
        one, other = a @ shifted(b, mu), b @ shifted(a, nu)
        traces.append(np.einsum("...ij,...ij->...", one, other.conj()).real / COLOURS)
    return np.stack(traces, -1 - DIMENSIONS)


def mean_plaquette(links: np.ndarray) -> np.ndarray:
    """Return the mean of Re tr P / 3 over a field, shape (...)."""
    mean: np.ndarray = plaquettes(links).mean((-5, -4, -3, -2, -1))
    return mean


def distance_from_group(matrices: np.ndarray) -> float:
    """Return the largest entry of U U^dagger - 1 and of det U - 1: 0 for matrices of SU(3)."""
    unitarity = np.abs(matrices @ dagger(matrices) - np.eye(COLOURS)).max()
    return float(max(unitarity, np.abs(np.linalg.det(matrices) - 1).max()))
