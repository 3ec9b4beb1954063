"""The real formulation with its work on matrices in a kernel on the processor: staples and mixing at once.

Everything else is as in :mod:`real`, whose derivative the backward pass takes.
"""

from __future__ import annotations

from typing import Any, Callable, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from siderostat.workloads.gauge_flow import native, pairs
from siderostat.workloads.gauge_flow.coupling import WIDTH, Width
from siderostat.workloads.gauge_flow.group import COLOURS
from siderostat.workloads.gauge_flow.lattice import Extents, Update
from siderostat.workloads.gauge_flow.real import RealCoupling, RealFlow, with_tables

_KINDS = {torch.float32: ("float", (4, 16)), torch.float64: ("double", (4, 8))}


class FusedCoupling(RealCoupling):
    """One layer."""

    def active_staples(self, links: Tensor) -> Tensor:
        """See :class:`real.RealCoupling`."""
        if not self.learned:
            return super().active_staples(links)
        plain = super().active_staples
        return _fused(self._staples, lambda links, *_: plain(links), links, *self.mixing)

    def projected(self, staples: Tensor) -> Tensor:
        """See :class:`real.RealCoupling`."""
        return _fused(_projected, pairs.projected, staples)

    def traces(self, links: Tensor) -> Tensor:
        """See :class:`real.RealCoupling`."""
        return _fused(self._traces, super().traces, links)

    def _staples(self, links: Tensor, *mixing: Tensor) -> Tensor:
        batch = links.shape[-1]
        s = _padded(links * self.tables.frozen).permute(3, 0, 1, 2, 4)[:, None].contiguous()
        for level, weights in enumerate(mixing):
            s = _level(s, weights.contiguous(), self.tables.level(level))
        return s[:, 0, ..., :batch].permute(1, 2, 3, 0, 4).contiguous()

    def _traces(self, links: Tensor) -> Tensor:
        corners, batch = self.tables.corners, links.shape[-1]
        links = _padded(links)
        out = links.new_zeros((2, corners.shape[1] + 1, links.shape[-1]))
        stride = links.shape[-2] * links.shape[-1]
        _call("traces", (links, out, corners), stride, corners.shape[1], links.shape[-1])
        return out[..., :batch]


def _level(s: Tensor, mixing: Tensor, table: Sequence[Tensor]) -> Tensor:
    """Return one level of the staple network as rows, (n, outside, 2, 3, 3, batch)."""
    links, inside, outside, batch = len(table[0]), s.shape[1], len(mixing), s.shape[-1]
    out = s.new_empty((links, outside, 2, COLOURS, COLOURS, batch))
    _call("level", (s, out, *table, mixing), links, inside, outside, batch)
    return out


def _projected(staples: Tensor) -> Tensor:
    whole = _padded(staples)
    out = torch.empty_like(whole)
    _call("project", (whole, out), whole.shape[-2], whole.shape[-1], pairs.NEWTON_STEPS)
    return out[..., : staples.shape[-1]]


def _width(tensor: Tensor) -> Tuple[str, int]:
    """Return the kernel's name of a tensor's type, and how many configurations lie side by side.

    Raises:
        RuntimeError: if it is not in the host's memory, or in another precision than single or double.
    """
    if tensor.device.type != "cpu" or tensor.dtype not in _KINDS:
        raise RuntimeError(
            f"the variant fused of gauge-flow runs on a processor in float32 or float64, and not on {tensor.device} in "
            f"{tensor.dtype}; use the variant real"
        )
    kind, widths = _KINDS[tensor.dtype]
    return kind, next((width for width in widths if width >= tensor.shape[-1]), widths[-1])


def _padded(tensor: Tensor) -> Tensor:
    """Return a contiguous tensor whose batch is a multiple of the kernel's width."""
    missing = -tensor.shape[-1] % _width(tensor)[1]
    return F.pad(tensor, (0, missing)) if missing else tensor.contiguous()


def _call(name: str, arrays: Sequence[Tensor], *counts: int) -> None:
    kernel = native.function(name, *_width(arrays[0]))
    kernel(*(array.data_ptr() for array in arrays), *counts, torch.get_num_threads())


def _fused(fast: Callable[..., Tensor], plain: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """Return ``fast`` of the inputs; the derivative is that of ``plain``, which computes the same."""
    result: Tensor = _Fused.apply(fast, plain, *inputs)  # type: ignore[no-untyped-call]
    return result


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, fast: Callable[..., Tensor], plain: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        ctx.plain = plain
        ctx.save_for_backward(*inputs)
        return fast(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tuple[Any, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        needed = ctx.needs_input_grad[2:]
        # Inputs come anew, so that the derivative ends here; parameters are used as they are.
        inputs = [
            a if isinstance(a, torch.nn.Parameter) else a.detach().requires_grad_(is_needed)
            for a, is_needed in zip(ctx.saved_tensors, needed)
        ]
        with torch.enable_grad():
            result = ctx.plain(*inputs)
        found = iter(torch.autograd.grad(result, [a for a, is_needed in zip(inputs, needed) if is_needed], gradient))
        return (None, None, *(next(found) if is_needed else None for is_needed in needed))


def flow(extents: Extents, updates: Sequence[Update], learned: Sequence[bool], width: Width = WIDTH) -> RealFlow:
    """Return a flow with parameters of 0.

    Raises:
        BadInput: if the kernel cannot be compiled.
    """
    native.library()
    return RealFlow([FusedCoupling(extents, *how, width) for how in with_tables(extents, updates, learned, width)])
