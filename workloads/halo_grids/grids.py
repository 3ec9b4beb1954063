"""Sub-boxes of 25 Mpc/h cut from a box: grids of the mean peak velocity, labelled with stellar mass functions.

As in the public code of Nadler & To, a cell is a cube of 1 Mpc/h, and the stellar mass function is by default counted
over occupied cells, each with the mean log10 of its galaxies' stellar masses: a group in one cell counts once, with a
mean mass. Cells there reach from the least to the largest coordinate found, here from 0 to the side of the box.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Tuple

import numpy as np

from siderostat.workloads.halo_grids import smf

SIDE = smf.SIDE_MPC_H
"""Cells, and Mpc/h, along a side of a sub-box."""
CELLS = SIDE**3

OVER_CELLS, OVER_GALAXIES = "cells", "galaxies"
COUNTED = (OVER_CELLS, OVER_GALAXIES)
"""What the labels count: occupied cells with their mean log10 stellar mass, or galaxies."""


@dataclass(frozen=True)
class Gridded:
    """Sub-boxes and what they are labelled with.

    Attributes:
        grids: mean peak velocity in km/s, 0 where there is no halo, float32, (boxes, 25, 25, 25).
        labels: cells or galaxies per bin of stellar mass and (Mpc/h)^3, float32, (boxes, 14); see :data:`smf.PHYSICAL`.
        halos: in each sub-box, (boxes,).
    """

    grids: np.ndarray
    labels: np.ndarray
    halos: np.ndarray


def cell_numbers(position: np.ndarray, per_side: int) -> np.ndarray:
    """Return the cell of each position, int64: sub-box times 15625 plus the cell in it, last axis fastest.

    Args:
        position: Mpc/h, (halos, 3), from 0 up to, and without, 25 times ``per_side``.
        per_side: sub-boxes along a side of the box.
    """
    cell = position.astype(np.int64)
    box, within = cell // SIDE, cell % SIDE
    return np.asarray(_flat(box, per_side) * CELLS + _flat(within, SIDE))


def fast(
    cells: np.ndarray, velocity: np.ndarray, log_stellar_mass: np.ndarray, boxes: int, counted: str = OVER_CELLS
) -> Gridded:
    """Grid and label all sub-boxes at once, by sorting halos by cell.

    Args:
        cells: of each halo, as :func:`cell_numbers` has it.
        velocity: peak velocity, km/s.
        log_stellar_mass: log10 of Msun.
        boxes: how many sub-boxes there are.
        counted: one of :data:`COUNTED`.
    """
    occupied, mean_velocity = cell_means(cells, velocity)
    grids = np.zeros(boxes * CELLS, np.float32)
    grids[occupied] = mean_velocity
    return Gridded(
        grids.reshape(boxes, SIDE, SIDE, SIDE),
        labels(cells, log_stellar_mass, boxes, counted),
        np.bincount(cells // CELLS, minlength=boxes),
    )


def labels(cells: np.ndarray, log_stellar_mass: np.ndarray, boxes: int, counted: str = OVER_CELLS) -> np.ndarray:
    """Return the stellar mass function of each sub-box, of true or of predicted masses alike; see :func:`fast`."""
    if counted == OVER_CELLS:
        cells, log_stellar_mass = cell_means(cells, log_stellar_mass)
    return (smf.counts(log_stellar_mass, cells // CELLS, boxes) / SIDE**3).astype(np.float32)


def cell_means(cells: np.ndarray, values: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Return the cells that hold any halo, in rising order, and the mean of the values in each, float64."""
    order = np.argsort(cells, kind="stable")
    ordered = cells[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]])) if len(ordered) else order
    if not len(starts):
        return ordered, np.zeros(0)
    sums = np.add.reduceat(values[order].astype(np.float64), starts)
    return ordered[starts], sums / np.diff(np.append(starts, len(ordered)))


def naive(
    position: np.ndarray,
    velocity: np.ndarray,
    log_stellar_mass: np.ndarray,
    per_side: int,
    counted: str = OVER_CELLS,
) -> Gridded:
    """Grid and label sub-box after sub-box with NumPy's histograms, as one would write it down first: the reference."""
    grids: List[np.ndarray] = []
    functions: List[np.ndarray] = []
    halos: List[int] = []
    edges = [np.arange(SIDE + 1)] * 3
    for corner in np.ndindex(per_side, per_side, per_side):
        within = position - SIDE * np.array(corner)
        inside = ((within >= 0) & (within < SIDE)).all(axis=1)
        place, masses = within[inside], log_stellar_mass[inside]
        number, _ = np.histogramdd(place, edges)
        velocities, _ = np.histogramdd(place, edges, weights=velocity[inside])
        occupied = number > 0
        grids.append(np.divide(velocities, number, out=np.zeros_like(number), where=occupied))
        if counted == OVER_CELLS:
            sums, _ = np.histogramdd(place, edges, weights=masses)
            masses = sums[occupied] / number[occupied]
        pairs = zip(smf.EDGES[:-1], smf.EDGES[1:])
        functions.append(np.array([((masses >= low) & (masses < high)).sum() for low, high in pairs]) / SIDE**3)
        halos.append(int(inside.sum()))
    return Gridded(np.array(grids, np.float32), np.array(functions, np.float32), np.array(halos))


def _flat(cell: np.ndarray, per_side: int) -> np.ndarray:
    return np.asarray((cell[:, 0] * per_side + cell[:, 1]) * per_side + cell[:, 2])
