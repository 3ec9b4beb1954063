"""The reproduction of Nadler & To: what is kept of a model, the gate, and the command as a whole."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest

from siderostat import cli
from siderostat.reproduce import nadler_to, page, parts
from siderostat.reproduce.nadler_to import figures, findings, models, published, text
from siderostat.reproduce.nadler_to.findings import (
    FLOOR,
    FORESTS,
    MEAN,
    RELATION,
    Boxes,
    Findings,
    Gate,
    Judged,
    Model,
    Spread,
)
from siderostat.reproduce.nadler_to.scales import SCALES
from siderostat.workloads.halo_grids import data, smf
from siderostat.workloads.halo_smf import forest, quality, training

pytest.importorskip("colossus")

PARTS = 4  # of one seed
RESNET = Model("resnet", 20)
FLAT = Spread((1e-3,) * 14, (5e-4,) * 14, (2e-3,) * 14)


def judged(model: Model, seed: int, chi2: float) -> Judged:
    return Judged(model, seed, chi2, 1.0, (chi2 / 14,) * 14, FLAT, {}, 1.0)


def of_chi2(*seeds: dict[Model, float]) -> Findings:
    """Findings of some seeds whose chi^2 are given."""
    boxes = [Boxes(seed, "paper", 200_000, 800, 200, FLAT) for seed, _ in enumerate(seeds)]
    found = [judged(model, seed, chi2) for seed, held in enumerate(seeds) for model, chi2 in held.items()]
    return Findings(boxes, found, [], [])


@pytest.mark.parametrize(
    ("network", "forests", "mean", "is_met"),
    [
        (30.0, {10: 60.0, 5: 70.0}, 110.0, True),
        (65.0, {10: 60.0, 5: 70.0}, 110.0, False),  # below one forest only
        (30.0, {10: 60.0, 5: 120.0}, 110.0, False),  # one forest is no better than the mean
        (60.0, {10: 60.0, 5: 70.0}, 110.0, False),
    ],
)
def test_the_gate_asks_for_the_order_of_the_paper(network, forests, mean, is_met):
    assert Gate(0, network, forests, mean).is_met is is_met


def test_gates_are_those_of_seeds_of_which_every_part_is_there():
    whole = {MEAN: 110.0, RELATION: 50.0, FLOOR: 25.0, FORESTS[0]: 60.0, FORESTS[1]: 70.0, RESNET: 30.0}
    without_a_forest = {model: chi2 for model, chi2 in whole.items() if model != FORESTS[1]}
    of = of_chi2(without_a_forest, whole, {**whole, RESNET: 80.0})
    assert [(gate.seed, gate.is_met) for gate in findings.gates(of)] == [(1, True), (2, False)]
    assert any("is met by 1 of 2 seeds" in line for line in text.page(of).section.headlines)


def test_a_larger_network_does_not_stand_in_for_the_one_the_gate_is_about():
    whole = {
        MEAN: 110.0,
        RELATION: 50.0,
        FLOOR: 25.0,
        FORESTS[0]: 60.0,
        FORESTS[1]: 70.0,
        RESNET: 80.0,
        Model("resnet", 200): 30.0,
    }
    (gate,) = findings.gates(of_chi2(whole))
    assert gate.network == 80.0
    assert not gate.is_met


def test_a_ratio_is_taken_seed_by_seed():
    of = of_chi2({RESNET: 20.0, FORESTS[0]: 40.0}, {RESNET: 60.0, FORESTS[0]: 120.0}, {RESNET: 1.0})
    found = of.ratio(RESNET, FORESTS[0])
    assert found is not None
    assert found.value == pytest.approx(0.5)
    assert found.n == 2
    assert of.ratio(RESNET, MEAN) is None


def test_the_ratio_is_said_beside_the_published_one():
    of = of_chi2(*[{MEAN: 110.0, RELATION: 50.0, FLOOR: 25.0, FORESTS[0]: 60.0, FORESTS[1]: 75.0, RESNET: 30.0}] * 2)
    words = " ".join(text.page(of).section.headlines)
    assert "Published: 135 / 272 = 0.50." in words
    assert "0.500 (0.500 to 0.500) times that of the forest of depth 10" in words
    assert "30.0 (30.0 to 30.0) against 135 (ResNet N = 20, 0.22 times)" in words


def test_the_charts_have_colours_enough_for_all_networks_of_the_paper():
    networks = [Model("resnet", channels) for channels in published.networks()]
    of = of_chi2(dict.fromkeys((*findings.UNFITTED, *FORESTS, *networks), 50.0))
    for chart in (*figures.chi2_charts(of), *figures.function_charts(of)):
        for domain, colours in re.findall(r'"domain": (\[[^]]*\]), "range": (\[[^]]*#[^]]*\])', json.dumps(chart.spec)):
            assert len(json.loads(domain)) == len(set(json.loads(colours)))


def test_published_values_are_those_of_the_files():
    assert published.forest() == 272
    assert published.networks() == {20: 135, 100: 93, 200: 84}
    densities = published.densities()
    assert [d.low for d in densities] == smf.EDGES[:-1].tolist()
    np.testing.assert_array_equal([max(d.error_up, d.error_down) for d in densities], smf.sigma())
    assert Model("forest", 5).published == 272
    assert MEAN.published is FLOOR.published is Model("resnet", 4).published is None


def test_the_whole_scales_train_as_published():
    assert SCALES["small"].plan == training.PLAN
    assert SCALES["small"].batch == training.BATCH
    assert SCALES["paper"].channels == tuple(published.networks())
    assert SCALES["small"].boxes == (data.SIZES["paper"][0] // 25) ** 3
    assert SCALES["tiny"].boxes == (data.SIZES["tiny"][0] // 25) ** 3


def test_what_is_kept_of_a_prediction_adds_up(tiny):
    labels = tiny.labels[tiny.validation]
    wrong = labels + 2 * tiny.sigma
    held = models.judged(wrong, tiny)
    assert held["chi2"] == pytest.approx(14 * 4, rel=1e-3)
    assert sum(held["by_bin"]) == pytest.approx(held["chi2"])
    assert held["error"] == pytest.approx(0, abs=1e-2)
    np.testing.assert_allclose(held["phi"], wrong.mean(0) * smf.PHYSICAL, rtol=1e-6)
    assert all(low <= high for low, high in zip(held["low"], held["high"], strict=True))


def test_no_other_function_of_the_peak_velocities_comes_below_the_floor(tiny):
    val = tiny.validation
    expected = models.expected_labels(tiny, 40, 0)[val]
    least = quality.chi2(expected, tiny.labels[val], tiny.sigma)
    without_scatter = quality.chi2(tiny.labels_of(models.median_masses(tiny))[val], tiny.labels[val], tiny.sigma)
    assert least < 0.7 * without_scatter
    assert least < quality.mean_predictor_chi2(tiny) / 2
    # Labels that are drawn again miss the true ones by the scatter of both: twice what their mean does.
    again = quality.chi2(models.expected_labels(tiny, 1, 1)[val], tiny.labels[val], tiny.sigma)
    assert again == pytest.approx(2 * least, rel=0.35)


def run(folder: Path, seeds: int = 2) -> int:
    return cli.main(["reproduce", "nadler-to", "--scale", "tiny", "--seeds", str(seeds), "-o", str(folder)])


@pytest.fixture(scope="module")
def tiny():
    return data.sub_boxes(0, size="tiny")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A whole reproduction of the smallest scale."""
    made: Path = tmp_path_factory.mktemp("nadler")
    assert run(made) == 0
    return made


def of_part(folder: Path, name: str) -> dict[str, object]:
    held: dict[str, object] = parts.look(nadler_to.plan("tiny", 2), folder).results[name].figures
    return held


def test_the_command_writes_the_page_with_every_part(folder):
    drawn = (folder / "reproduction.html").read_text()
    assert drawn.count("<svg") == 5
    assert "http" not in re.sub(r"https?://www\.w3\.org", "", drawn)
    words = (folder / "reproduction.md").read_text()
    for name in ("The gate", "of 2 seeds", "Moustakas", "nothing about the paper", "Scale of the loss", "2,000,000"):
        assert name in words
    for name in ("boxes-0", "resnet-4-1", "forest-10-0", "forest-5-1"):
        assert name in words
    assert "missing" not in words


def test_forests_and_the_mean_are_those_of_the_workload(folder, tiny):
    scale = SCALES["tiny"]
    for depth in (10, 5):
        held = of_part(folder, f"forest-{depth}-0")
        theirs = forest.forest_chi2(tiny, depth, scale.trees, scale.halos, seed=0)
        assert held["chi2"] == theirs.chi2
        assert held["scatter_dex"] == theirs.scatter_dex
        assert held["importances"] == theirs.importances
        assert held["halos"] == theirs.halos
    mean = of_part(folder, "boxes-0")["mean"]
    assert isinstance(mean, dict)
    assert mean["chi2"] == pytest.approx(quality.mean_predictor_chi2(tiny))


def test_a_network_is_judged_as_its_training_says(folder):
    held = of_part(folder, "resnet-4-1")
    epochs = held["epochs"]
    assert isinstance(epochs, list)
    assert [epoch["learning_rate"] for epoch in epochs] == [0.1, 0.1, 0.001]
    assert epochs[-1]["chi2"] == held["chi2"]


def test_seeds_differ_in_everything(folder):
    for name in ("boxes", "resnet-4", "forest-10"):
        assert of_part(folder, f"{name}-0") != of_part(folder, f"{name}-1")


def test_a_part_that_is_made_again_is_the_same(folder):
    for part in nadler_to.plan("tiny", 2):
        if part.name in ("resnet-4-1", "boxes-1"):
            assert json.loads(json.dumps(part.make())) == of_part(folder, part.name)


def test_published_values_are_never_shown_as_measured(folder):
    rows = list(csv.DictReader((folder / "points.csv").open()))
    assert {row["provenance"] for row in rows} == {"measured", "published"}
    theirs = [row for row in rows if row["provenance"] == "published"]
    assert {float(row["value"]) for row in theirs if row["quantity"] == "chi2"} == {272, 135, 93, 84}
    assert {row["series"] for row in theirs if row["quantity"] != "chi2"} == {"Moustakas et al. (2013)"}
    names = {row["series"] for row in theirs}
    assert not [row for row in rows if row["provenance"] == "measured" and row["series"] in names]


def test_charts_draw_published_values_grey_and_measured_ones_in_colour(folder):
    from tests.charts import published_among

    found = findings.find(parts.look(nadler_to.plan("tiny", 2), folder))
    makers = (figures.chi2_charts, figures.function_charts, figures.forest_charts, figures.learning_charts)
    charts = [chart for maker in makers for chart in maker(found)]
    assert [chart.name for chart in charts] == ["chi2", "smf", "bins", "importances", "epochs"]
    assert published_among(charts)


def test_given_again_the_command_makes_nothing_again_and_the_same_page(folder, capsys):
    before = {path: path.read_bytes() for path in folder.rglob("*.*")}
    assert run(folder) == 0
    assert "to make" not in capsys.readouterr().out
    assert {path: path.read_bytes() for path in folder.rglob("*.*")} == before


def test_a_killed_reproduction_goes_on_where_it_was(folder, tmp_path, capsys):
    (tmp_path / "parts").mkdir()
    for name in ("boxes-0", "resnet-4-0"):
        (tmp_path / "parts" / f"{name}.json").write_bytes((folder / "parts" / f"{name}.json").read_bytes())
    assert run(tmp_path, seeds=1) == 0
    assert "2 parts to make, 2 more are there already" in capsys.readouterr().out
    made = parts.look(nadler_to.plan("tiny", 1), tmp_path).results
    assert {name: result.figures for name, result in made.items()} == {
        name: of_part(folder, name) for name in ("boxes-0", "resnet-4-0", "forest-10-0", "forest-5-0")
    }


def test_parts_of_another_scale_are_refused(folder, capsys):
    words = ["reproduce", "nadler-to", "--scale", "small", "--seeds", "1", "-o", str(folder)]
    assert cli.main(words) != 0
    assert "was made with" in capsys.readouterr().err


def test_a_page_is_made_of_the_parts_that_there_are(folder, tmp_path):
    wanted = nadler_to.plan("tiny", 2)
    (tmp_path / "parts").mkdir()
    for kept in ([], ["forest-5-1"], ["resnet-4-0"], ["boxes-0"], ["forest-10-0"]):
        for name in kept:
            (tmp_path / "parts" / f"{name}.json").write_bytes((folder / "parts" / f"{name}.json").read_bytes())
        found = parts.look(wanted, tmp_path)
        words = page.texts(page.accounted(nadler_to.show(found), found))["reproduction.md"]
        assert f"{len(wanted) - len(found.results)} of {2 * PARTS} parts missing" in words
