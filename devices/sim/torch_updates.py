"""The optimiser's part of a PyTorch step: one operation for each parameter, from what the real optimiser does."""

from __future__ import annotations

import math
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence

from torch import Tensor

from siderostat.devices.base import Unsupported
from siderostat.devices.sim import optimizers
from siderostat.devices.sim.torch_recorder import META, Recorder


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
            group.update({key: False for key in ("foreach", "fused") if key in group})
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
    recorder.ops[start:] = optimizers.merged(
        recorder.ops[start:], type(optimizer).__name__, owners, states, recorder.resident
    )


def _from_kind(name: str, trained: Sequence[Tensor], recorder: Recorder, error: BaseException) -> None:
    """Write down what optimisers of this name do."""
    if name not in optimizers.KNOWN:
        raise Unsupported(
            f"the optimiser {name} cannot be traced, and what it does is not known: {str(error).splitlines()[0]}"
        ) from error
    tensors, operations = optimizers.KNOWN[name]
    for parameter in trained:
        states = [parameter.new_empty(parameter.shape) for _ in range(tensors)]
        recorder.state.update(recorder.storage(s) for s in states)
        attributes = {"name": name, "state": tensors, "operations": operations}
        flops = float(operations * math.prod(parameter.shape))
        assert parameter.grad is not None
        kept = [parameter, *states]
        recorder.add(name, "optimizer", flops, [parameter.grad, *kept], kept, attributes)
    recorder.resident |= recorder.state
