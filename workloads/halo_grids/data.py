"""Sub-boxes to learn from: grids, labels, and the halos themselves for models that look at one halo at a time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Tuple

import numpy as np

from siderostat.workloads.base import BadInput, Option, Spec
from siderostat.workloads.halo_grids import grids, smf, umml
from siderostat.workloads.halo_grids.grids import COUNTED, OVER_CELLS
from siderostat.workloads.halo_grids.halos import Catalogue

VPEAK_MIN = 150.0
"""km/s. 2.1e5 halos in 250 Mpc/h, 211 to a sub-box. The paper's 2 million need about 70."""

SIZES: Mapping[str, Tuple[float, int]] = {"paper": (250.0, 256), "tiny": (100.0, 104)}
"""Side of the box in Mpc/h and cells of the mesh: 1000 sub-boxes, and 64."""

TRAINED_ON = 0.8
"""Share of the sub-boxes for training: 800 of 1000, as published; the others are for validation."""

FEATURES = ("Mpeak", "Macc", "Vpeak", "Vacc", "Spin", "upid", "Mvir", "Halfmass_Scale")
"""Of a halo, for the random forest: those of the public code, under its names. Msun/h and km/s."""

OPTIONS: Mapping[str, Option] = {
    "halo_seed": Option(0, "which halo catalogue is made, and how sub-boxes are split"),
    "halos": Option(
        "",
        "path of a Rockstar hlist, UniverseMachine binary, halotools HDF5, or folder of umml grids; empty: a made one",
        is_path=True,
    ),
    "vpeak_min": Option(VPEAK_MIN, "least peak velocity of a halo, km/s"),
    "box": Option("paper", "which box is made: paper (1000 sub-boxes) or tiny (64)"),
    "counted": Option(OVER_CELLS, "what labels count: cells (as published), or galaxies"),
}


@dataclass(frozen=True)
class SubBoxes:
    """Sub-boxes of 25 Mpc/h.

    Attributes:
        grids: mean peak velocity per cell in km/s, 0 where empty, float32, (boxes, 25, 25, 25).
        labels: stellar mass functions in 14 bins of log10 M* from 10.2 to 11.6, float32, (boxes, 14), in (h/Mpc)^3
            per bin; :data:`smf.PHYSICAL` converts them.
        sigma: what chi^2 = sum over bins ((out - label) / sigma)^2 divides by, float64, (14,): the larger of the two
            errors of Moustakas et al. (2013), Mpc^-3 dex^-1. The published pipeline mixes these units;
            :data:`smf.PHYSICAL` says how.
        train, validation: indices of sub-boxes.
        cells: of each halo, sub-box times 15625 plus cell, int64, (halos,). No halos for umml grids.
        features: of each halo, float32, (halos, features).
        feature_names: of :data:`FEATURES`, those that the catalogue has.
        log_stellar_mass: of each halo, log10 of Msun, float32, (halos,).
        counted: what the labels count.
        provenance: as JSON takes it.
    """

    grids: np.ndarray
    labels: np.ndarray
    sigma: np.ndarray
    train: np.ndarray
    validation: np.ndarray
    cells: np.ndarray
    features: np.ndarray
    feature_names: Tuple[str, ...]
    log_stellar_mass: np.ndarray
    counted: str
    provenance: Dict[str, Any]

    def __len__(self) -> int:
        return len(self.grids)

    @property
    def box_of_halo(self) -> np.ndarray:
        """The sub-box of each halo, (halos,)."""
        return self.cells // grids.CELLS

    def labels_of(self, log_stellar_mass: np.ndarray) -> np.ndarray:
        """Return the labels that follow from other stellar masses of the halos, such as predicted ones, (boxes, 14)."""
        return grids.labels(self.cells, log_stellar_mass, len(self), self.counted)


def sub_boxes(
    seed: int, path: str = "", vpeak_min: float = VPEAK_MIN, size: str = "paper", counted: str = OVER_CELLS
) -> SubBoxes:
    """Return the sub-boxes of one catalogue.

    Args:
        seed: of the made catalogue; of the split; of stellar masses where a file has none.
        path: of a file or folder to use instead of a made catalogue; ``readers.py`` and ``umml.py`` have the formats.
        vpeak_min: km/s; slower halos are left out. Has no effect on umml grids.
        size: one of :data:`SIZES`; of made catalogues only.
        counted: what the labels count, one of :data:`grids.COUNTED`. Has no effect on umml grids.

    Raises:
        BadInput: if an argument cannot be, a file cannot be used, or the cache cannot be written.
    """
    if counted not in COUNTED:
        raise BadInput(f"counted must be one of {', '.join(COUNTED)}, not {counted!r}")
    if path and Path(path).is_dir():
        return _of_grids(umml.read(Path(path)), seed)
    if path:
        from siderostat.workloads.halo_grids import readers

        read = readers.read(Path(path), vpeak_min, seed)
        return _of_halos(read.catalogue, seed, counted, read.provenance)
    from siderostat.workloads.halo_grids import catalogue

    if size not in SIZES:
        raise BadInput(f"the box must be one of {', '.join(SIZES)}, not {size!r}")
    made = (seed, *SIZES[size], vpeak_min)
    provenance = {"fingerprint": catalogue.fingerprint(*made), "seed": seed, "vpeak_min_km_s": vpeak_min, "size": size}
    return _of_halos(catalogue.catalogue(*made), seed, counted, provenance)


def of_spec(spec: Spec) -> SubBoxes:
    """Return the sub-boxes that the options of ``spec`` ask for.

    Raises:
        BadInput: as :func:`sub_boxes`, and if an option has a value that cannot be.
    """
    path, box, counted = (str(option(spec, name)) for name in ("halos", "box", "counted"))
    return sub_boxes(halo_seed(spec), path, vpeak_min(spec), box, counted)


def option(spec: Spec, name: str) -> Any:
    """Return the value of one of :data:`OPTIONS`, the default where it was not set."""
    return spec.options.get(name, OPTIONS[name].default)


def halo_seed(spec: Spec) -> int:
    """Return the seed of the halos.

    Raises:
        BadInput: if it is not a whole number of at least 0.
    """
    value = option(spec, "halo_seed")
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise BadInput(f"halo_seed must be a whole number of at least 0, not {value!r}")
    return value


def vpeak_min(spec: Spec) -> float:
    """Return the least peak velocity, km/s.

    Raises:
        BadInput: if it is no number.
    """
    value = option(spec, "vpeak_min")
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise BadInput(f"vpeak_min must be a number of km/s, not {value!r}")
    return float(value)


def _of_halos(found: Catalogue, seed: int, counted: str, provenance: Dict[str, Any]) -> SubBoxes:
    per_side = int(found.box_mpc_h // grids.SIDE)
    boxes = per_side**3
    inside = (found.position < per_side * grids.SIDE).all(axis=1)
    cells = grids.cell_numbers(found.position[inside], per_side)
    stellar = found.log_stellar_mass[inside]
    made = grids.fast(cells, found.peak_velocity[inside], stellar, boxes, counted)
    columns: Dict[str, np.ndarray] = {
        "Mpeak": found.peak_mass,
        "Macc": found.accretion_mass,
        "Vpeak": found.peak_velocity,
        "Vacc": found.accretion_velocity,
        "Spin": found.spin,
        "upid": found.host,
        "Mvir": found.mass,
        "Halfmass_Scale": found.half_mass_scale,
    }
    names = tuple(name for name in FEATURES if not np.isnan(columns[name]).all())
    train, validation = _split(boxes, seed)
    return SubBoxes(
        grids=made.grids,
        labels=made.labels,
        sigma=smf.sigma(),
        train=train,
        validation=validation,
        cells=cells,
        features=np.stack([columns[name][inside] for name in names], 1).astype(np.float32),
        feature_names=names,
        log_stellar_mass=stellar,
        counted=counted,
        provenance={**provenance, "counted": counted},
    )


def _of_grids(found: umml.UmmlGrids, seed: int) -> SubBoxes:
    boxes = len(found.grids)
    train, validation = _split(boxes, seed, found.validation)
    return SubBoxes(
        grids=found.grids,
        labels=found.labels,
        sigma=found.sigma,
        train=train,
        validation=validation,
        cells=np.zeros(0, np.int64),
        features=np.zeros((0, 0), np.float32),
        feature_names=(),
        log_stellar_mass=np.zeros(0, np.float32),
        counted=OVER_CELLS,
        provenance=found.provenance,
    )


def _split(boxes: int, seed: int, last: Optional[int] = None) -> Tuple[np.ndarray, np.ndarray]:
    """Return which sub-boxes are trained on and which are not: the ``last`` ones are not, else a random fifth."""
    if last:
        return np.arange(boxes - last), np.arange(boxes - last, boxes)
    order = np.random.default_rng(seed).permutation(boxes)
    train = round(TRAINED_ON * boxes)
    return np.sort(order[:train]), np.sort(order[train:])
