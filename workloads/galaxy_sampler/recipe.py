"""Trains the sampler and writes its checkpoint: ``python -m siderostat.workloads.galaxy_sampler.recipe``.

Noise-free galaxies are drawn; encoder, decoder and flow are trained by the step that the workload's mode ``train``
times; the flow then learns the latents of the finished encoder; and what the finished sampler makes is measured beside
galaxies that were not trained on.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
import time
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np
import torch

from siderostat.workloads import galaxy_sampler
from siderostat.workloads.base import Feed, Phase, Spec
from siderostat.workloads.checkpoint import circumstances
from siderostat.workloads.galaxy_images.data import ImageSet
from siderostat.workloads.galaxy_sampler import checkpoint, layers, statistics
from siderostat.workloads.galaxy_sampler import torch as networks
from siderostat.workloads.galaxy_sampler.stretch import stretch, unstretch

BATCH = 8
FLOW_BATCH = 256
FLOW_RATE = 1e-3
WARM_UP = 20  # steps, in which learning rates rise
LATE = 0.5  # share of the steps after which they fall, to 0 at the end
HELD_OUT = 2048  # galaxies that samples are compared with, and how many are sampled
THUMBNAILS = 32
_AT_ONCE = 64


def train(images: np.ndarray, steps: int, flow_steps: int, seed: int) -> Tuple[checkpoint.Checkpoint, Dict[str, Any]]:
    """Train on images.

    Args:
        images: noise-free electrons, shape (any, 6, 64, 64).
        steps: of all networks together.
        flow_steps: of the flow alone, after them.
        seed: of weights, order and noise.

    Returns:
        Decoder and flow in half precision, without pictures and provenance, and the losses on the way.
    """
    stretched = stretch(images)
    spec = Spec("incremental", "train", "torch", BATCH, "paper", seed)
    autoencoder, flow = galaxy_sampler.training(spec, stretched).phases
    losses = {"together": _train((autoencoder, flow), steps)}
    encoder, decoder = autoencoder.model.encoder, autoencoder.model.decoder
    latents = _encoded(encoder, stretched)
    alone = networks.FlowTraining(flow.model.flow, lambda mean, scale: (mean, scale))
    feed = Feed(latents, FLOW_BATCH, seed)
    losses["flow"] = _train((Phase(alone, feed, lambda p: torch.optim.Adam(p, lr=FLOW_RATE)),), flow_steps)
    halves = [{name: a.astype(np.float16) for name, a in networks.weights_of(n).items()} for n in (decoder, alone.flow)]
    return checkpoint.Checkpoint(halves[0], halves[1], np.empty(0), {}), losses


def _train(phases: Sequence[Phase], steps: int) -> List[List[float]]:
    """Do the steps; return the step and the mean losses of all phases since the last such line, 40 lines in all."""
    programs = [_Program(phase) for phase in phases]
    lines: List[List[float]] = []
    since: List[List[float]] = []
    every = max(1, steps // 40)
    for step in range(steps):
        since.append([program.step(_rate(step, steps)) for program in programs])
        if (step + 1) % every == 0:
            lines.append([step + 1, *(round(float(loss), 2) for loss in np.mean(since, 0))])
            _say(f"step {lines[-1][0]} of {steps}: losses {lines[-1][1:]}")
            since = []
    return lines


class _Program:
    """A phase and its optimizer, with a learning rate that changes."""

    def __init__(self, phase: Phase) -> None:
        assert phase.optimizer is not None
        self._model, self._feed = phase.model, phase.feed
        self._optimizer = phase.optimizer(phase.model.parameters())
        self._rate = self._optimizer.param_groups[0]["lr"]

    def step(self, share: float) -> float:
        """Do one update at this share of the learning rate and return the loss."""
        self._optimizer.param_groups[0]["lr"] = self._rate * share
        self._optimizer.zero_grad(set_to_none=True)
        loss = self._model(*map(torch.from_numpy, self._feed.next()))[-1]
        loss.backward()
        self._optimizer.step()
        return float(loss.detach())


def _rate(step: int, steps: int) -> float:
    """Return the share of the learning rate: it rises, stays, and falls along half a cosine."""
    late = max(0.0, (step / steps - LATE) / (1 - LATE))
    return min(1.0, (step + 1) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * late))


def _encoded(encoder: networks.Encoder, stretched: np.ndarray) -> List[np.ndarray]:
    """Return means and scales of the latents of all images."""
    with torch.inference_mode():
        found = [encoder(torch.from_numpy(stretched[i : i + _AT_ONCE])) for i in range(0, len(stretched), _AT_ONCE)]
    return [torch.cat(parts).numpy() for parts in zip(*found)]


def sample(trained: checkpoint.Checkpoint, count: int, seed: int) -> np.ndarray:
    """Return ``count`` sampled galaxies, noise-free electrons of shape (count, 6, 64, 64)."""
    flow, decoder = networks.Flow(), networks.Decoder()
    networks.load_weights(flow, trained.flow)
    networks.load_weights(decoder, trained.decoder)
    noise = torch.randn(count, layers.LATENTS, generator=torch.Generator().manual_seed(seed))
    with torch.inference_mode():
        latents = networks.IncrementalSampler(flow)(noise)
        return np.concatenate([unstretch(decoder(some).numpy()) for some in latents.split(_AT_ONCE)])


def main() -> None:
    """Draw galaxies, train, measure, write."""
    parser = argparse.ArgumentParser(prog="python -m siderostat.workloads.galaxy_sampler.recipe", description=__doc__)
    parser.add_argument("--out", type=Path, default=checkpoint.SHIPPED, help="where the checkpoint goes: %(default)s")
    parser.add_argument("--images", type=int, default=6144, help="galaxies to train on: %(default)s")
    parser.add_argument("--steps", type=int, default=1500, help=f"of all networks, batch {BATCH}: %(default)s")
    parser.add_argument("--flow-steps", type=int, default=1500, help=f"of the flow, batch {FLOW_BATCH}: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of everything: %(default)s")
    parser.add_argument("--threads", type=int, default=2, help="that compute: %(default)s")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    started = time.monotonic()
    galaxies = ImageSet(given.seed, noise="none")
    images, _ = galaxies.load(given.images)
    held_out, _ = galaxies.load(HELD_OUT, first=given.images)
    drawn_s = time.monotonic() - started
    trained, losses = train(images, given.steps, given.flow_steps, given.seed)
    measured = statistics.measure(held_out)
    compared = statistics.compare(statistics.measure(sample(trained, HELD_OUT, given.seed)), measured)
    _say(f"sampled against held-out galaxies: {compared}")
    if not all(map(math.isfinite, compared.values())):
        sys.exit("some sampled galaxies are not finite, so nothing was written; try another --seed")
    provenance = {
        "command": "python -m siderostat.workloads.galaxy_sampler.recipe",
        "settings": {"batch": BATCH, "flow_batch": FLOW_BATCH, **{k: v for k, v in vars(given).items() if k != "out"}},
        "images": galaxies.provenance(),
        "losses": losses,
        "statistics": compared,
        "real": {name: values.tolist() for name, values in statistics.quantiles(measured).items()},
        "seconds": {"drawing": round(drawn_s, 1), "all": round(time.monotonic() - started, 1)},
        **circumstances("torch"),
    }
    pictures = statistics.thumbnails(held_out[:THUMBNAILS])
    checkpoint.save(given.out, dataclasses.replace(trained, thumbnails=pictures, provenance=provenance))
    _say(f"wrote {given.out}: {given.out.stat().st_size} bytes")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
