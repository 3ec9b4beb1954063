"""AdaMatch (Berthelot, Roelofs et al. 2022, arXiv:2106.04732): the source's label distribution, imposed on the target.

The alignment is that of the paper: one ratio for each class, and probabilities that sum to 1. The public code for
lenses divides the mean over images and classes of one by that of the other: both are 1/classes, its ratio is 1 and does
nothing. It then divides by the vector's length instead of its sum, learns the likeliest class instead of all
probabilities, and halves the source's loss.
"""

from __future__ import annotations

import contextlib
import math
from typing import Iterator, List, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from siderostat.workloads.galaxy_shape.torch import in_full
from siderostat.workloads.lens_adaptation.augment import strong, weak
from siderostat.workloads.lens_adaptation.parts import LABELS, SOURCE, TARGET, Part, adam

RATE = 1e-4
TAU = 0.9  # of the source's mean confidence: what a target image needs to count
_SMALLEST = 1e-6


class AdaMatchTraining(nn.Module):
    """Encoder and classifier, with the losses of source and target.

    Logits of the source are drawn between those that batch normalisation gives with and without the target's images in
    the batch. The target's strongly changed images learn what its weakly changed ones are taken for, aligned, where
    that is sure enough.

    Args:
        network: encoder and classifier, one after the other.
        total_steps: of the training, half of which the target's weight takes to rise to 1; 0: it is 1 throughout.
    """

    def __init__(self, network: nn.Sequential, total_steps: int = 0) -> None:
        super().__init__()
        self.network = network
        self._total_steps = total_steps
        self.register_buffer("steps", torch.zeros(()))
        self.steps: Tensor

    def forward(self, source_images: Tensor, labels: Tensor, target_images: Tensor) -> Tuple[Tensor, ...]:
        """Return the target's aligned probabilities, (batch, 3), both losses and what is minimised."""
        batch = len(source_images)
        of_source = torch.cat([weak(source_images), strong(source_images)])
        of_both = torch.cat([of_source, weak(target_images), strong(target_images)])
        logits = in_full(self.network(of_both))
        with untracked(self.network):
            alone = in_full(self.network(of_source))
        source = torch.lerp(alone, logits[: 2 * batch], torch.rand_like(alone))
        with torch.no_grad():
            sources = source[:batch].softmax(1)
            aligned = align(logits[2 * batch : 3 * batch].softmax(1), sources)
            counts = (aligned.amax(1) >= TAU * sources.amax(1).mean()).to(logits.dtype)
        of_labels = F.cross_entropy(source[:batch], labels.long()) + F.cross_entropy(source[batch:], labels.long())
        of_target = -(counts * (aligned * logits[3 * batch :].log_softmax(1)).sum(1)).mean()
        return aligned, of_labels, of_target, of_labels + self._weight() * of_target

    @torch.no_grad()
    def _weight(self) -> Tensor:
        """Return the weight of the target's loss in this step, and count the step."""
        if not self._total_steps:
            return torch.ones_like(self.steps)
        weight = rising(self.steps / self._total_steps)
        self.steps += 1
        return weight


def align(targets: Tensor, sources: Tensor) -> Tensor:
    """Return probabilities of the target whose mean is moved to that of the source, class by class.

    Args:
        targets: (batch, classes).
        sources: (batch, classes).
    """
    ratio = (sources.mean(0) + _SMALLEST) / (targets.mean(0) + _SMALLEST)
    moved = targets * ratio
    return moved / moved.sum(1, keepdim=True)


def rising(done: Tensor) -> Tensor:
    """Return 1/2 - cos(min(pi, 2 pi done)) / 2: from 0 at the start of a training to 1 when half of it is done."""
    return 0.5 - torch.cos((2 * math.pi * done).clamp(max=math.pi)) / 2


@contextlib.contextmanager
def untracked(network: nn.Module) -> Iterator[None]:
    """Leave the running statistics of batch normalisation as they are; batches are still normalised by their own."""
    layers = [module for module in network.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True


def parts(network: nn.Sequential, total_steps: int = 0) -> List[Part]:
    """Return the only phase of a step.

    Args:
        network: encoder and classifier, one after the other, as trained on the source.
        total_steps: see :class:`AdaMatchTraining`.
    """
    training = AdaMatchTraining(network.train(), total_steps)
    return [Part(training, (SOURCE, LABELS, TARGET), adam((network, RATE)))]
