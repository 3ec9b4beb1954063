"""Labelled images of lenses on disk: made once, in parts that may be made in any order and by several processes.

A set lies in ``$SIDEROSTAT_CACHE/lens-images/<fingerprint>``. The fingerprint stands for all that the pixels depend on,
so a set is never confused with that of another seed, camera, source or version, and more images extend it. A part
appears under its name only when it is whole, and is verified whenever it is read: a killed run goes on where it was.
"""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Dict, Tuple

import numpy as np

from siderostat.workloads import cache
from siderostat.workloads.archive import Archive, Arrays, singles
from siderostat.workloads.base import BadInput
from siderostat.workloads.lens_images import catalogue, exposure, instruments
from siderostat.workloads.lens_images.sources import Sources, open_sources

VERSION = 1
"""Of the generator. Rises with every change that moves a pixel or a label."""

PART_IMAGES = 96  # a multiple of the three classes

LEAST_PIXELS = 16


def images(
    instrument: str, count: int, pixels: int, seed: int, source: str = "synthetic", path: str = ""
) -> Tuple[np.ndarray, np.ndarray]:
    """Return labelled images of lenses, made where they are not in the cache yet.

    Classes take turns, so that their numbers differ by one at most. The same seed gives the same lenses to both
    instruments; take two seeds for two sets that are not to show the same ones.

    Args:
        instrument: ``hst`` or ``euclid``, or the path of a folder of DeepLense images to read instead of making any.
        count: how many.
        pixels: on a side of each image; the field is 6.4" whatever it is.
        seed: which ones.
        source: what is lensed: ``synthetic``, ``hubble`` or ``galaxy10``.
        path: of the Galaxy10 file, else empty.

    Returns:
        Images between 0 and 1, each divided by its brightest pixel, negative ones 0, float32 of shape
        (count, 1, pixels, pixels); and classes, int64 of shape (count,): 0 no substructure, 1 CDM subhalos, 2 vortex.

    Raises:
        BadInput: if an argument cannot be, a file cannot be used, or the cache cannot be written.
    """
    _check_whole("the number of images", count, 1)
    if instrument not in instruments.INSTRUMENTS and Path(instrument).is_dir():
        from siderostat.workloads.lens_images.deeplense import DeepLenseFolder

        light, labels = DeepLenseFolder(Path(instrument)).load(count, pixels, seed)
    else:
        light, labels = ImageSet(instrument, pixels, seed, source, path).load(count)
    return exposure.normalised(light)[:, None].astype(np.float32), labels


class ImageSet:
    """Images of one seed by one instrument, as many as anyone asks for.

    Args:
        instrument: ``hst`` or ``euclid``.
        pixels: on a side of an image.
        seed: of the images.
        source: one of :data:`sources.SOURCES`.
        path: of the Galaxy10 file, else empty.

    Raises:
        BadInput: if an argument cannot be, or the file cannot be used.
    """

    def __init__(self, instrument: str, pixels: int, seed: int, source: str = "synthetic", path: str = "") -> None:
        self._instrument = instruments.instrument(instrument)
        self._pixels = _check_whole("the number of pixels on a side", pixels, LEAST_PIXELS)
        self._seed = _check_whole("the seed of the images", seed, 0)
        self._sources: Sources = open_sources(source, path)
        self._depends_on = {
            "version": VERSION,
            "seed": seed,
            "pixels": pixels,
            "instrument": asdict(self._instrument),
            "source": self._sources.identity,
            "sky": _constants(),
        }
        text = json.dumps(self._depends_on, sort_keys=True)
        self.fingerprint = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
        self.folder = cache.root() / "lens-images" / self.fingerprint

    def path(self, part: int) -> Path:
        """Return where a part lies once it is made."""
        return self.folder / f"part-{part:05d}.npz"

    def make_part(self, part: int) -> None:
        """Make a part unless it is there and sound. Of several processes, one makes it and the others wait.

        Raises:
            BadInput: if the cache cannot be written, a source cannot be read, or the file holds something else.
        """
        self._obtain(part)

    def load(self, count: int) -> Tuple[np.ndarray, np.ndarray]:
        """Return the first ``count`` images and their classes, made where they are not there yet.

        Returns:
            Images in electrons per second, float32 of shape (count, pixels, pixels), and classes, int64.

        Raises:
            BadInput: if the cache cannot be written, a source cannot be read, or a part holds something else.
        """
        found = [self._obtain(part) for part in range(parts(count))]
        pixels = np.concatenate([part["images"] for part in found])[:count]
        return pixels, np.concatenate([part["labels"] for part in found])[:count].astype(np.int64)

    def provenance(self) -> Dict[str, Any]:
        """Return what the images were made from, as JSON takes it."""
        made = {"fingerprint": self.fingerprint, "version": VERSION, "seed": self._seed, "pixels": self._pixels}
        return {**made, "instrument": self._instrument.name, **self._sources.provenance()}

    def _obtain(self, part: int) -> Arrays:
        identity = {"version": VERSION, "fingerprint": self.fingerprint, "part": part}
        shapes = {"images": (PART_IMAGES, self._pixels, self._pixels), "labels": (PART_IMAGES,)}
        archive = Archive(self.path(part), identity, singles(shapes), "lens images", ("numba",))
        return archive.obtain(lambda: self._draw(part))

    def _draw(self, part: int) -> Arrays:
        from siderostat.workloads.lens_images.making import make_images

        indices = range(part * PART_IMAGES, (part + 1) * PART_IMAGES)
        light, labels = make_images(self._renderer, self._instrument, self._sources, self._seed, indices, self._pixels)
        return {"images": light.astype(np.float32), "labels": labels.astype(np.float32)}

    @functools.cached_property
    def _renderer(self) -> Any:
        """Compiled only where something has to be drawn."""
        from siderostat.workloads.lens_images.rendering import open_renderer

        return open_renderer("fast", self._instrument)


def parts(count: int) -> int:
    """Return how many parts hold this many images."""
    return -(-count // PART_IMAGES)


def _check_whole(what: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise BadInput(f"{what} must be a whole number of at least {least}, not {value!r}")
    return value


def _constants() -> Dict[str, Any]:
    """Return all figures in capitals that a scene or its exposure depends on."""
    names = {**vars(catalogue), "PEAK_SNR": exposure.PEAK_SNR, "MACRO": asdict(catalogue.MACRO)}
    return {name: value for name, value in names.items() if name.isupper() and not name.startswith("_")}
