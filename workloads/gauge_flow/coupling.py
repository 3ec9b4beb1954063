"""What all formulations of the flow share: the parameters, by the same names, and the order of the layers."""

from __future__ import annotations

from typing import Dict, List, Mapping, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor, nn

from siderostat.workloads.gauge_flow.lattice import Extents, Update
from siderostat.workloads.gauge_flow.parameters import (
    FIXED,
    LEARNED,
    LOOPS,
    MIXING_FLOPS,
    PRODUCT_FLOPS,
    STENCIL,
    WIDTH,
    Width,
    count,
    initial,
    is_learned,
    shapes,
    staple_flops,
)

__all__ = (
    "FIXED", "LEARNED", "LOOPS", "MIXING_FLOPS", "PRODUCT_FLOPS", "STENCIL", "WIDTH", "Coupling", "Flow", "Width",
    "count", "initial", "is_learned", "load_weights", "shapes", "staple_flops", "weights_of",
)  # fmt: skip


class Coupling(nn.Module):
    """A coupling layer: spectral flow of the active links, of the type described in arXiv:2502.00263.

    Args:
        extents: of the lattice.
        update: which links it changes.
        learned: whether the active loops are learned.
        width: of the networks.
    """

    def __init__(self, extents: Extents, update: Update, learned: bool, width: Width = WIDTH) -> None:
        super().__init__()
        self.extents, self.update, self.learned, self.width = extents, update, learned, width
        named = shapes(learned, width)
        mixing = [shape for name, shape in named.items() if name.startswith("mixing")]
        self.mixing = nn.ParameterList([nn.Parameter(torch.zeros(shape)) for shape in mixing])
        self.first, self.second, self.hidden, self.last = (
            _linear(*named[f"{name}.weight"]) for name in ("first", "second", "hidden", "last")
        )

    def forward(self, links: Tensor, is_inverse: bool) -> Tuple[Tensor, Tensor]:
        """Return new links, in the formulation's own layout, and the log-determinant, (batch,)."""
        raise NotImplementedError


def _linear(outside: int, inside: int) -> nn.Linear:
    return nn.Linear(inside, outside)


class Flow(nn.Module):
    """A stack of coupling layers; each formulation says how links come in and go out.

    Args:
        layers: in order.
    """

    def __init__(self, layers: Sequence[Coupling]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def taken(self, links: Tensor) -> Tensor:
        """Return links in the formulation's own layout.

        Args:
            links: real and imaginary parts, (batch, 4, L0, L1, L2, L3, 3, 3, 2).
        """
        raise NotImplementedError

    def given(self, links: Tensor, extents: Extents) -> Tensor:
        """Return links as :meth:`taken` takes them."""
        raise NotImplementedError

    def action(self, links: Tensor, beta: float) -> Tensor:
        """Return the Wilson action S = -(beta / 3) sum Re tr P of links as :meth:`taken` takes them, (batch,)."""
        raise NotImplementedError

    def forward(self, links: Tensor, is_inverse: bool = False) -> Tuple[Tensor, Tensor]:
        """Return new links and the log-determinant with respect to the Haar measure, (batch,).

        Args:
            links: real and imaginary parts, (batch, 4, L0, L1, L2, L3, 3, 3, 2).
            is_inverse: whether to go back instead.
        """
        own = self.taken(links)
        total = torch.zeros(len(links), dtype=links.dtype, device=links.device)
        for layer in reversed(list(self.layers)) if is_inverse else self.layers:
            own, log_determinant = layer(own, is_inverse)
            total = total + log_determinant
        return self.given(own, tuple(links.shape[2:6])), total


def load_weights(flow: Flow, weights: Sequence[Mapping[str, np.ndarray]]) -> None:
    """Set the parameters of all layers, in order."""
    for layer, named in zip(flow.layers, weights):
        layer.load_state_dict({name: torch.as_tensor(array) for name, array in named.items()})


def weights_of(flow: Flow) -> List[Dict[str, np.ndarray]]:
    """Return the parameters of all layers, in order."""
    return [{name: t.detach().cpu().numpy() for name, t in layer.state_dict().items()} for layer in flow.layers]
