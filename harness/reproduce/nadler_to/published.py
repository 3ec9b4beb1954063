"""What was published, as read from the files that come along with the reports and with the workload."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache

from siderostat.reports.published.arcelin2021 import DATA
from siderostat.workloads.halo_grids import smf

RANDOM_FOREST = "random_forest"
HALOS = 2e6
"""In the paper's catalogue, about."""


@dataclass(frozen=True)
class Density:
    """A bin of the measured stellar mass function of Moustakas et al. (2013), in Mpc^-3 dex^-1."""

    low: float
    phi: float
    error_up: float
    error_down: float


@cache
def forest() -> float:
    """Return chi^2 of the random forest."""
    return next(float(row["chi2"]) for row in _rows() if row["model"] == RANDOM_FOREST)


@cache
def networks() -> dict[int, float]:
    """Return chi^2 of the networks by channels."""
    return {int(row["channels"]): float(row["chi2"]) for row in _rows() if row["model"] != RANDOM_FOREST}


@cache
def densities() -> tuple[Density, ...]:
    """Return the measured function in the bins of the labels."""
    table = smf.measured()
    rows = zip(table.low, table.phi, table.error_up, table.error_down, strict=True)
    wanted = set(smf.EDGES[:-1].tolist())
    return tuple(
        Density(round(float(low), 1), *map(float, others)) for low, *others in rows if round(float(low), 1) in wanted
    )


def _rows() -> list[dict[str, str]]:
    with (DATA / "nadler2018_smf.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))
