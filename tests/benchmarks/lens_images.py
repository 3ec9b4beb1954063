"""Making lens images: compiled loops against lenstronomy as it is used and with all kept that can be, in one run.

Rounds take turns; seconds are CPU seconds of this process, on one core. Every way draws the same scenes, a third of each
class. Ends with 1 where drawing is less than 10 times as fast as cached lenstronomy, or more than 1e-12 of the peak off,
with noise or without.
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1", NUMBA_NUM_THREADS="1")

import statistics
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np

from siderostat.workloads.lens_images.catalogue import Scene
from siderostat.workloads.lens_images.instruments import INSTRUMENTS, Instrument
from siderostat.workloads.lens_images.making import draw_scenes, finish
from siderostat.workloads.lens_images.quality import largest_error
from siderostat.workloads.lens_images.rendering import Renderer, open_renderer
from siderostat.workloads.lens_images.sources import open_sources

ROUNDS = 9
BATCH = 24
BATCHES = {"fast": 8, "cached": 2, "naive": 1}  # per round
COMPARED = 300
PIXELS = 64
LEAST_RATIO, LARGEST_ERROR = 10.0, 1e-12


def seconds_each(draw: Callable[[Sequence[Scene]], object], scenes: Sequence[Scene]) -> float:
    """Return CPU seconds per image, drawn in batches as a step draws them."""
    start = time.process_time()
    for first in range(0, len(scenes), BATCH):
        draw(scenes[first : first + BATCH])
    return (time.process_time() - start) / len(scenes)


def print_ratios(what: str, times: dict[str, list[float]]) -> float:
    """Print how much faster the compiled loops are; return by how much against cached lenstronomy, the median."""
    for name in ("cached", "naive"):
        ratios = sorted(slow / fast for slow, fast in zip(times[name], times["fast"], strict=True))
        speeds = {way: 1 / statistics.median(times[way]) for way in ("fast", name)}
        print(
            f"fast / {name}, {what}: {statistics.median(ratios):.1f}   "
            f"({speeds['fast']:.0f} against {speeds[name]:.0f} images/s; {ROUNDS} pairs from {ratios[0]:.1f} to {ratios[-1]:.1f})"
        )
    return statistics.median(slow / fast for slow, fast in zip(times["cached"], times["fast"], strict=True))


def measure(camera: Instrument, renderers: dict[str, Renderer]) -> float:
    """Print the ratios for one instrument; return that of drawing alone."""
    scenes = draw_scenes(open_sources("synthetic"), 0, range(BATCH * BATCHES["fast"])).scenes
    rng = np.random.default_rng(0)

    def whole(renderer: Renderer) -> Callable[[Sequence[Scene]], object]:
        return lambda some: finish(renderer.draw_all(some), camera, [rng] * len(some), PIXELS)

    drawing: dict[str, list[float]] = {name: [] for name in BATCHES}
    making: dict[str, list[float]] = {name: [] for name in BATCHES}
    for renderer in renderers.values():
        renderer.draw_all(scenes[:3])  # compiles, imports
    for _ in range(ROUNDS):
        for name, batches in BATCHES.items():
            some = scenes[: BATCH * batches]
            drawing[name].append(seconds_each(renderers[name].draw_all, some))
            making[name].append(seconds_each(whole(renderers[name]), some))
    print_ratios(f"{camera.name}, with noise and resampling", making)
    return print_ratios(f"{camera.name}, drawing alone", drawing)


def compare(camera: Instrument, renderers: dict[str, Renderer]) -> float:
    """Print the largest differences from cached lenstronomy; return the largest."""
    errors = {}
    for stage in ("without noise", "with noise"):
        images = {}
        for name in ("fast", "cached"):
            drawn = draw_scenes(open_sources("synthetic"), 1, range(COMPARED))
            images[name] = renderers[name].draw_all(drawn.scenes)
            if stage == "with noise":
                images[name] = finish(images[name], camera, drawn.rngs, PIXELS)
        errors[stage] = largest_error(images["fast"], images["cached"])
        print(f"largest error over {COMPARED} images, {camera.name}, {stage}, of the peak: {errors[stage]:.1e}")
    return max(errors.values())


def main() -> int:
    """Print ratios and errors, each with its bar."""
    ratios, errors = [], []
    for camera in INSTRUMENTS.values():
        renderers = {name: open_renderer(name, camera) for name in BATCHES}
        ratios.append(measure(camera, renderers))
        errors.append(compare(camera, renderers))
    print(f"least ratio of drawing alone to cached lenstronomy {min(ratios):.1f} (bar {LEAST_RATIO:.0f})")
    print(f"largest error {max(errors):.1e} (bar {LARGEST_ERROR:.0e})")
    return int(min(ratios) < LEAST_RATIO or not max(errors) <= LARGEST_ERROR)


if __name__ == "__main__":
    sys.exit(main())
