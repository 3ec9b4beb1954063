"""Images of galaxies as LSST would see them: what the other galaxy workloads learn from, and a workload of its own."""

from __future__ import annotations

from typing import Any, Callable, ClassVar, Dict, List, Mapping, Sequence, Tuple

import numpy as np

from siderostat.workloads.base import Feed, Option, Phase, Size, Spec, Step, Workload, WrongResult
from siderostat.workloads.galaxy_images import data
from siderostat.workloads.galaxy_images.survey import BANDS, PIXELS, sky_electrons

GALAXIES = 512  # drawn before the clock runs, and used in turn
LEAST_SHARE = 0.5  # of a galaxy's light within its image; 0.8 is the least among 2,000 that were drawn
ROUNDING = 1e-3  # by which the electrons in an image may exceed its galaxy's: what comes in from repetitions
DEVIATIONS = 6.0  # standard deviations that a sum over 4096 pixels may be off


class GalaxyImages(Workload):
    """The making of images from galaxies: six bands rendered, and noise. Which galaxies is settled before."""

    name = "galaxy-images"
    title = "Making of six-band galaxy images"
    item = "galaxy image"
    modes = ("make",)
    frameworks = ("numpy",)
    variants: ClassVar[Mapping[str, Mapping[str, Size]]] = {
        "kspace": {"lsst": Size(0, 0)},
        "galsim": {"lsst": Size(0, 0)},
        "galsim-chromatic": {"lsst": Size(0, 0)},
    }
    batches = (1, 8, 64)
    options: ClassVar[Mapping[str, Option]] = {
        name: data.OPTIONS[name] for name in ("catalogue", "image_seed", "noise")
    }
    reference = "Arcelin (2021), Comparison of Graphcore IPUs and Nvidia GPUs for cosmology applications"

    def parts(self, spec: Spec) -> int:
        """Return 1: the tables that galaxies are chosen with, and that ``kspace`` draws from."""
        return 1

    def make_part(self, spec: Spec, part: int) -> None:
        """Make the tables; return at once where they are there."""
        from siderostat.workloads.galaxy_images.tables import Tables

        Tables()

    def build(self, spec: Spec) -> Step:
        """Draw the galaxies and set the renderer up. All variants get the same galaxies."""
        from siderostat.workloads.galaxy_images import cosmos, making, noise
        from siderostat.workloads.galaxy_images.kspace import KSpace
        from siderostat.workloads.galaxy_images.tables import Tables

        catalogue, seed, kind = str(data.option(spec, "catalogue")), data.image_seed(spec), data.noise_of(spec)
        tables = Tables()
        chooser, source = KSpace(tables), cosmos.open_catalogue(catalogue)
        generators = [np.random.default_rng([seed, i]) for i in range(max(GALAXIES, spec.batch))]
        galaxies = [making.draw_galaxy(chooser, source, rng) for rng in generators]
        electrons = np.array([sum(tables.electrons(c, g.redshift) for c in g.components) for g in galaxies])
        draw, rng = _drawing(spec.variant, chooser), np.random.default_rng(spec.seed)

        def make(which: np.ndarray, light: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
            """Return new images of these galaxies, (batch, 6, 64, 64), and the electrons they were made from."""
            images = draw([galaxies[i] for i in which])
            for image in images:
                image[...] = noise.add_noise(image, rng, kind)
            return images, light

        feed = Feed((np.arange(len(galaxies)), electrons), spec.batch, spec.seed)
        return Step(spec.framework, (Phase(make, feed),), spec.batch)

    def check(self, spec: Spec, outputs: Sequence[np.ndarray]) -> Dict[str, float]:
        """Return the share of the galaxies' electrons found in the images, all bands and images together.

        Raises:
            WrongResult: if shapes are wrong, a pixel is not finite, or the electrons in an image are more than its
                galaxy has, or fewer than it leaves within the image, by more than noise can explain.
        """
        images, light = outputs
        shape = (spec.batch, len(BANDS), PIXELS, PIXELS)
        if images.shape != shape:
            raise WrongResult(f"the images have shape {images.shape} instead of {shape}")
        if not np.isfinite(images).all():
            raise WrongResult(f"{np.count_nonzero(~np.isfinite(images))} of {images.size} pixels are not finite")
        found = images.sum((2, 3), dtype=np.float64)
        _check_light(found, light, data.noise_of(spec))
        return {"light_share": float(found.sum() / light.sum())}


def _drawing(variant: str, kspace: Any) -> Callable[[List[Any]], np.ndarray]:
    """Return what renders galaxies without noise."""
    if variant == "kspace":
        draw_all: Callable[[List[Any]], np.ndarray] = kspace.draw_all
        return draw_all
    from siderostat.workloads.galaxy_images.camera import Camera

    camera = Camera()
    if variant == "galsim":
        return camera.draw_all
    return lambda galaxies: np.stack([camera.draw_chromatic(galaxy) for galaxy in galaxies])


def _check_light(found: np.ndarray, light: np.ndarray, noise: str) -> None:
    """Compare electrons in images with those of their galaxies, both of shape (batch, 6)."""
    variance = PIXELS**2 * sky_electrons() + light if noise != "none" else np.zeros_like(light)
    slack = DEVIATIONS * np.sqrt(variance) + ROUNDING * light
    wrong = (found > light + slack) | (found < LEAST_SHARE * light - slack)
    if wrong.any():
        image, band = np.argwhere(wrong)[0]
        raise WrongResult(
            f"image {image} has {found[image, band]:.6g} electrons in {BANDS[band]}, "
            f"which its galaxy's {light[image, band]:.6g} do not explain"
        )
