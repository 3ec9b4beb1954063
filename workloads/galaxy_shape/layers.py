"""Shapes of the network, in plain numbers: what can be said about it without a framework."""

from __future__ import annotations

from typing import Iterator, Tuple

from siderostat.workloads.galaxy_images.survey import BANDS, PIXELS

FILTERS = (32, 64, 128, 256)  # of the four blocks, each two convolutions, the second with stride 2
KERNEL = 3
LABELS = 3  # e1, e2, redshift
HEAD = LABELS + LABELS * (LABELS + 1) // 2  # a mean and a lower triangle


def convolutions() -> Iterator[Tuple[int, int, int]]:
    """Yield (channels in, channels out, pixels on a side of the output) of each convolution in order."""
    channels, side = len(BANDS), PIXELS
    for filters in FILTERS:
        yield channels, filters, side
        side //= 2
        yield filters, filters, side
        channels = filters


def flat_features() -> int:
    """Length of the vector that goes into the dense layer."""
    _, channels, side = list(convolutions())[-1]
    return channels * side * side


def forward_flops() -> int:
    """Floating-point operations of the forward pass for one image, a multiply-add counted as two.

    Convolutions and the dense layer only; batch normalisation, PReLU and the likelihood, under 1 % of
    the work, are left out, as in the published figure of 203 MFLOP.
    """
    kernels = sum(2 * KERNEL**2 * inside * outside * side**2 for inside, outside, side in convolutions())
    return kernels + 2 * flat_features() * HEAD
