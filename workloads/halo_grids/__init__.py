"""Halos, their grids and stellar mass functions: what the halo network learns from, and a workload of its own."""

from __future__ import annotations

from typing import ClassVar, Dict, Mapping, Sequence, Tuple

import numpy as np

from siderostat.workloads.base import BadInput, Feed, Option, Phase, Size, Spec, Step, Workload, WrongResult, checked
from siderostat.workloads.halo_grids import data, grids, halos, smf
from siderostat.workloads.halo_grids.halos import Catalogue

CATALOGUES = 4  # come round in turn
CELL_MPC_H = 1.0
ROUNDING = 1e-5  # relative difference of float32 means that are summed in another order


class HaloGrids(Workload):
    """A box of halos, cut into sub-boxes: grids of peak velocity, and the stellar mass function of each.

    The batch is the number of sub-boxes in the box, n^3 for a side of 25 n Mpc/h. Boxes smaller than 250 Mpc/h lack the
    longest waves of the density.
    """

    name = "halo-grids"
    title = "Making of halo grids and their stellar mass functions"
    item = "sub-box"
    modes = ("make", "grid")
    frameworks = ("numpy",)
    variants: ClassVar[Mapping[str, Mapping[str, Size]]] = {
        "fast": {"25-mpc": Size(0, 0)},
        "naive": {"25-mpc": Size(0, 0)},
    }
    batches = (8, 64)
    options: ClassVar[Mapping[str, Option]] = {
        name: data.OPTIONS[name] for name in ("halo_seed", "vpeak_min", "counted")
    }
    reference = "Nadler & To, Efficient Neural Network Implementation of the UniverseMachine"

    def needs(self, spec: Spec) -> Tuple[str, ...]:
        """Return nothing: the host does all of it."""
        return ()

    def parts(self, spec: Spec) -> int:
        """Return how many catalogues are made beforehand: none where making them is what is timed."""
        return CATALOGUES if spec.mode == "grid" else 0

    def make_part(self, spec: Spec, part: int) -> None:
        """Make one of the catalogues; return at once where it is there."""
        _catalogue(spec, part)

    def build(self, spec: Spec) -> Step:
        """Set the maker up, or load the catalogues."""
        _made(spec, 0)  # refuses what cannot be before anything runs
        ready = [_catalogue(spec, number) for number in range(CATALOGUES)] if spec.mode == "grid" else []

        def step(number: np.ndarray) -> Tuple[np.ndarray, ...]:
            """Return grids, labels and halos per sub-box, and which catalogue they are of."""
            which = int(number[0])
            found = ready[which] if ready else _new(spec, which)
            made = gridded(spec.variant, found, str(data.option(spec, "counted")))
            return made.grids, made.labels, made.halos, number

        return Step(spec.framework, (Phase(step, Feed([np.arange(CATALOGUES)], 1, spec.seed)),), spec.batch)

    def check(self, spec: Spec, outputs: Sequence[np.ndarray]) -> Dict[str, float]:
        """Return halos per sub-box, the share of occupied cells, and galaxies or cells in the bins per sub-box.

        Raises:
            WrongResult: if shapes are wrong, a value is not finite, a halo is lost, or grids or labels are not those
                of the plain way.
        """
        boxes = spec.batch
        shapes = {
            "grids": (boxes, *(grids.SIDE,) * 3), "labels": (boxes, smf.BINS), "halo counts": (boxes,), "number": (1,),
        }  # fmt: skip
        velocity, labels, counts, number = checked(outputs, shapes)
        found = _catalogue(spec, int(number[0]))
        if counts.sum() != len(found):
            raise WrongResult(f"{int(counts.sum())} halos are in the sub-boxes and {len(found)} in the catalogue")
        plain = gridded("naive", found, str(data.option(spec, "counted")))
        _check_same("halo counts", counts, plain.halos, 0.0)
        _check_same("grids", velocity, plain.grids, ROUNDING)
        _check_same("labels", labels, plain.labels, ROUNDING)
        return {
            "halos_per_box": float(counts.mean()),
            "occupied_share": float((velocity > 0).mean()),
            "counted_per_box": float(labels.sum(1).mean() * grids.CELLS),
        }


def gridded(variant: str, found: Catalogue, counted: str) -> grids.Gridded:
    """Grid and label a whole catalogue by one of the two ways."""
    per_side = round(found.box_mpc_h / grids.SIDE)
    if variant == "naive":
        return grids.naive(found.position, found.peak_velocity, found.log_stellar_mass, per_side, counted)
    cells = grids.cell_numbers(found.position, per_side)
    return grids.fast(cells, found.peak_velocity, found.log_stellar_mass, per_side**3, counted)


def _made(spec: Spec, number: int) -> Tuple[int, float, int, float]:
    """Return what a catalogue is made from: seed, side in Mpc/h, mesh and least peak velocity."""
    from siderostat.workloads.halo_grids import catalogue

    per_side = round(spec.batch ** (1 / 3))
    if per_side**3 != spec.batch:
        raise BadInput(f"a batch of {spec.batch} sub-boxes fills no cube: use 1, 8, 27, 64, ... 1000")
    if data.option(spec, "counted") not in grids.COUNTED:
        raise BadInput(f"counted must be one of {', '.join(grids.COUNTED)}, not {data.option(spec, 'counted')!r}")
    side = float(per_side * grids.SIDE)
    step = catalogue.MESH_STEP
    mesh = max(int(-(-side // (step * CELL_MPC_H))) * step, 2 * step)
    arguments = (data.halo_seed(spec) + number, side, mesh, data.vpeak_min(spec))
    catalogue.check(*arguments)
    return arguments


def _catalogue(spec: Spec, number: int) -> Catalogue:
    """Return a catalogue, from the cache where it is there."""
    from siderostat.workloads.halo_grids import catalogue

    return catalogue.catalogue(*_made(spec, number))


def _new(spec: Spec, number: int) -> Catalogue:
    """Return a catalogue made on the spot."""
    return halos.make(*_made(spec, number))


def _check_same(what: str, found: np.ndarray, plain: np.ndarray, rounding: float) -> None:
    wrong = np.abs(found - plain) > rounding * np.abs(plain)
    if wrong.any():
        place = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise WrongResult(
            f"the {what} differ from those of the plain way in {np.count_nonzero(wrong)} of {wrong.size} values, first "
            f"at {place}: {found[place]:.6g} instead of {plain[place]:.6g}"
        )
