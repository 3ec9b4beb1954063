"""Lens images: what stands in the sky, how light is bent, what the camera makes of it, and the set on disk."""

from __future__ import annotations

import importlib
import json
import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("lenstronomy")
pytest.importorskip("numba")
pytest.importorskip("skimage")

from siderostat.workloads import load
from siderostat.workloads.base import BadInput, Spec, WrongResult
from siderostat.workloads.lens_images import catalogue, data, exposure, making, quality
from siderostat.workloads.lens_images.catalogue import CLASSES, MACRO, einstein_radius_arcsec
from siderostat.workloads.lens_images.data import ImageSet, images
from siderostat.workloads.lens_images.deflection import (
    isothermal_deflection,
    macro_deflection,
    pixel_centres,
)
from siderostat.workloads.lens_images.instruments import FIELD_ARCSEC, INSTRUMENTS
from siderostat.workloads.lens_images.rendering import FORMULATIONS, open_renderer
from siderostat.workloads.lens_images.resampling import resampling
from siderostat.workloads.lens_images.sources import PIXEL_ARCSEC, cut_outs, open_sources

HST, EUCLID = INSTRUMENTS["hst"], INSTRUMENTS["euclid"]
CAMERAS = pytest.mark.parametrize("camera", [HST, EUCLID], ids=lambda camera: camera.name)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SIDEROSTAT_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def drawn():
    return making.draw_scenes(open_sources("synthetic"), 0, range(300))


# The sky


def test_distances_are_those_of_astropy():
    from astropy.cosmology import FlatLambdaCDM

    cosmology = FlatLambdaCDM(H0=catalogue.HUBBLE_KM_S_MPC, Om0=catalogue.MATTER_DENSITY)
    for near, far in ((0, 0.5), (0, 1), (0.5, 1)):
        expected = cosmology.angular_diameter_distance(near, far).value
        assert catalogue.angular_diameter_distance_mpc(near, far) == pytest.approx(expected, rel=1e-12)


def test_the_einstein_radius_holds_the_mass_that_lenstronomy_says():
    from astropy.cosmology import FlatLambdaCDM
    from lenstronomy.Cosmo.lens_cosmo import LensCosmo

    lens = LensCosmo(0.5, 1.0, FlatLambdaCDM(H0=70, Om0=0.3))
    for mass in (1e6, 3e10, 1e12):
        area = math.pi * einstein_radius_arcsec(mass) ** 2
        assert area * lens.sigma_crit_angle == pytest.approx(mass, rel=5e-4)  # its constants are rounded
    assert einstein_radius_arcsec(1e12) == pytest.approx(1.664517, rel=1e-6)


def test_the_lens_galaxy_bends_light_as_lenstronomy_says():
    from lenstronomy.LensModel.lens_model import LensModel

    x, y = pixel_centres(HST)
    for e1, e2 in ((0.1, 0.0), (-0.2, 0.3), (0.05, -0.1)):
        expected = LensModel(["SIE"]).alpha(x.ravel(), y.ravel(), [{"theta_E": 1.3, "e1": e1, "e2": e2}])
        found = isothermal_deflection(1.3, e1, e2, x, y)
        assert np.abs(np.array(found).reshape(2, -1) - expected).max() < 1e-13
    settings = [
        {"theta_E": einstein_radius_arcsec(MACRO.mass_msun), "e1": MACRO.e1, "e2": MACRO.e2},
        {"gamma1": MACRO.gamma1, "gamma2": MACRO.gamma2},
    ]
    expected = LensModel(["SIE", "SHEAR"]).alpha(x.ravel(), y.ravel(), settings)
    assert np.abs(np.array(macro_deflection(MACRO, x, y)).reshape(2, -1) - expected).max() < 1e-13


def test_an_almost_round_lens_bends_light_by_its_einstein_radius_everywhere():
    x, y = pixel_centres(HST)
    bent = isothermal_deflection(1.3, 1e-6, 0, x, y)
    assert np.abs(np.hypot(*bent) - 1.3).max() < 1e-5
    assert np.abs(bent[0] * y - bent[1] * x).max() < 1e-5  # towards the middle


def test_a_point_mass_bends_light_by_its_squared_einstein_radius_over_the_distance(monkeypatch):
    """The source's brightness says where a ray ends: that of a ramp is the position."""
    from siderostat.workloads.lens_images import fast

    monkeypatch.setattr(fast, "MACRO", catalogue.Macro(mass_msun=1e-20, gamma1=0, gamma2=0))
    camera = replace(EUCLID, psf_fwhm_arcsec=1e-3)  # nothing is blurred
    masses, at = np.array([1e11, 3e10]), np.array([[0.3, -0.4], [0.1, 0.2]])  # x and y of each
    ramp = np.tile((np.arange(64) - 31.5) * PIXEL_ARCSEC, (64, 1))
    along_x, along_y = (
        fast.Fast(camera).draw_all([catalogue.Scene(1, masses, at[:, 0], at[:, 1], source, 0.0, 0.0, 0.0)])[0]
        / camera.pixel_arcsec**2
        for source in (ramp, ramp.T)
    )
    x, y = pixel_centres(camera)
    expected_x, expected_y = x.copy(), y.copy()
    for mass, (mass_x, mass_y) in zip(masses, at, strict=True):
        pull = einstein_radius_arcsec(mass) ** 2 / ((x - mass_x) ** 2 + (y - mass_y) ** 2)
        expected_x -= pull * (x - mass_x)
        expected_y -= pull * (y - mass_y)
    inside = (np.abs(expected_x) < 0.62) & (np.abs(expected_y) < 0.62)
    assert inside.sum() > 100
    assert np.abs(along_x - expected_x)[inside].max() < 1e-12
    assert np.abs(along_y - expected_y)[inside].max() < 1e-12


def test_substructure_has_the_masses_and_places_it_should_have(drawn):
    bare, subhalos, vortices = (drawn.scenes[label :: len(CLASSES)] for label in range(3))
    assert all(scene.masses_msun.size == 0 for scene in bare)
    masses = np.concatenate([scene.masses_msun for scene in subhalos])
    radii = np.concatenate([np.hypot(scene.x_arcsec, scene.y_arcsec) for scene in subhalos])
    assert masses.size == 25 * len(subhalos)
    assert masses.min() >= 1e6 and masses.max() <= 1e10
    assert radii.min() >= 0.25 and radii.max() <= 2
    share = (1e8**0.1 - 1e6**0.1) / (1e10**0.1 - 1e6**0.1)  # below 1e8, of a slope of -0.9
    assert (masses < 1e8).mean() == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / masses.size))
    lengths = []
    for scene in vortices:
        assert scene.masses_msun.sum() == pytest.approx(3e10)
        assert scene.masses_msun.size == 100
        assert np.linalg.matrix_rank(np.stack([scene.x_arcsec, scene.y_arcsec]), tol=1e-9) == 1
        assert np.hypot(scene.x_arcsec.mean(), scene.y_arcsec.mean()) < 1e-12
        lengths.append(np.hypot(scene.x_arcsec, scene.y_arcsec).max())
    assert 0.03 <= min(lengths) < 0.05 and 2 < max(lengths) <= 3


def test_the_class_is_in_the_substructure_alone(drawn):
    """All else is drawn before the substructure is, and alike for every class."""
    scenes = [catalogue.draw_scene(label, np.ones((64, 64)), np.random.default_rng(5)) for label in range(3)]
    assert len({(s.source_x_arcsec, s.source_y_arcsec, s.source_angle) for s in scenes}) == 1
    assert [s.masses_msun.size for s in scenes] == [0, 25, 100]
    places = np.array([[s.source_x_arcsec, s.source_y_arcsec] for s in drawn.scenes])
    assert np.abs(places).max() <= 0.35
    assert np.abs(places.reshape(-1, 3, 2).mean(0)).max() < 4 * 0.35 / math.sqrt(3 * 100)


def test_without_their_point_masses_all_classes_look_the_same():
    scenes = [catalogue.draw_scene(label, np.ones((64, 64)), np.random.default_rng(5)) for label in range(3)]
    none = np.zeros(0)
    for formulation in ("fast", "cached"):
        bare = [replace(s, masses_msun=none, x_arcsec=none, y_arcsec=none) for s in scenes]
        drawn = open_renderer(formulation, EUCLID).draw_all(bare)
        assert np.array_equal(drawn[0], drawn[1]) and np.array_equal(drawn[0], drawn[2])


# Sources


@pytest.mark.parametrize("name", ["synthetic", "hubble"])
def test_sources_fit_their_frame_and_have_the_same_light(name):
    rng = np.random.default_rng(0)
    for _ in range(20):
        light = open_sources(name).draw(rng)
        assert light.shape == (64, 64) and light.dtype == np.float64
        assert light.min() >= 0
        assert light.sum() * PIXEL_ARCSEC**2 == pytest.approx(1)
        border = np.concatenate([light[0], light[-1], light[:, 0], light[:, -1]])
        assert border.max() < 0.05 * light.max()


def test_the_hubble_deep_field_needs_no_download_and_has_galaxies(monkeypatch):
    import socket

    def refuse(*arguments):
        raise AssertionError("something is being downloaded")

    monkeypatch.setattr(socket, "socket", refuse)
    cut_outs.cache_clear()
    assert len(cut_outs()) > 50
    assert open_sources("hubble").provenance()["rows"] == len(cut_outs())


@pytest.mark.parametrize(
    ("source", "path", "message"),
    [
        ("quasar", "", "source must be one of synthetic, hubble, galaxy10, not 'quasar'"),
        ("galaxy10", "", "needs the path of Galaxy10.h5"),
        ("hubble", "/a.h5", "source is 'hubble'"),
    ],
)
def test_sources_that_cannot_be_are_refused(source, path, message):
    with pytest.raises(BadInput, match=message):
        images("hst", 3, 64, 0, source, path)


# Cameras


@CAMERAS
def test_the_cameras_have_lenstronomys_figures(camera):
    from lenstronomy.SimulationAPI import ObservationConfig
    from lenstronomy.SimulationAPI.data_api import DataAPI

    from siderostat.workloads.lens_images.reference import single_band

    module = importlib.import_module(f"{ObservationConfig.__name__}.{camera.lenstronomy_class}")
    made = getattr(module, camera.lenstronomy_class)(band=camera.band, psf_type="GAUSSIAN")
    settings = made.kwargs_single_band()
    ours = single_band(camera)
    assert ours == {name: settings[name] for name in ours}
    assert camera.background_sigma == pytest.approx(DataAPI(num_pix=64, **settings).background_noise, rel=1e-12)
    assert abs(camera.field_pixels * camera.pixel_arcsec - FIELD_ARCSEC) < camera.pixel_arcsec


def test_background_noise_and_point_spread_are_the_published_ones():
    assert HST.background_sigma == pytest.approx(5.92e-3, rel=1e-3)
    assert EUCLID.background_sigma == pytest.approx(1.09e-2, rel=1e-3)
    assert HST.psf_sigma_pixels * 2.3548 == pytest.approx(0.08 / 0.08, rel=1e-4)
    assert EUCLID.psf_sigma_pixels * 2.3548 == pytest.approx(0.16 / 0.101, rel=1e-4)


@CAMERAS
def test_every_class_has_a_peak_signal_to_noise_ratio_of_20(camera, drawn):
    light = exposure.brightened(open_renderer("fast", camera).draw_all(drawn.scenes[:30]), camera)
    ratio = light / np.sqrt(camera.background_sigma**2 + light / camera.total_exposure_s)
    assert ratio.max((1, 2)) == pytest.approx(np.full(30, 20.0), rel=1e-12)
    many = [np.random.default_rng(i) for i in range(400)]
    noisy = exposure.exposed(np.repeat(light[:1], 400, 0), camera, many)
    brightest = np.unravel_index(light[0].argmax(), light[0].shape)
    pixel = noisy[(slice(None), *brightest)]
    assert pixel.mean() / pixel.std() == pytest.approx(20, rel=0.15)


def test_resampling_keeps_a_constant_sky_and_the_place_of_a_source():
    x = (np.arange(80) + 0.5) / 80 - 0.5
    image = np.exp(-(((x[:, None] - 0.1) ** 2 + (x + 0.2) ** 2) / (2 * 0.05**2)))
    for pixels in (64, 150, 80):
        weights = resampling(80, pixels)
        assert weights.sum(1) == pytest.approx(np.ones(pixels))
        small = exposure.resampled(image[None], pixels)[0]
        assert np.array_equal(small, exposure.resampled(np.stack([image, image]), pixels)[1])
        along = (np.arange(pixels) + 0.5) / pixels - 0.5
        assert (small.sum(1) * along).sum() / small.sum() == pytest.approx(0.1, abs=2e-3)
        assert (small.sum(0) * along).sum() / small.sum() == pytest.approx(-0.2, abs=2e-3)


# The three formulations


@CAMERAS
def test_all_formulations_draw_the_same_to_1e_12_of_the_peak(camera, drawn):
    scenes = drawn.scenes[:24]
    truth = open_renderer("naive", camera).draw_all(scenes)
    for formulation in ("cached", "fast"):
        found = open_renderer(formulation, camera).draw_all(scenes)
        assert found.dtype == np.float64 and found.shape == truth.shape
        assert quality.largest_error(found, truth) <= 1e-12


def test_with_the_same_noise_they_make_the_same_images():
    made = {}
    for formulation in FORMULATIONS:
        renderer = open_renderer(formulation, HST)
        made[formulation] = making.make_images(renderer, HST, open_sources("hubble"), 3, range(9), 64)
    for light, labels in made.values():
        assert quality.largest_error(light, made["naive"][0]) <= 1e-12
        assert labels.tolist() == [0, 1, 2] * 3


def test_an_unknown_formulation_is_refused():
    with pytest.raises(BadInput, match="renderer must be one of fast, cached, naive, not 'pen'"):
        open_renderer("pen", HST)


# The set on disk


@pytest.fixture
def small_parts(monkeypatch):
    """Parts of six images, and a list of those that are drawn."""
    monkeypatch.setattr(data, "PART_IMAGES", 6)
    drawn, draw = [], ImageSet._draw

    def watched(self, part):
        drawn.append(part)
        return draw(self, part)

    monkeypatch.setattr(ImageSet, "_draw", watched)
    return drawn


@CAMERAS
@pytest.mark.parametrize("pixels", [64, 150])
def test_images_are_between_0_and_1_and_balanced(camera, pixels, small_parts):
    light, labels = images(camera.name, 31, pixels, 0)
    assert light.shape == (31, 1, pixels, pixels) and light.dtype == np.float32
    assert labels.dtype == np.int64
    assert np.bincount(labels).tolist() == [11, 10, 10]
    assert light.min() == 0
    assert np.array_equal(light.max((1, 2, 3)), np.ones(31))


def test_a_seed_gives_the_same_images_and_another_one_others(small_parts):
    light, _ = images("euclid", 7, 64, 0)
    assert np.array_equal(ImageSet("euclid", 64, 0).load(9)[0][:7], ImageSet("euclid", 64, 0).load(7)[0])
    assert not np.allclose(images("euclid", 7, 64, 1)[0], light)
    assert not np.allclose(images("hst", 7, 64, 0)[0], light)
    assert not np.allclose(images("euclid", 7, 64, 0, "hubble")[0], light)


def test_an_image_does_not_depend_on_what_was_made_before(small_parts):
    image_set = ImageSet("euclid", 64, 0)
    image_set.make_part(1)
    light, _ = image_set.load(12)
    source, renderer = open_sources("synthetic"), open_renderer("fast", EUCLID)
    alone, _ = making.make_images(renderer, EUCLID, source, 0, [9], 64)
    assert np.array_equal(alone[0].astype(np.float32), light[9])


def test_what_is_there_is_not_made_again_and_a_damaged_part_is(small_parts):
    first, _ = images("euclid", 12, 64, 0)
    assert small_parts == [0, 1]
    images("euclid", 18, 64, 0)
    assert small_parts == [0, 1, 2]
    path = ImageSet("euclid", 64, 0).path(1)
    path.write_bytes(path.read_bytes()[:-1000])
    assert np.array_equal(images("euclid", 12, 64, 0)[0], first)
    assert small_parts == [0, 1, 2, 1]


KILLED = """
import os, sys
from siderostat.workloads.lens_images import data
data.PART_IMAGES = 6
draw = data.ImageSet._draw
def deadly(self, part):
    if part == 2:
        os.kill(os.getpid(), 9)
    return draw(self, part)
data.ImageSet._draw = deadly
data.images("euclid", 18, 64, 0)
"""


def test_a_run_that_was_killed_goes_on_where_it_was(small_parts):
    killed = subprocess.run([sys.executable, "-c", KILLED], check=False)
    assert killed.returncode == -9
    images("euclid", 18, 64, 0)
    assert small_parts == [2]


def test_sets_that_pixels_tell_apart_lie_apart(monkeypatch):
    folders = [ImageSet("hst", 64, 0).folder, ImageSet("euclid", 64, 0).folder, ImageSet("hst", 150, 0).folder]
    folders += [ImageSet("hst", 64, 1).folder, ImageSet("hst", 64, 0, "hubble").folder]
    for name, value in (("catalogue.SUBHALOS", 20), ("exposure.PEAK_SNR", 25.0), ("data.VERSION", 1000)):
        with monkeypatch.context() as patch:
            patch.setattr(f"siderostat.workloads.lens_images.{name}", value)
            folders.append(ImageSet("hst", 64, 0).folder)
    assert len(set(folders)) == len(folders)


def test_provenance_says_what_the_images_are_from():
    provenance = ImageSet("hst", 64, 3, "hubble").provenance()
    assert (provenance["instrument"], provenance["seed"], provenance["pixels"]) == ("hst", 3, 64)
    assert "Hubble" in provenance["source"]
    assert json.loads(json.dumps(provenance)) == provenance


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("jwst", 3, 64, 0), "instrument must be one of hst, euclid"),
        (("hst", 0, 64, 0), "number of images must be a whole number of at least 1, not 0"),
        (("hst", 3, 8, 0), "pixels on a side must be a whole number of at least 16, not 8"),
        (("hst", 3, 64, -1), "seed of the images must be a whole number of at least 0, not -1"),
        (("hst", True, 64, 0), "number of images must be a whole number"),
    ],
)
def test_arguments_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(BadInput, match=message):
        images(*arguments)


# The workload

WORKLOAD = load("lens-images")


def _spec(variant="fast", batch=6, size="64px", seed=0, **options):
    return Spec(variant, "make", "numpy", batch, size, seed, options)


def _run(step):
    phase = step.phases[0]
    return phase.model(*phase.feed.next())


@pytest.fixture(autouse=True)
def few_scenes(monkeypatch):
    monkeypatch.setattr("siderostat.workloads.lens_images.SCENES", 12)


def test_importing_it_imports_nothing_heavy():
    code = (
        "import siderostat.workloads.lens_images as g, siderostat.workloads.lens_images.data, sys; "
        "print({'torch', 'numba', 'scipy', 'lenstronomy', 'astropy', 'skimage', 'h5py'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"


@pytest.mark.parametrize("size", ["64px", "150px"])
@pytest.mark.parametrize("instrument", ["hst", "euclid"])
def test_a_step_makes_a_batch_and_passes_its_check(instrument, size):
    spec = _spec(size=size, instrument=instrument)
    step = WORKLOAD.build(spec)
    outputs = _run(step)
    pixels = int(size[:-2])
    assert outputs[0].shape == (6, 1, pixels, pixels) and outputs[0].dtype == np.float64
    assert (step.items, step.framework) == (6, "numpy")
    figures = WORKLOAD.check(spec, outputs)
    assert figures["background"] == pytest.approx(1, abs=0.1)
    assert 0.5 < figures["peak"] < 1.3


def test_all_variants_take_the_same_steps():
    plain, *others = (_run(WORKLOAD.build(_spec(variant, seed=4))) for variant in WORKLOAD.variants)
    for light, labels in others:
        assert np.array_equal(labels, plain[1])
        assert quality.largest_error(light[:, 0], plain[0][:, 0]) <= 1e-12


def test_the_same_lens_gets_new_noise_in_each_step():
    step = WORKLOAD.build(_spec(batch=12))
    once, again = _run(step), _run(step)
    assert np.array_equal(once[1], again[1])
    corner = (once[0] - again[0])[:, 0, :4, :4]
    assert corner.std() > 0.5 * HST.background_sigma


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda light, labels: (light[:3], labels), r"shape \(3, 1, 64, 64\) instead of \(6, "),
        (lambda light, labels: (np.where(light == light.max(), np.nan, light), labels), "1 of 24576 values .* not fin"),
        (lambda light, labels: (light, labels + 2), "only 0 to 2 exist"),
        (lambda light, labels: (light * 5, labels), "brightest pixel of image 0 is .* times what is due"),
        (lambda light, labels: (np.zeros_like(light), labels), "brightest pixel of image 0 is 0 times"),
        (lambda light, labels: (np.maximum(light, 0), labels), "noise in the corners of image 0"),
    ],
    ids=["shape", "not finite", "class", "too bright", "black", "negative pixels cut off"],
)
def test_wrong_images_are_found_out(spoil, message):
    outputs = _run(WORKLOAD.build(_spec(seed=1)))
    with pytest.raises(WrongResult, match=message):
        WORKLOAD.check(_spec(), spoil(*outputs))


def test_its_exam_compares_with_lenstronomy_and_shows_every_class_and_instrument():
    spec = _spec(batch=24)
    step = WORKLOAD.build(spec)
    exam = WORKLOAD.exam(spec, step)
    outputs = [[exam.model(*batch)] for batch in exam.batches]
    findings = exam.judge(outputs)
    goal = WORKLOAD.goal("fast", "make")
    assert findings.figures[goal.figure] <= goal.target
    assert findings.figures["subhalos_snr_hst"] > 3 and findings.figures["vortex_snr_euclid"] > 3
    assert [*findings.pictures] == [f"{name}, {camera}" for camera in ("HST", "Euclid") for name in CLASSES]
    for pictures in findings.pictures.values():
        assert pictures.shape == (8, 64, 64, 3) and pictures.dtype == np.uint8
    wrong = [[of[0] * (1 + 1e-11)] for of in outputs]
    assert exam.judge(wrong).figures[goal.figure] > goal.target


@pytest.mark.parametrize(
    "options", [{"instrument": "eye"}, {"image_seed": -1}, {"source": "quasar"}, {"source_file": "/nowhere.h5"}]
)
def test_bad_options_end_in_a_sentence(options):
    with pytest.raises(BadInput):
        WORKLOAD.build(_spec(**options))
