"""Learned against fixed active loops: trainings that differ in nothing else."""

from __future__ import annotations

import functools
import time
from dataclasses import asdict
from typing import Any

from siderostat.reproduce.abbott2024 import flows
from siderostat.reproduce.abbott2024.scales import Scale
from siderostat.reproduce.parts import Part
from siderostat.reproduce.threads import one_thread
from siderostat.workloads.gauge_flow import training
from siderostat.workloads.gauge_flow.parameters import FIXED, LEARNED

SHORTER = "shorter"
KINDS = (FIXED, LEARNED, SHORTER)
"""Of flows: fixed loops, learned loops, and learned loops trained about as long as the fixed ones by the clock."""

TITLES = {FIXED: "fixed loops", LEARNED: "learned loops", SHORTER: "learned loops, fewer updates"}
_AT_ONCE = 32  # fields drawn


def plan(scale: Scale, seed: int) -> list[Part]:
    """Return three trainings from one seed."""
    return [_part(scale, kind, seed) for kind in KINDS]


def _part(scale: Scale, kind: str, seed: int) -> Part:
    steps = scale.shorter if kind == SHORTER else scale.loops.steps
    settings = {
        "extents": scale.extents,
        "beta": scale.beta,
        "loops": FIXED if kind == FIXED else LEARNED,
        **asdict(scale.loops),
        "steps": steps,
        "draws": scale.draws,
        "seed": seed,
    }
    cpu_s = scale.fixed_s if kind == FIXED else scale.learned_s * steps / scale.loops.steps
    title = f"training with {TITLES[kind]}, seed {seed}"
    return Part(f"{kind}-{seed}", title, settings, functools.partial(trained, settings), cpu_s)


def trained(settings: dict[str, Any]) -> dict[str, Any]:
    """Train a flow from the Haar measure to the Wilson action, and draw from it.

    Returns:
        ``losses`` of the steps, ``log_weights`` and ``plaquettes`` of the draws, in double precision, the
        ``formulation``, the number of ``parameters``, and the processor time of ``training_s`` and ``draw_s``.
    """
    extents, beta = tuple(settings["extents"]), settings["beta"]
    with one_thread():
        flow = flows.identity(settings)
        started = time.process_time()
        losses = training.train(
            flow, extents, beta, settings["steps"], settings["batch"], settings["rate"], settings["seed"]
        )
        trained_at = time.process_time()
        draws = training.draw(flow, extents, beta, settings["draws"], _AT_ONCE, settings["seed"] + 1_000_000)
        drawn_at = time.process_time()
    return {
        "losses": losses,
        "log_weights": draws.log_weights.tolist(),
        "plaquettes": draws.plaquettes.tolist(),
        "formulation": flows.formulation(),
        "parameters": sum(p.numel() for p in flow.parameters()),
        "training_s": trained_at - started,
        "draw_s": drawn_at - trained_at,
    }
