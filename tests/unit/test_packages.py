"""The house: what is installed under which name, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import tomllib

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = {
    "harness": "siderostat",
    "workloads": "siderostat.workloads",
    "devices": "siderostat.devices",
    "reports": "siderostat.reports",
}
HEAVY = (
    "torch",
    "tensorflow",
    "galsim",
    "lenstronomy",
    "colossus",
    "numba",
    "sklearn",
    "ruptures",
    "pandas",
    "altair",
    "vl_convert",
    "jinja2",
    "numpy",
    "scipy",
    "rich",
)


def imported_by(code: str) -> set[str]:
    words = f"import sys; {code}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_every_folder_with_code_is_listed_as_a_package():
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    found = set()
    for folder, package in FOLDERS.items():
        for init in (ROOT / folder).rglob("__init__.py"):
            parts = init.parent.relative_to(ROOT / folder).parts
            found.add(".".join([package, *parts]))
    assert listed == found


def test_folders_with_python_files_are_packages():
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            assert (path.parent / "__init__.py").exists(), path


@pytest.mark.parametrize(
    ("code", "forbidden"),
    [
        ("import siderostat.cli, siderostat.cli.parser; siderostat.cli.parser.make()", HEAVY),
        ("import siderostat.workloads.galaxy_shape", ("torch", "galsim", "astropy")),
        ("import siderostat.workloads.lens_images", ("numba", "lenstronomy", "astropy", "scipy")),
        ("import siderostat.workloads.lens_adaptation", ("torch", "sklearn")),
        ("import siderostat.workloads.halo_grids", ("colossus", "scipy", "h5py")),
        ("import siderostat.workloads.halo_smf", ("torch", "sklearn")),
        ("import siderostat.workloads.gauge_flow, siderostat.workloads.gauge_pseudofermion", ("torch",)),
        ("import siderostat.devices.cpu", ("torch", "tensorflow")),
        ("import siderostat.reports", ("pandas", "altair", "vl_convert", "jinja2")),
        ("import siderostat.worker", ("torch", "scipy", "rich", "psutil", "siderostat.plan")),
    ],
)
def test_imports_stay_light(code: str, forbidden: tuple[str, ...]):
    assert not imported_by(code) & set(forbidden)


def test_no_module_has_a_name_that_says_nothing():
    nothing = {"utils", "helpers", "common", "misc", "manager"}
    assert not [p for folder in FOLDERS for p in (ROOT / folder).rglob("*.py") if p.stem in nothing]
