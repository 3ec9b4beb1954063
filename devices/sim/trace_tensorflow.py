"""TensorFlow steps, traced by walking the graphs of their concrete functions; nothing is computed.

The optimiser is a real one and makes its variables, as it does when the step is compiled; the models' stay as they are.
"""

from __future__ import annotations

import copy
from typing import Any, Callable, List, Sequence, Set, Tuple

import tensorflow as tf

from siderostat.devices.sim import optimizers
from siderostat.devices.sim.opgraph import Op, OpGraph
from siderostat.devices.sim.tensorflow_walk import Walk
from siderostat.workloads.base import Phase, Step


def trace(step: Step) -> OpGraph:
    """Return the operations of one step, as TensorFlow runs them; those whose results nobody needs are left out.

    Args:
        step: a step of TensorFlow.

    Raises:
        Unsupported: if a shape, or how often a loop turns, depends on values.
    """
    walk = Walk()
    input_bytes = saved_bytes = 0
    for number, phase in enumerate(step.phases):
        signature = [tf.TensorSpec(a.shape, a.dtype) for a in copy.copy(phase.feed).next()]
        input_bytes += sum(s.shape.num_elements() * s.dtype.size for s in signature)
        start = len(walk.ops)
        walk.phase = number
        _trace_phase(phase, signature, walk)
        walk.ops[start:] = _needed(walk.ops[start:], walk.resident | walk.returned)
        saved_bytes += sum(walk.storages[i] for i in _saved(walk.ops[start:]) - walk.resident)
    return OpGraph(
        framework="tensorflow",
        ops=walk.ops,
        parameter_bytes=sum(walk.storages[i] for i in walk.resident - walk.state),
        state_bytes=sum(walk.storages[i] for i in walk.state),
        input_bytes=input_bytes,
        saved_bytes=saved_bytes,
        resident=frozenset(walk.resident),
        items=step.items,
        parameters=walk.parameters,
        storages=dict(walk.storages),
        returned=frozenset(walk.returned - walk.resident),
    )


def _trace_phase(phase: Phase, signature: Sequence[Any], walk: Walk) -> None:
    if phase.optimizer is None:
        function = tf.function(lambda *batch: phase.model(*batch)).get_concrete_function(*signature)
        walk.whole(function, lambda number: "forward")
        return
    variables = phase.model.trainable_variables
    optimizer = phase.optimizer(variables)
    _make_state(optimizer, variables)
    ends: List[Tuple[int, int]] = []
    gradients: List[Any] = []
    function = tf.function(_training(phase.model, variables, optimizer, ends, gradients)).get_concrete_function(
        *signature
    )
    forward, backward = ends[-1]
    walk.state_of(_variables_of(optimizer))
    start = len(walk.ops)
    walk.whole(
        function, lambda number: "forward" if number < forward else "backward" if number < backward else "update"
    )
    _merge_update(walk, start, variables, gradients, type(optimizer).__name__)


def _training(
    model: Any, variables: Any, optimizer: Any, ends: List[Tuple[int, int]], gradients: List[Any]
) -> Callable[..., Any]:
    """Return what computes one training step, and notes where in its graph each pass ends."""

    def train(*batch: Any) -> Any:
        graph = tf.compat.v1.get_default_graph()
        with tf.GradientTape() as tape:
            out = model(*batch)
        forward = len(graph.get_operations())
        gradients[:] = tape.gradient(out[-1], variables)
        ends.append((forward, len(graph.get_operations())))
        optimizer.apply_gradients(zip(gradients, variables))
        return out

    return train


def _make_state(optimizer: Any, variables: Any) -> None:
    """Have the optimiser make its variables now: otherwise TensorFlow traces the function twice."""
    make = getattr(optimizer, "build", None) or getattr(optimizer, "_create_all_weights", None)
    if make is not None:
        make(variables)


def _variables_of(optimizer: Any) -> Sequence[Any]:
    found: Any = optimizer.variables
    variables: Any = found() if callable(found) else found
    return list(variables)


def _merge_update(walk: Walk, start: int, variables: Sequence[Any], gradients: Sequence[Any], name: str) -> None:
    """Make one operation of what an optimiser does with one variable in many small ones."""
    found = next(
        (
            i
            for i in range(start, len(walk.ops))
            if walk.ops[i].stage == "update"
            and any(t.id in walk.state and t.numel > 1 for t in (*walk.ops[i].inputs, *walk.ops[i].outputs))
        ),
        None,
    )
    if found is None or any(op.kind == "optimizer" for op in walk.ops[found:]):
        return
    owners = {}
    for variable, gradient in zip(variables, gradients):
        if gradient is not None and isinstance(gradient, tf.Tensor):
            number = walk.variable(variable)
            owners[number] = number
            storage = walk.storage_of(gradient)
            if storage is not None:
                owners[storage] = number
    ops = walk.ops[found:]
    sizes = dict.fromkeys(owners.values(), 0)
    for variable in variables:
        number = walk.variable(variable)
        sizes[number] = sum(
            walk.storages[s] == walk.storages[number] for s in _touched(ops, number, owners, walk.state)
        )
    walk.ops[found:] = optimizers.merged(ops, name, owners, sizes, walk.resident)


def _touched(ops: Sequence[Op], number: int, owners: Any, state: Set[int]) -> Set[int]:
    """Return the variables of state that operations with one parameter's tensors write to."""
    owned = {storage for storage, owner in owners.items() if owner == number}
    found: Set[int] = set()
    for op in ops:
        if any(t.id in owned for t in op.inputs):
            owned.update(t.id for t in op.outputs)
            found.update(t.id for t in op.outputs if t.id in state)
    return found


def _needed(ops: Sequence[Op], kept: Set[int]) -> List[Op]:
    """Return the operations whose results are kept or read: TensorFlow runs no others."""
    needed = set(kept)
    found: List[Op] = []
    for op in reversed(ops):
        if any(t.id in needed for t in op.outputs):
            needed.update(t.id for t in op.inputs)
            found.append(op)
    return found[::-1]


def _saved(ops: Sequence[Op]) -> Set[int]:
    """Return what the forward pass reads or makes and the backward pass reads."""
    there: Set[int] = set()
    saved: Set[int] = set()
    for op in ops:
        if op.stage == "forward":
            there.update(t.id for t in (*op.inputs, *op.outputs))
        elif op.stage == "backward":
            saved.update(t.id for t in op.inputs if t.id in there)
    return saved
