"""How large the encoders are and how much they compute, counted from their shapes without a framework."""

from __future__ import annotations

from typing import Dict, Iterator, List, NamedTuple

from siderostat.workloads.lens_adaptation.architecture import (
    BLUR_KERNEL,
    CLASSES,
    ENCODERS,
    FEATURES,
    GROUP,
    HIDDEN,
    PIXELS,
    bottlenecks,
    convolved,
    efficientnet_head,
    efficientnet_stem,
    group_blocks,
    map_sides,
    residuals,
    resnet_stem,
    width_of,
)


class Layer(NamedTuple):
    """What one layer adds, with the batch normalisation after it.

    Attributes:
        part: of the encoder that it belongs to.
        parameters: those that training changes.
        flops: of the forward pass for one image, a multiply-add counted as two; normalisation left out.
    """

    part: str
    parameters: int
    flops: int


def classifier_parameters(features: int = FEATURES, classes: int = CLASSES) -> int:
    """Return the parameters of the classifier."""
    return _dense("", features, classes).parameters


def discriminator_parameters(features: int = FEATURES) -> int:
    """Return the parameters of the discriminator."""
    sides = (features, HIDDEN, HIDDEN, 2)
    return sum(_dense("", inside, outside).parameters for inside, outside in zip(sides, sides[1:]))


def parameter_counts(name: str, size: str, pixels: int = PIXELS) -> Dict[str, int]:
    """Return the parameters of each part of an encoder, in order; all are trainable, and their sum is its size.

    The running mean and variance of batch normalisation are not among them.

    Args:
        name: one of :data:`~siderostat.workloads.lens_adaptation.architecture.ENCODERS`.
        size: ``paper``, ``quarter`` or ``tiny``.
        pixels: on a side of the images; of the equivariant network the dense part depends on them.

    Raises:
        LookupError: if there is no such encoder or size.
        ValueError: if the images are too small for the network.
    """
    counts: Dict[str, int] = {}
    for layer in _layers(name, size, pixels):
        counts[layer.part] = counts.get(layer.part, 0) + layer.parameters
    return counts


def forward_flops(name: str, size: str, pixels: int = PIXELS) -> int:
    """Return floating-point operations of an encoder's forward pass for one image.

    Those of convolutions, the blur of the pooling among them, and of dense layers. Arguments and errors are those of
    :func:`parameter_counts`.
    """
    return sum(layer.flops for layer in _layers(name, size, pixels))


def _layers(name: str, size: str, pixels: int) -> List[Layer]:
    width = width_of(size)
    if name == "resnet18":
        return list(_resnet(width, pixels))
    if name == "equivariant":
        return list(_equivariant(width, pixels))
    if name in ENCODERS:
        return list(_efficientnet(name, width, pixels))
    raise LookupError(f"there is no encoder {name!r}; there are {', '.join(ENCODERS)}")


def _convolution(part: str, inside: int, outside: int, kernel: int, side: int) -> Layer:
    """Count a convolution onto a map of ``side`` pixels, and its normalisation.

    Args:
        part: of the encoder.
        inside: channels that one channel of the output is made of: 1 where it is depthwise.
        outside: channels of the output.
        kernel: pixels on a side.
        side: pixels on a side of the output.
    """
    weights = inside * outside * kernel**2
    return Layer(part, weights + 2 * outside, 2 * weights * side**2)


def _dense(part: str, inside: int, outside: int) -> Layer:
    """Count a dense layer with biases."""
    return Layer(part, (inside + 1) * outside, 2 * inside * outside)


def _resnet(width: float, pixels: int) -> Iterator[Layer]:
    channels, kernel, stride, padding = resnet_stem(width)
    side = convolved(pixels, kernel, stride, padding)
    yield _convolution("stem", 1, channels, kernel, side)
    side = convolved(side, 3, stride=2, padding=1)
    for block in residuals(width):
        side = convolved(side, 3, block.stride, padding=1)
        yield _convolution("blocks", block.inside, block.outside, 3, side)
        yield _convolution("blocks", block.outside, block.outside, 3, side)
        if block.has_projection:
            yield _convolution("blocks", block.inside, block.outside, 1, side)
        channels = block.outside
    yield _dense("dense", channels, FEATURES)


def _efficientnet(name: str, width: float, pixels: int) -> Iterator[Layer]:
    channels, kernel, stride, padding = efficientnet_stem(name, width)
    side = convolved(pixels, kernel, stride, padding)
    yield _convolution("stem", 1, channels, kernel, side)
    for block in bottlenecks(name, width):
        if block.is_expanding:
            yield _convolution("blocks", block.inside, block.hidden, 1, side)
        side = convolved(side, block.kernel, block.stride, padding=block.kernel // 2)
        yield _convolution("blocks", 1, block.hidden, block.kernel, side)
        yield _dense("blocks", block.hidden, block.squeezed)
        yield _dense("blocks", block.squeezed, block.hidden)
        yield _convolution("blocks", block.hidden, block.outside, 1, side)
        channels = block.outside
    last = efficientnet_head(name, width)
    yield _convolution("head", channels, last, 1, side)
    yield _dense("dense", last, FEATURES)


def _equivariant(width: float, pixels: int) -> Iterator[Layer]:
    fields, side = 0, pixels
    for block, (before, after) in zip(group_blocks(width), map_sides(pixels)):
        fields, side = block.fields, after
        inside = 1 if block.inside is None else GROUP * block.inside
        weights = inside * fields * block.kernel**2  # used by each of the four elements
        yield Layer("blocks", weights + 2 * fields, 2 * weights * GROUP * before**2)
        if block.pooling is not None:
            yield Layer("blocks", 0, 2 * BLUR_KERNEL**2 * GROUP * fields * after**2)
    yield _dense("dense", fields * side**2, FEATURES)
    yield Layer("dense", 2 * FEATURES, 0)  # the normalisation between
    yield _dense("dense", FEATURES, FEATURES)
