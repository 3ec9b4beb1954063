"""Trains the weights that come with siderostat: ``python -m siderostat.workloads.galaxy_shape.recipe``.

The DNN learns by the step that mode ``train`` times, but for the learning rate, which rises and falls once (Smith &
Topin 2019) instead of staying where it is. Images are those of a seed that the workload does not use by itself.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any, Dict

import numpy as np
import torch

from siderostat.workloads import galaxy_shape
from siderostat.workloads.base import Findings, Spec
from siderostat.workloads.checkpoint import circumstances
from siderostat.workloads.galaxy_images import data
from siderostat.workloads.galaxy_shape import weights

IMAGE_SEED = 1
RISE = 0.1  # share of the steps in which the learning rate rises
LOOKS = 16  # on the way


def main() -> None:
    """Train, judge, write."""
    parser = argparse.ArgumentParser(prog="python -m siderostat.workloads.galaxy_shape.recipe", description=__doc__)
    parser.add_argument("--out", type=Path, default=weights.SHIPPED, help="where the weights go: %(default)s")
    parser.add_argument("--images", type=int, default=16384, help="to train on: %(default)s")
    parser.add_argument("--epochs", type=int, default=4, help="times that each image is seen: %(default)s")
    parser.add_argument("--batch", type=int, default=16, help="images in a step: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of weights and order: %(default)s")
    parser.add_argument("--threads", type=int, default=2, help="that compute: %(default)s")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    started = time.monotonic()
    options = {"images": given.images, "image_seed": IMAGE_SEED}
    spec = Spec("dnn", "train", "torch", given.batch, "paper", given.seed, options)
    network, looks = _train(spec, given.epochs * given.images // given.batch)
    provenance = {
        "command": "python -m siderostat.workloads.galaxy_shape.recipe",
        "settings": {k: v for k, v in vars(given).items() if k != "out"},
        "images": data.image_set(spec).provenance(),
        "looks": looks,
        "seconds": round(time.monotonic() - started, 1),
        **circumstances("torch"),
    }
    state = {name: network.state_dict()[name].numpy() for name in weights.shapes()}
    weights.checkpoints().save(given.out, state, provenance)
    sys.stdout.write(f"wrote {given.out}: {given.out.stat().st_size} bytes\n")


def _train(spec: Spec, steps: int) -> Any:
    """Return the trained network, and images seen and figures on the way."""
    workload = galaxy_shape.GalaxyShape()
    step = workload.build(spec)
    (phase,) = step.phases
    assert phase.optimizer is not None
    exam = workload.exam(spec, step)
    optimizer = phase.optimizer(phase.model.parameters())
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, galaxy_shape.LEARNING_RATE, steps, pct_start=RISE)
    looks = []
    for done in range(1, steps + 1):
        optimizer.zero_grad(set_to_none=True)
        phase.model(*map(torch.from_numpy, phase.feed.next()))[-1].backward()
        optimizer.step()
        rate.step()
        if done % (steps // LOOKS) == 0 or done == steps:
            looks.append({"images": done * spec.batch, **_judged(exam)})
            sys.stdout.write(f"{looks[-1]}\n")
            sys.stdout.flush()
    return exam.model, looks


def _judged(exam: Any) -> Dict[str, float]:
    """Return the figures of the network as it is."""
    exam.model.eval()
    with torch.inference_mode():
        outputs = [[o.numpy() for o in exam.model(*map(torch.from_numpy, batch))] for batch in exam.batches]
    exam.model.train()
    findings: Findings = exam.judge(outputs)
    return {name: float(np.round(value, 4)) for name, value in findings.figures.items()}


if __name__ == "__main__":
    main()
