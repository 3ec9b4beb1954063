"""Figures 2, 3 and 4 of Arcelin (2021), modelled: times over batch sizes, their ratios, largest batches, sampling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from siderostat.devices.sim.bands import Draws, band, total
from siderostat.devices.sim.time import ON_CHIP
from siderostat.devices.sim.trace import trace
from siderostat.reproduce import models, networks, published
from siderostat.reproduce.models import Model
from siderostat.reproduce.page import Page, to_csv
from siderostat.reproduce.parts import Found, Part
from siderostat.reproduce.published import GPU, IPU

NETWORKS = ("dnn", "bnn")
DEVICES = (GPU, IPU)
TITLES = {GPU: "Nvidia V100", IPU: "Graphcore GC2", "dnn": "DNN", "bnn": "BNN"}
FITTED, HELD_OUT = "fitted", "held out"
ROLES = {"dnn": FITTED, "bnn": HELD_OUT}
FITTED_ON = {
    IPU: "supersteps on MLPerf's ResNet-50; the rate of inputs on the DNN",
    GPU: "time per step, per launch, and the rate of inputs on the DNN",
}
RATIO = "ratio"
SAMPLED = (1, 10, 20, 50, 100)


@dataclass(frozen=True)
class Point:
    """A published figure and the model's band.

    Attributes:
        network: ``dnn`` or ``bnn``.
        series: device, or :data:`RATIO`.
        batch: size.
        role: whether the network's times were fitted on.
        published: seconds for 100 epochs, or V100 over GC2.
        modelled: the same by the model, its parameters as they were fitted.
        p2_5: of the model, with the other quantiles.
    """

    network: str
    series: str
    batch: int
    role: str
    published: float
    modelled: float
    p2_5: float
    p16: float
    p50: float
    p84: float
    p97_5: float

    @property
    def error(self) -> float:
        """What was modelled over what was published, minus 1."""
        return self.modelled / self.published - 1

    @property
    def is_covered(self) -> bool:
        """Whether what was published lies in the model's 95 % band."""
        return self.p2_5 <= self.published <= self.p97_5


@dataclass(frozen=True)
class Capacity:
    """The largest batch on the GC2: published, modelled, and how likely the model finds each size to fit."""

    network: str
    role: str
    published: int
    published_next: int
    modelled: int
    fit_probability: dict[int, float]


@dataclass(frozen=True)
class Sampled:
    """The sampler, compiled for the GC2: time and memory of one batch by the model."""

    images: int
    seconds: dict[str, float]
    fit_probability: float


@dataclass(frozen=True)
class Line:
    """A straight line through a published curve: seconds = fixed_s + images * per_image_s."""

    device: str
    fixed_s: float
    per_image_s: float


@dataclass(frozen=True)
class Reproduction:
    """All that the page shows.

    Attributes:
        points: of figures 2 and 3.
        ideal: the same ratios if the host took no time at all, by network: (batch, band).
        capacities: largest batches.
        chip_share: share of the modelled step on the GC2 in which the chip works, by network and batch.
        sampled: figure 4 as the model of the chip has it.
        lines: through the curves of figure 4.
        sampler_flops: floating-point operations of the decoder for one image.
        models: what was computed with.
    """

    points: list[Point]
    ideal: dict[str, list[tuple[int, dict[str, float]]]]
    capacities: list[Capacity]
    chip_share: dict[tuple[str, int], float]
    sampled: list[Sampled]
    lines: list[Line]
    sampler_flops: float
    models: dict[str, Model]

    def of(self, network: str, series: str) -> list[Point]:
        """Return the points of one curve."""
        return [p for p in self.points if (p.network, p.series) == (network, series)]

    def mean_error(self, network: str, series: str) -> float:
        """Return the mean of the errors' magnitudes over one curve."""
        return float(np.mean([abs(p.error) for p in self.of(network, series)]))


def reproduce(of: dict[str, Model] | None = None) -> Reproduction:
    """Compute everything.

    Args:
        of: device -> its model; default: as the files have it that come along.
    """
    held = of or {device: models.model(device) for device in DEVICES}
    draws = Draws()
    seconds = {
        (network, device, time.batch): models.paper_parts(held[device], network, time.batch, draws)
        for network in NETWORKS
        for device in DEVICES
        for time in published.training(network, device)
    }
    flops = trace(networks.sampling_step(1)).flops - trace(networks.flow_step(1)).flops
    return Reproduction(
        points=[p for network in NETWORKS for p in _points(network, seconds, held)],
        ideal={network: _ideal(network, seconds) for network in NETWORKS},
        capacities=[_capacity(network, held[IPU], draws) for network in NETWORKS],
        chip_share={(n, b): _chip_share(parts) for (n, device, b), parts in seconds.items() if device == IPU},
        sampled=[_sampled(images, held[IPU], draws) for images in SAMPLED],
        lines=_lines(),
        sampler_flops=flops,
        models=held,
    )


def points_csv(of: Reproduction) -> str:
    """Return every point of figures 2 and 3 as comma-separated values."""
    return to_csv([{**asdict(p), "error": p.error, "in_95_band": p.is_covered} for p in of.points])


def plan(scale: str, seeds: int) -> list[Part]:
    """Return no parts: everything is computed in seconds."""
    return []


def show(found: Found) -> Page:
    """Return the page; see :class:`siderostat.reproduce.page.Module`."""
    from siderostat.reproduce.arcelin2021.page import section

    made = "Made by siderostat. Everything that is not grey is modelled; every point is in points.csv."
    of = reproduce()
    return Page(section(of), points_csv(of), made)


def _points(network: str, seconds: dict[Any, dict[str, Any]], held: dict[str, Model]) -> list[Point]:
    curves = {device: published.training(network, device) for device in DEVICES}
    points = []
    for device, times in curves.items():
        for time in times:
            of_run = published.run_s(1.0, time.batch) * total(seconds[network, device, time.batch])
            best = published.run_s(float(models.paper_step_s(held[device], network, time.batch)), time.batch)
            points.append(Point(network, device, time.batch, ROLES[network], time.run_s, best, **band(of_run)))
    best_of = {(p.series, p.batch): p.modelled for p in points}
    for gpu, ipu in zip(curves[GPU], curves[IPU], strict=True):
        ratio = total(seconds[network, GPU, gpu.batch]) / total(seconds[network, IPU, gpu.batch])
        best = best_of[GPU, gpu.batch] / best_of[IPU, gpu.batch]
        points.append(Point(network, RATIO, gpu.batch, ROLES[network], gpu.step_s / ipu.step_s, best, **band(ratio)))
    return points


def _ideal(network: str, seconds: dict[Any, dict[str, Any]]) -> list[tuple[int, dict[str, float]]]:
    """Return the ratio of what is left where the hosts' inputs cost nothing, and Keras takes no time per step."""

    def left(device: str, batch: int) -> Any:
        parts = seconds[network, device, batch]
        return total(parts, [name for name in parts if name not in ("host", "framework")])

    batches = [time.batch for time in published.training(network, GPU)]
    return [(batch, band(left(GPU, batch) / left(IPU, batch))) for batch in batches]


def _capacity(network: str, ipu: Model, draws: Draws) -> Capacity:
    largest = models.largest_batch(ipu, network, draws)
    fits, next_one = published.FITS[network]
    around = sorted({fits, next_one, largest, largest + 1})
    chances = {batch: models.fit_probability(ipu, network, batch, draws) for batch in around}
    return Capacity(network, ROLES[network], fits, next_one, largest, chances)


def _chip_share(parts: dict[str, Any]) -> float:
    return float(np.median(total(parts, ON_CHIP) / total(parts)))


def _sampled(images: int, ipu: Model, draws: Draws) -> Sampled:
    graph = trace(networks.sampling_step(images))
    return Sampled(images, band(ipu.step_s(graph, draws)), ipu.need(graph, draws).fit_probability)


def _lines() -> list[Line]:
    rows = published.sampling()
    return [_line(GPU, rows, [r.gpu_s for r in rows]), _line(IPU, rows, [r.ipu_s for r in rows])]


def _line(device: str, rows: Sequence[published.Sampling], seconds: Sequence[float]) -> Line:
    """Fit a straight line by least squares of relative differences."""
    weights = 1 / np.array(seconds)
    columns = np.array([[1.0, row.images] for row in rows])
    fixed, per_image = np.linalg.lstsq(columns * weights[:, None], np.ones(len(rows)), rcond=None)[0]
    return Line(device, float(fixed), float(per_image))
