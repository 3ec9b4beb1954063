"""How close images are to lenstronomy's, how well substructure can be seen in them, and what they look like."""

from __future__ import annotations

from dataclasses import replace
from typing import Dict, List, Sequence

import numpy as np

from siderostat.workloads.base import Findings
from siderostat.workloads.lens_images import exposure
from siderostat.workloads.lens_images.catalogue import CLASSES, Scene
from siderostat.workloads.lens_images.instruments import Instrument
from siderostat.workloads.lens_images.making import Scenes, draw_scenes, finish
from siderostat.workloads.lens_images.sources import Sources

NOTHING = np.zeros(0)


def examined(sources: Sources, seed: int, each: int) -> Scenes:
    """Return the scenes that images are judged on, ``each`` of every class, from another seed than those in use."""
    return draw_scenes(sources, seed + 1, range(each * len(CLASSES)))


def judge(
    outputs: Sequence[np.ndarray], cameras: Sequence[Instrument], drawn: Sequence[Scenes], pixels: int
) -> Findings:
    """Compare images with lenstronomy's.

    Args:
        outputs: images without noise of each camera, shape (scenes, field_pixels, field_pixels).
        cameras: what they were made by.
        drawn: what they are of, for each camera.
        pixels: on a side of the pictures that are shown.

    Returns:
        ``largest_error``, of the peak; ``subhalos_snr_hst`` and the like, the median over lenses of the signal-to-noise
        ratio, all pixels together, of what changes if the substructure is taken away; and pictures of every class
        and camera.
    """
    errors: List[float] = []
    figures: Dict[str, float] = {}
    pictures: Dict[str, np.ndarray] = {}
    for images, camera, scenes in zip(outputs, cameras, drawn):
        truth = _truth(scenes.scenes, camera)
        errors.append(largest_error(images, truth))
        labels = np.array([scene.label for scene in scenes.scenes])
        visible = substructure_snr(truth, scenes.scenes, camera)
        figures[f"subhalos_snr_{camera.name}"] = float(np.median(visible[labels == 1]))
        figures[f"vortex_snr_{camera.name}"] = float(np.median(visible[labels == 2]))
        shown = exposure.normalised(finish(images, camera, scenes.rngs, pixels))
        for label, name in enumerate(CLASSES):
            pictures[f"{name}, {camera.title}"] = _grey(shown[labels == label])
    return Findings({"largest_error": max(errors), **figures}, {}, pictures)


def largest_error(images: np.ndarray, truth: np.ndarray) -> float:
    """Return the largest difference of a pixel, relative to the brightest pixel of its image."""
    return float((np.abs(images - truth).max((1, 2)) / truth.max((1, 2))).max())


def substructure_snr(truth: np.ndarray, scenes: Sequence[Scene], camera: Instrument) -> np.ndarray:
    """Return, for each scene, how much of its image is owed to substructure, in units of the noise.

    The root of the sum over pixels of squares: of the difference to the same scene without point masses, its source as
    bright as before, over the noise's standard deviation.
    """
    bare = [replace(s, masses_msun=NOTHING, x_arcsec=NOTHING, y_arcsec=NOTHING) for s in scenes]
    factors = exposure.peak_electrons_s(camera) / truth.max((1, 2), keepdims=True)
    noise = exposure.sigma(truth * factors, camera)
    change = (truth - _truth(bare, camera)) * factors / noise
    return np.asarray(np.sqrt((change**2).sum((1, 2))))


def _truth(scenes: Sequence[Scene], camera: Instrument) -> np.ndarray:
    from siderostat.workloads.lens_images.reference import Cached

    return Cached(camera).draw_all(scenes)


def _grey(images: np.ndarray) -> np.ndarray:
    """Return images between 0 and 1 as pictures, uint8 of shape (images, rows, columns, 3)."""
    return np.asarray(np.repeat(np.rint(images * 255).astype(np.uint8)[..., None], 3, axis=3))
