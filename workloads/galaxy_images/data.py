"""Images on disk: made once, in parts that may be made in any order and by several processes at a time.

A set lies in ``$SIDEROSTAT_CACHE/galaxy-images/<fingerprint>``. The fingerprint stands for all that the pixels
depend on, so a set is never confused with that of another seed, catalogue or version, and more images
extend it. A part appears under its name only when it is whole, and is verified whenever it is read.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import io
import json
import os
import struct
import zipfile
from pathlib import Path
from typing import Any, Dict, Iterator, Tuple

import numpy as np

from siderostat.workloads import cache
from siderostat.workloads.base import BadInput
from siderostat.workloads.galaxy_images import cosmos, survey

VERSION = 1
"""Of the generator. Rises with every change that moves a pixel or a label."""

LABELS = ("e1", "e2", "redshift")
"""What an image is labelled with; the order of all arrays with a label dimension."""

PART_IMAGES = 64

Part = Tuple[np.ndarray, np.ndarray]  # images, (64, 6, 64, 64), and labels, (64, 3); float32

# What reading a damaged .npz can raise: a bad archive, a bad member, a bad array, bad JSON.
_DAMAGE = (OSError, ValueError, KeyError, EOFError, RuntimeError, struct.error, zipfile.BadZipFile)


class ImageSet:
    """Images of one seed and one catalogue, as many as anyone asks for.

    Args:
        seed: of the images.
        catalogue: path of a COSMOS catalogue, or "" for the made-up one.

    Raises:
        BadInput: if the catalogue cannot be read.
    """

    def __init__(self, seed: int, catalogue: str = "") -> None:
        self._seed = seed
        self._catalogue = catalogue
        self.fingerprint = _fingerprint(seed, cosmos.identity(catalogue))
        self.folder = cache.root() / "galaxy-images" / self.fingerprint

    def path(self, part: int) -> Path:
        """Return where a part lies once it is made."""
        return self.folder / f"part-{part:05d}.npz"

    def make_part(self, part: int) -> None:
        """Make a part unless it is there and sound. Of several processes, one makes it and the others wait.

        Raises:
            BadInput: if the cache cannot be written, or the catalogue cannot be used.
        """
        if self._read(part) is None:
            self._make_under_lock(part)

    def load(self, images: int) -> Part:
        """Return the first ``images`` images and their labels, made where they are not there yet.

        Raises:
            BadInput: if the cache cannot be written, or the catalogue cannot be used.
        """
        pixels = np.empty((images, *_shapes()["images"][1:]), np.float32)
        labels = np.empty((images, len(LABELS)), np.float32)
        for part in range(parts(images)):
            found = self._read(part)
            part_pixels, part_labels = self._make_under_lock(part) if found is None else found
            here = slice(part * PART_IMAGES, min((part + 1) * PART_IMAGES, images))
            pixels[here] = part_pixels[: here.stop - here.start]
            labels[here] = part_labels[: here.stop - here.start]
        return pixels, labels

    def _make_under_lock(self, part: int) -> Part:
        with self._lock(part):
            found = self._read(part)  # another process may have made it in the meantime
            if found is None:
                found = self._draw(part)
                with self._writing():
                    self._write(part, found)
            return found

    def _draw(self, part: int) -> Part:
        from siderostat.workloads.galaxy_images.camera import make_image

        camera, catalogue = self._sources
        first = part * PART_IMAGES
        made = [make_image(camera, catalogue, self._seed, first + i) for i in range(PART_IMAGES)]
        return np.stack([image for image, _ in made]), np.stack([label for _, label in made])

    @functools.cached_property
    def _sources(self) -> Tuple[Any, Any]:
        """The camera and the catalogue, opened only where something has to be drawn."""
        from siderostat.workloads.galaxy_images.camera import Camera

        return Camera(), cosmos.open_catalogue(self._catalogue)

    def _meta(self, part: int) -> Dict[str, Any]:
        return {"version": VERSION, "fingerprint": self.fingerprint, "part": part}

    def _read(self, part: int) -> Part | None:
        """Return a part, or None where it is missing, damaged or not what its name says."""
        try:
            arrays = _read_npz(self.path(part))
            meta = json.loads(str(arrays["meta"]))
        except _DAMAGE:
            return None
        if not isinstance(meta, dict) or any(meta.get(k) != v for k, v in self._meta(part).items()):
            return None
        for name, shape in _shapes().items():
            array = arrays[name]
            if array.shape != shape or array.dtype != np.float32 or not np.isfinite(array).all():
                return None
        return arrays["images"], arrays["labels"]

    def _write(self, part: int, made: Part) -> None:
        import galsim

        meta = {**self._meta(part), "galsim": galsim.__version__, "numpy": np.__version__}
        # By way of memory: a zip file that cannot be written raises more than OSError.
        whole = io.BytesIO()
        np.savez(whole, images=made[0], labels=made[1], meta=np.array(json.dumps(meta)))
        path = self.path(part)
        for left_over in self.folder.glob(f"{path.name}.*.tmp"):  # of a process that was killed
            left_over.unlink()
        temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        try:
            with temporary.open("wb") as file:
                file.write(whole.getbuffer())
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()

    @contextlib.contextmanager
    def _lock(self, part: int) -> Iterator[None]:
        # The file stays: were it deleted, a process waiting for it and one coming later would both go ahead.
        with self._writing():
            self.folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(str(self.path(part).with_suffix(".lock")), os.O_RDWR | os.O_CREAT, 0o666)
        try:
            with self._writing():
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise BadInput(
                f"cannot write galaxy images to {self.folder}: {error.strerror or error}; "
                "free space there or set SIDEROSTAT_CACHE to another folder"
            ) from error


def parts(images: int) -> int:
    """Return how many parts hold this many images."""
    return -(-images // PART_IMAGES)


def _read_npz(path: Path) -> Dict[str, np.ndarray]:
    """Read the arrays that :meth:`ImageSet._write` stored.

    ``np.load`` parses an array's header before the checksum is known, and a damaged header makes it raise
    almost anything; here the checksum of the whole member comes first.
    """
    with zipfile.ZipFile(str(path)) as archive:
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
            raise zipfile.BadZipFile("a member claims to be compressed")
        members = {name: io.BytesIO(archive.read(f"{name}.npy")) for name in (*_shapes(), "meta")}
    return {name: np.load(content, allow_pickle=False) for name, content in members.items()}


def _shapes() -> Dict[str, Tuple[int, ...]]:
    pixels = (PART_IMAGES, len(survey.BANDS), survey.PIXELS, survey.PIXELS)
    return {"images": pixels, "labels": (PART_IMAGES, len(LABELS))}


def _fingerprint(seed: int, catalogue: str) -> str:
    """Return 16 hex digits, the same on every machine."""
    depends_on = {"version": VERSION, "seed": seed, "survey": survey.constants(), "catalogue": catalogue}
    text = json.dumps(depends_on, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
