"""From a seed to images with labels, whoever renders them. Image ``index`` depends on seed and index alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence, Tuple

import numpy as np

from siderostat.workloads.lens_images import exposure
from siderostat.workloads.lens_images.catalogue import CLASSES, Scene, draw_scene
from siderostat.workloads.lens_images.instruments import Instrument
from siderostat.workloads.lens_images.rendering import Renderer
from siderostat.workloads.lens_images.sources import Sources


@dataclass(frozen=True)
class Scenes:
    """What is drawn, and the generators that its noise comes from."""

    scenes: Sequence[Scene]
    rngs: Sequence[np.random.Generator]


def draw_scenes(sources: Sources, seed: int, indices: Sequence[int]) -> Scenes:
    """Draw scenes of the set with this seed; classes take turns, and instruments see the same scenes.

    Args:
        sources: where source galaxies come from.
        seed: of the set.
        indices: which images of it.
    """
    rngs = [np.random.default_rng([seed, index]) for index in indices]
    scenes = [draw_scene(index % len(CLASSES), sources.draw(rng), rng) for index, rng in zip(indices, rngs)]
    return Scenes(scenes, rngs)


def make_images(
    renderer: Renderer, instrument: Instrument, sources: Sources, seed: int, indices: Sequence[int], pixels: int
) -> Tuple[np.ndarray, np.ndarray]:
    """Make images of the set with this seed, whatever else has been made before.

    Args:
        renderer: what draws them, for the same instrument.
        instrument: the camera.
        sources: where source galaxies come from.
        seed: of the set.
        indices: which images of it.
        pixels: on a side.

    Returns:
        The images in electrons per second, float64 of shape (indices, pixels, pixels), and their classes, int64 of
        shape (indices,).
    """
    drawn = draw_scenes(sources, seed, indices)
    labels = np.array([scene.label for scene in drawn.scenes], np.int64)
    return finish(renderer.draw_all(drawn.scenes), instrument, drawn.rngs, pixels), labels


def finish(images: np.ndarray, instrument: Instrument, rngs: Sequence[np.random.Generator], pixels: int) -> np.ndarray:
    """Return rendered images with the right brightness, noise and number of pixels."""
    bright = exposure.brightened(images, instrument)
    return exposure.resampled(exposure.exposed(bright, instrument, rngs), pixels)
