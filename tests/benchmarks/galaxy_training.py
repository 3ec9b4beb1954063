"""The training step of the galaxy network: the harness against plain loops, and the choices of each framework.

All take turns in one run, a block of steps each, with one thread at batch 8. Exits with 1 where a bar is missed.
"""

from __future__ import annotations

import functools
import itertools
import os
import statistics
import sys
import time
from collections.abc import Callable

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
import torch

from siderostat import devices
from siderostat.devices.cpu import tensorflow as tensorflow_programs
from siderostat.workloads.base import Feed, Phase, Step
from siderostat.workloads.galaxy_images.survey import BANDS, PIXELS
from siderostat.workloads.galaxy_shape import ADAM_EPSILON, LEARNING_RATE
from siderostat.workloads.galaxy_shape import tensorflow as in_tensorflow
from siderostat.workloads.galaxy_shape import torch as in_torch
from siderostat.workloads.galaxy_shape.layers import FILTERS, HEAD, KERNEL, LABELS

BATCH, IMAGES = 8, 64
STEPS, ROUNDS = 4, 15
BAR = 1.02
Block = Callable[[], float]  # trains for STEPS steps and returns the seconds they took

RATIOS = [
    ("torch: harness / hand-written loop", "torch harness", "torch loop", BAR),
    ("tensorflow: harness / Keras train_on_batch", "tensorflow harness", "keras", BAR),
    ("torch: channels last / contiguous", "torch channels last", "torch harness", None),
    ("torch: fused Adam / default Adam", "torch fused Adam", "torch harness", None),
    ("tensorflow: XLA / without", "tensorflow XLA", "tensorflow harness", None),
]

ADAM = functools.partial(torch.optim.Adam, lr=LEARNING_RATE, eps=ADAM_EPSILON)


def feed(channels_last: bool) -> Feed:
    """Noise instead of galaxies: arithmetic does not care."""
    rng = np.random.default_rng(0)
    images = rng.standard_normal((IMAGES, len(BANDS), PIXELS, PIXELS), np.float32)
    labels = rng.standard_normal((IMAGES, LABELS), np.float32)
    return Feed((images.transpose(0, 2, 3, 1) if channels_last else images, labels), BATCH, 0)


def of_harness(framework: str, phase: Phase) -> Block:
    program = devices.load("cpu:threads=1").compile(Step(framework, [phase], BATCH), "fp32")
    return lambda: program.run(STEPS).seconds


def timed(step: Callable[[], object]) -> Block:
    """Time what a user would write."""

    def block() -> float:
        start = time.perf_counter()
        for _ in range(STEPS):
            step()
        return time.perf_counter() - start

    return block


def torch_network() -> torch.nn.Module:
    torch.manual_seed(0)
    return in_torch.TrainingNetwork(in_torch.GalaxyNetwork())


def torch_loop() -> Block:
    network, batches = torch_network(), feed(False)
    optimizer = ADAM(network.parameters())

    def step() -> None:
        images, labels = map(torch.from_numpy, batches.next())
        optimizer.zero_grad()
        _, _, loss = network(images, labels)
        loss.backward()
        optimizer.step()

    return timed(step)


def torch_channels_last() -> Block:
    network = torch_network().to(memory_format=torch.channels_last)

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, ...]:
            outputs: tuple[torch.Tensor, ...] = self.network(images.permute(0, 3, 1, 2), labels)
            return outputs

    return of_harness("torch", Phase(Network(), feed(True), ADAM))


def tensorflow_phase() -> Phase:
    tf.random.set_seed(0)
    network = in_tensorflow.TrainingNetwork(in_tensorflow.GalaxyNetwork())
    return Phase(network, feed(True), in_tensorflow.adam(LEARNING_RATE, ADAM_EPSILON))


def tensorflow_xla() -> Block:
    phase = tensorflow_phase()
    train = tf.function(tensorflow_programs._call(phase), jit_compile=True)
    return timed(lambda: train(*map(tf.convert_to_tensor, phase.feed.next()))[-1].numpy())


def keras() -> Block:
    """The network as one writes it in Keras, compiled, and trained batch by batch."""
    layers = in_tensorflow.keras.layers
    stack = [layers.Input((PIXELS, PIXELS, len(BANDS))), layers.BatchNormalization()]
    for filters, strides in itertools.product(FILTERS, (1, 2)):
        stack += [layers.Conv2D(filters, KERNEL, strides=strides, padding="same"), layers.PReLU()]
    stack += [layers.Flatten(), layers.Dense(HEAD), tfp.layers.MultivariateNormalTriL(LABELS)]
    model = in_tensorflow.keras.Sequential(stack)
    adam = in_tensorflow.adam(LEARNING_RATE, ADAM_EPSILON)(model.trainable_variables)
    model.compile(adam, loss=lambda labels, normal: -normal.log_prob(labels))
    batches = feed(True)
    return timed(lambda: model.train_on_batch(*batches.next()))


def main() -> int:
    """Print the ratios and the bars they have to stay under; return 1 if one does not."""
    for framework in ("torch", "tensorflow"):
        devices.load("cpu:threads=1").configure(framework)
    blocks = {
        "torch loop": torch_loop(),
        "torch harness": of_harness("torch", Phase(torch_network(), feed(False), ADAM)),
        "torch channels last": torch_channels_last(),
        "torch fused Adam": of_harness(
            "torch", Phase(torch_network(), feed(False), functools.partial(ADAM, fused=True))
        ),
        "keras": keras(),
        "tensorflow harness": of_harness("tensorflow", tensorflow_phase()),
        "tensorflow XLA": tensorflow_xla(),
    }
    for block in blocks.values():
        block()
    seconds: dict[str, list[float]] = {name: [] for name in blocks}
    for i in range(ROUNDS):
        for name in list(blocks)[:: 1 if i % 2 else -1]:
            seconds[name].append(blocks[name]())
    for name, values in seconds.items():
        print(f"{name}: {1e3 * statistics.median(values) / STEPS:.1f} ms a step, least {1e3 * min(values) / STEPS:.1f}")
    missed = False
    for name, one, other, bar in RATIOS:
        ratios = sorted(a / b for a, b in zip(seconds[one], seconds[other], strict=True))
        middle = statistics.median(ratios)
        low, _, high = statistics.quantiles(ratios, n=4)
        print(f"{name}: {middle:.3f} (half of the rounds {low:.3f} to {high:.3f}){f', bar {bar}' if bar else ''}")
        missed |= bar is not None and middle > bar
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
