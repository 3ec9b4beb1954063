"""From a catalogue to images with labels, whoever renders them. Image ``index`` depends on seed and index alone."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Sequence, Tuple

import numpy as np

from siderostat.workloads.base import BadInput
from siderostat.workloads.galaxy_images.catalogue import Catalogue, Galaxy
from siderostat.workloads.galaxy_images.noise import add_noise
from siderostat.workloads.galaxy_images.survey import FAINTEST_R_MAG

MOST_DRAWS = 1000  # of galaxies for one image, until one can be used


class Renderer(ABC):
    """A way to turn galaxies into noise-free images."""

    @abstractmethod
    def r_magnitude(self, galaxy: Galaxy) -> float:
        """Magnitude of the whole galaxy in r."""

    @abstractmethod
    def can_draw(self, galaxy: Galaxy) -> bool:
        """Say whether the galaxy is small and near enough to be drawn."""

    @abstractmethod
    def draw_all(self, galaxies: Sequence[Galaxy]) -> np.ndarray:
        """Return noise-free images in electrons, float32 of shape (galaxies, 6, 64, 64)."""


def draw_galaxy(renderer: Renderer, catalogue: Catalogue, rng: np.random.Generator) -> Galaxy:
    """Draw galaxies, each turned by a random angle, until one is bright enough in r and not too large to draw.

    Raises:
        BadInput: if none of a thousand is.
    """
    for _ in range(MOST_DRAWS):
        galaxy = catalogue.draw(rng).rotated(rng.uniform(0, math.pi))
        if renderer.can_draw(galaxy) and renderer.r_magnitude(galaxy) < FAINTEST_R_MAG:
            return galaxy
    raise BadInput(
        f"none of {MOST_DRAWS} galaxies drawn from the catalogue is brighter than r = {FAINTEST_R_MAG} "
        "and small enough to draw"
    )


def make_images(
    renderer: Renderer, catalogue: Catalogue, seed: int, indices: Sequence[int], noise: str = "poisson"
) -> Tuple[np.ndarray, np.ndarray]:
    """Make images of the set with this seed, whatever else has been made before.

    Args:
        renderer: what draws them.
        catalogue: what their galaxies are drawn from.
        seed: of the set.
        indices: which images of it.
        noise: one of :data:`noise.NOISES`.

    Returns:
        The images, float32 of shape (indices, 6, 64, 64), and their labels e1, e2 and redshift, float32 of
        shape (indices, 3).

    Raises:
        BadInput: if the catalogue has no galaxy that is bright enough.
    """
    generators = [np.random.default_rng([seed, index]) for index in indices]
    galaxies = [draw_galaxy(renderer, catalogue, rng) for rng in generators]
    images = renderer.draw_all(galaxies)
    for image, rng in zip(images, generators):
        image[...] = add_noise(image, rng, noise)
    return images, np.array([[*g.ellipticity(), g.redshift] for g in galaxies], np.float32)
