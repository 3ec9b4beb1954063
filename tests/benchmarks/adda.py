"""ADDA's step: naive against reused and summed, taking turns, in one run, in processor time of one thread.

Quarter ResNet18 at batch 32 and 64 x 64 pixels, or other sizes of the workload: ``python tests/benchmarks/adda.py
efficientnet-b0-quarter``.
"""

from __future__ import annotations

import statistics
import sys
import time

import torch

from siderostat.workloads.lens_adaptation import adda, steps
from siderostat.workloads.lens_adaptation.encoders import make_encoder
from siderostat.workloads.lens_adaptation.heads import Discriminator
from siderostat.workloads.lens_adaptation.parts import AIMS, SOURCE, TARGET

BATCH = 32
ROUNDS = 9
BAR = 1.5


class Stepping:
    """A formulation, its optimisers and a batch."""

    def __init__(self, formulation: str, size: str) -> None:
        torch.manual_seed(0)
        encoder, scale = steps.split(size)
        pixels = steps.PIXELS[scale]
        self.parts = adda.parts(formulation, make_encoder(encoder, scale, pixels), Discriminator())
        self.optimizers = [part.optimizer(part.model.parameters()) for part in self.parts]
        images = torch.randn(2, BATCH, 1, pixels, pixels)
        self.batch = {SOURCE: images[0], TARGET: images[1], AIMS: torch.zeros(BATCH, dtype=torch.long)}

    def step(self) -> tuple[float, float]:
        """Make a step; return its processor time in seconds, and the loss of its last phase."""
        start = time.process_time()
        for part, optimizer in zip(self.parts, self.optimizers, strict=True):
            optimizer.zero_grad()
            loss = part.model(*(self.batch[name] for name in part.takes))[-1]
            loss.backward()
            optimizer.step()
        return time.process_time() - start, float(loss.detach())


def main() -> None:
    """Print the ratios; exit 1 if naive over reused is below the bar at the default size."""
    torch.set_num_threads(1)
    passed = True
    for size in sys.argv[1:] or ["resnet18-quarter"]:
        made = {formulation: Stepping(formulation, size) for formulation in adda.FORMULATIONS}
        found: dict[str, list[tuple[float, float]]] = {formulation: [] for formulation in made}
        for _ in range(ROUNDS + 1):
            for formulation, one in made.items():
                found[formulation].append(one.step())
        naive = found["naive"]
        apart = max(abs(a - b) for (_, a), (_, b) in zip(naive, found["reused"], strict=True))
        print(f"{size}, batch {BATCH}: naive {statistics.median(s for s, _ in naive[1:]) * 1e3:.0f} ms of one thread")
        for formulation in ("reused", "summed"):
            ratios = sorted(a / b for (a, _), (b, _) in zip(naive[1:], found[formulation][1:], strict=True))
            median = statistics.median(ratios)
            print(f"  naive / {formulation} {median:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})", flush=True)
            passed = passed and (formulation == "summed" or median >= BAR)
        print(f"  largest difference of losses between naive and reused in {ROUNDS + 1} steps: {apart:.1e}")
    print(f"naive / reused, bar {BAR}: {'met' if passed else 'MISSED'}")
    sys.exit(not passed)


if __name__ == "__main__":
    main()
