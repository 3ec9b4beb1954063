"""How much other work disturbed a stretch of time, read from the kernel around it.

Worker side: Python 3.8. Each source that the system lacks is left out: absent is not 0.
"""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path
from typing import Dict, Optional

PRESSURE = 0.20  # share of the time in which some task waited for a processor
STEAL = 0.02  # share of processor time taken by other virtual machines
LEAST_CPU_SHARE = 0.90  # CPU time over wall time of a process that waits for nothing


class Watch:
    """Counters at one moment; :meth:`load` says what happened since."""

    def __init__(self) -> None:
        self._wall = time.perf_counter()
        self._cpu = time.process_time()
        self._pressure_us = _pressure_us()
        self._steal_s = _steal_s()
        self._switches = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw

    def load(self) -> Dict[str, float]:
        """Return shares of the time since, and the count of involuntary context switches.

        Keys: ``wall_s``, ``cpu_share`` (CPU time of this process, all threads, over wall time),
        ``involuntary_switches``; where the kernel tells, ``pressure`` (PSI "some") and ``steal``.
        """
        now = Watch()
        wall = max(now._wall - self._wall, 1e-9)
        load = {
            "wall_s": wall,
            "cpu_share": (now._cpu - self._cpu) / wall,
            "involuntary_switches": float(now._switches - self._switches),
        }
        if now._pressure_us is not None and self._pressure_us is not None:
            load["pressure"] = (now._pressure_us - self._pressure_us) * 1e-6 / wall
        if now._steal_s is not None and self._steal_s is not None:
            load["steal"] = (now._steal_s - self._steal_s) / wall / (os.cpu_count() or 1)
        return load


def is_contended(load: Dict[str, float], on_host: bool) -> bool:
    """Judge a load by the thresholds above; the CPU share counts only where the host does the work."""
    return (
        load.get("pressure", 0.0) > PRESSURE
        or load.get("steal", 0.0) > STEAL
        or (on_host and load["cpu_share"] < LEAST_CPU_SHARE)
    )


def _pressure_us() -> Optional[int]:
    try:
        text = Path("/proc/pressure/cpu").read_text()
    except OSError:
        return None
    for line in text.splitlines():
        if line.startswith("some"):
            return int(line.rpartition("total=")[2])
    return None


def _steal_s() -> Optional[float]:
    try:
        with Path("/proc/stat").open() as stat:
            fields = stat.readline().split()
    except OSError:
        return None
    if len(fields) < 9:
        return None
    return int(fields[8]) / float(os.sysconf("SC_CLK_TCK"))
