"""The formulations of the pseudofermion workload against each other, taking turns, in one run, on one thread.

Processor time per configuration on 4^4: reweighting, and the evaluation without a marginal flow and with one of 8
layers. An argument says how many configurations a batch has: python gauge_pseudofermion.py 16
"""

from __future__ import annotations

import statistics
import sys
import time

import torch

from siderostat import workloads
from siderostat.workloads.base import Spec

BATCH = 16
ROUNDS = 5
CASES = {
    "reweight, 16 iterations": ("reweight", {}),
    "evaluate without a marginal flow": ("evaluate", {"layers": 0}),
    "evaluate with 8 layers": ("evaluate", {"layers": 8}),
}


def main() -> None:
    """Print milliseconds of processor time per configuration and their ratios."""
    torch.set_num_threads(1)
    batch = int(sys.argv[1]) if len(sys.argv) > 1 else BATCH
    workload = workloads.load("gauge-pseudofermion")
    for case, (mode, options) in CASES.items():
        phases = {
            v: workload.build(Spec(v, mode, "torch", batch, "4^4", 0, options)).phases[0] for v in workload.variants
        }
        seconds: dict[str, list[float]] = {variant: [] for variant in phases}
        with torch.inference_mode():
            for _ in range(ROUNDS):
                for variant, phase in phases.items():
                    inputs = [torch.from_numpy(a) for a in phase.feed.next()]
                    start = time.process_time()
                    phase.model(*inputs)
                    seconds[variant].append(time.process_time() - start)
        each_ms = {variant: statistics.median(taken) / batch * 1e3 for variant, taken in seconds.items()}
        ratio = statistics.median(c / r for c, r in zip(seconds["complex"], seconds["real"], strict=True))
        told = ", ".join(f"{variant} {ms:.2f} ms" for variant, ms in each_ms.items())
        print(f"{case}, batch {batch}: {told} per configuration, {ratio:.1f} x")


if __name__ == "__main__":
    main()
