"""How far the k-space renderer is from GalSim: ``python -m siderostat.workloads.galaxy_images.errors`` prints a table.

Errors are the largest over an image's pixels, relative to its peak, against GalSim at tight accuracy. The row of the
largest galaxies holds those, of many drawn, with the longest major axes.
"""

from __future__ import annotations

import math
import sys
from typing import Any, Callable, Dict, List, Tuple

import numpy as np

from siderostat.workloads.galaxy_images.camera import Camera
from siderostat.workloads.galaxy_images.catalogue import Galaxy, SyntheticCatalogue
from siderostat.workloads.galaxy_images.kspace import KSpace
from siderostat.workloads.galaxy_images.making import draw_galaxy
from siderostat.workloads.galaxy_images.survey import BANDS
from siderostat.workloads.galaxy_images.tables import Tables

GALAXIES, LARGEST, OF = 240, 20, 5000

_CLASSES: Dict[str, Callable[[Galaxy], bool]] = {
    "all drawn at random": lambda g: True,
    "bulge and disc": lambda g: len(g.components) == 2,
    "Sersic index below 1": lambda g: _index(g) < 1,
    "Sersic index 1 to 2": lambda g: 1 <= _index(g) < 2,
    "Sersic index 2 to 3": lambda g: 2 <= _index(g) < 3,
    "Sersic index 3 to 6": lambda g: 3 <= _index(g) < 7,
    'half-light radius below 0.3"': lambda g: _radius(g) < 0.3,
    'half-light radius 0.3" to 0.6"': lambda g: 0.3 <= _radius(g) < 0.6,
    'half-light radius from 0.6"': lambda g: _radius(g) >= 0.6,
    "axis ratio below 0.4": lambda g: g.axis_ratio < 0.4,
    "axis ratio 0.4 to 0.7": lambda g: 0.4 <= g.axis_ratio < 0.7,
    "axis ratio from 0.7": lambda g: g.axis_ratio >= 0.7,
}


def tight_camera() -> Camera:
    """Return a camera that draws as precisely as GalSim can in seconds."""
    import galsim

    return Camera(
        galsim.GSParams(
            folding_threshold=1e-4,
            maxk_threshold=1e-6,
            kvalue_accuracy=1e-6,
            stepk_minimum_hlr=8,
            maximum_fft_size=32768,
        )
    )


def relative_errors(images: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the largest error of each image relative to its peak, shape (galaxies, 6).

    Args:
        images: shape (galaxies, 6, 64, 64).
        truth: what they should be.
    """
    return np.asarray(np.abs(images - truth).max((2, 3)) / truth.max((2, 3)))


def table() -> str:
    """Draw the galaxies in all three ways and return the errors as a Markdown table."""
    renderer = KSpace(Tables())
    rng, catalogue = np.random.default_rng(0), SyntheticCatalogue()
    drawn = [draw_galaxy(renderer, catalogue, rng) for _ in range(OF)]
    galaxies = drawn[:GALAXIES]
    largest = sorted(drawn[GALAXIES:], key=_extent)[-LARGEST:]
    ours, default = _both_errors(renderer, galaxies)
    rows: List[Tuple[str, ...]] = [
        ("", "galaxies", "k-space: largest", "median", "default GalSim: largest", "median"),
        ("---",) * 6,
    ]
    for name, belongs in _CLASSES.items():
        chosen = np.array([belongs(galaxy) for galaxy in galaxies])
        rows.append(_row(name, ours[chosen], default[chosen]))
    for band, name in enumerate(BANDS):
        rows.append(_row(f"band {name}", ours[:, [band]], default[:, [band]]))
    rows.append(_row(f"the {LARGEST} largest of {OF - GALAXIES} others", *_both_errors(renderer, largest)))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _both_errors(renderer: KSpace, galaxies: List[Galaxy]) -> Tuple[np.ndarray, np.ndarray]:
    truth = tight_camera().draw_all(galaxies)
    return relative_errors(renderer.draw_all(galaxies), truth), relative_errors(Camera().draw_all(galaxies), truth)


def _row(name: str, *errors: np.ndarray) -> Tuple[str, ...]:
    figures = [f"{figure:.1e}" for e in errors for figure in (e.max(), np.median(e))]
    return (name, str(len(errors[0])), *figures)


def _index(galaxy: Galaxy) -> Any:
    return galaxy.components[0].sersic_index if len(galaxy.components) == 1 else np.nan


def _radius(galaxy: Galaxy) -> float:
    return max(c.half_light_radius_arcsec for c in galaxy.components)


def _extent(galaxy: Galaxy) -> float:
    return max(c.half_light_radius_arcsec / math.sqrt(c.axis_ratio) for c in galaxy.components)


if __name__ == "__main__":
    sys.stdout.write(table() + "\n")
