"""PyTorch steps on the host's processor."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Sequence

import numpy as np
import torch

from siderostat.devices.cpu.loop import Loop
from siderostat.workloads.base import Phase, Step


def configure(threads: int) -> None:
    """Fix the number of threads."""
    torch.set_num_threads(threads)


def effective() -> Dict[str, Any]:
    """Return what PyTorch says of its threads."""
    return {"threads": torch.get_num_threads()}


class TorchProgram(Loop):
    """An eager training or inference step."""

    def __init__(self, step: Step) -> None:
        super().__init__([_closure(phase) for phase in step.phases])

    def infer(self, model: Any, arrays: Sequence[np.ndarray]) -> List[np.ndarray]:
        """See :meth:`Program.infer`."""
        training = [(module, module.training) for module in model.modules()]  # parts may be frozen: each has its own
        model.eval()
        try:
            with torch.inference_mode():
                return self._as_arrays(model(*map(torch.from_numpy, arrays)))
        finally:
            for module, was in training:
                module.training = was

    def _as_arrays(self, outputs: Any) -> List[np.ndarray]:
        return [o.detach().numpy() for o in (outputs if isinstance(outputs, tuple) else (outputs,))]


def _closure(phase: Phase) -> Callable[[], Any]:
    """Return what one step of ``phase`` does: take the next batch from host memory, compute, update."""
    model, feed = phase.model, phase.feed
    if phase.optimizer is None:

        def infer() -> Any:
            with torch.inference_mode():
                return model(*map(torch.from_numpy, feed.next()))

        return infer
    optimizer = phase.optimizer(model.parameters())

    def train() -> Any:
        optimizer.zero_grad(set_to_none=True)
        out = model(*map(torch.from_numpy, feed.next()))
        out[-1].backward()
        optimizer.step()
        return out

    return train
