"""The reproduction of Abbott et al.: estimators against derivatives that are known, and the command as a whole."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest

from siderostat import cli
from siderostat.reproduce import abbott2024, page, parts
from siderostat.reproduce.abbott2024 import derivative, published, text
from siderostat.workloads.gauge_flow.ensemble import Estimate

LEFT, RIGHT = 1.0, 1.3
GAP = RIGHT - LEFT
BLOCKS, EACH, TRIALS = 32, 8, 300
SECANT = (1 / RIGHT - 1 / LEFT) / GAP
SLOPE = -1 / LEFT**2
"""Of <O> = 1 / lambda with O = x^2 and x normal of variance 1 / lambda: p proportional to exp(-lambda x^2 / 2)."""


def drawn(rng: np.random.Generator, coupling: float) -> np.ndarray:
    return rng.standard_normal((BLOCKS, EACH)) / np.sqrt(coupling)


def by_flow(rng: np.random.Generator) -> Estimate:
    """x' = c x with c that is not the right one, so that weights matter."""
    x, c = drawn(rng, LEFT), 0.95 * np.sqrt(LEFT / RIGHT)
    log_weights = -RIGHT * (c * x) ** 2 / 2 + np.log(c) + LEFT * x**2 / 2
    return derivative.correlated(x**2, (c * x) ** 2, log_weights, GAP)


def by_reweighting(rng: np.random.Generator) -> Estimate:
    x = drawn(rng, LEFT)
    return derivative.correlated(x**2, x**2, -GAP * x**2 / 2, GAP)


def by_independent(rng: np.random.Generator) -> Estimate:
    return derivative.independent(drawn(rng, LEFT) ** 2, drawn(rng, RIGHT) ** 2, GAP)


def by_connected(rng: np.random.Generator) -> Estimate:
    x = drawn(rng, LEFT)
    return derivative.connected(x**2, -(x**2) / 2)


@pytest.mark.parametrize(
    ("estimator", "truth"),
    [(by_flow, SECANT), (by_reweighting, SECANT), (by_independent, SECANT), (by_connected, SLOPE)],
)
def test_an_estimator_is_unbiased_and_covers_the_truth_as_often_as_its_error_says(estimator, truth):
    rng = np.random.default_rng(0)
    found = [estimator(rng) for _ in range(TRIALS)]
    values, errors = np.array(found).T
    assert abs(values.mean() - truth) < 4 * values.std() / np.sqrt(TRIALS)
    assert errors.mean() == pytest.approx(values.std(), rel=0.15)
    covered = np.mean(np.abs(values - truth) < 1.96 * errors)
    assert 0.89 < covered < 0.98


def test_a_perfect_flow_has_no_error_from_weights_and_beats_all_others():
    rng = np.random.default_rng(1)
    x = drawn(rng, LEFT)
    moved = x * np.sqrt(LEFT / RIGHT)
    flow = derivative.correlated(x**2, moved**2, np.full(x.shape, 3.0), GAP)
    # Both terms are the same normal numbers, so what is left is the error of <x^2> times the slope.
    assert flow.error < 0.35 * by_independent(rng).error
    assert abs(flow.sigmas_from(SECANT)) < 3


def test_without_weights_a_wrong_flow_is_seen_to_be_wrong():
    rng = np.random.default_rng(2)
    x, c = drawn(rng, LEFT), 0.85 * np.sqrt(LEFT / RIGHT)
    naive = derivative.correlated(x**2, (c * x) ** 2, np.zeros(x.shape), GAP)
    assert abs(naive.sigmas_from(SECANT)) > 4


def test_errors_take_account_of_blocks_whose_values_go_together():
    rng = np.random.default_rng(3)
    base = rng.standard_normal((BLOCKS, 1)) ** 2
    together, apart = np.repeat(base, EACH, 1), rng.standard_normal((BLOCKS, EACH)) ** 2
    wide, narrow = (derivative.independent(values, apart, 1.0).error for values in (together, apart))
    assert wide > 1.6 * narrow


def test_a_mean_over_seeds_has_the_error_of_independent_estimates():
    found = derivative.mean([Estimate(1.0, 0.3), Estimate(3.0, 0.4)])
    assert found == Estimate(2.0, pytest.approx(0.25))


def test_a_flow_that_does_nothing_reweights_from_one_coupling_to_the_other():
    import torch

    from siderostat.reproduce.abbott2024 import flows, transport
    from siderostat.workloads.gauge_flow import group

    settings = {
        "extents": (4, 4, 4, 4),
        "loops": "learned",
        "layers": 2,
        "channels": 2,
        "hidden": 1,
        "gain": 0.1,
        "context": 4,
        "bins": 4,
    }
    links = group.haar(np.random.default_rng(4), (3, 4, 4, 4, 4, 4))
    moving = transport.Transport(flows.identity({**settings, "seed": 0}).double(), beta=2.0, gap=GAP)
    with torch.no_grad():
        log_weights, moved = moving(transport.as_pairs(links))
    plaquettes = group.mean_plaquette(links)
    np.testing.assert_allclose(moved, plaquettes, atol=1e-12)
    np.testing.assert_allclose(log_weights, GAP * 6 * 256 * plaquettes, atol=1e-8)


@pytest.mark.parametrize("hidden", [1, 2])
def test_learned_loops_begin_as_the_fixed_ones(hidden):
    import torch

    from siderostat.reproduce.abbott2024 import flows, transport
    from siderostat.workloads.gauge_flow import group

    settings = {
        "extents": (4, 2, 2, 2),
        "layers": 24,
        "channels": 2,
        "hidden": hidden,
        "context": 4,
        "bins": 4,
        "seed": 0,
    }
    links = group.haar(np.random.default_rng(5), (2, 4, 4, 2, 2, 2))
    fixed, learned, noisy = (
        flows.identity({**settings, "loops": loops, "gain": gain}).double()
        for loops, gain in (("fixed", 0.0), ("learned", 0.0), ("learned", 0.1))
    )
    own = fixed.taken(transport.as_pairs(links))
    with torch.no_grad():
        for layer, same, other in zip(fixed.layers, learned.layers, noisy.layers, strict=True):
            staples = layer.active_staples(own)
            torch.testing.assert_close(same.active_staples(own), staples, atol=1e-12, rtol=0)
            assert (other.active_staples(own) - staples).abs().max() > 0.01


def test_published_values_are_those_of_the_paper():
    assert published.figures()["ess_learned_active_loops"] == 0.8
    assert published.figures()["ess_fixed_loops"] == 0.2
    assert len(published.figures()) == 7


def test_errors_are_written_with_two_digits():
    assert text.plus_minus(Estimate(0.07602, 0.00196)) == "0.0760 +- 0.0020"
    assert text.plus_minus(Estimate(189.11, 1.23)) == "189.1 +- 1.2"
    assert text.plus_minus(Estimate(310.0, 89.0)) == "310 +- 89"


def run(folder: Path) -> int:
    return cli.main(["reproduce", "abbott2024", "--scale", "tiny", "--seeds", "2", "-o", str(folder)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A whole reproduction of the smallest scale."""
    made: Path = tmp_path_factory.mktemp("abbott")
    assert run(made) == 0
    return made


def test_the_command_writes_the_page_with_every_part(folder):
    drawn = (folder / "reproduction.html").read_text()
    assert drawn.count("<svg") == 5
    assert "http" not in re.sub(r"https?://www\.w3\.org", "", drawn)
    words = (folder / "reproduction.md").read_text()
    for name in ("learned loops", "not reproduced", "by the flow", "Over generation", "fixed-0", "transport-1"):
        assert name in words
    assert "missing" not in words


def test_published_values_are_never_shown_as_measured(folder):
    rows = list(csv.DictReader((folder / "points.csv").open()))
    assert {row["provenance"] for row in rows} == {"measured", "published"}
    theirs = [row for row in rows if row["provenance"] == "published"]
    assert {row["quantity"].removesuffix("_gpu_h") for row in theirs} == set(published.figures())
    assert {row["series"] for row in theirs} == {"Abbott et al."}
    assert not [row for row in rows if row["provenance"] == "measured" and row["series"] == "Abbott et al."]


def test_charts_draw_published_values_grey_and_measured_ones_in_colour(folder):
    from siderostat.reproduce.abbott2024 import figures, findings
    from tests.charts import published_among

    found = findings.find(parts.look(abbott2024.plan("tiny", 2), folder))
    assert published_among([*figures.training_charts(found), *figures.cost_charts(found)])


def test_given_again_the_command_makes_nothing_again_and_the_same_page(folder, capsys):
    before = {path: path.read_bytes() for path in folder.rglob("*.*")}
    assert run(folder) == 0
    assert "to make" not in capsys.readouterr().out
    assert {path: path.read_bytes() for path in folder.rglob("*.*")} == before


def test_a_page_is_made_of_the_parts_that_there_are(folder, tmp_path):
    wanted = abbott2024.plan("tiny", 2)
    (tmp_path / "parts").mkdir()
    for kept in ([], ["fixed-0"], ["fixed-0", "learned-0"], ["transport-1"]):
        for name in kept:
            (tmp_path / "parts" / f"{name}.json").write_bytes((folder / "parts" / f"{name}.json").read_bytes())
        found = parts.look(wanted, tmp_path)
        words = page.texts(page.accounted(abbott2024.show(found), found))["reproduction.md"]
        assert f"{len(wanted) - len(found.results)} of 8 parts missing" in words


def test_an_interrupted_command_leaves_a_page_and_says_130(tmp_path, monkeypatch, capsys):
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(parts, "complete", interrupted)
    assert run(tmp_path) == 130
    assert "8 of 8 parts missing" in (tmp_path / "reproduction.md").read_text()
    assert "interrupted" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["abbott2024", "--scale", "smal"], "did you mean 'small'"),
        (["abbott2024", "--seeds", "0"], "--seeds is 0"),
        (["arcelin2021", "--seeds", "2"], "neither --scale nor --seeds"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(words, message, capsys):
    assert cli.main(["reproduce", *words]) == 2
    assert message in capsys.readouterr().err
