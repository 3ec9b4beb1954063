"""What the fused loss, channels-last memory and bf16 make of the halo network's training step: ``python tests/benchmarks/halo_training.py``.

Processor time of one thread, sides taking turns. Figures are medians of the ratios of neighbouring runs, and their quartiles.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
import time
from collections.abc import Callable

import torch

from siderostat.workloads import load
from siderostat.workloads.base import Spec
from siderostat.workloads.halo_smf import loss

BATCH = 32
ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 15
SIZE = sys.argv[2] if len(sys.argv) > 2 else "n20"


def cpu_s(run: Callable[[], object], times: int = 1) -> float:
    started = time.process_time()
    for _ in range(times):
        run()
    return (time.process_time() - started) / times


def step(variant: str, dtype: torch.dtype | None = None) -> Callable[[], None]:
    (phase,) = load("halo-smf").build(Spec(variant, "train", "torch", BATCH, SIZE, 0, {"box": "tiny"})).phases
    optimizer = phase.optimizer(phase.model.parameters())
    autocast = contextlib.nullcontext() if dtype is None else torch.autocast("cpu", dtype=dtype)

    def run() -> None:
        optimizer.zero_grad(set_to_none=True)
        with autocast:
            out = phase.model(*map(torch.from_numpy, phase.feed.next()))
        out[-1].backward()
        optimizer.step()

    return run


def forward(of: loss.Loss) -> Callable[[], None]:
    """A loss of a batch, with its backward pass."""
    out, labels = torch.rand(BATCH, 14, requires_grad=True), torch.rand(BATCH, 14)
    sigma = torch.full((14,), 1e-3)
    return lambda: of(out, labels, sigma).backward()


def compare(title: str, one: Callable[[], None], other: Callable[[], None], times: int = 1) -> None:
    for run in (one, other):
        cpu_s(run, 2 * times)
    pairs = [(cpu_s(one, times), cpu_s(other, times)) for _ in range(ROUNDS)]
    low, middle, high = statistics.quantiles([a / b for a, b in pairs], n=4)
    reference = statistics.median(b for _, b in pairs)
    print(f"{title}: {middle:.3f} ({low:.3f} to {high:.3f}); reference {1e3 * reference:.2f} ms of CPU", flush=True)


torch.set_num_threads(1)
fused = step("fused")
compare(f"naive loss alone over fused, batch {BATCH}", forward(loss.naive), forward(loss.fused), 20)
compare("step with the naive loss over fused", step("naive"), fused)
compare("channels last over contiguous", step("channels-last"), fused)
compare("bf16 over fp32, contiguous", step("fused", torch.bfloat16), fused)
compare("bf16 and channels last over fp32 contiguous", step("channels-last", torch.bfloat16), fused)
