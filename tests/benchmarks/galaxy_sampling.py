"""Naive against incremental sampling of the galaxy sampler's flow, taking turns, in one run, on one thread.

The flow alone and with the decoder, which is the same in both; PyTorch, and TensorFlow's graph where it is installed.
"""

from __future__ import annotations

import importlib.util
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from siderostat.workloads.galaxy_sampler import checkpoint

COUNTS = (1, 10, 100, 1000)
JUDGED = 100
BAR = 5.0
NAMES = ("naive", "incremental")


def torch_programs(trained: checkpoint.Checkpoint, count: int) -> dict[str, Callable[[], Any]]:
    """Return what is timed by name: both samplers of the flow, and both with the decoder."""
    import torch

    from siderostat.workloads.galaxy_sampler import torch as networks

    torch.set_num_threads(1)
    flow, decoder = networks.Flow(), networks.Decoder()
    networks.load_weights(flow, trained.flow)
    networks.load_weights(decoder, trained.decoder)
    noise = torch.randn(count, 32, generator=torch.Generator().manual_seed(0))
    programs: dict[str, Callable[[], Any]] = {}
    for name in NAMES:
        sampler = networks.SAMPLERS[name](flow)
        programs[f"flow, {name}"] = torch.inference_mode()(lambda s=sampler: s(noise).numpy())
        programs[f"whole, {name}"] = torch.inference_mode()(lambda s=sampler: decoder(s(noise)).numpy())
    return programs


def tensorflow_programs(trained: checkpoint.Checkpoint, count: int) -> dict[str, Callable[[], Any]]:
    """Return the same as compiled graphs."""
    import tensorflow as tf

    from siderostat.workloads.galaxy_sampler import tensorflow as networks

    flow, decoder = networks.Flow(), networks.Decoder()
    networks.load_weights(flow, trained.flow)
    networks.load_weights(decoder, trained.decoder)
    noise = tf.random.stateless_normal((count, 32), (0, 0))
    programs: dict[str, Callable[[], Any]] = {}
    for name in NAMES:
        flow_graph = tf.function(networks.SAMPLERS[name](flow))
        programs[f"flow, {name}"] = lambda g=flow_graph: g(noise).numpy()
        programs[f"whole, {name}"] = lambda g=flow_graph: decoder_graph(g(noise)).numpy()
    decoder_graph = tf.function(decoder)
    return programs


def ratios(programs: dict[str, Callable[[], Any]], part: str, rounds: int) -> tuple[list[float], float, float]:
    """Return time of naive over incremental of each round, sorted, and the median seconds of both."""
    latents = {name: programs[f"{part}, {name}"]() for name in NAMES}
    assert np.allclose(latents["naive"], latents["incremental"], atol=1e-5)
    seconds: dict[str, list[float]] = {name: [] for name in NAMES}
    for _ in range(rounds):
        for name in NAMES:
            start = time.perf_counter()
            programs[f"{part}, {name}"]()
            seconds[name].append(time.perf_counter() - start)
    naive_s, incremental_s = (statistics.median(seconds[name]) for name in NAMES)
    return sorted(n / i for n, i in zip(*seconds.values(), strict=True)), naive_s, incremental_s


def main() -> None:
    """Print the ratios; exit 1 if the one that is judged is below the bar."""
    trained = checkpoint.load()
    makers = {"torch": torch_programs}
    if importlib.util.find_spec("tensorflow_probability"):
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        makers["tensorflow"] = tensorflow_programs
    judged = {}
    for framework, programs_for in makers.items():
        for count in COUNTS:
            programs = programs_for(trained, count)
            for part, rounds in (("flow", 15 if count <= JUDGED else 5), ("whole", 7 if count < JUDGED else 1)):
                found, naive_s, incremental_s = ratios(programs, part, rounds)
                ratio = statistics.median(found)
                print(
                    f"{framework}, {part}, n = {count}: naive / incremental {ratio:.2f} ({found[0]:.2f} to {found[-1]:.2f}; "
                    f"{naive_s * 1e3:.1f} ms, {incremental_s * 1e3:.1f} ms)",
                    flush=True,
                )
                judged[framework, part, count] = ratio
    passed = judged["torch", "flow", JUDGED] >= BAR
    print(
        f"the flow at n = {JUDGED} in PyTorch: {judged['torch', 'flow', JUDGED]:.2f}, bar {BAR:.0f}: {'met' if passed else 'MISSED'}"
    )
    sys.exit(not passed)


if __name__ == "__main__":
    main()
