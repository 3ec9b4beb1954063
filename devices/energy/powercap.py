"""Energy of processors and memory by Intel's RAPL, which AMD has too, through Linux's powercap files."""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path
from typing import Any, Callable, ClassVar, Dict, List, Optional, Sequence, Tuple

from siderostat.devices.energy.counter import Counter, Missing, Refused
from siderostat.record import EnergyStatus

ROOT = "/sys/class/powercap"
ROOT_VARIABLE = "SIDEROSTAT_POWERCAP"
_ZONE = re.compile(r"intel-rapl(?P<mmio>-mmio)?:\d+(:\d+)?")
_MOST_W = 10e3  # of one zone: a counter that fell and would have to have run faster was set back, and did not wrap
_LEAST_S = 0.1  # over which that is judged, since updates come in lumps
_NO_ZONE_REMEDY = (
    "load the module intel_rapl_msr (Intel since 2011, AMD since 2017); in a container, mount the host's {root} "
    "somewhere and name that place in {variable}; or import a wall meter's log"
)
_PERMISSION_REMEDY = (
    "an administrator can let a group of users read them until the next start: chgrp GROUP {root}/*/energy_uj && "
    "chmod g+r {root}/*/energy_uj, or for good by a udev rule"
)


def powercap_counters() -> List[Counter]:
    """Return a counter for each scope that the machine's zones cover, or one that says why there is none.

    Zones of several packages add up within a scope. The parts of a package (core, uncore) are in it and are left out,
    and so are zones that the kernel shows a second time through another interface (mmio).
    """
    root = Path(os.environ.get(ROOT_VARIABLE, ROOT))
    scopes: Dict[str, List[Path]] = {}
    for path in _zones(root):
        scope = _scope(_name(path))
        if scope is not None:
            scopes.setdefault(scope, []).append(path)
    if not scopes:
        return [_missing(root)]
    return [PowercapCounter(scope, paths) for scope, paths in sorted(scopes.items())]


class PowercapCounter(Counter):
    """The sum of the zones of one scope.

    Args:
        scope: ``cpu_package``, ``dram`` or ``platform``.
        paths: folders of the zones, each with ``energy_uj`` and ``max_energy_range_uj``.
        clock: time in s, for tests.
    """

    source = "powercap"
    shortest_period_s: ClassVar[float] = 1e-3  # Intel's manual, volume 3B, "RAPL Interfaces": about 1 ms

    def __init__(self, scope: str, paths: Sequence[Path], clock: Callable[[], float] = time.perf_counter) -> None:
        self.scope = scope
        self._paths = list(paths)
        self._clock = clock
        self._zones: List[_Zone] = []

    def open(self) -> None:
        """See :meth:`Counter.open`."""
        if self.scope == "platform" and len(self._paths) > 1:
            raise Refused(
                EnergyStatus.UNSUPPORTED,
                f"there are {len(self._paths)} platform zones (psys), and whether they add up is not documented",
            )
        for path in self._paths:
            self._zones.append(_Zone(path, self._clock))
        self.joules()

    def joules(self) -> float:
        """See :meth:`Counter.joules`."""
        return sum(zone.joules() for zone in self._zones)

    @property
    def wraps(self) -> int:
        """See :meth:`Counter.wraps`."""
        return sum(zone.wraps for zone in self._zones)

    def device(self) -> Dict[str, Any]:
        """See :meth:`Counter.device`."""
        return {"name": ", ".join(_name(path) for path in self._paths), "zones": [path.name for path in self._paths]}

    def close(self) -> None:
        """See :meth:`Counter.close`."""
        while self._zones:
            self._zones.pop().close()


class _Zone:
    """One zone, whose counter begins anew at 0 after ``max_energy_range_uj``."""

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._path = path / "energy_uj"
        self._clock = clock
        self._range_j = _range_j(path)
        self.wraps = 0
        self._last_j: Optional[float] = None
        self._last_s = 0.0
        try:
            self._fd = os.open(self._path, os.O_RDONLY)
        except PermissionError as error:
            raise Refused(
                EnergyStatus.NO_PERMISSION,
                f"only root may read {self._path}, since power tells what others compute (CVE-2020-8694)",
                _PERMISSION_REMEDY.format(root=ROOT),
            ) from error
        except OSError as error:
            raise Refused(EnergyStatus.UNSUPPORTED, f"{self._path} cannot be opened: {error.strerror}") from error

    def joules(self) -> float:
        try:
            now_j = int(os.pread(self._fd, 32, 0)) * 1e-6
        except (OSError, ValueError) as error:
            raise Refused(EnergyStatus.UNSUPPORTED, f"{self._path} cannot be read: {error}") from error
        now_s = self._clock()
        if self._last_j is not None and now_j < self._last_j and self._has_wrapped(self._last_j, now_j, now_s):
            self.wraps += 1
        self._last_j, self._last_s = now_j, now_s
        return now_j + self.wraps * self._range_j

    def _has_wrapped(self, before_j: float, now_j: float, now_s: float) -> bool:
        """Say whether a counter that fell went past its end, at a power that can be."""
        most_j = _MOST_W * max(now_s - self._last_s, _LEAST_S)
        return now_j + self._range_j - before_j <= most_j

    def close(self) -> None:
        os.close(self._fd)


def _zones(root: Path) -> List[Path]:
    """Return the folders of all zones, each one once; the kernel shows them side by side, nested, or both."""
    found: Dict[Tuple[str, str], Path] = {}
    paths = [path for pattern in ("*", "*/*", "*/*/*") for path in sorted(root.glob(pattern))]
    for path in sorted(paths, key=lambda path: "-mmio" in path.name):
        if _ZONE.fullmatch(path.name) and (path / "energy_uj").exists():
            found.setdefault(_identity(path), path)
    return sorted(found.values())


def _identity(path: Path) -> Tuple[str, str]:
    """Return what a zone is of: its package, and its own name; the same through each interface."""
    name = _name(path)
    if path.name.count(":") < 2:  # intel-rapl:0 is a package, intel-rapl:0:1 a part of it
        return name, ""
    parent = path.name.rpartition(":")[0]
    beside = path.parent if path.parent.name == parent else path.parent / parent
    return _name(beside), name


def _name(path: Path) -> str:
    try:
        return (path / "name").read_text().strip()
    except OSError:
        return ""


def _scope(name: str) -> Optional[str]:
    if name.startswith("package"):
        return "cpu_package"
    if name.startswith("psys"):
        return "platform"
    return "dram" if name == "dram" else None


def _range_j(path: Path) -> float:
    """Return where the counter ends; 0 where that is not told, so that a fall is never taken for a wrap."""
    try:
        return int((path / "max_energy_range_uj").read_text()) * 1e-6
    except (OSError, ValueError):
        return 0.0


def _missing(root: Path) -> Missing:
    if not sys.platform.startswith("linux"):
        return Missing("the processor's energy counters are read on Linux alone", "import a wall meter's log")
    if _is_virtual():
        return Missing(
            f"no energy counter under {root}: this is a virtual machine, and its host does not pass them on",
            "measure on the host itself, or import a wall meter's log",
        )
    reason = f"no energy counter under {root}: this kernel has no RAPL zones, or a container hides them"
    return Missing(reason, _NO_ZONE_REMEDY.format(root=ROOT, variable=ROOT_VARIABLE))


def _is_virtual() -> bool:
    """Say whether the processor reports a hypervisor."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return "hypervisor" in flags.split()
