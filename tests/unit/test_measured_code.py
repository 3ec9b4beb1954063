"""Which code a figure is of: a side of a gate, a workload's own repository or, for bundled workloads, siderostat's."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from siderostat import provenance
from siderostat.reports import RunData
from siderostat.reports.run import Measured
from tests.records import cell, ok

FAULTY = Path(__file__).resolve().parents[1] / "data" / "faulty.py"
OWN = {"commit": "a" * 40, "dirty": False}


def git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=Anne", "-c", "user.email=anne@example.org"]
    done = subprocess.run(["git", *who, *words], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path):
    folder = tmp_path / "repository"
    folder.mkdir()
    shutil.copy(FAULTY, folder)
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "a workload")
    return folder


def test_a_workloads_file_has_the_commit_of_its_repository(repository):
    name = f"{repository / 'faulty.py'}:Well"
    assert provenance.code([name, name]) == {name: {"commit": git(repository, "rev-parse", "HEAD"), "dirty": False}}
    (repository / "faulty.py").write_text(FAULTY.read_text() + "\n")
    assert isinstance(provenance.code([name])[name]["dirty"], str)


def test_code_in_no_repository_is_that_of_the_current_folder(repository, tmp_path, monkeypatch):
    shutil.copy(FAULTY, tmp_path)
    name = f"{tmp_path / 'faulty.py'}:Well"
    monkeypatch.chdir(tmp_path)
    assert provenance.code([name]) == {name: {"commit": None, "dirty": None}}
    monkeypatch.chdir(repository)
    assert provenance.code([name])[name]["commit"] == git(repository, "rev-parse", "HEAD")
    (tmp_path / "broken.py").write_text("1 / 0")
    assert provenance.code([f"{tmp_path / 'broken.py'}:Well"]).popitem()[1]["dirty"] is False
    assert provenance.code(["nowhere"])["nowhere"]["commit"] == git(repository, "rev-parse", "HEAD")


def test_bundled_workloads_are_siderostats_own_code(repository, monkeypatch):
    monkeypatch.chdir(repository)
    assert provenance.code(["galaxy-shape", "null"]) == {}


@pytest.mark.parametrize(
    ("environment", "of", "expected"),
    [
        ({**OWN, "code": {}}, cell(), Measured("a" * 40)),
        (
            {**OWN, "code": {"mine": {"commit": "b" * 40, "dirty": "1"}}},
            cell(workload="mine"),
            Measured("b" * 40, True),
        ),
        ({**OWN, "code": {"mine": {"commit": None, "dirty": None}}}, cell(workload="mine"), Measured("")),
        ({**OWN, "code": {"mine": {"commit": "b" * 40}}}, cell(), Measured("a" * 40)),
        (OWN, cell(code="head"), Measured("1a2b3c4d5e")),
        (OWN, cell(code="elsewhere"), Measured("")),
        ({"commit": "a" * 40, "dirty": "ab", "code": "damaged"}, cell(), Measured("a" * 40, True)),
        ("damaged", cell(), Measured("")),
    ],
)
def test_a_record_says_which_code_it_is_of(tmp_path, environment, of, expected):
    (tmp_path / "gate.json").write_text(json.dumps({"head": "head 1a2b3c4d5e (faster)", "base": "base ../python"}))
    record = ok(of=of, environment="e")
    run = RunData(tmp_path / "first", {"environments": {"e": environment}}, [record])
    assert run.measured(record) == expected
