"""A network that sees a mirrored lens as the mirrored lens: convolutions of the group D2.

D2 has four elements, numbered by two bits: 0 the identity, 1 mirrors columns, 2 mirrors rows, 3 does both, which is a
rotation by 180 degrees. The product of two elements is their exclusive or, and each is its own inverse.

A map of n regular fields has 4 n channels, of each field one per element. An element u acts on it by mirroring the map
and by sending channel h of each field to channel u ^ h (Cohen & Welling, Group Equivariant Convolutional Networks,
2016).
"""

from __future__ import annotations

import math
from typing import List, Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from siderostat.workloads.lens_adaptation.architecture import (
    BLUR_KERNEL,
    BLUR_SIGMA,
    FEATURES,
    GROUP,
    PIXELS,
    GroupBlock,
    Pooling,
    group_blocks,
    map_sides,
)


class GroupConvolution(nn.Module):
    """Convolution whose output is mirrored when its input is, without bias.

    The kernels of the four channels of a field are mirrored copies of one; all of them together make one dense
    convolution. Kernels are free within their square, where e2cnn restricts them to a basis without high frequencies
    at the rim: there are more parameters than in the published network, and as many operations.

    Args:
        inside: regular fields of the input; None where it is an image of one channel.
        fields: regular fields of the output.
        kernel: pixels on a side, odd.
        padding: rows and columns of zeros on each side.
    """

    def __init__(self, inside: Optional[int], fields: int, kernel: int, padding: int) -> None:
        super().__init__()
        self.padding = padding
        # The two axes of the group, which bit 1 and bit 0 of an element's number count; an image has neither.
        channels = (1,) if inside is None else (inside, 2, 2)
        self.weight = nn.Parameter(torch.empty(fields, *channels, kernel, kernel))
        nn.init.normal_(self.weight, std=math.sqrt(2 / self.weight[0].numel()))  # He et al. (2015), for fan-in

    def expanded(self) -> Tensor:
        """Return the dense kernels, (4 fields, input channels, kernel, kernel).

        W[o, g, i, h] = g w[o, i, g ^ h]: an exclusive or with g flips the axes of the group whose bits g has, and g
        itself flips the axes of the kernel, so that each element is one call of flip.
        """
        is_lifting = self.weight.dim() == 4
        columns, rows = ([-1], [-2]) if is_lifting else ([-1, -3], [-2, -4])
        flips: List[List[int]] = [[], columns, rows, columns + rows]
        copies = torch.stack([self.weight.flip(axes) for axes in flips], 1)
        fields, kernel = self.weight.shape[0], self.weight.shape[-1]
        return copies.reshape(GROUP * fields, -1, kernel, kernel)

    def forward(self, x: Tensor) -> Tensor:
        """Apply to ``x`` of shape (batch, input channels, side, side)."""
        return F.conv2d(x, self.expanded(), padding=self.padding)


class InnerBatchNorm(nn.BatchNorm3d):
    """Batch normalisation that treats the four channels of a field alike, as it must to be equivariant."""

    def forward(self, input: Tensor) -> Tensor:
        """Apply to ``input`` of shape (batch, 4 fields, side, side)."""
        return super().forward(torch.unflatten(input, 1, (self.num_features, GROUP))).flatten(1, 2)


class AntialiasedPooling(nn.Module):
    """Blur by a Gaussian of 0.66 pixels, cut off at 5x5, of which every ``stride``-th value is kept (Zhang 2019)."""

    kernel: Tensor

    def __init__(self, pooling: Pooling) -> None:
        super().__init__()
        self.stride, self.padding = pooling
        offsets = torch.arange(BLUR_KERNEL) - BLUR_KERNEL // 2
        row = torch.exp(-(offsets**2) / (2 * BLUR_SIGMA**2))
        kernel = row[:, None] * row
        self.register_buffer("kernel", kernel / kernel.sum(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Apply to ``x`` of shape (batch, channels, side, side), each channel by itself."""
        channels = x.shape[1]
        kernels = self.kernel.expand(channels, 1, BLUR_KERNEL, BLUR_KERNEL)
        return F.conv2d(x, kernels, stride=self.stride, padding=self.padding, groups=channels)


def _block(shape: GroupBlock) -> nn.Sequential:
    """Return one block of the network: convolution, normalisation, ReLU and, where there is one, pooling."""
    convolution = GroupConvolution(shape.inside, shape.fields, shape.kernel, shape.padding)
    layers: List[nn.Module] = [convolution, InnerBatchNorm(shape.fields), nn.ReLU()]
    return nn.Sequential(*layers, *([] if shape.pooling is None else [AntialiasedPooling(shape.pooling)]))


class EquivariantNetwork(nn.Module):
    """Images to features: six blocks of group convolutions, the maximum over the group, two dense layers.

    As in the public code of Alexander et al. (2022), after e2cnn's example (Weiler & Cesa 2019). The map that goes into
    the dense layers is mirrored when the image is, exactly so for images of 1 more than a multiple of 4 pixels on a
    side; see :func:`~siderostat.workloads.lens_adaptation.architecture.is_equivariant_at`. The dense layers take that
    map pixel by pixel: the features are not invariant, and are not so in the public code either.

    Args:
        width: what the numbers of fields are multiplied by.
        pixels: on a side of the images.

    Raises:
        ValueError: if the images are too small.
    """

    mask: Tensor

    def __init__(self, width: float = 1.0, pixels: int = PIXELS) -> None:
        super().__init__()
        shapes = list(group_blocks(width))
        self.fields, side = shapes[-1].fields, map_sides(pixels)[-1][1]
        self.register_buffer("mask", round_mask(pixels), persistent=False)
        self.blocks = nn.Sequential(*map(_block, shapes))
        self.dense = nn.Sequential(
            nn.Linear(self.fields * side**2, FEATURES),
            nn.BatchNorm1d(FEATURES),
            nn.ELU(),
            nn.Linear(FEATURES, FEATURES),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return features, (batch, 256), of ``images``, (batch, 1, pixels, pixels)."""
        features: Tensor = self.dense(self.pooled_map(images).flatten(1))
        return features

    def pooled_map(self, images: Tensor) -> Tensor:
        """Return what goes into the dense layers, (batch, fields, side, side): the maximum over the group."""
        x = self.blocks(images * self.mask)
        return torch.unflatten(x, 1, (self.fields, GROUP)).amax(2)


def round_mask(pixels: int) -> Tensor:
    """Return what images are multiplied by, (pixels, pixels): 1 within a circle, falling off outside.

    The circle's radius t is 99 % of the distance r from the centre to the middle of an edge's pixels; beyond it
    exp((t^2 - r^2) / 4), as e2cnn's ``MaskModule`` with a margin of 1, which counts per cent.
    """
    centre = (pixels - 1) / 2
    squares = (torch.arange(pixels) - centre) ** 2
    beyond = squares[:, None] + squares - (0.99 * centre) ** 2
    return torch.exp(-beyond.clamp(min=0) / 4)
