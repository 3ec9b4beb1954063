"""What the steps of adaptation are made of: models with a loss, what they are called with, and who trains them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterable, Tuple

import torch
from torch import nn

WEIGHT_DECAY = 5e-5

SOURCE = "source images"
LABELS = "source labels"
TARGET = "target images"
PSEUDO = "pseudo labels of the target"
AIMS = "domain that target features are to be taken for"

OptimizerMaker = Callable[[Any], torch.optim.Optimizer]
"""Parameters of a model -> the optimiser that trains some or all of them."""


@dataclass(frozen=True)
class Part:
    """One phase of a step, without its batches.

    Attributes:
        model: returns its loss last.
        takes: what it is called with: of :data:`SOURCE`, :data:`LABELS`, :data:`TARGET`, :data:`PSEUDO`, :data:`AIMS`.
        optimizer: makes what trains it.
    """

    model: nn.Module
    takes: Tuple[str, ...]
    optimizer: OptimizerMaker


def adam(*trained: Tuple[nn.Module, float]) -> OptimizerMaker:
    """Return what makes Adam with a weight decay of 5e-5 for some modules of a model; others are left as they are.

    Args:
        trained: modules and their learning rates. Parameters that take no gradient are left out.
    """

    def make(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        held = [p for p in parameters if p.requires_grad]
        groups = []
        for module, rate in trained:
            wanted = {id(p) for p in module.parameters()}
            groups.append({"params": [p for p in held if id(p) in wanted], "lr": rate})
        return torch.optim.Adam(groups, weight_decay=WEIGHT_DECAY)

    return make


def one_for_all(make: OptimizerMaker) -> OptimizerMaker:
    """Return what makes one optimiser, with one set of moments, for all phases that hold the same parameters."""
    made: Dict[Tuple[int, ...], torch.optim.Optimizer] = {}

    def shared(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        held = list(parameters)
        key = tuple(map(id, held))
        if key not in made:
            made[key] = make(held)  # holds the parameters, so that no id is used again
        return made[key]

    return shared


def one_cycle(make: OptimizerMaker, peak: float, steps: int) -> OptimizerMaker:
    """Return what makes an optimiser whose learning rate runs through one cycle, and stays where the cycle ends.

    Smith and Topin (2018), as torch has it: up from ``peak / 25`` in 30 % of the steps, down to a 10,000th of that.

    Args:
        make: makes the optimiser.
        peak: largest learning rate.
        steps: length of the cycle.
    """

    def cycling(parameters: Any) -> torch.optim.Optimizer:
        optimizer = make(parameters)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak, total_steps=steps)
        done = itertools.count(1)

        def advance(*_: Any) -> None:
            if next(done) < steps:
                schedule.step()

        optimizer.register_step_post_hook(advance)
        return optimizer

    return cycling
