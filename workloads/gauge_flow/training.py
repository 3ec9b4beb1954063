"""Training of a flow by the reverse Kullback-Leibler divergence, and draws from what it has learned."""

from __future__ import annotations

import copy
import math
from typing import Callable, List, NamedTuple, Optional, Tuple

import numpy as np
import torch
from torch import Tensor, nn

from siderostat.workloads.gauge_flow.coupling import Flow
from siderostat.workloads.gauge_flow.group import PLANES
from siderostat.workloads.gauge_flow.lattice import Extents
from siderostat.workloads.gauge_flow.torch import FlowTraining, haar_fields

LARGEST_GRADIENT = 5.0  # times the square root of the number of sites: a longer one is made as long as that
LAST_RATE = 0.05  # share of the learning rate that is left at the end


class Draws(NamedTuple):
    """Independent draws from a flow.

    Attributes:
        log_weights: ln w = -S(f(U)) + ln det f, float64 of shape (count,). The mean of w is Z = <exp(-S)> in the Haar
            measure.
        plaquettes: mean of Re tr P / 3 over each field f(U), float64 of shape (count,).
    """

    log_weights: np.ndarray
    plaquettes: np.ndarray


class FlowSampling(nn.Module):
    """Draws fields from the Haar measure on the device, takes them through a flow, and measures them.

    Args:
        flow: as it is.
        extents: of the lattice.
        beta: of the Wilson action that log-weights are of.
    """

    def __init__(self, flow: Flow, extents: Extents, beta: float) -> None:
        super().__init__()
        self.flow = flow
        self.extents = extents
        self.beta = beta

    def forward(self, numbers: Tensor) -> Tuple[Tensor, Tensor]:
        """Return log-weights and mean plaquettes as :class:`Draws` has them, each (batch,).

        Args:
            numbers: (batch,), only to say how many fields to draw and in which precision.
        """
        moved, log_determinant = self.flow(haar_fields(numbers, self.extents))
        total = -self.flow.action(moved, 1.0)
        return log_determinant + self.beta * total, total / (len(PLANES) * math.prod(self.extents))


def train(
    flow: Flow,
    extents: Extents,
    beta: float,
    steps: int,
    batch: int,
    rate: float,
    seed: int,
    say: Optional[Callable[[int, float], None]] = None,
) -> List[float]:
    """Train a flow in place, in its own precision, and return the loss of each step, -<ln w>, which is at least -ln Z.

    It learns by the step that mode ``train`` times (Adam), but for a gradient that is clipped and a learning rate that
    falls along half a cosine: late gradients are nearly all noise.

    Args:
        flow: as ``make_flow`` returns it, with weights drawn.
        extents: of the lattice.
        beta: of the Wilson action.
        steps: updates.
        batch: fields drawn for each.
        rate: Adam's at the start.
        seed: of the fields drawn; nothing else is random.
        say: called with the number of steps done and the loss of the last one.
    """
    training = FlowTraining(flow, extents, beta)
    some = next(flow.parameters())
    numbers = torch.zeros(batch, dtype=some.dtype, device=some.device)
    optimizer = torch.optim.Adam(flow.parameters(), lr=rate)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, eta_min=LAST_RATE * rate)
    largest = LARGEST_GRADIENT * math.sqrt(math.prod(extents))
    losses: List[float] = []
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for done in range(1, steps + 1):
            optimizer.zero_grad(set_to_none=True)
            loss = training(numbers)[-1]
            loss.backward()
            length = nn.utils.clip_grad_norm_(flow.parameters(), largest)
            if torch.isfinite(length):  # eigenvalues may meet, and single precision then loses the slope
                optimizer.step()
            falling.step()
            losses.append(float(loss.detach()))
            if say is not None:
                say(done, losses[-1])
    return losses


def draw(
    flow: Flow, extents: Extents, beta: float, count: int, batch: int, seed: int, dtype: torch.dtype = torch.float64
) -> Draws:
    """Draw fields from a flow, some at a time, and keep what is measured.

    Args:
        flow: which stays as it is; a copy draws.
        extents: of the lattice.
        beta: of the Wilson action that log-weights are of.
        count: of fields.
        batch: of fields at a time, which bounds the memory. Draws depend on it.
        seed: of the fields.
        dtype: precision in which fields are drawn and moved.
    """
    device = next(flow.parameters()).device
    sampling = FlowSampling(copy.deepcopy(flow).to(dtype), extents, beta)
    found: List[Tuple[Tensor, Tensor]] = []
    with torch.inference_mode(), torch.random.fork_rng():
        torch.manual_seed(seed)
        for start in range(0, count, batch):
            found.append(sampling(torch.zeros(min(batch, count - start), dtype=dtype, device=device)))
    log_weights, plaquettes = (torch.cat(parts).double().cpu().numpy() for parts in zip(*found))
    return Draws(log_weights, plaquettes)
