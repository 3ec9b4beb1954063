"""Trains the weights that come with siderostat: ``python -m siderostat.workloads.halo_smf.recipe``.

As published, on the training boxes of a catalogue whose seed the workload does not use by itself. What they reach on
the validation boxes of that catalogue is in the file.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import asdict
from pathlib import Path

import torch

from siderostat.workloads.checkpoint import circumstances
from siderostat.workloads.halo_grids import data
from siderostat.workloads.halo_smf import WITH_WEIGHTS, training, weights
from siderostat.workloads.halo_smf.architecture import CHANNELS
from siderostat.workloads.halo_smf.quality import mean_predictor_chi2

HALO_SEED = 1


def main() -> None:
    """Train, judge, write."""
    parser = argparse.ArgumentParser(prog="python -m siderostat.workloads.halo_smf.recipe", description=__doc__)
    parser.add_argument("--out", type=Path, default=weights.SHIPPED, help="where the weights go: %(default)s")
    parser.add_argument("--size", choices=sorted(CHANNELS), default=WITH_WEIGHTS, help="of the network: %(default)s")
    parser.add_argument("--box", choices=sorted(data.SIZES), default="paper", help="of the catalogue: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of weights, order and dropout: %(default)s")
    parser.add_argument("--threads", type=int, default=2, help="that compute: %(default)s")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    started = time.monotonic()
    boxes = data.sub_boxes(HALO_SEED, size=given.box)
    trained = training.train(boxes, CHANNELS[given.size], seed=given.seed, say=_say)
    provenance = {
        "command": "python -m siderostat.workloads.halo_smf.recipe",
        "settings": {name: value for name, value in vars(given).items() if name != "out"},
        "halos": boxes.provenance,
        "plan": [list(part) for part in training.PLAN],
        "epochs": [asdict(epoch) for epoch in trained.epochs],
        "chi2_mean_predictor": mean_predictor_chi2(boxes),
        "seconds": round(time.monotonic() - started, 1),
        **circumstances("torch"),
    }
    channels = CHANNELS[given.size]
    state = {name: trained.network.state_dict()[name].numpy() for name in weights.shapes(channels)}
    weights.checkpoints(channels).save(given.out, state, provenance)
    _say(f"wrote {given.out}: {given.out.stat().st_size} bytes")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
