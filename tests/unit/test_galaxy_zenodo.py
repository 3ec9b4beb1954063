"""Published images by path: what is read, and what is refused in one sentence."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from siderostat.workloads.base import BadInput, Spec
from siderostat.workloads.galaxy_images import data
from siderostat.workloads.galaxy_images.zenodo import ImageFile

ROWS = 5
SHAPE = (ROWS, 2, 10, 64, 64)
LINES = [",e1,e2,redshift,n"] + [f"{i},0.{i},-0.{i},1.{i},7" for i in range(ROWS)]


@pytest.fixture
def path(tmp_path):
    """Five rows whose pixels say where they belong: thousands the row, hundreds the noise, ones the band."""
    row, noise, band = np.ogrid[:ROWS, :2, :10]
    numbers = 1000 * row + 100 * noise + band
    images = np.broadcast_to(numbers[..., None, None], SHAPE).astype(np.float32)
    path = tmp_path / "galaxies_isolated_1_images.npy"
    np.save(path, images)
    _labels(path, LINES)
    return path


def _labels(path, lines):
    path.with_name(path.name.replace("images.npy", "data.csv")).write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(("noise", "hundreds"), [("poisson", 100), ("none", 0)])
def test_images_in_lsst_bands_and_their_labels(path, noise, hundreds):
    images, labels = ImageFile(path, noise).load(3, 1)
    assert images.shape == (3, 6, 64, 64) and images.dtype == labels.dtype == np.float32
    expected = 1000 * np.arange(1, 4)[:, None] + hundreds + np.arange(4, 10)
    assert np.array_equal(images[:, :, 0, 0], expected) and np.array_equal(images[:, :, 63, 63], expected)
    np.testing.assert_allclose(labels, [[0.1, -0.1, 1.1], [0.2, -0.2, 1.2], [0.3, -0.3, 1.3]], rtol=1e-6)


def test_rows_of_failed_fits_are_left_out(path):
    _labels(path, [*LINES[:2], "1,1.2,0,1,7", "2,0,-10,1,7", *LINES[4:]])
    file = ImageFile(path)
    images, _ = file.load(3)
    assert np.array_equal(images[:, 0, 0, 0], [104, 3104, 4104])
    assert (file.provenance()["rows"], file.provenance()["rows_kept"]) == (5, 3)
    with pytest.raises(BadInput, match="has 3 images .* and 4 were asked for"):
        file.load(2, 2)


def test_the_file_is_mapped_and_not_read_whole(path):
    file = ImageFile(path)
    assert isinstance(file._images, np.memmap)
    file.load(1)
    assert path.stat().st_size > 1_000_000


def test_there_is_nothing_to_make(path):
    file = ImageFile(path)
    before = sorted(p.name for p in path.parent.iterdir())
    file.make_part(0)
    assert file.parts(1000) == 0
    assert sorted(p.name for p in path.parent.iterdir()) == before


def test_provenance_is_of_the_content_not_of_the_place(path, tmp_path):
    first = ImageFile(path)
    content = path.read_bytes()
    provenance = first.provenance()
    assert provenance["sha256"] == hashlib.sha256(content).hexdigest()
    assert (provenance["bytes"], provenance["rows"]) == (len(content), 5)
    moved = tmp_path / "moved_images.npy"
    moved.write_bytes(content)
    _labels(moved, LINES)
    assert ImageFile(moved).fingerprint == first.fingerprint != ImageFile(path, "none").fingerprint
    _labels(moved, [*LINES[:-1], "4,0.5,0,1,7"])
    assert ImageFile(moved).fingerprint != first.fingerprint


def test_the_option_image_file_chooses_it(path):
    spec = Spec("dnn", "train", "torch", 2, "paper", 0, {"image_file": str(path), "noise": "none"})
    images, _ = data.image_set(spec).load(1)
    assert images[0, 0, 0, 0] == 4


def _save(path, array):
    np.save(path, array, allow_pickle=True)


WRONG_IMAGES = {
    "bands": (lambda p: _save(p, np.zeros((5, 2, 6, 64, 64), np.float32)), r"has shape \(5, 2, 6, 64, 64\) instead of"),
    "dimensions": (lambda p: _save(p, np.zeros((5, 10), np.float32)), r"has shape \(5, 10\) instead of"),
    "no rows": (lambda p: _save(p, np.zeros((0, *SHAPE[1:]), np.float32)), r"has shape \(0, "),
    "objects": (lambda p: _save(p, np.array([None, {}])), "cannot be mapped"),
    "whole numbers": (lambda p: _save(p, np.zeros(SHAPE, np.int16)), "holds int16 instead of floating"),
    "cut short": (lambda p: p.write_bytes(p.read_bytes()[:500_000]), "cannot be mapped"),
    "header cut short": (lambda p: p.write_bytes(p.read_bytes()[:40]), "cannot be mapped"),
    "header damaged": (lambda p: p.write_bytes(p.read_bytes().replace(b"}", b"(", 1)), "cannot be mapped"),
    "not an array": (lambda p: p.write_bytes(b"hello" * 100), "cannot be mapped"),
    "empty": (lambda p: p.write_bytes(b""), "cannot be mapped"),
    "archive": (lambda p: np.savez(p.open("wb"), a=np.zeros(3)), "is an archive"),
    "missing": (lambda p: p.unlink(), "there is no file"),
    "without labels": (lambda p: p.with_name("galaxies_isolated_1_data.csv").unlink(), r"there is no file .*data\.csv"),
}


@pytest.mark.parametrize(("spoil", "message"), WRONG_IMAGES.values(), ids=WRONG_IMAGES.keys())
def test_what_is_not_such_an_array_is_refused(path, spoil, message):
    spoil(path)
    with pytest.raises(BadInput, match=message) as error:
        ImageFile(path)
    assert "galaxies_isolated_1" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_the_first_row_with_a_pixel_that_is_no_number_is_named(path, value):
    images = np.load(path)
    images[3:, 1, 7, 20, 20] = value
    images[1, 0, 7, 20, 20] = value  # not among those that are used
    images[2, 1, 0, 20, 20] = value
    np.save(path, images)
    file = ImageFile(path)
    file.load(3)
    with pytest.raises(BadInput, match="NaN or infinite, first in row 3"):
        file.load(5)


WRONG_LABELS = {
    "columns": (["e1,z,redshift", "0,0,1"], r"lacks the columns e2; found: e1, z, redshift"),
    "empty": ([], "lacks the columns e1, e2, redshift; found: "),
    "too few": (LINES[:-1], r"has 4 rows of labels and .* has 5 images"),
    "too many": ([*LINES, "5,0,0,1,7"], "has 6 rows"),
    "words": ([*LINES[:3], "2,0.1,unknown,1,7", *LINES[4:]], "has 'unknown' instead of a number in row 2, column e2"),
    "nothing": ([*LINES[:3], "2,0.1,0.1,,7", *LINES[4:]], "has '' instead of a number in row 2, column redshift"),
    "short line": ([*LINES[:5], "4,0.1"], "has None instead of a number in row 4, column e2"),
    "not a number": ([*LINES[:1], "0,nan,0,1,7", *LINES[2:]], "has 'nan' instead of a number in row 0, column e1"),
}


@pytest.mark.parametrize(("lines", "message"), WRONG_LABELS.values(), ids=WRONG_LABELS.keys())
def test_labels_that_cannot_be_are_refused(path, lines, message):
    _labels(path, lines)
    with pytest.raises(BadInput, match=message):
        ImageFile(path)


def test_labels_that_are_no_text_are_refused(path):
    path.with_name("galaxies_isolated_1_data.csv").write_bytes(b"\xff\xfe\x00e1")
    with pytest.raises(BadInput, match=r"data\.csv cannot be read as a CSV file"):
        ImageFile(path)


def test_another_name_or_noise_is_refused(path):
    other = path.rename(path.with_name("galaxies.npy"))
    with pytest.raises(BadInput, match=r"does not end in images\.npy"):
        ImageFile(other)
    with pytest.raises(BadInput, match="come with noise 'poisson' or 'none', not 'gaussian'"):
        ImageFile(other, "gaussian")
