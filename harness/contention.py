"""How much other work disturbed a stretch of time, read from the kernel around it.

Worker side: Python 3.8. Each source that the system lacks is left out: absent is not 0.
"""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path
from typing import Dict, List, Optional

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
        self._busy_s = _busy_s()
        self._switches = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw

    def load(self) -> Dict[str, float]:
        """Return shares of the time since, and the count of involuntary context switches.

        Keys: ``wall_s``, ``cpu_share`` (CPU time of this process, all threads, over wall time),
        ``involuntary_switches``; where the kernel tells, ``pressure`` (PSI "some"), ``steal``, and ``foreign_cpu``
        (processor time of all others over that of all processors).
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
        if now._busy_s is not None and self._busy_s is not None:
            others = now._busy_s - self._busy_s - (now._cpu - self._cpu)
            load["foreign_cpu"] = max(0.0, others) / wall / (os.cpu_count() or 1)
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
    times = _processor_times_s()
    return times[7] if len(times) > 7 else None


def _busy_s() -> Optional[float]:
    """Return the time that processors worked for anyone on this machine: all but idle, waiting for disks, and steal."""
    times = _processor_times_s()
    return sum(times[i] for i in (0, 1, 2, 5, 6)) if len(times) > 7 else None


def _processor_times_s() -> List[float]:
    """Return the first line of /proc/stat, seconds (proc(5)): user, nice, system, idle, iowait, irq, softirq, steal."""
    try:
        with Path("/proc/stat").open() as stat:
            return [int(ticks) / float(os.sysconf("SC_CLK_TCK")) for ticks in stat.readline().split()[1:]]
    except OSError:
        return []
