"""Arrays in one file of the cache: it is there whole or not at all, and is verified whenever it is read.

For all that can be made again. What a file depends on is in its name and in itself.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Mapping, Optional, Tuple

import numpy as np

from siderostat.workloads.base import BadInput

Arrays = Dict[str, np.ndarray]

# What reading a damaged .npz can raise: a bad archive, a bad member, a bad array, bad JSON.
_DAMAGE = (OSError, ValueError, KeyError, EOFError, RuntimeError, struct.error, zipfile.BadZipFile)


@dataclass(frozen=True)
class Archive:
    """One ``.npz`` file of arrays and what it says of itself.

    Args:
        path: where it lies, or will.
        identity: what its content depends on; "version" and "fingerprint" at least. A sound file that says
            otherwise belongs to someone else and is left alone.
        is_sound: says whether arrays are what belongs there, see :func:`singles`; of others the file is made again.
        what: what the arrays are, in the plural, for messages.
        made_with: packages whose versions are written down in the file.
    """

    path: Path
    identity: Mapping[str, Any]
    is_sound: Callable[[Arrays], bool]
    what: str
    made_with: Tuple[str, ...] = ()

    def obtain(self, make: Callable[[], Arrays]) -> Arrays:
        """Return the arrays, made and written where they are missing or damaged.

        Of several processes, one makes them and the others wait.

        Raises:
            BadInput: if the file holds something else, or cannot be written.
        """
        found = self.read()
        return self._make_under_lock(make) if found is None else found

    def read(self) -> Optional[Arrays]:
        """Return the arrays, or None where the file is missing or damaged.

        Raises:
            BadInput: if the file is sound and holds something else, of another version for example.
        """
        try:
            arrays = _read_npz(self.path)
            meta = json.loads(str(arrays.pop("meta")))
        except _DAMAGE:
            return None
        if not isinstance(meta, dict) or not all(key in meta for key in self.identity):
            return None
        if any(meta[key] != value for key, value in self.identity.items()):
            found, expected = _words(meta, self.identity), _words(self.identity, self.identity)
            raise BadInput(
                f"{self.path} holds {found} where {expected} belongs; it was left as it is: move it away, or "
                "set SIDEROSTAT_CACHE to another folder"
            )
        return arrays if self.is_sound(arrays) else None

    def _make_under_lock(self, make: Callable[[], Arrays]) -> Arrays:
        with self._lock():
            found = self.read()  # another process may have made it in the meantime
            if found is None:
                found = make()
                with self._writing():
                    self._write(found)
            return found

    def _write(self, arrays: Arrays) -> None:
        from importlib.metadata import version

        meta = {**self.identity, **{name: version(name) for name in ("numpy", *self.made_with)}}
        # By way of memory: a zip file that cannot be written raises more than OSError.
        whole = io.BytesIO()
        members: Dict[str, Any] = {**arrays, "meta": np.array(json.dumps(meta))}
        np.savez(whole, **members)
        for left_over in self.path.parent.glob(f"{self.path.name}.*.tmp"):  # of a process that was killed
            left_over.unlink()
        temporary = self.path.with_name(f"{self.path.name}.{os.getpid()}.tmp")
        try:
            with temporary.open("wb") as file:
                file.write(whole.getbuffer())
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        # The file stays: were it deleted, a process waiting for it and one coming later would both go ahead.
        with self._writing():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(str(self.path.with_suffix(".lock")), os.O_RDWR | os.O_CREAT, 0o666)
        try:
            with self._writing():
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise BadInput(
                f"cannot write {self.what} to {self.path.parent}: {error.strerror or error}; "
                "free space there or set SIDEROSTAT_CACHE to another folder"
            ) from error


def singles(shapes: Mapping[str, Tuple[int, ...]]) -> Callable[[Arrays], bool]:
    """Return what says whether arrays are these, by name, of float32 and finite."""

    def are_sound(arrays: Arrays) -> bool:
        return set(arrays) == set(shapes) and all(
            a.shape == shapes[name] and a.dtype == np.float32 and np.isfinite(a).all() for name, a in arrays.items()
        )

    return are_sound


def _words(said: Mapping[str, Any], keys: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {said[key]}" for key in keys)


def _read_npz(path: Path) -> Arrays:
    """Read the arrays that :meth:`Archive._write` stored.

    ``np.load`` parses an array's header before the checksum is known, and a damaged header makes it raise
    almost anything; here the checksum of the whole member comes first.
    """
    with zipfile.ZipFile(str(path)) as archive:
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
            raise zipfile.BadZipFile("a member claims to be compressed")
        members = {name: io.BytesIO(archive.read(name)) for name in archive.namelist()}
    return {name[: -len(".npy")]: np.load(content, allow_pickle=False) for name, content in members.items()}
