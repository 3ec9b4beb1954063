"""Shared by all tests: a cache of their own, and a way to run the command as a user does."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

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
