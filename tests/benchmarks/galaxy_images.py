"""Making galaxy images: the k-space renderer against six chromatic GalSim drawings per galaxy, in one run on one thread.

Rounds take turns, each way of drawing on galaxies of the same round; seconds are CPU seconds of this process. Ends with
1 where the renderer is less than 20 times as fast, or more than 2e-4 of the peak off.
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import statistics
import sys
import time
from collections.abc import Callable

import numpy as np

from siderostat.workloads.galaxy_images.camera import Camera
from siderostat.workloads.galaxy_images.catalogue import Galaxy, SyntheticCatalogue
from siderostat.workloads.galaxy_images.errors import relative_errors, tight_camera
from siderostat.workloads.galaxy_images.kspace import KSpace
from siderostat.workloads.galaxy_images.making import draw_galaxy, make_images
from siderostat.workloads.galaxy_images.noise import add_noise
from siderostat.workloads.galaxy_images.tables import Tables

ROUNDS, FEW, MANY = 9, 16, 256  # galaxies per round: of the slow way, of the fast ones
COMPARED = 200
LEAST_RATIO, LARGEST_ERROR = 20.0, 2e-4


def seconds_each(draw: Callable[[list[Galaxy]], object], galaxies: list[Galaxy]) -> float:
    """Return CPU seconds per galaxy."""
    start = time.process_time()
    draw(galaxies)
    return (time.process_time() - start) / len(galaxies)


def main() -> int:
    """Print the ratios and the error, each with its bar."""
    camera, kspace, catalogue = Camera(), KSpace(Tables()), SyntheticCatalogue()
    rng = np.random.default_rng(0)
    galaxies = [draw_galaxy(kspace, catalogue, rng) for _ in range(MANY)]

    def naive(few: list[Galaxy]) -> np.ndarray:
        return np.stack([camera.draw_chromatic(galaxy) for galaxy in few])

    def naive_noisy(few: list[Galaxy]) -> list[np.ndarray]:
        return [add_noise(image, rng) for image in naive(few)]

    def naive_whole(few: list[Galaxy]) -> list[np.ndarray]:
        chosen = [draw_galaxy(camera, catalogue, np.random.default_rng([0, i])) for i in range(len(few))]
        return naive_noisy(chosen)

    def fast_noisy(noise: str) -> Callable[[list[Galaxy]], object]:
        return lambda many: [add_noise(image, rng, noise) for image in kspace.draw_all(many)]

    def fast_whole(noise: str) -> Callable[[list[Galaxy]], object]:
        return lambda many: make_images(kspace, catalogue, 0, range(len(many)), noise)

    ways = {
        "drawing alone": (kspace.draw_all, naive),
        "drawing, Poisson noise (naive: Poisson)": (fast_noisy("poisson"), naive_noisy),
        "drawing, Gaussian noise (naive: Poisson)": (fast_noisy("gaussian"), naive_noisy),
        "all, choice of galaxies too, Poisson": (fast_whole("poisson"), naive_whole),
        "all, choice of galaxies too, Gaussian (naive: Poisson)": (fast_whole("gaussian"), naive_whole),
    }
    naive(galaxies)  # GalSim sets up each Sersic index at first use
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for start in range(0, ROUNDS * FEW, FEW):
        few = [galaxies[i % MANY] for i in range(start, start + FEW)]
        for name, (fast, slow) in ways.items():
            times[name].append((seconds_each(fast, galaxies), seconds_each(slow, few)))
    medians = {}
    for name, pairs in times.items():
        ratios = sorted(slow / fast for fast, slow in pairs)
        medians[name] = statistics.median(ratios)
        fast_s, slow_s = (statistics.median(pair[i] for pair in pairs) for i in (0, 1))
        print(f"k-space / naive, {name}: {medians[name]:.1f}   ({1 / fast_s:.0f} against {1 / slow_s:.1f} images/s)")
        print(f"    {ROUNDS} pairs from {ratios[0]:.1f} to {ratios[-1]:.1f}")
    truth = tight_camera().draw_all(galaxies[:COMPARED])
    error, default = (relative_errors(r.draw_all(galaxies[:COMPARED]), truth).max() for r in (kspace, camera))
    print(f"largest error over {COMPARED} galaxies and six bands, of the peak: {error:.1e} (bar {LARGEST_ERROR:.0e})")
    print(f"    that of GalSim with its default accuracy: {default:.1e}")
    ratio = medians["drawing alone"]
    print(f"ratio of drawing alone {ratio:.1f} (bar {LEAST_RATIO:.0f})")
    return int(ratio < LEAST_RATIO or not error <= LARGEST_ERROR)


if __name__ == "__main__":
    sys.exit(main())
