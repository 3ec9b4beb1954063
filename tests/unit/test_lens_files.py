"""Galaxy10 and DeepLense by path: tiny made files, and what is wrong with others."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest

from siderostat.workloads.base import BadInput
from siderostat.workloads.lens_images.data import ImageSet, images
from siderostat.workloads.lens_images.deeplense import DeepLenseFolder
from siderostat.workloads.lens_images.sources import open_sources

h5py = pytest.importorskip("h5py")
SIDE = 69


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SIDEROSTAT_CACHE", str(tmp_path / "cache"))


def _pictures(rows=4, side=SIDE):
    """Round galaxies, each larger than the one before, on a grey sky."""
    along = np.arange(side) - (side - 1) / 2
    radius = np.hypot(along[:, None], along)
    one = [40 + 200 * np.exp(-((radius / (3 + 2 * row)) ** 2)) for row in range(rows)]
    return np.repeat(np.array(one)[..., None], 3, axis=3).astype(np.uint8)


@pytest.fixture
def galaxy10(tmp_path):
    path = tmp_path / "Galaxy10.h5"
    _write(path)
    return path


def _write(path, **changed):
    content = {"images": _pictures(), "ans": np.arange(4, dtype=np.uint8), **changed}
    with h5py.File(path, "w") as file:
        for name, array in content.items():
            if array is not None:
                file.create_dataset(name, data=array)


def test_galaxies_of_the_file_are_lensed(galaxy10):
    sources = open_sources("galaxy10", str(galaxy10))
    rng = np.random.default_rng(0)
    drawn = [sources.draw(rng) for _ in range(40)]
    assert len({light.tobytes() for light in drawn}) == 4
    for light in drawn:
        assert light.shape == (64, 64) and light.min() >= 0
        assert np.unravel_index(light.argmax(), light.shape)[0] in (31, 32)
        assert light[0].max() == 0  # the grey sky is gone
    pytest.importorskip("numba")
    made, labels = images("euclid", 6, 64, 0, "galaxy10", str(galaxy10))
    assert np.isfinite(made).all() and labels.tolist() == [0, 1, 2, 0, 1, 2]


def test_a_larger_picture_fills_the_same_frame(tmp_path, galaxy10):
    small = open_sources("galaxy10", str(galaxy10)).draw(np.random.default_rng(1))
    along = (np.arange(256) + 0.5) * SIDE / 256 - SIDE / 2
    radius = np.hypot(along[:, None], along)
    rows = np.repeat(
        np.array([40 + 200 * np.exp(-((radius / (3 + 2 * row)) ** 2)) for row in range(4)])[..., None], 3, axis=3
    )
    _write(tmp_path / "large.h5", images=rows.astype(np.uint8))
    large = open_sources("galaxy10", str(tmp_path / "large.h5")).draw(np.random.default_rng(1))
    assert np.abs(large - small).max() < 0.05 * small.max()


def test_pictures_without_light_are_passed_over(galaxy10):
    pictures = _pictures()
    pictures[:3] = 7
    _write(galaxy10, images=pictures)
    rng = np.random.default_rng(0)
    assert open_sources("galaxy10", str(galaxy10)).draw(rng).sum() > 0
    _write(galaxy10, images=np.zeros_like(pictures))
    with pytest.raises(BadInput, match=r"1000 pictures drawn from .*Galaxy10\.h5 have no light"):
        open_sources("galaxy10", str(galaxy10)).draw(rng)


def test_hash_size_and_rows_of_galaxy10_are_known_wherever_it_lies(galaxy10, tmp_path):
    provenance = ImageSet("hst", 64, 0, "galaxy10", str(galaxy10)).provenance()
    assert provenance["sha256"] == hashlib.sha256(galaxy10.read_bytes()).hexdigest()
    assert (provenance["bytes"], provenance["rows"]) == (galaxy10.stat().st_size, 4)
    assert json.loads(json.dumps(provenance)) == provenance
    copy = tmp_path / "copy.h5"
    copy.write_bytes(galaxy10.read_bytes())
    assert (
        ImageSet("hst", 64, 0, "galaxy10", str(copy)).folder == ImageSet("hst", 64, 0, "galaxy10", str(galaxy10)).folder
    )
    _write(copy, images=_pictures()[::-1])
    assert (
        ImageSet("hst", 64, 0, "galaxy10", str(copy)).folder != ImageSet("hst", 64, 0, "galaxy10", str(galaxy10)).folder
    )


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"images": None, "redshift": np.zeros(4)}, r"lacks the datasets images; found: ans, redshift"),
        ({"images": None, "ans": None}, r"lacks the datasets images, ans; found: none"),
        ({"images": np.zeros((4, 69, 69))}, r"are float64 of shape \(4, 69, 69\) instead of .* side, side, 3"),
        ({"images": np.zeros((4, 69, 68, 3))}, r"shape \(4, 69, 68, 3\)"),
        ({"images": np.zeros((0, 69, 69, 3)), "ans": np.zeros(0)}, r"shape \(0, 69, 69, 3\)"),
        ({"ans": np.zeros(3)}, r"has 4 images and ans of shape \(3,\); they do not belong together"),
    ],
)
def test_a_file_that_is_no_galaxy10_is_named_with_what_is_in_it(galaxy10, changed, message):
    _write(galaxy10, **changed)
    with pytest.raises(BadInput, match=message) as refused:
        open_sources("galaxy10", str(galaxy10))
    assert str(galaxy10) in str(refused.value)


def test_a_missing_or_damaged_galaxy10_is_named(galaxy10, tmp_path):
    with pytest.raises(BadInput, match=r"nowhere\.h5 cannot be read: No such file"):
        open_sources("galaxy10", str(tmp_path / "nowhere.h5"))
    for content in (b"", b"not HDF5", galaxy10.read_bytes()[:3000]):
        galaxy10.write_bytes(content)
        with pytest.raises(BadInput, match=r"Galaxy10\.h5 cannot be read as an HDF5 file"):
            open_sources("galaxy10", str(galaxy10))


def test_a_picture_that_cannot_be_unpacked_is_named(tmp_path):
    path = tmp_path / "packed.h5"
    with h5py.File(path, "w") as file:
        pictures = _pictures()
        file.create_dataset("images", data=pictures, chunks=(1, SIDE, SIDE, 3), compression="gzip")
        file.create_dataset("ans", data=np.arange(4))
        places = [file["images"].id.get_chunk_info(i).byte_offset for i in range(4)]
    content = bytearray(path.read_bytes())
    for place in places:
        content[place : place + 40] = b"x" * 40
    path.write_bytes(bytes(content))
    with pytest.raises(BadInput, match=r"packed\.h5 is damaged: picture \d cannot be read"):
        open_sources("galaxy10", str(path)).draw(np.random.default_rng(0))


# DeepLense


@pytest.fixture
def folder(tmp_path):
    """Five images of each class, called as in the public sets; image k of class c is brightest at (c, k)."""
    path = tmp_path / "train"
    for label, name in enumerate(("no_sub", "cdm", "axion")):
        (path / name).mkdir(parents=True)
        for k in range(5):
            np.save(path / name / f"sim_{k}.npy", _marked(label, k))
    return path


def _marked(label, k):
    image = np.random.default_rng(0).uniform(-0.1, 0.1, (64, 64))
    image[10 * label, k] = 3
    return image


def _place(image):
    row, column = np.unravel_index(image.argmax(), image.shape)
    return row // 10, int(column)


def test_published_images_are_read_with_their_classes(folder):
    light, labels = images(str(folder), 12, 64, 0)
    assert light.shape == (12, 1, 64, 64) and light.dtype == np.float32
    assert labels.tolist() == [0, 1, 2] * 4
    places = [_place(image[0]) for image in light]
    assert [place[0] for place in places] == labels.tolist()
    assert len(set(places)) == 12
    assert light.min() == 0 and light.max() == 1
    again, _ = images(str(folder), 12, 64, 0)
    other, _ = images(str(folder), 12, 64, 1)
    assert np.array_equal(light, again) and not np.array_equal(light, other)


def test_other_names_shapes_and_sizes_of_the_public_sets_are_known(folder):
    for old, new in (("no_sub", "no"), ("cdm", "sphere"), ("axion", "vort")):
        (folder / old).rename(folder / new)
    for label, name in enumerate(("no", "sphere", "vort")):
        for k in range(5):
            np.save(folder / name / f"sim_{k}.npy", np.kron(_marked(label, k), np.ones((2, 2)))[None].astype("f4"))
    light, labels = images(str(folder), 15, 64, 0)
    assert [_place(image[0])[0] for image in light] == labels.tolist()


def test_what_was_read_is_recorded(folder):
    read = DeepLenseFolder(folder)
    read.load(6, 64, 0)
    provenance = read.provenance()
    assert provenance["rows"] == 6
    assert provenance["bytes"] == 6 * (folder / "cdm" / "sim_0.npy").stat().st_size
    assert provenance["files"] == {"no substructure": 5, "CDM subhalos": 5, "vortex": 5}
    assert len(provenance["sha256"]) == 64
    assert json.loads(json.dumps(provenance)) == provenance


def test_an_object_array_is_refused_with_a_conversion_that_works(folder):
    for file in (folder / "axion").glob("*.npy"):
        pair = np.empty(2, object)
        pair[:] = [np.load(file), 1e-23]
        np.save(file, pair, allow_pickle=True)
    with pytest.raises(BadInput, match=r"axion/sim_\d\.npy is an object array.*convert the folder once") as refused:
        images(str(folder), 6, 64, 0)
    code = str(refused.value).partition('python -c "')[2].rpartition('"')[0]
    subprocess.run([sys.executable, "-c", code], check=True)
    light, labels = images(str(folder), 6, 64, 0)
    assert [_place(image[0])[0] for image in light] == labels.tolist()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is damaged or no .npy file"),
        (b"not numpy", "is damaged or no .npy file"),
        ("half", "is damaged or no .npy file"),
        (np.zeros((64, 32)), r"float64 of shape \(64, 32\) instead of one square image"),
        (np.zeros((3, 64, 64)), r"shape \(3, 64, 64\) instead of one square image"),
        (np.full((64, 64), np.nan), "pixels that are not finite, or none above 0"),
        (np.zeros((64, 64)), "pixels that are not finite, or none above 0"),
        (np.full((64, 64), "a"), "<U1 of shape"),
        ({"image": np.ones((64, 64))}, "is damaged or no .npy file"),
    ],
    ids=["empty", "text", "half", "not square", "colours", "nan", "black", "letters", "archive"],
)
def test_a_file_that_cannot_be_used_is_named(folder, content, message):
    file = folder / "cdm" / "sim_3.npy"
    if isinstance(content, str):
        file.write_bytes(file.read_bytes()[:1000])
    elif isinstance(content, bytes):
        file.write_bytes(content)
    elif isinstance(content, dict):
        np.savez(file.open("wb"), **content)
    else:
        np.save(file, content)
    with pytest.raises(BadInput, match=message) as refused:
        images(str(folder), 15, 64, 0)
    assert str(file) in str(refused.value)


def test_too_few_images_and_missing_classes_are_said(folder):
    with pytest.raises(BadInput, match="has 5 images of class 'no substructure' and 6 were asked for"):
        images(str(folder), 16, 64, 0)
    (folder / "cdm").rename(folder / "subhalos")
    with pytest.raises(BadInput, match=r"'CDM subhalos', called cdm or sphere; folders found: axion, no_sub, subhalos"):
        images(str(folder), 3, 64, 0)
    (folder / "cdm").mkdir()
    with pytest.raises(BadInput, match=r"cdm has no \.npy files"):
        images(str(folder), 3, 64, 0)
