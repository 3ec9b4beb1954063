"""Calibrations: the parameters of the models that no data sheet tells, fitted or assumed, each with its range."""

from __future__ import annotations

from siderostat.devices.sim import spec
from siderostat.devices.sim.spec import Key, Spec, SpecError

KEYS = {
    "bsp-sram": {
        "superstep_cycles": Key("cycles of one superstep beside its work: exchange set-up, waiting, load imbalance"),
        "multiply_factor": Key("multiplication beside the plan's cycles", least=0.01),
        "block_cycles": Key("cycles to load one block of weights and start the workers"),
        "exchange_factor": Key("exchange beside the plan's cycles", least=0.01),
        "rearrange_cycles_per_byte": Key("cycles per byte to lay an operand out anew"),
        "vector_factor": Key("element-wise work beside the model's cycles", least=0.01),
        "model_factor": Key("all that the chip does: what the model leaves out", least=0.01),
        "temporary_share": Key("share of a tile's memory that the operands of one product may take", least=0.01),
        "code_bytes": Key("code and state of the run time in each tile, bytes"),
        "code_product_bytes": Key("code of one distinct convolution or matrix product in each tile, bytes"),
        "code_other_bytes": Key("code of one superstep of another distinct operation in each tile, bytes"),
        "imbalance": Key("memory of the fullest tile over that of the mean tile", least=1),
        "live_factor": Key("live tensors beside the trace's", least=0.01),
    },
    "kernel-hbm": {
        "product_efficiency": Key("share of the peak that a large convolution or matrix product reaches", least=0.001),
        "bandwidth_efficiency": Key("share of the memory's bandwidth that a large kernel reaches", least=0.001),
        "model_factor": Key("all that the chip does: what the model leaves out", least=0.01),
        "page_factor": Key("memory that a process gets anew in a step, beside glibc's rules", is_required=False),
        "context_bytes": Key("memory that the framework takes before the first tensor, bytes"),
        "live_factor": Key("live tensors, rounded and fragmented, beside the trace's", least=0.01),
        "workspace_factor": Key("workspace of products beside their largest operands and result"),
    },
}


def load(name: str) -> Spec:
    """Read a calibration; those that come along are named after the kind of chip.

    Raises:
        SpecError: if there is none, or its file cannot be used.
    """
    return spec.read("calibration", name, KEYS)


def fitting(name: str, chip: Spec) -> Spec:
    """Read the calibration to use with a chip; an empty name means the one that comes along.

    Raises:
        SpecError: if it is for another kind of chip.
    """
    found = load(name or chip.kind)
    if found.kind != chip.kind:
        raise SpecError(f"calibration {name} is for chips of the kind {found.kind}, and {chip.name} is {chip.kind}")
    return found
