"""The Wilson operator in NumPy: the plain reference that the formulations in PyTorch are compared with.

Quarks psi have shape (..., L0, L1, L2, L3, 4, 3), spin before colour; gauge fields are those of ``gauge_flow.group``.
Lattices are periodic in the first three directions, and quarks are antiperiodic in the last, which is time. With the
hopping parameter kappa and r = 1 (Wilson 1977; Gattringer and Lang 2010, chapter 5), D = 1 - kappa H,

    (H psi)(x) = sum_mu (1 - gamma_mu) U_mu(x) psi(x + mu) + (1 + gamma_mu) U_mu(x - mu)^dagger psi(x - mu).

Gamma matrices are those of DeGrand and Rossi, Hermitian and chiral: gamma_5 is diagonal, so that (1 -+ gamma_mu)
leaves two independent components of spin.
"""

from __future__ import annotations

from typing import Callable, NamedTuple, Tuple

import numpy as np

from siderostat.workloads.gauge_flow.group import DIMENSIONS, dagger, direction, shifted

SPINS = 4
HOPS = 2 * DIMENSIONS
"""From the neighbours x + 0, x - 0, x + 1, x - 1, and so on."""

_UPPER = np.array(
    [[[0, 1j], [1j, 0]], [[0, -1], [1, 0]], [[1j, 0], [0, -1j]], [[1, 0], [0, 1]]], np.complex128
)  # fmt: skip
_NOTHING = np.zeros((2, 2))
GAMMA = np.stack([np.block([[_NOTHING, upper], [upper.conj().T, _NOTHING]]) for upper in _UPPER])
GAMMA5: np.ndarray = GAMMA[0] @ GAMMA[1] @ GAMMA[2] @ GAMMA[3]
PROJECTIONS = np.stack([np.eye(SPINS) - sign * gamma for gamma in GAMMA for sign in (1, -1)])
"""Of each hop the matrix of spin, (8, 4, 4)."""

_FIELD = (-6, -5, -4, -3, -2, -1)  # the axes of a quark field


class Solution(NamedTuple):
    """What a solver found, and how well."""

    psi: np.ndarray
    iterations: int
    residual: float  # the largest |phi - D psi| / |phi| of all fields


def with_boundary(links: np.ndarray) -> np.ndarray:
    """Return links of which those across the end of time have the other sign, so that quarks are antiperiodic."""
    turned = np.array(links)
    last = (slice(None),) * (DIMENSIONS - 1) + (-1,)
    turned[(..., DIMENSIONS - 1, *last, slice(None), slice(None))] *= -1
    return turned


def transported(links: np.ndarray, psi: np.ndarray, hop: int) -> np.ndarray:
    """Return a neighbour's quark at every site, in that site's gauge.

    Args:
        links: with their boundary, (..., 4, L0, L1, L2, L3, 3, 3).
        psi: of the whole lattice.
        hop: from which neighbour, see :data:`HOPS`.
    """
    mu, is_backward = divmod(hop, 2)
    of_mu = direction(links, mu)
    if is_backward:
        here: np.ndarray = np.einsum("...ij,...sj->...si", dagger(of_mu), psi)
        return shifted(here, mu, -1)
    moved: np.ndarray = np.einsum("...ij,...sj->...si", of_mu, shifted(psi, mu))
    return moved


def hopping(links: np.ndarray, psi: np.ndarray) -> np.ndarray:
    """Return H psi. It takes fields on even sites to fields on odd ones and back."""
    turned = with_boundary(links)
    total = np.zeros(np.broadcast_shapes(psi.shape, (*links.shape[:-7], *psi.shape[-6:])), np.complex128)
    for hop in range(HOPS):
        total += np.einsum("st,...tc->...sc", PROJECTIONS[hop], transported(turned, psi, hop))
    return total


def wilson(links: np.ndarray, psi: np.ndarray, kappa: float) -> np.ndarray:
    """Return D psi."""
    applied: np.ndarray = psi - kappa * hopping(links, psi)
    return applied


def even_odd(links: np.ndarray, psi: np.ndarray, kappa: float) -> np.ndarray:
    """Return the preconditioned operator, (1 - kappa^2 H_eo H_oe) psi, of a field that is 0 on odd sites.

    It has the determinant of D (DeGrand 1988).
    """
    applied: np.ndarray = psi - kappa**2 * hopping(links, hopping(links, psi))
    return applied


def gamma5(psi: np.ndarray) -> np.ndarray:
    """Return gamma_5 psi."""
    turned: np.ndarray = np.real(np.diag(GAMMA5))[:, None] * psi
    return turned


def is_even(extents: Tuple[int, ...]) -> np.ndarray:
    """Return which sites have an even sum of coordinates, boolean of shape (L0, L1, L2, L3, 1, 1).

    Raises:
        ValueError: if an extent is odd: neighbours across the boundary would then have the same parity.
    """
    if any(extent % 2 for extent in extents):
        raise ValueError(f"even and odd sites alternate on even extents only, and not on {extents}")
    even: np.ndarray = np.indices(extents).sum(0)[..., None, None] % 2 == 0
    return even


def transformed(psi: np.ndarray, g: np.ndarray) -> np.ndarray:
    """Return the gauge transform g(x) psi(x), g of shape (..., L0, L1, L2, L3, 3, 3)."""
    turned: np.ndarray = np.einsum("...ij,...sj->...si", g, psi)
    return turned


def dense(operator: Callable[[np.ndarray], np.ndarray], extents: Tuple[int, ...]) -> np.ndarray:
    """Return the matrix of an operator, (n, n) with n = 12 V; only for tiny lattices."""
    shape = (*extents, SPINS, 3)
    n = int(np.prod(shape))
    matrix: np.ndarray = operator(np.eye(n, dtype=np.complex128).reshape(n, *shape)).reshape(n, n).T
    return matrix


def solve(
    links: np.ndarray,
    phi: np.ndarray,
    kappa: float,
    is_preconditioned: bool = True,
    tolerance: float = 1e-12,
    limit: int = 1000,
) -> Solution:
    """Solve D psi = phi by conjugate gradients on the normal equations, D^dagger D psi = D^dagger phi.

    Preconditioned, the even half of psi solves (1 - kappa^2 H_eo H_oe) psi_e = phi_e + kappa H_eo phi_o, and the odd
    half is phi_o + kappa H_oe psi_e. All fields go on until the last of them is as good as asked for.

    Args:
        links: one field, or as many as there are right-hand sides.
        phi: right-hand sides.
        kappa: the hopping parameter.
        is_preconditioned: whether the even-odd operator is inverted in place of D.
        tolerance: of the residual of what is inverted.
        limit: of iterations.

    Raises:
        ArithmeticError: if it takes more iterations.
    """
    if is_preconditioned:
        even = is_even(links.shape[-6:-2])
        wanted = np.where(even, phi + kappa * hopping(links, np.where(even, 0, phi)), 0)
        of_even, iterations = _normal(lambda v: even_odd(links, v, kappa), wanted, tolerance, limit)
        psi = np.where(even, of_even, phi + kappa * hopping(links, of_even))
    else:
        psi, iterations = _normal(lambda v: wilson(links, v, kappa), phi, tolerance, limit)
    off = _squared(phi - wilson(links, psi, kappa)) / _squared(phi)
    return Solution(psi, iterations, float(np.sqrt(off.max())))


def _normal(
    operator: Callable[[np.ndarray], np.ndarray], wanted: np.ndarray, tolerance: float, limit: int
) -> Tuple[np.ndarray, int]:
    """Return the solution of a gamma_5-Hermitian operator, and the iterations it took (Hestenes and Stiefel 1952)."""
    x, rest = np.zeros_like(wanted), wanted
    gradient = step = gamma5(operator(gamma5(rest)))
    size, bar = _squared(gradient), tolerance**2 * _squared(wanted)
    for iteration in range(limit):
        if (_squared(rest) <= bar).all():
            return x, iteration
        image = operator(step)
        far = size / np.maximum(_squared(image), np.finfo(float).tiny)
        x, rest = x + far * step, rest - far * image
        gradient = gamma5(operator(gamma5(rest)))
        before, size = size, _squared(gradient)
        step = gradient + size / np.maximum(before, np.finfo(float).tiny) * step
    raise ArithmeticError(f"the solver is not within {tolerance} after {limit} iterations")


def _squared(psi: np.ndarray) -> np.ndarray:
    """Return |psi|^2 of each field, with its axes kept."""
    total: np.ndarray = (np.real(psi) ** 2 + np.imag(psi) ** 2).sum(_FIELD, keepdims=True)
    return total
