"""Operations that a compiler for a chip of tiles does in one go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Optional

from siderostat.devices.sim.opgraph import Op, OpGraph


@dataclass(frozen=True)
class Group:
    """One operation, or a chain of element-wise ones over equally many elements.

    Attributes:
        kind: of all of them.
        ops: in order.
        elements: that it goes over.
    """

    kind: str
    ops: List[Op]
    elements: int


def groups(graph: OpGraph) -> List[Group]:
    """Return a step's operations, chains of element-wise ones put together where one reads what another wrote."""
    found: List[Group] = []
    made_by: Dict[int, Group] = {}
    for op in graph.ops:
        group = _open_group(op, made_by)
        if group is None:
            group = Group(_kind(op), [], _elements(op))
            found.append(group)
        group.ops.append(op)
        made_by.update({t.id: group for t in op.outputs})
    return found


def _open_group(op: Op, made_by: Dict[int, Group]) -> Optional[Group]:
    if _kind(op) != "elementwise":
        return None
    for tensor in reversed(op.inputs):
        group = made_by.get(tensor.id)
        if group is not None and group.kind == "elementwise" and group.elements == _elements(op):
            return group
    return None


def _kind(op: Op) -> str:
    """Return an operation's kind; normalisation by statistics that are given is an element-wise one."""
    return "elementwise" if op.kind == "norm" and op.attributes.get("statistics") == "given" else op.kind


def _elements(op: Op) -> int:
    tensors = (*op.inputs, *op.outputs) if op.kind in ("reduce", "norm", "pool", "optimizer", "other") else op.outputs
    return max((t.numel for t in tensors), default=0)
