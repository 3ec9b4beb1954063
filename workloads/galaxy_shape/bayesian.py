"""Layers of the Bayesian network of Arcelin (2021): kernels are drawn from a learned distribution, once per batch.

Each kernel weight has a posterior N(loc, scale^2) with scale = eps + softplus(u), a prior N(0, 1), and a closed
Kullback-Leibler divergence between them. Biases are plain numbers, as in the published network.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from siderostat.workloads.galaxy_shape.layers import KERNEL

LEAST_SCALE = 1.1920929e-7  # the spacing of float32 at 1, which TensorFlow Probability adds
SCALE_START = (-9.0, 0.1)  # mean and standard deviation of u before training


class GaussianKernel(nn.Module):
    """Means and scales of a kernel's weights.

    Args:
        shape: of the kernel, as torch's own layer has it: (out, in, ...).
    """

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.empty(shape))
        self.untransformed_scale = nn.Parameter(torch.empty(shape))
        nn.init.kaiming_normal_(self.loc)
        nn.init.normal_(self.untransformed_scale, *SCALE_START)

    def scale(self) -> Tensor:
        """Return the standard deviations, shaped like the kernel."""
        return LEAST_SCALE + F.softplus(self.untransformed_scale)

    def perturbation(self) -> Tensor:
        """Draw scale * epsilon, shaped like the kernel: what a sample differs from ``loc`` by."""
        return self.scale() * torch.randn_like(self.loc)

    def divergence(self) -> Tensor:
        """Return KL(posterior || N(0, 1)) in nats, summed over the weights.

        Per weight (scale^2 + loc^2 - 1) / 2 - log scale.
        """
        scale = self.scale()
        return (0.5 * (scale * scale + self.loc * self.loc - 1.0) - scale.log()).sum()


class BayesianConv2d(nn.Module):
    """Convolution with a kernel drawn at every call, padded like TensorFlow's "same".

    Args:
        inside: channels of the input.
        outside: channels of the output.
        halving: stride 2 instead of 1; the input's side must be even.
        flipout: decorrelate the items of a batch by random signs (Wen et al. 2018, equation 4) instead of giving all of
            them the same sample; costs a second convolution.
    """

    def __init__(self, inside: int, outside: int, halving: bool, flipout: bool) -> None:
        super().__init__()
        self.kernel = GaussianKernel(outside, inside, KERNEL, KERNEL)
        self.bias = nn.Parameter(torch.zeros(outside))
        self._stride = 2 if halving else 1
        self._flipout = flipout

    def forward(self, x: Tensor) -> Tensor:
        """Convolve ``x`` of shape (batch, inside, side, side)."""
        x = F.pad(x, (0, 1, 0, 1)) if self._stride == 2 else F.pad(x, (1, 1, 1, 1))
        if not self._flipout:
            return F.conv2d(x, self.kernel.loc + self.kernel.perturbation(), self.bias, self._stride)
        out = F.conv2d(x, self.kernel.loc, self.bias, self._stride)
        flipped = F.conv2d(x * _signs(x, x.shape[1]), self.kernel.perturbation(), None, self._stride)
        return out + flipped * _signs(flipped, flipped.shape[1])


class BayesianLinear(nn.Module):
    """Dense layer with a kernel drawn at every call. Arguments as for :class:`BayesianConv2d`."""

    def __init__(self, inside: int, outside: int, flipout: bool) -> None:
        super().__init__()
        self.kernel = GaussianKernel(outside, inside)
        self.bias = nn.Parameter(torch.zeros(outside))
        self._flipout = flipout

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` of shape (batch, inside) to (batch, outside)."""
        if not self._flipout:
            return F.linear(x, self.kernel.loc + self.kernel.perturbation(), self.bias)
        signs_in = _signs(x, x.shape[1]).flatten(1)
        flipped = F.linear(x * signs_in, self.kernel.perturbation())
        return F.linear(x, self.kernel.loc, self.bias) + flipped * _signs(flipped, flipped.shape[1]).flatten(1)


def divergence(network: nn.Module) -> Tensor:
    """Return the Kullback-Leibler divergence of all kernels of a network from their prior, in nats."""
    kernels = [m for m in network.modules() if isinstance(m, GaussianKernel)]
    return torch.stack([kernel.divergence() for kernel in kernels]).sum()


def _signs(x: Tensor, channels: int) -> Tensor:
    """Draw -1 or 1 for each item and channel, shape (batch, channels, 1, 1)."""
    return torch.randint(0, 2, (x.shape[0], channels, 1, 1), device=x.device).to(x.dtype) * 2 - 1
