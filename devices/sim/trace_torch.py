"""PyTorch steps, traced on meta tensors: shapes without values, so that nothing is computed and no memory is taken.

A dispatch mode sees every operation below autograd, those of the backward pass and of the optimiser too. The models'
parameters and buffers give way to meta tensors of the same shapes while their step is traced, and come back after it.
"""

from __future__ import annotations

import contextlib
import copy
from typing import Any, Iterator, List, Sequence, Tuple

import torch
from torch import Tensor, nn

from siderostat.devices.base import Unsupported
from siderostat.devices.sim.opgraph import OpGraph
from siderostat.devices.sim.torch_recorder import META, Recorder
from siderostat.devices.sim.torch_updates import trace_update
from siderostat.workloads.base import Phase, Step


def trace(step: Step) -> OpGraph:
    """Return the operations of one step: forward passes and, where a phase trains, backward passes and updates.

    Args:
        step: a step of PyTorch. Its models are left as they were, and so are random numbers and the feeds.

    Raises:
        Unsupported: if what is computed depends on values, or has no form without them.
    """
    recorder = Recorder()
    input_bytes = 0
    with _models_on_meta(step, recorder):
        for number, phase in enumerate(step.phases):
            recorder.phase = number
            batch = [_empty_like(array) for array in copy.copy(phase.feed).next()]
            input_bytes += sum(t.numel() * t.element_size() for t in batch)
            try:
                _trace_phase(phase, batch, recorder)
            except (NotImplementedError, RuntimeError, TypeError) as error:
                if "meta" not in str(error).lower():
                    raise
                raise Unsupported(
                    "the step cannot be traced: it takes values out of a tensor, or has an operation that is not known "
                    f"without them ({str(error).splitlines()[0]}); write it so that shapes alone say what is computed"
                ) from error
    return OpGraph(
        framework="torch",
        ops=recorder.ops,
        parameter_bytes=sum(recorder.storages[i] for i in recorder.held),
        state_bytes=sum(recorder.storages[i] for i in recorder.state),
        input_bytes=input_bytes,
        saved_bytes=sum(recorder.storages[i] for i in recorder.saved - recorder.resident),
        resident=frozenset(recorder.resident),
        items=step.items,
        parameters=recorder.parameters,
        storages=dict(recorder.storages),
        returned=frozenset(recorder.returned - recorder.resident),
    )


def _trace_phase(phase: Phase, batch: Sequence[Tensor], recorder: Recorder) -> None:
    recorder.stage = "forward"
    if phase.optimizer is None:
        with torch.no_grad(), recorder:
            recorder.returns(phase.model(*batch))
        return
    with torch.enable_grad(), recorder:
        with torch.autograd.graph.saved_tensors_hooks(recorder.save, lambda saved: saved):
            out = phase.model(*batch)
        recorder.returns(out)
        recorder.stage = "backward"
        parameters = list(phase.model.parameters())
        trained = [p for p in parameters if p.requires_grad]
        gradients = torch.autograd.grad(out[-1], trained, allow_unused=True)
    recorder.stage = "update"
    trace_update(phase.optimizer, parameters, dict(zip(map(id, trained), gradients)), recorder)


def _empty_like(array: Any) -> Tensor:
    return torch.empty(array.shape, dtype=torch.from_numpy(array[:0]).dtype, device=META)


@contextlib.contextmanager
def _models_on_meta(step: Step, recorder: Recorder) -> Iterator[None]:
    """Replace the parameters and buffers of all models by meta tensors; each phase may use those of another."""
    modules = {id(module): module for phase in step.phases for module in phase.model.modules()}
    taken: List[Tuple[nn.Module, str, Tensor]] = []
    try:
        for module in modules.values():
            for tensors in (module._parameters, module._buffers):
                for name, tensor in list(tensors.items()):
                    if tensor is not None:
                        taken.append((module, name, tensor))
                        setattr(module, name, recorder.stand_in(tensor))
        yield
    finally:
        # By setattr, since some modules keep lists of their parameters besides, such as recurrent ones.
        for module, name, tensor in taken:
            setattr(module, name, tensor)
