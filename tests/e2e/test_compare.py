"""Comparing and the edge of capacity, as a user meets them: real processes, real networks, the printed sentences."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from siderostat import ratios
from siderostat.record import Status
from siderostat.stats import cases
from siderostat.store import Run

SIDEROSTAT = [sys.executable, "-m", "siderostat"]
SMALL = ["-w", "galaxy-shape", "-b", "2", "--set", "images=64"]


def siderostat(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*SIDEROSTAT, *words], capture_output=True, text=True, timeout=280, check=False)


@pytest.fixture(scope="module")
def compared(tmp_path_factory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("compare") / "run"
    done = siderostat("run", *SMALL, "--compare", "cpu:threads=1", "cpu:threads=1,heap=kept", "-o", str(folder))
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_the_sides_are_measured_in_turns_and_their_ratio_is_said(compared):
    folder, said = compared
    records = [r for r in Run(folder).records if r.attempt.cell.workload == "galaxy-shape"]
    assert len(records) == 6
    assert all(sum(r.group == other.group for r in records) == 2 for other in records)
    (ratio,) = ratios.within(cases(records)).ratios
    assert ratio.is_paired and ratio.n_cell == 3
    assert "lock-step" in said and "cpu:threads=1,heap=kept" in said


def test_turns_interleave(compared):
    folder, _ = compared
    records = [r for r in Run(folder).records if r.group and r.attempt.round == 0]
    starts = sorted((b.started_at, r.attempt.cell.device) for r in records for b in r.bursts if b.turn >= 0)
    devices = [device for _, device in starts]
    assert all(set(devices[i : i + 2]) == set(devices) for i in range(0, len(devices), 2))


def test_the_report_has_the_ratio_in_every_form(compared):
    report = compared[0] / "report"
    told = json.loads((report / "report.json").read_text())
    assert len(told["ratios"]) == 1
    assert "lock-step" in (report / "report.html").read_text()
    assert "lock-step" in (report / "report.md").read_text()
    assert (report / "ratios.csv").read_text().count("\n") == 2


def test_the_report_says_why_there_is_no_energy_and_gives_no_number(compared):
    folder, _ = compared
    told = json.loads((folder / "report" / "report.json").read_text())
    for case in told["cases"]:
        if case["energy_provenance"] is None:
            assert case["joules_per_item"] is None
            assert case["energy_status"] and case["energy_reason"]


def test_a_comparison_that_was_killed_is_measured_whole_again(tmp_path):
    words = ["run", "-w", "null", "--compare", "mock:step_s=0.01", "mock:step_s=0.02", "--grade", "ci"]
    folder = tmp_path / "run"
    running = subprocess.Popen(
        [*SIDEROSTAT, *words, "-o", str(folder)], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    journal = folder / "records.jsonl"
    deadline = time.monotonic() + 60
    while not (journal.exists() and journal.read_text().count("\n") >= 4) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    done = siderostat(*words, "-o", str(folder))
    assert done.returncode == 0, done.stderr
    (ratio,) = ratios.within(cases(Run(folder).records)).ratios
    assert ratio.n_cell == 10
    assert ratio.estimate.value == pytest.approx(0.5, rel=1e-9)


def test_an_estimate_of_energy_is_given_on_request_and_called_one(tmp_path):
    done = siderostat("run", "-w", "arithmetic", "--estimate-energy", "100W", "-o", str(tmp_path / "run"))
    assert done.returncode == 0, done.stderr
    record = next(r for r in Run(tmp_path / "run").records if r.attempt.cell.workload == "arithmetic")
    (estimate,) = [e for e in record.energy if e.source == "cpu_time_x_nameplate"]
    assert estimate.provenance is not None and estimate.provenance.value == "estimated"
    assert len(estimate.windows) == 8
    assert "estimated" in (tmp_path / "run" / "report" / "report.html").read_text()


class TestCapacity:
    def test_the_edge_is_found_under_a_memory_limit_and_the_driver_lives(self, tmp_path):
        folder, sweep = tmp_path / "run", tmp_path / "edge.toml"
        sweep.write_text(
            '[[sweep]]\nworkload = "galaxy-shape"\ndevices = ["cpu:threads=1"]\nmeasures = ["capacity"]\n'
            "batches = [16]\noptions = { images = 16 }\n"
        )
        done = siderostat("run", str(sweep), "--memory", "600MB", "-o", str(folder))
        assert done.returncode == 0, done.stderr
        probes = {r.attempt.cell.batch: r for r in Run(folder).records if r.attempt.cell.measure == "capacity"}
        fits = max(b for b, r in probes.items() if r.status is Status.OK)
        refused = min(b for b, r in probes.items() if r.status is not Status.OK)
        assert fits < refused <= fits + max(1, fits // 64)
        assert {r.reason.value for r in probes.values() if r.status is Status.CAPACITY} == {"oom_host"}
        assert f"a batch of {fits:,} fits" in done.stdout
        assert f"one of {refused:,} does not (oom_host" in done.stdout
        assert "Peak memory up to the edge" in (folder / "report" / "report.html").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--compare", "cpu"], "at least two sides"),
        (["--compare", "cpu", "cpu"], "are the same thing"),
        (["--compare", "cpu", "gpu"], "unknown side 'gpu'"),
        (["--memory", "lots"], "--memory: 'lots' is no amount of memory"),
        (["--estimate-energy", "0"], "--estimate-energy: '0' is no power"),
        (["--energy-window", "soon"], "--energy-window: 'soon' is no duration"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(words, said):
    done = siderostat("run", "-w", "galaxy-shape", *words)
    assert done.returncode == 2
    assert said in done.stderr and "Traceback" not in done.stderr
