"""PyTorch steps on the host's processor."""

from __future__ import annotations

from typing import Any, Callable, Dict, List

import numpy as np
import torch

from siderostat.devices.cpu.loop import Loop
from siderostat.workloads.base import Phase, Step


def use_threads(threads: int) -> Dict[str, Any]:
    """Fix the number of threads and return the number in force."""
    torch.set_num_threads(threads)
    return {"threads": torch.get_num_threads()}


class TorchProgram(Loop):
    """An eager training or inference step."""

    def __init__(self, step: Step) -> None:
        super().__init__([_closure(phase) for phase in step.phases])

    def outputs(self) -> List[np.ndarray]:
        """See :meth:`Program.outputs`."""
        last = self._last if isinstance(self._last, tuple) else (self._last,)
        return [o.detach().numpy() for o in last]


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
