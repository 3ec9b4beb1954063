"""The reproduction of Arcelin (2021): its bars, what was held out, and that shipped parameters are those that a fit gives."""

from __future__ import annotations

import re

import numpy as np
import pytest
from scipy.optimize import least_squares

from siderostat import calibration
from siderostat.devices.sim import calibration as parameters
from siderostat.reproduce import arcelin2021, models, published
from siderostat.reproduce.arcelin2021 import RATIO, page
from siderostat.reproduce.published import GPU, IPU

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def reproduction() -> arcelin2021.Reproduction:
    return arcelin2021.reproduce()


@pytest.fixture(scope="module")
def fitted() -> calibration.Calibrated:
    return calibration.fit()


@pytest.mark.parametrize(
    ("network", "series", "bar"), [("bnn", IPU, 0.07), ("bnn", GPU, 0.10), ("dnn", RATIO, 0.20), ("bnn", RATIO, 0.08)]
)
def test_the_mean_error_is_within_its_bar(reproduction, network, series, bar):
    assert reproduction.mean_error(network, series) <= bar


def test_largest_batches_are_those_that_can_be_true(reproduction):
    found = {c.network: c.modelled for c in reproduction.capacities}
    assert found["dnn"] in (14, 15)
    assert found["bnn"] in (8, 9)


def test_calibration_points_are_met_within_fifteen_per_cent(fitted):
    found = [r for r in calibration.residuals(fitted) if r.role == calibration.FITTED]
    points = [r for r in found if r.what.endswith(("GC200", "BOW"))]
    assert len(points) == 3
    assert all(abs(r.error) <= 0.15 for r in points)


def test_every_published_figure_is_listed_with_its_role(fitted):
    found = list(calibration.residuals(fitted))
    assert len(found) == 6 + 20 + 1 + 2
    assert {r.role for r in found if r.what.startswith("BNN")} == {calibration.HELD_OUT}
    profile = next(r for r in found if r.unit == "KiB")
    assert abs(profile.error) < 0.1


def test_shipped_parameters_are_those_that_a_fit_gives(fitted):
    for fit in fitted.fits:
        assert fit.value == pytest.approx(fit.shipped, rel=2e-3), fit.key


def test_nothing_of_the_bayesian_network_enters_a_fit(fitted, monkeypatch):
    original = published.training

    def without(network, device):
        times = original(network, device)
        return times if network == "dnn" else [published.Time(network, t.batch, 10 * t.step_s) for t in times]

    monkeypatch.setattr(published, "training", without)
    again = calibration.fit()
    assert [f.value for f in again.fits] == [f.value for f in fitted.fits]


def test_fitted_values_are_written_into_files_that_can_be_used(fitted, tmp_path):
    for path in calibration.write(fitted, tmp_path):
        text = path.read_text()
        for fit in (f for f in fitted.fits if f.file == path.stem):
            assert f"{fit.key} = {{ value = {fit.value:.4g}," in text
    again = parameters.load(str(tmp_path / "bsp-sram.toml"))
    assert again["superstep_cycles"] == pytest.approx(fitted.ipu.calibration["superstep_cycles"], rel=1e-3)


def test_the_time_of_calls_pays_on_what_it_was_not_fitted_on(fitted):
    """Without it all three points have to be met by the cycles of a superstep alone."""
    rows = [r for r in published.ipu_steps() if r.id in (*calibration.SUPERSTEP_ROWS, calibration.CALL_ROW)]
    digits = next(r for r in published.ipu_steps() if r.id == 5)

    def misses(cycles: float, rows) -> list[float]:
        loops = {
            name: loop.changed({"call_s": 0.0}, {"superstep_cycles": cycles}) for name, loop in fitted.loops.items()
        }
        return [float(np.log(calibration._loop_s(loops[r.chip], r) / r.step_s)) for r in rows]

    def ratio_error(ipu) -> float:
        pairs = zip(published.training("bnn", GPU), published.training("bnn", IPU), strict=True)
        modelled = [[models.paper_step_s(m, "bnn", t.batch) for m in (fitted.gpu, ipu)] for t, _ in pairs]
        seen = [g.step_s / i.step_s for g, i in zip(published.training("bnn", GPU), published.training("bnn", IPU))]
        return float(np.mean([abs(g / i / r - 1) for (g, i), r in zip(modelled, seen, strict=True)]))

    with_calls = fitted.ipu.calibration["superstep_cycles"]
    alone = float(np.exp(least_squares(lambda x: misses(np.exp(x[0]), rows), [7.5]).x[0]))
    without = fitted.ipu.changed(calibration={"superstep_cycles": alone})
    without = without.changed({"input_bytes_per_s": calibration._input_rate(without)})
    assert abs(misses(with_calls, [digits])[0]) < 0.5 * abs(misses(alone, [digits])[0])
    assert ratio_error(fitted.ipu) < 0.5 * ratio_error(without)


def test_with_ideal_hosts_the_ratio_is_what_the_chips_do(reproduction):
    ratio = dict(reproduction.ideal["dnn"])[14]
    assert 2.3 <= ratio["p50"] <= 6


def test_the_sampler_compiled_for_the_chip_takes_milliseconds_and_large_batches_do_not_fit(reproduction):
    fits = [s for s in reproduction.sampled if s.fit_probability >= 0.5]
    assert {1, 10} <= {s.images for s in fits}
    assert all(0.002 < s.seconds["p50"] < 0.01 for s in fits)
    line = next(x for x in reproduction.lines if x.device == IPU)
    assert reproduction.sampler_flops / line.per_image_s < 0.05 * 31.1e12


def test_the_page_holds_the_caveats_every_point_and_how_it_was_used(reproduction):
    from siderostat.reports import html, markdown

    section = page.section(reproduction)
    text = markdown.section_text(section, "made")
    for word in ("Dense(3)", "Flipout", "never logged", "two independent runs", "183 to 256 s"):
        assert word in text
    assert len(re.findall(r"^\| [DB]NN \|.*\| (?:fitted|held out)", text, re.MULTILINE)) == len(reproduction.points) + 2
    drawn = html.section_text(section, "made")
    assert drawn.count("<svg") == 5
    assert "http" not in re.sub(r"https?://www\.w3\.org", "", drawn)


def test_points_as_csv_can_be_read_again(reproduction):
    lines = arcelin2021.points_csv(reproduction).splitlines()
    assert len(lines) == 1 + 30
    assert lines[0].startswith("network,series,batch,role,published,modelled,p2_5")


def test_the_networks_of_the_calibration_have_the_published_sizes():
    from siderostat.reproduce.networks import ResNet50, SquaredError

    def count(model) -> int:
        return sum(p.numel() for p in model.parameters())

    assert count(ResNet50()) == 25_557_032
    assert count(SquaredError("dnn", has_dense_head=False).network) == 1_517_205
