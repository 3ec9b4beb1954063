"""Training times of Arcelin (2021), figures 2 and 3: a V100 and a GC2 over batch sizes."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

from siderostat.reports.published.curve import Curve

EPOCHS = 100
IMAGES_PER_EPOCH = 8000
TASK = f"{EPOCHS} epochs of {IMAGES_PER_EPOCH} images"
SOURCE = (
    'B. Arcelin (2021), "Comparison of Graphcore IPUs and Nvidia GPUs for cosmology applications", figures 2 and 3; '
    "TensorFlow 2.1, images of shape (6, 64, 64). The values behind the plots, from the plotting notebook of the "
    "author's public repository (BastienArcelin/IPU-GPU). GPU: Nvidia V100 PCIe 32 GB; IPU: one Graphcore GC2 (MK1)."
)
_OF_VARIANT = {
    "dnn": "Published times are not for the loss measured here: the timed IPU network (DNN) ended in Dense(3) with "
    "mean squared error, the GPU one in the multivariate normal head with mean squared error.",
    "bnn": "The published GPU network (BNN) may have used Flipout, which does each layer twice; here one kernel is "
    "drawn per batch.",
}
_OF_ALL = ("They were taken with TensorFlow 2.1.", "Compile time is not in them.")
DEVICES = {"gpu_v100_s": "Nvidia V100 (published)", "ipu_gc2_s": "Graphcore GC2 (published)"}
DATA = Path(__file__).with_name("arcelin2021_training.csv")


@cache
def _lines() -> tuple[dict[str, str], ...]:
    """Return the data file's rows; the lines that begin with # name the source."""
    with DATA.open(encoding="utf-8", newline="") as file:
        return tuple(csv.DictReader(line for line in file if not line.startswith("#")))


def caveats(variant: str) -> list[str]:
    """Return what keeps the published times of a variant from being compared freely."""
    return [_OF_VARIANT[variant], *_OF_ALL]


def curves(workload: str, variant: str, mode: str) -> list[Curve]:
    """Return the published curves of a workload's variant and mode: none but for galaxy-shape training, dnn and bnn."""
    if workload.replace("-", "_") != "galaxy_shape" or mode not in ("train", "training"):
        return []
    lines = sorted((x for x in _lines() if x["network"] == variant), key=lambda x: int(x["batch_size"]))
    if not lines:
        return []
    batches = tuple(int(x["batch_size"]) for x in lines)
    parameters = int(lines[0]["trainable_parameters"])
    return [
        Curve(label, batches, tuple(float(x[column]) for x in lines), TASK, parameters, SOURCE)
        for column, label in DEVICES.items()
    ]
