"""The networks of Arcelin (2021) in TensorFlow: the published Keras and TensorFlow Probability layers.

Layer by layer the same as in PyTorch, except that images and features have their channels last.
"""

from __future__ import annotations

import functools
from typing import Any, Callable, Dict, Iterator, List, Mapping, Sequence, Tuple

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from siderostat.workloads.galaxy_images.survey import BANDS, PIXELS
from siderostat.workloads.galaxy_shape.layers import HEAD, KERNEL, LABELS, convolutions, flat_features

try:
    import tf_keras as keras  # TensorFlow Probability is made of Keras 2 layers
except ModuleNotFoundError:
    if hasattr(tf.keras, "version"):  # Keras 3
        raise
    keras = tf.keras  # up to TensorFlow 2.15, as in the software of some vendors

DIAGONAL_SHIFT = 1e-5
SCALE_START = (-9.0, 0.1)  # mean and standard deviation of u before training; scale = eps + softplus(u)
TRAINING_IMAGES = 8000  # of the paper


class GalaxyNetwork(keras.Model):  # type: ignore[misc]  # TensorFlow has no types
    """Images to a normal distribution over (e1, e2, redshift).

    With the statistics of the normalisation 1,517,217 parameters, and 2,726,241 where kernels are distributions.

    Args:
        variant: ``dnn``, ``bnn`` or ``bnn-flipout``.
        seed: of the weights.
    """

    def __init__(self, variant: str = "dnn", seed: int = 0) -> None:
        super().__init__()
        # Seeded layer by layer: the one seed for all that Keras has is not in every version.
        seeds = np.random.default_rng(seed)
        self.normalisation = keras.layers.BatchNormalization(epsilon=1e-3, momentum=0.99)
        blocks = []
        side = PIXELS
        for _, filters, out_side in convolutions():
            shape = {"filters": filters, "kernel_size": KERNEL, "strides": side // out_side, "padding": "same"}
            blocks += [_layer(variant, "Convolution2D", seeds, **shape), keras.layers.PReLU()]
            side = out_side
        self.blocks = keras.Sequential(blocks)
        self.dense = _layer(variant, "Dense", seeds, units=HEAD)
        self._triangle = tfp.bijectors.FillScaleTriL(diag_shift=DIAGONAL_SHIFT)
        self.build((None, PIXELS, PIXELS, len(BANDS)))

    def call(self, images: Any, training: bool = False) -> Tuple[Any, Any]:
        """Return the mean, (batch, 3), and the Cholesky factor of the covariance, (batch, 3, 3).

        Args:
            images: electrons per pixel, shape (batch, 64, 64, 6).
            training: normalise by the batch's statistics, not by the running ones.
        """
        features = self.blocks(self.normalisation(images, training=training))
        head = self.dense(tf.reshape(features, (-1, flat_features())))
        return head[:, :LABELS], self._triangle.forward(head[:, LABELS:])

    def normalise(self, mean: np.ndarray, variance: np.ndarray) -> None:
        """Set the running statistics of the images, shapes (6,), as training would have."""
        self.normalisation.moving_mean.assign(mean)
        self.normalisation.moving_variance.assign(variance)


class TrainingNetwork(keras.Model):  # type: ignore[misc]
    """The network and its loss: the mean negative log-likelihood of the labels."""

    def __init__(self, network: GalaxyNetwork) -> None:
        super().__init__()
        self.network = network

    def call(self, images: Any, labels: Any) -> Tuple[Any, ...]:
        """Return mean, Cholesky factor and loss.

        Args:
            images: electrons per pixel, shape (batch, 64, 64, 6).
            labels: e1, e2 and redshift, shape (batch, 3).
        """
        mean, scale = self.network(images, training=True)
        normal = tfp.distributions.MultivariateNormalTriL(mean, scale)
        return mean, scale, -tf.reduce_mean(normal.log_prob(labels))


class BayesianTrainingNetwork(TrainingNetwork):
    """The loss of a network whose kernels are distributions: their divergence from the prior is added.

    The divergence is shared out over the paper's training set of :data:`TRAINING_IMAGES`, whatever is trained on here.
    """

    def call(self, images: Any, labels: Any) -> Tuple[Any, ...]:
        """Return mean, Cholesky factor, negative log-likelihood, the divergence's share, and their sum, the loss.

        Arguments are those of the plain network.
        """
        mean, scale, likelihood = super().call(images, labels)
        share = tf.add_n(self.network.losses) / TRAINING_IMAGES  # each layer hands in the divergence of its kernel
        return mean, scale, likelihood, share, likelihood + share


def _layer(variant: str, kind: str, seeds: np.random.Generator, **shape: Any) -> Any:
    """Make a layer of a kind, plain for ``dnn``, otherwise with a kernel that is drawn at every call."""
    first, second = (int(s) for s in seeds.integers(1, 2**31, 2))
    if variant == "dnn":
        return getattr(keras.layers, kind)(kernel_initializer=keras.initializers.GlorotUniform(seed=first), **shape)
    posterior = tfp.layers.default_mean_field_normal_fn(
        loc_initializer=keras.initializers.HeNormal(seed=first),
        untransformed_scale_initializer=keras.initializers.RandomNormal(*SCALE_START, seed=second),
    )
    estimator = "Flipout" if variant == "bnn-flipout" else "Reparameterization"
    # The prior N(0, 1) and a bias without spread are what these layers have anyway; but their bias starts at random.
    bias = tfp.layers.default_mean_field_normal_fn(is_singular=True, loc_initializer=keras.initializers.Zeros())
    return getattr(tfp.layers, kind + estimator)(kernel_posterior_fn=posterior, bias_posterior_fn=bias, **shape)


def adam(learning_rate: float, epsilon: float, clip: float = 0.0, warm_up: int = 0) -> Callable[[Any], Any]:
    """Return what makes an optimiser for given variables; arguments as in PyTorch.

    It is Keras's Adam of the paper's time, one operation per variable. That of Keras since 2.11, many small ones,
    makes a training step of the plain network about a tenth slower on a processor. Keras adds epsilon before the
    correction of the bias and PyTorch after it: they agree but for gradients below about 1e-5 in the first steps.
    """
    optimizers = getattr(keras.optimizers, "legacy", keras.optimizers)
    transformers = [functools.partial(_clipped, clip)] if clip else []
    rate = learning_rate
    if warm_up:
        rate = keras.optimizers.schedules.PolynomialDecay(learning_rate / warm_up, warm_up, learning_rate)
    return lambda variables: optimizers.Adam(rate, epsilon=epsilon, gradient_transformers=transformers)


def _clipped(clip: float, gradients: Sequence[Tuple[Any, Any]]) -> List[Tuple[Any, Any]]:
    """Shorten gradients, paired with their variables; Keras's own clipping makes NaN of one whose norm overflows."""
    norm = tf.linalg.global_norm([gradient for gradient, _ in gradients])
    factor = tf.where(tf.math.is_finite(norm), tf.minimum(1.0, clip / norm), 0.0)
    return [(tf.math.multiply_no_nan(gradient, factor), variable) for gradient, variable in gradients]


def load_state(network: GalaxyNetwork, state: Mapping[str, np.ndarray]) -> None:
    """Give the network the weights of the one in PyTorch.

    Args:
        network: whose weights are replaced.
        state: what that one's ``state_dict()`` holds, as arrays.

    Raises:
        KeyError: if a weight is missing.
        ValueError: if one has another shape.
    """
    for name, variable, axes in _weights(network):
        variable.assign(np.transpose(state[name], np.argsort(axes)))


def state(network: GalaxyNetwork) -> Dict[str, np.ndarray]:
    """Return the network's weights under the names and in the layout of PyTorch's ``state_dict()``."""
    return {name: np.transpose(variable.numpy(), axes) for name, variable, axes in _weights(network)}


def _weights(network: GalaxyNetwork) -> Iterator[Tuple[str, Any, Tuple[int, ...]]]:
    """Yield the name that each variable has in PyTorch, the variable, and the order that its axes have there."""
    layers = [("normalisation", network.normalisation), ("dense", network.dense)]
    layers += [(f"blocks.{i}", layer) for i, layer in enumerate(network.blocks.layers)]
    for prefix, layer in layers:
        for name, variable in zip(_NAMES[len(layer.variables)], layer.variables):
            yield f"{prefix}.{name}", variable, _AXES[len(variable.shape)]


# By the number of variables that a layer has: PReLU, plain layers, those with drawn kernels, batch normalisation.
_NAMES = {
    1: ("slope",),
    2: ("weight", "bias"),
    3: ("kernel.loc", "kernel.untransformed_scale", "bias"),
    4: ("weight", "bias", "running_mean", "running_var"),
}
# By the number of axes: vectors, dense kernels, slopes (HWC to CHW), convolutions (HWIO to OIHW).
_AXES = {1: (0,), 2: (1, 0), 3: (2, 0, 1), 4: (3, 2, 0, 1)}
