"""The making of images as a workload."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from siderostat.workloads import load
from siderostat.workloads.base import BadInput, Spec, WrongResult
from siderostat.workloads.galaxy_images.survey import sky_electrons

pytest.importorskip("galsim")
WORKLOAD = load("galaxy-images")


def _spec(variant="kspace", batch=8, seed=0, **options):
    return Spec(variant, "make", "numpy", batch, "lsst", seed, options)


def _run(step):
    phase = step.phases[0]
    return phase.model(*phase.feed.next())


def test_importing_it_imports_no_framework():
    code = (
        "import siderostat.workloads.galaxy_images as g, sys; print({'torch', 'galsim', 'astropy'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"


@pytest.mark.parametrize("noise", ["poisson", "gaussian", "none"])
@pytest.mark.parametrize("variant", list(WORKLOAD.variants))
def test_a_step_makes_a_batch_and_passes_its_check(variant, noise):
    spec = _spec(variant, noise=noise)
    step = WORKLOAD.build(spec)
    outputs = _run(step)
    assert outputs[0].shape == (8, 6, 64, 64) and outputs[0].dtype == np.float32
    assert (step.items, step.framework) == (8, "numpy")
    assert 0.7 < WORKLOAD.check(spec, outputs)["light_share"] < 1.1


def test_all_variants_make_the_same_images():
    plain, *others = (_run(WORKLOAD.build(_spec(variant, noise="none"))) for variant in WORKLOAD.variants)
    for images, light in others:
        assert np.array_equal(light, plain[1])
        assert (np.abs(images - plain[0]) < 2e-4 * plain[0].max((2, 3), keepdims=True)).all()


def test_each_step_makes_other_galaxies_and_noise():
    step = WORKLOAD.build(_spec(batch=512))
    once, again = _run(step), _run(step)
    assert np.array_equal(once[1], again[1])  # the galaxies come round
    noise = (once[0] - again[0]) / np.sqrt(2 * sky_electrons()[:, None, None])
    assert noise[:, 0, 0, 0].std() == pytest.approx(1, abs=0.15)
    few = WORKLOAD.build(_spec())
    assert not np.array_equal(_run(few)[1], _run(few)[1])


def test_another_image_seed_draws_other_galaxies():
    assert not np.array_equal(_run(WORKLOAD.build(_spec()))[1], _run(WORKLOAD.build(_spec(image_seed=1)))[1])


def test_a_batch_may_be_larger_than_the_store_of_galaxies(monkeypatch):
    monkeypatch.setattr("siderostat.workloads.galaxy_images.GALAXIES", 4)
    assert len(_run(WORKLOAD.build(_spec(batch=6)))[0]) == 6


def test_the_tables_are_its_only_part():
    assert WORKLOAD.parts(_spec()) == 1
    WORKLOAD.make_part(_spec(), 0)


@pytest.fixture(scope="module")
def made():
    return _run(WORKLOAD.build(_spec(noise="none")))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda images: images[:4], r"shape \(4, 6, 64, 64\) instead of \(8, "),
        (lambda images: np.where(images == images.max(), np.nan, images), "2 of 196608 pixels are not finite"),
        (lambda images: images * 1.3, "has .* electrons in u, which its galaxy's"),
        (lambda images: images * 0.4, "has .* electrons in u, which its galaxy's"),
        (lambda images: images[::-1], "which its galaxy's"),
        (lambda images: images + 1000 * (np.arange(6) == 2)[:, None, None], "electrons in r"),
    ],
    ids=["shape", "not finite", "too bright", "too faint", "another galaxy", "a sky left in"],
)
def test_wrong_images_are_found_out(made, spoil, message):
    images, light = made
    spec = _spec(noise="none")
    WORKLOAD.check(spec, (images, light))
    with pytest.raises(WrongResult, match=message):
        WORKLOAD.check(spec, (spoil(images), light))


def test_a_sky_left_in_is_found_out_in_spite_of_noise():
    images, light = _run(WORKLOAD.build(_spec()))
    with pytest.raises(WrongResult, match="electrons in u"):
        WORKLOAD.check(_spec(), (images + sky_electrons()[:, None, None], light))


@pytest.mark.parametrize("options", [{"noise": "loud"}, {"image_seed": -1}, {"catalogue": "/nowhere/a.fits"}])
def test_bad_options_end_in_a_sentence(options):
    with pytest.raises(BadInput):
        WORKLOAD.build(_spec(**options))
