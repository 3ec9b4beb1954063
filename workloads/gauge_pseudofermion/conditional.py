"""The parameters of the conditional flow: couplings that take turns to change the pseudofermion on even and odd sites.

A layer adds to the pseudofermion of its active sites what the frozen neighbours have, transported along the links and
mixed in spin, and scales it by a factor that the plaquettes at the site set:

    phi_s(x) -> exp(a_s(x)) phi_s(x) + sum_hops sum_t B_hop,st [U phi_t](x),
    a_s(x) = b_s + sum_k w_sk Re tr P_k(x) / 3.

Transported neighbours transform like phi(x), so the map is gauge-equivariant; the matrix of a layer is triangular, so
its log-determinant is 6 sum_x,s a_s(x): a real and an imaginary part of three colours each. The layers are of the type
of Abbott et al. (2022), arXiv:2207.08945; which numbers are learned, and that masks are even and odd, is our choice.

Nothing here is specific to a framework.
"""

from __future__ import annotations

from typing import Dict, List, Tuple

import numpy as np

from siderostat.workloads.gauge_flow.group import PLANES
from siderostat.workloads.gauge_pseudofermion.dirac import HOPS, PROJECTIONS, SPINS

EVEN, ODD = 0, 1

SHAPES: Dict[str, Tuple[int, ...]] = {
    "hops": (HOPS, 2, SPINS, SPINS),  # real and imaginary parts of B
    "weight": (SPINS, len(PLANES)),
    "bias": (SPINS,),
}


def active(layer: int) -> int:
    """Return which sites a layer changes: even ones first."""
    return ODD if layer % 2 else EVEN


def count(layers: int) -> int:
    """Return the parameters of some layers."""
    return layers * sum(int(np.prod(shape)) for shape in SHAPES.values())


def hopping_expansion(layers: int, kappa: float) -> List[Dict[str, np.ndarray]]:
    """Return parameters with which phi = D chi up to terms of kappa^2.

    D is the product of a lower triangle, 1 - kappa^2 H_oe H_eo on the odd sites, and an upper triangle. The first layer
    is the upper and the second the lower triangle; all others are the identity.
    """
    made = [{name: np.zeros(shape) for name, shape in SHAPES.items()} for _ in range(layers)]
    for named in made[:2]:
        named["hops"] = -kappa * np.stack([np.real(PROJECTIONS), np.imag(PROJECTIONS)], 1)
    return made


def drawn(layers: int, kappa: float, rng: np.random.Generator, spread: float) -> List[Dict[str, np.ndarray]]:
    """Return the hopping expansion with normal numbers of a standard deviation added to every parameter, float32."""
    return [
        {
            name: (values + spread * rng.standard_normal(values.shape)).astype(np.float32)
            for name, values in named.items()
        }
        for named in hopping_expansion(layers, kappa)
    ]
