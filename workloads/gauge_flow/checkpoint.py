"""The trained flow that comes with siderostat: weights of all layers, what stack they belong to, and how it was made.

``LAYER.NAME`` are weights named and shaped as in :mod:`parameters`. See :mod:`siderostat.workloads.checkpoint` for the
file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Sequence, Tuple

import numpy as np

from siderostat.workloads.base import BadInput
from siderostat.workloads.checkpoint import Checkpoints
from siderostat.workloads.gauge_flow import lattice, parameters

SHIPPED = Path(__file__).with_name("checkpoint.npz")
VERSION = 1
_REMEDY = "make one by python -m siderostat.workloads.gauge_flow.recipe"


class Stack(NamedTuple):
    """Which layers a flow has: what the options of the same names say."""

    masks: str
    loops: str
    layers: int

    def updates(self) -> List[lattice.Update]:
        """Return the updates of the layers, in order."""
        return lattice.stack(self.layers, self.masks)

    def learned(self) -> List[bool]:
        """Return of each layer whether its active loops are learned."""
        return [parameters.is_learned(update, self.loops) for update in self.updates()]


TRAINED = Stack(lattice.PARITY, parameters.FIXED, 24)
"""Of the flow that comes with siderostat: each link is changed three times."""


def save(path: Path, stack: Stack, weights: Sequence[Mapping[str, np.ndarray]], provenance: Mapping[str, Any]) -> None:
    """Write the weights of a trained flow, layer by layer.

    Raises:
        BadInput: if the file cannot be written.
    """
    named = {f"{i}.{name}": array for i, layer in enumerate(weights) for name, array in layer.items()}
    _checkpoints(stack).save(path, named, {"stack": stack._asdict(), **provenance})


def load(stack: Stack, path: str = "") -> Tuple[List[Dict[str, np.ndarray]], Dict[str, Any]]:
    """Return the weights of each layer, float32, from ``path`` or those that come with siderostat, and the provenance.

    Raises:
        BadInput: if they cannot be used, or belong to another stack.
    """
    place = Path(path) if path else SHIPPED
    named, _, provenance = _checkpoints(stack).load(place)
    found = provenance.get("stack")
    if found != stack._asdict():
        raise BadInput(
            f"the flow {place} has {_told(found)} and not {_told(stack._asdict())}; give its options by --set"
        )
    weights: List[Dict[str, np.ndarray]] = [{} for _ in range(stack.layers)]
    for name, array in named.items():
        layer, _, rest = name.partition(".")
        weights[int(layer)][rest] = array
    return weights, provenance


def _checkpoints(stack: Stack) -> Checkpoints:
    named = {
        f"{i}.{name}": shape
        for i, is_learned in enumerate(stack.learned())
        for name, shape in parameters.shapes(is_learned).items()
    }
    remedy = f"for {_told(stack._asdict())}, {_REMEDY}"
    return Checkpoints("checkpoint of gauge-flow", VERSION, remedy, named)


def _told(stack: Any) -> str:
    return " ".join(f"{name}={value}" for name, value in stack.items()) if isinstance(stack, dict) else repr(stack)
