"""What a user types to know how good the models are, from flags to the report; and TensorFlow beside PyTorch."""

from __future__ import annotations

import csv
import json
import subprocess
from pathlib import Path

import pytest

from siderostat.store import Run
from tests.conftest import command

SMALL = ["-d", "cpu:threads=1", "--set", "images=64"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """Shipped weights judged in both frameworks, their inference timed."""
    pytest.importorskip("tensorflow")
    folder = tmp_path_factory.mktemp("quality") / "run"
    words = ["run", "-w", "galaxy-shape", "--mode", "infer", "--framework", "torch,tensorflow", "-b", "8", "--quality"]
    done = subprocess.run(
        command([*words, *SMALL, "-o", folder]), capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "said").write_text(done.stdout)
    return folder


def test_both_frameworks_are_timed_and_judged(trained):
    records = [r for r in Run(trained).records if r.attempt.cell.workload == "galaxy-shape"]
    for framework in ("torch", "tensorflow"):
        timed = [r for r in records if r.attempt.cell.framework == framework and r.quality is None]
        assert [r.status.value for r in timed] == ["ok"] * 3
        assert all(r.effective["threads"] == 1 for r in timed)


def test_the_same_weights_are_equally_good_in_both_frameworks(trained):
    looks = {r.attempt.cell.framework: r.quality.looks[-1] for r in Run(trained).records if r.quality}
    assert set(looks) == {"torch", "tensorflow"}
    for name in ("ellipticity_rmse", "redshift_rmse", "median_nll"):
        assert looks["torch"].figures[name] == pytest.approx(looks["tensorflow"].figures[name], rel=1e-3)


def test_shipped_weights_know_ellipticities_and_how_well(trained):
    (figures,) = [
        r.quality.looks[-1].figures for r in Run(trained).records if r.quality and r.attempt.cell.framework == "torch"
    ]
    assert figures["ellipticity_rmse"] < 0.5 * figures["label_mean_ellipticity_rmse"]
    assert figures["median_nll"] < figures["label_mean_nll"]
    assert 0.55 < figures["coverage_68"] < 0.8
    assert 0.88 < figures["coverage_95"] < 0.99


def test_the_report_shows_predictions_and_the_files_hold_every_look(trained):
    page = (trained / "report" / "report.html").read_text()
    assert "How good the models are" in page
    assert "Predicted against true ellipticity" in page
    assert "Ellipticity RMSE" in (trained / "said").read_text()
    with (trained / "report" / "quality.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {r["framework"] for r in rows} == {"torch", "tensorflow"}
    assert {r["provenance"] for r in rows} == {"measured"}


def test_a_training_to_quality_that_is_cut_short_says_what_it_reached(siderostat, tmp_path, faulty):
    folder = tmp_path / "run"
    done = siderostat("run", "-w", faulty("LearnsNotEnough"), "--to-quality", "-b", "2", "-o", folder)
    assert done.returncode == 0, done.stderr
    assert "Time to error 0.1: not reached at batch 2; 3 of 3 processes did not reach it." in done.stdout
    shown = siderostat("show", folder, "--json")
    assert [q["reached"] for q in json.loads(shown.stdout)["quality"]] == [False] * 3


def test_a_workload_without_a_goal_is_refused_in_a_sentence(siderostat):
    done = siderostat("run", "-w", "galaxy-images", "--to-quality")
    assert done.returncode == 2
    assert "none of these steps has a goal that it could be trained to" in done.stderr


def test_quality_and_the_time_to_it_exclude_each_other(siderostat):
    done = siderostat("run", "--quality", "--to-quality")
    assert done.returncode == 2
    assert "not allowed with" in done.stderr


def test_parameters_of_all_networks_are_listed(siderostat):
    listed = {w["name"]: w for w in json.loads(siderostat("list", "workloads", "--json").stdout)}
    shape, sampler = listed["galaxy-shape"]["variants"], listed["galaxy-sampler"]["variants"]
    assert shape["dnn"]["paper"]["parameters"] == 1_517_217
    assert shape["bnn"]["paper"]["parameters"] == shape["bnn-flipout"]["paper"]["parameters"] == 2_726_241
    for variant in ("naive", "incremental"):
        assert sampler[variant]["paper"]["parts"] == {"encoder": 2_545_880, "decoder": 3_319_942, "flow": 725_504}
    assert listed["galaxy-shape"]["frameworks"] == listed["galaxy-sampler"]["frameworks"] == ["torch", "tensorflow"]
