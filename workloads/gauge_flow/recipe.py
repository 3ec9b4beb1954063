"""Trains the flow that comes with siderostat: ``python -m siderostat.workloads.gauge_flow.recipe``.

A flow of parity updates learns the Wilson action on a 4^4 lattice, in single precision; what the weights of the file
then give is measured in double precision on fields that it has not been trained on.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Dict

import numpy as np
import torch

from siderostat.workloads.checkpoint import circumstances
from siderostat.workloads.gauge_flow import checkpoint, coupling, ensemble, parameters
from siderostat.workloads.gauge_flow import torch as flows
from siderostat.workloads.gauge_flow.training import draw, train

EXTENTS = (4, 4, 4, 4)
EXAMINED = 4096  # fields
_AT_ONCE = 32
_LOOKS = 40


def main() -> None:
    """Train, write, measure what was written."""
    parser = argparse.ArgumentParser(prog="python -m siderostat.workloads.gauge_flow.recipe", description=__doc__)
    parser.add_argument("--out", type=Path, default=checkpoint.SHIPPED, help="where the weights go: %(default)s")
    parser.add_argument("--beta", type=float, default=1.0, help="of the Wilson action: %(default)s")
    parser.add_argument("--steps", type=int, default=300, help="of training: %(default)s")
    parser.add_argument("--batch", type=int, default=16, help="fields in a step: %(default)s")
    parser.add_argument("--rate", type=float, default=5e-3, help="Adam's learning rate at the start: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of weights and fields: %(default)s")
    parser.add_argument("--threads", type=int, default=1, help="that compute: %(default)s")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    flow = _flow(given.seed)
    started = time.process_time()
    losses: Dict[int, float] = {}

    def say(done: int, loss: float) -> None:
        if done % max(1, given.steps // _LOOKS) == 0 or done in (1, given.steps):
            losses[done] = round(loss, 3)
            _say(f"step {done} of {given.steps}: loss {loss:.3f}, {time.process_time() - started:.0f} s of CPU time")

    train(flow, EXTENTS, given.beta, given.steps, given.batch, given.rate, given.seed, say)
    provenance = {
        "command": "python -m siderostat.workloads.gauge_flow.recipe",
        "settings": {"extents": EXTENTS, **{k: v for k, v in vars(given).items() if k != "out"}},
        "losses": losses,
        "processor_s": round(time.process_time() - started, 1),
        **circumstances("torch"),
    }
    weights = coupling.weights_of(flow)
    with tempfile.TemporaryDirectory() as folder:
        trial = Path(folder) / "trial.npz"
        checkpoint.save(trial, checkpoint.TRAINED, weights, provenance)
        figures = measured(trial, given.beta, given.seed + 1)
    _say(f"as written: {figures}")
    checkpoint.save(given.out, checkpoint.TRAINED, weights, {**provenance, "figures": figures})
    _say(f"wrote {given.out}: {given.out.stat().st_size} bytes")


def measured(path: Path, beta: float, seed: int) -> Dict[str, float]:
    """Return figures of the flow in a file, of 4096 fields in double precision."""
    flow = _flow(seed)
    coupling.load_weights(flow, checkpoint.load(checkpoint.TRAINED, str(path))[0])
    draws = draw(flow, EXTENTS, beta, EXAMINED, _AT_ONCE, seed)
    judged = ensemble.judge(draws.log_weights, draws.plaquettes, seed)
    return {name: round(value, 5) for name, value in judged.items()}


def _flow(seed: int) -> coupling.Flow:
    """Return the flow that is trained, as the identity, with other weights from the seed."""
    stack = checkpoint.TRAINED
    flow = flows.make_flow("real", EXTENTS, stack.updates(), stack.learned())
    rng = np.random.default_rng(seed)
    coupling.load_weights(flow, [parameters.initial(is_learned, rng, 0.0) for is_learned in stack.learned()])
    return flow


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
