"""Frameworks: what software adds to a chip's own time. It, not the chip, decides many published ratios."""

from __future__ import annotations

from typing import List

from siderostat.devices.sim import spec
from siderostat.devices.sim.spec import Key, Spec, SpecError

_ALL = {
    "step_s": Key("time of one step in which the chip waits for the framework, s"),
    "call_s": Key("time of one call of the program on the chip, s", is_required=False),
    "steps_per_call": Key("steps that the chip does in one call", is_required=False, least=1),
    "input_bytes_per_s": Key(
        "rate at which the host prepares inputs and hands them over, B/s", is_required=False, least=1
    ),
}
KEYS = {
    "bsp-sram": _ALL,
    "kernel-hbm": {
        **_ALL,
        "op_s": Key("time in which the host launches one operation, s; launching goes on while the chip computes"),
        "gap_s": Key("time on the chip between two kernels, s"),
        "ops_per_update": Key("operations that update one parameter tensor", is_required=False, least=0.01),
    },
}


def load(name: str) -> Spec:
    """Read a framework by its name or the path of its file.

    Raises:
        SpecError: if there is none, or its file cannot be used.
    """
    return spec.read("frameworks", name, KEYS)


def fitting(name: str, chip: Spec) -> Spec:
    """Read the framework that a chip is to be driven by.

    Raises:
        SpecError: if it is for another kind of chip.
    """
    framework = load(name)
    if framework.kind != chip.kind:
        others = [n for n in names() if load(n).kind == chip.kind]
        raise SpecError(
            f"framework {name} is for chips of the kind {framework.kind}, and {chip.name} is {chip.kind}; "
            f"there are {', '.join(others)}"
        )
    return framework


def names() -> List[str]:
    """Return the frameworks that come along."""
    return spec.names("frameworks")
