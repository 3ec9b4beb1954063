"""What the three ways of drawing lenses have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Sequence

import numpy as np

from siderostat.workloads.base import BadInput
from siderostat.workloads.lens_images.catalogue import Scene
from siderostat.workloads.lens_images.instruments import Instrument

FORMULATIONS = ("fast", "cached", "naive")


class Renderer(ABC):
    """A way to turn scenes into images without noise, for one instrument."""

    @abstractmethod
    def draw_all(self, scenes: Sequence[Scene]) -> np.ndarray:
        """Return images in electrons per second of a source of one electron per second, before magnification.

        The source's surface brightness is taken at the middle of each pixel and convolved with the point spread
        function; nothing is supersampled, as in the public code.

        Returns:
            float64 of shape (scenes, field_pixels, field_pixels).
        """


def open_renderer(formulation: str, instrument: Instrument) -> Renderer:
    """Return the renderer called ``formulation``, one of :data:`FORMULATIONS`.

    Raises:
        BadInput: if there is none.
    """
    if formulation == "fast":
        from siderostat.workloads.lens_images.fast import Fast

        return Fast(instrument)
    if formulation not in FORMULATIONS:
        raise BadInput(f"renderer must be one of {', '.join(FORMULATIONS)}, not {formulation!r}")
    from siderostat.workloads.lens_images.reference import Cached, Naive

    return (Cached if formulation == "cached" else Naive)(instrument)
