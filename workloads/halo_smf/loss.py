"""The loss of Nadler & To: chi^2 of predicted stellar mass functions, summed over bins and averaged over sub-boxes."""

from __future__ import annotations

from typing import Callable, Dict

import torch
from torch import Tensor

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def fused(out: Tensor, labels: Tensor, sigma: Tensor) -> Tensor:
    """Return the mean over sub-boxes of sum over bins ((out - label) / sigma)^2, a scalar.

    Args:
        out: predicted stellar mass functions, (batch, bins).
        labels: true ones, (batch, bins), in the same unit.
        sigma: standard deviation of each bin, (bins,).
    """
    return ((out - labels) / sigma).square().sum(1).mean()


def naive(out: Tensor, labels: Tensor, sigma: Tensor) -> Tensor:
    """Return the same, written as r^T C^-1 r with a covariance that is inverted for each sub-box in turn.

    Arguments are those of :func:`fused`.
    """
    chi2 = []
    for predicted, label in zip(out, labels):
        inverse = torch.linalg.inv(torch.diag(sigma * sigma))
        residual = predicted - label
        # Not a product of matrices, which autocast would round to 16 bits.
        chi2.append((residual.unsqueeze(1) * inverse * residual).sum())
    return torch.stack(chi2).mean()


LOSSES: Dict[str, Loss] = {"fused": fused, "naive": naive}
