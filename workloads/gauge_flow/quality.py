"""How a flow is judged: by log-weights of fields drawn from it, and by the mean plaquette they are to reproduce."""

from __future__ import annotations

import functools
import math
from typing import Dict, Sequence

import numpy as np

from siderostat.workloads.base import Exam, Findings, WrongResult
from siderostat.workloads.gauge_flow import ensemble, table
from siderostat.workloads.gauge_flow.coupling import Flow
from siderostat.workloads.gauge_flow.group import PLANES
from siderostat.workloads.gauge_flow.lattice import Extents
from siderostat.workloads.gauge_flow.training import FlowSampling

EXAMINED = 3072  # fields, of a finished flow
GLANCED_AT = 256  # of one that is being trained
AT_ONCE = 32
SHOWN = 512  # pairs
SIGMAS = 5.0
SEED = 0  # of the Metropolis chain


def exam(flow: Flow, extents: Extents, beta: float, is_finished: bool) -> Exam:
    """Return how draws from a flow are judged.

    Args:
        flow: whose weights count as they are then.
        extents: of the lattice.
        beta: of the Wilson action.
        is_finished: whether it has been trained, so that its weights must give the right ln Z and plaquette.
    """
    numbers = np.arange(AT_ONCE, dtype=np.float32)
    calls = (EXAMINED if is_finished else GLANCED_AT) // AT_ONCE
    judged = functools.partial(judge, extents, beta, is_finished)
    return Exam(FlowSampling(flow, extents, beta), [(numbers,)] * calls, judged)


def judge(extents: Extents, beta: float, is_finished: bool, outputs: Sequence[Sequence[np.ndarray]]) -> Findings:
    """Return figures of draws, and how far they are from what other programs know, in standard errors.

    Pairs are the log-densities of the first fields: -S - ln Z, with the ln Z that was found, and the flow's own.

    Raises:
        WrongResult: if a finished flow gives an ln Z or a plaquette that cannot be.
    """
    log_weights, plaquettes = (np.concatenate([call[i] for call in outputs]).astype(np.float64) for i in (0, 1))
    figures = ensemble.judge(log_weights, plaquettes, SEED)
    sigmas = _sigmas(extents, beta, figures)
    if is_finished:
        for name, value in sigmas.items():
            if abs(value) > SIGMAS:
                raise WrongResult(
                    f"{name[: -len('_sigmas')]} is {abs(value):.1f} standard errors off, more than {SIGMAS:g}: the "
                    f"flow was not trained for beta = {beta:g}, or its log-determinants are wrong"
                )
    figures = {**figures, **sigmas}
    minus_action = beta * len(PLANES) * math.prod(extents) * plaquettes
    pair = minus_action - figures["ln_z"], minus_action - log_weights
    return Findings(figures, {"log-density": (pair[0][:SHOWN].tolist(), pair[1][:SHOWN].tolist())})


def _sigmas(extents: Extents, beta: float, figures: Dict[str, float]) -> Dict[str, float]:
    """Return distances from ln Z and from the plaquette of the heat bath, each where it is known."""
    found = {}
    if abs(beta) <= ensemble.STRONG:
        known = ensemble.strong_coupling_log_partition(math.prod(extents), beta)
        found["ln_z_sigmas"] = ensemble.Estimate(figures["ln_z"], figures["ln_z_error"]).sigmas_from(known)
    plaquette = table.plaquettes().get((f"{extents[0]}^4", beta)) if len(set(extents)) == 1 else None
    if plaquette is not None:
        estimate = ensemble.Estimate(figures["plaquette"], figures["plaquette_error"])
        found["plaquette_sigmas"] = estimate.sigmas_from(plaquette.mean, plaquette.error)
    return found
