"""Galaxies from the made-up catalogue and from a COSMOS file."""

from __future__ import annotations

import math
import shutil

import numpy as np
import pytest

from siderostat.workloads.base import BadInput
from siderostat.workloads.galaxy_images.catalogue import Component, Galaxy, SyntheticCatalogue, drawable_index
from siderostat.workloads.galaxy_images.cosmos import CosmosCatalogue, galaxy_of, identity, open_catalogue

PERCENTILES = (5, 25, 50, 75, 95)


@pytest.fixture(scope="module")
def galaxies():
    rng, catalogue = np.random.default_rng(5), SyntheticCatalogue()
    return [catalogue.draw(rng) for _ in range(6000)]


def _single(galaxies, what):
    return [getattr(g.components[0], what) for g in galaxies if len(g.components) == 1]


# Published percentiles of COSMOS at F814W < 25.2. Tolerances: the sampling error of 6000 galaxies, what two digits
# leave open, and 10 % for the radius, whose figures are of all galaxies and not of those with one component.
@pytest.mark.parametrize(
    ("of", "expected", "tolerance"),
    [
        (lambda g: [x.magnitude for x in g], (21.5, 23.4, 24.3, 24.8, 25.1), {"atol": 0.15}),
        (lambda g: [x.redshift for x in g], (0.22, 0.51, 0.81, 1.19, 1.85), {"rtol": 0.07}),
        (lambda g: _single(g, "sersic_index"), (0.44, 0.82, 1.32, 2.32, 4.68), {"rtol": 0.08}),
        (lambda g: _single(g, "half_light_radius_arcsec"), (0.16, 0.25, 0.36, 0.51, 0.91), {"rtol": 0.10}),
        (lambda g: [x.axis_ratio for x in g], (0.28, 0.48, 0.64, 0.79, 0.93), {"atol": 0.025}),
    ],
    ids=["magnitude", "redshift", "sersic index", "half-light radius", "axis ratio"],
)
def test_made_up_galaxies_have_the_percentiles_of_cosmos(galaxies, of, expected, tolerance):
    found = np.percentile(of(galaxies), PERCENTILES)
    np.testing.assert_allclose(found, expected, **{"rtol": 0, **tolerance})


def test_made_up_galaxies_have_a_bulge_as_often_as_cosmos(galaxies):
    assert np.mean([len(g.components) == 2 for g in galaxies]) == pytest.approx(0.28, abs=0.025)


def test_components_share_out_the_light(galaxies):
    for galaxy in galaxies[:200]:
        light = sum(10 ** (-0.4 * c.magnitude) for c in galaxy.components)
        assert light == pytest.approx(10 ** (-0.4 * galaxy.magnitude))


def test_ellipticity_follows_a_rotation():
    part = Component(1.0, 0.5, 0.5, 0.1, "E", 20.0)
    galaxy = Galaxy(1.0, 20.0, 0.5, 0.1, (part, part))
    assert galaxy.rotated(-0.1).ellipticity() == pytest.approx((1 / 3, 0))
    assert galaxy.rotated(math.pi / 4 - 0.1).ellipticity() == pytest.approx((0, 1 / 3))
    assert [c.angle_rad for c in galaxy.rotated(0.5).components] == pytest.approx([0.6, 0.6])


@pytest.mark.parametrize(
    ("index", "drawable"), [(0.1, 0.3), (1.02, 1.0), (2.98, 3.0), (3.99, 4.0), (4.6, 4.5), (8.0, 6.0)]
)
def test_sersic_indices_are_rounded_to_what_galsim_draws(index, drawable):
    assert drawable_index(index) == drawable


SINGLE, TWO, FAILED, NO_RADIUS = range(4)


def _columns(fits):
    """A galaxy of one component, one of two, one whose fits failed and one without a radius."""
    sersic = np.array([[0.1, 10, 1.23, 0.6, 0, 0, 0, 0.7]] * 4)
    disc, bulge = [0.1, 9, 1.0, 0.5, 0, 0, 0, 1.1], [0.1, 5, 4.0, 0.8, 0, 0, 0, 1.3]
    radii = np.array([[0.4, 0.2, 0.5]] * 4)
    radii[NO_RADIUS] = np.nan
    status = np.array([[1, 0, 0, 0, 1]] * 4)
    status[FAILED] = 0
    return [
        fits.Column("mag_auto", "D", array=[22.0, 21.0, 23.0, 23.0]),
        fits.Column("zphot", "D", array=[0.8, 0.5, 1.0, 1.0]),
        fits.Column("use_bulgefit", "J", array=[0, 1, 0, 0]),
        fits.Column("viable_sersic", "J", array=[1, 1, 1, 1]),
        fits.Column("flux", "4D", array=np.array([[10.0, 3.0, 7.0, 10.0]] * 4)),
        fits.Column("hlr", "3D", array=radii),
        fits.Column("fit_status", "5J", array=status),
        fits.Column("sersicfit", "8D", array=sersic),
        fits.Column("bulgefit", "16D", array=np.array([disc + bulge] * 4)),
    ]


@pytest.fixture(scope="module")
def fits():
    pytest.importorskip("galsim")
    return pytest.importorskip("astropy.io.fits")


@pytest.fixture(scope="module")
def cosmos_file(fits, tmp_path_factory):
    path = tmp_path_factory.mktemp("cosmos") / "tiny_fits.fits"
    fits.BinTableHDU.from_columns(_columns(fits)).writeto(path)
    return path


def test_a_cosmos_file_gives_its_usable_galaxies(cosmos_file):
    catalogue = open_catalogue(str(cosmos_file))
    assert sorted(catalogue.rows["mag_auto"]) == [21.0, 22.0]
    rng = np.random.default_rng(0)
    assert {catalogue.draw(rng).magnitude for _ in range(30)} == {21.0, 22.0}


def test_the_label_is_that_of_the_fit_to_the_whole_galaxy(cosmos_file):
    for row in CosmosCatalogue(cosmos_file).rows:
        galaxy = galaxy_of(row)
        assert (galaxy.axis_ratio, galaxy.angle_rad) == (0.6, 0.7)


@pytest.mark.parametrize("index", [SINGLE, TWO])
def test_a_cosmos_galaxy_is_drawn_as_galsim_draws_it(cosmos_file, index):
    galsim = pytest.importorskip("galsim")
    from siderostat.workloads.galaxy_images.camera import Camera
    from siderostat.workloads.galaxy_images.survey import brightness_factors

    camera = Camera()
    catalogue = galsim.COSMOSCatalog(str(cosmos_file), use_real=False, exclusion_level="none")
    convolved = galsim.Convolve([catalogue.makeGalaxy(index, chromatic=True), camera.psf])
    ours = camera.draw(galaxy_of(CosmosCatalogue(cosmos_file).rows[index]))
    for band in (0, 3):
        theirs = convolved.drawImage(camera.bandpasses[band], nx=64, ny=64, scale=0.2).array
        theirs = theirs * brightness_factors()[band]
        np.testing.assert_allclose(ours[band], theirs, rtol=0, atol=1e-5 * theirs.max())


def test_identity_is_of_the_content_not_of_the_place(cosmos_file, tmp_path):
    copy = tmp_path / "moved.fits"
    shutil.copy(cosmos_file, copy)
    assert identity(str(copy)) == identity(str(cosmos_file)) != identity("")
    copy.write_bytes(copy.read_bytes() + b" ")
    assert identity(str(copy)) != identity(str(cosmos_file))


def test_missing_columns_are_named_and_so_are_those_found(fits, tmp_path):
    path = tmp_path / "short.fits"
    fits.BinTableHDU.from_columns([c for c in _columns(fits) if c.name not in ("zphot", "hlr")]).writeto(path)
    with pytest.raises(BadInput, match=r"lacks the columns zphot, hlr; found: .*mag_auto"):
        open_catalogue(str(path))


def test_a_catalogue_without_a_usable_galaxy_is_refused(fits, tmp_path):
    path = tmp_path / "useless.fits"
    table = fits.BinTableHDU.from_columns(_columns(fits))
    table.data = table.data[[FAILED, NO_RADIUS]]
    table.writeto(path)
    with pytest.raises(BadInput, match="no galaxy"):
        open_catalogue(str(path))


@pytest.mark.parametrize("content", [b"", b"not FITS at all" * 300])
def test_what_is_not_a_fits_table_is_refused(fits, tmp_path, content):
    path = tmp_path / "wrong.fits"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=r"wrong\.fits is not a FITS file"):
        open_catalogue(str(path))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_table_cut_short_is_refused(cosmos_file, tmp_path):
    path = tmp_path / "cut.fits"
    whole = cosmos_file.read_bytes()
    path.write_bytes(whole[: whole.rindex(b"END" + b" " * 77) + 300])
    with pytest.raises(BadInput, match=r"cut\.fits"):
        open_catalogue(str(path))


def test_the_cuts_of_a_selection_file_are_applied(fits, cosmos_file, tmp_path):
    path = tmp_path / "tiny_fits.fits"
    shutil.copy(cosmos_file, path)
    alone = identity(str(path))
    signal = np.array([100.0, 1.0, 100.0, 100.0])  # too little for the second
    names = ("peak_image_pixel_count", "min_mask_dist_pixels", "average_mask_adjacent_pixel_count")
    columns = [fits.Column(name, "D", array=np.full(4, 50.0)) for name in names]
    columns += [fits.Column("sn_ellip_gauss", "D", array=signal), fits.Column("dmag", "D", array=np.zeros(4))]
    fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "tiny_selection.fits")
    assert list(open_catalogue(str(path)).rows["mag_auto"]) == [22.0]
    assert identity(str(path)) != alone


def test_a_missing_file_is_refused(fits, tmp_path):
    for use in (open_catalogue, identity):
        with pytest.raises(BadInput, match=r"nowhere\.fits"):
            use(str(tmp_path / "nowhere.fits"))
