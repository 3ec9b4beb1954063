"""Flows as these trainings begin with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from siderostat.workloads.base import BadInput
from siderostat.workloads.gauge_flow import coupling, lattice, native, parameters
from siderostat.workloads.gauge_flow import torch as formulations
from siderostat.workloads.gauge_flow.coupling import Flow
from siderostat.workloads.gauge_flow.group import DIMENSIONS
from siderostat.workloads.gauge_flow.lattice import Parity


def identity(settings: Mapping[str, Any]) -> Flow:
    """Return a flow of parity updates that is the identity, its other weights drawn from the seed.

    Learned loops begin as the fixed ones with some noise, so that they have nothing to learn first that fixed loops are
    given.

    Args:
        settings: extents, loops, layers, channels, hidden, gain, context, bins and seed.
    """
    updates = lattice.stack(settings["layers"], lattice.PARITY)
    learned = [parameters.is_learned(update, settings["loops"]) for update in updates]
    width = parameters.Width(*(settings[name] for name in ("channels", "hidden", "context", "bins")))
    flow = formulations.make_flow(formulation(), tuple(settings["extents"]), updates, learned, width)
    rng = np.random.default_rng(settings["seed"])
    weights = [parameters.initial(is_learned, rng, 0.0, width, settings["gain"]) for is_learned in learned]
    for update, is_learned, of_layer in zip(updates, learned, weights, strict=True):
        if is_learned:
            assert isinstance(update, Parity)
            _begin_as_fixed_loop(of_layer, update, width)
    coupling.load_weights(flow, weights)
    return flow


def _begin_as_fixed_loop(weights: dict[str, np.ndarray], update: Parity, width: parameters.Width) -> None:
    """Have the last level take the upper staple of an update's plane instead of the link itself, which is masked.

    All levels before hand on each link as it is, see ``parameters.initial``.
    """
    last, inside = weights[f"mixing.{width.hidden}"], width.channels
    staple = (update.nu - update.mu) % DIMENSIONS  # 1 to 3, behind the link's own channels
    last[:, :inside] -= 1 / inside
    last[:, staple * inside : (staple + 1) * inside] += 1 / inside


def formulation() -> str:
    """Return the faster formulation on this machine: ``fused`` where its kernel can be compiled, else ``real``."""
    try:
        native.library()
    except BadInput:
        return "real"
    return "fused"
