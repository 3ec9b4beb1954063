"""Steps of the gauge flow in PyTorch: evaluate, inverse and train, for every formulation."""

from __future__ import annotations

import importlib
from typing import Any, Iterable, Sequence, Tuple

import torch
from torch import Tensor, nn

from siderostat.workloads.gauge_flow.coupling import WIDTH, Flow, Width
from siderostat.workloads.gauge_flow.group import COLOURS, DIMENSIONS
from siderostat.workloads.gauge_flow.lattice import Extents, Update


def make_flow(
    formulation: str, extents: Extents, updates: Sequence[Update], learned: Sequence[bool], width: Width = WIDTH
) -> Flow:
    """Return a flow in one formulation, its parameters 0.

    Args:
        formulation: ``complex``, ``real`` or ``fused``.
        extents: of the lattice.
        updates: of its layers, in order.
        learned: of each whether its active loops are learned.
        width: of its networks.

    Raises:
        ValueError: if an update does not fit the lattice.
    """
    module = importlib.import_module(f"siderostat.workloads.gauge_flow.{formulation}")
    flow: Flow = module.flow(extents, updates, learned, width)
    return flow


class FlowEvaluation(nn.Module):
    """Applies a flow, or its inverse, to gauge fields."""

    def __init__(self, flow: Flow, is_inverse: bool) -> None:
        super().__init__()
        self.flow = flow
        self.is_inverse = is_inverse

    def forward(self, links: Tensor) -> Tuple[Tensor, Tensor]:
        """Return new links and the log-determinant, (batch,).

        Args:
            links: real and imaginary parts, (batch, 4, L0, L1, L2, L3, 3, 3, 2).
        """
        return self.flow(links, self.is_inverse)  # type: ignore[no-any-return]


class FlowTraining(nn.Module):
    """Reverse Kullback-Leibler divergence of the flow's density from exp(-S) / Z, up to ln Z.

    Fields are drawn from the Haar measure on the device, and the gradient passes through the flow (reparameterisation).

    Args:
        flow: whose parameters are trained.
        extents: of the lattice.
        beta: of the Wilson action.
    """

    def __init__(self, flow: Flow, extents: Extents, beta: float) -> None:
        super().__init__()
        self.flow = flow
        self.extents = extents
        self.beta = beta

    def forward(self, numbers: Tensor) -> Tuple[Tensor, Tensor]:
        """Return log-weights ln w = -S(f(U)) + ln det f, (batch,), and the loss, -<ln w>, which is at least -ln Z.

        Args:
            numbers: (batch,), only to say how many fields to draw and in which precision.
        """
        moved, log_determinant = self.flow(haar_fields(numbers, self.extents))
        log_weights = log_determinant - self.flow.action(moved, self.beta)
        return log_weights, -log_weights.mean()


def haar_fields(like: Tensor, extents: Extents) -> Tensor:
    """Draw as many fields as ``like`` has elements, of its type and on its device, (batch, 4, *extents, 3, 3, 2)."""
    shape = (len(like), DIMENSIONS, *extents, 2, COLOURS, 2)
    return haar(torch.randn(shape, dtype=like.dtype, device=like.device))


def haar(normals: Tensor) -> Tensor:
    """Return SU(3) matrices uniform in the Haar measure, (..., 3, 3, 2), from normal numbers (..., 2, 3, 2).

    Gram-Schmidt of two vectors; the third row is the conjugate of their cross product. No complex numbers.
    """
    first, second = normals.unbind(-3)
    first = first / _length(first)
    overlap = _times(_conjugate(first), second).sum(-2, keepdim=True)
    second = second - _times(overlap, first)
    second = second / _length(second)
    rolled = [torch.roll(row, -steps, -2) for row in (first, second) for steps in (1, 2)]
    third = _conjugate(_times(rolled[0], rolled[3]) - _times(rolled[1], rolled[2]))
    return torch.stack((first, second, third), -3)


def _length(vectors: Tensor) -> Tensor:
    return torch.sqrt((vectors * vectors).sum((-2, -1), keepdim=True))


def _conjugate(z: Tensor) -> Tensor:
    return torch.stack((z[..., 0], -z[..., 1]), -1)


def _times(z: Tensor, w: Tensor) -> Tensor:
    re = z[..., 0] * w[..., 0] - z[..., 1] * w[..., 1]
    im = z[..., 0] * w[..., 1] + z[..., 1] * w[..., 0]
    return torch.stack((re, im), -1)


def adam(rate: float, parameters: Iterable[nn.Parameter]) -> Any:
    """Return Adam, as the phase of training asks for it."""
    return torch.optim.Adam(parameters, lr=rate)
