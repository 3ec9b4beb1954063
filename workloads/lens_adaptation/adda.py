"""ADDA: adversarial discriminative domain adaptation (Tzeng et al. 2017, arXiv:1702.05464), in three formulations.

A discriminator learns to tell features of the source (label 0), made by a frozen copy of the trained encoder, from
features of the target (label 1). Then the target encoder moves so that its features are taken for the source's.
"""

from __future__ import annotations

import copy
from typing import Any, Callable, List, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from siderostat.workloads.galaxy_shape.torch import in_full
from siderostat.workloads.lens_adaptation.heads import Discriminator
from siderostat.workloads.lens_adaptation.parts import AIMS, SOURCE, TARGET, Part, adam

ENCODER_RATE = 1e-5
DISCRIMINATOR_RATE = 1e-4
IS_SOURCE, IS_TARGET = 0, 1
FORMULATIONS = ("naive", "reused", "summed")


class Frozen(nn.Module):
    """A copy of a network that stays as it is: no gradients, and in inference whatever ``train`` is called with."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> Frozen:
        """Stay in inference."""
        super().train(False)
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Return the network's features."""
        with torch.no_grad():
            features: Tensor = self.network(images)
        return features


class Kept:
    """Features of the target with the graph they were computed by, on their way from one phase to the next."""

    def __init__(self) -> None:
        self._features: Optional[Tensor] = None

    def put(self, features: Tensor) -> Tensor:
        """Keep features; return them cut off their graph."""
        self._features = features
        return features.detach()

    def take(self) -> Tensor:
        """Return what was kept, once.

        Raises:
            RuntimeError: if nothing was.
        """
        features, self._features = self._features, None
        if features is None:
            raise RuntimeError("the phase of the encoder has no features; run the discriminator's phase before it")
        return features


class DiscriminatorTraining(nn.Module):
    """The discriminator's phase.

    Naive, as published: the loss's gradient runs back through the target encoder too, where nobody uses it. With
    ``keep`` the features are kept with their graph for the encoder's phase, and the discriminator sees them cut off.

    Args:
        source: encoder of the source.
        target: encoder of the target.
        discriminator: is trained.
        keep: is given the target's features and returns them cut off; None: they are not kept.
    """

    def __init__(
        self,
        source: Frozen,
        target: nn.Module,
        discriminator: Discriminator,
        keep: Optional[Callable[[Tensor], Tensor]],
    ) -> None:
        super().__init__()
        self.source = source
        self.target = target
        self.discriminator = discriminator
        self._keep = keep

    def forward(self, source_images: Tensor, target_images: Tensor) -> Tuple[Tensor, Tensor]:
        """Return logits of source and target, (2 batch, 2), and the loss."""
        of_source, of_target = self.source(source_images), self.target(target_images)
        if self._keep is not None:
            of_target = self._keep(of_target)
        return judged(self.discriminator, of_source, of_target)


class EncoderTraining(nn.Module):
    """The target encoder's phase, naive: its features are computed again.

    Args:
        target: is trained.
        discriminator: as it is after its update.
    """

    def __init__(self, target: nn.Module, discriminator: Discriminator) -> None:
        super().__init__()
        self.target = target
        self.discriminator = discriminator

    def forward(self, target_images: Tensor, aims: Tensor) -> Tuple[Tensor, Tensor]:
        """Return the logits of the target's features, (batch, 2), and the loss against ``aims``, (batch,)."""
        return against(in_full(self.discriminator(self.target(target_images))), aims)


class KeptEncoderTraining(nn.Module):
    """The target encoder's phase without a forward pass: the updated discriminator judges the features that were kept.

    The encoder has not changed since they were computed, so its gradient is that of the naive phase.

    Args:
        target: is trained.
        discriminator: as it is after its update.
        take: returns the features that the discriminator's phase kept.
    """

    def __init__(self, target: nn.Module, discriminator: Discriminator, take: Callable[[], Tensor]) -> None:
        super().__init__()
        self.target = target  # its parameters are those of this phase
        self.discriminator = discriminator
        self._take = take

    def forward(self, aims: Tensor) -> Tuple[Tensor, Tensor]:
        """Return what :class:`EncoderTraining` returns."""
        return against(in_full(self.discriminator(self._take())), aims)


class SummedTraining(nn.Module):
    """Both losses in one phase, each cut off from what the other trains: for devices where a phase owns its weights.

    The encoder's gradient runs through the discriminator before its update, not after: both move at the same time.

    Args:
        source: encoder of the source.
        target: encoder of the target, is trained.
        discriminator: is trained.
    """

    def __init__(self, source: Frozen, target: nn.Module, discriminator: Discriminator) -> None:
        super().__init__()
        self.source = source
        self.target = target
        self.discriminator = discriminator

    def forward(self, source_images: Tensor, target_images: Tensor, aims: Tensor) -> Tuple[Tensor, ...]:
        """Return the target's logits, (batch, 2), both losses and their sum."""
        of_source, of_target = self.source(source_images), self.target(target_images)
        _, discriminator_loss = judged(self.discriminator, of_source, of_target.detach())
        logits, encoder_loss = against(in_full(with_fixed_weights(self.discriminator, of_target)), aims)
        return logits, discriminator_loss, encoder_loss, discriminator_loss + encoder_loss


def judged(discriminator: nn.Module, of_source: Tensor, of_target: Tensor) -> Tuple[Tensor, Tensor]:
    """Return the discriminator's logits of features of both domains, and its cross-entropy."""
    logits = in_full(discriminator(torch.cat([of_source, of_target])))
    domains = (IS_SOURCE, of_source), (IS_TARGET, of_target)
    labels = [torch.full((len(some),), domain, dtype=torch.long, device=some.device) for domain, some in domains]
    return logits, F.cross_entropy(logits, torch.cat(labels))


def against(logits: Tensor, aims: Tensor) -> Tuple[Tensor, Tensor]:
    """Return logits, and their cross-entropy against the domain aimed at."""
    return logits, F.cross_entropy(logits, aims.long())  # IPUs take numbers of 32 bits


def with_fixed_weights(discriminator: Discriminator, features: Tensor) -> Tensor:
    """Return the discriminator's logits, whose gradient reaches the features and not its weights."""
    for layer in discriminator.layers:
        if isinstance(layer, nn.Linear):
            features = F.linear(features, layer.weight.detach(), layer.bias.detach())
        else:
            features = layer(features)
    return features


def count_twice(encoder: nn.Module) -> None:
    """Have one forward pass move the running statistics of batch normalisation as far as two with the same batch.

    After two passes with momentum m a statistic r is (1 - m)^2 r + (1 - (1 - m)^2) b: one with 1 - (1 - m)^2 does it.
    """
    for module in encoder.modules():
        if isinstance(module, _BatchNorm) and module.momentum is not None:
            module.momentum = 1 - (1 - module.momentum) ** 2


def parts(formulation: str, encoder: nn.Module, discriminator: Discriminator) -> List[Part]:
    """Return the phases of a step.

    ``naive`` and ``reused`` make the same updates, running statistics of batch normalisation included.

    Args:
        formulation: ``naive``: as published, five passes through encoders for one update of each network, two of them
            backward; ``reused``: one forward pass of the target encoder serves both phases; ``summed``: one phase.
        encoder: as trained on the source. The target's from now on; the source's is a frozen copy.
        discriminator: to train.

    Raises:
        LookupError: if there is no such formulation.
    """
    source, target = Frozen(encoder), encoder.train()
    to_discriminator = adam((discriminator, DISCRIMINATOR_RATE))
    to_target = adam((target, ENCODER_RATE))
    if formulation == "naive":
        return [
            Part(DiscriminatorTraining(source, target, discriminator, None), (SOURCE, TARGET), to_discriminator),
            Part(EncoderTraining(target, discriminator), (TARGET, AIMS), to_target),
        ]
    if formulation not in FORMULATIONS:
        raise LookupError(f"there is no formulation {formulation!r} of ADDA; there are {', '.join(FORMULATIONS)}")
    count_twice(target)
    if formulation == "reused":
        # torch.compile ends a graph at either, so that the encoder's backward pass can run after the discriminator's.
        kept = Kept()
        outside: Any = torch._dynamo.disable
        keep, take = outside(kept.put), outside(kept.take)
        return [
            Part(DiscriminatorTraining(source, target, discriminator, keep), (SOURCE, TARGET), to_discriminator),
            Part(KeptEncoderTraining(target, discriminator, take), (AIMS,), to_target),
        ]
    both = adam((target, ENCODER_RATE), (discriminator, DISCRIMINATOR_RATE))
    return [Part(SummedTraining(source, target, discriminator), (SOURCE, TARGET, AIMS), both)]
