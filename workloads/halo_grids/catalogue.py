"""Made catalogues on disk, in ``$SIDEROSTAT_CACHE/halo-grids``: files are there whole or not at all, and verified.

The name is a fingerprint of all that the halos depend on, so a catalogue is never taken for that of another seed or
version.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import json
import os
import struct
import zipfile
from dataclasses import fields
from pathlib import Path
from typing import Any, Dict, Iterator, Optional

import numpy as np

from siderostat.workloads import cache
from siderostat.workloads.base import BadInput
from siderostat.workloads.halo_grids import cosmology, halos
from siderostat.workloads.halo_grids.halos import Catalogue

MESH_STEP = 4

# What reading a damaged .npz can raise: a bad archive, a bad member, a bad array, bad JSON.
_DAMAGE = (OSError, ValueError, KeyError, EOFError, RuntimeError, TypeError, struct.error, zipfile.BadZipFile)


def catalogue(seed: int, box_mpc_h: float, mesh: int, vpeak_min: float) -> Catalogue:
    """Return the catalogue that :func:`halos.make` makes of these, from the cache where it is there.

    Of several processes, one makes it and the others wait. A box of 250 Mpc/h with a mesh of 256 and
    150 km/s takes about 3 CPU seconds, and 0.5 GB while it is made.

    Raises:
        BadInput: if an argument cannot be, or the cache cannot be written.
    """
    check(seed, box_mpc_h, mesh, vpeak_min)
    path = file_of(seed, box_mpc_h, mesh, vpeak_min)
    found = _read(path)
    if found is not None:
        return found
    with _lock(path):
        found = _read(path)  # another process may have made it in the meantime
        if found is None:
            found = halos.make(seed, box_mpc_h, mesh, vpeak_min)
            _write(path, found)
        return found


def check(seed: int, box_mpc_h: float, mesh: int, vpeak_min: float) -> None:
    """Refuse what no catalogue can be made of.

    Raises:
        BadInput: if an argument cannot be.
    """
    if isinstance(seed, bool) or seed < 0:
        raise BadInput(f"the seed of a halo catalogue must be a whole number of at least 0, not {seed!r}")
    if mesh < 2 * MESH_STEP or mesh % MESH_STEP:
        raise BadInput(f"the mesh must be a multiple of {MESH_STEP} and at least {2 * MESH_STEP}, not {mesh}")
    if not 0 < box_mpc_h < np.inf:
        raise BadInput(f"the side of the box must be a positive number of Mpc/h, not {box_mpc_h}")
    if not 20 <= vpeak_min <= 1000:
        raise BadInput(f"vpeak_min must be from 20 to 1000 km/s, not {vpeak_min}")


def fingerprint(seed: int, box_mpc_h: float, mesh: int, vpeak_min: float) -> str:
    """Return 16 hex digits for all that the halos depend on."""
    depends_on = {
        "versions": [halos.VERSION, cosmology.VERSION],
        "arguments": [seed, float(box_mpc_h), mesh, float(vpeak_min)],
        "constants": halos.constants(),
    }
    return hashlib.blake2b(json.dumps(depends_on, sort_keys=True).encode(), digest_size=8).hexdigest()


def file_of(seed: int, box_mpc_h: float, mesh: int, vpeak_min: float) -> Path:
    """Where the catalogue lies once it is made."""
    return cache.root() / "halo-grids" / f"catalogue-{fingerprint(seed, box_mpc_h, mesh, vpeak_min)}.npz"


def _read(path: Path) -> Optional[Catalogue]:
    """Return what the file holds, or None where it is missing or damaged."""
    try:
        with zipfile.ZipFile(str(path)) as archive:
            if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                return None
            # The checksum of each member comes before its header is parsed.
            members = {name: io.BytesIO(archive.read(name)) for name in archive.namelist()}
        arrays = {name[: -len(".npy")]: np.load(content, allow_pickle=False) for name, content in members.items()}
        if json.loads(str(arrays.pop("meta")))["fingerprint"] != path.stem.rpartition("-")[2]:
            return None
        box = float(arrays.pop("box_mpc_h"))
        found = Catalogue(box_mpc_h=box, **arrays)
    except _DAMAGE:
        return None
    return found if len({len(array) for array in arrays.values()}) == 1 else None


def _write(path: Path, made: Catalogue) -> None:
    from importlib.metadata import version

    meta = {
        "fingerprint": path.stem.rpartition("-")[2],
        "colossus": version("colossus"),
        "numpy": np.__version__,
    }
    arrays: Dict[str, Any] = {field.name: getattr(made, field.name) for field in fields(made)}
    # By way of memory: a zip file that cannot be written raises more than OSError.
    whole = io.BytesIO()
    np.savez(whole, meta=np.array(json.dumps(meta)), **arrays)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with _writing(path):
        for left_over in path.parent.glob(f"{path.name}.*.tmp"):  # of a process that was killed
            left_over.unlink()
        try:
            with temporary.open("wb") as file:
                file.write(whole.getbuffer())
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    # The file stays: were it deleted, a process waiting for it and one coming later would both go ahead.
    with _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(str(path.with_suffix(".lock")), os.O_RDWR | os.O_CREAT, 0o666)
    try:
        with _writing(path):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BadInput(
            f"cannot write a halo catalogue to {path.parent}: {error.strerror or error}; free space there or set "
            "SIDEROSTAT_CACHE to another folder"
        ) from error
