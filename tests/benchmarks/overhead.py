"""What the harness adds to a step of 5 ms: harness against a bare loop, taking turns, in one run.

The step spins until 5 ms have passed, so that only what is added around it can make a difference.
"""

from __future__ import annotations

import statistics
import time

import numpy as np

from siderostat import worker
from siderostat.devices.cpu.loop import Loop
from siderostat.record import Attempt, Cell
from siderostat.workloads.base import Feed

STEP_NS = 5_000_000
STEPS, ROUNDS = 40, 15
BAR = 0.01


def spin(*inputs: np.ndarray) -> tuple[np.ndarray, ...]:
    """Take 5 ms."""
    end = time.perf_counter_ns() + STEP_NS
    while time.perf_counter_ns() < end:
        pass
    return inputs


def bare(feed: Feed) -> float:
    """Return seconds per step of a hand-written loop."""
    start = time.perf_counter_ns()
    for _ in range(STEPS):
        spin(*feed.next())
    return (time.perf_counter_ns() - start) / STEPS * 1e-9


def harness(bench: worker.Bench) -> tuple[float, float]:
    """Return seconds per step of one burst: of all of it, guards included, and as the record has them."""
    start = time.perf_counter_ns()
    answer = bench.burst(block_steps=4, samples=STEPS // 4)
    whole_s = (time.perf_counter_ns() - start) * 1e-9
    return whole_s / STEPS, sum(answer["seconds"]) / STEPS


def main() -> None:
    """Print the ratios and the bar they have to stay under."""
    cell = Cell("null", "nothing", "infer", "numpy", "cpu", 8, "empty")
    bench = worker.Bench(Attempt(cell, 0, 0))
    feed = Feed([np.zeros((64, 4), np.float32)], 8, 0)
    bench._program = Loop([lambda: spin(*feed.next())])
    pairs = [(*harness(bench), bare(feed)) for _ in range(ROUNDS)]
    for name, column in (("whole burst, guards included", 0), ("as the record has it", 1)):
        ratios = sorted(pair[column] / pair[2] for pair in pairs)
        added = statistics.median(ratios) - 1
        print(f"harness / bare loop, 5 ms step, {name}: {1 + added:.5f} (added {added:+.3%}, bar {BAR:.0%})")
        print(f"    {ROUNDS} pairs from {ratios[0]:.5f} to {ratios[-1]:.5f}")


if __name__ == "__main__":
    main()
