"""Encoder, decoder and flow of Arcelin (2021) in TensorFlow, layer by layer the same as in PyTorch.

Images have their channels last. The density and the naive sampler are those of TensorFlow Probability.
"""

from __future__ import annotations

from typing import Any, Callable, List, Mapping, Sequence, Tuple

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from siderostat.workloads.galaxy_images.survey import BANDS, PIXELS
from siderostat.workloads.galaxy_sampler import layers
from siderostat.workloads.galaxy_sampler.layers import (
    LARGEST_LOG_SCALE,
    LATENTS,
    LEAK,
    LEAST_SCALE,
    SEED_SIDE,
    UPWARDS,
    WIDTH,
)
from siderostat.workloads.galaxy_shape.layers import KERNEL, convolutions
from siderostat.workloads.galaxy_shape.tensorflow import keras  # type: ignore[attr-defined]

tfb, tfd = tfp.bijectors, tfp.distributions


class Encoder(keras.Model):  # type: ignore[misc]  # TensorFlow has no types
    """Images to a normal distribution over latents; 2,545,880 parameters, 12 of them statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.normalisation = keras.layers.BatchNormalization(epsilon=1e-3)
        stack = []
        for i, (_, filters, _) in enumerate(convolutions()):
            stack += [
                keras.layers.Conv2D(filters, KERNEL, strides=1 + i % 2, padding="same"),
                keras.layers.PReLU(),
            ]
        stack += [keras.layers.Flatten(), keras.layers.Dense(WIDTH), keras.layers.PReLU()]
        self.stack = keras.Sequential(stack)
        self.mean = keras.layers.Dense(LATENTS)
        self.scale = keras.layers.Dense(LATENTS)
        self.build((None, PIXELS, PIXELS, len(BANDS)))

    def call(self, images: Any) -> Tuple[Any, Any]:
        """Return means and standard deviations, each (batch, 32).

        Args:
            images: stretched to [0, 1), shape (batch, 64, 64, 6).
        """
        features = self.stack(self.normalisation(images, training=False))  # for the reason given in PyTorch's
        return self.mean(features), tf.nn.softplus(self.scale(features)) + LEAST_SCALE

    def normalise(self, mean: np.ndarray, variance: np.ndarray) -> None:
        """Set the statistics of the images to train on, shapes (6,)."""
        self.normalisation.moving_mean.assign(mean)
        self.normalisation.moving_variance.assign(variance)


class Decoder(keras.Sequential):  # type: ignore[misc]
    """Latents, (batch, 32), to images stretched to [0, 1], (batch, 64, 64, 6); 3,319,942 parameters."""

    def __init__(self) -> None:
        start = (SEED_SIDE, SEED_SIDE, UPWARDS[0])
        stack = [
            keras.layers.Dense(WIDTH),
            keras.layers.PReLU(),
            keras.layers.Dense(int(np.prod(start))),
            keras.layers.Reshape(start),
            keras.layers.PReLU(),
        ]
        for i, (_, filters, _) in enumerate(layers.upward_convolutions()):
            stack += [
                keras.layers.Conv2DTranspose(filters, KERNEL, strides=2 - i % 2, padding="same"),
                keras.layers.PReLU(),
            ]
        super().__init__([*stack, keras.layers.Conv2D(len(BANDS), KERNEL, padding="same", activation="sigmoid")])
        self.build((None, LATENTS))


class Flow(tf.Module):  # type: ignore[misc]
    """Masked autoregressive flow of eight blocks, as in PyTorch; 725,504 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = [tf.Variable(tf.zeros(shape[::-1])) for shape in layers.flow_shapes().values()]

    def masked(self) -> List[List[Any]]:
        """Return weight, (in, out), bias, weight, bias, weight, bias of each block, masked."""
        masks = [mask.T.astype(np.float32) for mask in layers.masks()]
        masked = [w if i % 2 else w * masks[i // 2 % 3] for i, w in enumerate(self.weights)]
        return [masked[start : start + 6] for start in range(0, len(masked), 6)]

    def log_density(self, latents: Any) -> Any:
        """Return the log-density of latents of shape (batch, 32), in nats, shape (batch,)."""
        normal = tfd.MultivariateNormalDiag(tf.zeros(LATENTS), tf.ones(LATENTS))
        return tfd.TransformedDistribution(normal, _bijector(self.masked())).log_prob(latents)

    def masked_weights(self) -> List[List[np.ndarray]]:
        """Return what :meth:`masked` does as arrays, weights as (out, in)."""
        return [[tensor.numpy().T for tensor in block] for block in self.masked()]


class NaiveSampler(tf.Module):  # type: ignore[misc]
    """The plain way to draw from a flow, that of TensorFlow Probability: all of a block's layers, once per latent."""

    def __init__(self, flow: Flow) -> None:
        super().__init__()
        self._bijector = _bijector(flow.masked())

    def __call__(self, noise: Any) -> Any:
        """Turn noise from N(0, 1) into latents, both (batch, 32)."""
        return self._bijector.forward(noise)


class IncrementalSampler(tf.Module):  # type: ignore[misc]
    """Draws what :class:`NaiveSampler` draws and computes every hidden unit once; see :func:`layers.stages`."""

    def __init__(self, flow: Flow) -> None:
        super().__init__()
        self._blocks = [layers.stages(block) for block in flow.masked_weights()]

    def __call__(self, noise: Any) -> Any:
        """Turn noise from N(0, 1) into latents, both (batch, 32); the batch is known when this is traced."""
        rows = tf.split(tf.transpose(noise), LATENTS)
        for number, (stages, biases) in enumerate(self._blocks):
            rows = _incremental_block(rows[::-1] if number else rows, stages, biases)
        return tf.transpose(tf.concat(rows, 0))


def _incremental_block(rows: Sequence[Any], stages: Sequence[layers.Stage], biases: layers.Stage) -> List[Any]:
    """Pass noise through one block; rows of shape (1, batch) in and out."""
    batch = rows[0].shape[1]
    second_sum, third_sum = (tf.tile(tf.constant(bias), (1, batch)) for bias in biases)
    known: List[Any] = []
    for row, (first, first_bias, second, third) in zip(rows, stages):
        settled, third_sum = tf.split(third_sum, [2, third_sum.shape[0] - 2])
        known.append(_settle(settled, row))
        units = tf.nn.leaky_relu(tf.matmul(first, tf.concat(known, 0)) + first_bias, LEAK)
        second_sum = second_sum + tf.matmul(second, units)
        settled, second_sum = tf.split(second_sum, [units.shape[0], second_sum.shape[0] - units.shape[0]])
        third_sum = third_sum + tf.matmul(third, tf.nn.leaky_relu(settled, LEAK))
    known.append(_settle(third_sum, rows[-1]))
    return known


def _settle(shift_and_log_scale: Any, noise: Any) -> Any:
    shift, log_scale = tf.split(tf.nn.leaky_relu(shift_and_log_scale, LEAK), 2)
    return noise * tf.exp(tf.minimum(log_scale, LARGEST_LOG_SCALE)) + shift


def _bijector(blocks: Sequence[Sequence[Any]]) -> Any:
    """Return what turns noise into latents: the blocks in order, reversals in between."""
    chain: List[Any] = []
    for block in blocks:
        reversal = [tfb.Permute(list(range(LATENTS))[::-1])] if chain else []
        chain = [tfb.MaskedAutoregressiveFlow(_network(block)), *reversal, *chain]  # the last one is applied first
    return tfb.Chain(chain)


def _network(block: Sequence[Any]) -> Callable[[Any], Tuple[Any, Any]]:
    """Return the three layers of a block, whose last one is leaky too."""

    def shift_and_log_scale(x: Any) -> Tuple[Any, Any]:
        for weight, bias in zip(block[::2], block[1::2]):
            x = tf.nn.leaky_relu(tf.matmul(x, weight) + bias, LEAK)
        shift, log_scale = tf.unstack(tf.reshape(x, (-1, LATENTS, 2)), axis=-1)
        return shift, tf.minimum(log_scale, LARGEST_LOG_SCALE)

    return shift_and_log_scale


SAMPLERS = {"incremental": IncrementalSampler, "naive": NaiveSampler}


class GalaxySampling(tf.Module):  # type: ignore[misc]
    """New galaxies at every call: noise, flow, decoder."""

    def __init__(self, sampler: Callable[[Any], Any], decoder: Decoder) -> None:
        super().__init__()
        self.sampler = sampler
        self.decoder = decoder

    def __call__(self, numbers: Any) -> Tuple[Any, Any]:
        """Return stretched images, (n, 64, 64, 6), and latents, (n, 32).

        Args:
            numbers: of the galaxies, shape (n,); only how many there are counts.
        """
        latents = self.sampler(tf.random.normal((numbers.shape[0], LATENTS)))
        return self.decoder(latents), latents


class UnfinishedSampling(tf.Module):  # type: ignore[misc]
    """New galaxies from networks that are still being trained: their weights are taken anew at every call."""

    def __init__(self, flow: Flow, decoder: Decoder) -> None:
        super().__init__()
        self.flow = flow
        self.decoder = decoder

    def __call__(self, numbers: Any) -> Tuple[Any, Any]:
        """Do what :class:`GalaxySampling` does. A graph would keep the weights of its first call: called eagerly."""
        images, latents = GalaxySampling(IncrementalSampler(self.flow), self.decoder)(numbers)
        return images, latents


class AutoencoderTraining(keras.Model):  # type: ignore[misc]
    """The variational autoencoder's loss, as in PyTorch; arguments likewise."""

    def __init__(self, encoder: Encoder, decoder: Decoder, pixel_error: float) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self._variance = pixel_error**2

    def call(self, images: Any) -> Tuple[Any, ...]:
        """Return misfit, divergence and their sum, the loss, in nats per image, from images (batch, 64, 64, 6)."""
        mean, scale = self.encoder(images)
        decoded = self.decoder(mean + scale * tf.random.normal(tf.shape(mean)))
        squares = tf.reduce_mean(tf.square(images - decoded), (1, 2, 3))
        pixels = float(np.prod(images.shape[1:]))
        misfit = 0.5 * pixels * tf.reduce_mean(tf.math.log1p(squares / self._variance))
        normal = tfd.MultivariateNormalDiag(mean, scale)
        prior = tfd.MultivariateNormalDiag(tf.zeros(LATENTS), tf.ones(LATENTS))
        divergence = tf.reduce_mean(tfd.kl_divergence(normal, prior))
        return misfit, divergence, misfit + divergence


class FlowTraining(keras.Model):  # type: ignore[misc]
    """The flow's loss, as in PyTorch; arguments likewise."""

    def __init__(self, flow: Flow, encode: Callable[..., Tuple[Any, Any]]) -> None:
        super().__init__()
        self.flow = flow
        self._encode = encode

    def call(self, *inputs: Any) -> Tuple[Any, Any]:
        """Return the latents drawn for this batch, (batch, 32), and the loss in nats."""
        mean, scale = self._encode(*inputs)
        latents = tf.stop_gradient(mean + scale * tf.random.normal(tf.shape(mean)))
        return latents, -tf.reduce_mean(self.flow.log_density(latents))


def adam(rate: float, variables: Any) -> Any:
    """Return the optimizer with this learning rate."""
    return keras.optimizers.Adam(rate)


def load_weights(network: Any, weights: Mapping[str, np.ndarray]) -> None:
    """Give a network weights, named and shaped as in :mod:`layers`."""
    for variable, array in zip(_variables(network), weights.values()):
        variable.assign(np.reshape(_channels_last(np.asarray(array, np.float32)), variable.shape))


def _variables(network: Any) -> List[Any]:
    """Return a network's weights in the order of :mod:`layers`: Keras's own puts statistics last."""
    if isinstance(network, Flow):
        return list(network.weights)
    if isinstance(network, Encoder):
        order = [network.normalisation, *network.stack.layers, network.mean, network.scale]
    else:
        order = network.layers
    return [variable for layer in order for variable in layer.weights]


def _channels_last(array: np.ndarray) -> np.ndarray:
    """Turn around the axes of a weight: those of a PReLU to (row, column, channel), of others to (..., in, out)."""
    axes = {3: (1, 2, 0), 4: (2, 3, 1, 0)}
    return array.transpose(axes.get(array.ndim))
