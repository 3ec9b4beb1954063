"""A heat bath of the SU(3) Wilson action, the flow's independent witness.

Cabibbo and Marinari (1982): each link is multiplied by elements of three SU(2) subgroups, each drawn from its
conditional distribution. Quaternions come from Kennedy and Pendleton (1985), or from Creutz (1980) where the coupling
is weak and the former would reject nearly everything. Over-relaxation in the same subgroups (Creutz 1987) lies between.
Many chains run side by side as NumPy arrays, and all links of one direction and parity change at once.
"""

from __future__ import annotations

from typing import NamedTuple, Tuple

import numpy as np

from siderostat.workloads.gauge_flow import group
from siderostat.workloads.gauge_flow.group import COLOURS, DIMENSIONS, dagger
from siderostat.workloads.gauge_flow.lattice import Extents, Neighbours

SUBGROUPS = ((0, 1), (0, 2), (1, 2))
WEAK = 1.6  # coupling of a subgroup below which Creutz's proposal is accepted more often


class Plaquette(NamedTuple):
    """A mean plaquette <Re tr P> / 3 with its standard error."""

    mean: float
    error: float


class HeatBath:
    """Chains of gauge fields, started from random ones.

    Args:
        extents: of the lattice, all even: links of one parity must not be neighbours.
        beta: of the action S = -(beta / 3) sum Re tr P.
        chains: that run side by side.
        seed: of everything.
        over_relaxation: sweeps of it after each heat-bath sweep.

    Raises:
        ValueError: if an extent is odd.
    """

    def __init__(self, extents: Extents, beta: float, chains: int, seed: int, over_relaxation: int = 1) -> None:
        if any(extent % 2 for extent in extents):
            raise ValueError(f"the heat bath needs even extents and not {extents}")
        self._extents, self._beta, self._over_relaxation = extents, beta, over_relaxation
        self._rng = np.random.default_rng(seed)
        self._near = Neighbours(extents)
        parity = np.indices(extents).sum(0).ravel() % 2
        self._sites = [np.flatnonzero(parity == p) for p in (0, 1)]
        self._links = group.haar(self._rng, (chains, DIMENSIONS, self._near.volume))

    @property
    def links(self) -> np.ndarray:
        """The fields, complex128 of shape (chains, 4, *extents, 3, 3)."""
        return self._links.reshape(*self._links.shape[:2], *self._extents, COLOURS, COLOURS)

    def run(self, updates: int) -> None:
        """Do one heat-bath sweep and those of over-relaxation, ``updates`` times."""
        for _ in range(updates):
            self._sweep(is_relaxing=False)
            for _ in range(self._over_relaxation):
                self._sweep(is_relaxing=True)
        self._links = group.completed(self._links[..., 0, :], self._links[..., 1, :])  # rounding adds up

    def measure(self, updates: int, discarded: int) -> Plaquette:
        """Return the mean plaquette of all chains after every update; chains are independent, which gives the error."""
        self.run(discarded)
        found = []
        for _ in range(updates):
            self.run(1)
            found.append(group.mean_plaquette(self.links))
        of_chains = np.mean(found, 0)
        return Plaquette(float(of_chains.mean()), float(of_chains.std(ddof=1) / np.sqrt(len(of_chains))))

    def _sweep(self, is_relaxing: bool) -> None:
        for mu in range(DIMENSIONS):
            for sites in self._sites:
                changed = self._links[:, mu, sites]
                staples = self._staples(mu, sites)
                for subgroup in SUBGROUPS:
                    self._update(changed, staples, subgroup, is_relaxing)
                self._links[:, mu, sites] = changed

    def _staples(self, mu: int, sites: np.ndarray) -> np.ndarray:
        """Return the sum A of what closes each link to its six plaquettes: the action has Re tr U A."""
        u, near = self._links, self._near
        total = np.zeros((len(u), len(sites), COLOURS, COLOURS), complex)
        for nu in range(DIMENSIONS):
            if nu == mu:
                continue
            ahead, below = near.forward[mu][sites], near.backward[nu][sites]
            total += u[:, nu, ahead] @ dagger(u[:, nu, sites] @ u[:, mu, near.forward[nu][sites]])
            total += dagger(u[:, mu, below] @ u[:, nu, near.forward[mu][below]]) @ u[:, nu, below]
        return total

    def _update(self, links: np.ndarray, staples: np.ndarray, subgroup: Tuple[int, int], is_relaxing: bool) -> None:
        """Multiply links, in place, from the left by an element of the subgroup of two rows."""
        rows = links.take(subgroup, -2)
        w = rows @ staples.take(subgroup, -1)
        quaternion = 0.5 * np.stack(
            [
                np.real(w[..., 0, 0] + w[..., 1, 1]),
                np.imag(w[..., 0, 1] + w[..., 1, 0]),
                np.real(w[..., 0, 1] - w[..., 1, 0]),
                np.imag(w[..., 0, 0] - w[..., 1, 1]),
            ]
        )
        size = np.maximum(np.linalg.norm(quaternion, axis=0), 1e-30)
        back = quaternion / size * np.array([1, -1, -1, -1]).reshape(4, 1, 1)
        drawn = back if is_relaxing else self._drawn(2 * self._beta / COLOURS * size)
        a0, a1, a2, a3 = _multiplied(drawn, back)[..., None]
        links[..., subgroup[0], :] = (a0 + 1j * a3) * rows[..., 0, :] + (a2 + 1j * a1) * rows[..., 1, :]
        links[..., subgroup[1], :] = (-a2 + 1j * a1) * rows[..., 0, :] + (a0 - 1j * a3) * rows[..., 1, :]

    def _drawn(self, coupling: np.ndarray) -> np.ndarray:
        """Draw unit quaternions with density exp(coupling r0) in the Haar measure, shape (4, ...)."""
        r0 = self._first_components(coupling.ravel()).reshape(coupling.shape)
        direction = self._rng.standard_normal((3, *coupling.shape))
        direction *= np.sqrt(np.maximum(1 - r0 * r0, 0)) / np.linalg.norm(direction, axis=0)
        return np.concatenate([r0[None], direction])

    def _first_components(self, coupling: np.ndarray) -> np.ndarray:
        """Draw r0 in [-1, 1] with density sqrt(1 - r0^2) exp(coupling r0)."""
        coupling = np.maximum(coupling, 1e-8)
        r0 = np.empty_like(coupling)
        pending = np.arange(len(coupling))
        while len(pending):
            a = coupling[pending]
            u = self._rng.random((4, len(pending)))
            creutz = 1 + np.log1p(np.expm1(-2 * a) * u[0]) / a
            loss = -(np.log1p(-u[0]) + np.log1p(-u[1]) * np.cos(2 * np.pi * u[2]) ** 2) / a  # of Kennedy and Pendleton
            is_weak = a < WEAK
            proposed = np.where(is_weak, creutz, 1 - loss)
            accepted = u[3] ** 2 <= np.where(is_weak, 1 - creutz * creutz, 1 - 0.5 * loss)
            r0[pending[accepted]] = proposed[accepted]
            pending = pending[~accepted]
        return r0


def _multiplied(q: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Return the product of quaternions q_0 + i q.sigma, (4, ...)."""
    vector = q[:1] * p[1:] + p[:1] * q[1:] - np.cross(q[1:], p[1:], axis=0)
    return np.concatenate([q[:1] * p[:1] - (q[1:] * p[1:]).sum(0, keepdims=True), vector])
