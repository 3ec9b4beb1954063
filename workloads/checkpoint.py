"""Trained weights in one file, with all that is known about how they came about.

An ``.npz`` without pickles: weights, in half precision where that holds them, whatever else a workload keeps with
them, and ``provenance``, a JSON object. The file appears under its name only when it is whole, and is verified when it
is read.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import platform
import struct
import time
import zipfile
import zlib
from pathlib import Path
from typing import Any, Dict, Mapping, Tuple

import numpy as np

from siderostat.workloads.base import BadInput

# What reading a damaged .npz can raise: a bad archive, a bad member, a bad array, bad JSON.
_DAMAGE = (
    OSError,
    ValueError,
    KeyError,
    EOFError,
    RuntimeError,
    TypeError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
)

Weights = Dict[str, np.ndarray]


class Checkpoints:
    """Files of one kind.

    Args:
        kind: what they hold, in words.
        version: of what they hold. Rises when names, shapes or the meaning of the inputs change.
        remedy: how a sound one is had, for messages: "make one by ...".
        shapes: of each of the weights, by name.
    """

    def __init__(self, kind: str, version: int, remedy: str, shapes: Mapping[str, Tuple[int, ...]]) -> None:
        self._kind = kind
        self._version = version
        self._remedy = remedy
        self._shapes = shapes

    def save(self, path: Path, weights: Mapping[str, np.ndarray], provenance: Mapping[str, Any], **more: Any) -> None:
        """Write weights, arrays that belong to them, and what is known about them.

        Raises:
            BadInput: if the file cannot be written.
        """
        arrays: Dict[str, Any] = {name: _halved(weights[name]) for name in self._shapes}
        told = json.dumps({"version": self._version, **provenance})
        whole = io.BytesIO()
        np.savez_compressed(whole, provenance=np.array(told), **arrays, **more)
        temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        try:
            temporary.write_bytes(whole.getbuffer())
            temporary.replace(path)
        except OSError as error:
            text = f"cannot write the {self._kind} {path}: {error.strerror or error}; name another place"
            raise BadInput(text) from error
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()

    def load(self, path: Path) -> Tuple[Weights, Weights, Dict[str, Any]]:
        """Return weights in single precision, the arrays that belong to them, and the provenance.

        Raises:
            BadInput: if the file is missing, is none of this kind, is of another version, or has weights that
                cannot be.
        """
        if not path.is_file():
            raise BadInput(f"there is no {self._kind} {path}; {self._remedy}")
        try:
            arrays = _read(path)
            provenance = dict(json.loads(str(arrays.pop("provenance"))))
            version = provenance["version"]
        except _DAMAGE as error:
            raise BadInput(f"{path} is not a {self._kind}, or is damaged; {self._remedy}") from error
        if version != self._version:
            raise BadInput(
                f"the {self._kind} {path} is of version {version!r} and this is version {self._version}; {self._remedy}"
            )
        weights = {name: self._sound(path, name, arrays) for name in self._shapes}
        return weights, {name: a for name, a in arrays.items() if name not in self._shapes}, provenance

    def _sound(self, path: Path, name: str, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        if name not in arrays:
            raise BadInput(f"the {self._kind} {path} lacks the weights {name}; {self._remedy}")
        array, shape = arrays[name], self._shapes[name]
        if array.shape != shape or array.dtype.kind != "f":
            raise BadInput(
                f"the weights {name} of the {self._kind} {path} are {array.dtype} of shape {array.shape} instead of "
                f"floating-point numbers of shape {shape}; {self._remedy}"
            )
        if not np.isfinite(array).all():
            raise BadInput(f"the weights {name} of the {self._kind} {path} are not all finite; {self._remedy}")
        return array.astype(np.float32)


def circumstances(*packages: str) -> Dict[str, Any]:
    """Return when, on what and with which versions something is made, as JSON takes it."""
    versions = {name: str(importlib.import_module(name).__version__) for name in ("siderostat", *packages, "numpy")}
    return {
        "packages": {"python": platform.python_version(), **versions},
        "machine": platform.machine(),
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _halved(array: np.ndarray) -> np.ndarray:
    """Return an array in half precision; in single where a number is too large for it, as electrons squared are."""
    largest = float(np.finfo(np.float16).max)
    return np.asarray(array, np.float16 if np.abs(array).max() <= largest else np.float32)


def _read(path: Path) -> Dict[str, np.ndarray]:
    """Read all arrays; the checksum of each member comes before its header is parsed."""
    with zipfile.ZipFile(str(path)) as archive:
        members = {name: io.BytesIO(archive.read(name)) for name in archive.namelist()}
    return {name[: -len(".npy")]: np.load(content, allow_pickle=False) for name, content in members.items()}
