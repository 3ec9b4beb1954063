"""What was published, as read from the files that come along with the reports."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache

from siderostat.reports.published.arcelin2021 import DATA

ENCODERS = {
    "efficientnet": ("EfficientNet", "efficientnet-b0"),
    "enn_d2": ("D2-equivariant", "equivariant"),
    "equivariant": ("D2-equivariant", "equivariant"),
    "resnet18": ("ResNet18", "resnet18"),
}
"""Name in the files -> what it is called in text, and the encoder here that is meant to be like it."""


@dataclass(frozen=True)
class Adapted:
    """A row of Alexander et al.: AUCs by name, and the accuracy after ADDA, all as shares."""

    source: str
    target: str
    encoder: str
    figures: dict[str, float]


@dataclass(frozen=True)
class DeepLense:
    """A row of the DeepLense table; accuracy and AUROC as shares."""

    encoder: str
    algorithm: str
    evaluated_on: str
    accuracy: float
    auc: float


def adapted() -> list[Adapted]:
    """Return the rows of Alexander et al."""
    return [
        Adapted(
            row["source"],
            row["target"],
            row["encoder"],
            {
                "source_auc": float(row["auc_source_supervised"]),
                "before_auc": float(row["auc_target_naive"]),
                "adda_auc": float(row["auc_target_adda"]),
                "adda_accuracy": float(row["accuracy_target_adda_percent"]) / 100,
            },
        )
        for row in _rows("alexander2022_adda.csv")
    ]


def deeplense() -> list[DeepLense]:
    """Return the table of the DeepLense project."""
    return [
        DeepLense(
            row["encoder"],
            row["algorithm"].replace("_", "-"),
            row["evaluated_on"],
            float(row["accuracy_percent"]) / 100,
            float(row["auroc"]),
        )
        for row in _rows("tidball2021_uda.csv")
    ]


@cache
def _rows(name: str) -> tuple[dict[str, str], ...]:
    with (DATA / name).open(encoding="utf-8", newline="") as file:
        return tuple(csv.DictReader(line for line in file if not line.startswith("#")))
