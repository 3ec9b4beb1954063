"""Lenses of every class by both instruments, to look at."""

from __future__ import annotations

import base64
import functools
import zlib
from typing import Any

import numpy as np

from siderostat.reproduce.alexander2022.scales import Scale
from siderostat.reproduce.parts import Part
from siderostat.workloads.lens_images import data
from siderostat.workloads.lens_images.catalogue import CLASSES
from siderostat.workloads.lens_images.instruments import INSTRUMENTS

NAME = "lenses"
SEED = 999_999  # of these images, which no training sees
_SHOWN = 8  # of each class by each instrument


def plan(scale: Scale) -> Part:
    """Return the part that makes the pictures."""
    settings = {"images": data.VERSION, "pixels": scale.pixels, "shown": _SHOWN, "seed": SEED}
    title = "lenses of each class by each instrument"
    return Part(NAME, title, settings, functools.partial(made, settings), cpu_s=5.0)


def made(settings: dict[str, Any]) -> dict[str, Any]:
    """Return ``pictures`` by class and instrument, as records hold them; instruments see the same lenses."""
    pictures = {}
    count = settings["shown"] * len(CLASSES)
    drawn = {name: data.images(name, count, settings["pixels"], settings["seed"]) for name in INSTRUMENTS}
    for label, kind in enumerate(CLASSES):
        for name, (images, labels) in drawn.items():
            pictures[f"{kind}, {INSTRUMENTS[name].title}"] = _packed(images[labels == label, 0])
    return {"pictures": pictures}


def _packed(images: np.ndarray) -> dict[str, Any]:
    """Return images between 0 and 1, (n, rows, columns), as grey pictures: their shape, and their bytes compressed."""
    grey = np.repeat(np.rint(images * 255).astype(np.uint8)[..., None], 3, axis=3)
    return {"shape": list(grey.shape), "zlib_base64": base64.b64encode(zlib.compress(grey.tobytes(), 9)).decode()}
