"""The real formulation with its work on matrices in kernels: staples and mixing at once.

On a GPU there is a kernel of the staple network only. Everything else is as in :mod:`real`, whose derivative the
backward pass takes.
"""

from __future__ import annotations

import importlib.util
from typing import Any, Callable, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from siderostat.workloads.base import BadInput
from siderostat.workloads.gauge_flow import native, operators, pairs
from siderostat.workloads.gauge_flow.coupling import WIDTH, Width
from siderostat.workloads.gauge_flow.lattice import Extents, Update
from siderostat.workloads.gauge_flow.real import RealCoupling, RealFlow, with_tables


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
        if staples.is_cuda:
            return super().projected(staples)
        return _fused(_projected, pairs.projected, staples)

    def traces(self, links: Tensor) -> Tensor:
        """See :class:`real.RealCoupling`."""
        if links.is_cuda:
            return super().traces(links)
        return _fused(self._traces, super().traces, links)

    def _staples(self, links: Tensor, *mixing: Tensor) -> Tensor:
        batch = links.shape[-1]
        s = _padded(links * self.tables.frozen).permute(3, 0, 1, 2, 4)[:, None].contiguous()
        for level, weights in enumerate(mixing):
            s = operators.level(s, weights, self.tables.level(level))
        return s[:, 0, ..., :batch].permute(1, 2, 3, 0, 4).contiguous()

    def _traces(self, links: Tensor) -> Tensor:
        return operators.traces(_padded(links), self.tables.corners)[..., : links.shape[-1]]


def _projected(staples: Tensor) -> Tensor:
    return operators.projected(_padded(staples))[..., : staples.shape[-1]]


def _padded(tensor: Tensor) -> Tensor:
    """Return a contiguous tensor whose batch, but on a GPU, is a multiple of the kernel's width."""
    missing = 0 if tensor.is_cuda else -tensor.shape[-1] % operators.width(tensor)[1]
    return F.pad(tensor, (0, missing)) if missing else tensor.contiguous()


def _fused(fast: Callable[..., Tensor], plain: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """Return ``fast`` of the inputs; the derivative is that of ``plain``, which computes the same."""
    result: Tensor = _Fused.apply(fast, plain, *inputs)  # type: ignore[no-untyped-call]
    return result


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, fast: Callable[..., Tensor], plain: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        ctx.plain = plain
        ctx.parameters = [a if isinstance(a, torch.nn.Parameter) else None for a in inputs]
        ctx.save_for_backward(*inputs)
        return fast(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tuple[Any, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        needed = ctx.needs_input_grad[2:]
        # Inputs come anew, so that the derivative ends here. Parameters are used as they are: what comes back of saved
        # ones is another tensor where hooks look at it on the way, as the tracer's do.
        inputs = [
            a.detach().requires_grad_(is_needed) if parameter is None else parameter
            for parameter, a, is_needed in zip(ctx.parameters, ctx.saved_tensors, needed)
        ]
        with torch.enable_grad():
            result = ctx.plain(*inputs)
        found = iter(torch.autograd.grad(result, [a for a, is_needed in zip(inputs, needed) if is_needed], gradient))
        return (None, None, *(next(found) if is_needed else None for is_needed in needed))


def flow(extents: Extents, updates: Sequence[Update], learned: Sequence[bool], width: Width = WIDTH) -> RealFlow:
    """Return a flow with parameters of 0.

    Raises:
        BadInput: if the kernel for a processor cannot be compiled, and there is no Triton for a GPU either.
    """
    try:
        native.library()
    except BadInput:
        if importlib.util.find_spec("triton") is None:
            raise
    return RealFlow([FusedCoupling(extents, *how, width) for how in with_tables(extents, updates, learned, width)])
