"""The worker side under a real Python 3.8, where one is present: it starts, talks, and measures a NumPy workload."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from siderostat.record import Status
from siderostat.store import Run

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {"harness": "siderostat", "workloads": "siderostat/workloads", "devices": "siderostat/devices"}


def find_python38() -> str | None:
    candidates = [shutil.which("python3.8"), *sorted(Path.home().glob(".pyenv/versions/3.8*/bin/python"))]
    for path in filter(None, candidates):
        done = subprocess.run(
            [path, "-c", "import sys; print(*sys.version_info[:2])"], capture_output=True, text=True, check=False
        )
        if done.stdout.split() == ["3", "8"]:
            return str(path)
    return None


@pytest.fixture(scope="module")
def python38(tmp_path_factory) -> str:
    """An environment of Python 3.8 with numpy and siderostat's packages, and nothing else."""
    base = find_python38()
    if base is None:
        pytest.skip("there is no Python 3.8 here")
    folder = tmp_path_factory.mktemp("py38") / "venv"
    subprocess.run([base, "-m", "venv", folder], check=True)
    python = str(folder / "bin" / "python")
    done = subprocess.run(
        [python, "-m", "pip", "install", "-q", "numpy<1.25"], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        pytest.skip("numpy for Python 3.8 cannot be installed here")
    site = subprocess.run(
        [python, "-c", "import site; print(site.getsitepackages()[0])"], capture_output=True, text=True, check=True
    )
    for source, target in PACKAGES.items():
        shutil.copytree(ROOT / source, Path(site.stdout.strip()) / target)
    return python


def test_every_module_of_the_worker_side_imports(python38):
    code = (
        "import siderostat.record, siderostat.worker, siderostat.forkserver, siderostat.workloads, siderostat.devices\n"
        "import siderostat.workloads.null, siderostat.devices.cpu, siderostat.devices.mock, siderostat.devices.cpu.loop\n"
        "import siderostat.workloads.galaxy_shape, siderostat.devices.ipu, siderostat.devices.ipu.power\n"
        "import siderostat.workloads as w; print(w.load('galaxy-shape').variants['dnn']['paper'].parameters)"
    )
    done = subprocess.run([python38, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "1517217", done.stderr


def test_every_module_of_the_worker_side_compiles(python38):
    worker_side = ["record", "worker", "forkserver", "limits", "contention"]
    files = [ROOT / "harness" / f"{name}.py" for name in worker_side]
    files += [*(ROOT / "workloads").rglob("*.py"), *(ROOT / "devices").rglob("*.py")]
    code = "import sys\nfor f in sys.argv[1:]: compile(open(f).read(), f, 'exec')"
    done = subprocess.run([python38, "-c", code, *map(str, files)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_driver_of_today_measures_with_workers_of_python_3_8(python38, siderostat, tmp_path):
    sweep = tmp_path / "sweep.toml"
    sweep.write_text(f'[[sweep]]\nworkload = "null"\n[devices.cpu]\npython = "{python38}"\n')
    siderostat("run", sweep, "-o", tmp_path / "run")
    records = Run(tmp_path / "run").records
    assert [r.status for r in records] == [Status.OK] * 3
    assert {r.process["python"].rpartition(".")[0] for r in records} == {"3.8"}
    assert {r.process["start"] for r in records} == {"cold"}


def test_an_ipu_is_described_without_torch_and_modelled_where_there_is_none(python38, siderostat, tmp_path):
    sweep = tmp_path / "sweep.toml"
    sweep.write_text(f'[[sweep]]\nworkload = "null"\ndevices = ["ipu"]\n[devices.ipu]\npython = "{python38}"\n')
    done = siderostat("run", sweep, "-o", tmp_path / "run")
    assert f"ipu: PopTorch is not installed for {python38}" in done.stderr
    assert "modelled instead, as sim:graphcore-gc2" in done.stderr
    records = Run(tmp_path / "run").records
    assert {r.attempt.cell.device for r in records} == {"sim:graphcore-gc2", "cpu"}


def test_the_ipu_adapter_runs_where_poplar_lives(siderostat, tmp_path):
    """With Python 3.8 and torch 2.0, those of the last Poplar SDK, and the stand-in for PopTorch: no IPU is used."""
    python = os.environ.get("SIDEROSTAT_TEST_PYTHON38")
    if python is None:
        pytest.skip("SIDEROSTAT_TEST_PYTHON38 names no Python 3.8 that has torch 2.0")
    for source, target in PACKAGES.items():
        shutil.copytree(ROOT / source, tmp_path / "packages" / target)
    wrapper, sweep = tmp_path / "python", tmp_path / "sweep.toml"
    paths = f"{tmp_path / 'packages'}:{ROOT / 'tests' / 'fakes'}"
    wrapper.write_text(f'#!/bin/sh\nPYTHONPATH="{paths}" exec "{python}" "$@"\n')
    wrapper.chmod(0o755)
    sweep.write_text(
        '[[sweep]]\nworkload = "galaxy-sampler"\nvariants = ["naive"]\nmodes = ["sample"]\nbatches = [2]\n'
        f'devices = ["ipu:iterations=2"]\n[devices.ipu]\npython = "{wrapper}"\n'
    )
    done = siderostat("run", sweep, "-o", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    records = [r for r in Run(tmp_path / "run").records if r.attempt.cell.workload == "galaxy-sampler"]
    assert {r.status for r in records} == {Status.OK}
    assert {r.process["python"].rpartition(".")[0] for r in records} == {"3.8"}
    assert all(r.process["packages"]["torch"].startswith("2.0") for r in records)
    assert all("stand-in" in r.device["name"] for r in records)


def test_the_command_line_says_which_python_it_needs(python38):
    done = subprocess.run([python38, "-m", "siderostat", "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "the command line needs Python 3.11 or newer, and this is 3.8" in done.stderr
