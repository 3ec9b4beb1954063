"""The models as used for what was published: which chip, framework and calibration stand for which column."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from siderostat.devices.sim import calibration, chips, frameworks, memory, time
from siderostat.devices.sim.bands import Draws, total
from siderostat.devices.sim.opgraph import OpGraph
from siderostat.devices.sim.spec import Spec
from siderostat.devices.sim.trace import trace
from siderostat.reproduce import networks, published
from siderostat.reproduce.published import GPU, IPU

PAPER_FRAMEWORK = {IPU: "tf2.1-keras-ipu", GPU: "tf2.1-keras-fit"}
LOOP = "poptorch-loop"
ONE = Draws(1)


@dataclass(frozen=True)
class Model:
    """A chip, what drives it, and the parameters of its model."""

    chip: Spec
    framework: Spec
    calibration: Spec

    def changed(
        self, framework: Mapping[str, float] | None = None, calibration: Mapping[str, float] | None = None
    ) -> Model:
        """Return the same model with other values of some figures."""
        return replace(
            self,
            framework=self.framework.changed(framework or {}),
            calibration=self.calibration.changed(calibration or {}),
        )

    def parts(self, graph: OpGraph, draws: Draws = ONE, **further: Any) -> dict[str, Any]:
        """Return the seconds of a step by part; see :func:`siderostat.devices.sim.time.parts`."""
        further.setdefault("precision", "fp32")
        return time.parts(graph, self.chip, self.framework, self.calibration, draws=draws, **further)

    def step_s(self, graph: OpGraph, draws: Draws = ONE, **further: Any) -> Any:
        """Return the seconds of a step."""
        return total(self.parts(graph, draws, **further))

    def need(self, graph: OpGraph, draws: Draws = ONE, precision: str = "fp32") -> memory.Need:
        """Return the memory of a step."""
        return memory.need(graph, self.chip, self.calibration, precision, draws)


def model(chip: str, framework: str = "") -> Model:
    """Return the model of a chip, by default with the framework that the paper used on it."""
    found = chips.load(chip)
    driven = frameworks.fitting(framework or PAPER_FRAMEWORK[chip], found)
    return Model(found, driven, calibration.fitting("", found))


def paper_parts(of: Model, network: str, batch: int, draws: Draws = ONE, with_host: bool = True) -> dict[str, Any]:
    """Return the seconds of one of Arcelin's training steps by part, as it was timed on the model's device."""
    is_gpu = of.chip.name == GPU
    launches = published.kernels(network) if is_gpu else None
    return of.parts(galaxy(network, batch, has_dense_head=not is_gpu), draws, with_host=with_host, launches=launches)


def paper_step_s(of: Model, network: str, batch: int, draws: Draws = ONE) -> Any:
    """Return the seconds of one of Arcelin's training steps."""
    return total(paper_parts(of, network, batch, draws))


def largest_batch(of: Model, network: str, draws: Draws = ONE, most: int = 24) -> int:
    """Return the largest batch of one of Arcelin's networks of which at least half of the draws fit; 0: none does."""
    low, high = 0, most + 1  # the one fits, the other does not
    while high - low > 1:
        batch = (low + high) // 2
        if fit_probability(of, network, batch, draws) >= 0.5:
            low = batch
        else:
            high = batch
    return low


def fit_probability(of: Model, network: str, batch: int, draws: Draws) -> float:
    """Return how likely a training step of one of Arcelin's networks fits the chip."""
    return of.need(galaxy(network, batch, has_dense_head=True), draws).fit_probability


@cache
def galaxy(network: str, batch: int, has_dense_head: bool) -> OpGraph:
    """Return the operations of one of Arcelin's training steps."""
    return trace(networks.galaxy_step(network, batch, has_dense_head))


@cache
def published_step(id: int) -> OpGraph | None:
    """Return the operations of a row of ``ipu_published.csv``; None where it does not say of what batch."""
    row = next(r for r in published.ipu_steps() if r.id == id)
    if row.batch is None or row.step_s is None:
        return None
    if row.model.startswith("ResNet-50"):
        graph = trace(networks.classifier_step(networks.ResNet50(), row.batch, (3, 224, 224), 0.9))
        # Activations are computed again in the backward pass: the submission keeps those of ten blocks only.
        return replace(graph, ops=[*(op for op in graph.ops if op.stage == "forward"), *graph.ops])
    if row.model.startswith("PopTorch"):
        return trace(networks.classifier_step(networks.TutorialNetwork(), row.batch, (1, 128, 128), 0.9))
    return trace(networks.classifier_step(networks.DigitsNetwork(), row.batch, (1, 28, 28), 0.0))
