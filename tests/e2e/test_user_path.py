"""What a user types, from plan to report, and what is said when it is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from siderostat.store import Run

SMALL = ["-w", "galaxy-shape", "-b", "2,4", "--set", "images=64", "-d", "cpu:threads=1"]


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory) -> Path:
    """A small real run."""
    folder = tmp_path_factory.mktemp("user") / "run"
    words = [sys.executable, "-m", "siderostat", "run", *SMALL, "-o", str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    (folder / "said").write_text(done.stdout)
    (folder / "progress").write_text(done.stderr)
    return folder


def test_the_run_names_its_report_and_its_best_figure(run_folder):
    said = (run_folder / "said").read_text()
    assert f"report: {run_folder}/report/report.html" in said
    assert "Galaxy shape, dnn, train: Best throughput: " in said
    assert "galaxy images per second at batch" in said
    assert "Indicative: 3 processes per case" in said


def test_the_run_folder_holds_every_file_of_the_design(run_folder):
    names = {p.name for p in run_folder.iterdir()}
    assert {"manifest.json", "plan.json", "records.jsonl", "logs", "report"} <= names
    assert {p.name for p in (run_folder / "report").iterdir()} == {
        "report.html", "report.md", "report.csv", "records.csv", "quality.csv", "ratios.csv", "report.json",
    }  # fmt: skip


def test_progress_is_plain_lines_where_there_is_no_terminal(run_folder):
    progress = (run_folder / "progress").read_text()
    assert "[9/9, about 0 s left]" in progress
    assert "\x1b" not in progress


def test_each_case_has_three_processes_of_its_own(run_folder):
    records = [r for r in Run(run_folder).records if r.attempt.cell.batch == 4]
    assert len(records) == len({r.process["pid"] for r in records}) == 3
    for record in records:
        assert record.effective["threads"] >= 1
        assert record.provenance.value == "measured"
        assert record.first_step_s > 0
        assert record.peak_bytes > 50_000_000
        assert record.process["start"] == "warm"
        assert record.check["last"]["nll"] < record.check["first"]["nll"]


def test_all_processes_of_a_case_use_one_block_size(run_folder):
    for batch in (2, 4):
        sizes = {
            (b.block_steps, len(b.seconds))
            for r in Run(run_folder).records
            if r.attempt.cell.batch == batch
            for b in r.bursts
            if b.turn >= 0
        }
        assert len(sizes) == 1


def test_the_same_command_again_measures_nothing(run_folder, siderostat):
    before = (run_folder / "records.jsonl").read_bytes()
    done = siderostat("run", *SMALL, "-o", run_folder)
    assert done.returncode == 0
    assert "0 of 9 measurements to do" in done.stderr
    assert (run_folder / "records.jsonl").read_bytes() == before


def test_another_plan_does_not_go_into_the_folder(run_folder, siderostat):
    done = siderostat("run", *SMALL, "-b", "8", "-o", run_folder)
    assert done.returncode == 2
    assert "holds a run of another plan" in done.stderr


def test_show(run_folder, siderostat):
    shown = siderostat("show", run_folder)
    assert shown.returncode == 0
    assert "galaxy-shape dnn" in shown.stdout
    cases = json.loads(siderostat("show", run_folder, "--json").stdout)["cases"]
    case = next(c for c in cases if c["batch"] == 4)
    assert case["provenance"] == "measured"
    assert case["seconds_per_item"]["low"] < case["seconds_per_item"]["value"] < case["seconds_per_item"]["high"]


def test_report_of_two_runs(run_folder, siderostat, tmp_path):
    done = siderostat("report", run_folder, run_folder, "-o", tmp_path / "both")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "both" / "report.html").stat().st_size > 10_000


def test_list_workloads_as_json(siderostat):
    rows = {row["name"]: row for row in json.loads(siderostat("list", "workloads", "--json").stdout)}
    shape = rows["galaxy-shape"]
    assert shape["variants"]["dnn"]["paper"] == {"parameters": 1_517_217, "trainable": 1_517_205, "parts": {}}
    assert shape["batches"]["train"] == {"dnn": [2, 4, 8, 10, 12, 14], "bnn": [2, 4, 6, 8], "bnn-flipout": [2, 4, 6, 8]}
    assert shape["goals"]["train"]["bnn"]["figure"] == "ellipticity_rmse"
    assert shape["item"] == "galaxy image"
    assert {"frameworks", "modes", "reference", "options"} <= set(shape)
    assert "null" in rows


def test_list_devices(siderostat):
    rows = {row["name"]: row for row in json.loads(siderostat("list", "devices", "--json").stdout)}
    assert rows["cpu"]["available"]
    assert rows["cpu"]["about"]["usable_cores"] >= 1
    assert rows["mock"]["provenance"] == "modelled"
    assert "cpu: the host's processor" in siderostat("list", "devices").stdout


def test_doctor(siderostat):
    findings = json.loads(siderostat("doctor", "--json").stdout)
    assert {f["level"] for f in findings} <= {"ok", "note", "disturbs", "missing"}
    assert any("device cpu" in f["what"] for f in findings)
    assert all(f["what"] for f in findings)


def test_plan_runs_nothing(siderostat, tmp_path):
    done = siderostat("plan")
    assert done.returncode == 0
    assert "26 processes over 12 cases, grade quick" in done.stdout
    assert "about " in done.stdout
    assert not list(tmp_path.iterdir())


def test_dry_run_says_the_same(siderostat, tmp_path):
    assert siderostat("run", "--dry-run").stdout == siderostat("plan").stdout
    assert not list(tmp_path.iterdir())


def test_nothing_measured_is_exit_code_4(siderostat, faulty, tmp_path):
    done = siderostat("run", "-w", faulty("NeedsPackage"), "-b", "1", "-o", tmp_path / "run")
    assert done.returncode == 4, done.stderr
    assert "nothing could be measured" in done.stderr
    assert "a_package_that_is_not_there is not installed" in done.stdout
    assert (tmp_path / "run" / "report" / "report.html").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["run", "-w", "galaxy-shap"],
            "unknown workload 'galaxy-shap'; did you mean 'galaxy-shape'? Allowed: adamatch-step, ",
        ),
        (["run", "-d", "cup"], "unknown device 'cup'; did you mean 'cpu'?"),
        (["run", "-b", "none"], "-b: 'none' is no batch size"),
        (["run", "--grade", "quik"], "unknown grade 'quik'; did you mean 'quick'?"),
        (["run", "--set", "images"], "--set images: write NAME=VALUE"),
        (["run", "--set", "imags=3"], "unknown option 'imags'; did you mean 'images'?"),
        (["run", "--budget", "soon"], "--budget: 'soon' is no duration"),
        (["run", "nothing.toml"], "cannot read the sweep file nothing.toml"),
        (["run", "--resume", "nowhere"], "nowhere is not a run folder: it has no plan.json"),
        (["run", "--resume", "nowhere", "-b", "3"], "--resume goes on with the plan in its folder; leave --batch out"),
        (
            ["run", "plan.json", "--seed", "0"],
            "plan.json is a plan, which says all that is measured and how; leave --seed out",
        ),
        (["run", "plan.json"], "cannot read the plan plan.json: No such file or directory"),
        (["show", "nowhere"], "nowhere is not a run folder"),
        (["report", "nowhere"], "nowhere is not a run folder"),
        (["run", "-o", "/proc/run"], "cannot write the run folder /proc/run"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(siderostat, words, sentence):
    done = siderostat(*words)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


def test_a_catalogue_that_is_not_there(siderostat, tmp_path):
    done = siderostat("run", "-w", "galaxy-shape", "-b", "2", "--set", "catalogue=nothing.fits", "-o", tmp_path / "run")
    assert done.returncode == 4
    assert "nothing.fits" in done.stdout
    assert {r.reason.value for r in Run(tmp_path / "run").records if r.reason} == {"bad_input"}


def test_files_in_the_users_folder_hide_no_module_of_ours(tmp_path):
    for name in ("random", "json", "reports", "numpy", "record"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong module was imported')")
    script = Path(sys.executable).with_name("siderostat")
    words = [script, "run", "-w", "null", "-d", "mock", "-o", "run"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(Run(tmp_path / "run").records) == 3


def test_a_users_workload_may_import_what_lies_beside_it(siderostat, tmp_path, faulty):
    source = faulty("Well").rpartition(":")[0]
    (tmp_path / "mine.py").write_text(
        f"from beside import NAME\nexec(open({source!r}).read())\nclass Mine(Well):\n    item = NAME\n"
    )
    (tmp_path / "beside.py").write_text("NAME = 'pebble'\n")
    done = siderostat("run", "-w", "mine.py:Mine", "-d", "mock", "-b", "1", "-o", "run")
    assert done.returncode == 0, done.stderr
    assert "pebbles per second" in done.stdout


def test_help_names_the_exit_codes(siderostat):
    for words in (["--help"], ["run", "--help"]):
        text = siderostat(*words).stdout
        assert "130  interrupted" in text
