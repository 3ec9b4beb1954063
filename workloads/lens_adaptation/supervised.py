"""Training on labelled images of the source: cross-entropy, and a learning rate that runs through one cycle."""

from __future__ import annotations

from typing import Any, List, Tuple

import torch.nn.functional as F
from torch import Tensor, nn

from siderostat.workloads.galaxy_shape.torch import in_full
from siderostat.workloads.lens_adaptation.parts import LABELS, SOURCE, Part, adam, one_cycle

RATE = 1e-3


class SupervisedTraining(nn.Module):
    """Encoder and classifier, with their cross-entropy.

    Args:
        network: encoder and classifier, one after the other.
    """

    def __init__(self, network: nn.Sequential) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor, labels: Tensor) -> Tuple[Tensor, Tensor]:
        """Return logits, (batch, 3), and the loss."""
        logits = in_full(self.network(images))
        return logits, F.cross_entropy(logits, labels.long())  # IPUs take numbers of 32 bits


def parts(network: nn.Sequential, cycle_steps: int = 0) -> List[Part]:
    """Return the only phase of a step.

    Args:
        network: encoder and classifier, one after the other, to train.
        cycle_steps: steps in which the learning rate goes up to 1e-3 and down again; 0: it stays at 1e-3.
    """
    make: Any = adam((network, RATE))
    if cycle_steps:
        make = one_cycle(make, RATE, cycle_steps)
    return [Part(SupervisedTraining(network.train()), (SOURCE, LABELS), make)]
