"""The heat bath as a workload: what a flow has to compete with."""

from __future__ import annotations

from typing import Any, Callable, ClassVar, Dict, Mapping, Optional, Sequence, Tuple

import numpy as np

from siderostat.workloads.base import BadInput, Feed, Option, Phase, Size, Spec, Step, Workload, WrongResult, checked
from siderostat.workloads.gauge_flow import group, table
from siderostat.workloads.gauge_flow.group import COLOURS, DIMENSIONS
from siderostat.workloads.gauge_flow.heatbath import SUBGROUPS, HeatBath
from siderostat.workloads.gauge_flow.parameters import PRODUCT_FLOPS

LATTICES: Dict[str, Tuple[int, ...]] = {"4^4": (4, 4, 4, 4), "8^4": (8, 8, 8, 8)}

UNITARITY = 1e-10  # links are brought back to the group after each update
DEVIATIONS = 8.0
"""Standard deviations of one configuration by which the plaquette may be off the table: wide enough for what is left of
the random start after 20 updates where correlations are longest, beta = 5.6."""


class GaugeHeatBath(Workload):
    """Updates independent chains of gauge fields; their state carries on from step to step. In double precision."""

    name = "gauge-heatbath"
    title = "Heat bath of SU(3) gauge fields in four dimensions"
    item = "gauge configuration"
    modes = ("sample",)
    frameworks = ("numpy",)
    precisions = ("fp64",)
    variants: ClassVar[Mapping[str, Mapping[str, Size]]] = {"cabibbo-marinari": {name: Size(0, 0) for name in LATTICES}}
    batches = (1, 4, 16)
    options: ClassVar[Mapping[str, Option]] = {
        "beta": Option(5.6, "of the Wilson action S = -(beta / 3) sum Re tr P"),
        "over_relaxation": Option(1, "sweeps of over-relaxation after each heat-bath sweep"),
        "thermalisation": Option(20, "updates of all chains from a random start, before anything is timed"),
    }
    reference = "Cabibbo and Marinari (1982), A new method for updating SU(N) matrices; Kennedy and Pendleton (1985)"

    def flops_per_item(self, spec: Spec) -> Optional[float]:
        """Return operations per configuration, matrix products only: those of staples, and of links with them."""
        of_staples = 2 * (DIMENSIONS - 1) * 2 * PRODUCT_FLOPS
        of_subgroups = len(SUBGROUPS) * 4 * (3 * 6 + 2 * 2)  # four entries of the product, three terms each
        links = DIMENSIONS * int(np.prod(LATTICES[spec.size]))
        return float(links * (1 + int(_option(spec, "over_relaxation"))) * (of_staples + of_subgroups))

    def build(self, spec: Spec) -> Step:
        """Make chains, one for each item of a batch, and bring them near equilibrium.

        Raises:
            BadInput: if an option has no such value.
        """
        beta, over_relaxation, thermalisation = _options(spec)
        heat_bath = HeatBath(LATTICES[spec.size], beta, spec.batch, spec.seed, over_relaxation)
        heat_bath.run(thermalisation)
        # Numbers of the chains, since a step takes its inputs from somewhere: the fields are the heat bath's own state.
        feed = Feed((np.arange(spec.batch),), spec.batch, spec.seed)
        return Step(spec.framework, (Phase(_updating(heat_bath), feed),), spec.batch)

    def check(self, spec: Spec, outputs: Sequence[np.ndarray]) -> Dict[str, float]:
        """Return the mean plaquette, and the largest entry of U U^dagger - 1 and det U - 1, ``off_group``.

        Raises:
            WrongResult: if shapes are wrong, anything is not finite, links have left SU(3), or the plaquette is off the
                table; where it has no such lattice and beta, off what SU(3) allows, -1/2 to 1.
        """
        (links,) = checked(outputs, {"links": (spec.batch, DIMENSIONS, *LATTICES[spec.size], COLOURS, COLOURS)})
        figures = {
            "off_group": group.distance_from_group(links),
            "plaquette": float(group.mean_plaquette(links).mean()),
        }
        if figures["off_group"] > UNITARITY:
            raise WrongResult(f"links are {figures['off_group']:.2g} off SU(3), more than {UNITARITY}")
        low, high = plaquette_range(spec.size, float(_option(spec, "beta")))
        if not low <= figures["plaquette"] <= high:
            raise WrongResult(f"the mean plaquette is {figures['plaquette']:.4f}, not between {low:.4f} and {high:.4f}")
        return figures


def plaquette_range(lattice: str, beta: float) -> Tuple[float, float]:
    """Return between what the mean plaquette of configurations may lie, see :data:`DEVIATIONS`."""
    known = table.plaquettes().get((lattice, beta))
    if known is None:
        return -0.5, 1.0
    off = DEVIATIONS * table.deviations()[lattice, beta]
    return known.mean - off, known.mean + off


def _updating(heat_bath: HeatBath) -> Callable[[np.ndarray], np.ndarray]:
    def update(chains: np.ndarray) -> np.ndarray:
        """Return the fields after one more update of all chains."""
        heat_bath.run(1)
        return heat_bath.links.copy()  # the next update changes them in place

    return update


def _options(spec: Spec) -> Tuple[float, int, int]:
    """Return beta, sweeps of over-relaxation, and updates before the start."""
    beta = float(_option(spec, "beta"))
    if not (beta >= 0 and np.isfinite(beta)):
        raise BadInput(f"the option beta of gauge-heatbath is {beta}; give a number of at least 0")
    counts = {name: int(_option(spec, name)) for name in ("over_relaxation", "thermalisation")}
    for name, number in counts.items():
        if number < 0:
            raise BadInput(f"the option {name} of gauge-heatbath is {number}; give a whole number of at least 0")
    return beta, counts["over_relaxation"], counts["thermalisation"]


def _option(spec: Spec, name: str) -> Any:
    return spec.options.get(name, GaugeHeatBath.options[name].default)
