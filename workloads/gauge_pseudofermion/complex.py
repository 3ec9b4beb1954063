"""Wilson fermions in complex arithmetic: the readable reference that the real formulation is compared with.

Fields are those of the whole lattice, (batch, L0, L1, L2, L3, 4, 3): a field on even sites is 0 on odd ones, so that
every hop computes twice as much as it has to.
"""

from __future__ import annotations

from typing import Tuple

import numpy as np
import torch
from torch import Tensor

from siderostat.workloads.gauge_flow.complex import plaquettes
from siderostat.workloads.gauge_flow.group import COLOURS, DIMENSIONS
from siderostat.workloads.gauge_flow.lattice import Extents
from siderostat.workloads.gauge_pseudofermion import dirac
from siderostat.workloads.gauge_pseudofermion.wilson import Pair, WilsonFermions


class ComplexFermions(WilsonFermions):
    """The reference.

    Args:
        extents: of the lattice, all even.
    """

    parities: Tensor  # 1 on even sites in the first and on odd sites in the second, (2, L0, L1, L2, L3, 1, 1)
    boundary: Tensor  # -1 for links across the end of time and 1 for all others, (4, L0, L1, L2, L3, 1, 1)
    projections: Tensor  # (8, 4, 4)
    chirality: Tensor  # (4, 1)

    def __init__(self, extents: Extents) -> None:
        super().__init__()
        even = dirac.is_even(extents)
        self._keep("parities", np.stack([even, ~even]).astype(np.float32))
        self._keep("boundary", dirac.with_boundary(np.ones((DIMENSIONS, *extents, 1, 1), np.float32)))
        self._keep("projections", dirac.PROJECTIONS.astype(np.complex64))
        self._keep("chirality", np.real(np.diag(dirac.GAMMA5)).astype(np.float32)[:, None])

    def _keep(self, name: str, values: np.ndarray) -> None:
        self.register_buffer(name, torch.from_numpy(values), persistent=False)

    def taken(self, spinors: Tensor) -> Pair:
        """See :class:`WilsonFermions`."""
        even, odd = (torch.view_as_complex(spinors) * parity for parity in self.parities)
        return even, odd

    def transporters(self, links: Tensor) -> Pair:
        """See :class:`WilsonFermions`."""
        turned = torch.view_as_complex(links) * self.boundary
        return turned, turned

    def plaquettes(self, links: Tensor) -> Pair:
        """See :class:`WilsonFermions`. Shape (batch, L0, L1, L2, L3, 6)."""
        loops = plaquettes(torch.view_as_complex(links)).real.movedim(1, -1) / COLOURS
        even, odd = (loops * parity[..., 0] for parity in self.parities)
        return even, odd

    def hop(self, transporters: Pair, psi: Tensor, onto: int) -> Tensor:
        """See :class:`WilsonFermions`."""
        return self._mixed(transporters[onto], psi, self.projections)

    def mixed(self, transporters: Pair, psi: Tensor, onto: int, hops: Tensor) -> Tensor:
        """See :class:`WilsonFermions`."""
        return self._mixed(transporters[onto], psi, torch.complex(hops[:, 0], hops[:, 1]))

    def _mixed(self, links: Tensor, psi: Tensor, spin: Tensor) -> Tensor:
        total = torch.zeros_like(psi)
        for hop, matrix in enumerate(spin.to(psi.dtype)):
            total = total + matrix @ transported(links, psi, hop)
        return total

    def scaled(self, psi: Tensor, loops: Pair, onto: int, weight: Tensor, bias: Tensor) -> Tuple[Tensor, Tensor]:
        """See :class:`WilsonFermions`."""
        a = (loops[onto] @ weight.mT + bias) * self.parities[onto, ..., 0]
        return torch.exp(a)[..., None] * psi, 2 * COLOURS * a.flatten(1).sum(1)

    def gamma5(self, psi: Tensor) -> Tensor:
        """See :class:`WilsonFermions`."""
        return self.chirality * psi

    def squared(self, psi: Tensor) -> Tensor:
        """See :class:`WilsonFermions`. Shape (batch, 1, 1, 1, 1, 1, 1)."""
        return (psi.abs() ** 2).sum(tuple(range(1, psi.dim())), keepdim=True)

    def excess_of(self, chi: Tensor, psi: Tensor) -> Tensor:
        """See :class:`WilsonFermions`."""
        return (chi.abs() ** 2 - psi.abs() ** 2).flatten(1).sum(1)

    def action(self, loops: Pair, beta: float) -> Tensor:
        """See :class:`WilsonFermions`."""
        return -beta * (loops[0] + loops[1]).flatten(1).sum(1)


def transported(links: Tensor, psi: Tensor, hop: int) -> Tensor:
    """Return a neighbour's quark at every site, in that site's gauge, see ``dirac.transported``."""
    mu, is_backward = divmod(hop, 2)
    if is_backward:
        return torch.roll(psi @ links[:, mu].conj(), 1, 1 + mu)
    return torch.roll(psi, -1, 1 + mu) @ links[:, mu].mT


def fermions(extents: Extents) -> ComplexFermions:
    """Return quarks on a lattice."""
    return ComplexFermions(extents)
