"""Images on disk: made once, in parts that may be made in any order and by several processes at a time.

A set lies in ``$SIDEROSTAT_CACHE/galaxy-images/<fingerprint>``. The fingerprint stands for all that the pixels
depend on, so a set is never confused with that of another seed, catalogue or version, and more images
extend it. A part appears under its name only when it is whole, and is verified whenever it is read.
"""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path
from typing import Any, Dict, Mapping, Tuple, Union

import numpy as np

from siderostat.workloads import cache
from siderostat.workloads.archive import Archive, Arrays, singles
from siderostat.workloads.base import BadInput, Option, Spec
from siderostat.workloads.galaxy_images import cosmos, survey
from siderostat.workloads.galaxy_images.noise import NOISES
from siderostat.workloads.galaxy_images.zenodo import ImageFile

VERSION = 2
"""Of the generator. Rises with every change that moves a pixel or a label."""

LABELS = ("e1", "e2", "redshift")
"""What an image is labelled with; the order of all arrays with a label dimension."""

PART_IMAGES = 64

RENDERERS = ("kspace", "galsim")

OPTIONS: Mapping[str, Option] = {
    "images": Option(512, "how many images are made and used"),
    "image_seed": Option(0, "which images are made"),
    "catalogue": Option(
        "", "path of a COSMOS catalogue of parametric galaxies; empty: a made-up one like it", is_path=True
    ),
    "noise": Option("poisson", f"one of {', '.join(NOISES)}"),
    "renderer": Option("kspace", "kspace, or galsim: the slow reference"),
    "image_file": Option(
        "", "path of published images, NAME_images.npy with NAME_data.csv beside it, to use instead", is_path=True
    ),
}

Part = Tuple[np.ndarray, np.ndarray]  # images, (n, 6, 64, 64), and labels, (n, 3); float32


class ImageSet:
    """Images of one seed and one catalogue, as many as anyone asks for.

    Args:
        seed: of the images.
        catalogue: path of a COSMOS catalogue, or "" for the made-up one.
        noise: one of :data:`noise.NOISES`.
        renderer: one of :data:`RENDERERS`.

    Raises:
        BadInput: if the catalogue cannot be read, or noise or renderer is unknown.
    """

    def __init__(self, seed: int, catalogue: str = "", noise: str = "poisson", renderer: str = "kspace") -> None:
        self._seed = seed
        self._catalogue = catalogue
        self._noise = _one_of("noise", noise, NOISES)
        self._renderer = _one_of("renderer", renderer, RENDERERS)
        self._depends_on = {
            "version": VERSION,
            "seed": seed,
            "survey": survey.constants(),
            "catalogue": cosmos.identity(catalogue),
            "noise": noise,
            "renderer": _renderer_identity(renderer),
        }
        text = json.dumps(self._depends_on, sort_keys=True)
        self.fingerprint = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
        self.folder = cache.root() / "galaxy-images" / self.fingerprint

    def path(self, part: int) -> Path:
        """Return where a part lies once it is made."""
        return self.folder / f"part-{part:05d}.npz"

    def parts(self, images: int) -> int:
        """Return in how many parts this many images are made."""
        return parts(images)

    def make_part(self, part: int) -> None:
        """Make a part unless it is there and sound. Of several processes, one makes it and the others wait.

        Raises:
            BadInput: if the cache cannot be written, the catalogue cannot be used, or the file holds something else.
        """
        self._obtain(part)

    def load(self, images: int, first: int = 0) -> Part:
        """Return ``images`` images from number ``first`` on and their labels, made where they are not there yet.

        Raises:
            BadInput: if the cache cannot be written, the catalogue cannot be used, or a part holds something else.
        """
        pixels = np.empty((images, *_shapes()["images"][1:]), np.float32)
        labels = np.empty((images, len(LABELS)), np.float32)
        done = 0
        while done < images:
            part, start = divmod(first + done, PART_IMAGES)
            some = min(PART_IMAGES - start, images - done)
            found = self._obtain(part)
            pixels[done : done + some] = found["images"][start : start + some]
            labels[done : done + some] = found["labels"][start : start + some]
            done += some
        return pixels, labels

    def provenance(self) -> Dict[str, Any]:
        """Return what the images were made from, as JSON takes it."""
        names = ("version", "seed", "catalogue", "noise", "renderer")
        return {"fingerprint": self.fingerprint, **{name: self._depends_on[name] for name in names}}

    def _obtain(self, part: int) -> Arrays:
        identity = {"version": VERSION, "fingerprint": self.fingerprint, "part": part}
        return Archive(self.path(part), identity, singles(_shapes()), "galaxy images", ("galsim",)).obtain(
            lambda: self._draw(part)
        )

    def _draw(self, part: int) -> Arrays:
        from siderostat.workloads.galaxy_images.making import make_images

        renderer, catalogue = self._sources
        indices = range(part * PART_IMAGES, (part + 1) * PART_IMAGES)
        images, labels = make_images(renderer, catalogue, self._seed, indices, self._noise)
        return {"images": images, "labels": labels}

    @functools.cached_property
    def _sources(self) -> Tuple[Any, Any]:
        """The renderer and the catalogue, opened only where something has to be drawn."""
        return open_renderer(self._renderer), cosmos.open_catalogue(self._catalogue)


def image_set(spec: Spec) -> Union[ImageSet, ImageFile]:
    """Return the images that the options of ``spec`` ask for, made ones or a file's; both load alike.

    Raises:
        BadInput: if an option has a value that cannot be, or a file named in one cannot be used.
    """
    seed, noise, catalogue, path = (
        image_seed(spec),
        noise_of(spec),
        option(spec, "catalogue"),
        option(spec, "image_file"),
    )
    renderer = _one_of("renderer", option(spec, "renderer"), RENDERERS)
    if not path:
        return ImageSet(seed, str(catalogue), noise, renderer)
    if catalogue:
        raise BadInput(
            "catalogue and image_file were both given: images are either made from the one or read from the other"
        )
    return ImageFile(Path(str(path)), noise)


def count(spec: Spec) -> int:
    """Return how many images the options of ``spec`` ask for.

    Raises:
        BadInput: if that is not a positive whole number.
    """
    return whole_number(spec, "images", 1)


def image_seed(spec: Spec) -> int:
    """Return the seed of the images.

    Raises:
        BadInput: if it is not a whole number of at least 0.
    """
    return whole_number(spec, "image_seed", 0)


def noise_of(spec: Spec) -> str:
    """Return which noise the images get.

    Raises:
        BadInput: if it is none of :data:`noise.NOISES`.
    """
    return _one_of("noise", option(spec, "noise"), NOISES)


def option(spec: Spec, name: str) -> Any:
    """Return the value of one of :data:`OPTIONS`, the default where it was not set."""
    return spec.options.get(name, OPTIONS[name].default)


def whole_number(spec: Spec, name: str, least: int) -> int:
    """Return the value of an option that is a whole number.

    Raises:
        BadInput: if it is not, or is below ``least``.
    """
    value = option(spec, name)
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise BadInput(f"{name} must be a whole number of at least {least}, not {value!r}")
    return value


def parts(images: int) -> int:
    """Return how many parts hold this many images."""
    return -(-images // PART_IMAGES)


def open_renderer(name: str) -> Any:
    """Return the renderer called ``name``, one of :data:`RENDERERS`."""
    if name == "galsim":
        from siderostat.workloads.galaxy_images.camera import Camera

        return Camera()
    from siderostat.workloads.galaxy_images.kspace import KSpace
    from siderostat.workloads.galaxy_images.tables import Tables

    return KSpace(Tables())


def _renderer_identity(name: str) -> str:
    if name == "galsim":
        return name
    from siderostat.workloads.galaxy_images import kspace, tables

    return f"{name}, version {kspace.VERSION}, tables {tables.fingerprint()}"


def _one_of(name: str, value: Any, known: Tuple[str, ...]) -> str:
    if value not in known:
        raise BadInput(f"{name} must be one of {', '.join(known)}, not {value!r}")
    return str(value)


def _shapes() -> Dict[str, Tuple[int, ...]]:
    pixels = (PART_IMAGES, len(survey.BANDS), survey.PIXELS, survey.PIXELS)
    return {"images": pixels, "labels": (PART_IMAGES, len(LABELS))}
