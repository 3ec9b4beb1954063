"""The gate on a repository of somebody else: the worked example of the docs, with a slower commit and a harmless one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from siderostat.errors import DONE, INTERRUPTED, REGRESSION, USAGE
from tests.conftest import command

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "guarded"
SLOWER = "    for _ in range(3):\n        np.fft.fft2(maps)\n    return np.stack"
QUICK = ("--quick", "--budget", "20s", "-b", "16")


def git(folder, *words):
    names = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    subprocess.run(["git", *names, *words], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """Four commits: tags start, harmless, slower (by far more than the noise of any machine) and broken."""
    root = tmp_path_factory.mktemp("gate") / "spectra"
    shutil.copytree(EXAMPLE, root)
    module = root / "src" / "spectra" / "__init__.py"
    text = module.read_text()
    git(root, "init", "-q")
    for tag, changed in {
        "start": text,
        "harmless": text + "\n# a comment\n",
        "slower": text.replace("    return np.stack", SLOWER),
        "broken": text.replace("side**2", "side"),
    }.items():
        module.write_text(changed)
        git(root, "add", "-A")
        git(root, "commit", "-q", "-m", tag)
        git(root, "tag", tag)
    return root


@pytest.fixture
def gate(repository, monkeypatch):
    """Run the gate in the repository; pip builds with what is installed, so that no network is needed."""
    monkeypatch.setenv("PIP_NO_BUILD_ISOLATION", "0")

    def run(*words):
        whole = command(["gate", *words])
        return subprocess.run(whole, cwd=repository, capture_output=True, text=True, timeout=280, check=False)

    return run


def test_a_slower_commit_fails_and_is_named(gate, repository, tmp_path):
    done = gate("--base", "start", "--head", "slower", "gate.toml", *QUICK, "-o", tmp_path / "gate")
    assert done.returncode == REGRESSION, done.stderr + done.stdout
    assert "pairs each" in done.stderr
    assert "sees slowdowns from" in done.stderr
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("gate: "))
    assert line.startswith('gate: verdict=fail series="power-spectrum numpy infer numpy cpu:threads=1 batch 16"')
    assert "basis=cpu" in line
    (series,) = json.loads((tmp_path / "gate" / "gate.json").read_text())["series"]
    assert series["slowdown_low"] > 0.05
    assert "(slower)" in (tmp_path / "gate" / "gate.md").read_text()
    assert (tmp_path / "gate" / "gate.html").exists()
    held = subprocess.run(["git", "worktree", "list"], cwd=repository, capture_output=True, text=True, check=True)
    assert len(held.stdout.splitlines()) == 1
    processors: dict[str, set[int]] = {}
    for line in (tmp_path / "gate" / "first" / "records.jsonl").read_text().splitlines():
        record = json.loads(line)
        if record["status"] == "ok":
            processors.setdefault(record["group"], set()).add(record["process"]["processor"])
    assert all(len(of_a_pair) == 1 for of_a_pair in processors.values())
    assert set.union(*processors.values()) <= os.sched_getaffinity(0)
    journals = {stage: (tmp_path / "gate" / stage / "records.jsonl").read_text() for stage in ("first", "fresh")}
    again = gate("--base", "start", "--head", "slower", "gate.toml", *QUICK, "-o", tmp_path / "gate")
    assert again.returncode == REGRESSION, again.stderr + again.stdout
    for stage, before in journals.items():
        assert (tmp_path / "gate" / stage / "records.jsonl").read_text().startswith(before)


def test_a_harmless_commit_does_not_fail(gate, tmp_path):
    done = gate("--base", "start", "--head", "harmless", "gate.toml", *QUICK, "-o", tmp_path / "gate")
    assert done.returncode == DONE, done.stderr + done.stdout


def test_a_commit_with_wrong_results_is_not_comparable(gate, tmp_path):
    done = gate("--base", "start", "--head", "broken", "gate.toml", *QUICK, "-o", tmp_path / "gate")
    assert "head: invalid (wrong_result)" in done.stdout
    assert done.returncode not in (DONE, REGRESSION)


def test_a_file_of_the_repository_is_a_workload_too(gate, repository, tmp_path):
    name = "src/spectra/speed.py:PowerSpectrum"
    done = gate(
        "--base", "start", "--head", "harmless", "-w", name, *QUICK, "-d", "cpu:threads=1", "-o", tmp_path / "g"
    )
    assert done.returncode == DONE, done.stderr + done.stdout
    assert f'series="{name} ' in done.stdout


def test_an_interrupted_gate_goes_on_where_it_was(gate, repository, tmp_path):
    words = ["--base", "start", "--head", "harmless", "gate.toml", *QUICK, "-o", str(tmp_path / "gate")]
    running = subprocess.Popen(
        command(["gate", *words]), cwd=repository, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PIP_NO_BUILD_ISOLATION": "0"},
    )  # fmt: skip
    journal = tmp_path / "gate" / "first" / "records.jsonl"
    deadline = time.monotonic() + 200
    while not (journal.exists() and journal.read_text().count("\n") >= 2) and time.monotonic() < deadline:
        time.sleep(0.2)
    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=60)
    assert running.returncode == INTERRUPTED
    before = journal.read_text()
    done = gate(*words)
    assert done.returncode == DONE, done.stderr + done.stdout
    assert journal.read_text().startswith(before)


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["gate.toml"], USAGE, "say what the head is compared with: --base REV"),
        (["--base", "v9", "gate.toml"], USAGE, "no revision 'v9'"),
        (["--base", "start"], USAGE, "say what is measured: a sweep file, or -w"),
        (["--base", "start", "gate.toml", "--floor", "five"], USAGE, "--floor five: write 5% or 0.05"),
        (["--base", "start", "gate.toml", "--grade", "ci"], USAGE, "leave --grade out"),
        (["--base-python", "python3", "gate.toml"], USAGE, "--base-python and --head-python together"),
        (["--base-python", "/nowhere", "--head-python", "python3", "gate.toml"], USAGE, "no interpreter /nowhere"),
    ],
)
def test_bad_input_gets_a_sentence(gate, tmp_path, words, code, sentence):
    done = gate(*words, "-o", tmp_path / "gate")
    assert done.returncode == code
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_a_gate_outside_a_repository_is_refused(siderostat, tmp_path):
    done = siderostat("gate", "--base", "HEAD", "-w", "arithmetic")
    assert done.returncode == USAGE
    assert "belongs to no git repository" in done.stderr
