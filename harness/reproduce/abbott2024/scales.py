"""How much of the paper is computed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Training:
    """How a flow is made.

    Attributes:
        layers: parity updates.
        channels: of the staple networks between their levels.
        hidden: such levels.
        gain: of their weights around those that make the fixed loop.
        context: channels of the context networks.
        bins: of the splines.
        steps: updates by Adam.
        batch: fields in each.
        rate: Adam's at the start.
    """

    layers: int
    channels: int
    hidden: int
    gain: float
    context: int
    bins: int
    steps: int
    batch: int
    rate: float


@dataclass(frozen=True)
class Scale:
    """A scale.

    Attributes:
        extents: of the lattice.
        beta: of the flows that start from the Haar measure, and where the derivative is taken.
        loops: how these flows are trained.
        shorter: updates of a training with learned loops that costs about what that with fixed ones does.
        draws: fields drawn from each such flow when it is trained.
        transport: how the flows between two couplings are trained.
        gap: between the two couplings.
        training_chains: of the heat bath, from which such a flow learns.
        chains: of the heat bath, from which the derivative is taken, at each coupling.
        configurations: kept of each chain.
        apart: updates between two of them.
        discarded: updates before the first.
        learned_s: processor time of a training with learned loops, estimated; with the next two.
        fixed_s: likewise with fixed loops.
        transport_s: of a flow between two couplings and all that is measured with it.
    """

    extents: tuple[int, ...]
    beta: float
    loops: Training
    shorter: int
    draws: int
    transport: Training
    gap: float
    training_chains: int
    chains: int
    configurations: int
    apart: int
    discarded: int
    learned_s: float
    fixed_s: float
    transport_s: float


SCALES = {
    "small": Scale(
        extents=(4, 4, 4, 4), beta=2.0,
        loops=Training(layers=24, channels=4, hidden=1, gain=0.1, context=8, bins=6, steps=100, batch=8, rate=5e-3),
        shorter=33, draws=1024,
        transport=Training(layers=8, channels=4, hidden=1, gain=0.1, context=8, bins=6, steps=120, batch=8, rate=5e-3),
        gap=0.2, training_chains=32, chains=64, configurations=10, apart=2, discarded=15,
        learned_s=390.0, fixed_s=160.0, transport_s=200.0,
    ),
    "tiny": Scale(
        extents=(4, 4, 4, 4), beta=2.0,
        loops=Training(layers=8, channels=2, hidden=1, gain=0.1, context=4, bins=4, steps=3, batch=2, rate=5e-3),
        shorter=2, draws=32,
        transport=Training(layers=8, channels=2, hidden=1, gain=0.1, context=4, bins=4, steps=3, batch=2, rate=5e-3),
        gap=0.2, training_chains=4, chains=16, configurations=2, apart=1, discarded=4,
        learned_s=4.0, fixed_s=2.0, transport_s=6.0,
    ),
}  # fmt: skip
"""``tiny`` shows in a minute that everything runs; none of its figures says anything about the paper."""
