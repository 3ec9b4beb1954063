"""What predicts the stellar mass functions of the validation boxes: the mean, forests and networks, seed by seed.

A seed is that of the halo catalogue, of its split, and of whatever is fitted or trained on it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np

from siderostat.reproduce.nadler_to.scales import DEPTHS, Scale
from siderostat.reproduce.parts import Part
from siderostat.reproduce.threads import one_thread
from siderostat.workloads.halo_grids import catalogue, data, galaxies, smf
from siderostat.workloads.halo_grids.data import SubBoxes
from siderostat.workloads.halo_grids.grids import OVER_CELLS
from siderostat.workloads.halo_smf import counts, quality, training
from siderostat.workloads.halo_smf.forest import forest_chi2

BOXES, FOREST, RESNET = "boxes", "forest", "resnet"
SPREAD = (16, 84)
"""Percentiles over sub-boxes that are kept."""

_DRAWN = 1  # tells the redrawn stellar masses from other numbers of the same seed
_FLOP_S = 1e10  # of a training, where it was timed
_TREE_S = 2.8e-7  # for each halo and level, and about two and a half levels more
_Make = Callable[[dict[str, Any]], dict[str, Any]]


def plan(scale: Scale, seed: int) -> list[Part]:
    """Return the parts of one seed."""
    networks = [_network_part(scale, channels, seed) for channels in scale.channels]
    return [_boxes_part(scale, seed), *networks, *(_forest_part(scale, depth, seed) for depth in DEPTHS)]


def _boxes_part(scale: Scale, seed: int) -> Part:
    settings = {**_about(scale, BOXES, seed), "draws": scale.draws}
    cpu_s = scale.boxes * (1e-3 + 2.5e-5 * scale.draws)
    return _part(f"boxes-{seed}", f"halos, labels and their mean, seed {seed}", settings, described, cpu_s)


def _network_part(scale: Scale, channels: int, seed: int) -> Part:
    rates = [[rate, epochs] for rate, epochs in scale.plan]
    settings = {**_about(scale, RESNET, seed), "channels": channels, "plan": rates, "batch": scale.batch}
    passes = 3 * data.TRAINED_ON * sum(epochs for _, epochs in scale.plan)
    cpu_s = passes * scale.boxes * counts.forward_flops(channels) / _FLOP_S
    title = f"ResNet N = {channels}, seed {seed}"
    return _part(f"resnet-{channels}-{seed}", title, settings, trained, cpu_s)


def _forest_part(scale: Scale, depth: int, seed: int) -> Part:
    settings = {**_about(scale, FOREST, seed), "depth": depth, "trees": scale.trees, "halos": scale.halos}
    title = f"forest of depth {depth}, seed {seed}"
    return _part(f"forest-{depth}-{seed}", title, settings, grown, _TREE_S * scale.trees * scale.halos * (depth + 2.5))


def _about(scale: Scale, model: str, seed: int) -> dict[str, Any]:
    side, mesh = data.SIZES[scale.box]
    made = catalogue.fingerprint(seed, side, mesh, data.VPEAK_MIN)
    return {"model": model, "catalogue": made, "box": scale.box, "counted": OVER_CELLS, "seed": seed}


def _part(name: str, title: str, settings: dict[str, Any], make: _Make, cpu_s: float) -> Part:
    return Part(name, title, settings, functools.partial(_alone, make, settings), cpu_s)


def _alone(make: _Make, settings: dict[str, Any]) -> dict[str, Any]:
    with one_thread():
        return make(settings)


def described(settings: dict[str, Any]) -> dict[str, Any]:
    """Return how many halos and boxes there are, true functions, and three predictions that nothing is fitted for.

    Returns:
        ``halos``, ``trained_on``, ``judged_on`` and, of the validation boxes, ``truth`` as :func:`spread` has it;
        judged as :func:`judged` has it ``mean``, the mean of the training labels for each box; ``relation``,
        the labels that follow where every halo has the median stellar mass at its peak velocity; and ``floor``, the
        labels that are to be expected where the peak velocity of every halo is known.
    """
    boxes = _boxes(settings["seed"], settings["box"])
    shape = boxes.labels[boxes.validation].shape
    mean = np.broadcast_to(boxes.labels[boxes.train].mean(0, dtype=np.float64), shape)
    return {
        "halos": len(boxes.cells),
        "trained_on": len(boxes.train),
        "judged_on": len(boxes.validation),
        "truth": spread(boxes.labels[boxes.validation]),
        "mean": judged(mean, boxes),
        "relation": judged(boxes.labels_of(median_masses(boxes))[boxes.validation], boxes),
        "floor": judged(expected_labels(boxes, settings["draws"], settings["seed"])[boxes.validation], boxes),
    }


def trained(settings: dict[str, Any]) -> dict[str, Any]:
    """Train a network.

    Returns:
        What :func:`judged` has, and ``epochs``: learning rate, loss and chi^2 after each.
    """
    boxes = _boxes(settings["seed"], settings["box"])
    rates = [(rate, epochs) for rate, epochs in settings["plan"]]
    done = training.train(boxes, settings["channels"], rates, settings["seed"], batch=settings["batch"])
    predicted = training.predict(done.network, boxes.grids[boxes.validation])
    return {**judged(predicted, boxes), "epochs": [asdict(epoch) for epoch in done.epochs]}


def grown(settings: dict[str, Any]) -> dict[str, Any]:
    """Grow a forest and keep what it predicts.

    Returns:
        What :func:`judged` has; ``importances`` of features; ``scatter_dex``, of predicted minus true log10 stellar
        mass over halos of the validation boxes; ``halos`` that it was fitted to.
    """
    boxes = _boxes(settings["seed"], settings["box"])
    found = forest_chi2(boxes, settings["depth"], settings["trees"], settings["halos"], settings["seed"])
    return {
        **judged(found.labels, boxes),
        "importances": found.importances,
        "scatter_dex": found.scatter_dex,
        "halos": found.halos,
    }


def judged(predicted: np.ndarray, boxes: SubBoxes) -> dict[str, Any]:
    """Return how good predicted labels of the validation boxes are, and what they look like.

    Args:
        predicted: (validation boxes, 14).
        boxes: that they are of.

    Returns:
        ``chi2``; ``error``, its standard error from the differences between boxes, as if they were independent;
        ``by_bin``, what each bin adds to it; and what :func:`spread` has.
    """
    labels = boxes.labels[boxes.validation]
    squares = np.square((np.asarray(predicted, np.float64) - labels) / boxes.sigma)
    return {
        "chi2": quality.chi2(predicted, labels, boxes.sigma),
        "error": float(squares.sum(1).std(ddof=1) / np.sqrt(len(labels))),
        "by_bin": squares.mean(0).tolist(),
        **spread(predicted),
    }


def spread(labels: np.ndarray) -> dict[str, Any]:
    """Return ``phi``, the mean over sub-boxes, and ``low`` and ``high``, its percentiles, in Mpc^-3 dex^-1 by bin."""
    phi = np.asarray(labels, np.float64) * smf.PHYSICAL
    low, high = np.percentile(phi, SPREAD, axis=0)
    return {"phi": phi.mean(0).tolist(), "low": low.tolist(), "high": high.tolist()}


def median_masses(boxes: SubBoxes) -> np.ndarray:
    """Return log10 of the median stellar mass at the peak velocity of each halo of a made catalogue, (halos,)."""
    return galaxies.log_stellar_mass(boxes.features[:, boxes.feature_names.index("Vpeak")].astype(np.float64))


def expected_labels(boxes: SubBoxes, draws: int, seed: int) -> np.ndarray:
    """Return the mean of labels over draws of all stellar masses at the peak velocities that the halos have.

    It predicts with the least chi^2 that knowing these velocities allows; with finitely many draws chi^2 is larger by a
    share of 1 / draws.

    Args:
        boxes: of a made catalogue.
        draws: of stellar masses.
        seed: of the draws.
    """
    rng = np.random.default_rng((seed, _DRAWN))
    median = median_masses(boxes)
    total = np.zeros(boxes.labels.shape)
    for _ in range(draws):
        total += boxes.labels_of(median + galaxies.STELLAR_SCATTER * rng.standard_normal(len(median)))
    return total / draws


@functools.lru_cache(maxsize=1)  # the parts of a seed follow one another
def _boxes(seed: int, box: str) -> SubBoxes:
    return data.sub_boxes(seed, size=box)
