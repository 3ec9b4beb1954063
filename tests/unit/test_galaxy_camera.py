"""Images against GalSim's plain chromatic way, and against what the survey constants say."""

from __future__ import annotations

import math

import numpy as np
import pytest

from siderostat.workloads.base import BadInput
from siderostat.workloads.galaxy_images import survey
from siderostat.workloads.galaxy_images.camera import Camera
from siderostat.workloads.galaxy_images.catalogue import Catalogue, Component, Galaxy, SyntheticCatalogue
from siderostat.workloads.galaxy_images.making import draw_galaxy, make_images
from siderostat.workloads.galaxy_images.noise import add_noise

galsim = pytest.importorskip("galsim")


@pytest.fixture(scope="module")
def camera():
    return Camera()


@pytest.fixture(scope="module")
def made(camera):
    """Images and labels 0 ... 63 of seed 0."""
    return make_images(camera, SyntheticCatalogue(), 0, range(64))


def _galaxy(magnitude=20.0, radius=0.4, ratio=0.5, angle=0.5, sed="Sbc", redshift=0.7, index=1.5):
    return Galaxy(redshift, magnitude, ratio, angle, (Component(index, radius, ratio, angle, sed, magnitude),))


def _moments(image):
    """Second moments of an image about its middle, as a complex ellipticity."""
    y, x = np.mgrid[:64, :64] - 31.5
    window = image * np.exp(-(x**2 + y**2) / (2 * 4**2))
    xx, yy, xy = ((window * m).sum() for m in (x * x, y * y, x * y))
    return (xx - yy + 2j * xy) / (xx + yy)


def test_the_survey_has_the_published_counts():
    sky = (883.9, 12745.6, 65328.9, 93564.9, 126597.3, 145354.1)
    np.testing.assert_allclose(survey.sky_electrons(), sky, atol=0.06)
    factors = (7302.7, 10432.4, 23994.6, 23994.6, 20864.8, 20864.8)
    np.testing.assert_allclose(survey.brightness_factors(), factors, atol=0.06)


def test_one_drawing_times_six_fluxes_is_the_chromatic_image(camera):
    galaxies = [draw_galaxy(camera, SyntheticCatalogue(), np.random.default_rng([7, i])) for i in range(12)]
    assert {len(g.components) for g in galaxies} == {1, 2}
    for galaxy in galaxies:
        ours, plain = camera.draw(galaxy), camera.draw_chromatic(galaxy)
        peak = plain.max((1, 2), keepdims=True)
        assert (np.abs(ours - plain) / peak).max() < 2e-6  # seen over 60 galaxies: 2e-7


@pytest.mark.parametrize(("sed", "redshift"), [("E", 0.31), ("Sbc", 1.7), ("Scd", 0.0)])
def test_electrons_are_the_integrals_of_the_spectrum(camera, sed, redshift):
    spectrum = galsim.SED(f"CWW_{sed}_ext_more.sed", wave_type="Ang", flux_type="flambda")

    def photons(name):
        bandpass = galsim.Bandpass(name, wave_type="nm")
        wave = np.arange(bandpass.blue_limit, bandpass.red_limit, 0.05)
        values = spectrum(wave / (1 + redshift)) * bandpass(wave)
        return ((values[1:] + values[:-1]) / 2).sum() * 0.05

    reference = photons("ACS_wfc_F814W.dat")
    expected = [photons(f"LSST_{band}.dat") / reference for band in "ugrizy"]
    expected = np.array(expected) * 10 ** (-0.4 * (22.0 - 25.94)) * survey.brightness_factors()
    component = _galaxy(22.0, sed=sed).components[0]
    np.testing.assert_allclose(camera.electrons(component, redshift), expected, rtol=1e-3)


def test_an_image_holds_the_electrons_of_its_galaxy(camera):
    galaxy = _galaxy()
    image = camera.draw(galaxy)
    assert image.shape == (6, 64, 64) and image.dtype == np.float32
    expected = camera.electrons(galaxy.components[0], galaxy.redshift)
    np.testing.assert_allclose(image.sum((1, 2), dtype=float), expected, rtol=0.01)  # the wings lie outside


def test_a_point_source_is_as_wide_as_the_point_spread_function(camera):
    direct = galsim.Kolmogorov(fwhm=0.65).drawImage(nx=64, ny=64, scale=0.2)
    for band in camera.draw(_galaxy(radius=1e-3, ratio=1.0)):
        width = galsim.Image(band.astype(float), scale=0.2).calculateFWHM()
        assert width == pytest.approx(direct.calculateFWHM(), rel=1e-3)
        np.testing.assert_allclose(band / band.sum(), direct.array / direct.array.sum(), atol=1e-5)


@pytest.fixture(scope="module")
def source():
    """Sources of even brightness, from none in u to 50,000 electrons per pixel in y."""
    return np.linspace(0, 50_000, 6, dtype=np.float32)[:, None, None] * np.ones((1, 64, 64), np.float32)


def _noisy(source, noise):
    """Pixels of 60 exposures by band, shape (6, 245760)."""
    rng = np.random.default_rng(3)
    exposures = np.stack([add_noise(source, rng, noise) for _ in range(60)])
    assert exposures.dtype == np.float32
    return exposures.transpose(1, 0, 2, 3).reshape(6, -1).astype(float)


@pytest.mark.parametrize("noise", ["poisson", "gaussian"])
def test_noise_has_the_mean_and_variance_of_counting_galaxy_and_sky(source, noise):
    noisy = _noisy(source, noise)
    expected = survey.sky_electrons() + source[:, 0, 0]
    n = noisy.shape[1]
    assert (np.abs(noisy.mean(1) - source[:, 0, 0]) < 4 * np.sqrt(expected / n)).all()
    np.testing.assert_allclose(noisy.var(1), expected, rtol=4 * math.sqrt(2 / n))
    # A row of pixels has no more in common with the next than chance.
    pixels = (noisy[0] - noisy[0].mean()) / noisy[0].std()
    assert abs((pixels[1:] * pixels[:-1]).mean()) < 4 / math.sqrt(n)


@pytest.mark.parametrize(("noise", "share"), [("poisson", 1), ("gaussian", 0)])
def test_poisson_noise_is_skewed_and_gaussian_noise_is_not(source, noise, share):
    # In u the skewness of counts is 7 standard errors from 0.
    u = _noisy(source, noise)[0]
    u = (u - u.mean()) / u.std()
    expected = share * survey.sky_electrons()[0] ** -0.5
    assert (u**3).mean() == pytest.approx(expected, abs=3.4 * math.sqrt(6 / len(u)))


def test_counts_are_whole_numbers_above_the_sky(source):
    counts = _noisy(source, "poisson")[3] + survey.sky_electrons()[3]
    assert np.abs(counts - np.round(counts)).max() < 0.01


def test_no_noise_leaves_the_image_as_it_is(source):
    assert np.array_equal(add_noise(source, np.random.default_rng(0), "none"), source)


def test_images_do_not_depend_on_what_was_made_before(camera, made):
    for index in (63, 5):
        images, labels = make_images(Camera(), SyntheticCatalogue(), 0, [index])
        assert np.array_equal(images[0], made[0][index]) and np.array_equal(labels[0], made[1][index])


def test_another_seed_or_index_gives_another_image(camera, made):
    images, labels = make_images(camera, SyntheticCatalogue(), 1, [0])
    assert not np.array_equal(images[0], made[0][0]) and not np.array_equal(labels[0], made[1][0])
    assert not np.array_equal(labels[0], made[1][1])  # seed and index are not simply added
    assert len({image.tobytes() for image in made[0]}) == 64


def test_labels_point_where_the_images_do(made):
    images, labels = made
    label = labels[:, 0] + 1j * labels[:, 1]
    signal = images[:, 2:4].sum(1)[:, 30:34, 30:34].sum((1, 2)) / math.sqrt(16 * survey.sky_electrons()[2:4].sum())
    clear = (signal > 40) & (np.abs(label) > 0.15)
    assert clear.sum() >= 10
    seen = np.array([_moments(i) for i in images[clear, 2:4].sum(1)])
    agreement = np.real(seen * np.conj(label[clear])) / np.abs(seen * label[clear])
    assert agreement.mean() > 0.9  # labels taken before the rotation would give about 0


def test_labels_are_isotropic_and_as_deep_as_the_catalogue(camera):
    catalogue = SyntheticCatalogue()
    galaxies = [draw_galaxy(camera, catalogue, np.random.default_rng([2, i])) for i in range(600)]
    e = np.array([g.ellipticity() for g in galaxies])
    assert (np.abs(e.mean(0)) < 4 * e.std(0) / math.sqrt(len(e))).all()
    assert abs((e[:, 0] * e[:, 1]).mean()) < 4 * (e.std() ** 2) / math.sqrt(len(e))
    assert np.sqrt((e**2).mean()) == pytest.approx(0.21, abs=0.02)  # per component, of the axis ratios of COSMOS
    assert np.median([g.redshift for g in galaxies]) == pytest.approx(0.81, abs=0.08)
    assert all(camera.r_magnitude(g) < 27.5 for g in galaxies)


class _InTurn(Catalogue):
    def __init__(self, *galaxies):
        self.galaxies, self.drawn = galaxies, 0

    def draw(self, rng):
        self.drawn += 1
        return self.galaxies[(self.drawn - 1) % len(self.galaxies)]


@pytest.mark.parametrize(
    "useless",
    [{"magnitude": 29.0}, {"magnitude": 19.0, "radius": 30.0, "index": 6.0}, {"magnitude": 15.0, "redshift": 10.5}],
)
def test_galaxies_too_faint_too_large_or_too_far_are_replaced_by_the_next(camera, useless):
    catalogue = _InTurn(_galaxy(**useless), _galaxy(**useless), _galaxy(22.0))
    assert draw_galaxy(camera, catalogue, np.random.default_rng(0)).magnitude == 22.0
    assert catalogue.drawn == 3


def test_the_cut_in_r_uses_the_zero_point(camera):
    galaxy = _galaxy()
    per_second = camera.electrons(galaxy.components[0], galaxy.redshift)[2] / (184 * 15)
    assert camera.r_magnitude(galaxy) == pytest.approx(28.13 - 2.5 * math.log10(per_second))
    assert camera.r_magnitude(galaxy) == pytest.approx(20.5, abs=1)  # a spiral is a little fainter in r than in F814W


def test_a_catalogue_of_faint_galaxies_ends_in_a_sentence(camera, monkeypatch):
    monkeypatch.setattr("siderostat.workloads.galaxy_images.making.MOST_DRAWS", 5)
    with pytest.raises(BadInput, match="none of 5 galaxies"):
        draw_galaxy(camera, _InTurn(_galaxy(30.0)), np.random.default_rng(0))
