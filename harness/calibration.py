"""Fits the parameters of the chip models to published figures, and says how far each published figure is missed.

Each parameter is fitted alone, or with those that the same few figures decide, in this order:

1. ``superstep_cycles`` on ResNet-50 on GC200 and Bow, whose calls are long (least squares of logarithms);
2. ``call_s`` of PopTorch's loop on the tutorial's network, which makes a call every 50 steps;
3. the rate of inputs of Keras on the IPU on the DNN of Arcelin (least squares of the times per step);
4. ``step_s``, ``op_s`` and the rate of inputs of Keras on the GPU on the same DNN (the same);
5. ``code_product_bytes`` on the largest batch of the DNN on the GC2.

The Bayesian network is held out throughout.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import brentq, least_squares

from siderostat.devices.sim import spec
from siderostat.devices.sim.bands import total
from siderostat.devices.sim.trace import trace
from siderostat.reproduce import models, networks, published
from siderostat.reproduce.models import Model
from siderostat.reproduce.published import GPU, IPU

FITTED, HELD_OUT, CHECK = "fitted", "held out", "check"
GC200, BOW = "graphcore-gc200", "graphcore-bow"
SUPERSTEP_ROWS = (1, 2)
CALL_ROW = 3
PROFILED_BATCH, PROFILED_KIB = 12, 133.0
"""Mean memory of a tile of a GC2 in fp32: graphcore/examples, mixed_precision tutorial, its profile."""


@dataclass(frozen=True)
class Fit:
    """A fitted parameter.

    Attributes:
        folder: of the file that holds it: ``calibration`` or ``frameworks``.
        file: name of the file.
        key: name of the figure.
        value: as fitted now.
        shipped: as the file has it.
        on: what it was fitted on.
    """

    folder: str
    file: str
    key: str
    value: float
    shipped: float
    on: str


@dataclass(frozen=True)
class Residual:
    """A published figure beside the model's.

    Attributes:
        what: network, batch and device.
        role: :data:`FITTED`, :data:`HELD_OUT` or :data:`CHECK`.
        published: in ``unit``; None where none was published.
        modelled: the same; None where the model has none.
        unit: such as ms per step.
        note: what keeps the two apart.
    """

    what: str
    role: str
    published: float | None
    modelled: float | None
    unit: str
    note: str = ""

    @property
    def error(self) -> float | None:
        """Modelled over published, minus 1."""
        return None if self.published is None or self.modelled is None else self.modelled / self.published - 1


@dataclass(frozen=True)
class Calibrated:
    """The models with their parameters as fitted now."""

    ipu: Model
    gpu: Model
    loops: Mapping[str, Model]  # chip -> model under PopTorch's loop
    fits: list[Fit]


def fit() -> Calibrated:
    """Fit every parameter anew."""
    ipu, gpu = models.model(IPU), models.model(GPU)
    shipped = ipu.calibration
    loops = {chip: models.model(chip, models.LOOP) for chip in (GC200, BOW)}
    cycles = {"superstep_cycles": _superstep_cycles(loops)}
    ipu = ipu.changed(calibration=cycles)
    call = {"call_s": _call_s(loops[GC200].changed(calibration=cycles))}
    rate = {"input_bytes_per_s": _input_rate(ipu)}
    driven = _gpu_framework(gpu)
    code = {"code_product_bytes": _code_bytes(ipu)}
    fits = [
        *_fits("calibration", shipped, cycles, "ResNet-50 on GC200 and Bow (MLPerf)"),
        *_fits("frameworks", loops[GC200].framework, call, "the tutorial's network on a GC200"),
        *_fits("frameworks", ipu.framework, rate, "the DNN's times on the GC2"),
        *_fits("frameworks", gpu.framework, driven, "the DNN's times on the V100"),
        *_fits("calibration", shipped, code, "the DNN fits a GC2 at batch 14 and not at 16"),
    ]
    return Calibrated(
        ipu.changed(rate, code),
        gpu.changed(driven),
        {chip: loop.changed(call, {**cycles, **code}) for chip, loop in loops.items()},
        fits,
    )


def residuals(of: Calibrated) -> Iterator[Residual]:
    """Yield every published figure beside the model's."""
    yield from _step_residuals(of)
    for device, name in ((IPU, "GC2"), (GPU, "V100")):
        for network, role in (("dnn", FITTED), ("bnn", HELD_OUT)):
            for time in published.training(network, device):
                modelled = models.paper_step_s(of.ipu if device == IPU else of.gpu, network, time.batch)
                what = f"{network.upper()}, batch {time.batch}, {name}"
                yield Residual(what, role, time.step_s * 1e3, modelled * 1e3, "ms per step")
    yield _profile_residual(of)
    for network, role in (("dnn", FITTED), ("bnn", HELD_OUT)):
        largest, note = published.FITS[network][0], "by steps of two; that the next did not fit was not logged"
        modelled = float(models.largest_batch(of.ipu, network))
        yield Residual(f"{network.upper()}, largest batch, GC2", role, float(largest), modelled, "images", note)


def write(of: Calibrated, folder: Path) -> list[Path]:
    """Write the files of all fitted parameters with their values as fitted now; return their paths."""
    written = []
    for place, file in dict.fromkeys((f.folder, f.file) for f in of.fits):
        text = spec.find(place, file).read_text(encoding="utf-8")
        for found in of.fits:
            if (found.folder, found.file) == (place, file):
                text = re.sub(rf"(?m)^({found.key} = \{{ value = )[^,]+", rf"\g<1>{found.value:.4g}", text)
        path = folder / f"{file}.toml"
        path.write_text(text, encoding="utf-8")
        written.append(path)
    return written


def _fits(folder: str, of: spec.Spec, values: Mapping[str, float], on: str) -> Iterator[Fit]:
    for key, value in values.items():
        yield Fit(folder, of.name, key, value, of[key], on)


def _superstep_cycles(loops: Mapping[str, Model]) -> float:
    rows = [row for row in published.ipu_steps() if row.id in SUPERSTEP_ROWS]

    def misses(log_cycles: np.ndarray) -> list[float]:
        cycles = {"superstep_cycles": float(np.exp(log_cycles[0]))}
        return [float(np.log(_loop_s(loops[r.chip].changed(calibration=cycles), r) / (r.step_s or 1))) for r in rows]

    return float(np.exp(least_squares(misses, [np.log(2000.0)]).x[0]))


def _loop_s(loop: Model, row: published.StepTime) -> float:
    """Return the time of a published step; calls of ResNet-50 are too long for their own time to count."""
    graph = models.published_step(row.id)
    assert graph is not None
    parts = loop.parts(graph, precision=row.precision)
    return float(total(parts) - (parts["framework"] if row.id in SUPERSTEP_ROWS else 0.0))


def _call_s(loop: Model) -> float:
    row = next(r for r in published.ipu_steps() if r.id == CALL_ROW)
    left = (row.step_s or 0.0) - _loop_s(loop.changed({"call_s": 0.0}), row)
    return float(max(0.0, left) * loop.framework["steps_per_call"])


def _input_rate(ipu: Model) -> float:
    """Return the bytes per second with which the squares of all times per step are least."""
    times = published.training("dnn", IPU)
    graphs = [models.galaxy("dnn", t.batch, has_dense_head=True) for t in times]
    left = np.array([t.step_s - ipu.step_s(g) for t, g in zip(times, graphs, strict=True)])
    size = np.array([g.input_bytes for g in graphs], dtype=float)
    return float(size @ size / (size @ left))


def _gpu_framework(gpu: Model) -> dict[str, float]:
    times = published.training("dnn", GPU)
    keys = ("step_s", "op_s", "input_bytes_per_s")
    start = np.array([3e-3, 8e-6, 7e8])

    def misses(factors: np.ndarray) -> list[float]:
        changed = gpu.changed(dict(zip(keys, factors * start, strict=True)))
        return [1e3 * (models.paper_step_s(changed, "dnn", t.batch) - t.step_s) for t in times]

    found = least_squares(misses, np.ones(3), bounds=(0.1, 10.0), diff_step=np.full(3, 1e-3)).x * start
    return dict(zip(keys, map(float, found), strict=True))


def _code_bytes(ipu: Model) -> float:
    """Return the bytes with which the need half-way between what fitted and what did not is what there is."""
    graphs = [models.galaxy("dnn", batch, has_dense_head=True) for batch in published.FITS["dnn"]]

    def spare(size: float) -> float:
        changed = ipu.changed(calibration={"code_product_bytes": size})
        needs = [changed.need(g) for g in graphs]
        return float(np.mean([n.capacity_bytes - n.bytes for n in needs]))

    return float(brentq(spare, 0.0, 1e5))


def _profile_residual(of: Calibrated) -> Residual:
    graph = trace(networks.classifier_step(networks.TutorialNetwork(), PROFILED_BATCH, (1, 128, 128), 0.9))
    mean = of.ipu.need(graph).bytes / of.ipu.calibration["imbalance"] / of.ipu.chip["tiles"]
    note = "graphcore/examples, mixed_precision tutorial, profile in fp32"
    return Residual(
        "Tutorial's network, batch 12, memory of a tile, GC2", CHECK, PROFILED_KIB, mean / 1024, "KiB", note
    )


def _step_residuals(of: Calibrated) -> Iterator[Residual]:
    for row in published.ipu_steps():
        what = f"{row.model}, batch {row.batch or 'n/a'}, {row.chip.removeprefix('graphcore-').upper()}"
        role = FITTED if row.role == "calibrate" else CHECK
        published_ms = None if row.step_s is None else row.step_s * 1e3
        if models.published_step(row.id) is None:
            note = "neither batch nor time of a step was published"
            yield Residual(what, role, published_ms, None, "ms per step", note)
            continue
        loop = of.loops[row.chip]
        note = ""
        modelled = _loop_s(loop, row)
        if row.id == 4:
            graph = models.published_step(row.id)
            assert graph is not None
            modelled += graph.input_bytes / loop.chip["host_bytes_per_s"]
            note = "the host's rate of the GC200 is itself from rows 3 and 4"
        elif row.id == 5:
            modelled = _loop_s(loop.changed({"call_s": 0.0}), row)
            note = "on the chip alone: a call does 937 steps, and inputs come while it computes"
        yield Residual(what, role, published_ms, modelled * 1e3, "ms per step", note)
