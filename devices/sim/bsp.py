"""Time on a chip of many tiles: supersteps of work, exchange and waiting.

Operations are spread over all tiles. Products (convolutions and matrix products) follow the plan of
:mod:`siderostat.devices.sim.partition`. Chains of element-wise operations are done in one go: with vectors of two in
fp32, and one load or store a cycle, a chain of n operations takes (n + 2) / 2 cycles per element. Each superstep costs
``superstep_cycles`` beside its work; how many an operation needs follows from what it does:

=====================================  ==================================================================
chain of element-wise operations       1 for each tensor that it writes
random numbers, update of a parameter  1
padding, slicing, joining, turning     0: views, moved with the exchange of what reads them
pooling                                2: halo, work
reduction                              3: partial sums, gathering, last sums
batch, group, layer norm               3: partial sums of both moments, their sums, scaling
gather, scatter                        2
product                                4: operands laid out, multiplied, parts summed, result laid out
=====================================  ==================================================================

The counts are what the algorithms need, not fitted; other plausible ones move the figures by as much as the docs say.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import Any, Dict, List, Sequence

import numpy as np

from siderostat.devices.sim.bands import Draws
from siderostat.devices.sim.liveness import Group
from siderostat.devices.sim.opgraph import Op
from siderostat.devices.sim.partition import Plan, Product, Tiles, plan, product
from siderostat.devices.sim.spec import Spec

SUPERSTEPS = {
    "random": 1, "optimizer": 1, "copy": 0, "pool": 2, "reduce": 3, "norm": 3, "gather": 2, "other": 3,
}  # fmt: skip
PRODUCT_SUPERSTEPS = 4
SLOW = frozenset(
    (
        "exp", "exp2", "expm1", "log", "log1p", "log2", "log10", "tanh", "tanh_backward", "sigmoid", "sigmoid_backward",
        "softplus", "softplus_backward", "sqrt", "rsqrt", "gelu", "gelu_backward", "silu", "silu_backward", "div",
        "reciprocal", "pow", "sin", "cos", "tan", "atan2", "acos", "erf", "elu", "elu_backward",
    )
)  # fmt: skip
"""Functions that take about three cycles for each element instead of one for two."""
SLOW_CYCLES = 3.0
PER_ELEMENT = {"reduce": 1.0, "random": 3.0, "norm": 4.0, "pool": 1.5, "gather": 2.0, "other": 4.0}  # cycles, in fp32
UPDATE_CYCLES = {0: 2.0, 1: 4.0, 2: 12.0}  # per parameter, by the tensors of the optimiser's state


@dataclass(frozen=True)
class Work:
    """Work of the busiest tile. ``*_cycles`` and bytes are to be weighted with the calibration's parameters."""

    multiply_cycles: float = 0.0
    blocks: float = 0.0
    exchanged_bytes: float = 0.0
    rearranged_bytes: float = 0.0
    vector_cycles: float = 0.0
    supersteps: float = 0.0


def tiles(chip: Spec, calibration: Spec, itemsize: int) -> Tiles:
    """Return what of a chip decides how work is spread, for elements of 4 or 2 bytes."""
    macs = chip["macs_fp32"] if itemsize >= 4 else chip["macs_fp16"]
    return Tiles(
        count=int(chip["tiles"]),
        memory_bytes=int(chip["tile_bytes"]),
        macs=int(macs),
        inner=8 if itemsize >= 4 else 16,
        itemsize=itemsize,
        exchange_bytes_per_cycle=chip["exchange_bytes_per_cycle"],
        block_cycles=calibration["block_cycles"],
        most_temporary=calibration["temporary_share"],
    )


def work(groups: Sequence[Group], on: Tiles) -> List[Work]:
    """Return the work of each group of operations."""
    return [_products(g.ops[0], on) if is_product(g.ops[0]) else _plain(g, on) for g in groups]


def is_product(op: Op) -> bool:
    """Say whether an operation is spread as a product of matrices; attention as one piece has no shape to go by."""
    return op.kind in ("conv", "matmul") and bool(op.attributes)


def elements_of(group: Group) -> int:
    """Return how many elements a group of operations goes over: those it reads, where it makes fewer of them."""
    op = group.ops[-1]
    has_more_in = group.kind in ("reduce", "norm", "pool", "optimizer", "other")
    return max((t.numel for t in ((*op.inputs, *op.outputs) if has_more_in else op.outputs)), default=0)


def supersteps_of(group: Group) -> int:
    """Return how many supersteps a group of operations takes that is no product."""
    if group.kind == "elementwise":
        return max(1, len(group.outputs))
    return SUPERSTEPS.get(group.kind, SUPERSTEPS["other"])


def planned(op: Op, on: Tiles) -> Plan:
    """Return how a product is spread."""
    return plan(product(op), on)


def _products(op: Op, on: Tiles) -> Work:
    shape: Product = product(op)
    found = plan(shape, on)
    turned = shape.rearranged * on.itemsize / on.count
    return Work(
        multiply_cycles=found.multiply_cycles,
        blocks=found.blocks,
        exchanged_bytes=found.exchanged_bytes,
        rearranged_bytes=turned,
        vector_cycles=found.add_cycles,
        supersteps=PRODUCT_SUPERSTEPS,
    )


def _plain(group: Group, on: Tiles) -> Work:
    elements = elements_of(group) / on.count
    vector = 1.0 if on.itemsize >= 4 else 0.5
    op = group.ops[0]
    supersteps = supersteps_of(group)
    if group.kind == "elementwise":
        slow = sum(o.name.rstrip("_") in SLOW for o in group.ops)
        cycles = vector * (0.5 * (len(group.ops) + 2) + SLOW_CYCLES * slow)
    elif group.kind == "optimizer":
        cycles = UPDATE_CYCLES.get(int(op.attributes.get("state", 0)), 12.0)
    elif group.kind == "copy":
        if not op.inputs:  # a constant
            return Work()
        return Work(exchanged_bytes=elements * on.itemsize)
    elif group.kind in ("conv", "matmul"):
        return Work(multiply_cycles=op.flops / 2 / on.macs / on.count, supersteps=PRODUCT_SUPERSTEPS)
    else:
        cycles = vector * PER_ELEMENT.get(group.kind, PER_ELEMENT["other"])
    received = elements * on.itemsize if group.kind == "gather" else 0.0
    return Work(vector_cycles=elements * cycles, exchanged_bytes=received, supersteps=supersteps)


def seconds(all_work: Sequence[Work], chip: Spec, calibration: Spec, draws: Draws) -> Dict[str, Any]:
    """Return the time on the chip by part: compute, exchange and sync; numbers or arrays of draws."""
    multiply, blocks, exchanged, rearranged, vector, supersteps = (
        np.array([astuple(w) for w in all_work]).sum(axis=0) if all_work else np.zeros(6)
    )

    def of(key: str) -> Any:
        return draws.of(calibration, key)

    cycle_s = of("model_factor") / draws.of(chip, "clock_hz")
    computing = multiply * of("multiply_factor") + blocks * of("block_cycles") + vector * of("vector_factor")
    moving = exchanged * of("exchange_factor") / draws.of(chip, "exchange_bytes_per_cycle")
    return {
        "compute": computing * cycle_s,
        "exchange": (moving + rearranged * of("rearrange_cycles_per_byte")) * cycle_s,
        "sync": supersteps * of("superstep_cycles") * cycle_s,
    }
