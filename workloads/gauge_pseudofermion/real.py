"""Wilson fermions in real arithmetic: no complex numbers, static shapes, half-spinors, and only sites that count.

A quark field on the even or the odd sites is (2, 4, 3, sites, batch): real and imaginary parts, spin, colour. A hop
first projects on the two independent components of spin, (1 -+ gamma_mu) psi, and so multiplies half as much.
"""

from __future__ import annotations

from typing import Tuple

import numpy as np
import torch
from torch import Tensor

from siderostat.workloads.gauge_flow import pairs
from siderostat.workloads.gauge_flow.group import COLOURS, DIMENSIONS, PLANES
from siderostat.workloads.gauge_flow.lattice import Extents, Neighbours
from siderostat.workloads.gauge_pseudofermion import dirac
from siderostat.workloads.gauge_pseudofermion.conditional import EVEN, ODD
from siderostat.workloads.gauge_pseudofermion.dirac import HOPS, SPINS
from siderostat.workloads.gauge_pseudofermion.wilson import Pair, WilsonFermions

HALF = SPINS // 2
_SITES = 3  # the axis of a quark field
_PLAIN = (0, 1, SPINS, SPINS + 1)  # of real parts of spin, then imaginary ones, those of the upper half
_ROTATED = (2, 3, SPINS + 2, SPINS + 3)


class RealFermions(WilsonFermions):
    """Quarks where complex numbers do not exist. Tables are made once; of each of two, even sites come first.

    Args:
        extents: of the lattice, all even.
    """

    sites: Tensor  # numbers of the even and of the odd sites, (2, V / 2)
    ahead: Tensor  # of the link of each hop from x + mu, (2, 4 * V / 2)
    behind: Tensor  # of the link of each hop from x - mu, (2, 4 * V / 2)
    ahead_sign: Tensor  # of these links at the boundary, (2, 1, 1, 1, 4, V / 2, 1)
    behind_sign: Tensor  # likewise, with the sign of complex conjugation, (2, 2, 1, 1, 4, V / 2, 1)
    corners: Tensor  # the four links of each plaquette, (2, 4, 6 * V / 2)
    whole: Tensor  # of each hop the rows of the neighbour's quark, (2, 8 * 24 * V / 2)
    upper: Tensor  # the rows of its upper half of spin, (2, 8 * 12 * V / 2)
    lower: Tensor  # the rows that are added to these, (2, 8 * 12 * V / 2)
    lower_sign: Tensor  # with which sign, (8, 2, 2, 1, 1, 1)
    rebuilt: Tensor  # of each hop which component of the half-spinor the lower half of spin is, (32,)
    rebuilt_sign: Tensor  # with which sign, (8, 2, 2, 1, 1, 1)
    chirality: Tensor  # (4, 1, 1, 1)

    def __init__(self, extents: Extents) -> None:
        super().__init__()
        even = dirac.is_even(extents).ravel()
        sites = np.stack([even.nonzero()[0], (~even).nonzero()[0]])
        near = Neighbours(extents)
        self._number("sites", sites)
        self._keep_links(near, dirac.with_boundary(np.ones((DIMENSIONS, *extents, 1, 1))).ravel(), sites)
        self._keep_spin(near, sites)
        self._value("chirality", np.real(np.diag(dirac.GAMMA5))[:, None, None, None])

    def _number(self, name: str, numbers: np.ndarray) -> None:
        self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(numbers, np.int32)), persistent=False)

    def _value(self, name: str, values: np.ndarray) -> None:
        self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(values, np.float32)), persistent=False)

    def _keep_links(self, near: Neighbours, boundary: np.ndarray, sites: np.ndarray) -> None:
        mu = np.arange(DIMENSIONS)[None, :, None]
        ahead = near.link(mu, sites[:, None])
        behind = near.link(mu, np.stack(near.backward)[:, sites].swapaxes(0, 1))
        self._number("ahead", ahead.reshape(2, -1))
        self._number("behind", behind.reshape(2, -1))
        self._value("ahead_sign", boundary[ahead][:, None, None, None, ..., None])
        conjugated = np.array([1, -1])[:, None, None, None, None, None]
        self._value("behind_sign", conjugated * boundary[behind][:, None, None, None, ..., None])
        step = np.stack(near.forward)
        corners = [
            [near.link(a, sites), near.link(b, step[a, sites]), near.link(b, sites), near.link(a, step[b, sites])]
            for a, b in PLANES
        ]
        self._number("corners", np.array(corners).transpose(2, 1, 0, 3).reshape(2, 4, -1))

    def _keep_spin(self, near: Neighbours, sites: np.ndarray) -> None:
        """Read off the projections what is added to what: every row of theirs has one entry in each half of spin."""
        forms = np.stack([real_form(matrix) for matrix in dirac.PROJECTIONS])
        of_lower = forms[:, _PLAIN][:, :, _ROTATED]  # how the lower half of spin enters the half-spinor
        of_half = forms[:, _ROTATED][:, :, _PLAIN]  # and how it is made of it afterwards
        partner, source = (np.abs(form).argmax(-1) for form in (of_lower, of_half))
        self._value("lower_sign", of_lower.sum(-1).reshape(HOPS, 2, HALF, 1, 1, 1))
        self._value("rebuilt_sign", of_half.sum(-1).reshape(HOPS, 2, HALF, 1, 1, 1))
        self._number("rebuilt", (np.arange(HOPS)[:, None] * 2 * HALF + source).ravel())
        steps = np.stack([step[mu] for mu in range(DIMENSIONS) for step in (near.forward, near.backward)])
        place = np.empty(near.volume, np.int64)  # of each site among those of its parity
        place[sites] = np.arange(sites.shape[1])
        arrivals = place[steps[:, sites]].swapaxes(0, 1)  # (2, 8, V / 2)
        every = np.broadcast_to(np.arange(2 * SPINS), (HOPS, 2 * SPINS))
        plain = np.broadcast_to(np.array(_PLAIN), (HOPS, 2 * HALF))
        for name, component in (("whole", every), ("upper", plain), ("lower", np.array(_ROTATED)[partner])):
            row = component[..., None] * COLOURS + np.arange(COLOURS)  # (8, components, 3)
            rows = row[None, ..., None] * sites.shape[1] + arrivals[:, :, None, None]
            self._number(name, rows.reshape(2, -1))

    def taken(self, spinors: Tensor) -> Pair:
        """See :class:`WilsonFermions`."""
        all_sites = spinors.flatten(1, DIMENSIONS).permute(4, 2, 3, 1, 0).contiguous()
        return all_sites.index_select(_SITES, self.sites[EVEN]), all_sites.index_select(_SITES, self.sites[ODD])

    def transporters(self, links: Tensor) -> Pair:
        """See :class:`WilsonFermions`. Shape (8, 2, 3, 3, sites, batch), each the transpose of what it multiplies."""
        flat = _flat(links)
        crossed = flat.transpose(1, 2).contiguous()
        return self._arriving(flat, crossed, EVEN), self._arriving(flat, crossed, ODD)

    def _arriving(self, flat: Tensor, crossed: Tensor, onto: int) -> Tensor:
        shape = (2, COLOURS, COLOURS, DIMENSIONS, -1, flat.shape[-1])
        ahead = crossed.index_select(_SITES, self.ahead[onto]).view(shape) * self.ahead_sign[onto]
        behind = flat.index_select(_SITES, self.behind[onto]).view(shape) * self.behind_sign[onto]
        both = torch.stack((ahead, behind), 4)  # (2, 3, 3, 4, 2, sites, batch)
        return both.permute(3, 4, 0, 1, 2, 5, 6).flatten(0, 1).contiguous()

    def plaquettes(self, links: Tensor) -> Pair:
        """See :class:`WilsonFermions`. Shape (6, sites, batch)."""
        flat = _flat(links)
        return self._plaquettes(flat, EVEN), self._plaquettes(flat, ODD)

    def _plaquettes(self, flat: Tensor, onto: int) -> Tensor:
        a, b, c, d = (flat.index_select(_SITES, numbers) for numbers in self.corners[onto])
        traces = pairs.trace_of_product(pairs.product(a, b), pairs.product(c, d))
        return traces[0].view(len(PLANES), -1, flat.shape[-1]) / COLOURS

    def hop(self, transporters: Pair, psi: Tensor, onto: int) -> Tensor:
        """See :class:`WilsonFermions`."""
        rows = psi.reshape(-1, psi.shape[-1])
        shape = (HOPS, 2, HALF, COLOURS, -1, psi.shape[-1])
        upper, lower = (rows.index_select(0, table[onto]).view(shape) for table in (self.upper, self.lower))
        half = pairs.product(torch.addcmul(upper, lower, self.lower_sign), transporters[onto])
        rebuilt = half.flatten(0, 2).index_select(0, self.rebuilt).view(half.shape)
        return torch.cat((half.sum(0), (rebuilt * self.rebuilt_sign).sum(0)), 1)

    def mixed(self, transporters: Pair, psi: Tensor, onto: int, hops: Tensor) -> Tensor:
        """See :class:`WilsonFermions`."""
        rows = psi.reshape(-1, psi.shape[-1])
        arrived = rows.index_select(0, self.whole[onto]).view(HOPS, 2, SPINS, COLOURS, -1, psi.shape[-1])
        arrived = pairs.product(arrived, transporters[onto])
        re, im = hops.unbind(1)
        matrix = torch.stack((torch.stack((re, -im), 2), torch.stack((im, re), 2)))  # (2, 8, 4, 2, 4)
        matrix = matrix.permute(0, 2, 1, 3, 4).reshape(2 * SPINS, HOPS * 2 * SPINS)
        return (matrix @ arrived.flatten(0, 2).flatten(1)).view(psi.shape)

    def scaled(self, psi: Tensor, loops: Pair, onto: int, weight: Tensor, bias: Tensor) -> Tuple[Tensor, Tensor]:
        """See :class:`WilsonFermions`."""
        plaquettes = loops[onto]
        a = torch.addmm(bias[:, None], weight, plaquettes.flatten(1)).view(SPINS, *plaquettes.shape[1:])
        return torch.exp(a)[:, None] * psi, 2 * COLOURS * a.sum((0, 1))

    def gamma5(self, psi: Tensor) -> Tensor:
        """See :class:`WilsonFermions`."""
        return self.chirality * psi

    def squared(self, psi: Tensor) -> Tensor:
        """See :class:`WilsonFermions`. Shape (batch,)."""
        return (psi * psi).sum((0, 1, 2, 3))

    def excess_of(self, chi: Tensor, psi: Tensor) -> Tensor:
        """See :class:`WilsonFermions`."""
        return (chi * chi - psi * psi).sum((0, 1, 2, 3))

    def action(self, loops: Pair, beta: float) -> Tensor:
        """See :class:`WilsonFermions`."""
        return -beta * (loops[EVEN] + loops[ODD]).sum((0, 1))


def real_form(matrix: np.ndarray) -> np.ndarray:
    """Return the matrix that does to real and then imaginary parts what a complex one does, (n, n) to (2n, 2n)."""
    re, im = np.real(matrix), np.imag(matrix)
    return np.block([[re, -im], [im, re]])


def _flat(links: Tensor) -> Tensor:
    """Return links as (2, 3, 3, links, batch)."""
    return links.flatten(1, 1 + DIMENSIONS).permute(4, 2, 3, 1, 0).contiguous()


def fermions(extents: Extents) -> RealFermions:
    """Return quarks on a lattice."""
    return RealFermions(extents)
