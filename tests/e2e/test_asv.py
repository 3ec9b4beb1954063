"""The real asv on a repository of two commits: it shows what was exported, and measures the same by itself."""

from __future__ import annotations

import json
import os
import platform
import site
import subprocess
import sys
from pathlib import Path

import pytest

from siderostat import store
from siderostat.config import Sweep, groups
from siderostat.plan import GRADES, Plan, make
from siderostat.record import Protocol
from tests.asv_page import bring_libraries, rendered
from tests.records import ok

ASV = [sys.executable, "-m", "asv"]
NAME = "steps.AddingPlain.time_infer"
STEPS = """
import numpy as np

from siderostat.workloads.base import Feed, Phase, Size, Step, Workload

PASSES = {passes}


def add(x):
    for _ in range(PASSES):
        x = np.sin(x)
    return x


class Adding(Workload):
    title, item, modes, frameworks, batches = "Adding", "vector", ("infer",), ("numpy",), (4, 8)
    variants = {{"plain": {{"small": Size(0, 0)}}}}

    def build(self, spec):
        return Step("numpy", [Phase(add, Feed([np.ones((16, 2000), np.float32)], spec.batch, 0))], spec.batch)

    def check(self, spec, outputs):
        return {{}}
"""
SUITE = """
import telescope.steps
from siderostat.asv_suite import Throughput


class AddingPlain(Throughput):
    table = {"workload": telescope.steps.__file__ + ":Adding", "batches": [4]}

    def time_infer(self, *point):
        self.run_bursts()
"""
PROJECT = """
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"
[project]
name = "telescope"
version = "1"
[tool.setuptools]
packages = ["telescope"]
"""
CONFIGURATION = {
    "version": 1, "project": "telescope", "repo": ".", "dvcs": "git", "branches": ["HEAD"],
    "environment_type": "virtualenv", "benchmark_dir": "speed",
    "build_command": ["python -m pip wheel --no-deps --no-build-isolation -w {build_cache_dir} {build_dir}"],
    "install_command": ["in-dir={env_dir} python -m pip install --no-deps {wheel_file}"],
    "env_dir": ".asv/env", "results_dir": ".asv/results", "html_dir": ".asv/html",
}  # fmt: skip


class Repository:
    """Two commits, the second of which takes forty times as long; asv's own settings lie beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "repository"
        self.environment = {**os.environ, "HOME": str(folder), "OMP_NUM_THREADS": "1"}
        (self.folder / "telescope").mkdir(parents=True)
        self.call("git", "init", "-q")
        self.write("pyproject.toml", PROJECT)
        self.write("telescope/__init__.py", "")
        # asv's environment has the project alone; siderostat and what it needs come from the one of these tests.
        self.write("speed/__init__.py", f"import site\n\nsite.addsitedir({site.getsitepackages()[0]!r})\n")
        self.write("speed/steps.py", SUITE)
        self.write("asv.conf.json", json.dumps(CONFIGURATION))
        self.commits = [self.commit(passes) for passes in (2, 80)]
        self.call(*ASV, "machine", "--yes")
        self.machine = platform.node()

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    def commit(self, passes: int) -> str:
        self.write("telescope/steps.py", STEPS.format(passes=passes))
        self.call("git", "add", ".")
        self.call("git", "-c", "user.name=Anne", "-c", "user.email=anne@example.org", "commit", "-qm", str(passes))
        return self.call("git", "rev-parse", "HEAD").stdout.strip()

    def call(self, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            words, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=280, check=False
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done

    def asv(self, *words: str, code: int = 0) -> str:
        done = self.call(*ASV, *words, code=code)
        return done.stdout + done.stderr


def measured(repository: Repository, folder: Path, commit: str, seconds_per_item: float) -> None:
    """Write a run of ten processes, as ``siderostat run`` leaves it."""
    table = {"workload": f"{repository.folder}/telescope/steps.py:Adding"}
    cells = groups(Sweep(tables=[table]))
    plan: Plan = make(cells, "sweep", GRADES["ci"], 0, Protocol())
    host = {"host": "elsewhere", "python": "3.11.7", "commit": commit, "dirty": False, "cpu": "Opteron"}
    store.create(folder, plan, {"run": folder.name, "environments": {"e": host}})
    with store.OpenRun(folder) as run:
        for attempt in plan.attempts():
            step_s = seconds_per_item * attempt.cell.batch * (1 + 0.002 * attempt.round)
            done = ok([step_s] * 3, attempt.round, of=attempt.cell, environment="e", items_per_step=attempt.cell.batch)
            run.append(done)


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> Repository:
    folder = tmp_path_factory.mktemp("asv")
    made = Repository(folder)
    for commit, seconds in zip(made.commits, (1e-3, 1.2e-3), strict=True):
        measured(made, folder / commit[:8], commit, seconds)
        made.call(sys.executable, "-m", "siderostat", "export", "asv", str(folder / commit[:8]), "-o", ".asv/results")
    return made


def results(repository: Repository, machine: str) -> dict[str, dict[str, object]]:
    folder = repository.folder / ".asv" / "results" / machine
    return {path.name: json.loads(path.read_text()) for path in folder.glob("*-*.json")}


def test_asv_shows_what_was_exported(repository):
    text = repository.asv("show", "--machine", "elsewhere", repository.commits[1])
    assert f"{NAME} [elsewhere/siderostat]" in text
    assert "1.21" in text and "ms" in text


def test_asv_compares_what_was_exported_by_its_own_test(repository):
    text = repository.asv("compare", "--machine", "elsewhere", *repository.commits)
    lines = [line for line in text.splitlines() if NAME in line]
    assert len(lines) == 2  # two batch sizes
    assert all(line.startswith("| +") and "1.2" in line for line in lines), text


def test_asv_publishes_what_was_exported_and_a_browser_shows_it(repository, tmp_path):
    repository.asv("publish", "--no-pull")
    page = repository.folder / ".asv" / "html"
    bring_libraries(page, tmp_path / "npm")
    grid = rendered(page, tmp_path / "profile")
    assert "AddingPlain.time_infer" in grid and "telescope" in grid
    graph = rendered(page, tmp_path / "profile", place=f"#{NAME}")
    for text in ("elsewhere", "batch-4", "batch-8", "1.00"):  # machine, both lines, a milliseconds tick
        assert text in graph


@pytest.fixture
def registry(tmp_path) -> None:
    """asv makes its environments with pip."""
    words = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(tmp_path), "asv_runner"]
    if subprocess.run(words, capture_output=True, check=False).returncode:
        pytest.skip("asv makes its environments with pip, which reaches no registry here")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_asv_measures_the_same_by_itself(repository, registry):
    exported = json.loads((repository.folder / ".asv/results/benchmarks.json").read_text())[NAME]
    repository.asv("run", "--quick", "HEAD^!")
    discovered = json.loads((repository.folder / ".asv/results/benchmarks.json").read_text())[NAME]
    for key in ("name", "param_names", "version", "type", "unit"):
        assert discovered[key] == exported[key]
    assert all(set(own) <= set(theirs) for own, theirs in zip(discovered["params"], exported["params"], strict=True))
    assert "1.21" in repository.asv("show", "--machine", "elsewhere", "HEAD")  # exported figures are still found
    text = repository.asv("continuous", "--quick", "HEAD~1", "HEAD", code=1)
    assert "PERFORMANCE DECREASED" in text and NAME in text
    (slow,) = [
        data for name, data in results(repository, repository.machine).items() if name[:8] == repository.commits[1][:8]
    ]
    assert 0 < slow["results"][NAME][0][0] < 1  # seconds per item
