"""Shared by all tests: a cache of their own, and a way to run the command as a user does."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from siderostat.workloads.entry_points import offers

with contextlib.suppress(ImportError):  # a torch made for CUDA brings it; imported after TensorFlow it crashes
    import triton  # noqa: F401

FAULTY = Path(__file__).parent / "data" / "faulty.py"
SMALL_NET = Path(__file__).parent / "data" / "small_net.py"


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    os.environ["SIDEROSTAT_CACHE"] = str(folder)
    return folder


@pytest.fixture
def faulty() -> Callable[[str], str]:
    """Name of a workload of ``data/faulty.py``."""
    return lambda name: f"{FAULTY}:{name}"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Install packages made of one module and its entry points: ``package(name, group, code, entry="Class")``."""
    monkeypatch.syspath_prepend(str(tmp_path))
    offers.cache_clear()
    installed = []

    def install(name: str, group: str, code: str = "", **entries: str) -> None:
        installed.append(name)
        (tmp_path / f"{name}.py").write_text(code)
        folder = tmp_path / f"{name}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        lines = [f"{entry} = {name}:{value}" for entry, value in entries.items()]
        (folder / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines, ""]))

    yield install
    offers.cache_clear()
    for name in installed:
        sys.modules.pop(name, None)


@pytest.fixture
def net() -> str:
    """Name of a workload of one dense layer, to be traced."""
    return f"{SMALL_NET}:Small"


@pytest.fixture
def siderostat(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command in a folder of its own."""

    def run(*words: str | Path, cwd: Path = tmp_path, timeout: float = 200) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command(words), cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False)

    return run


def command(words: Sequence[str | Path]) -> list[str]:
    return [sys.executable, "-m", "siderostat", *map(str, words)]
