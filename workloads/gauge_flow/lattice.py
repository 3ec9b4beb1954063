"""Which links a layer changes, which stay frozen, and in which order layers come.

Nothing here is specific to a framework. Links are numbered mu * V + x, with x the number of the site in C order and V
the number of sites.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Tuple, Union

import numpy as np

from siderostat.workloads.gauge_flow.group import DIMENSIONS, PLANES

Extents = Tuple[int, ...]
ROUND_DIRECTIONS = 48
ROUND_LOCATIONS = 16
ROUND = ROUND_DIRECTIONS + ROUND_LOCATIONS
"""Layers that make a round; the flow of the paper has three of them."""


@dataclass(frozen=True)
class Direction:
    """Changes U_mu(x) where (x_nu + 2 x_rho + 2 x_sigma) mod 4 = offset: 1/16 of all links.

    All six 1 x 1 staples of such a link are frozen. Its fixed loop is the plaquette in (mu, nu) on the positive side.
    """

    mu: int
    nu: int
    offset: int


@dataclass(frozen=True)
class Location:
    """Changes all four links at sites with x mod 2 = corner: 1/16 of all links.

    Only the plaquettes on the negative side are frozen, and the fixed loop of U_mu is that in (mu, mu + 1).
    """

    corner: Tuple[int, ...]


@dataclass(frozen=True)
class Parity:
    """Changes U_mu(x) where the sum of x is even (parity 0) or odd (1): 1/8 of all links.

    All six 1 x 1 staples of such a link are frozen, but of the plaquettes only those in planes without mu. Its fixed
    loop is the plaquette in (mu, nu) on the positive side.
    """

    mu: int
    nu: int
    parity: int


Update = Union[Direction, Location, Parity]

DIAGONAL = "diagonal"
PARITY = "parity"
MASKS = (DIAGONAL, PARITY)
"""Stacks of direction and location updates, or of parity updates."""


def round_of_updates(masks: str = DIAGONAL) -> List[Update]:
    """Return 48 direction and 16 location updates, or 24 parity updates.

    The order is our choice: each 16, or of parity updates 8, in a row reach every link once.
    """
    if masks == PARITY:
        return [
            Parity(mu, (mu + step) % DIMENSIONS, parity) for step in (1, 2, 3) for mu in range(4) for parity in (0, 1)
        ]
    directions = [
        Direction(mu, (mu + step) % DIMENSIONS, offset) for step in (1, 2, 3) for offset in range(4) for mu in range(4)
    ]
    locations = [Location(tuple(corner >> bit & 1 for bit in (3, 2, 1, 0))) for corner in range(16)]
    return [*directions, *locations]


def stack(layers: int, masks: str = DIAGONAL) -> List[Update]:
    """Return the updates of a flow: whole rounds, and of a last, unfinished one three directions to each location.

    Raises:
        ValueError: if there is not at least one layer.
    """
    if layers < 1:
        raise ValueError(f"a flow has at least one layer, and not {layers}")
    once = round_of_updates(masks)
    rounds, rest = divmod(layers, len(once))
    locations = rest // 4 if masks == DIAGONAL else 0
    return once * rounds + once[: rest - locations] + once[ROUND_DIRECTIONS : ROUND_DIRECTIONS + locations]


def active(update: Update, extents: Extents) -> np.ndarray:
    """Return which links an update changes, boolean of shape (4, *extents).

    Raises:
        ValueError: if the pattern does not close on a periodic lattice of these extents.
    """
    x = np.indices(extents)
    mask = np.zeros((DIMENSIONS, *extents), bool)
    if isinstance(update, Direction):
        others = [d for d in range(DIMENSIONS) if d not in (update.mu, update.nu)]
        if extents[update.nu] % 4 or any(extents[d] % 2 for d in others):
            raise ValueError(f"the update {update} needs an extent of a multiple of 4 along {update.nu}: {extents}")
        mask[update.mu] = (x[update.nu] + 2 * sum(x[d] for d in others)) % 4 == update.offset
        return mask
    if any(extent % 2 for extent in extents):
        raise ValueError(f"the update {update} needs even extents and not {extents}")
    if isinstance(update, Parity):
        mask[update.mu] = x.sum(0) % 2 == update.parity
        return mask
    mask[:] = np.all([x[d] % 2 == update.corner[d] for d in range(DIMENSIONS)], axis=0)
    return mask


def directions_of(update: Update) -> Tuple[int, ...]:
    """Return the directions of the links that an update changes."""
    return tuple(range(DIMENSIONS)) if isinstance(update, Location) else (update.mu,)


def fixed_loop(update: Update, mu: int) -> Tuple[int, bool]:
    """Return the other direction of the plaquette that is the fixed loop of U_mu, and whether on the positive side."""
    return ((mu + 1) % DIMENSIONS, False) if isinstance(update, Location) else (update.nu, True)


def frozen_plaquettes(mask: np.ndarray) -> np.ndarray:
    """Return which plaquettes have no link that changes, boolean of shape (6, *extents)."""
    found = []
    for mu, nu in PLANES:
        around = mask[mu] | mask[nu] | np.roll(mask[nu], -1, mu) | np.roll(mask[mu], -1, nu)
        found.append(~around)
    return np.stack(found)


class Neighbours:
    """Numbers of sites and links next to each other.

    Args:
        extents: of the lattice.
    """

    def __init__(self, extents: Extents) -> None:
        self.volume = int(np.prod(extents))
        x = np.arange(self.volume).reshape(extents)
        self.forward = [np.roll(x, -1, mu).ravel() for mu in range(DIMENSIONS)]
        self.backward = [np.roll(x, 1, mu).ravel() for mu in range(DIMENSIONS)]

    def link(self, mu: Union[int, np.ndarray], x: np.ndarray) -> np.ndarray:
        """Return the numbers of U_mu(x)."""
        return np.asarray(mu * self.volume + x)

    def stencil(self, sites: np.ndarray) -> np.ndarray:
        """Return each site and its eight neighbours, shape (9, sites): itself, then x - mu and x + mu of each mu."""
        return np.stack(
            [sites, *(step[mu][sites] for mu in range(DIMENSIONS) for step in (self.backward, self.forward))]
        )


@dataclass(frozen=True)
class StapleTable:
    """Which links one level of the staple network reads to make some links of the next.

    Attributes:
        own: the links themselves, shape (n,).
        upper: of each staple R = S_nu(x) S_mu(x + nu) S_nu(x + mu)^dagger its three factors, (3, 3, n): first in order
            of nu = mu + 1, mu + 2, mu + 3, then of the factors.
        lower: likewise of L = S_nu(x - nu)^dagger S_mu(x - nu) S_nu(x - nu + mu).
    """

    own: np.ndarray
    upper: np.ndarray
    lower: np.ndarray

    def links_read(self) -> np.ndarray:
        """Return the numbers of all links that are read, sorted."""
        return np.unique(np.concatenate([self.own, self.upper.ravel(), self.lower.ravel()]))

    def renumbered(self, links: np.ndarray) -> StapleTable:
        """Return the table for a level before that holds only these links, in this order."""
        at = np.full(int(links.max()) + 1, -1)
        at[links] = np.arange(len(links))
        return StapleTable(at[self.own], at[self.upper], at[self.lower])


def staple_table(near: Neighbours, links: np.ndarray) -> StapleTable:
    """Return what the staples of some links are made of."""
    upper, lower = zip(*(_staples(near, links, step) for step in (1, 2, 3)))
    return StapleTable(links, np.stack(upper), np.stack(lower))


def _staples(near: Neighbours, links: np.ndarray, step: int) -> Tuple[np.ndarray, np.ndarray]:
    """Return the factors of R and L of some links for nu = mu + step, each (3, n)."""
    forward, backward = np.stack(near.forward), np.stack(near.backward)
    mu, x = links // near.volume, links % near.volume
    nu = (mu + step) % DIMENSIONS
    below = backward[nu, x]
    upper = near.link(nu, x), near.link(mu, forward[nu, x]), near.link(nu, forward[mu, x])
    lower = near.link(nu, below), near.link(mu, below), near.link(nu, forward[mu, below])
    return np.stack(upper), np.stack(lower)


def fixed_loops(near: Neighbours, update: Update, links: np.ndarray) -> np.ndarray:
    """Return the three factors of the staples that are the fixed loops of some links, (3, n)."""
    if isinstance(update, Location):
        return _staples(near, links, 1)[1]
    return _staples(near, links, (update.nu - update.mu) % DIMENSIONS)[0]


def cone(near: Neighbours, links: np.ndarray, levels: int) -> List[StapleTable]:
    """Return the tables of a staple network of which only ``links`` are wanted, the first level first.

    Each level makes only what the next one reads; the first reads the whole field.
    """
    tables: List[StapleTable] = []
    for _ in range(levels):
        table = staple_table(near, links)
        if tables:
            tables[0] = tables[0].renumbered(links)
        tables.insert(0, table)
        links = table.links_read()
    return tables
