"""The reproduction of Alexander et al.: figures from parts, the gate, and the command as a whole."""

from __future__ import annotations

import base64
import csv
import dataclasses
import io
import re
from pathlib import Path

import numpy as np
import pytest

from siderostat import cli
from siderostat.reproduce import alexander2022, page, parts
from siderostat.reproduce.alexander2022 import figures, findings, published, text, trainings
from siderostat.reproduce.alexander2022.findings import Adapted, Findings, Gate, Judged, Trained
from siderostat.reproduce.alexander2022.scales import BACK, FORTH, SCALES

PARTS = 8  # of one seed, the pictures among them
CURVE = tuple(trainings.FALSE_POSITIVES)


def trained(seed: int, on_source: float, before: float) -> Trained:
    judged = (Judged(0.9, on_source, CURVE), Judged(before, 0.7, CURVE), Judged(before, 0.7, CURVE))
    settings = {"size": "quarter", "training": 600, "pixels": 64}
    return Trained("resnet18", FORTH, seed, settings, *judged, 1.0)


def adapted(seed: int, before: float, accuracies: tuple[float, ...]) -> Adapted:
    judged = (Judged(before, 0.7, CURVE), Judged(accuracies[-1], 0.8, CURVE), Judged(max(accuracies), 0.8))
    return Adapted("resnet18", FORTH, seed, "adda", *judged, accuracies, (1.0,) * len(accuracies), 1.0)


@pytest.mark.parametrize(
    ("auc", "gain", "is_met"),
    [(0.85, 0.08, True), (0.9, 0.2, True), (0.849, 0.2, False), (0.99, 0.079, False), (0.9, -0.1, False)],
)
def test_the_gate_asks_for_a_good_source_and_for_a_gain(auc, gain, is_met):
    assert Gate(0, auc, gain).is_met is is_met


def test_the_gate_is_about_the_last_epoch_and_not_about_the_best():
    fallen = adapted(0, 0.6, (0.75, 0.62))
    of = Findings([trained(0, 0.9, 0.6)], [fallen], {})
    (gate,) = findings.gates(of, "resnet18")
    assert gate.gain == pytest.approx(0.02)
    assert not gate.is_met
    assert fallen.selected.accuracy == 0.75


def test_gates_are_those_of_seeds_of_which_both_trainings_are_there():
    of = Findings([trained(0, 0.9, 0.6), trained(1, 0.8, 0.6)], [adapted(1, 0.6, (0.7,)), adapted(2, 0.6, (0.7,))], {})
    assert [gate.seed for gate in findings.gates(of, "resnet18")] == [1]
    words = text.page(of).section.headlines
    assert any("is met by 0 of 1 seed (seed 1: 0.800, +10.0 points)" in line for line in words)


def test_a_mean_over_seeds_has_students_interval():
    found = findings.mean([0.7, 0.8, 0.9])
    assert found.value == pytest.approx(0.8)
    assert found.low is not None
    assert found.value - found.low == pytest.approx(4.302653 * 0.1 / np.sqrt(3), rel=1e-6)
    assert findings.mean([0.7]).low is None


def test_curves_as_they_are_kept_have_the_area_that_scikit_learn_gives():
    import torch

    rng = np.random.default_rng(0)
    labels = np.arange(300) % 3
    logits = rng.standard_normal((300, 3)) + 1.2 * np.eye(3)[labels]
    images = trainings.Images(torch.from_numpy(logits).float(), torch.from_numpy(labels))
    judged = trainings.judged(torch.nn.Identity(), images)
    assert judged["accuracy"] == np.mean(logits.argmax(1) == labels)
    assert 0.7 < judged["auc"] < 0.95
    assert trainings.area(judged["true_positives"]) == pytest.approx(judged["auc"], abs=0.01)


def test_no_two_sets_of_images_show_the_same_lenses(monkeypatch):
    asked = []

    def images(instrument: str, count: int, pixels: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        asked.append(seed)
        return np.zeros((3, 1, 4, 4), np.float32), np.arange(3)

    monkeypatch.setattr(trainings.data, "images", images)
    for seed in range(3):
        for instrument in ("euclid", "hst"):
            for part in ("training", "validation", "test"):
                trainings._set.__wrapped__(instrument, part, 1, 4, seed)
    assert len(set(asked)) == len(asked) == 18


def test_the_scale_of_the_paper_is_that_of_the_paper_and_needs_a_gpu(monkeypatch):
    monkeypatch.setattr(trainings.torch.cuda, "is_available", lambda: False)
    scale = SCALES["paper"]
    assert (scale.training, scale.pixels, scale.size) == (10_000, 150, "paper")
    wanted = alexander2022.plan("paper", 1)
    assert len(wanted) == 1 + 7 * len(scale.encoders)
    with pytest.raises(trainings.BadValue, match="needs a GPU"):
        wanted[1].make()


def test_published_values_are_those_of_the_tables():
    rows = {(r.source, r.target, r.encoder): r.figures for r in published.adapted()}
    assert rows[(*FORTH, "efficientnet")] == {
        "source_auc": 0.999, "before_auc": 0.685, "adda_auc": 0.924, "adda_accuracy": 0.87,
    }  # fmt: skip
    assert rows[(*BACK, "enn_d2")]["adda_auc"] == 0.999
    table = published.deeplense()
    assert len(table) == 10
    assert {row.algorithm for row in table} == {"supervised", "adda", "adamatch", "self-ensemble"}


def run(folder: Path) -> int:
    return cli.main(["reproduce", "alexander2022", "--scale", "tiny", "--seeds", "1", "-o", str(folder)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A whole reproduction of the smallest scale."""
    made: Path = tmp_path_factory.mktemp("alexander")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIDEROSTAT_CACHE", str(made / "cache"))
        assert run(made) == 0
    return made


def test_the_command_writes_the_page_with_curves_and_pictures(folder):
    from PIL import Image

    drawn = (folder / "reproduction.html").read_text()
    assert "http" not in re.sub(r"https?://www\.w3\.org", "", drawn)
    assert drawn.count("<svg") == 6  # curves, areas and epochs, in both directions
    grids = re.findall(r'data:image/png;base64,([^"]+)" alt="8 pictures: ([^"]+)"', drawn)
    assert [title for _, title in grids] == [
        f"{kind}, {camera}" for kind in ("no substructure", "CDM subhalos", "vortex") for camera in ("HST", "Euclid")
    ]
    for grid, _ in grids:
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(grid))))
        assert pixels.shape == (2 * 64, 2 * (8 * 65 - 1), 3)
        assert pixels.std() > 20
    words = (folder / "reproduction.md").read_text()
    for name in ("AdaBN", "self-ensemble", "cgdm", "adamatch", "gate", "selected", "on other images", "Model A"):
        assert name in words
    assert "missing" not in words


def test_published_values_are_never_shown_as_measured(folder):
    rows = list(csv.DictReader((folder / "points.csv").open()))
    assert {row["provenance"] for row in rows} == {"measured", "published"}
    for row in rows:
        assert (row["provenance"] == "published") == row["encoder"].endswith(("Alexander et al.", "DeepLense"))
    assert sum(row["provenance"] == "published" for row in rows) == 4 * 4 + 10 * 2


def test_charts_draw_published_values_grey_and_measured_ones_in_colour(folder):
    from tests.charts import published_among

    found = findings.find(parts.look(alexander2022.plan("tiny", 1), folder))
    drawn = [*figures.roc_charts(found), *figures.auc_charts(found), *figures.learning_charts(found)]
    assert len(drawn) == 6
    assert published_among(drawn)


def test_what_is_kept_of_a_part_fits_together(folder):
    found = parts.look(alexander2022.plan("tiny", 1), folder)
    of = findings.find(found)
    assert [(t.encoder, t.direction, t.seed) for t in of.trained] == [("resnet18", FORTH, 0), ("resnet18", BACK, 0)]
    for a in of.adapted:
        before = next(t.before for t in of.trained if t.direction == a.direction)
        assert a.before == before  # the network that it began with is that of the source training
        assert a.after.accuracy == a.accuracies[-1]
        assert a.selected.accuracy == max(a.accuracies)


def test_given_again_the_command_makes_nothing_again_and_the_same_page(folder, capsys):
    before = {path: path.read_bytes() for path in folder.glob("*.*")}
    assert run(folder) == 0
    assert "to make" not in capsys.readouterr().out
    assert {path: path.read_bytes() for path in folder.glob("*.*")} == before


def test_a_part_made_again_alone_has_the_same_figures(folder, monkeypatch):
    monkeypatch.setenv("SIDEROSTAT_CACHE", str(folder / "cache"))
    trainings._source_network.cache_clear()
    name = "adda-hst-euclid-resnet18-0"
    held = parts.look(alexander2022.plan("tiny", 1), folder).results[name].figures
    again = next(part for part in alexander2022.plan("tiny", 1) if part.name == name).make()
    assert again["accuracies"] == held["accuracies"]
    assert again["losses"] == pytest.approx(held["losses"], rel=1e-4)


def test_a_page_is_made_of_the_parts_that_there_are(folder, tmp_path):
    wanted = alexander2022.plan("tiny", 1)
    assert len(wanted) == PARTS
    (tmp_path / "parts").mkdir()
    for kept in ([], ["lenses"], ["adda-euclid-hst-resnet18-0"], ["source-euclid-hst-resnet18-0"]):
        for name in kept:
            (tmp_path / "parts" / f"{name}.json").write_bytes((folder / "parts" / f"{name}.json").read_bytes())
        found = parts.look(wanted, tmp_path)
        words = page.texts(page.accounted(alexander2022.show(found), found))["reproduction.md"]
        assert f"{PARTS - len(found.results)} of {PARTS} parts missing" in words


def test_several_seeds_are_told_with_intervals():
    of = Findings(
        [trained(seed, 0.9, 0.6) for seed in range(3)], [adapted(s, 0.6, (0.7 + 0.01 * s,)) for s in range(3)], {}
    )
    words = text.page(of).section.headlines[0]
    assert "3 seeds, 95 % intervals over them" in words
    assert "to 71.0 % (68.5 to 73.5), by +11.0 (+8.5 to +13.5) points" in words
    alone = dataclasses.replace(of, trained=of.trained[:1], adapted=of.adapted[:1])
    assert "one seed: ADDA takes" in text.page(alone).section.headlines[0]
