"""What optimisers do with each parameter: read off its operations, or known by name."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Sequence, Set, Tuple

from siderostat.devices.sim.opgraph import Op, TensorSpec

KNOWN: Mapping[str, Tuple[int, int]] = {
    "SGD": (1, 2), "Momentum": (1, 3), "GradientDescent": (0, 1), "Adam": (2, 7), "AdamW": (2, 8), "NAdam": (2, 8),
    "RAdam": (2, 9), "Adamax": (2, 6), "RMSprop": (1, 5), "Adagrad": (1, 4), "Adadelta": (2, 8), "LAMB": (2, 12),
}  # fmt: skip
"""Tensors of state, and element-wise operations per element of a parameter, of optimisers that tell neither."""


def merged(
    ops: Sequence[Op], name: str, owners: Mapping[int, int], states: Mapping[int, int], resident: Set[int]
) -> List[Op]:
    """Put together what is done with each parameter alone; what concerns several of them stays as it is.

    Args:
        ops: of an update.
        name: of the optimiser.
        owners: storage -> the parameter's storage, for parameters, their gradients and what is known of their state.
        states: the parameter's storage -> tensors of state as large as it.
        resident: storages that outlive the step.
    """
    owned = dict(owners)
    parts: Dict[int, List[Op]] = {}
    order: List[Any] = []
    for op in ops:
        touched = {owned[t.id] for t in (*op.inputs, *op.outputs) if t.id in owned}
        if len(touched) != 1:
            order.append(op)
            continue
        owner = touched.pop()
        owned.update({t.id: owner for t in op.outputs if t.id not in owned})  # what is put aside on the way
        if owner not in parts:
            order.append(owner)
        parts.setdefault(owner, []).append(op)
    return [one if isinstance(one, Op) else _one(parts[one], name, states[one], resident) for one in order]


def _one(ops: Sequence[Op], name: str, state: int, resident: Set[int]) -> Op:
    """Return what several operations in turn read from outside, and write that stays."""
    inputs: Dict[TensorSpec, None] = {}
    outputs: Dict[TensorSpec, None] = {}
    made: Set[int] = set()
    for op in ops:
        inputs.update(dict.fromkeys(t for t in op.inputs if t.id not in made))
        made.update(t.id for t in op.outputs)
        outputs.update(dict.fromkeys(t for t in op.outputs if t.id in resident))
    attributes = {"name": name, "state": state, "operations": len(ops)}
    flops = sum(op.flops for op in ops)
    return Op(name, "optimizer", "update", flops, tuple(inputs), tuple(outputs), attributes, ops[0].phase)
