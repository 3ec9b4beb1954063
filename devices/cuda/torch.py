"""PyTorch steps on a GPU: batches copied ahead, one synchronisation per block, time by events beside the clock."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence

import torch
from torch import Tensor

from siderostat.devices.torch_step import Batches, TorchProgram
from siderostat.workloads.base import Feed, Step


class CudaProgram(TorchProgram):
    """A training or inference step.

    Args:
        step: what to run.
        precision: ``fp32``, ``tf32``, ``bf16`` or ``fp16``; TensorFloat-32 is switched off for all but the second.
        is_compiled: see :class:`TorchProgram`.
        is_resident: all inputs lie on the GPU before the clock runs, instead of each batch being copied there from
            page-locked memory, on a stream of its own, while the step before computes.
        device: torch's name of the GPU.
        cuda: what answers as ``torch.cuda``.

    Raises:
        Unsupported: if the GPU does not have the precision.
        CompileFailed: if this torch cannot compile on this Python at all.
    """

    def __init__(
        self,
        step: Step,
        precision: str,
        is_compiled: bool,
        is_resident: bool,
        device: torch.device,
        cuda: Any = torch.cuda,
    ) -> None:
        self._cuda = cuda
        self._started, self._stopped = cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        torch.backends.cudnn.allow_tf32 = precision == "tf32"
        batches = _Resident if is_resident else self._copied_ahead
        self._inputs = "resident" if is_resident else "host"
        super().__init__(step, device, precision, is_compiled, lambda feed: batches(feed, device))
        cuda.synchronize(device)

    def effective(self) -> Dict[str, Any]:
        """Return the switches in force, and the memory that torch's allocator holds."""
        return {
            **super().effective(),
            "inputs": self._inputs,
            "tf32_matmul": torch.backends.cuda.matmul.allow_tf32,
            "tf32_cudnn": torch.backends.cudnn.allow_tf32,
            "cudnn_benchmark": torch.backends.cudnn.benchmark,
            "memory_reserved_bytes": self._cuda.memory_reserved(self._device),
        }

    def peak_bytes(self) -> Optional[int]:
        """Return the most that tensors took: weights, inputs, activations; not the context, nor unused pieces."""
        return int(self._cuda.max_memory_allocated(self._device))

    def close(self) -> None:
        """See :meth:`TorchProgram.close`. What the allocator held goes back to the GPU."""
        super().close()
        self._cuda.empty_cache()

    def _begin(self) -> None:
        self._started.record()

    def _wait(self, last: Any) -> None:
        self._stopped.record()
        self._cuda.synchronize(self._device)

    def _device_s(self) -> Optional[float]:
        return float(self._started.elapsed_time(self._stopped)) * 1e-3

    def _copied_ahead(self, feed: Feed, device: torch.device) -> Batches:
        return _CopiedAhead(feed, device, self._cuda)


class _Resident:
    """Batches as views of arrays that lie on the GPU."""

    def __init__(self, feed: Feed, device: torch.device) -> None:
        self._feed = feed
        self._arrays = [torch.from_numpy(a).to(device) for a in feed.arrays]

    def __call__(self) -> Sequence[Tensor]:
        place = self._feed.place()
        return [a[place] for a in self._arrays]


class _CopiedAhead:
    """Batches copied from page-locked memory: while one is computed on, the next is on its way.

    A block begins with its first batch there and ends with that of the next block there: as many copies as steps.
    """

    def __init__(self, feed: Feed, device: torch.device, cuda: Any) -> None:
        self._feed = feed
        self._device = device
        self._cuda = cuda
        self._arrays = [torch.from_numpy(a).pin_memory() for a in feed.arrays]
        self._copies = cuda.Stream(device)
        self._next = self._copied()

    def __call__(self) -> Sequence[Tensor]:
        batch = self._next
        computing = self._cuda.current_stream(self._device)
        computing.wait_stream(self._copies)
        for tensor in batch:
            tensor.record_stream(computing)  # its memory is not for the next copy before this step is through
        self._next = self._copied()
        return batch

    def _copied(self) -> List[Tensor]:
        place = self._feed.place()
        with self._cuda.stream(self._copies):
            return [a[place].to(self._device, non_blocking=True) for a in self._arrays]
