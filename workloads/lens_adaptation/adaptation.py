"""Whole trainings: a classifier on the source's labels, carried over to the target, and judged on its test set.

Labels of the target are used to judge and for nothing else. What would be reached by stopping at the best epoch, which
those labels choose, is told apart from what the last epoch reached.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from siderostat.workloads.lens_adaptation import adamatch, adda, cgdm, self_ensemble, supervised
from siderostat.workloads.lens_adaptation.augment import weak
from siderostat.workloads.lens_adaptation.heads import Classifier, Discriminator
from siderostat.workloads.lens_adaptation.parts import AIMS, LABELS, PSEUDO, SOURCE, TARGET, Part

BATCH = 100
_AT_ONCE = 200


@dataclass(frozen=True)
class Images:
    """Images, (n, 1, side, side), and their classes, int64 of shape (n,); both on one device."""

    pixels: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Score:
    """Share of images classified right, and area under the curve of each class against the others, their mean."""

    accuracy: float
    auc: float


@dataclass(frozen=True)
class History:
    """What each epoch came to.

    Attributes:
        scores: after each epoch.
        losses: of the last phase, the mean over each epoch.
    """

    scores: List[Score] = field(default_factory=list)
    losses: List[float] = field(default_factory=list)

    @property
    def final(self) -> Score:
        """Of the last epoch."""
        return self.scores[-1]

    @property
    def selected(self) -> Score:
        """Of the epoch of the largest accuracy: on a test set an upper bound, since its labels choose."""
        return max(self.scores, key=lambda score: score.accuracy)


def score(network: nn.Module, images: Images) -> Score:
    """Return how well a network classifies; it is left in the mode it was in, part by part.

    Args:
        network: images to logits, (n, classes).
        images: with all classes among them.
    """
    from sklearn.metrics import roc_auc_score

    before = [(module, module.training) for module in network.modules()]
    network.eval()
    with torch.no_grad():
        logits = torch.cat([network(some) for some in torch.split(images.pixels, _AT_ONCE)])
    for module, was in before:
        module.training = was
    said, labels = logits.double().softmax(1).cpu().numpy(), images.labels.cpu().numpy()
    auc = roc_auc_score(labels, said, multi_class="ovr", average="macro")
    return Score(float(np.mean(said.argmax(1) == labels)), float(auc))


def train_source(
    network: nn.Sequential, images: Images, validation: Images, epochs: int, seed: int, batch: int = BATCH
) -> History:
    """Train encoder and classifier on the source; they end with the weights of the best epoch on ``validation``.

    Args:
        network: encoder and classifier, one after the other.
        images: of the source, to train on.
        validation: of the source, other ones.
        epochs: times that all images are seen.
        seed: of order and mirroring.
        batch: images per step; what does not fill one is left out.
    """
    steps = len(images.labels) // batch * epochs
    training = _Training(supervised.parts(network, cycle_steps=steps))
    history = History()
    best = copy.deepcopy(network.state_dict())
    for epoch in range(epochs):
        loss = training.epoch(images, images, batch, (seed, epoch))
        history.losses.append(loss)
        history.scores.append(score(network, validation))
        if history.scores[-1] is history.selected:
            best = copy.deepcopy(network.state_dict())
    network.load_state_dict(best)
    return history


def adapt(
    algorithm: str,
    network: nn.Sequential,
    source: Images,
    target: Images,
    test: Images,
    epochs: int,
    seed: int,
    batch: int = BATCH,
) -> Tuple[nn.Module, History]:
    """Return a network adapted to the target, and its scores on ``test`` after each epoch.

    Args:
        algorithm: one of :data:`ALGORITHMS`.
        network: encoder and classifier as :func:`train_source` left them; a copy of them is adapted.
        source: labelled images.
        target: images; their labels are not looked at.
        test: of the target, other ones.
        epochs: times that the images of the smaller of both sets are seen.
        seed: of order, mirroring, noise and new weights.
        batch: images of each of both per step.

    Raises:
        LookupError: if there is no such algorithm.
    """
    if algorithm not in ALGORITHMS:
        raise LookupError(f"there is no algorithm {algorithm!r}; there are {', '.join(ALGORITHMS)}")
    steps = min(len(source.labels), len(target.labels)) // batch * epochs
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        adapting = ALGORITHMS[algorithm](copy.deepcopy(network), steps)
    training, history = _Training(adapting.parts, adapting.pseudo_labels), History()
    for epoch in range(epochs):
        history.losses.append(training.epoch(source, target, batch, (seed, epoch)))
        history.scores.append(score(adapting.result(), test))
    return adapting.result(), history


def adapt_statistics(network: nn.Module, images: Tensor) -> nn.Module:
    """Return a copy whose batch normalisation has the statistics of other images, and else the same weights.

    AdaBN (Li et al. 2016, arXiv:1603.04779): the control of every adaptation, since adversarial training moves the
    statistics too.

    Args:
        network: encoder and classifier.
        images: of the target, (n, 1, side, side).
    """
    adapted = copy.deepcopy(network).train()
    layers = [module for module in adapted.modules() if isinstance(module, _BatchNorm)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # torch's own way to ask for the mean over all batches
    with torch.no_grad():
        for some in torch.split(images, BATCH):
            adapted(some)
    for layer, momentum in zip(layers, momenta):
        layer.momentum = momentum
    return adapted.eval()


@dataclass(frozen=True)
class _Adapting:
    """An algorithm at work.

    Attributes:
        parts: of a step.
        result: returns the network as it is to be judged.
        pseudo_labels: images of the target to labels; None: no part takes them.
    """

    parts: Sequence[Part]
    result: Callable[[], nn.Module]
    pseudo_labels: Optional[Callable[[Tensor], Tensor]] = None


def _adda(network: nn.Sequential, steps: int) -> _Adapting:
    discriminator = Discriminator().to(next(network.parameters()).device)
    return _Adapting(adda.parts("reused", network[0], discriminator), lambda: network)


def _self_ensemble(network: nn.Sequential, steps: int) -> _Adapting:
    parts = self_ensemble.parts(network)
    training = parts[0].model
    assert isinstance(training, self_ensemble.SelfEnsembleTraining)
    return _Adapting(parts, training.settled)


def _adamatch(network: nn.Sequential, steps: int) -> _Adapting:
    return _Adapting(adamatch.parts(network, steps), lambda: network)


def _cgdm(network: nn.Sequential, steps: int) -> _Adapting:
    first = network[1]
    assert isinstance(first, Classifier)
    networks = cgdm.Networks(network[0], first, Classifier().to(first.weight.device))
    return _Adapting(cgdm.parts(networks), lambda: networks, lambda images: cgdm.pseudo_labels(networks, images))


ALGORITHMS: Dict[str, Callable[[nn.Sequential, int], _Adapting]] = {
    "adda": _adda,
    "self-ensemble": _self_ensemble,
    "adamatch": _adamatch,
    "cgdm": _cgdm,
}
"""Name -> what makes it from encoder and classifier and the number of steps."""


class _Training:
    """The parts of a step with their optimisers.

    Args:
        parts: of a step.
        pseudo_labels: images of the target to labels, made anew every 2000 steps; None: no part takes them.
    """

    def __init__(self, parts: Sequence[Part], pseudo_labels: Optional[Callable[[Tensor], Tensor]] = None) -> None:
        self._parts = parts
        self._optimizers = [part.optimizer(part.model.parameters()) for part in parts]
        self._pseudo_labels = pseudo_labels
        self._further: Dict[str, Tensor] = {}
        self._done = 0

    def epoch(self, source: Images, target: Images, batch: int, seed: Tuple[int, int]) -> float:
        """Make the steps of one epoch, with images mirrored at random; return the mean loss of the last phase.

        Args:
            source: labelled images.
            target: images.
            batch: of each.
            seed: of the training and number of the epoch.
        """
        rng = np.random.default_rng(seed)
        orders = [torch.from_numpy(rng.permutation(len(some.labels))) for some in (source, target)]
        losses = []
        with torch.random.fork_rng(_cuda(source.pixels)):
            torch.manual_seed(int(rng.integers(2**31)))
            for i in range(min(map(len, orders)) // batch):
                of_source, of_target = (order[i * batch : (i + 1) * batch].to(source.labels.device) for order in orders)
                losses.append(self._step(source, target, of_source, of_target))
        return float(torch.stack(losses).mean())

    def _step(self, source: Images, target: Images, of_source: Tensor, of_target: Tensor) -> Tensor:
        if self._pseudo_labels is not None and self._done % cgdm.PSEUDO_INTERVAL == 0:
            self._further[PSEUDO] = self._pseudo_labels(target.pixels)
        self._done += 1
        batch = {
            SOURCE: weak(source.pixels[of_source]),
            LABELS: source.labels[of_source],
            TARGET: weak(target.pixels[of_target]),
            AIMS: torch.full_like(of_target, adda.IS_SOURCE),
            **{name: labels[of_target] for name, labels in self._further.items()},
        }
        losses: List[Tensor] = []
        for part, optimizer in zip(self._parts, self._optimizers):
            optimizer.zero_grad()
            loss = part.model(*(batch[name] for name in part.takes))[-1]
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        return losses[-1]


def _cuda(tensor: Tensor) -> List[int]:
    """Return the number of the tensor's GPU in a list, empty where it lies elsewhere."""
    return [tensor.get_device()] if tensor.is_cuda else []
