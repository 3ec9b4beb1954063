"""Processes from outside: whether they run, and whether they end."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable

import psutil


def is_running(pid: int) -> bool:
    """Say whether a process runs; one that has ended and was not waited for does not."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def all_end(pids: Iterable[int], within_s: float = 10) -> bool:
    """Wait for processes to end; say whether all did."""
    held = list(pids)
    deadline = time.monotonic() + within_s
    while any(map(is_running, held)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(map(is_running, held))
