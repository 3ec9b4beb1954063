"""Arithmetic that every host does alike: what ``siderostat selftest`` measures, and what hosts can be compared by."""

from __future__ import annotations

from typing import Callable, Dict, Sequence

import numpy as np

from siderostat.workloads.base import BadInput, Feed, Option, Phase, Size, Spec, Step, Workload, WrongResult

_SIDE = 64
_SHIFT = 0.3  # pixels, in both directions
_TOLERANCE = 1e-4  # relative change of the sum of squares over all passes; float32 loses about 1e-7 in each


class Arithmetic(Workload):
    """Shifts images by a fraction of a pixel in Fourier space, again and again, on one thread.

    A shift keeps the sum of squares (Parseval), which is what is checked.
    """

    name = "arithmetic"
    title = "Arithmetic: a fixed amount of NumPy work on one thread"
    item = "image"
    modes = ("infer",)
    frameworks = ("numpy",)
    variants = {"fourier": {"small": Size(0, 0)}}
    batches = (4,)
    options = {
        "passes": Option(10, "shifts per image; 11 instead of 10 is a slowdown of very nearly a tenth"),
        "label": Option("", "tells two cells apart that are otherwise the same, as a comparison with itself needs"),
    }

    def build(self, spec: Spec) -> Step:
        """See :meth:`Workload.build`."""
        passes = spec.options["passes"]
        if passes < 1:
            raise BadInput(f"passes is a whole number of at least 1, not {passes}")
        return Step("numpy", [Phase(_shift(passes), Feed([_images(spec)], spec.batch, spec.seed))], items=spec.batch)

    def check(self, spec: Spec, outputs: Sequence[np.ndarray]) -> Dict[str, float]:
        """See :meth:`Workload.check`."""
        change = abs(float((outputs[0].astype(float) ** 2).sum() / (_images(spec).astype(float) ** 2).sum()) - 1)
        if not change < _TOLERANCE:
            raise WrongResult(f"shifted images changed their sum of squares by {change:.1e}, more than {_TOLERANCE:g}")
        return {"energy_change": change}


def _images(spec: Spec) -> np.ndarray:
    """Return noise without the Nyquist frequency, whose shift by part of a pixel is not real."""
    noise = np.random.default_rng(spec.seed).standard_normal((spec.batch, _SIDE, _SIDE))
    waves = np.fft.rfft2(noise)
    waves[:, _SIDE // 2], waves[:, :, _SIDE // 2] = 0, 0
    return np.fft.irfft2(waves, s=(_SIDE, _SIDE)).astype(np.float32)


def _shift(passes: int) -> Callable[[np.ndarray], np.ndarray]:
    rows, columns = np.fft.fftfreq(_SIDE), np.fft.rfftfreq(_SIDE)
    phase = np.exp(-2j * np.pi * _SHIFT * (rows[:, None] + columns)).astype(np.complex64)

    def run(images: np.ndarray) -> np.ndarray:
        for _ in range(passes):
            images = np.fft.irfft2(np.fft.rfft2(images) * phase, s=(_SIDE, _SIDE))
        return images

    return run
