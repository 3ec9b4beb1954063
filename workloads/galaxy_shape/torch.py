"""The networks of Arcelin (2021) in PyTorch, layer by layer as in the published Keras models."""

from __future__ import annotations

import itertools
import math
from typing import Any, Callable, Iterable, Mapping, Tuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from siderostat.workloads.galaxy_images.survey import BANDS, PIXELS
from siderostat.workloads.galaxy_shape.bayesian import BayesianConv2d, BayesianLinear, divergence
from siderostat.workloads.galaxy_shape.layers import HEAD, KERNEL, LABELS, convolutions, flat_features

DIAGONAL_SHIFT = 1e-5  # TensorFlow Probability's FillScaleTriL
TRAINING_IMAGES = 8000  # of the paper


def in_full(x: Tensor) -> Tensor:
    """Return what layers under autocast computed in 16 bits in 32, for what comes after them; all else as it is."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


class PixelPReLU(nn.Module):
    """PReLU with one slope per channel and pixel, 0 at the start, as Keras has it.

    Args:
        channels: of the input.
        side: pixels on a side of the input.
    """

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.zeros(channels, side, side))

    def forward(self, x: Tensor) -> Tensor:
        """Apply to ``x`` of shape (batch, channels, side, side)."""
        # Of the forms that every device has: in a training step on a CPU 5 to 16 % faster than torch.where. torch's
        # own PReLU on the flattened input is no more than 10 % faster still, and PopTorch refuses it.
        # Under autocast the slope is rounded as torch's own PReLU does it: activations stay in 16 bits.
        return F.relu(x) - self.slope.to(x.dtype) * F.relu(-x)


class HalvingConv2d(nn.Conv2d):
    """Convolution of stride 2 with TensorFlow's "same" padding of an even input: one row below, one column right."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, KERNEL, stride=2)

    def forward(self, input: Tensor) -> Tensor:
        """Halve ``input`` of shape (batch, channels, side, side), ``side`` even."""
        return super().forward(F.pad(input, (0, 1, 0, 1)))


class GalaxyNetwork(nn.Module):
    """Images to a normal distribution over (e1, e2, redshift).

    With the statistics of the normalisation 1,517,217 parameters, and 2,726,241 where kernels are distributions.

    Args:
        variant: ``dnn``, ``bnn`` or ``bnn-flipout``.
    """

    def __init__(self, variant: str = "dnn") -> None:
        super().__init__()
        # Keras's momentum of 0.99 is torch's 0.01.
        self.normalisation = nn.BatchNorm2d(len(BANDS), eps=1e-3, momentum=0.01)
        blocks = []
        side = PIXELS
        for inside, outside, out_side in convolutions():
            convolution = _convolution(variant, inside, outside, halving=out_side != side)
            blocks += [convolution, PixelPReLU(outside, out_side)]
            side = out_side
        self.blocks = nn.Sequential(*blocks)
        self.dense: nn.Module = (
            nn.Linear(flat_features(), HEAD)
            if variant == "dnn"
            else BayesianLinear(flat_features(), HEAD, variant == "bnn-flipout")
        )
        self.apply(_initialise)

    def forward(self, images: Tensor) -> Tuple[Tensor, Tensor]:
        """Return the mean, (batch, 3), and the Cholesky factor of the covariance, (batch, 3, 3).

        Args:
            images: electrons per pixel, shape (batch, 6, 64, 64).
        """
        features = self.blocks(self.normalisation(images))
        # Channels last, as Keras flattens, so that weights pass from one framework to the other.
        head = in_full(self.dense(features.permute(0, 2, 3, 1).flatten(1)))
        return head[:, :LABELS], lower_triangle(head[:, LABELS:])

    def normalise(self, mean: np.ndarray, variance: np.ndarray) -> None:
        """Set the running statistics of the images, shapes (6,), as training would have.

        Without them an untrained network in inference works on raw electrons and its outputs tell nothing.
        """
        self.normalisation.running_mean = torch.as_tensor(mean, dtype=torch.float32)
        self.normalisation.running_var = torch.as_tensor(variance, dtype=torch.float32)


def adam(
    learning_rate: float, epsilon: float, clip: float = 0.0, warm_up: int = 0
) -> Callable[[Any], torch.optim.Optimizer]:
    """Return what makes an optimiser for given parameters.

    Args:
        learning_rate: after the warm-up.
        epsilon: of Adam.
        clip: largest norm of the gradient, 0 for any; a gradient whose norm is not finite then counts as 0.
        warm_up: steps in which the learning rate rises linearly from ``learning_rate / warm_up``.
    """

    def make(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        held = list(parameters)
        optimizer = torch.optim.Adam(held, lr=learning_rate, eps=epsilon)
        done = itertools.count()

        def rise(*_: Any) -> None:
            left = max(0.0, 1 - next(done) / warm_up)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * (1 - (1 - 1 / warm_up) * left)

        def shorten(*_: Any) -> None:
            nn.utils.clip_grad_norm_(held, clip)  # by a factor of 0 where the norm overflows
            for parameter in held:
                if parameter.grad is not None:
                    parameter.grad.nan_to_num_(0.0, 0.0, 0.0)

        for wanted, hook in ((warm_up, rise), (clip, shorten)):
            if wanted:
                optimizer.register_step_pre_hook(hook)
        return optimizer

    return make


def load_state(network: GalaxyNetwork, state: Mapping[str, np.ndarray]) -> None:
    """Give the network weights, named and shaped as in its ``state_dict()``; the count of batches seen is left out."""
    network.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()}, strict=False)


def _convolution(variant: str, inside: int, outside: int, halving: bool) -> nn.Module:
    """Make one of the network's convolutions; those that halve keep the number of channels."""
    if variant != "dnn":
        return BayesianConv2d(inside, outside, halving, variant == "bnn-flipout")
    return HalvingConv2d(outside) if halving else nn.Conv2d(inside, outside, KERNEL, padding=1)


class TrainingNetwork(nn.Module):
    """The network and its loss: the mean negative log-likelihood of the labels."""

    def __init__(self, network: GalaxyNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor, labels: Tensor) -> Tuple[Tensor, ...]:
        """Return mean, Cholesky factor and loss.

        Args:
            images: electrons per pixel, shape (batch, 6, 64, 64).
            labels: e1, e2 and redshift, shape (batch, 3).
        """
        mean, scale = self.network(images)
        return mean, scale, negative_log_likelihood(mean, scale, labels).mean()


class BayesianTrainingNetwork(TrainingNetwork):
    """The loss of a network whose kernels are distributions: their divergence from the prior is added.

    The divergence is shared out over the paper's training set of :data:`TRAINING_IMAGES`, whatever is trained on here.
    """

    def forward(self, images: Tensor, labels: Tensor) -> Tuple[Tensor, ...]:
        """Return mean, Cholesky factor, negative log-likelihood, the divergence's share, and their sum, the loss.

        Arguments are those of the plain network.
        """
        mean, scale, likelihood = super().forward(images, labels)
        share = divergence(self.network) / TRAINING_IMAGES
        return mean, scale, likelihood, share, likelihood + share


def lower_triangle(raw: Tensor) -> Tensor:
    """Arrange six numbers in a lower triangle with a positive diagonal, (batch, 6) to (batch, 3, 3).

    The order is that of TensorFlow Probability's ``fill_triangular``, a clockwise spiral:
    [[o3, 0, 0], [o5, o4, 0], [o2, o1, o0]]; the diagonal passes through softplus and is moved up by 1e-5.
    """
    o0, o1, o2, o3, o4, o5 = raw.unbind(1)
    d0, d1, d2, zero = _positive(o3), _positive(o4), _positive(o0), torch.zeros_like(o0)
    return torch.stack((d0, zero, zero, o5, d1, zero, o2, o1, d2), 1).view(-1, LABELS, LABELS)


def negative_log_likelihood(mean: Tensor, scale: Tensor, labels: Tensor) -> Tensor:
    """Negative log-density of a trivariate normal distribution, shape (batch,).

    |z|^2 / 2 + sum(log diag L) + (3 / 2) log(2 pi), where L z = labels - mean. The forward substitution
    is written out: nine operations on vectors, which every device has, against a batched solver.

    Args:
        mean: shape (batch, 3).
        scale: Cholesky factor L of the covariance, shape (batch, 3, 3).
        labels: shape (batch, 3).
    """
    r0, r1, r2 = (labels - mean).unbind(1)
    d0, d1, d2 = scale[:, 0, 0], scale[:, 1, 1], scale[:, 2, 2]
    z0 = r0 / d0
    z1 = (r1 - scale[:, 1, 0] * z0) / d1
    z2 = (r2 - scale[:, 2, 0] * z0 - scale[:, 2, 1] * z1) / d2
    squares = z0 * z0 + z1 * z1 + z2 * z2
    return 0.5 * squares + d0.log() + d1.log() + d2.log() + 0.5 * LABELS * math.log(2 * math.pi)


def _positive(x: Tensor) -> Tensor:
    return F.softplus(x) + DIAGONAL_SHIFT


def _initialise(module: nn.Module) -> None:
    """Draw weights as Keras does unless told otherwise: Glorot uniform, biases 0."""
    if isinstance(module, (nn.Conv2d, nn.Linear)):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
