"""The parameters of a flow's layers, their shapes and counts, and the operations that they take. No framework here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Sequence, Tuple

import numpy as np

from siderostat.workloads.gauge_flow.group import COLOURS, DIMENSIONS, PLANES
from siderostat.workloads.gauge_flow.lattice import Location, Update

LEARNED = "learned"
FIXED = "fixed"
LOOPS = (LEARNED, FIXED)

INVARIANTS = 5  # of an active staple
STENCIL = 1 + 2 * DIMENSIONS
AUGMENTED = 1 + 2 * (DIMENSIONS - 1)  # a link and its six staples
GAIN = 0.5
PRODUCT_FLOPS = 198
"""Of two complex 3 x 3 matrices: 108 multiplications and 90 additions of real numbers."""
LIBRARY_PRODUCT_FLOPS = 216
"""Of the same by a library's product, counted as 27 complex multiply-adds."""
MIXING_FLOPS = 2 * 18
"""Of a matrix and a real coefficient."""


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
    """Say whether a layer of the stack has learned active loops, where they are asked for: location updates have none.

    Only some of their staples are frozen.
    """
    return loops == LEARNED and not isinstance(update, Location)


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


def staple_flops(volume: int, learned: bool, is_pruned: bool, is_parity: bool = False, width: Width = WIDTH) -> int:
    """Return operations of a layer's active loops: 198 per matrix product, 36 per matrix and coefficient mixed.

    Args:
        volume: sites of the lattice.
        learned: whether there is a staple network, of two hidden levels.
        is_pruned: whether only the cone of the active links is computed, 4 V, 2.5 V and V / 4 links level by level, or
            of a parity update 4 V, 4 V and V / 2.
        is_parity: whether it is a parity update.
        width: of the network.
    """
    active, before = (volume // 2, 4 * volume) if is_parity else (volume // 4, 5 * volume // 2)
    if not learned:
        return active * 2 * PRODUCT_FLOPS
    links = (4 * volume, before, active) if is_pruned else (4 * volume,) * 3
    levels = width.channels_of_levels()
    return sum(level_flops(n, inside, outside) for n, inside, outside in zip(links, levels, levels[1:]))


def level_flops(links: int, inside: int, outside: int) -> int:
    """Return operations of one level of the staple network: twelve products per link and channel, and the mixing."""
    return links * (12 * inside * PRODUCT_FLOPS + AUGMENTED * inside * outside * MIXING_FLOPS)


def trace_flops(plaquettes: int) -> int:
    """Return operations of traces of plaquettes: two products, and the trace of one with the other's adjoint."""
    return plaquettes * (2 * PRODUCT_FLOPS + 8 * COLOURS**2)


def projection_flops(matrices: int, steps: int) -> int:
    """Return operations of the projection to SU(3), as in kernel.cpp.

    Of a step: 126 for the cofactors, 24 for the determinant, 108 for the sum, 12 for its factors. At the end cofactors
    and determinant again, 4 functions of the phase, and 54 to turn the matrix by it.

    Args:
        matrices: how many there are.
        steps: of Newton's iteration.
    """
    return matrices * (steps * (126 + 24 + 108 + 12) + 126 + 24 + 4 + 54)


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
