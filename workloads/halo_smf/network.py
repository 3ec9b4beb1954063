"""The three-dimensional ResNet of Nadler & To in PyTorch: from a grid of peak velocities to a stellar mass function."""

from __future__ import annotations

from typing import List, Optional, Tuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from siderostat.workloads.halo_smf.architecture import (
    HIDDEN,
    KERNEL,
    OUTPUTS,
    STEM_KERNEL,
    STEM_PADDING,
    STEM_STRIDE,
    Block,
    blocks,
    features,
)
from siderostat.workloads.halo_smf.loss import Loss, fused

SIGMAS_PER_UNIT = 5.0
"""Sigma by which a 1 from the last batch normalisation is multiplied; with an output of order 1 of labels of 1e-3 the
network ends above the random forest."""

DROPOUT = 0.5
"""Share of features left out in training. Ours: the paper names no figure that is known here, and this is torch's."""

MEMORY_FORMATS = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last_3d}


class ResidualBlock(nn.Module):
    """Two 3x3x3 convolutions beside a shortcut (He et al. 2016, in three dimensions)."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.first = _convolution(block.inside, block.outside, KERNEL, block.stride)
        self.first_norm = nn.BatchNorm3d(block.outside)
        self.second = _convolution(block.outside, block.outside, KERNEL, 1)
        self.second_norm = nn.BatchNorm3d(block.outside)
        self.projection: Optional[nn.Module] = None
        if block.has_projection:
            projection = _convolution(block.inside, block.outside, 1, block.stride)
            self.projection = nn.Sequential(projection, nn.BatchNorm3d(block.outside))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x`` of shape (batch, inside, side, side, side)."""
        out = F.relu(self.first_norm(self.first(x)))
        out = self.second_norm(self.second(out))
        return F.relu(out + (x if self.projection is None else self.projection(x)))


class SmfNetwork(nn.Module):
    """Peak velocities on a grid to the stellar mass function of the sub-box.

    859,142, 20,255,862 and 80,663,762 parameters for 20, 100 and 200 channels.

    Args:
        channels: of the first stage, N.
        sigma: standard deviation of each bin, (14,); the unit of the outputs is five of them.
        layout: of feature maps and kernels in memory, one of :data:`MEMORY_FORMATS`; results do not depend on it.
    """

    scale: Tensor

    def __init__(self, channels: int, sigma: np.ndarray, layout: str = "contiguous") -> None:
        super().__init__()
        self._format = MEMORY_FORMATS[layout]
        self.stem = nn.Conv3d(1, channels, STEM_KERNEL, STEM_STRIDE, STEM_PADDING, bias=False)
        self.stem_norm = nn.BatchNorm3d(channels)
        self.blocks = nn.Sequential(*(ResidualBlock(block) for block in blocks(channels)))
        hidden: List[nn.Module] = []
        inside = features(channels)
        for outside in HIDDEN:
            hidden += [nn.Linear(inside, outside), nn.BatchNorm1d(outside), nn.ReLU(), nn.Dropout(DROPOUT)]
            inside = outside
        self.hidden = nn.Sequential(*hidden)
        self.last = nn.Linear(inside, OUTPUTS)
        self.last_norm = nn.BatchNorm1d(OUTPUTS)
        scale = torch.as_tensor(SIGMAS_PER_UNIT * sigma, dtype=torch.float32)
        self.register_buffer("scale", scale)  # with the weights: they were learned for it
        self.apply(_initialise)
        self.to(memory_format=self._format)  # type: ignore[call-overload]

    def forward(self, grids: Tensor) -> Tensor:
        """Return stellar mass functions in the unit of the labels, (batch, 14).

        Args:
            grids: mean peak velocity per cell in km/s, 0 where empty, (batch, 25, 25, 25).
        """
        x = grids.unsqueeze(1).contiguous(memory_format=self._format)
        x = F.max_pool3d(F.relu(self.stem_norm(self.stem(x))), KERNEL, stride=2, padding=1)
        x = self.blocks(x).mean((2, 3, 4))
        out = self.last(self.hidden(x))
        if out.dtype in (torch.bfloat16, torch.float16):
            out = out.float()  # under autocast: 8 bits are too few for labels of many sigma
        normalised: Tensor = self.last_norm(out)
        return normalised * self.scale


class TrainingNetwork(nn.Module):
    """The network and its loss.

    Args:
        network: from grids to stellar mass functions.
        sigma: standard deviation of each bin, (14,).
        loss: chi^2, in one of its forms.
    """

    sigma: Tensor

    def __init__(self, network: SmfNetwork, sigma: np.ndarray, loss: Loss = fused) -> None:
        super().__init__()
        self.network = network
        self._loss = loss
        self.register_buffer("sigma", torch.as_tensor(sigma, dtype=torch.float32), persistent=False)

    def forward(self, grids: Tensor, labels: Tensor) -> Tuple[Tensor, Tensor]:
        """Return stellar mass functions and their chi^2.

        Args:
            grids: shape (batch, 25, 25, 25), km/s.
            labels: true stellar mass functions, (batch, 14).
        """
        out = self.network(grids)
        return out, self._loss(out, labels, self.sigma)


def _convolution(inside: int, outside: int, kernel: int, stride: int) -> nn.Conv3d:
    return nn.Conv3d(inside, outside, kernel, stride, padding=kernel // 2, bias=False)


def _initialise(module: nn.Module) -> None:
    """Draw kernels as He et al. (2015) do; dense layers stay as torch draws them."""
    if isinstance(module, nn.Conv3d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
