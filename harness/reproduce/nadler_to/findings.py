"""What the parts of the reproduction say together: every figure of the page, from whatever parts there are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from siderostat import stats
from siderostat.reproduce.nadler_to import published
from siderostat.reproduce.nadler_to.models import BOXES, FOREST, RESNET
from siderostat.reproduce.nadler_to.scales import DEPTHS
from siderostat.reproduce.parts import Found, Result


class Model(NamedTuple):
    """What predicts: its kind, and channels of a network or depth of a forest; 0 where there is nothing to choose."""

    kind: str
    size: int = 0

    @property
    def title(self) -> str:
        """What it is called."""
        return {
            "mean": "mean of the training labels",
            "relation": "median mass at every peak velocity",
            "floor": "every peak velocity known",
            FOREST: f"forest of depth {self.size}",
            RESNET: f"ResNet N = {self.size}",
        }[self.kind]

    @property
    def published(self) -> float | None:
        """The chi^2 that was published for it; None where none was."""
        if self.kind == FOREST:
            return published.forest()
        return published.networks().get(self.size) if self.kind == RESNET else None


MEAN, RELATION, FLOOR = UNFITTED = Model("mean"), Model("relation"), Model("floor")
FORESTS = tuple(Model(FOREST, depth) for depth in DEPTHS)


@dataclass(frozen=True)
class Spread:
    """Stellar mass functions of the validation boxes, in Mpc^-3 dex^-1: their mean and two percentiles, by bin."""

    phi: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True)
class Judged:
    """How well a model predicts the validation boxes of one seed.

    Attributes:
        model: which one.
        seed: of the catalogue, and of all that was fitted or trained.
        chi2: as published: sum over bins, mean over boxes.
        error: its standard error from the differences between boxes.
        by_bin: what each bin adds to it.
        predicted: functions.
        settings: of the part.
        cpu_s: processor time of the part.
    """

    model: Model
    seed: int
    chi2: float
    error: float
    by_bin: tuple[float, ...]
    predicted: Spread
    settings: Mapping[str, Any]
    cpu_s: float


@dataclass(frozen=True)
class Boxes:
    """The halos of a seed, in which of the boxes that are made, and how many sub-boxes are trained and judged on."""

    seed: int
    box: str
    halos: int
    trained_on: int
    judged_on: int
    truth: Spread


@dataclass(frozen=True)
class Forest:
    """What else is known of a forest: scatter in dex, importances by feature, and halos that it was fitted to."""

    model: Model
    seed: int
    scatter_dex: float
    importances: Mapping[str, float]
    halos: int


@dataclass(frozen=True)
class Learning:
    """The chi^2 of a network after each epoch, and the mean loss in it."""

    model: Model
    seed: int
    chi2: tuple[float, ...]
    losses: tuple[float, ...]


@dataclass(frozen=True)
class Findings:
    """Everything that the page shows."""

    boxes: list[Boxes]
    judged: list[Judged]
    forests: list[Forest]
    learning: list[Learning]

    @property
    def networks(self) -> list[Model]:
        """Networks of which any is there, smallest first."""
        return sorted({j.model for j in self.judged if j.model.kind == RESNET})

    @property
    def models(self) -> list[Model]:
        """All models of which any is there, the worst guess first."""
        order = [MEAN, *reversed(FORESTS), RELATION, *self.networks, FLOOR]
        return [model for model in order if self.by(model)]

    def by(self, model: Model) -> dict[int, Judged]:
        """Return how well a model predicts, by seed."""
        return {j.seed: j for j in self.judged if j.model == model}

    def chi2(self, model: Model) -> stats.Estimate | None:
        """Return the geometric mean over seeds of a model's chi^2; None where there is none."""
        values = [j.chi2 for j in self.by(model).values()]
        return stats.geometric_mean(values) if values else None

    def ratio(self, above: Model, below: Model) -> stats.Estimate | None:
        """Return one model's chi^2 over another's, over the seeds that both have; None where there is none."""
        held = self.by(below)
        ratios = [j.chi2 / held[seed].chi2 for seed, j in self.by(above).items() if seed in held]
        return stats.geometric_mean(ratios) if ratios else None


@dataclass(frozen=True)
class Gate:
    """Whether the models of one seed come in the order of the paper.

    Attributes:
        seed: of all of them.
        network: chi^2 of the smallest network.
        forests: of the forests, by depth.
        mean: of the mean of the training labels.
    """

    seed: int
    network: float
    forests: Mapping[int, float]
    mean: float

    @property
    def is_met(self) -> bool:
        """Whether the network is better than every forest, and every forest than the mean."""
        return self.network < min(self.forests.values()) and max(self.forests.values()) < self.mean


def gates(of: Findings) -> list[Gate]:
    """Return the gate of each seed of which all parts are there."""
    if not of.networks:
        return []
    smallest, means = of.by(of.networks[0]), of.by(MEAN)
    forests = {model.size: of.by(model) for model in FORESTS}
    return [
        Gate(seed, network.chi2, {depth: held[seed].chi2 for depth, held in forests.items()}, means[seed].chi2)
        for seed, network in smallest.items()
        if seed in means and all(seed in held for held in forests.values())
    ]


def find(found: Found) -> Findings:
    """Return every figure from the parts that there are."""
    of = Findings([], [], [], [])
    for result in found.results.values():
        {BOXES: _take_boxes, FOREST: _take_forest, RESNET: _take_network}[result.settings["model"]](of, result)
    return of


def _take_boxes(of: Findings, result: Result) -> None:
    figures, seed = result.figures, result.settings["seed"]
    halos, trained_on, judged_on = (int(figures[name]) for name in ("halos", "trained_on", "judged_on"))
    box = result.settings["box"]
    of.boxes.append(Boxes(seed, box, halos, trained_on, judged_on, _spread(figures["truth"])))
    of.judged.extend(_judged(model, result, figures[model.kind]) for model in UNFITTED)


def _take_forest(of: Findings, result: Result) -> None:
    figures, seed, model = result.figures, result.settings["seed"], Model(FOREST, result.settings["depth"])
    of.judged.append(_judged(model, result, figures))
    of.forests.append(Forest(model, seed, figures["scatter_dex"], figures["importances"], figures["halos"]))


def _take_network(of: Findings, result: Result) -> None:
    figures, seed, model = result.figures, result.settings["seed"], Model(RESNET, result.settings["channels"])
    of.judged.append(_judged(model, result, figures))
    chi2, losses = (tuple(epoch[name] for epoch in figures["epochs"]) for name in ("chi2", "loss"))
    of.learning.append(Learning(model, seed, chi2, losses))


def _judged(model: Model, result: Result, held: Mapping[str, Any]) -> Judged:
    by_bin, seed = tuple(held["by_bin"]), result.settings["seed"]
    return Judged(model, seed, held["chi2"], held["error"], by_bin, _spread(held), result.settings, result.cpu_s)


def _spread(held: Mapping[str, Any]) -> Spread:
    return Spread(tuple(held["phi"]), tuple(held["low"]), tuple(held["high"]))
