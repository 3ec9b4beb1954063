"""Shapes of the encoders, in plain numbers: what can be said about them without a framework."""

from __future__ import annotations

import math
from typing import Dict, Iterator, List, NamedTuple, Optional, Tuple

FEATURES = 256
"""Length of the vector that an encoder makes of an image."""

HIDDEN = 256  # of the discriminator
CLASSES = 3  # no substructure, cold dark matter, a vortex
PIXELS = 64  # on a side of an image, unless told otherwise

ENCODERS = ("resnet18", "efficientnet-b0", "efficientnet-b2", "equivariant")
SIZES: Dict[str, float] = {"paper": 1.0, "quarter": 1 / 4, "tiny": 1 / 8}
"""Size of an encoder -> what its numbers of channels are multiplied by. The features stay 256, the depth its own."""

GROUP = 4
"""Elements of D2: the identity, the two mirrorings, and the rotation by 180 degrees, which is both of them."""


def width_of(size: str) -> float:
    """Return what a size multiplies the numbers of channels by.

    Raises:
        LookupError: if there is no such size; the text says which there are.
    """
    if size not in SIZES:
        raise LookupError(f"there is no size {size!r} of an encoder; there are {', '.join(SIZES)}")
    return SIZES[size]


def convolved(side: int, kernel: int, stride: int = 1, padding: int = 0) -> int:
    """Return the pixels on a side of what a convolution or a pooling makes of a map of ``side`` pixels."""
    return (side + 2 * padding - kernel) // stride + 1


class Stem(NamedTuple):
    """The first convolution of a network, on one channel."""

    channels: int
    kernel: int
    stride: int
    padding: int


class Residual(NamedTuple):
    """A block of ResNet18: two 3x3 convolutions beside a shortcut, of 1x1 where the shape changes."""

    inside: int
    outside: int
    stride: int

    @property
    def has_projection(self) -> bool:
        """Whether the shortcut is a convolution."""
        return self.stride != 1 or self.inside != self.outside


def resnet_stem(width: float) -> Stem:
    """Return the first convolution of ResNet18; a 3x3 maximum of stride 2 follows it."""
    return Stem(round(64 * width), kernel=7, stride=2, padding=3)


def residuals(width: float) -> Iterator[Residual]:
    """Yield the eight blocks of ResNet18 in order (He et al. 2016, table 1)."""
    inside = resnet_stem(width).channels
    for full, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        outside = round(full * width)
        yield Residual(inside, outside, stride)
        yield Residual(outside, outside, 1)
        inside = outside


class Bottleneck(NamedTuple):
    """An inverted bottleneck: 1x1 to ``hidden`` channels, depthwise convolution, squeeze and excitation, 1x1 back."""

    inside: int
    hidden: int
    squeezed: int
    outside: int
    kernel: int
    stride: int

    @property
    def is_expanding(self) -> bool:
        """Whether the first convolution is there."""
        return self.hidden != self.inside

    @property
    def has_shortcut(self) -> bool:
        """Whether the input is added to the output."""
        return self.stride == 1 and self.inside == self.outside


_STAGES = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)  # expansion, channels, repeats, stride of the first, kernel: Tan & Le (2019), table 1

_SCALES = {"efficientnet-b0": (1.0, 1.0), "efficientnet-b2": (1.1, 1.2)}  # of the channels and of the repeats


def _rounded(channels: float) -> int:
    """Round a number of channels to a multiple of eight, and not down by more than a tenth."""
    whole = max(8, int(channels + 4) // 8 * 8)
    return whole + 8 if whole < 0.9 * channels else whole


def efficientnet_stem(name: str, width: float) -> Stem:
    """Return the first convolution of an EfficientNet."""
    return Stem(_rounded(32 * _SCALES[name][0] * width), kernel=3, stride=2, padding=1)


def efficientnet_head(name: str, width: float) -> int:
    """Return the channels of the last convolution, of 1x1."""
    return _rounded(1280 * _SCALES[name][0] * width)


def bottlenecks(name: str, width: float) -> Iterator[Bottleneck]:
    """Yield the blocks of an EfficientNet in order."""
    wider, deeper = _SCALES[name]
    inside = efficientnet_stem(name, width).channels
    for expansion, channels, repeats, stride, kernel in _STAGES:
        outside = _rounded(channels * wider * width)
        for i in range(math.ceil(repeats * deeper)):
            # The squeezed channels are a quarter of the block's input, not of its hidden channels.
            yield Bottleneck(inside, inside * expansion, inside // 4, outside, kernel, stride if i == 0 else 1)
            inside = outside


class Pooling(NamedTuple):
    """An anti-aliased pooling: a blur, of which every ``stride``-th value is kept."""

    stride: int
    padding: int


class GroupBlock(NamedTuple):
    """A block of the equivariant network; ``inside`` is None of the first, which takes the image."""

    inside: Optional[int]
    fields: int
    kernel: int
    padding: int
    pooling: Optional[Pooling]


BLUR_SIGMA = 0.66  # pixels
BLUR_KERNEL = 2 * round(3 * BLUR_SIGMA) + 1

_BLOCKS = (
    (24, 7, 1, None),
    (48, 5, 2, Pooling(2, 2)),
    (48, 5, 2, None),
    (96, 5, 2, Pooling(2, 2)),
    (96, 5, 2, None),
    (64, 5, 1, Pooling(1, 0)),
)  # regular fields, kernel, padding, pooling after it


def group_blocks(width: float) -> Iterator[GroupBlock]:
    """Yield the six blocks of the equivariant network in order."""
    inside = None
    for full, kernel, padding, pooling in _BLOCKS:
        fields = round(full * width)
        yield GroupBlock(inside, fields, kernel, padding, pooling)
        inside = fields


def map_sides(pixels: int) -> List[Tuple[int, int]]:
    """Return pixels on a side of each block's map in the equivariant network, before and after its pooling.

    Raises:
        ValueError: if nothing is left of images of that many pixels.
    """
    sides = []
    side = pixels
    for block in group_blocks(1.0):
        before = convolved(side, block.kernel, padding=block.padding)
        side = before if block.pooling is None else convolved(before, BLUR_KERNEL, *block.pooling)
        sides.append((before, side))
    if side < 1:
        raise ValueError(f"the equivariant network needs images of at least 29 pixels on a side, not {pixels}")
    return sides


def is_equivariant_at(pixels: int) -> bool:
    """Say whether the equivariant network is exactly so for images of that many pixels on a side.

    Every second value of an odd row begins and ends at its ends, and mirroring keeps it; of an even row it does not.
    So maps must be odd before each pooling of stride 2, which they are where ``pixels`` is 1 more than a multiple of 4.

    Raises:
        ValueError: if the images are too small for the network.
    """
    strides = [block.pooling.stride if block.pooling else 1 for block in group_blocks(1.0)]
    return all(before % 2 == 1 for stride, (before, _) in zip(strides, map_sides(pixels)) if stride == 2)
