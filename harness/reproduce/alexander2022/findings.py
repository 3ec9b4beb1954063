"""What the parts of the reproduction say together: every figure of the page, from whatever parts there are."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from siderostat import stats
from siderostat.reproduce.alexander2022 import lenses
from siderostat.reproduce.alexander2022.scales import BACK, FORTH
from siderostat.reproduce.parts import Found, Result

ADDA = "adda"
LEAST_AUC, LEAST_GAIN = 0.85, 0.08
"""Of the gate: AUC on the source, and the accuracy that ADDA adds on the target."""


@dataclass(frozen=True)
class Judged:
    """How well a network classifies test images.

    Attributes:
        accuracy: share that it has right.
        auc: area under the curve of each class against the others, their mean.
        true_positives: the mean curve, at the false positives that all curves are kept at; empty where none is.
    """

    accuracy: float
    auc: float
    true_positives: tuple[float, ...] = ()


@dataclass(frozen=True)
class Trained:
    """A network trained on the source's labels.

    Attributes:
        encoder: by name.
        direction: instruments of source and target.
        seed: of weights, images and order.
        settings: of the training.
        on_source: test images of the source.
        before: test images of the target.
        adabn: these, with the target's statistics in batch normalisation.
        cpu_s: processor time.
    """

    encoder: str
    direction: tuple[str, str]
    seed: int
    settings: Mapping[str, Any]
    on_source: Judged
    before: Judged
    adabn: Judged
    cpu_s: float


@dataclass(frozen=True)
class Adapted:
    """A network adapted to the target.

    Attributes:
        encoder: by name.
        direction: instruments of source and target.
        seed: of weights, images and order.
        algorithm: by name.
        before: the network it began with, on test images of the target.
        after: the same after the last epoch.
        selected: after the epoch of the largest accuracy, which the labels of these images choose: an upper bound.
        accuracies: on the test images, after each epoch.
        losses: of each epoch.
        cpu_s: processor time, that of a source training that had to be made again among it.
    """

    encoder: str
    direction: tuple[str, str]
    seed: int
    algorithm: str
    before: Judged
    after: Judged
    selected: Judged
    accuracies: tuple[float, ...]
    losses: tuple[float, ...]
    cpu_s: float

    @property
    def gain(self) -> float:
        """Accuracy that was added by the last epoch."""
        return self.after.accuracy - self.before.accuracy


@dataclass(frozen=True)
class Findings:
    """Everything that the page shows.

    Attributes:
        trained: on the source.
        adapted: from them.
        pictures: lenses by class and instrument, as records hold them.
    """

    trained: list[Trained]
    adapted: list[Adapted]
    pictures: dict[str, dict[str, Any]]

    @property
    def encoders(self) -> list[str]:
        """Encoders of which something is there, in order."""
        return list(dict.fromkeys([*(t.encoder for t in self.trained), *(a.encoder for a in self.adapted)]))

    def of(self, encoder: str, direction: tuple[str, str]) -> list[Trained]:
        """Return the source trainings of an encoder in one direction, by seed."""
        return [t for t in self.trained if (t.encoder, t.direction) == (encoder, direction)]

    def by(self, algorithm: str, encoder: str, direction: tuple[str, str]) -> list[Adapted]:
        """Return the adaptations by one algorithm, by seed."""
        wanted = (algorithm, encoder, direction)
        return [a for a in self.adapted if (a.algorithm, a.encoder, a.direction) == wanted]

    def figures(self, encoder: str, direction: tuple[str, str]) -> dict[str, stats.Estimate]:
        """Return the figures that Alexander et al. published, as they came out here: those that there are."""
        trained, adda = self.of(encoder, direction), self.by(ADDA, encoder, direction)
        found = {
            "source_auc": [t.on_source.auc for t in trained],
            "before_auc": [t.before.auc for t in trained],
            "adda_auc": [a.after.auc for a in adda],
            "adda_accuracy": [a.after.accuracy for a in adda],
        }
        return {name: mean(values) for name, values in found.items() if values}


@dataclass(frozen=True)
class Gate:
    """Whether one seed's trainings in one direction are good enough to say anything.

    Attributes:
        seed: of both trainings.
        source_auc: on test images of the source.
        gain: accuracy that the last epoch of ADDA has more than the network it began with.
    """

    seed: int
    source_auc: float
    gain: float

    @property
    def is_met(self) -> bool:
        """Whether both figures reach what is asked for, up to the rounding of sums."""
        return all(
            figure >= least or math.isclose(figure, least)
            for figure, least in ((self.source_auc, LEAST_AUC), (self.gain, LEAST_GAIN))
        )


def gates(of: Findings, encoder: str, direction: tuple[str, str] = FORTH) -> list[Gate]:
    """Return the gate of each seed of which both trainings are there."""
    aucs = {t.seed: t.on_source.auc for t in of.of(encoder, direction)}
    return [Gate(a.seed, aucs[a.seed], a.gain) for a in of.by(ADDA, encoder, direction) if a.seed in aucs]


def mean(values: Sequence[float]) -> stats.Estimate:
    """Return the mean over seeds and its 95 % interval, Student's t; without one where there is one seed only."""
    from scipy.special import stdtrit

    n, value = len(values), float(np.mean(values))
    if n < 2:
        return stats.Estimate(value, None, None, n)
    half = float(stdtrit(n - 1, 0.5 + stats.CONFIDENCE / 2)) * float(np.std(values, ddof=1)) / math.sqrt(n)
    return stats.Estimate(value, value - half, value + half, n)


def mean_curve(judged: Iterable[Judged]) -> list[float]:
    """Return the mean of curves over seeds."""
    curve: list[float] = np.mean([j.true_positives for j in judged], axis=0).tolist()
    return curve


def find(found: Found) -> Findings:
    """Return every figure from the parts that there are."""
    pictures = found.results[lenses.NAME].figures["pictures"] if lenses.NAME in found.results else {}
    return Findings(
        [_trained(result) for result in _with(found, lambda s: "source" in s and "algorithm" not in s)],
        [_adapted(result) for result in _with(found, lambda s: "algorithm" in s)],
        pictures,
    )


def _with(found: Found, is_wanted: Callable[[Mapping[str, Any]], bool]) -> list[Result]:
    return [result for result in found.results.values() if is_wanted(result.settings)]


def _trained(result: Result) -> Trained:
    settings, figures = result.settings, result.figures
    return Trained(
        settings["encoder"],
        _direction(settings),
        settings["seed"],
        settings,
        _judged(figures["on_source"]),
        _judged(figures["before"]),
        _judged(figures["adabn"]),
        result.cpu_s,
    )


def _adapted(result: Result) -> Adapted:
    settings, figures = result.settings, result.figures
    best = int(np.argmax(figures["accuracies"]))
    return Adapted(
        settings["encoder"],
        _direction(settings),
        settings["seed"],
        settings["algorithm"],
        _judged(figures["before"]),
        _judged(figures["after"]),
        Judged(figures["accuracies"][best], figures["aucs"][best]),
        tuple(figures["accuracies"]),
        tuple(figures["losses"]),
        result.cpu_s,
    )


def _judged(held: Mapping[str, Any]) -> Judged:
    return Judged(held["accuracy"], held["auc"], tuple(held["true_positives"]))


def _direction(settings: Mapping[str, Any]) -> tuple[str, str]:
    return FORTH if settings["source"] == FORTH[0] else BACK
