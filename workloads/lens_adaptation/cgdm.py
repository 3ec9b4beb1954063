"""CGDM: cross-domain gradient discrepancy minimisation (Du et al. 2021, arXiv:2106.04151).

Two classifiers on one encoder. A step trains all three on the source, then the classifiers to differ on the target,
then four times the encoder so that they agree there and so that both domains ask the same change of the classifiers:
the loss holds a gradient, and its own gradient is taken through it. The public code for lenses has one object for both
classifiers, which can then never differ; here the second one is another.
"""

from __future__ import annotations

from typing import List, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from siderostat.workloads.galaxy_shape.torch import in_full
from siderostat.workloads.lens_adaptation.heads import Classifier
from siderostat.workloads.lens_adaptation.parts import (
    LABELS,
    PSEUDO,
    SOURCE,
    TARGET,
    Part,
    adam,
    one_for_all,
)
from siderostat.workloads.lens_adaptation.pseudo_labels import spherical_k_means

RATE = 1e-4
ENCODER_STEPS = 4
ENTROPY_WEIGHT = 0.01
PSEUDO_WEIGHT = 0.01
GRADIENT_WEIGHT = 0.01
PSEUDO_INTERVAL = 2000  # steps after which pseudo labels are made anew
_SMALLEST = 1e-5
_AT_ONCE = 256

Weights = Tuple[Tensor, Tensor]
"""Of a classifier: weight, (classes, features), and bias, (classes,)."""


class Networks(nn.Module):
    """The encoder and both classifiers.

    Args:
        encoder: as trained on the source.
        first: the classifier trained with it.
        second: another one.
    """

    def __init__(self, encoder: nn.Module, first: Classifier, second: Classifier) -> None:
        super().__init__()
        self.encoder = encoder
        self.classifiers = nn.ModuleList([first, second])

    def forward(self, images: Tensor) -> Tensor:
        """Return the mean of both classifiers' logits, (batch, 3)."""
        return torch.stack(self.logits(self.encoder(images))).mean(0)

    def logits(self, features: Tensor) -> List[Tensor]:
        """Return the logits of both classifiers, each (batch, 3)."""
        return [in_full(classifier(features)) for classifier in self.classifiers]

    def fixed_weights(self) -> List[Weights]:
        """Return the classifiers' weights as tensors of their own: a loss can be derived by them, none is trained."""
        fixed = []
        for classifier in self.classifiers:
            weight, bias = (p.detach().requires_grad_() for p in classifier.parameters())
            fixed.append((weight, bias))
        return fixed


class SourceTraining(nn.Module):
    """The first phase: everything learns the source's labels and, a little, the target's pseudo labels."""

    def __init__(self, networks: Networks) -> None:
        super().__init__()
        self.networks = networks

    def forward(self, source: Tensor, labels: Tensor, target: Tensor, pseudo: Tensor) -> Tuple[Tensor, Tensor]:
        """Return the target's logits by both classifiers, (2, batch, 3), and the loss."""
        of_source = self.networks.logits(self.networks.encoder(source))
        of_target = self.networks.logits(self.networks.encoder(target))
        loss = (
            sum_of([F.cross_entropy(logits, labels) for logits in of_source])
            + ENTROPY_WEIGHT * sum_of([entropy(logits) for logits in of_target])
            + PSEUDO_WEIGHT * sum_of([sure_cross_entropy(logits, pseudo) for logits in of_target])
        )
        return torch.stack(of_target), loss


class ClassifierTraining(nn.Module):
    """The second phase: the classifiers differ on the target as far as the source's labels let them."""

    def __init__(self, networks: Networks) -> None:
        super().__init__()
        self.networks = networks

    def forward(self, source: Tensor, labels: Tensor, target: Tensor) -> Tuple[Tensor, Tensor]:
        """Return the target's logits by both classifiers, (2, batch, 3), and the loss."""
        with torch.no_grad():
            features = self.networks.encoder(source), self.networks.encoder(target)
        of_source, of_target = (self.networks.logits(some) for some in features)
        loss = (
            sum_of([F.cross_entropy(logits, labels) for logits in of_source])
            - discrepancy(of_target)
            + ENTROPY_WEIGHT * sum_of([entropy(logits) for logits in of_target])
        )
        return torch.stack(of_target), loss


class EncoderTraining(nn.Module):
    """The third phase, made four times: the encoder moves until the classifiers agree and gradients point one way."""

    def __init__(self, networks: Networks) -> None:
        super().__init__()
        self.networks = networks

    def forward(self, source: Tensor, labels: Tensor, target: Tensor, pseudo: Tensor) -> Tuple[Tensor, ...]:
        """Return the target's logits by both classifiers, (2, batch, 3), both discrepancies, and the loss."""
        of_source, of_target = (in_full(self.networks.encoder(images)) for images in (source, target))
        weights = self.networks.fixed_weights()
        gradients = gradient_discrepancy(of_source, labels, of_target, pseudo, weights)
        logits = [in_full(F.linear(of_target, *pair)) for pair in weights]
        apart = discrepancy(logits)
        loss = apart + ENTROPY_WEIGHT * sum_of([entropy(some) for some in logits]) + GRADIENT_WEIGHT * gradients
        return torch.stack(logits), apart, gradients, loss


def sum_of(tensors: Sequence[Tensor]) -> Tensor:
    """Return the sum of tensors of one shape."""
    return torch.stack(list(tensors)).sum(0)


def entropy(logits: Tensor) -> Tensor:
    """Return the mean entropy of images less that of their mean: small where each is sure and they differ."""
    p = logits.softmax(1)
    each = -(p * (p + _SMALLEST).log()).sum(1).mean()
    mean = p.mean(0) + _SMALLEST
    return each + (mean * mean.log()).sum()


def sure_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy of images, those of small entropy weighted by up to twice as much.

    The weights sum to 1 over the batch, and the mean is taken after that, as in the public code.
    """
    p = logits.softmax(1)
    weight = 1 + torch.exp((p * (p + _SMALLEST).log()).sum(1))
    weight = weight / weight.sum().detach()
    return (weight * F.cross_entropy(logits, labels, reduction="none")).mean()


def discrepancy(logits: Sequence[Tensor]) -> Tensor:
    """Return the mean absolute difference of two classifiers' probabilities."""
    first, second = (some.softmax(1) for some in logits)
    return (first - second).abs().mean()


def gradient_discrepancy(
    of_source: Tensor, labels: Tensor, of_target: Tensor, pseudo: Tensor, classifiers: Sequence[Weights]
) -> Tensor:
    """Return 1 less the cosine between what source and target ask of a classifier, the mean over both classifiers.

    The cosine of the weight's gradients is the mean over classes; weight and bias count alike.

    Args:
        of_source: features, (batch, features).
        labels: of the source, (batch,).
        of_target: features.
        pseudo: labels that stand for those of the target.
        classifiers: weights that losses can be derived by.
    """
    losses = []
    for weight, bias in classifiers:
        asked = F.cross_entropy(in_full(F.linear(of_source, weight, bias)), labels)
        wished = sure_cross_entropy(in_full(F.linear(of_target, weight, bias)), pseudo)
        by_source = torch.autograd.grad(asked, (weight, bias), create_graph=True)
        by_target = torch.autograd.grad(wished, (weight, bias), create_graph=True)
        cosines = [F.cosine_similarity(a, b, dim=-1).mean() for a, b in zip(by_target, by_source)]
        losses.append(1 - torch.stack(cosines).mean())
    return torch.stack(losses).mean()


@torch.no_grad()
def pseudo_labels(networks: Networks, images: Tensor) -> Tensor:
    """Return labels for images of the target, (n,), by k-means on features that the encoder makes in inference.

    Args:
        networks: are left in the mode they are in.
        images: (n, 1, side, side), on the networks' device.
    """
    before = [(module, module.training) for module in networks.modules()]
    networks.eval()
    try:
        features = torch.cat([networks.encoder(some) for some in torch.split(images, _AT_ONCE)])
    finally:
        for module, was in before:
            module.training = was
    return spherical_k_means(features, sum_of(networks.logits(features)).softmax(1))


def parts(networks: Networks) -> List[Part]:
    """Return the six phases of a step, trained by one Adam: moments outlive a phase.

    The public code computes gradients in the second and third phase for what it does not then update; here they are not
    computed. One Adam in place of its two makes the same updates: both have the same learning rate, and Adam treats
    each number on its own.

    Args:
        networks: to train.
    """
    networks.train()
    optimizer = one_for_all(adam((networks, RATE)))
    of_encoder = Part(EncoderTraining(networks), (SOURCE, LABELS, TARGET, PSEUDO), optimizer)
    return [
        Part(SourceTraining(networks), (SOURCE, LABELS, TARGET, PSEUDO), optimizer),
        Part(ClassifierTraining(networks), (SOURCE, LABELS, TARGET), optimizer),
        *[of_encoder] * ENCODER_STEPS,
    ]
