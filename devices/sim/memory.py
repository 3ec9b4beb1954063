"""Memory that a step needs, and how likely it fits.

With tiles: parameters, optimiser state and live tensors are spread evenly, the operands of the largest product and the
code of every distinct operation are in each tile besides, and the fullest tile decides. With one memory: the same
tensors as an allocator keeps them, a workspace, and what the framework takes before the first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Hashable, Sequence, Set, Tuple

from siderostat.devices.sim import bsp, chips
from siderostat.devices.sim.bands import Draws, share_at_most, total
from siderostat.devices.sim.liveness import Group, fuse, live_bytes
from siderostat.devices.sim.opgraph import OpGraph
from siderostat.devices.sim.spec import Spec
from siderostat.devices.sim.time import itemsize


@dataclass(frozen=True)
class Need:
    """Memory of one chip that a step needs.

    Attributes:
        parts: bytes by what they are for, numbers or arrays of draws; together the need.
        capacity_bytes: what one chip has.
    """

    parts: Dict[str, Any]
    capacity_bytes: int

    @property
    def bytes(self) -> Any:
        """All of it, a number or an array of draws."""
        return total(self.parts)

    @property
    def fit_probability(self) -> float:
        """How likely it fits."""
        return share_at_most(self.bytes, self.capacity_bytes)


def need(graph: OpGraph, chip: Spec, calibration: Spec, precision: str, draws: Draws) -> Need:
    """Return the memory that a step needs on one chip."""
    of_kind = _tiled if chip.kind == "bsp-sram" else _in_one
    return Need(of_kind(graph, chip, calibration, precision, draws), chips.memory_bytes(chip))


def _tiled(graph: OpGraph, chip: Spec, calibration: Spec, precision: str, draws: Draws) -> Dict[str, Any]:
    """Return the parts as they would be if every tile were as full as the fullest."""
    on = bsp.tiles(chip, calibration, itemsize(precision))
    scale = itemsize(precision) / 4
    products, others = distinct(fuse(graph))
    temporary = max((bsp.planned(op, on).temporary_bytes for op in graph.ops if bsp.is_product(op)), default=0.0)
    largest = calibration["temporary_share"] * on.memory_bytes

    def of(key: str) -> Any:
        return draws.of(calibration, key)

    code = of("code_bytes") + products * of("code_product_bytes") + others * of("code_other_bytes")
    fullest = of("imbalance")
    return {
        "resident": fullest * (graph.parameter_bytes + graph.state_bytes) * scale,
        "live": fullest * of("live_factor") * live_bytes(graph) * scale,
        "temporary": fullest * min(temporary, largest) * on.count,
        "code": fullest * code * on.count,
    }


def _in_one(graph: OpGraph, chip: Spec, calibration: Spec, precision: str, draws: Draws) -> Dict[str, Any]:
    scale = itemsize(precision) / 4
    products = [op for op in graph.ops if op.kind in ("conv", "matmul")]
    largest = max((op.bytes_read + op.bytes_written for op in products), default=0)
    return {
        "resident": float(graph.parameter_bytes + graph.state_bytes),
        "live": draws.of(calibration, "live_factor") * live_bytes(graph, fused=False) * scale,
        "workspace": draws.of(calibration, "workspace_factor") * largest * scale,
        "context": draws.of(calibration, "context_bytes"),
    }


def distinct(found: Sequence[Group]) -> Tuple[int, int]:
    """Return how many distinct products there are, and how many supersteps of other distinct operations.

    Code is shared by what is alike: products of one shape, others of one kind, size and length of the chain.
    """
    products: Set[Hashable] = set()
    others: Dict[Hashable, int] = {}
    for group in found:
        op = group.ops[0]
        if bsp.is_product(op):
            products.add((op.name, *sorted((name, str(value)) for name, value in op.attributes.items())))
        elif op.kind != "copy" or op.inputs:
            signature = (group.kind, bsp.elements_of(group), len(group.ops), op.name)
            others[signature] = bsp.supersteps_of(group)
    return len(products), sum(others.values())
