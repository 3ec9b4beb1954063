"""How large the network is and how much it computes, counted from its shapes without a framework."""

from __future__ import annotations

from typing import Dict, Iterator, NamedTuple

from siderostat.workloads.halo_smf.architecture import (
    HIDDEN,
    KERNEL,
    OUTPUTS,
    STEM_KERNEL,
    blocks,
    features,
    stem_side,
)

_NUMBERS_PER_PARAMETER = 4  # itself, its gradient, and Adam's two moments
_FP32_BYTES = 4


class Layer(NamedTuple):
    """What one layer adds, with the batch normalisation after it.

    Attributes:
        part: of the network that it belongs to.
        parameters: those that training changes.
        flops: of the forward pass for one sub-box, a multiply-add counted as two; normalisation left out.
    """

    part: str
    parameters: int
    flops: int


def parameter_counts(channels: int) -> Dict[str, int]:
    """Return the parameters of each part of the network, in order; all are trainable, and their sum is its size.

    The running mean and variance of batch normalisation are not among them.

    Args:
        channels: of the first stage, N: 20, 100 and 200 make 859,142, 20,255,862 and 80,663,762 parameters.
    """
    counts: Dict[str, int] = {}
    for layer in _layers(channels):
        counts[layer.part] = counts.get(layer.part, 0) + layer.parameters
    return counts


def forward_flops(channels: int) -> int:
    """Return floating-point operations of the forward pass for one sub-box: convolutions and dense layers."""
    return sum(layer.flops for layer in _layers(channels))


def adam_bytes(channels: int) -> int:
    """Return what training with Adam holds in single precision, activations aside.

    Weights, their gradients and two moments each: 1.29 GB for N = 200.
    """
    return _NUMBERS_PER_PARAMETER * _FP32_BYTES * sum(parameter_counts(channels).values())


def _layers(channels: int) -> Iterator[Layer]:
    yield _convolution("stem", 1, channels, STEM_KERNEL, stem_side())
    for block in blocks(channels):
        yield _convolution("blocks", block.inside, block.outside, KERNEL, block.side)
        yield _convolution("blocks", block.outside, block.outside, KERNEL, block.side)
        if block.has_projection:
            yield _convolution("blocks", block.inside, block.outside, 1, block.side)
    inside = features(channels)
    for outside in (*HIDDEN, OUTPUTS):
        yield Layer("dense", (inside + 1) * outside + 2 * outside, 2 * inside * outside)
        inside = outside


def _convolution(part: str, inside: int, outside: int, kernel: int, side: int) -> Layer:
    """Count a convolution without biases onto ``side`` cells on a side, and its normalisation."""
    weights = inside * outside * kernel**3
    return Layer(part, weights + 2 * outside, 2 * weights * side**3)
