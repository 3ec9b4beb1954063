"""The optimiser's part of a PyTorch step: one operation for each parameter, from what the real optimiser does."""

from __future__ import annotations

import math
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Set, Tuple

from torch import Tensor

from siderostat.devices.base import Unsupported
from siderostat.devices.sim.opgraph import Op, TensorSpec
from siderostat.devices.sim.torch_recorder import META, Recorder

KINDS: Mapping[str, Tuple[int, int]] = {
    "SGD": (1, 2), "Adam": (2, 7), "AdamW": (2, 8), "NAdam": (2, 8), "RAdam": (2, 9), "Adamax": (2, 6),
    "RMSprop": (1, 5), "Adagrad": (1, 4), "Adadelta": (2, 8), "LAMB": (2, 12),
}  # fmt: skip
"""Tensors of state and element-wise operations per parameter, for optimisers that cannot be traced."""


def trace_update(
    make: Callable[[Any], Any],
    parameters: Sequence[Tensor],
    gradients: Mapping[int, Optional[Tensor]],
    recorder: Recorder,
) -> None:
    """Write down one update.

    What the optimiser's hooks do before it, such as clipping, is written down as it is; what it does with one parameter
    becomes one operation of kind ``optimizer``, whether it is run as many kernels or as one.

    Args:
        make: makes the optimiser; this one is thrown away.
        parameters: of the model, on meta.
        gradients: id of a parameter -> its gradient, None where it has none.
        recorder: writes.

    Raises:
        Unsupported: if the optimiser takes values out of its tensors and its kind is not known.
    """
    for parameter in parameters:
        parameter.grad = gradients.get(id(parameter))
    recorder.is_recording = False
    with recorder:
        optimizer = make(iter(parameters))
        for group in optimizer.param_groups:
            group.update({key: False for key in ("foreach", "fused") if group.get(key) is not None or key in group})
        trained = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        before = len(recorder.ops)
        try:
            _step(optimizer, recorder)
        except (NotImplementedError, RuntimeError, TypeError, Unsupported) as error:
            del recorder.ops[before:]
            _from_kind(type(optimizer).__name__, trained, recorder, error)
    recorder.is_recording = True
    for parameter in parameters:
        parameter.grad = None


def _step(optimizer: Any, recorder: Recorder) -> None:
    """Update twice: the state is there from the second time on, which is what is written down."""
    optimizer.step()
    owners: Dict[int, int] = {}
    states: Dict[int, int] = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is None:
                continue
            kept = [s for s in optimizer.state[parameter].values() if isinstance(s, Tensor) and s.device == META]
            number = recorder.storage(parameter)
            states[number] = sum(s.numel() == parameter.numel() for s in kept)
            recorder.state.update(recorder.storage(s) for s in kept)
            owners.update({recorder.storage(t): number for t in (parameter, parameter.grad, *kept)})
    recorder.resident |= recorder.state
    begin: List[int] = []
    optimizer.register_step_pre_hook(lambda *_: begin.append(len(recorder.ops)))
    recorder.is_recording = True
    optimizer.step()
    start = begin[-1]
    recorder.ops[start:] = _merged(recorder.ops[start:], type(optimizer).__name__, owners, states, recorder.resident)


def _merged(
    ops: Sequence[Op], name: str, owners: Dict[int, int], states: Mapping[int, int], resident: Set[int]
) -> List[Op]:
    """Put together what is done with each parameter alone; what concerns several of them stays as it is."""
    parts: Dict[int, List[Op]] = {}
    order: List[Any] = []
    for op in ops:
        touched = {owners[t.id] for t in (*op.inputs, *op.outputs) if t.id in owners}
        if len(touched) != 1:
            order.append(op)
            continue
        owner = touched.pop()
        owners.update({t.id: owner for t in op.outputs if t.id not in owners})  # what is put aside on the way
        if owner not in parts:
            order.append(owner)
        parts.setdefault(owner, []).append(op)
    return [one if isinstance(one, Op) else _one(parts[one], name, states[one], resident) for one in order]


def _one(ops: Sequence[Op], name: str, state: int, resident: Set[int]) -> Op:
    """Return what several operations in turn read from outside, and write that stays."""
    inputs: Dict[Tuple[int, Tuple[int, ...]], TensorSpec] = {}
    outputs: Dict[Tuple[int, Tuple[int, ...]], TensorSpec] = {}
    made: Set[int] = set()
    for op in ops:
        inputs.update({(t.id, t.shape): t for t in op.inputs if t.id not in made})
        made.update(t.id for t in op.outputs)
        outputs.update({(t.id, t.shape): t for t in op.outputs if t.id in resident})
    attributes = {"name": name, "state": state, "operations": len(ops)}
    flops = sum(op.flops for op in ops)
    return Op(
        name, "optimizer", "update", flops, tuple(inputs.values()), tuple(outputs.values()), attributes, ops[0].phase
    )


def _from_kind(name: str, trained: Sequence[Tensor], recorder: Recorder, error: BaseException) -> None:
    """Write down what optimisers of this name do."""
    if name not in KINDS:
        raise Unsupported(
            f"the optimiser {name} cannot be traced, and what it does is not known: {str(error).splitlines()[0]}"
        ) from error
    tensors, operations = KINDS[name]
    for parameter in trained:
        states = [parameter.new_empty(parameter.shape) for _ in range(tensors)]
        recorder.state.update(recorder.storage(s) for s in states)
        attributes = {"name": name, "state": tensors, "operations": operations}
        flops = float(operations * math.prod(parameter.shape))
        assert parameter.grad is not None
        kept = [parameter, *states]
        recorder.add(name, "optimizer", flops, [parameter.grad, *kept], kept, attributes)
    recorder.resident |= recorder.state
