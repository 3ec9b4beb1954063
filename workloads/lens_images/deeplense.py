"""DeepLense images by path: a folder with one folder for each class, and in it one .npy file for each image."""

from __future__ import annotations

import hashlib
import tokenize
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np

from siderostat.workloads.base import BadInput
from siderostat.workloads.lens_images.catalogue import CLASSES
from siderostat.workloads.lens_images.resampling import resampling

FOLDERS: Dict[str, int] = {"no_sub": 0, "no": 0, "cdm": 1, "sphere": 1, "axion": 2, "vort": 2}
"""Name of a class's folder in the public sets -> its number among :data:`catalogue.CLASSES`."""

_MAGIC = b"\x93NUMPY"  # without it NumPy takes a file for a pickle
# What NumPy raises on damaged headers, which it parses as Python.
_DAMAGE = (OSError, ValueError, EOFError, SyntaxError, tokenize.TokenError, TypeError, KeyError, ArithmeticError, MemoryError)  # fmt: skip # noqa: E501


class DeepLenseFolder:
    """Published images, read as they are.

    Args:
        path: of the folder that holds the classes' folders, such as ``Model_II/train``.

    Raises:
        BadInput: if a class has no folder, or a folder no file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._files = [_files_of(path, label) for label in range(len(CLASSES))]
        self._read: List[Path] = []

    def load(self, count: int, pixels: int, seed: int) -> Tuple[np.ndarray, np.ndarray]:
        """Return images of all classes by turns, drawn without repetition.

        Args:
            count: how many.
            pixels: on a side; images of another size are resampled.
            seed: which ones.

        Returns:
            Images in the unit of the files, float32 of shape (count, pixels, pixels), and classes, int64.

        Raises:
            BadInput: if there are not so many, or a file cannot be used.
        """
        labels = np.arange(count) % len(CLASSES)
        orders = [np.random.default_rng([seed, label]).permutation(len(f)) for label, f in enumerate(self._files)]
        for label, files in enumerate(self._files):
            wanted = int((labels == label).sum())
            if wanted > len(files):
                raise BadInput(
                    f"{self._path} has {len(files)} images of class {CLASSES[label]!r} and {wanted} were asked for; "
                    "ask for fewer"
                )
        self._read = [self._files[label][orders[label][i // len(CLASSES)]] for i, label in enumerate(labels)]
        images = np.stack([_image(file, pixels) for file in self._read])
        return images, labels.astype(np.int64)

    def provenance(self) -> Dict[str, Any]:
        """Return path and files of each class; of the files that were read last, number, size and SHA-256 of all."""
        digest = hashlib.sha256()
        for file in self._read:
            digest.update(file.relative_to(self._path).as_posix().encode() + file.read_bytes())
        return {
            "folder": str(self._path),
            "files": {name: len(files) for name, files in zip(CLASSES, self._files)},
            "rows": len(self._read),
            "bytes": sum(file.stat().st_size for file in self._read),
            "sha256": digest.hexdigest(),
        }


def _files_of(path: Path, label: int) -> List[Path]:
    names = [name for name, number in FOLDERS.items() if number == label]
    folders = [path / name for name in names if (path / name).is_dir()]
    if len(folders) != 1:
        found = ", ".join(sorted(p.name for p in path.iterdir() if p.is_dir())) or "none"
        raise BadInput(
            f"{path} must have one folder for the class {CLASSES[label]!r}, called {' or '.join(names)}; "
            f"folders found: {found}"
        )
    files = sorted(folders[0].glob("*.npy"))
    if not files:
        raise BadInput(f"{folders[0]} has no .npy files; each image of a class is one")
    return files


def _image(file: Path, pixels: int) -> np.ndarray:
    image = _load(file)
    if image.ndim == 3 and image.shape[0] == 1:
        image = image[0]
    if image.ndim != 2 or image.shape[0] != image.shape[1] or image.dtype.kind not in "uif":
        raise BadInput(f"{file} holds {image.dtype} of shape {image.shape} instead of one square image of numbers")
    light = image.astype(np.float64)
    if not np.isfinite(light).all() or light.max() <= 0:
        raise BadInput(f"{file} has pixels that are not finite, or none above 0; repair it or take it away")
    if len(light) != pixels:
        weights = resampling(len(light), pixels)
        light = weights @ light @ weights.T
    return light.astype(np.float32)


def _load(file: Path) -> np.ndarray:
    try:
        with file.open("rb") as stream:
            if stream.read(len(_MAGIC)) != _MAGIC:
                raise BadInput(f"{file} is damaged or no .npy file; fetch it again or take it away")
        image: np.ndarray = np.load(file, allow_pickle=False)
    except _DAMAGE as error:
        if str(error).startswith("Object arrays"):
            raise BadInput(_conversion(file)) from None
        raise BadInput(f"{file} is damaged or no .npy file ({error}); fetch it again or take it away") from error
    return image


def _conversion(file: Path) -> str:
    convert = "[numpy.save(p, numpy.asarray(numpy.load(p, allow_pickle=True)[0], 'f4'))"
    return (
        f"{file} is an object array, as the public files of class axion are that hold [image, axion mass]; reading one "
        "can run any code, so it is refused. If you trust where it is from, convert the folder once: "
        f"python -c \"import numpy, pathlib; {convert} for p in pathlib.Path('{file.parent}').glob('*.npy')]\""
    )
