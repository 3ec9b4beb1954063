"""How long a plan will take, before anything has been measured: good to a factor of two or so, and says so."""

from __future__ import annotations

import os
from collections.abc import Mapping

from siderostat import workloads
from siderostat.record import CAPACITY, THROUGHPUT, Attempt, Cell
from siderostat.workloads.base import Spec

FLOPS_PER_CORE = 20e9  # sustained by small convolutions on one core of a server CPU; an assumption, printed as such
START_S: Mapping[str, float] = {"warm": 0.5, "cold": 6.0}
_WARMUP_BLOCKS = 12  # about what the two windows that must agree need


def step_seconds(cell: Cell) -> float | None:
    """Return the time of one step from the workload's operation count; None where it does not state one."""
    spec = Spec(cell.variant, cell.mode, cell.framework, cell.batch, cell.size, 0, dict(cell.options))
    flops = workloads.load(cell.workload).flops_per_item(spec)
    return None if flops is None else flops * cell.batch / (FLOPS_PER_CORE * (os.cpu_count() or 1))


def attempt_seconds(attempt: Attempt) -> float:
    """Return how long one process will take, inputs aside; steps of unknown length count as short."""
    protocol, cell = attempt.protocol, attempt.cell
    step_s = step_seconds(cell) or 0.0
    if cell.measure == CAPACITY:
        return START_S[attempt.start] + 3 * step_s
    if cell.measure != THROUGHPUT:
        goal = workloads.load(cell.workload).goal(cell.variant, cell.mode)
        return START_S[attempt.start] + (goal.budget / cell.batch * step_s if goal else 0.0)
    warmup = max(protocol.warmup_s, _WARMUP_BLOCKS * max(step_s, protocol.block_s))
    bursts = protocol.bursts * max(protocol.burst_s, protocol.burst_samples * step_s)
    return START_S[attempt.start] + warmup + bursts
