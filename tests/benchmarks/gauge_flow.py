"""The formulations of the gauge flow against the complex one, taking turns, in one run, on one thread.

One round of 64 layers, of which the paper's stack has three, on 4^4, in batches of 16. The figures are processor time, so
that others on the machine disturb little; afterwards single precision is compared with double.
An argument says how many layers: python gauge_flow.py 192
"""

from __future__ import annotations

import statistics
import sys
import time

import numpy as np
import torch

from siderostat.workloads.gauge_flow import coupling, group, lattice
from siderostat.workloads.gauge_flow import torch as steps
from siderostat.workloads.gauge_flow.coupling import Flow

EXTENTS = (4, 4, 4, 4)
LAYERS = 64
BATCHES = (16, 1)
ROUNDS = 3
JUDGED = 16
BARS = {"complex": 0.0, "real": 4.0, "fused": 20.0}


def make_flows(layers: int) -> dict[str, Flow]:
    """Return the same flow in every formulation."""
    updates = lattice.stack(layers)
    learned = [coupling.is_learned(update, coupling.LEARNED) for update in updates]
    rng = np.random.default_rng(0)
    weights = [coupling.initial(is_learned, rng, 0.1) for is_learned in learned]
    flows = {name: steps.make_flow(name, EXTENTS, updates, learned) for name in BARS}
    for flow in flows.values():
        coupling.load_weights(flow, weights)
    return flows


def fields(batch: int) -> torch.Tensor:
    """Return random fields in single precision."""
    links = group.haar(np.random.default_rng(batch), (batch, 4, *EXTENTS))
    return torch.view_as_real(torch.from_numpy(links)).float().contiguous()


def measure(flows: dict[str, Flow], links: torch.Tensor) -> dict[str, list[float]]:
    """Return the processor seconds of each formulation in each round."""
    seconds: dict[str, list[float]] = {name: [] for name in flows}
    for _ in range(ROUNDS):
        for name, flow in flows.items():
            start = time.process_time()
            flow(links)
            seconds[name].append(time.process_time() - start)
    return seconds


def print_precision(flows: dict[str, Flow], links: torch.Tensor) -> None:
    """Print how far single precision is from double, formulation by formulation."""
    single = {name: flow(links) for name, flow in flows.items()}
    moved, log_determinant = flows["real"].double()(links.double())
    for name, (roughly, its_log_determinant) in single.items():
        off = (roughly - moved).abs().max(), (its_log_determinant - log_determinant).abs().max()
        print(f"{name:8s} float32 against float64: links {off[0]:.1e}, log-determinant {off[1]:.1e}")


def main() -> None:
    """Print the ratios; exit 1 if one that is judged is below its bar."""
    torch.set_num_threads(1)
    layers = int(sys.argv[1]) if len(sys.argv) > 1 else LAYERS
    flows = make_flows(layers)
    judged = {}
    with torch.inference_mode():
        for batch in BATCHES:
            seconds = measure(flows, fields(batch))
            for name, taken in seconds.items():
                ratio = statistics.median(c / t for c, t in zip(seconds["complex"], taken, strict=True))
                each_ms = statistics.median(taken) / batch * 1e3
                print(
                    f"{layers} layers, batch {batch:2d}, {name:8s} {each_ms:8.1f} ms per configuration, {ratio:5.1f} x",
                    flush=True,
                )
                if batch == JUDGED:
                    judged[name] = ratio
        print_precision(flows, fields(1))
    slow = [f"{name} is {judged[name]:.1f} x, below {bar}" for name, bar in BARS.items() if judged[name] < bar]
    if slow:
        sys.exit("; ".join(slow))


if __name__ == "__main__":
    main()
