"""Shapes, masks and orders of the sampler's networks, in plain numbers: what can be said without a framework.

The networks are those of Arcelin (2021). Weights are named and shaped as PyTorch has them; the order of the names is
that of the layers, by which TensorFlow's are filled.
"""

from __future__ import annotations

import math
from typing import Dict, Iterator, List, Sequence, Tuple

import numpy as np

from siderostat.workloads.galaxy_images.survey import BANDS, PIXELS
from siderostat.workloads.galaxy_shape.layers import KERNEL, convolutions, flat_features

LATENTS = 32
WIDTH = 256  # of the dense layer next to the latents, in encoder and decoder
UPWARDS = (256, 128, 64, 32)  # channels of the decoder's four blocks, each two transposed convolutions
LEAST_SCALE = 1e-3  # of a latent, added to the encoder's softplus, so that the divergence stays finite
SEED_SIDE: int = PIXELS // 2 ** len(UPWARDS)  # pixels on a side of what the decoder starts from

BLOCKS = 8  # of the flow
HIDDEN = 256  # units in each of the two hidden layers of a block
LEAK = 0.2  # slope of the leaky ReLU below 0
LARGEST_LOG_SCALE = 1.0
"""Larger ones are cut off. In samples that are sound one in 10,000 is larger; without the cut, one sample in 1000 meets
scales that grow with what they scale, and is infinite. TensorFlow Probability's own template cuts at 3."""
FLOW_GAIN = 0.5  # see initial(): more, and an untrained flow of eight blocks overflows

Shapes = Dict[str, Tuple[int, ...]]


def upward_convolutions() -> Iterator[Tuple[int, int, int]]:
    """Yield (channels in, channels out, pixels on a side of the output) of each transposed convolution in order."""
    channels, side = UPWARDS[0], SEED_SIDE
    for filters in UPWARDS:
        side *= 2
        yield channels, filters, side
        yield filters, filters, side
        channels = filters


def encoder_shapes() -> Shapes:
    """Shapes of the encoder's weights: 2,545,880 numbers, 12 of them statistics of the batch normalisation."""
    shapes: Shapes = {f"normalisation.{name}": (len(BANDS),) for name in _NORMALISATION}
    for i, (inside, outside, side) in enumerate(convolutions()):
        shapes.update(_layer(f"blocks.{2 * i}", (outside, inside, KERNEL, KERNEL)))
        shapes[f"blocks.{2 * i + 1}.slope"] = (outside, side, side)
    shapes.update(_layer("dense", (WIDTH, flat_features())))
    shapes["prelu.slope"] = (WIDTH, 1, 1)
    shapes.update(_layer("mean", (LATENTS, WIDTH)))
    shapes.update(_layer("scale", (LATENTS, WIDTH)))
    return shapes


def decoder_shapes() -> Shapes:
    """Shapes of the decoder's weights: 3,319,942 numbers."""
    shapes: Shapes = _layer("first", (WIDTH, LATENTS))
    shapes["first_prelu.slope"] = (WIDTH, 1, 1)
    shapes.update(_layer("second", (UPWARDS[0] * SEED_SIDE**2, WIDTH)))
    shapes["second_prelu.slope"] = (UPWARDS[0], SEED_SIDE, SEED_SIDE)
    for i, (inside, outside, side) in enumerate(upward_convolutions()):
        shapes.update(_layer(f"upward.{2 * i}", (inside, outside, KERNEL, KERNEL), outside))
        shapes[f"upward.{2 * i + 1}.slope"] = (outside, side, side)
    shapes.update(_layer("last", (len(BANDS), UPWARDS[-1], KERNEL, KERNEL)))
    return shapes


def flow_shapes() -> Shapes:
    """Shapes of the flow's weights: 725,504 numbers, about half of them masked."""
    widths = (LATENTS, HIDDEN, HIDDEN, 2 * LATENTS)
    shapes: Shapes = {}
    for block in range(BLOCKS):
        for layer, (inside, outside) in enumerate(zip(widths, widths[1:])):
            shapes.update(_layer(f"blocks.{block}.{layer}", (outside, inside)))
    return shapes


def count(shapes: Shapes) -> int:
    """Return how many numbers arrays of these shapes hold."""
    return sum(math.prod(shape) for shape in shapes.values())


def initial(shapes: Shapes, rng: np.random.Generator, gain: float = 2.0) -> Dict[str, np.ndarray]:
    """Draw weights to start training from, float32.

    Kernels are uniform with a variance of ``gain`` over the numbers that one output sums up. The 2 of He et al. (2015)
    keeps the size of what passes a ReLU; Keras's Glorot shrinks it a thousandfold on its way through the decoder, which
    then learns little in minutes. Drawn here and not by a framework, so that all start from the same network.
    """
    return {name: _initial(name, shape, rng, gain) for name, shape in shapes.items()}


def _initial(name: str, shape: Tuple[int, ...], rng: np.random.Generator, gain: float) -> np.ndarray:
    if len(shape) == 1 or name.endswith("slope"):
        return np.full(shape, _CONSTANTS.get(name, 0.25 if name.endswith("slope") else 0.0), np.float32)
    if name == "last.weight":
        gain *= 0.01  # all images start nearly alike
    limit = math.sqrt(3 * gain / _summed(name, shape))
    return rng.uniform(-limit, limit, shape).astype(np.float32)


def _summed(name: str, shape: Tuple[int, ...]) -> float:
    """Return how many products one output of a layer is the sum of."""
    if not name.startswith("upward"):
        return math.prod(shape[1:])
    doubles = int(name.split(".")[1]) % 4 == 0
    return shape[0] * KERNEL**2 / (4 if doubles else 1)


_CONSTANTS = {
    "normalisation.weight": 1.0,
    "normalisation.running_var": 1.0,
    "scale.bias": -3.0,  # little noise on the latents: the decoder first learns what they mean
    "last.bias": -4.0,  # images start at 0.02, since most of the sky is 0
}
_NORMALISATION = ("weight", "bias", "running_mean", "running_var")


def _layer(name: str, kernel: Tuple[int, ...], outside: int = 0) -> Shapes:
    return {f"{name}.weight": kernel, f"{name}.bias": (outside or kernel[0],)}


# The degree of a unit is the number of inputs, counted from the first, that it may depend on (Germain et al. 2015).
_IN = np.arange(1, LATENTS + 1)
_DEGREES = np.arange(HIDDEN) % (LATENTS - 1) + 1
_OUT = np.repeat(_IN, 2)  # a shift and a log-scale for each latent


def masks() -> List[np.ndarray]:
    """Return which weights of a block's three layers may differ from 0, bool of shape (out, in)."""
    return [
        _DEGREES[:, None] >= _IN,
        _DEGREES[:, None] >= _DEGREES,
        _OUT[:, None] > _DEGREES,
    ]


def units_by_degree() -> List[int]:
    """Return how many hidden units have degree 1, 2, ... 31: 9 or 8 of them."""
    counts: List[int] = np.bincount(_DEGREES)[1:].tolist()
    return counts


Stage = Tuple[np.ndarray, ...]


def stages(block: Sequence[np.ndarray]) -> Tuple[List[Stage], Stage]:
    """Cut a block's masked weights into what each latent, once it is known, adds to the rest.

    Hidden units are sorted by degree. When latent ``i`` (from 0) becomes known, so do the units of degree i + 1 in
    both layers, and nothing that is known changes: every weight that the masks leave is used once.

    Args:
        block: weight, shape (out, in), and bias of each of the three layers, masked.

    Returns:
        For each latent but the last, weights as (out, in) and biases as (out, 1):

        - weight (8 or 9, i + 1) and bias of the first layer's units of degree i + 1, from all latents known;
        - weight (units of degree above i, 8 or 9): from these units to those of the second layer of this degree and
          higher ones;
        - weight (2 x latents to come, 8 or 9): from the second layer's units to shifts and log-scales.

        And what sums start from: biases of the second layer, (256, 1), and of the third, (64, 1).
    """
    order = np.argsort(_DEGREES, kind="stable")
    first, first_bias = block[0][order], block[1][order, None]
    second, second_bias = block[2][np.ix_(order, order)], block[3][order, None]
    third, third_bias = block[4][:, order], block[5][:, None]
    cut: List[Stage] = []
    start = 0
    for i, units in enumerate(units_by_degree()):
        end = start + units
        cut.append(
            (
                first[start:end, : i + 1],
                first_bias[start:end],
                second[start:, start:end],
                third[2 * (i + 1) :, start:end],
            )
        )
        start = end
    return cut, (second_bias, third_bias)


def encoder_flops() -> int:
    """Floating-point operations of the encoder for one image; see :func:`decoder_flops` for what is counted."""
    kernels = sum(2 * KERNEL**2 * inside * outside * side**2 for inside, outside, side in convolutions())
    return kernels + 2 * flat_features() * WIDTH + 2 * WIDTH * 2 * LATENTS


def decoder_flops() -> int:
    """Floating-point operations of the decoder for one image, a multiply-add counted as two.

    Convolutions and dense layers only. Of each pair of transposed convolutions the first has a quarter of the products
    that its output size suggests: its input is half as large on a side.
    """
    total = 2 * LATENTS * WIDTH + 2 * WIDTH * UPWARDS[0] * SEED_SIDE**2
    for i, (inside, outside, side) in enumerate(upward_convolutions()):
        pixels = side**2 if i % 2 else side**2 // 4
        total += 2 * KERNEL**2 * inside * outside * pixels
    return total + 2 * KERNEL**2 * UPWARDS[-1] * len(BANDS) * PIXELS**2


def flow_flops(variant: str) -> int:
    """Floating-point operations of the flow for one latent vector.

    Args:
        variant: ``naive``: all layers 32 times per block; ``incremental``: every weight that the masks leave, once;
            ``density``: all layers once per block, as in training.
    """
    if variant == "incremental":
        return 2 * BLOCKS * sum(int(mask.sum()) for mask in masks())
    whole = 2 * BLOCKS * sum(math.prod(mask.shape) for mask in masks())
    return whole * LATENTS if variant == "naive" else whole
