"""Published images by path, in the format of zenodo.org/record/3759206.

``NAME_images.npy`` has shape (rows, 2, 10, 64, 64): without and with noise; four bands of Euclid, then ugrizy of LSST.
``NAME_data.csv`` beside it has one line of labels per row. The ellipticities published there were taken before the
galaxies were turned by a random angle, so they do not belong to the images; siderostat reads them as they are.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import math
import tokenize
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np

from siderostat.workloads.base import BadInput
from siderostat.workloads.digest import size_and_sha256
from siderostat.workloads.galaxy_images.survey import BANDS, PIXELS

COLUMNS = ("e1", "e2", "redshift")
_EUCLID_BANDS = 4
_SHAPE = (2, _EUCLID_BANDS + len(BANDS), PIXELS, PIXELS)
_ENDING, _LABELS_ENDING = "images.npy", "data.csv"
# What NumPy raises on damaged headers, which it parses as Python.
_DAMAGE = (
    OSError,
    ValueError,
    EOFError,
    SyntaxError,
    tokenize.TokenError,
    TypeError,
    KeyError,
    ArithmeticError,
    MemoryError,
)
_WITH_NOISE = {"none": 0, "poisson": 1}


class ImageFile:
    """Images and labels of one file, in the interface of :class:`data.ImageSet`.

    The file is mapped, never loaded whole. As in the public code, rows with e1 or e2 beyond -1 or 1, failed fits, are
    left out; images are counted without them.

    Args:
        path: of the images; the labels lie beside it.
        noise: "poisson", or "none" for the images without noise.

    Raises:
        BadInput: if either file cannot be used.
    """

    def __init__(self, path: Path, noise: str = "poisson") -> None:
        if noise not in _WITH_NOISE:
            raise BadInput(f"the images of {path} come with noise 'poisson' or 'none', not {noise!r}")
        self._path = path
        self._labels_path = _beside(path)
        self._noise = noise
        self._images = _mapped(path)
        labels = _labels(self._labels_path)
        if len(labels) != len(self._images):
            raise BadInput(
                f"{self._labels_path} has {len(labels)} rows of labels and {path} has {len(self._images)} images; "
                "they do not belong together"
            )
        self._kept = np.flatnonzero((np.abs(labels[:, :2]) <= 1).all(1))
        self._labels = labels.astype(np.float32)

    def parts(self, images: int) -> int:
        """Return 0: there is nothing to make."""
        return 0

    def make_part(self, part: int) -> None:
        """Do nothing."""

    def load(self, images: int, first: int = 0) -> Tuple[np.ndarray, np.ndarray]:
        """Return ``images`` images in LSST's bands from number ``first`` on, and their labels.

        Raises:
            BadInput: if there are not so many, or a pixel of them is not finite.
        """
        if first + images > len(self._kept):
            raise BadInput(
                f"{self._path} has {len(self._kept)} images with |e1| and |e2| up to 1, and {first + images} were "
                "asked for; ask for fewer with --set images=N"
            )
        rows = self._kept[first : first + images]
        pixels = np.empty((images, len(BANDS), PIXELS, PIXELS), np.float32)
        for image, row in zip(pixels, rows):
            image[...] = self._images[row, _WITH_NOISE[self._noise], _EUCLID_BANDS:]
            if not np.isfinite(image).all():
                raise BadInput(
                    f"{self._path} has pixels that are NaN or infinite, first in row {row}; repair or replace it"
                )
        return pixels, self._labels[rows]

    def provenance(self) -> Dict[str, Any]:
        """Return path, noise, rows used, and size, rows and SHA-256 of the file, as JSON takes them."""
        return {
            "image_file": str(self._path),
            "noise": self._noise,
            "bytes": self._path.stat().st_size,
            "rows": len(self._images),
            "rows_kept": len(self._kept),
            "sha256": self._sha256,
            "labels_sha256": size_and_sha256(self._labels_path)[1],
        }

    @property
    def fingerprint(self) -> str:
        """16 hex digits for the images, the labels and the noise, wherever the files lie."""
        content = f"{self._sha256} {size_and_sha256(self._labels_path)[1]} {self._noise}"
        return hashlib.blake2b(content.encode(), digest_size=8).hexdigest()

    @functools.cached_property
    def _sha256(self) -> str:
        # Of all of it, and only when asked for: a time stamp changes with a copy and stays with some changes.
        return size_and_sha256(self._path)[1]


def _beside(path: Path) -> Path:
    if not path.name.endswith(_ENDING):
        raise BadInput(f"the name of {path} does not end in {_ENDING}, so that of its labels is unknown; rename it")
    labels = path.with_name(path.name[: -len(_ENDING)] + _LABELS_ENDING)
    for file in (path, labels):
        if not file.is_file():
            raise BadInput(f"there is no file {file}; images need both *{_ENDING} and, beside it, *{_LABELS_ENDING}")
    return labels


def _mapped(path: Path) -> np.ndarray:
    try:
        images = np.load(path, mmap_mode="r", allow_pickle=False)
    except _DAMAGE as error:
        raise BadInput(f"{path} cannot be mapped as a .npy array of numbers: {error}") from error
    if not isinstance(images, np.ndarray):
        raise BadInput(f"{path} is an archive of arrays; a single .npy array is needed")
    if images.ndim != 1 + len(_SHAPE) or images.shape[1:] != _SHAPE or len(images) == 0:
        raise BadInput(f"{path} has shape {images.shape} instead of (rows, {', '.join(map(str, _SHAPE))})")
    if images.dtype.kind != "f":
        raise BadInput(f"{path} holds {images.dtype} instead of floating-point numbers")
    return images


def _labels(path: Path) -> np.ndarray:
    """Read the labels, float64 of shape (rows, 3)."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            found: Sequence[str] = reader.fieldnames or ()
            missing = [name for name in COLUMNS if name not in found]
            if missing:
                raise BadInput(f"{path} lacks the columns {', '.join(missing)}; found: {', '.join(found) or 'none'}")
            rows: List[List[float]] = [
                [_number(path, number, name, row[name]) for name in COLUMNS] for number, row in enumerate(reader)
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"{path} cannot be read as a CSV file: {error}") from error
    return np.array(rows, np.float64).reshape(-1, len(COLUMNS))


def _number(path: Path, row: int, column: str, text: Any) -> float:
    try:
        value = float(text)
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise BadInput(f"{path} has {text!r} instead of a number in row {row}, column {column}")
    return value
