"""Galaxies of Galaxy10 by path: astroNN's HDF5 files Galaxy10.h5 (SDSS) and Galaxy10_DECals.h5."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict

import numpy as np

from siderostat.workloads.base import BadInput
from siderostat.workloads.digest import size_and_sha256
from siderostat.workloads.lens_images.resampling import resampling
from siderostat.workloads.lens_images.sources import FADE_PIXELS, MOST_DRAWS, PIXELS, Sources, faded, normalised

DATASETS = ("images", "ans")


class Galaxy10(Sources):
    """Pictures of nearby galaxies, drawn with equal probability, all bands added, scaled to the source's frame.

    Args:
        path: of the file; it stays on disk and pictures are read one by one.

    Raises:
        BadInput: if the file is missing, is not HDF5, or lacks what Galaxy10 has.
    """

    def __init__(self, path: Path) -> None:
        import h5py

        self._path = path
        try:
            self._size, self._sha256 = size_and_sha256(path)
        except OSError as error:
            raise BadInput(f"the Galaxy10 file {path} cannot be read: {error.strerror or error}") from error
        try:
            self._file = h5py.File(path, "r")
        except OSError as error:
            raise BadInput(f"{path} cannot be read as an HDF5 file: {error}; fetch it again") from error
        self._pictures = self._dataset()
        self.identity = f"Galaxy10, {self._size} bytes, sha256 {self._sha256}"

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Draw one galaxy, passing over pictures that are black; see :meth:`Sources.draw`.

        Raises:
            BadInput: if a picture cannot be read, or a thousand are black.
        """
        for _ in range(MOST_DRAWS):
            light = self._light(int(rng.integers(len(self._pictures))))
            if light.sum() > 0:
                return normalised(light)
        raise BadInput(f"{MOST_DRAWS} pictures drawn from {self._path} have no light above that of their border")

    def provenance(self) -> Dict[str, Any]:
        """Return path, size, rows and SHA-256 of the file."""
        return {
            "source": "Galaxy10",
            "source_file": str(self._path),
            "bytes": self._size,
            "rows": len(self._pictures),
            "sha256": self._sha256,
        }

    def _light(self, row: int) -> np.ndarray:
        try:
            picture = np.asarray(self._pictures[row], np.float64).mean(2)
        except OSError as error:
            raise BadInput(
                f"{self._path} is damaged: picture {row} cannot be read ({error}); fetch it again"
            ) from error
        border = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
        weights = resampling(picture.shape[0], PIXELS)
        return faded(weights @ np.maximum(picture - np.median(border), 0) @ weights.T, FADE_PIXELS)

    def _dataset(self) -> Any:
        missing = [name for name in DATASETS if name not in self._file]
        if missing:
            raise BadInput(
                f"{self._path} lacks the datasets {', '.join(missing)}; found: {', '.join(self._file) or 'none'}. "
                "Galaxy10 has images and ans"
            )
        pictures: Any = self._file["images"]
        answers: Any = self._file["ans"]
        shape = pictures.shape
        if (
            len(shape) != 4
            or shape[1] != shape[2]
            or shape[3] != 3
            or shape[0] == 0
            or pictures.dtype.kind not in "uif"
        ):
            raise BadInput(
                f"the images of {self._path} are {pictures.dtype} of shape {shape} instead of numbers of shape "
                "(rows, side, side, 3)"
            )
        if answers.shape != shape[:1]:
            raise BadInput(
                f"{self._path} has {shape[0]} images and ans of shape {answers.shape}; they do not belong together"
            )
        return pictures
