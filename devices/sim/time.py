"""Time of a step: the chip's own, the framework's, that of the link between chips, and that of the host's inputs.

Three clocks are never mixed. What stands here is of the model's clock throughout: where the host's inputs are counted
in, it is a published rate that they are counted by. What the host of this machine takes is measured apart, and the run
on the CPU that yields the outputs counts nowhere.
"""

from __future__ import annotations

from typing import Any, Dict, Optional

from siderostat.devices.sim import bsp, kernels
from siderostat.devices.sim.bands import Draws
from siderostat.devices.sim.liveness import fuse
from siderostat.devices.sim.opgraph import OpGraph
from siderostat.devices.sim.spec import Spec, SpecError

ON_CHIP = ("compute", "exchange", "sync")
"""Parts in which the chip is busy."""


def itemsize(precision: str) -> int:
    """Return the bytes of one number in a precision."""
    return 2 if precision in ("fp16", "bf16") else 4


def parts(
    graph: OpGraph,
    chip: Spec,
    framework: Spec,
    calibration: Spec,
    precision: str,
    draws: Draws,
    chip_count: int = 1,
    with_host: bool = False,
    launches: Optional[float] = None,
) -> Dict[str, Any]:
    """Return the seconds of a step by part, numbers or arrays of draws.

    Args:
        graph: what one chip does in a step.
        chip: what does it.
        framework: what drives the chip.
        calibration: parameters of the model.
        precision: of the computation.
        draws: of the parameters.
        chip_count: chips that hold the same weights and each do a part of the batch.
        with_host: whether the host's inputs are counted in, one chip after the other.
        launches: kernels that the host launches, where that is known otherwise than from the trace.

    Raises:
        SpecError: if a figure that is needed is missing.
    """
    if chip.kind == "bsp-sram":
        on = bsp.tiles(chip, calibration, itemsize(precision))
        found = bsp.seconds(bsp.work(fuse(graph), on), chip, calibration, draws)
    else:
        found = kernels.seconds(graph, chip, calibration, framework, precision, draws, launches)
    found["framework"] = draws.of(framework, "step_s") + draws.get(framework, "call_s", 0.0) / (
        framework.get("steps_per_call") or 1.0
    )
    found["all_reduce"] = _all_reduce(graph, chip, chip_count, precision, draws)
    found["host"] = host(graph, framework, draws) * chip_count if with_host else 0.0
    return found


def host(graph: OpGraph, framework: Spec, draws: Draws) -> Any:
    """Return the seconds in which the host prepares one step's inputs by the framework's published rate.

    Raises:
        SpecError: if the framework's file does not tell it.
    """
    if framework.get("input_bytes_per_s") is None:
        raise SpecError(f"framework {framework.name} tells no input_bytes_per_s; use host=ideal")
    return graph.input_bytes / draws.of(framework, "input_bytes_per_s")


def trained_bytes(graph: OpGraph) -> int:
    """Return the bytes of all gradients that updates take."""
    return sum(max((t.nbytes for t in op.outputs), default=0) for op in graph.ops if op.kind == "optimizer")


def _all_reduce(graph: OpGraph, chip: Spec, chip_count: int, precision: str, draws: Draws) -> Any:
    """Return the time to sum gradients over a ring of chips: 2 (n - 1) messages, of 1/n of the bytes each."""
    size = trained_bytes(graph) * itemsize(precision) / 4
    if chip_count == 1 or size == 0:
        return 0.0
    if chip.get("link_bytes_per_s") is None:
        raise SpecError(f"chip {chip.name} tells no link_bytes_per_s, which {chip_count} chips need")
    messages = 2 * (chip_count - 1)
    return messages * (size / chip_count / draws.of(chip, "link_bytes_per_s") + draws.get(chip, "link_s", 0.0))
