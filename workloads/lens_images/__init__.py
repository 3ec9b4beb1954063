"""Images of strong lenses with and without dark matter substructure: what adaptation learns from, and a workload."""

from __future__ import annotations

from typing import ClassVar, Dict, Mapping, Sequence, Tuple

import numpy as np

from siderostat.workloads.base import (
    BadInput,
    Exam,
    Feed,
    Findings,
    Goal,
    Option,
    Phase,
    Size,
    Spec,
    Step,
    Workload,
    WrongResult,
    checked,
)
from siderostat.workloads.lens_images import instruments
from siderostat.workloads.lens_images.catalogue import CLASSES
from siderostat.workloads.lens_images.exposure import corner_sigmas, peak_electrons_s
from siderostat.workloads.lens_images.instruments import INSTRUMENTS
from siderostat.workloads.lens_images.rendering import FORMULATIONS, open_renderer
from siderostat.workloads.lens_images.sources import Sources, open_sources

PIXELS = {"64px": 64, "150px": 150}
SCENES = 510  # drawn before the clock runs, and used in turn; as many of each class
SHOWN = 8  # lenses of each class and instrument in the report
LARGEST_ERROR = 1e-12  # of the peak, against lenstronomy
PEAKS = (0.4, 2.0)  # brightest pixel with noise, in units of what it is without, before resampling
BACKGROUND = (0.6, 1.4)  # standard deviation in the corners, in units of what is due; some 500 pixels at least


class LensImages(Workload):
    """The making of lens images: rays traced, light convolved, noise. What stands in the sky is settled before."""

    name = "lens-images"
    title = "Making of strong-lens images"
    item = "lens image"
    modes = ("make",)
    frameworks = ("numpy",)
    precisions = ("fp64",)
    variants: ClassVar[Mapping[str, Mapping[str, Size]]] = {
        name: {size: Size(0, 0) for size in PIXELS} for name in FORMULATIONS
    }
    batches = (1, 8, 64)
    options: ClassVar[Mapping[str, Option]] = {
        "instrument": Option("hst", "hst (WFC3, F160W) or euclid (VIS)"),
        "image_seed": Option(0, "which images are made"),
        "source": Option("synthetic", "what is lensed: synthetic, hubble or galaxy10"),
        "source_file": Option("", "path of Galaxy10.h5 or Galaxy10_DECals.h5, with source=galaxy10", is_path=True),
    }
    reference = "Alexander et al. (2022), arXiv:2112.12121; lenstronomy (Birrer & Amara 2018)"

    def goal(self, variant: str, mode: str) -> Goal:
        """Return how far images may be from lenstronomy's."""
        return Goal("largest_error", LARGEST_ERROR, budget=0, every=0, batch=SHOWN * len(CLASSES))

    def build(self, spec: Spec) -> Step:
        """Draw the scenes and set the renderer up. All variants get the same scenes and the same noise."""
        from siderostat.workloads.lens_images.making import draw_scenes, finish

        camera, pixels = instruments.instrument(str(self._option(spec, "instrument"))), PIXELS[spec.size]
        scenes = draw_scenes(self._sources(spec), self._seed(spec), range(max(SCENES, spec.batch))).scenes
        renderer, rng = open_renderer(spec.variant, camera), np.random.default_rng(spec.seed)

        def make(which: np.ndarray, labels: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
            """Return new images of these lenses, in electrons per second, and their classes."""
            images = renderer.draw_all([scenes[i] for i in which])
            return finish(images, camera, [rng] * len(which), pixels)[:, None], labels

        labels = np.array([scene.label for scene in scenes], np.int64)
        feed = Feed((np.arange(len(scenes)), labels), spec.batch, spec.seed)
        return Step(spec.framework, (Phase(make, feed),), spec.batch)

    def check(self, spec: Spec, outputs: Sequence[np.ndarray]) -> Dict[str, float]:
        """Return the brightest pixel and the noise in the corners, each in units of what it should be.

        Raises:
            WrongResult: if shapes are wrong, a pixel is not finite, a class is none, or either figure is far from 1.
        """
        pixels = PIXELS[spec.size]
        images, labels = checked(outputs, {"images": (spec.batch, 1, pixels, pixels), "classes": (spec.batch,)})
        if not np.isin(labels, range(len(CLASSES))).all():
            raise WrongResult(f"the classes are {np.unique(labels).tolist()}, and only 0 to {len(CLASSES) - 1} exist")
        camera = instruments.instrument(str(self._option(spec, "instrument")))
        peaks = images.max((1, 2, 3)) / peak_electrons_s(camera)
        _refuse_outside("brightest pixel", peaks, PEAKS)
        corners = corner_sigmas(images[:, 0], camera)
        _refuse_outside("noise in the corners", corners, BACKGROUND)
        return {"peak": float(np.median(peaks)), "background": float(np.median(corners))}

    def exam(self, spec: Spec, step: Step) -> Exam:
        """Return how images without noise are compared with lenstronomy's, for both instruments."""
        from siderostat.workloads.lens_images import quality

        cameras = list(INSTRUMENTS.values())
        renderers = [open_renderer(spec.variant, camera) for camera in cameras]
        drawn = [quality.examined(self._sources(spec), self._seed(spec), SHOWN) for _ in cameras]

        def draw(camera: np.ndarray) -> np.ndarray:
            """Return the images of one instrument without noise."""
            return renderers[int(camera[0])].draw_all(drawn[int(camera[0])].scenes)

        def judge(outputs: Sequence[Sequence[np.ndarray]]) -> Findings:
            return quality.judge([of[0] for of in outputs], cameras, drawn, PIXELS[spec.size])

        return Exam(draw, [(np.array([i]),) for i in range(len(cameras))], judge)

    def _sources(self, spec: Spec) -> Sources:
        return open_sources(str(self._option(spec, "source")), str(self._option(spec, "source_file")))

    def _seed(self, spec: Spec) -> int:
        seed = self._option(spec, "image_seed")
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise BadInput(f"image_seed must be a whole number of at least 0, not {seed!r}")
        return seed

    def _option(self, spec: Spec, name: str) -> object:
        return spec.options.get(name, self.options[name].default)


def _refuse_outside(what: str, values: np.ndarray, limits: Tuple[float, float]) -> None:
    wrong = np.flatnonzero((values < limits[0]) | (values > limits[1]))
    if len(wrong):
        raise WrongResult(
            f"the {what} of image {wrong[0]} is {values[wrong[0]]:.3g} times what is due; "
            f"{limits[0]:g} to {limits[1]:g} can be explained by noise"
        )
