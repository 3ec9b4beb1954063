"""The cache of images: whole parts or none, whoever writes them and whatever goes wrong."""

from __future__ import annotations

import errno
import json
import os
import resource
import subprocess
import sys

import numpy as np
import pytest

from siderostat.workloads.archive import Archive, singles
from siderostat.workloads.base import BadInput, Spec
from siderostat.workloads.cache import root
from siderostat.workloads.galaxy_images import data
from siderostat.workloads.galaxy_images.data import ImageSet
from tests.galaxies import put_tables

pytest.importorskip("galsim")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache without images, and parts of two of them, which are quick to draw."""
    put_tables(tmp_path / "cache")
    monkeypatch.setenv("SIDEROSTAT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(data, "PART_IMAGES", 2)
    return tmp_path / "cache"


@pytest.fixture
def drawn(monkeypatch):
    """The parts drawn from here on, in order."""
    parts, draw = [], ImageSet._draw
    monkeypatch.setattr(ImageSet, "_draw", lambda self, part: parts.append(part) or draw(self, part))
    return parts


def test_the_order_in_which_parts_are_made_does_not_matter(cache, monkeypatch):
    images, labels = ImageSet(0).load(4)
    put_tables(cache.with_name("cache-2"))
    monkeypatch.setenv("SIDEROSTAT_CACHE", str(cache.with_name("cache-2")))
    backwards = ImageSet(0)
    backwards.make_part(1)
    backwards.make_part(0)
    again = backwards.load(4)
    assert np.array_equal(again[0], images) and np.array_equal(again[1], labels)
    assert images.shape == (4, 6, 64, 64) and labels.shape == (4, 3)


def test_more_images_extend_the_set(drawn):
    few, _ = ImageSet(0).load(1)
    more, _ = ImageSet(0).load(5)
    assert np.array_equal(few, more[:1]) and len(more) == 5
    assert drawn == [0, 1, 2]


def test_what_is_made_is_not_made_again(drawn):
    ImageSet(0).make_part(0)
    ImageSet(0).make_part(0)
    ImageSet(0).load(2)
    assert drawn == [0]


def test_an_interrupted_generation_goes_on_where_it_stopped(drawn):
    image_set = ImageSet(0)
    image_set.make_part(0)
    image_set.make_part(2)
    left_over = image_set.path(1).with_name("part-00001.npz.12345.tmp")
    left_over.write_bytes(b"half a part")
    drawn.clear()
    image_set.load(6)
    assert drawn == [1]
    assert not left_over.exists()


def _part(part=0):
    """What lies on the disk of a part, None where that is damaged."""
    image_set = ImageSet(0)
    identity = {"version": data.VERSION, "fingerprint": image_set.fingerprint, "part": part}
    return Archive(image_set.path(part), identity, singles(data._shapes()), "galaxy images").read()


def _rewrite(path, **changed):
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    np.savez(path, **{**arrays, **changed})


def _flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0x40
    path.write_bytes(bytes(content))


def _other_meta(path, **changed):
    with np.load(path) as file:
        meta = json.loads(str(file["meta"]))
    _rewrite(path, meta=np.array(json.dumps({**meta, **changed})))


DAMAGES = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:100_000]),
    "empty": lambda path: path.write_bytes(b""),
    "another file": lambda path: path.write_bytes(b"something else altogether"),
    "a bit flipped": _flip,
    "not a number": lambda path: _rewrite(path, images=np.full((2, 6, 64, 64), np.nan, np.float32)),
    "wrong shape": lambda path: _rewrite(path, images=np.zeros((1, 6, 64, 64), np.float32)),
    "wrong type": lambda path: _rewrite(path, labels=np.zeros((2, 3))),
    "unreadable meta": lambda path: _rewrite(path, meta=np.array("{")),
    "meta of another kind": lambda path: _rewrite(path, meta=np.array("[]")),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_part_is_made_again(damage, drawn):
    image_set = ImageSet(0)
    good, labels = image_set.load(2)
    damage(image_set.path(0))
    drawn.clear()
    again = image_set.load(2)
    assert drawn == [0]
    assert np.array_equal(again[0], good) and np.array_equal(again[1], labels)
    assert _part() is not None


def test_damage_anywhere_in_the_archive_is_noticed_or_harmless():
    image_set = ImageSet(0)
    good, _ = image_set.load(2)
    whole = image_set.path(0).read_bytes()
    rng = np.random.default_rng(0)
    # The headers and the directory at the end: the checksum covers the rest.
    places = [*rng.integers(0, 400, 100), *rng.integers(len(whole) - 700, len(whole), 700)]
    for place in places:
        content = bytearray(whole)
        content[place] ^= int(rng.integers(1, 256))
        image_set.path(0).write_bytes(bytes(content))
        try:
            read = _part()
        except BadInput:  # a version that reads otherwise
            continue
        assert read is None or np.array_equal(read["images"], good)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"version": 1}, "version 1"),
        ({"fingerprint": "0" * 16}, "fingerprint 0000000000000000"),
        ({"part": 7}, "part 7"),
    ],
)
def test_a_sound_part_of_something_else_is_named_and_left_alone(changed, words, drawn):
    image_set = ImageSet(0)
    image_set.make_part(0)
    _other_meta(image_set.path(0), **changed)
    before = image_set.path(0).read_bytes()
    drawn.clear()
    for use in (lambda: ImageSet(0).load(2), lambda: ImageSet(0).make_part(0)):
        with pytest.raises(BadInput, match=rf"part-00000\.npz holds .*{words}.* where version 2, .* belongs.*move it"):
            use()
    assert drawn == []
    assert image_set.path(0).read_bytes() == before


def test_a_set_of_the_first_version_is_named_too():
    """Its parts have the same names and arrays; a user may have put them where the new ones go."""
    image_set = ImageSet(0)
    image_set.make_part(0)
    meta = json.dumps({"version": 1, "fingerprint": "5" * 16, "part": 0, "galsim": "2.8", "numpy": "2.0"})
    _rewrite(image_set.path(0), meta=np.array(meta))
    with pytest.raises(BadInput, match="version 1"):
        image_set.load(1)


def test_sets_that_pixels_tell_apart_lie_apart(monkeypatch):
    image_set = ImageSet(0)
    image_set.make_part(0)
    before = image_set.path(0).stat().st_mtime_ns
    folders = [image_set.folder, ImageSet(1).folder, ImageSet(0, noise="gaussian").folder]
    folders += [ImageSet(0, noise="none").folder, ImageSet(0, renderer="galsim").folder]
    with monkeypatch.context() as patch:
        patch.setattr("siderostat.workloads.galaxy_images.survey.PSF_FWHM_ARCSEC", 0.8)
        folders.append(ImageSet(0).folder)
    for module in ("data", "tables", "kspace"):
        with monkeypatch.context() as patch:
            patch.setattr(f"siderostat.workloads.galaxy_images.{module}.VERSION", 1000)
            folders.append(ImageSet(0).folder)
    monkeypatch.setattr(data, "VERSION", 1000)
    ImageSet(0).make_part(0)
    assert len(set(folders)) == len(folders)
    assert image_set.path(0).stat().st_mtime_ns == before


def test_both_renderers_make_the_same_images():
    fast, labels = ImageSet(0, noise="none").load(4)
    reference, same_labels = ImageSet(0, noise="none", renderer="galsim").load(4)
    assert np.array_equal(labels, same_labels)
    assert (np.abs(fast - reference) <= 2e-4 * reference.max((2, 3), keepdims=True)).all()


def test_the_noise_that_was_asked_for_is_in_the_images():
    clean, labels = ImageSet(0, noise="none").load(2)
    for noise in ("poisson", "gaussian"):
        noisy, same_labels = ImageSet(0, noise=noise).load(2)
        assert np.array_equal(labels, same_labels)
        expected = np.sqrt(np.maximum(clean, 0) + data.survey.sky_electrons()[:, None, None])
        assert ((noisy - clean) / expected).std() == pytest.approx(1, abs=0.02)


def test_loading_may_start_anywhere(drawn):
    images, labels = ImageSet(0).load(7)
    for first, count in ((0, 3), (3, 1), (1, 6), (2, 2), (7, 0)):
        some, their_labels = ImageSet(0).load(count, first)
        assert np.array_equal(some, images[first : first + count])
        assert np.array_equal(their_labels, labels[first : first + count])
    drawn.clear()
    ImageSet(0).load(2, 20)
    assert drawn == [10]


def _spec(**options):
    return Spec("dnn", "train", "torch", 2, "paper", 0, options)


def test_options_choose_the_set():
    assert data.count(_spec()) == 512
    assert data.count(_spec(images=7)) == 7
    assert data.image_set(_spec()).fingerprint == ImageSet(0).fingerprint
    chosen = data.image_set(_spec(image_seed=3, noise="none", renderer="galsim"))
    assert chosen.fingerprint == ImageSet(3, "", "none", "galsim").fingerprint
    provenance = chosen.provenance()
    assert (provenance["seed"], provenance["noise"], provenance["renderer"]) == (3, "none", "galsim")
    assert json.loads(json.dumps(provenance)) == provenance


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_seed": -1}, "image_seed must be a whole number of at least 0, not -1"),
        ({"image_seed": True}, "image_seed must be a whole number"),
        ({"noise": "loud"}, "noise must be one of poisson, gaussian, none, not 'loud'"),
        ({"renderer": "pen"}, "renderer must be one of kspace, galsim, not 'pen'"),
        ({"catalogue": "a.fits", "image_file": "b_images.npy"}, "catalogue and image_file were both given"),
    ],
)
def test_values_that_cannot_be_are_refused(options, message):
    with pytest.raises(BadInput, match=message):
        data.image_set(_spec(**options))


@pytest.mark.parametrize("images", [0, 1.5, True, "12"])
def test_the_number_of_images_is_positive_and_whole(images):
    with pytest.raises(BadInput, match="images must be a whole number of at least 1"):
        data.count(_spec(images=images))


TWO_MAKERS = """
import sys, time
from siderostat.workloads.galaxy_images import data
data.PART_IMAGES = 2
draw = data.ImageSet._draw
def slowly(self, part):
    print("drawn", flush=True)
    time.sleep(0.5)
    return draw(self, part)
data.ImageSet._draw = slowly
print("ready", flush=True)
sys.stdin.readline()
data.ImageSet(0).make_part(0)
"""


def test_of_two_processes_one_makes_the_part_and_the_other_waits():
    pipe = subprocess.PIPE
    makers = [subprocess.Popen([sys.executable, "-c", TWO_MAKERS], stdin=pipe, stdout=pipe, text=True) for _ in "ab"]
    assert [maker.stdout.readline() for maker in makers] == ["ready\n"] * 2
    for maker in makers:
        maker.stdin.write("go\n")
        maker.stdin.flush()
    outputs = [maker.communicate(timeout=60)[0] for maker in makers]
    assert [maker.returncode for maker in makers] == [0, 0]
    assert sorted(outputs) == ["", "drawn\n"]
    image_set = ImageSet(0)
    assert _part() is not None
    assert sorted(p.name for p in image_set.folder.iterdir()) == ["part-00000.lock", "part-00000.npz"]


def test_a_full_disk_ends_in_a_sentence_and_leaves_nothing(monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    image_set = ImageSet(0)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(BadInput, match=r"cannot write galaxy images to .*No space left.*SIDEROSTAT_CACHE"):
            image_set.make_part(0)
    assert [p.name for p in image_set.folder.iterdir()] == ["part-00000.lock"]
    image_set.make_part(0)
    assert _part() is not None


def test_a_write_that_the_system_cuts_short_leaves_nothing():
    image_set = ImageSet(0)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, limits[1]))  # a part of two images is 197 kB
    try:
        with pytest.raises(BadInput, match="cannot write galaxy images"):
            image_set.make_part(0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [p.name for p in image_set.folder.iterdir()] == ["part-00000.lock"]


def test_a_cache_that_is_no_folder_ends_in_a_sentence(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SIDEROSTAT_CACHE", str(tmp_path / "file"))
    with pytest.raises(BadInput, match="set SIDEROSTAT_CACHE"):
        ImageSet(0).load(1)


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    assert root() == tmp_path / "cache"
    monkeypatch.delenv("SIDEROSTAT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert root() == tmp_path / "xdg" / "siderostat"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert root() == tmp_path / "home" / ".cache" / "siderostat"
