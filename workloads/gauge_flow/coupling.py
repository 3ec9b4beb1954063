"""What all formulations of the flow share: the parameters, by the same names, and the order of the layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Mapping, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor, nn

from siderostat.workloads.gauge_flow.group import DIMENSIONS, PLANES
from siderostat.workloads.gauge_flow.lattice import Direction, Extents, Update

LEARNED = "learned"
FIXED = "fixed"
LOOPS = (LEARNED, FIXED)

INVARIANTS = 5  # of an active staple
STENCIL = 1 + 2 * DIMENSIONS
AUGMENTED = 1 + 2 * (DIMENSIONS - 1)  # a link and its six staples
GAIN = 0.5
PRODUCT_FLOPS = 8 * 27  # 27 complex multiplications with addition
MIXING_FLOPS = 2 * 18


@dataclass(frozen=True)
class Width:
    """How large the networks of a layer are."""

    channels: int = 8  # of the staple network between its levels
    hidden: int = 2  # such levels
    context: int = 16  # channels of the context network
    bins: int = 8  # of each spline

    def channels_of_levels(self) -> List[int]:
        """Return the channels of the staple network, from the links to the active staple."""
        return [1, *[self.channels] * self.hidden, 1]


WIDTH = Width()


def is_learned(update: Update, loops: str) -> bool:
    """Say whether a layer of the stack has learned active loops: direction updates, where they are asked for."""
    return loops == LEARNED and isinstance(update, Direction)


def shapes(learned: bool, width: Width = WIDTH) -> Dict[str, Tuple[int, ...]]:
    """Return names and shapes of the parameters of a layer."""
    found: Dict[str, Tuple[int, ...]] = {}
    if learned:
        levels = width.channels_of_levels()
        for i, (inside, outside) in enumerate(zip(levels, levels[1:])):
            found[f"mixing.{i}"] = (outside, AUGMENTED * inside)
    dense = {
        "first": (STENCIL * 2 * len(PLANES), width.context),
        "second": (STENCIL * width.context, width.context),
        "hidden": (width.context + INVARIANTS, 2 * width.context),
        "last": (2 * width.context, 2 * (3 * width.bins + 1)),
    }
    for name, (inside, outside) in dense.items():
        found[f"{name}.weight"], found[f"{name}.bias"] = (outside, inside), (outside,)
    return found


def count(stack: Sequence[Update], loops: str) -> Dict[str, int]:
    """Return the parameters of a stack's parts."""
    parts = {"staple networks": 0, "context networks": 0}
    for update in stack:
        for name, shape in shapes(is_learned(update, loops)).items():
            parts["staple networks" if name.startswith("mixing") else "context networks"] += int(np.prod(shape))
    return parts


def staple_flops(volume: int, learned: bool, is_pruned: bool, width: Width = WIDTH) -> int:
    """Return operations of a layer's active loops: 216 per matrix product, 36 per matrix and coefficient mixed.

    Args:
        volume: sites of the lattice.
        learned: whether there is a staple network, of a direction update and two hidden levels.
        is_pruned: whether only the cone of the active links is computed, 4 V, 2.5 V and V / 4 links level by level.
        width: of the network.
    """
    if not learned:
        return volume // 4 * 2 * PRODUCT_FLOPS
    links = (4 * volume, 5 * volume // 2, volume // 4) if is_pruned else (4 * volume,) * 3
    levels = width.channels_of_levels()
    return sum(
        n * (12 * inside * PRODUCT_FLOPS + AUGMENTED * inside * outside * MIXING_FLOPS)
        for n, inside, outside in zip(links, levels, levels[1:])
    )


def initial(
    learned: bool, rng: np.random.Generator, last: float, width: Width = WIDTH, gain: float = GAIN
) -> Dict[str, np.ndarray]:
    """Draw the parameters of a layer, float32.

    The staple network is the identity on its own link plus Glorot's normal distribution with a gain: with a gain of 0
    the active staple, whose own link is masked, would be exactly 0.

    Args:
        learned: whether it has a staple network.
        rng: where numbers come from.
        last: standard deviation of the last dense layer. At 0 the layer is the identity.
        width: of the networks.
        gain: of the staple network.
    """
    drawn: Dict[str, np.ndarray] = {}
    for name, shape in shapes(learned, width).items():
        fan_in = shape[-1]
        if name.startswith("mixing"):
            values = gain * np.sqrt(2 / (shape[0] + fan_in)) * rng.standard_normal(shape) + _own_link(*shape)
        elif name.startswith("last"):
            values = last * rng.standard_normal(shape)
        else:
            bound = 1 / np.sqrt(shapes(learned, width)[name.replace("bias", "weight")][-1])
            values = rng.uniform(-bound, bound, shape)
        drawn[name] = values.astype(np.float32)
    return drawn


def _own_link(outside: int, inputs: int) -> np.ndarray:
    """Return the mixing that hands a link's own channels on: copied, averaged or one by one."""
    inside = inputs // AUGMENTED
    own = np.eye(outside) if inside == outside else np.full((outside, inside), 1 / inside)
    return np.concatenate([own, np.zeros((outside, inputs - inside))], 1)


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
