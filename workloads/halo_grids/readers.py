"""Catalogues of simulations by path: Rockstar's hlist, UniverseMachine's binary, halotools' HDF5.

Nothing is downloaded. A file without stellar masses gets them from its peak velocities, by the relation and with the
scatter of ``galaxies.py``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from siderostat.workloads.base import BadInput
from siderostat.workloads.digest import size_and_sha256
from siderostat.workloads.halo_grids import galaxies, smf
from siderostat.workloads.halo_grids.field import SINGLE
from siderostat.workloads.halo_grids.halos import Catalogue

UNIVERSE_MACHINE = np.dtype(
    [
        *((name, "<i8") for name in ("id", "descid", "upid")),
        ("flags", "<i4"),
        ("uparent_dist", "<f4"),
        ("pos", "<f4", (6,)),
        *((name, "<f4") for name in ("vmp", "lvmp", "mp", "m", "v", "r", "rank1", "rank2", "ra", "rarank", "a_uv")),
        *((name, "<f4") for name in ("sm", "icl", "sfr", "obs_sm", "obs_sfr", "obs_uv", "empty")),
    ]
)
"""A record of ``sfr_catalog_A.bin``, 128 bytes, by the data release. Halo masses in Msun/h, stellar in Msun."""

IGNORED = 16
"""Bit of UniverseMachine's flags: the halo is to be left out."""

HLIST_SUFFIXES, BINARY_SUFFIXES, HDF5_SUFFIXES = (".list", ".txt", ".hlist"), (".bin",), (".hdf5", ".h5")

_COLUMNS: Mapping[str, str] = {
    "peak_mass": "mpeak",
    "mass": "mvir",
    "accretion_mass": "macc",
    "peak_velocity": "vpeak",
    "accretion_velocity": "vacc",
    "spin": "spin",
    "half_mass_scale": "halfmass_scale",
}
_POSITION = ("x", "y", "z")
_CHUNK_ROWS = 200_000
_BLOCK = 1 << 20

Columns = Dict[str, np.ndarray]


@dataclass(frozen=True)
class HaloFile:
    """What was read of a file.

    Attributes:
        catalogue: halos above the asked peak velocity.
        provenance: path, format, bytes, rows, rows kept and SHA-256 of the whole file, as JSON takes them.
    """

    catalogue: Catalogue
    provenance: Dict[str, Any]


def read(path: Path, vpeak_min: float, seed: int) -> HaloFile:
    """Read a file in the format that its name ends in.

    Args:
        path: ``.list`` or ``.txt`` (hlist), ``.bin`` (UniverseMachine), ``.hdf5`` or ``.h5`` (halotools).
        vpeak_min: km/s; slower halos are left out. For UniverseMachine, which has no peak velocity, the maximum
            circular velocity when the mass was largest stands in for it.
        seed: of the scatter in stellar mass, where the file has none.

    Raises:
        BadInput: if the file cannot be used; the text names it, and the columns found where some are missing.
    """
    reader = _reader_of(path)
    if not path.is_file():
        raise BadInput(f"there is no file {path} with halos")
    try:
        columns, rows, box = reader(path, vpeak_min)
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror or error}") from error
    if not len(columns["x"]):
        raise BadInput(f"{path} has no halo above {vpeak_min:g} km/s; lower vpeak_min")
    made = _catalogue(path, columns, box, seed)
    return HaloFile(
        made,
        {
            "path": str(path),
            "format": reader.__name__[len("_read_") :].replace("_", " "),
            "bytes": path.stat().st_size,
            "rows": rows,
            "rows_kept": len(made),
            "sha256": size_and_sha256(path)[1],
        },
    )


def _reader_of(path: Path) -> Callable[[Path, float], Tuple[Columns, int, Optional[float]]]:
    for suffixes, reader in (
        (HLIST_SUFFIXES, _read_rockstar_hlist),
        (BINARY_SUFFIXES, _read_universemachine),
        (HDF5_SUFFIXES, _read_halotools),
    ):
        if path.suffix.lower() in suffixes:
            return reader
    known = ", ".join((*HLIST_SUFFIXES, *BINARY_SUFFIXES, *HDF5_SUFFIXES))
    raise BadInput(f"the format of {path} is unknown: its name must end in {known}, or be a folder of umml grids")


def _read_rockstar_hlist(path: Path, vpeak_min: float) -> Tuple[Columns, int, Optional[float]]:
    """Read the text table of consistent-trees: ``#scale(0) id(1) ...``, comments, one line per halo."""
    with path.open("rb") as file:
        first = file.readline().decode("ascii", "replace")
        if not first.startswith("#"):
            raise BadInput(f"{path} does not begin with a line of column names after a #; it is no Rockstar hlist")
        names = [re.sub(r"\(\d+\)$", "", word).lower() for word in first[1:].split()]
        wanted = ("id", "upid", *_POSITION, *_COLUMNS.values())
        _require(path, wanted, names)
        if path.stat().st_size > len(first):
            file.seek(-1, 2)
            if file.read(1) != b"\n":
                raise BadInput(f"{path} is cut off: its last line does not end; copy it again")
    places = [names.index(name) for name in wanted]
    box: Optional[float] = None
    kept: List[np.ndarray] = []
    rows = 0
    with path.open(encoding="ascii", errors="replace") as file:
        lines: List[str] = []
        for line in file:
            if line.startswith("#"):
                stated = re.search(r"box size\s*=\s*([0-9.eE+]+)\s*Mpc/h", line)
                box = float(stated.group(1)) if stated else box
                continue
            lines.append(line)
            if len(lines) == _CHUNK_ROWS:
                rows += len(lines)
                kept.append(_fast_rows(path, lines, places, wanted.index("vpeak"), vpeak_min))
                lines = []
        rows += len(lines)
        kept.append(_fast_rows(path, lines, places, wanted.index("vpeak"), vpeak_min))
    table = np.concatenate(kept).T
    return dict(zip(wanted, table)), rows, box


def _fast_rows(path: Path, lines: Sequence[str], places: Sequence[int], velocity: int, vpeak_min: float) -> np.ndarray:
    """Return the wanted columns of the lines that are fast enough, float64."""
    if not lines:
        return np.zeros((0, len(places)))
    try:
        table = np.loadtxt(lines, usecols=places, ndmin=2)
    except (ValueError, IndexError) as error:
        raise BadInput(f"{path} has a line that is cut off or no row of numbers: {error}") from error
    return table[table[:, velocity] > vpeak_min]


def _read_universemachine(path: Path, vpeak_min: float) -> Tuple[Columns, int, Optional[float]]:
    """Read ``sfr_catalog_A.bin``: records of 128 bytes without a header."""
    size = path.stat().st_size
    if size == 0 or size % UNIVERSE_MACHINE.itemsize:
        raise BadInput(
            f"{path} has {size} bytes, which is no whole number of records of {UNIVERSE_MACHINE.itemsize}; it is cut "
            "off or no UniverseMachine catalogue"
        )
    records = np.memmap(path, UNIVERSE_MACHINE, "r")
    use = np.flatnonzero((records["vmp"] > vpeak_min) & ((records["flags"] & IGNORED) == 0))
    found = np.array(records[use])
    with np.errstate(divide="ignore"):
        stellar = np.log10(found["obs_sm"].astype(np.float64))
    columns = {name: found["pos"][:, axis].astype(np.float64) for axis, name in enumerate(_POSITION)}
    columns.update(
        id=found["id"], upid=found["upid"], mpeak=found["mp"], mvir=found["m"], vpeak=found["vmp"], log_sm=stellar
    )
    return columns, len(records), None


def _read_halotools(path: Path, vpeak_min: float) -> Tuple[Columns, int, Optional[float]]:
    """Read a table ``data`` with columns ``halo_...``, beside the attribute ``Lbox`` in Mpc/h."""
    import h5py

    try:
        with h5py.File(str(path), "r") as file:
            if "data" not in file:
                raise BadInput(f"{path} has no table 'data'; found: {', '.join(sorted(file)) or 'nothing'}")
            stored: Any = file["data"]
            lbox: Any = file.attrs.get("Lbox")
            table = np.asarray(stored[()])
            box = None if lbox is None else float(np.ravel(lbox)[0])
    except OSError as error:
        raise BadInput(f"{path} is cut off or no HDF5 file: {error}") from error
    names = table.dtype.names or ()
    formation = "halfmass_scale" if "halo_halfmass_scale" in names else "halfmass_scale_factor"
    wanted = {name: "halo_" + name for name in ("id", "upid", *_POSITION, *_COLUMNS.values())}
    wanted["halfmass_scale"] = "halo_" + formation
    _require(path, list(wanted.values()), names)
    use = table["halo_vpeak"] > vpeak_min
    return {name: table[column][use] for name, column in wanted.items()}, len(table), box


def _require(path: Path, wanted: Sequence[str], names: Sequence[str]) -> None:
    missing = [name for name in wanted if name not in names]
    if missing:
        raise BadInput(f"{path} lacks the columns {', '.join(missing)}; found: {', '.join(names) or 'none'}")


def _catalogue(path: Path, columns: Columns, box: Optional[float], seed: int) -> Catalogue:
    position = np.stack([columns[name].astype(np.float64) for name in _POSITION], 1)
    if not np.isfinite(position).all() or not np.isfinite(columns["vpeak"]).all():
        raise BadInput(f"{path} has positions or peak velocities that are not finite; repair or replace it")
    if box is None:
        # A box of a simulation is full of halos, so its side is the next multiple of a sub-box's.
        box = float(np.ceil(position.max() / smf.SIDE_MPC_H) * smf.SIDE_MPC_H)
    if box < smf.SIDE_MPC_H:
        raise BadInput(f"the box of {path} has a side of {box:g} Mpc/h, less than one sub-box of {smf.SIDE_MPC_H}")
    position = np.mod(position, box).astype(SINGLE)
    position[position >= SINGLE(box)] = 0
    stellar = columns.get("log_sm")
    if stellar is None:
        scatter = np.random.default_rng(seed).standard_normal(len(position))
        stellar = galaxies.log_stellar_mass(columns["vpeak"]) + galaxies.STELLAR_SCATTER * scatter
    lacking = np.full(len(position), np.nan, SINGLE)
    values = {name: columns.get(column, lacking).astype(SINGLE) for name, column in _COLUMNS.items()}
    return Catalogue(
        box_mpc_h=box,
        position=position,
        identifier=columns["id"].astype(np.int64),
        host=columns["upid"].astype(np.int64),
        log_stellar_mass=stellar.astype(SINGLE),
        **values,
    )
