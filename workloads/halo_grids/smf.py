"""Stellar mass functions: the measured one, the bins, and the unit that the published network learns them in."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from siderostat.workloads.halo_grids import cosmology

FILE = Path(__file__).with_name("moustakas2013_smf.csv")

BINS = 14
EDGES = np.round(np.arange(10.2, 11.65, 0.1), 1)
"""log10 of the stellar mass in Msun: 14 bins of 0.1 dex from 10.2 to 11.6, each without its upper edge."""

BIN_DEX = 0.1
SIDE_MPC_H = 25
"""Of a sub-box."""

PHYSICAL = cosmology.HUBBLE**3 / BIN_DEX
"""A label times this, 3.117, is a density in Mpc^-3 dex^-1, the unit of sigma.

The public code divides the count in a bin by 25^3 and compares that with Moustakas's errors as they stand, so its
labels are in (h/Mpc)^3 per bin and its sigma in Mpc^-3 dex^-1. Labels here are the published ones, so that chi^2 is
on the published scale; in one unit throughout it would be 9.71 times as large, for every model alike.
"""


@dataclass(frozen=True)
class StellarMassFunction:
    """Density of galaxies in bins of log10 of the stellar mass (Msun); all arrays have one element per bin.

    Attributes:
        low, high: edges of the bin.
        phi: Mpc^-3 dex^-1.
        error_up, error_down: of phi, one standard deviation, in the same unit.
    """

    low: np.ndarray
    high: np.ndarray
    phi: np.ndarray
    error_up: np.ndarray
    error_down: np.ndarray


def measured() -> StellarMassFunction:
    """Return the stellar mass function of Moustakas et al. (2013) at redshift 0.01 to 0.20, from 9 to 12.4."""
    with FILE.open(encoding="utf-8", newline="") as file:
        rows = csv.reader(line for line in file if not line.startswith("#"))
        next(rows)
        return StellarMassFunction(*np.array([[float(value) for value in row] for row in rows]).T)


def sigma() -> np.ndarray:
    """Return the larger of the two errors of the measured function in each of :data:`EDGES`'s bins, Mpc^-3 dex^-1."""
    table = measured()
    first = int(np.searchsorted(table.low, EDGES[0] - 0.01))
    return np.asarray(np.maximum(table.error_up, table.error_down)[first : first + BINS])


def counts(log_mass: np.ndarray, boxes: np.ndarray, number: int) -> np.ndarray:
    """Count values in the bins, box by box.

    Args:
        log_mass: log10 of stellar masses in Msun; those in no bin, -inf and NaN among them, are left out.
        boxes: which box each belongs to.
        number: of boxes.

    Returns:
        Counts, (number, 14).
    """
    bins = np.searchsorted(EDGES, log_mass, side="right") - 1
    within = (bins >= 0) & (bins < BINS)
    flat = np.bincount(boxes[within] * BINS + bins[within], minlength=number * BINS)
    return flat.reshape(number, BINS)
