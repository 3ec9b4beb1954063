"""Grids by path in the format of the public code of Nadler & To: two ``.npy`` files per sub-box.

``NAME_25.npy`` has a row per cell, (15625, 4): three cell indices, and the mean peak velocity in km/s.
``NAME_25_labels.npy`` has a row per bin, (14, 2): the stellar mass function and its sigma. A folder holds
such files, or the folders ``train_umML`` and ``val_umML`` that do; ``test_umML`` is left alone.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np

from siderostat.workloads.base import BadInput
from siderostat.workloads.halo_grids import smf
from siderostat.workloads.halo_grids.grids import CELLS, SIDE

ENDING, LABELS_ENDING = "_25.npy", "_25_labels.npy"
TRAIN, VALIDATION = "train_umML", "val_umML"

# What NumPy raises on damaged headers, which it parses as Python.
_DAMAGE = (OSError, ValueError, EOFError, SyntaxError, TypeError, KeyError)


@dataclass(frozen=True)
class UmmlGrids:
    """Attributes as of :class:`data.SubBoxes`; ``validation`` counts the last grids, 0 where there is no split."""

    grids: np.ndarray
    labels: np.ndarray
    sigma: np.ndarray
    validation: int
    provenance: Dict[str, Any]


def read(folder: Path) -> UmmlGrids:
    """Read all grids of a folder, in the order of their names, those for validation last.

    Raises:
        BadInput: if there are none, one cannot be used, labels are missing, or sigma is not the same for all.
    """
    split = [folder / name for name in (TRAIN, VALIDATION)]
    parts = split if all(part.is_dir() for part in split) else [folder]
    files = [sorted(part.glob("*" + ENDING)) for part in parts]
    every = [file for part in files for file in part]
    if not every:
        raise BadInput(f"there is no grid, a file whose name ends in {ENDING}, in {folder}")
    digest = hashlib.sha256()
    grids = np.empty((len(every), SIDE, SIDE, SIDE), np.float32)
    labels: List[np.ndarray] = []
    sigma = np.zeros(0)
    for grid, file in zip(grids, every):
        grid[...] = _array(file, (CELLS, 4))[:, 3].reshape(grid.shape)
        label, its_sigma = _labels(file.with_name(file.name[: -len(ENDING)] + LABELS_ENDING))
        if len(sigma) and not np.array_equal(sigma, its_sigma):
            raise BadInput(f"the labels of {file} have another sigma than those of {every[0]}")
        sigma = its_sigma
        labels.append(label)
        digest.update(grid.tobytes() + label.tobytes())
    return UmmlGrids(
        grids,
        np.array(labels, np.float32),
        sigma,
        len(files[1]) if len(files) == 2 else 0,
        {
            "path": str(folder),
            "format": "umml grids",
            "bytes": sum(file.stat().st_size for file in every),
            "rows": len(every),
            "rows_kept": len(every),
            "sha256": digest.hexdigest(),  # of the velocities and labels read
        },
    )


def _labels(path: Path) -> Tuple[np.ndarray, np.ndarray]:
    if not path.is_file():
        raise BadInput(f"there is no file {path}; each grid needs its labels beside it")
    table = _array(path, (smf.BINS, 2))
    if not (table[:, 1] > 0).all():
        raise BadInput(f"{path} has a sigma that is not positive")
    return table[:, 0], table[:, 1]


def _array(path: Path, shape: Tuple[int, int]) -> np.ndarray:
    try:
        array = np.load(path, allow_pickle=False)
    except _DAMAGE as error:
        raise BadInput(f"{path} is cut off or no .npy array of numbers: {error}") from error
    if not isinstance(array, np.ndarray) or array.shape != shape or array.dtype.kind not in "fiu":
        found = f"{array.dtype} of shape {array.shape}" if isinstance(array, np.ndarray) else "an archive"
        raise BadInput(f"{path} holds {found} instead of numbers of shape {shape}")
    if not np.isfinite(array).all():
        raise BadInput(f"{path} has values that are NaN or infinite; repair or replace it")
    return array.astype(np.float64)
