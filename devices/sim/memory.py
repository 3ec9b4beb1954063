"""Memory that a step needs, and how likely it fits.

With tiles: parameters, optimiser state and live tensors are spread evenly, the operands of the largest product and the
code of every distinct operation are in each tile besides, and the fullest tile decides. With one memory: the same
tensors as an allocator keeps them, a workspace, and what the framework takes before the first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Sequence, Set, Tuple

from siderostat.devices.sim import bsp, chips
from siderostat.devices.sim.bands import Draws, share_at_most, total
from siderostat.devices.sim.fusion import Group, groups
from siderostat.devices.sim.opgraph import Op, OpGraph
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
    found = groups(graph)
    on = bsp.tiles(chip, calibration, itemsize(precision))
    scale = itemsize(precision) / 4
    products, others = signatures(found)
    temporary = max((bsp.planned(op, on).temporary_bytes for op in graph.ops if bsp.is_product(op)), default=0.0)
    largest = calibration["temporary_share"] * on.memory_bytes

    def of(key: str) -> Any:
        return draws.of(calibration, key)

    code = of("code_bytes") + len(products) * of("code_product_bytes") + len(others) * of("code_other_bytes")
    fullest = of("imbalance")
    return {
        "resident": fullest * (graph.parameter_bytes + graph.state_bytes) * scale,
        "live": fullest * of("live_factor") * live_bytes(found, graph) * scale,
        "temporary": fullest * min(temporary, largest) * on.count,
        "code": fullest * code * on.count,
    }


def _in_one(graph: OpGraph, chip: Spec, calibration: Spec, precision: str, draws: Draws) -> Dict[str, Any]:
    scale = itemsize(precision) / 4
    products = [op for op in graph.ops if op.kind in ("conv", "matmul")]
    largest = max((op.bytes_read + op.bytes_written for op in products), default=0)
    single = [Group(op.kind, [op], 0) for op in graph.ops]  # nothing is fused: every result is written
    return {
        "resident": float(graph.parameter_bytes + graph.state_bytes),
        "live": draws.of(calibration, "live_factor") * live_bytes(single, graph) * scale,
        "workspace": draws.of(calibration, "workspace_factor") * largest * scale,
        "context": draws.of(calibration, "context_bytes"),
    }


def live_bytes(found: Sequence[Group], graph: OpGraph) -> int:
    """Return the largest sum of bytes that live at one time, inputs with them and what is resident without.

    A tensor lives from the group that makes it to the last that reads it, one that is returned to the end. What a chain
    makes and uses up within itself is never written, and a chain writes over what dies in it.
    """
    born, last = _lives(found, graph)
    size = {t.id: t.nbytes for g in found for op in g.ops for t in op.outputs}
    for tensor_id in list(size):
        size[tensor_id] = max(size[tensor_id], graph.storages.get(tensor_id, 0))
    starts: List[int] = [0] * len(found)
    ends: List[int] = [0] * len(found)
    for tensor_id, first in born.items():
        if found[first].kind == "elementwise" and len(found[first].ops) > 1 and last[tensor_id] == first:
            continue
        starts[first] += size[tensor_id]
        ends[last[tensor_id]] += size[tensor_id]
    now = peak = 0
    for group, start, end in zip(found, starts, ends):
        in_place = group.kind == "elementwise"
        now += start - (end if in_place else 0)
        peak = max(peak, now)
        now -= 0 if in_place else end
    return peak + graph.input_bytes


def _lives(found: Sequence[Group], graph: OpGraph) -> Tuple[Dict[int, int], Dict[int, int]]:
    """Return by tensor the group that makes it first and the one that touches it last."""
    born: Dict[int, int] = {}
    last: Dict[int, int] = {}
    for number, group in enumerate(found):
        for op in group.ops:
            for tensor in op.outputs:
                if tensor.id not in graph.resident:
                    born.setdefault(tensor.id, number)
                    last[tensor.id] = number
            for tensor in op.inputs:
                if tensor.id in born:
                    last[tensor.id] = number
    last.update({tensor_id: len(found) - 1 for tensor_id in graph.returned if tensor_id in born})
    return born, last


def signatures(found: Sequence[Group]) -> Tuple[Set[Any], Set[Any]]:
    """Return what tells the code of operations apart: of products by their shape, of others by kind, size and length."""
    products: Set[Any] = set()
    others: Set[Any] = set()
    for group in found:
        op = group.ops[0]
        if bsp.is_product(op):
            products.add((op.name, _key(op)))
        elif op.kind != "copy" or op.inputs:
            others.add((group.kind, group.elements, len(group.ops), op.name))
    return products, others


def _key(op: Op) -> Tuple[Tuple[str, str], ...]:
    return tuple(sorted((name, str(value)) for name, value in op.attributes.items()))
