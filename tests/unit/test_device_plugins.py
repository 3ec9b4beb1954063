"""Devices of other packages: found by their entry points, and named where they cannot be used."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from siderostat import devices
from siderostat.devices import plugins
from siderostat.devices.base import Unavailable
from siderostat.record import Status
from siderostat.store import Run
from tests.conftest import command

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "siderostat-pinned"


WORKS = """
from siderostat.devices.mock import Mock
class Slow(Mock):
    kind, title = "slow", "a mock"
"""


def test_a_package_brings_a_device(package):
    package("lab", plugins.GROUP, WORKS, slow="Slow")
    assert "slow" in devices.kinds()
    assert devices.load("slow:step_s=2").title == "a mock"
    with pytest.raises(LookupError, match="device 'slow' has no setting 'step'"):
        devices.load("slow:step=2")


def test_without_packages_there_are_siderostats_own_devices(package):
    assert {"cpu", "cuda", "mock"} <= set(devices.kinds())
    with pytest.raises(LookupError, match="there is no device 'slow'"):
        devices.adapter("slow")


def test_siderostats_own_device_wins_and_the_package_is_named(package):
    package("lab", plugins.GROUP, WORKS, cpu="Slow", slow="Slow")
    with pytest.warns(RuntimeWarning, match="the package lab brings a device 'cpu', which siderostat has itself"):
        kinds = devices.kinds()
    assert kinds.count("cpu") == 1
    assert "slow" in kinds
    assert devices.load("cpu").title == "the host's processor"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import nothing_of_that_name", "of the package lab cannot be imported .ModuleNotFoundError: No module named"),
        ("", "cannot be imported .AttributeError"),
        ("raise KeyError('LAB_HOME')", "cannot be imported .KeyError: 'LAB_HOME'"),
        ("Slow = 3", "lab:Slow is no subclass of siderostat.devices.base.DeviceAdapter"),
    ],
)
def test_a_device_that_cannot_be_used_names_its_package_when_it_is_asked(package, code, words):
    package("lab", plugins.GROUP, code, slow="Slow")
    device = devices.load("slow:any=thing")
    for ask in (device.describe, lambda: device.compile(None, "fp32")):
        with pytest.raises(Unavailable, match=words):
            ask()


def test_two_packages_with_one_device_are_both_named(package):
    package("lab", plugins.GROUP, WORKS, slow="Slow")
    package("shed", plugins.GROUP, WORKS, slow="Slow")
    with pytest.raises(Unavailable, match="packages (lab and shed|shed and lab) both bring a device 'slow'"):
        devices.load("slow").describe()


def test_devices_of_packages_are_listed_with_the_reason_where_they_cannot_be_used(package, tmp_path):
    package("lab", plugins.GROUP, "import nothing_of_that_name", slow="Slow")
    done = siderostat_with(tmp_path, "list", "devices", "--json")
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert not rows["slow"]["available"]
    assert "of the package lab cannot be imported" in rows["slow"]["reason"]


# --- the example of docs/devices.md ---


def siderostat_with(folder, *words):
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    return subprocess.run(
        command(words), cwd=folder, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=200,
        check=False,
    )  # fmt: skip


def records_of(folder, device):
    """Those of one device: the null workload may be measured on others besides."""
    return [r for r in Run(folder).records if r.attempt.cell.device == device]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="threads cannot be kept on cores here")
def test_the_example_is_installed_and_measures(tmp_path):
    pytest.importorskip("setuptools")
    source = shutil.copytree(EXAMPLE, tmp_path / "source")
    site = tmp_path / "site"
    words = ["-q", "--no-deps", "--no-build-isolation", "--no-index", "--target", site, source]
    subprocess.run([sys.executable, "-m", "pip", "install", *words], check=True, timeout=200)
    core = min(os.sched_getaffinity(0))
    name = f"pinned:cores={core}"
    done = siderostat_with(site, "run", "-w", "null", "-d", name, "-o", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    records = records_of(tmp_path / "run", name)
    assert {r.status for r in records} == {Status.OK}
    assert {tuple(r.effective["affinity"]) for r in records} == {(core,)}
    wrong = siderostat_with(site, "run", "-w", "null", "-d", "pinned:cores=first", "-o", tmp_path / "wrong")
    assert (wrong.returncode, "cores are numbers joined by +" in wrong.stderr) == (2, True)
    gone = siderostat_with(site, "run", "-w", "null", "-d", "pinned:cores=4095", "-o", tmp_path / "gone")
    assert "Traceback" not in gone.stderr
    details = {r.detail for r in records_of(tmp_path / "gone", "pinned:cores=4095")}
    assert details == {"this process may not run on core 4095; name others by cores="}
