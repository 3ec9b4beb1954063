"""Made catalogues on disk, in ``$SIDEROSTAT_CACHE/halo-grids``: files are there whole or not at all, and verified.

The name is a fingerprint of all that the halos depend on, so a catalogue is never taken for that of another seed or
version.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields
from pathlib import Path

import numpy as np

from siderostat.workloads import cache
from siderostat.workloads.archive import Archive, Arrays
from siderostat.workloads.base import BadInput
from siderostat.workloads.halo_grids import cosmology, halos
from siderostat.workloads.halo_grids.halos import Catalogue

MESH_STEP = 4


def catalogue(seed: int, box_mpc_h: float, mesh: int, vpeak_min: float) -> Catalogue:
    """Return the catalogue that :func:`halos.make` makes of these, from the cache where it is there.

    Of several processes, one makes it and the others wait. A box of 250 Mpc/h with a mesh of 256 and
    150 km/s takes about 3 CPU seconds, and 0.5 GB while it is made.

    Raises:
        BadInput: if an argument cannot be, or the cache cannot be written.
    """
    check(seed, box_mpc_h, mesh, vpeak_min)
    of = (seed, box_mpc_h, mesh, vpeak_min)
    identity = {"version": halos.VERSION, "fingerprint": fingerprint(*of)}
    archive = Archive(file_of(*of), identity, _is_sound, "halo catalogues", ("colossus",))
    arrays = archive.obtain(lambda: _arrays(halos.make(*of)))
    box = float(arrays.pop("box_mpc_h"))
    return Catalogue(box_mpc_h=box, **arrays)


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


def _arrays(made: Catalogue) -> Arrays:
    return {field.name: np.asarray(getattr(made, field.name)) for field in fields(made)}


def _is_sound(arrays: Arrays) -> bool:
    """Say whether there is all that a catalogue has, and of each halo."""
    lengths = {array.shape[:1] for name, array in arrays.items() if name != "box_mpc_h"}
    return set(arrays) == {field.name for field in fields(Catalogue)} and len(lengths) == 1
