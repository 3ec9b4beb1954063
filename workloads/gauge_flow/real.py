"""The flow in real arithmetic: static shapes, no complex numbers, no decomposition, and nothing that nobody reads.

Links are (2, 3, 3, links, batch) and staples (channels, 2, 3, 3, links, batch). Which link reads which is in tables
made once; of the staple network only the cone is computed that ends at the active links, and of the context network
only what their features come from.
"""

from __future__ import annotations

from typing import Dict, List, Sequence, Tuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from siderostat.workloads.gauge_flow import lattice, pairs, spectral
from siderostat.workloads.gauge_flow.coupling import STENCIL, WIDTH, Coupling, Flow, Width
from siderostat.workloads.gauge_flow.group import COLOURS, DIMENSIONS, PLANES
from siderostat.workloads.gauge_flow.lattice import Extents, Neighbours, Update
from siderostat.workloads.gauge_flow.pairs import product

AT_ONCE = 8192  # matrices in a product on a processor: what it reads and writes then stays in its caches

LINKS = -2  # the axis
_NAMES = ("own", "upper", "lower")


class Tables(nn.Module):
    """Which links and sites an update reads. Layers with the same update share one.

    Args:
        extents: of the lattice.
        update: which links change.
        levels: of the staple network; 0 where the loops are fixed.
    """

    active: Tensor  # links that change, (n,)
    frozen: Tensor  # 1 for all others and 0 for these, (links, 1)
    fixed: Tensor  # the three links of the fixed loop, (3, n)
    corners: Tensor  # of frozen plaquettes, (4, p): U_mu(x), U_nu(x + mu), U_nu(x), U_mu(x + nu)
    around: Tensor  # of each plane, stencil place and site of the first convolution its plaquette, (6 * 9 * sites,)
    second: Tensor  # of each stencil place and active site its site of the first convolution, (9 * active sites,)
    site: Tensor  # of each active link its active site, (n,)

    def __init__(self, extents: Extents, update: Update, levels: int) -> None:
        super().__init__()
        self.levels = levels
        near = Neighbours(extents)
        mask = lattice.active(update, extents)
        links = mask.ravel().nonzero()[0]
        self.is_upper = lattice.fixed_loop(update, 0)[1]
        self._keep("active", links)
        self.register_buffer("frozen", torch.from_numpy(~mask.reshape(-1, 1)).float(), persistent=False)
        if levels:
            for level, table in enumerate(lattice.cone(near, links, levels)):
                for name in _NAMES:
                    self._keep(f"{name}_{level}", getattr(table, name))
        else:
            self._keep("fixed", lattice.fixed_loops(near, update, links))
        self._keep_context(near, mask, links % near.volume)

    def _keep(self, name: str, numbers: np.ndarray) -> None:
        kept = torch.from_numpy(np.ascontiguousarray(numbers, np.int64 if name == "active" else np.int32))
        self.register_buffer(name, kept, persistent=False)

    def _keep_context(self, near: Neighbours, mask: np.ndarray, sites: np.ndarray) -> None:
        active_sites, site = np.unique(sites, return_inverse=True)
        stencil = near.stencil(active_sites)
        inner, second = np.unique(stencil, return_inverse=True)
        outer = near.stencil(inner)
        whole = lattice.frozen_plaquettes(mask).reshape(len(PLANES), -1)
        read = np.zeros_like(whole)
        read[:, outer.ravel()] = True
        plane, x = np.nonzero(whole & read)
        number = np.full(whole.shape, len(x))  # one past the last: where a link changes, 0 stands for the plaquette
        number[plane, x] = np.arange(len(x))
        forward = np.stack(near.forward)
        mu, nu = np.array(PLANES)[plane].T
        corners = [near.link(*pair) for pair in ((mu, x), (nu, forward[mu, x]), (nu, x), (mu, forward[nu, x]))]
        self._keep("corners", np.stack(corners))
        self._keep("around", number[:, outer].ravel())
        self._keep("second", second.ravel())
        self._keep("site", site.ravel())

    def level(self, level: int) -> Tuple[Tensor, ...]:
        """Return own, upper and lower of a level of the staple network, see :class:`lattice.StapleTable`."""
        return tuple(getattr(self, f"{name}_{level}") for name in _NAMES)


class RealCoupling(Coupling):
    """One layer; see :class:`complex.ComplexCoupling` for what it computes."""

    def __init__(self, extents: Extents, update: Update, learned: bool, tables: Tables, width: Width = WIDTH) -> None:
        super().__init__(extents, update, learned, width)
        self.tables = tables

    def forward(self, links: Tensor, is_inverse: bool) -> Tuple[Tensor, Tensor]:
        """See :class:`Coupling`."""
        tables = self.tables
        staples = self.active_staples(links)
        features = torch.cat([self.context(links), pairs.invariants(staples)])
        raw = _dense(self.last, F.silu(_dense(self.hidden, features)))
        w = self.projected(staples)
        loops = product(links.index_select(LINKS, tables.active), w, right_adjoint=True)
        theta = pairs.phases(pairs.trace(loops))
        moved = spectral.move(theta, raw, is_inverse)
        new = product(pairs.with_phases(loops, theta, moved.gaps, moved.theta, moved.new_gaps), w)
        return links.index_copy(LINKS, tables.active, new), moved.log_determinant.sum(0)

    def active_staples(self, links: Tensor) -> Tensor:
        """Return what takes the place of the staples of the active links, (2, 3, 3, n, batch)."""
        tables = self.tables
        if not self.learned:
            first, middle, last = (links.index_select(LINKS, numbers) for numbers in tables.fixed)
            if tables.is_upper:
                return product(product(first, middle), last, right_adjoint=True)
            return product(first, product(middle, last), left_adjoint=True)
        s = _rows((links * tables.frozen)[None])
        for level, mixing in enumerate(self.mixing):
            s = _mixed_staples(s, mixing, tables.level(level))
        return s[:, 0].permute(1, 2, 3, 0, 4)

    def projected(self, staples: Tensor) -> Tensor:
        """Return P_SU(3) of the active staples, (2, 3, 3, n, batch)."""
        return pairs.projected(staples)

    def traces(self, links: Tensor) -> Tensor:
        """Return tr P of the frozen plaquettes that are read, and a 0 for all others, (2, p + 1, batch)."""
        a, b, c, d = (links.index_select(LINKS, numbers) for numbers in self.tables.corners)
        return F.pad(pairs.trace_of_product(product(a, b), product(c, d)), (0, 0, 0, 1))

    def context(self, links: Tensor) -> Tensor:
        """Return features of the active links made of frozen plaquettes, (channels, n, batch)."""
        tables = self.tables
        h = self.traces(links).index_select(1, tables.around).view(2 * len(PLANES), STENCIL, -1, links.shape[-1])
        h = F.silu(_convolution(self.first, h)).index_select(1, tables.second)
        h = F.silu(_convolution(self.second, h.view(len(h), STENCIL, -1, links.shape[-1])))
        return h.index_select(1, tables.site)


def _mixed_staples(s: Tensor, mixing: Tensor, table: Sequence[Tensor]) -> Tensor:
    """Return one level of the network as rows, (n, outside, 2, 3, 3, batch), from (m, inside, 2, 3, 3, batch)."""
    links = len(table[0])
    some = max(1, AT_ONCE // (s.shape[1] * s.shape[-1])) if s.device.type == "cpu" else links
    made = []
    for own, upper, lower in zip(*(torch.split(numbers, some, -1) for numbers in table)):
        parts = [_at(s, own), *(_upper(s, factors) for factors in upper), *(_lower(s, factors) for factors in lower)]
        mixed = _mixed(mixing, parts).view(len(mixing), 2, COLOURS, COLOURS, len(own), s.shape[-1])
        made.append(_rows(mixed))
    return made[0] if len(made) == 1 else torch.cat(made)


def _upper(s: Tensor, factors: Tensor) -> Tensor:
    first, middle, last = (_at(s, numbers) for numbers in factors)
    return product(product(first, middle), last, right_adjoint=True)


def _lower(s: Tensor, factors: Tensor) -> Tensor:
    first, middle, last = (_at(s, numbers) for numbers in factors)
    return product(first, product(middle, last), left_adjoint=True)


def _rows(matrices: Tensor) -> Tensor:
    """Return (channels, 2, 3, 3, n, batch) as rows, (n, channels, 2, 3, 3, batch): a link is copied as a whole."""
    return matrices.permute(4, 0, 1, 2, 3, 5).contiguous()


def _at(rows: Tensor, numbers: Tensor) -> Tensor:
    """Return some rows the other way round."""
    return rows.index_select(0, numbers).permute(1, 2, 3, 4, 0, 5).contiguous()


def _mixed(mixing: Tensor, parts: List[Tensor]) -> Tensor:
    """Return linear combinations of the channels of seven parts, (outside, all entries)."""
    inside = len(parts[0])
    if inside == 1:
        return mixing @ torch.cat(parts).view(len(parts), -1)
    weights = torch.split(mixing, inside, 1)
    total: Tensor = weights[0] @ parts[0].view(inside, -1)
    for weight, part in zip(weights[1:], parts[1:]):
        total.addmm_(weight, part.view(inside, -1))
    return total


def _dense(layer: nn.Linear, x: Tensor) -> Tensor:
    """Apply a dense layer along the first axis."""
    return torch.addmm(layer.bias[:, None], layer.weight, x.reshape(len(x), -1)).view(-1, *x.shape[1:])


def _convolution(layer: nn.Linear, x: Tensor) -> Tensor:
    """Apply a dense layer to channels and stencil places, (channels, 9, sites, batch); its own order is the other."""
    outside = layer.weight.shape[0]
    weight = layer.weight.view(outside, STENCIL, -1).transpose(1, 2).reshape(outside, -1)
    return torch.addmm(layer.bias[:, None], weight, x.reshape(weight.shape[1], -1)).view(-1, *x.shape[2:])


class RealFlow(Flow):
    """The flow that runs where complex numbers do not exist."""

    def taken(self, links: Tensor) -> Tensor:
        """See :class:`Flow`."""
        return links.flatten(1, 1 + DIMENSIONS).permute(4, 2, 3, 1, 0).contiguous()

    def given(self, links: Tensor, extents: Extents) -> Tensor:
        """See :class:`Flow`."""
        return links.permute(4, 3, 1, 2, 0).contiguous().view(-1, DIMENSIONS, *extents, COLOURS, COLOURS, 2)

    def action(self, links: Tensor, beta: float) -> Tensor:
        """See :class:`Flow`."""
        extents = links.shape[2 : 2 + DIMENSIONS]
        fields = self.taken(links).view(2, COLOURS, COLOURS, DIMENSIONS, *extents, -1).unbind(3)
        total = torch.zeros((), dtype=links.dtype, device=links.device)
        for mu, nu in PLANES:
            a, b = fields[mu], fields[nu]
            one, other = (
                product(first.flatten(3, 6), torch.roll(second, -1, 3 + d).flatten(3, 6))
                for first, second, d in ((a, b, mu), (b, a, nu))
            )
            total = total + pairs.trace_of_product(one, other)[0].sum(0)
        return -beta / COLOURS * total


def flow(extents: Extents, updates: Sequence[Update], learned: Sequence[bool], width: Width = WIDTH) -> RealFlow:
    """Return a flow with parameters of 0; layers with the same update share their tables."""
    return RealFlow([RealCoupling(extents, *how, width) for how in with_tables(extents, updates, learned, width)])


def with_tables(
    extents: Extents, updates: Sequence[Update], learned: Sequence[bool], width: Width
) -> List[Tuple[Update, bool, Tables]]:
    """Return each layer's update, whether its loops are learned, and its tables."""
    made: Dict[Tuple[Update, bool], Tables] = {}
    for key in zip(updates, learned):
        if key not in made:
            made[key] = Tables(extents, key[0], len(width.channels_of_levels()) - 1 if key[1] else 0)
    return [(*key, made[key]) for key in zip(updates, learned)]
