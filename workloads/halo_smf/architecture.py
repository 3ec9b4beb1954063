"""Shapes of the network, in plain numbers: what can be said about it without a framework."""

from __future__ import annotations

from typing import Dict, Iterator, NamedTuple

from siderostat.workloads.halo_grids.grids import SIDE
from siderostat.workloads.halo_grids.smf import BINS

CHANNELS: Dict[str, int] = {"n20": 20, "n100": 100, "n200": 200, "tiny": 4}
"""Size -> channels of the first stage, N. The paper has the first three."""

HIDDEN = (320, 80)
"""Features of the dense layers before the last."""

OUTPUTS = BINS

STAGES = 3
BLOCKS = 2  # of a stage

STEM_KERNEL, STEM_STRIDE, STEM_PADDING = 3, 2, 3
KERNEL = 3  # of the blocks and of the maximum


class Block(NamedTuple):
    """Two 3x3x3 convolutions beside a shortcut, of 1x1x1 where the shape changes; ``side`` is that of the output."""

    inside: int
    outside: int
    stride: int
    side: int

    @property
    def has_projection(self) -> bool:
        """Whether the shortcut is a convolution."""
        return self.stride != 1 or self.inside != self.outside


def stem_side() -> int:
    """Return the cells on a side of what the first convolution makes of a sub-box: 15."""
    return (SIDE + 2 * STEM_PADDING - STEM_KERNEL) // STEM_STRIDE + 1


def blocks(channels: int) -> Iterator[Block]:
    """Yield the six blocks in order: stages of N, 2N and 4N channels, each of which halves the side.

    Args:
        channels: N.
    """
    inside, side = channels, _halved(stem_side())
    for stage in range(STAGES):
        outside, side = channels * 2**stage, _halved(side)
        for number in range(BLOCKS):
            yield Block(inside, outside, 2 if number == 0 else 1, side)
            inside = outside


def features(channels: int) -> int:
    """Return the length of the vector that goes into the first dense layer: 4N."""
    return list(blocks(channels))[-1].outside


def _halved(side: int) -> int:
    """Return what a convolution or a maximum of 3x3x3, stride 2 and padding 1 leaves of a side."""
    return (side - 1) // 2 + 1
