"""Steps as they were timed by others, for tracing only: nothing here is ever computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from siderostat.workloads.base import Feed, Phase, Step
from siderostat.workloads.galaxy_images.survey import BANDS, PIXELS
from siderostat.workloads.galaxy_sampler.layers import LATENTS
from siderostat.workloads.galaxy_sampler.torch import Decoder, Flow, GalaxySampling, NaiveSampler
from siderostat.workloads.galaxy_shape.bayesian import divergence
from siderostat.workloads.galaxy_shape.layers import HEAD, LABELS
from siderostat.workloads.galaxy_shape.torch import TRAINING_IMAGES, GalaxyNetwork, adam

_LEARNING_RATE, _EPSILON = 1e-3, 1e-7


class SquaredError(nn.Module):
    """The galaxy network as it was timed in 2021: with the mean squared error as its loss.

    Args:
        variant: ``dnn``, ``bnn`` or ``bnn-flipout``.
        has_dense_head: as on the IPU, a last dense layer says the labels; else, as on the GPU, the mean of the normal
            distribution does, whose triangle is computed and not used.
    """

    def __init__(self, variant: str, has_dense_head: bool) -> None:
        super().__init__()
        self.network = GalaxyNetwork(variant)
        self.head = nn.Linear(HEAD, LABELS) if has_dense_head else None
        self._is_bayesian = variant != "dnn"

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return predicted labels, (batch, 3), and the loss."""
        predicted = self._predicted(images)
        loss = F.mse_loss(predicted, labels)
        if self._is_bayesian:
            loss = loss + divergence(self.network) / TRAINING_IMAGES
        return predicted, loss

    def _predicted(self, images: Tensor) -> Tensor:
        if self.head is None:
            mean: Tensor = self.network(images)[0]
            return mean
        network = self.network
        features = network.blocks(network.normalisation(images))
        predicted: Tensor = self.head(network.dense(features.permute(0, 2, 3, 1).flatten(1)))
        return predicted


def galaxy_step(variant: str, batch: int, has_dense_head: bool) -> Step:
    """Return one training step of Arcelin's network (2021)."""
    arrays = [np.zeros((batch, len(BANDS), PIXELS, PIXELS), np.float32), np.zeros((batch, LABELS), np.float32)]
    return training_step(SquaredError(variant, has_dense_head), arrays, adam(_LEARNING_RATE, _EPSILON))


def training_step(model: nn.Module, arrays: list[np.ndarray], optimizer: Callable[[Any], Any]) -> Step:
    """Return a training step of a model whose last output is its loss, on one batch."""
    batch = len(arrays[0])
    return Step("torch", (Phase(model, Feed(arrays, batch, seed=0), optimizer),), batch)


class TutorialNetwork(nn.Module):
    """The network of graphcore/examples, efficient_data_loading: images of 128 x 128, ten classes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 5, 3), nn.Conv2d(5, 12, 5)
        self.norm = nn.GroupNorm(3, 12)
        self.third, self.fourth = nn.Linear(41772, 100), nn.Linear(100, 10)

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logarithms of probabilities and the loss."""
        x = F.max_pool2d(F.relu(self.first(images)), 2)
        x = self.norm(F.relu(self.second(x))).flatten(1)
        x = F.log_softmax(self.fourth(F.relu(self.third(x))), 0)
        return x, F.nll_loss(x, labels)


class DigitsNetwork(nn.Module):
    """The Keras example's network for MNIST: images of 28 x 28, ten classes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Conv2d(1, 32, 3), nn.Conv2d(32, 64, 3), nn.Linear(1600, 10)

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and the loss."""
        x = F.max_pool2d(F.relu(self.first(images)), 2)
        x = F.max_pool2d(F.relu(self.second(x)), 2)
        x = self.last(F.dropout(x.flatten(1), 0.5))
        return x, F.cross_entropy(x, labels)


class _Bottleneck(nn.Module):
    def __init__(self, inside: int, width: int, stride: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(inside, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width),
        )  # fmt: skip
        is_same = inside == 4 * width and stride == 1
        self.shortcut = nn.Identity() if is_same else nn.Sequential(
            nn.Conv2d(inside, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width)
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.layers(x) + self.shortcut(x))


class ResNet50(nn.Module):
    """ResNet-50 of He et al. (2016), stride in the 3 x 3 convolution, as MLPerf has it; 25,557,032 parameters."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
        layers.append(nn.MaxPool2d(3, 2, 1))
        inside = 64
        for width, blocks, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
            for block in range(blocks):
                layers.append(_Bottleneck(inside, width, 1 if block else stride))
                inside = 4 * width
        self.layers, self.last = nn.Sequential(*layers), nn.Linear(inside, 1000)

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and the loss."""
        x = self.last(self.layers(images).mean((2, 3)))
        return x, F.cross_entropy(x, labels)


def classifier_step(model: nn.Module, batch: int, shape: tuple[int, ...], momentum: float) -> Step:
    """Return a training step of a classifier by stochastic gradient descent."""
    arrays: list[np.ndarray] = [np.zeros((batch, *shape), np.float32), np.zeros(batch, np.int64)]
    return training_step(model, arrays, lambda p: torch.optim.SGD(p, 1e-3, momentum=momentum))


def sampling_step(images: int) -> Step:
    """Return one call of Arcelin's sampler: all of the flow once per latent, then the decoder."""
    return _call(GalaxySampling(NaiveSampler(Flow()), Decoder()), images)


def flow_step(images: int) -> Step:
    """Return the same call without the decoder."""
    return _call(_FlowOnly(), images)


class _FlowOnly(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.sampler = NaiveSampler(Flow())

    def forward(self, numbers: Tensor) -> Tensor:
        latents: Tensor = self.sampler(torch.randn(numbers.shape[0], LATENTS, device=numbers.device))
        return latents


def _call(model: nn.Module, images: int) -> Step:
    return Step("torch", (Phase(model, Feed([np.arange(images)], images, seed=0)),), images)
