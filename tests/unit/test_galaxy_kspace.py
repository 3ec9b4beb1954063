"""The k-space renderer and its tables against GalSim."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest

from siderostat.workloads.base import BadInput
from siderostat.workloads.galaxy_images import errors, survey, tables
from siderostat.workloads.galaxy_images.catalogue import Component, Galaxy, SyntheticCatalogue, drawable_index
from siderostat.workloads.galaxy_images.making import draw_galaxy, make_images
from tests.galaxies import put_tables

galsim = pytest.importorskip("galsim")

from siderostat.workloads.galaxy_images.camera import Camera  # noqa: E402
from siderostat.workloads.galaxy_images.kspace import PERIODS, KSpace, _periods  # noqa: E402

BAR = 2e-4


@pytest.fixture(scope="module")
def table():
    return tables.Tables()


@pytest.fixture(scope="module")
def renderer(table):
    return KSpace(table)


@pytest.fixture(scope="module")
def camera():
    return Camera()


@pytest.fixture(scope="module")
def galaxies(renderer):
    rng, catalogue = np.random.default_rng(11), SyntheticCatalogue()
    return [draw_galaxy(renderer, catalogue, rng) for _ in range(400)]


def _galaxy(index=1.5, radius=0.4, ratio=0.5, angle=0.5, redshift=0.7, sed="Sbc", magnitude=20.0):
    return Galaxy(redshift, magnitude, ratio, angle, (Component(index, radius, ratio, angle, sed, magnitude),))


def test_catalogue_galaxies_are_those_of_tight_galsim(renderer, galaxies):
    truth = errors.tight_camera().draw_all(galaxies[:40])
    found = errors.relative_errors(renderer.draw_all(galaxies[:40]), truth)
    assert found.shape == (40, 6)
    assert found.max() < BAR / 4  # seen over 240: 1.2e-5


# The corners of what is drawn: cusps, flat discs, needles, points and galaxies larger than the image.
@pytest.mark.parametrize(
    "shape",
    [(0.3, 3.2, 0.8), (1.0, 0.02, 1.0), (1.0, 4.0, 0.12), (0.5, 0.3, 0.12), (3.0, 0.2, 0.15), (4.0, 1.5, 0.3)],
)
@pytest.mark.parametrize("angle", [0.0, 0.8, math.pi / 2, -1.2])
def test_extreme_galaxies_are_those_of_tight_galsim(renderer, shape, angle):
    galaxy = _galaxy(*shape, angle)
    assert renderer.can_draw(galaxy)
    truth = errors.tight_camera().draw_all([galaxy])
    assert errors.relative_errors(renderer.draw_all([galaxy]), truth).max() < BAR


def test_two_components_add_up(renderer):
    bulge, disc = _galaxy(4.0, 0.3, sed="E"), _galaxy(1.0, 0.6, 0.4, sed="Scd")
    both = dataclasses.replace(bulge, components=bulge.components + disc.components)
    images = renderer.draw_all([disc, both, bulge])
    np.testing.assert_allclose(images[1], images[0] + images[2], rtol=1e-5, atol=1e-6 * images[1].max())


def test_galaxies_do_not_depend_on_their_neighbours(renderer, galaxies):
    together = renderer.draw_all(galaxies[:60])
    for i in (0, 7, 59):
        peak = together[i].max((1, 2), keepdims=True)
        assert (np.abs(renderer.draw_all([galaxies[i]])[0] - together[i]) < 1e-6 * peak).all()


def test_a_turn_by_a_right_angle_turns_the_image(renderer):
    upright, lying = renderer.draw_all([_galaxy(angle=0.3), _galaxy(angle=0.3 + math.pi / 2)])
    np.testing.assert_allclose(np.rot90(upright, -1, (1, 2)), lying, rtol=0, atol=2e-6 * upright.max())
    np.testing.assert_array_equal(upright, upright[:, ::-1, ::-1])


def test_images_of_a_set_depend_on_seed_and_index_alone(renderer):
    images, labels = make_images(renderer, SyntheticCatalogue(), 4, range(20))
    some, their_labels = make_images(renderer, SyntheticCatalogue(), 4, [13, 2])
    assert np.array_equal(their_labels, labels[[13, 2]])
    # Products of matrices may differ in the last bits with their sizes: counts then, and seldom.
    assert (some != images[[13, 2]]).mean() < 1e-3


def test_electrons_are_the_integrals_within_2e5(table, camera):
    rng = np.random.default_rng(1)
    for sed in ("E", "Sbc", "Scd"):
        component = _galaxy(sed=sed).components[0]
        for redshift in (0.0, 10.0, *rng.uniform(0, 10, 10), *rng.uniform(0, 2, 100)):
            exact = camera.electrons(component, redshift)
            np.testing.assert_allclose(table.electrons(component, redshift), exact, rtol=2e-5)


def test_the_same_galaxies_are_chosen_as_with_galsim(renderer, camera):
    rng, catalogue = np.random.default_rng(3), SyntheticCatalogue()
    drawn = [catalogue.draw(rng) for _ in range(300)]
    shapes = zip(
        rng.choice([0.3, 0.5, 1.0, 2.0, 4.0, 6.0], 300), 10 ** rng.uniform(-1.5, 1.7, 300), rng.uniform(0.1, 1, 300)
    )
    drawn += [_galaxy(float(n), float(r), float(q)) for n, r, q in shapes]
    drawn += [_galaxy(redshift=z) for z in (9.9, 10.1)]
    ours = [renderer.can_draw(galaxy) for galaxy in drawn]
    assert ours == [camera.can_draw(galaxy) for galaxy in drawn]
    assert 30 < ours[300:].count(False) < 270
    for galaxy in drawn[:50]:
        assert renderer.r_magnitude(galaxy) == pytest.approx(camera.r_magnitude(galaxy), abs=1e-4)


def test_every_index_of_a_catalogue_has_its_row(table):
    rows = [table.row(drawable_index(n)) for n in np.arange(0.2, 7, 0.01)]
    assert sorted(set(rows)) == list(range(len(tables.drawable_indices()))) and rows == sorted(rows)


def test_larger_galaxies_repeat_later(table):
    shapes = np.array([[0.2, 0.7, 0.0], [1.5, 0.7, 0.0], [3.0, 0.2, 0.0]])
    periods = _periods(np.full(3, table.row(4.0)), shapes)
    assert periods[0] == PERIODS[0] and (np.diff(periods) > 0).all()


def test_the_point_spread_function_is_galsims(table, camera):
    for k in (0.1, 1.0, 10.0, 20.0):
        assert math.exp(-((k / table.psf_k0) ** (5 / 3))) == pytest.approx(camera.psf.kValue(k, 0).real, rel=1e-4)


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """The tables in a cache of their own, and what says whether they are computed anew."""
    path = put_tables(tmp_path)
    monkeypatch.setenv("SIDEROSTAT_CACHE", str(tmp_path))
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files if name != "meta"}
    built = []
    monkeypatch.setattr(tables, "_build", lambda: built.append(1) or arrays)
    return path, built


def test_tables_are_made_once(copied):
    _, built = copied
    tables.Tables()
    assert built == []


@pytest.mark.parametrize("damage", [b"", None, b"flip"])
def test_damaged_tables_are_made_again(copied, damage):
    path, built = copied
    whole = path.read_bytes()
    if damage is None:
        path.unlink()
    elif damage:
        middle = len(whole) // 2
        path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    else:
        path.write_bytes(whole[: len(whole) // 2])
    tables.Tables()
    tables.Tables()
    assert built == [1]
    assert not list(path.parent.glob("*.tmp"))


def test_tables_of_another_version_are_named_and_left_alone(copied):
    path, built = copied
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    meta = {**json.loads(str(arrays["meta"])), "version": 0}
    np.savez(path, **{**arrays, "meta": np.array(json.dumps(meta))})
    before = path.read_bytes()
    with pytest.raises(BadInput, match=r"tables-.*\.npz holds version 0, .* where version 1, .* belongs"):
        tables.Tables()
    assert path.read_bytes() == before and built == []


def test_another_survey_has_other_tables(monkeypatch):
    before = tables.archive().path
    monkeypatch.setattr(survey, "PSF_FWHM_ARCSEC", 0.8)
    assert tables.archive().path != before


def test_the_error_table_has_a_row_for_each_class_and_band(monkeypatch):
    monkeypatch.setattr(errors, "GALAXIES", 30)
    monkeypatch.setattr(errors, "LARGEST", 2)
    monkeypatch.setattr(errors, "OF", 60)
    lines = errors.table().splitlines()
    cells = {line.split(" | ")[0].strip("| "): line.strip("| ").split(" | ")[1:] for line in lines[2:]}
    assert {f"band {band}" for band in "ugrizy"} <= set(cells)
    assert cells["all drawn at random"][0] == "30" and cells["the 2 largest of 30 others"][0] == "2"
    sizes = [int(row[0]) for name, row in cells.items() if name.startswith("half-light")]
    assert sum(sizes) == 30
    assert all(0 < float(value) < BAR for row in cells.values() for value in row[1:] if row[0] != "0")
