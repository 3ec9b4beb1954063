"""PyTorch steps on the host's processor."""

from __future__ import annotations

from typing import Any, Dict

import torch

from siderostat.devices.torch_step import Batches, TorchProgram
from siderostat.workloads.base import Feed, Step


def configure(threads: int) -> None:
    """Fix the number of threads."""
    torch.set_num_threads(threads)


def effective() -> Dict[str, Any]:
    """Return what PyTorch says of its threads, and of the processor's instructions where it tells."""
    told = getattr(torch.backends, "cpu", None)
    return {"threads": torch.get_num_threads(), "simd": told.get_cpu_capability() if told is not None else None}


def program(step: Step, precision: str, is_compiled: bool) -> TorchProgram:
    """Make a step ready.

    Raises:
        Unsupported: if this torch does not have the precision on a processor.
        CompileFailed: if it cannot compile here.
    """
    return TorchProgram(step, torch.device("cpu"), precision, is_compiled, _from_host)


def _from_host(feed: Feed) -> Batches:
    """Return batches as they lie in host memory: nothing is copied."""
    return lambda: [torch.from_numpy(a) for a in feed.next()]
