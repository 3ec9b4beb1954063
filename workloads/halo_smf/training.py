"""Whole trainings of the network as published: epoch after epoch, each judged on the validation boxes."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, Callable, List, Sequence, Tuple

import numpy as np
import torch
from torch import nn

from siderostat.workloads.halo_grids.data import SubBoxes
from siderostat.workloads.halo_smf.network import SmfNetwork, TrainingNetwork
from siderostat.workloads.halo_smf.quality import chi2

Plan = Sequence[Tuple[float, int]]
"""Learning rates, and how many epochs each is kept."""

LEARNING_RATES = (1e-1, 1e-3)
PLAN: Plan = ((LEARNING_RATES[0], 10), (LEARNING_RATES[1], 5))
"""As published."""

BATCH = 32
_AT_ONCE = 50  # sub-boxes in a call where nothing is learned


@dataclass(frozen=True)
class Epoch:
    """What is known after an epoch.

    Attributes:
        learning_rate: in it.
        loss: mean chi^2 of its batches, as they came, dropout and all.
        chi2: on the validation boxes.
    """

    learning_rate: float
    loss: float
    chi2: float


@dataclass(frozen=True)
class Training:
    """A trained network, in inference, and how it came about."""

    network: SmfNetwork
    epochs: Sequence[Epoch]

    @property
    def chi2(self) -> float:
        """On the validation boxes, after the last epoch."""
        return self.epochs[-1].chi2


def train(
    boxes: SubBoxes,
    channels: int,
    plan: Plan = PLAN,
    seed: int = 0,
    say: Callable[[str], None] = lambda text: None,
    batch: int = BATCH,
) -> Training:
    """Train a network by Adam.

    Args:
        boxes: trained on ``boxes.train``, judged on ``boxes.validation``.
        channels: of the first stage.
        plan: learning rates and epochs.
        seed: of weights, order and dropout.
        say: is given a line after each epoch.
        batch: sub-boxes in a step; those that do not fill one at the end of an epoch are left out. Fewer boxes than
            that make one step.

    Raises:
        ValueError: if there are fewer than two boxes to train on, or none to judge on: nothing can be normalised.
    """
    if len(boxes.train) < 2 or not len(boxes.validation):
        raise ValueError("a training needs two sub-boxes or more, and one or more to judge on")
    torch.manual_seed(seed)
    order = np.random.default_rng(seed)
    model = TrainingNetwork(SmfNetwork(channels, boxes.sigma), boxes.sigma)
    rates = [rate for rate, epochs in plan for _ in range(epochs)]
    optimizer = torch.optim.Adam(model.parameters(), lr=rates[0])
    done: List[Epoch] = []
    for number, rate in enumerate(rates, 1):
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = _epoch(model, optimizer, boxes, order.permutation(boxes.train), min(batch, len(boxes.train)))
        predicted = predict(model.network, boxes.grids[boxes.validation])
        done.append(Epoch(rate, loss, chi2(predicted, boxes.labels[boxes.validation], boxes.sigma)))
        say(f"epoch {number} of {len(rates)}: loss {loss:.1f}, chi2 {done[-1].chi2:.1f}")
    return Training(model.network.eval(), done)


def predict(network: SmfNetwork, grids: np.ndarray) -> np.ndarray:
    """Return stellar mass functions, (boxes, 14); the network is left in the mode it was in.

    Args:
        network: in training or not.
        grids: (boxes, 25, 25, 25), km/s.
    """
    was = network.training
    network.eval()
    try:
        with torch.inference_mode():
            starts = range(0, len(grids), _AT_ONCE)
            found = [network(torch.from_numpy(grids[start : start + _AT_ONCE])).numpy() for start in starts]
    finally:
        network.train(was)
    return np.concatenate(found)


def adam(fall: int) -> Callable[[Any], torch.optim.Optimizer]:
    """Return what makes Adam for given parameters.

    Args:
        fall: steps after which the learning rate goes from 1e-1 to 1e-3; 0: never.
    """

    def make(parameters: Any) -> torch.optim.Optimizer:
        optimizer = torch.optim.Adam(parameters, lr=LEARNING_RATES[0])
        done = itertools.count()

        def lower(*_: Any) -> None:
            if next(done) == fall:
                for group in optimizer.param_groups:
                    group["lr"] = LEARNING_RATES[1]

        if fall:
            optimizer.register_step_pre_hook(lower)
        return optimizer

    return make


def _epoch(model: nn.Module, optimizer: torch.optim.Optimizer, boxes: SubBoxes, order: np.ndarray, batch: int) -> float:
    """Train on each full batch once and return the mean of their losses."""
    model.train()
    losses = []
    for start in range(0, len(order) - batch + 1, batch):
        chosen = order[start : start + batch]
        optimizer.zero_grad(set_to_none=True)
        _, loss = model(torch.from_numpy(boxes.grids[chosen]), torch.from_numpy(boxes.labels[chosen]))
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return float(np.mean(losses))
