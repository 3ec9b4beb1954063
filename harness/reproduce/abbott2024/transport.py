"""A flow that takes a heat bath's fields from one coupling to another, and what d<P>/d beta comes out as by it.

All fields come from heat baths. Those that the flow learns from are of other chains than those it is judged by.
"""

from __future__ import annotations

import functools
import itertools
import math
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from siderostat.reproduce.abbott2024 import flows
from siderostat.reproduce.abbott2024.scales import Scale
from siderostat.reproduce.parts import Part
from siderostat.reproduce.threads import one_thread
from siderostat.workloads.gauge_flow import group
from siderostat.workloads.gauge_flow.coupling import Flow
from siderostat.workloads.gauge_flow.heatbath import HeatBath
from siderostat.workloads.gauge_flow.parameters import LEARNED
from siderostat.workloads.gauge_flow.training import LARGEST_GRADIENT, LAST_RATE

NAME = "transport"
_SEEDS = 1000  # of heat baths: between those of one part and the next
_AT_ONCE = 32  # fields through the flow


def plan(scale: Scale, seed: int) -> list[Part]:
    """Return a flow's training from one seed, with everything that is measured with it."""
    settings = {
        "extents": scale.extents,
        "beta": scale.beta,
        "gap": scale.gap,
        "loops": LEARNED,
        **asdict(scale.transport),
        "training_chains": scale.training_chains,
        "chains": scale.chains,
        "configurations": scale.configurations,
        "apart": scale.apart,
        "discarded": scale.discarded,
        "seed": seed,
    }
    title = f"flow from beta {scale.beta} to {scale.beta + scale.gap:g}, seed {seed}"
    return [Part(f"{NAME}-{seed}", title, settings, functools.partial(made, settings), scale.transport_s)]


def made(settings: dict[str, Any]) -> dict[str, Any]:
    """Train a flow between two couplings and measure the plaquette before and behind it.

    Returns:
        Of each chain and configuration ``first``, the plaquette at beta, ``moved``, behind the flow, ``log_weights``,
        and ``second``, of another heat bath at beta + gap; ``losses`` of the steps; ``sites``; and processor times:
        ``training_s``, and for one configuration ``generation_s``, ``measurement_s`` and ``flow_s``.
    """
    beta, seed = settings["beta"], settings["seed"] * _SEEDS
    with one_thread():
        flow = flows.identity(settings)
        started = time.process_time()
        losses = train(flow, settings, seed)
        training_s = time.process_time() - started
        first = measured(settings, beta, seed + 1, flow)
        second = measured(settings, beta + settings["gap"], seed + 2, None)
    return {
        "first": first["plaquettes"],
        "moved": first["moved"],
        "log_weights": first["log_weights"],
        "second": second["plaquettes"],
        "losses": losses,
        "formulation": flows.formulation(),
        "sites": int(np.prod(settings["extents"])),
        "training_s": training_s,
        **{name: first[name] for name in ("generation_s", "measurement_s", "flow_s")},
    }


class Transport(nn.Module):
    """Log-weights of a flow from exp(-S_beta) / Z to exp(-S_(beta + gap)) / Z', up to ln(Z' / Z).

    Args:
        flow: from the one to the other.
        beta: of the fields that come in.
        gap: to the coupling that they are taken to.
    """

    def __init__(self, flow: Flow, beta: float, gap: float) -> None:
        super().__init__()
        self.flow = flow
        self.beta = beta
        self.gap = gap

    def forward(self, links: Tensor) -> tuple[Tensor, Tensor]:
        """Return ln w = -S'(f(U)) + ln det f + S(U), (batch,), and the mean plaquettes of f(U), (batch,).

        Args:
            links: real and imaginary parts, (batch, 4, L0, L1, L2, L3, 3, 3, 2).
        """
        moved, log_determinant = self.flow(links)
        before, behind = -self.flow.action(links, 1.0), -self.flow.action(moved, 1.0)
        log_weights = log_determinant + (self.beta + self.gap) * behind - self.beta * before
        return log_weights, behind / plaquettes_of(links.shape[2:6])


def plaquettes_of(extents: tuple[int, ...]) -> int:
    """Return how many plaquettes a lattice has."""
    return len(group.PLANES) * int(np.prod(extents))


def train(flow: Flow, settings: dict[str, Any], seed: int) -> list[float]:
    """Train a flow in place on fields of a heat bath at beta, by the divergence -<ln w>, and return it step by step.

    The learning rate falls along half a cosine. Each step takes the chains behind ``apart`` more updates, a batch of
    them in turn, so that no field is seen twice.
    """
    transport = Transport(flow, settings["beta"], settings["gap"])
    optimizer = torch.optim.Adam(flow.parameters(), lr=settings["rate"])
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimizer, settings["steps"], eta_min=LAST_RATE * settings["rate"]
    )
    largest = LARGEST_GRADIENT * math.sqrt(math.prod(settings["extents"]))
    losses = []
    for links in itertools.islice(_batches(settings, seed), settings["steps"]):
        optimizer.zero_grad(set_to_none=True)
        loss = -transport(links)[0].mean()
        loss.backward()
        if torch.isfinite(nn.utils.clip_grad_norm_(flow.parameters(), largest)):
            optimizer.step()
        falling.step()
        losses.append(float(loss.detach()))
    return losses


def _batches(settings: dict[str, Any], seed: int) -> Iterator[Tensor]:
    """Yield batches of fields without end, in single precision."""
    batch = settings["batch"]
    heat_bath = HeatBath(tuple(settings["extents"]), settings["beta"], settings["training_chains"], seed)
    heat_bath.run(settings["discarded"])
    while True:
        for start in range(0, settings["training_chains"], batch):
            yield as_pairs(heat_bath.links[start : start + batch]).float()
        heat_bath.run(settings["apart"])


def as_pairs(links: np.ndarray) -> Tensor:
    """Return complex fields as real and imaginary parts, (..., 3, 3, 2)."""
    return torch.view_as_real(torch.from_numpy(np.ascontiguousarray(links)))


def measured(settings: dict[str, Any], beta: float, seed: int, flow: Flow | None) -> dict[str, Any]:
    """Return plaquettes of a heat bath, and of its fields behind a flow, in double precision, with processor times."""
    heat_bath = HeatBath(tuple(settings["extents"]), beta, settings["chains"], seed)
    heat_bath.run(settings["discarded"])
    transport = None if flow is None else Transport(flow.double(), settings["beta"], settings["gap"])
    spent = dict.fromkeys(("generation_s", "measurement_s", "flow_s"), 0.0)
    columns: dict[str, list[np.ndarray]] = {"plaquettes": [], "moved": [], "log_weights": []}
    for _ in range(settings["configurations"]):
        clock = [time.process_time()]
        heat_bath.run(settings["apart"])
        clock.append(time.process_time())
        columns["plaquettes"].append(group.mean_plaquette(heat_bath.links))
        clock.append(time.process_time())
        if transport is not None:
            log_weights, moved = _through(transport, as_pairs(heat_bath.links))
            columns["log_weights"].append(log_weights)
            columns["moved"].append(moved)
        clock.append(time.process_time())
        for name, seconds in zip(spent, np.diff(clock), strict=True):
            spent[name] += float(seconds)
    count = settings["chains"] * settings["configurations"]
    return {
        **{name: np.stack(rows, 1).tolist() for name, rows in columns.items() if rows},
        **{name: seconds / count for name, seconds in spent.items()},
    }


def _through(transport: Transport, links: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return log-weights and plaquettes of fields behind a flow, some fields at a time."""
    with torch.inference_mode():
        found = [transport(some) for some in torch.split(links, _AT_ONCE)]
    log_weights, moved = (torch.cat(rows).numpy() for rows in zip(*found, strict=True))
    return log_weights, moved
