"""Figures 2 to 4 of Arcelin (2021): times of a V100 and a GC2 for training and for sampling, over batch sizes."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from siderostat.reports.published.curve import Curve

EPOCHS = 100
IMAGES_PER_EPOCH = 8000
TRAINING_TASK = f"{EPOCHS} epochs of {IMAGES_PER_EPOCH} images"
SAMPLING_TASK = "sampling one batch of images"
SAMPLER_PARAMETERS = 4045446  # flow 725,504 and decoder 3,319,942
_PAPER = (
    'B. Arcelin (2021), "Comparison of Graphcore IPUs and Nvidia GPUs for cosmology applications", figures {figures}; '
    "TensorFlow 2.1, images of shape (6, 64, 64). The values behind the plots, from the plotting notebook of the "
    "author's public repository (BastienArcelin/IPU-GPU). GPU: Nvidia V100 PCIe 32 GB; IPU: one Graphcore GC2 (MK1)."
)
_OF_VARIANT = {
    "dnn": "Published times are not for the loss measured here: the timed IPU network (DNN) ended in Dense(3) with "
    "mean squared error, the GPU one in the multivariate normal head with mean squared error.",
    "bnn": "The published GPU network (BNN) may have used Flipout, which does each layer twice; here one kernel is "
    "drawn per batch.",
    "incremental": "The published code runs the whole flow network for each of the 32 latent dimensions; the variant "
    "measured here, incremental, computes the same latents with a small part of that work. Compare hardware by naive.",
    "naive": "The published code samples as this variant does, each batch once, without repetition.",
}
_OF_ALL = ("They were taken with TensorFlow 2.1.", "Compile time is not in them.")
DEVICES = {"gpu_v100_s": "Nvidia V100 (published)", "ipu_gc2_s": "Graphcore GC2 (published)"}
DATA = Path(__file__).parent


@cache
def _lines(name: str) -> tuple[dict[str, str], ...]:
    """Return a data file's rows; the lines that begin with # name the source."""
    with (DATA / name).open(encoding="utf-8", newline="") as file:
        return tuple(csv.DictReader(line for line in file if not line.startswith("#")))


def caveats(variant: str) -> list[str]:
    """Return what keeps the published times of a variant from being compared freely."""
    return [_OF_VARIANT[variant], *_OF_ALL]


def curves(workload: str, variant: str, mode: str) -> list[Curve]:
    """Return the published curves of a workload's variant and mode; none where nothing was published."""
    if (workload, mode) == ("galaxy-shape", "train"):
        return _training(variant)
    if (workload, mode) == ("galaxy-sampler", "sample") and variant in _OF_VARIANT:
        lines = _lines("arcelin2021_sampling.csv")
        return _curves(lines, "n_images", SAMPLING_TASK, None, SAMPLER_PARAMETERS, _PAPER.format(figures="4"))
    return []


def _training(network: str) -> list[Curve]:
    lines = [x for x in _lines("arcelin2021_training.csv") if x["network"] == network]
    if not lines:
        return []
    parameters = int(lines[0]["trainable_parameters"])
    source = _PAPER.format(figures="2 and 3")
    return _curves(lines, "batch_size", TRAINING_TASK, EPOCHS * IMAGES_PER_EPOCH, parameters, source)


def _curves(
    lines: Sequence[dict[str, str]], batch: str, task: str, items: int | None, parameters: int, source: str
) -> list[Curve]:
    """Return one curve for each device."""
    lines = sorted(lines, key=lambda x: int(x[batch]))
    batches = tuple(int(x[batch]) for x in lines)
    return [
        Curve(label, batches, tuple(float(x[column]) for x in lines), task, items, parameters, source)
        for column, label in DEVICES.items()
    ]
