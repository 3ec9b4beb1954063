"""What was published, as read from the files that come along with the reports."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache

from siderostat.reports.published.arcelin2021 import DATA, EPOCHS, IMAGES_PER_EPOCH

GPU, IPU = "nvidia-v100-pcie", "graphcore-gc2"
FITS = {"dnn": (14, 16), "bnn": (8, 10)}
"""Largest batch that was timed on the IPU, and the next that would have been; that it did not fit was never logged."""


@dataclass(frozen=True)
class Time:
    """A time per training step, in seconds."""

    network: str
    batch: int
    step_s: float

    @property
    def run_s(self) -> float:
        """Time for 100 epochs, as published."""
        return run_s(self.step_s, self.batch)


@dataclass(frozen=True)
class StepTime:
    """A row of ``ipu_published.csv``; ``step_s`` is None where no time of a step was published."""

    id: int
    model: str
    batch: int | None
    chip: str
    precision: str
    step_s: float | None
    role: str
    source: str


@dataclass(frozen=True)
class Sampling:
    """A row of figure 4."""

    images: int
    gpu_s: float
    ipu_s: float


def steps(batch: int) -> int:
    """Return the steps of 100 epochs; what does not fill a batch at the end of an epoch is left out."""
    return EPOCHS * (IMAGES_PER_EPOCH // batch)


def run_s(step_s: float, batch: int) -> float:
    """Return the time for 100 epochs from that of a step."""
    return step_s * steps(batch)


def training(network: str, device: str) -> list[Time]:
    """Return the published times of a network on :data:`GPU` or :data:`IPU`, smallest batch first."""
    column = {GPU: "gpu_v100_s", IPU: "ipu_gc2_s"}[device]
    rows = [row for row in _rows("arcelin2021_training.csv") if row["network"] == network]
    times = [(int(row["batch_size"]), float(row[column])) for row in rows]
    return [Time(network, batch, seconds / steps(batch)) for batch, seconds in sorted(times)]


def sampling() -> list[Sampling]:
    """Return figure 4."""
    rows = _rows("arcelin2021_sampling.csv")
    return [Sampling(int(r["n_images"]), float(r["gpu_v100_s"]), float(r["ipu_gc2_s"])) for r in rows]


def kernels(network: str) -> int:
    """Return the kernels of one training step in TensorFlow."""
    return next(int(r["train_kernels"]) for r in _rows("arcelin2021_kernels.csv") if r["network"] == network)


def ipu_steps() -> list[StepTime]:
    """Return the published times of other networks on IPUs."""
    return [
        StepTime(
            int(row["id"]),
            row["model"],
            int(row["micro_batch"]) if row["micro_batch"] else None,
            f"graphcore-{row['chip'].lower()}",
            "fp16" if "fp16" in row["precision"] else "fp32",
            float(row["ms_per_step"]) * 1e-3 if row["ms_per_step"] else None,
            row["role"],
            row["source"],
        )
        for row in _rows("ipu_published.csv")
    ]


@cache
def _rows(name: str) -> tuple[dict[str, str], ...]:
    with (DATA / name).open(encoding="utf-8", newline="") as file:
        return tuple(csv.DictReader(line for line in file if not line.startswith("#")))
