"""Self-ensembling (French, Mackiewicz and Fisher 2018, arXiv:1706.05208): a student that agrees with its own average.

The public code for lenses has one object for student and teacher, so that its average averages nothing, and swaps the
two arguments of the class balance, which then has no gradient. Here both are as in the paper.
"""

from __future__ import annotations

import copy
from typing import List, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from siderostat.workloads.galaxy_shape.torch import in_full
from siderostat.workloads.lens_adaptation.augment import weak
from siderostat.workloads.lens_adaptation.parts import LABELS, SOURCE, TARGET, Part, adam

RATE = 1e-4
MOMENTUM = 0.999  # of the teacher's weights
THRESHOLD = 0.96837722  # the teacher's confidence above which an image counts
UNSUPERVISED_WEIGHT = 3.0
CLASS_BALANCE = 0.005
_SMALLEST = 1e-6


class SelfEnsembleTraining(nn.Module):
    """A student, trained on the source and to agree with its teacher on the target, and the teacher.

    The teacher's weights are the average t <- 0.999 t + 0.001 s over all updates of the student, its batch statistics
    those of the target images it has seen. An update of the average follows each update of the student: it is made when
    the next step begins, so that a step is one phase, and :meth:`settled` makes the one after the last step.

    Args:
        network: encoder and classifier, one after the other: the student. The teacher begins as a copy.
    """

    def __init__(self, network: nn.Sequential) -> None:
        super().__init__()
        self.student = network
        self.teacher = copy.deepcopy(network).requires_grad_(False)

    def forward(self, source_images: Tensor, labels: Tensor, target_images: Tensor) -> Tuple[Tensor, ...]:
        """Return the target's probabilities by the student, (batch, 3), both losses and what is minimised."""
        self._follow()
        supervised = F.cross_entropy(in_full(self.student(weak(source_images))), labels.long())
        students = in_full(self.student(weak(target_images))).softmax(1)
        with torch.no_grad():
            teachers = in_full(self.teacher(weak(target_images))).softmax(1)
        unsupervised = disagreement(students, teachers)
        return students, supervised, unsupervised, supervised + UNSUPERVISED_WEIGHT * unsupervised

    def settled(self) -> nn.Sequential:
        """Return a copy of the teacher with the student's last update in its average."""
        settled = copy.deepcopy(self)
        settled._follow()
        return settled.teacher

    @torch.no_grad()
    def _follow(self) -> None:
        for average, weight in zip(self.teacher.parameters(), self.student.parameters()):
            average.lerp_(weight, 1 - MOMENTUM)


def disagreement(students: Tensor, teachers: Tensor) -> Tensor:
    """Return the mean square difference over images of which the teacher is sure, plus 0.005 times the class balance.

    The balance is the binary cross-entropy of the student's mean probabilities against equal ones, summed over classes,
    times the share of images that count.

    Args:
        students: probabilities, (batch, classes).
        teachers: probabilities of the same images, (batch, classes), without gradient.
    """
    counts = (teachers.amax(1) > THRESHOLD).to(students.dtype)
    apart = (counts * (students - teachers).square().mean(1)).mean()
    mean, wanted = students.mean(0), 1 / students.shape[1]
    balance = -(wanted * (mean + _SMALLEST).log() + (1 - wanted) * (1 - mean + _SMALLEST).log()).sum()
    return apart + CLASS_BALANCE * counts.mean() * balance


def parts(network: nn.Sequential) -> List[Part]:
    """Return the only phase of a step.

    Args:
        network: encoder and classifier, one after the other, as trained on the source.
    """
    training = SelfEnsembleTraining(network.train())
    return [Part(training, (SOURCE, LABELS, TARGET), adam((training.student, RATE)))]
