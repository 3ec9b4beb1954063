"""What Linux's control groups leave to this process: processors and memory, at every level from its own group up.

Version 2 has one tree; version 1 one for each controller; a hybrid has both. A container often sees its own group as
the root of a tree while ``/proc/self/cgroup`` gives the host's path: what of the path is not there is passed over.
"""

from __future__ import annotations

from pathlib import Path
from typing import Iterator, Optional

OWN = Path("/proc/self/cgroup")
ROOT = Path("/sys/fs/cgroup")


def cpu_quota(own: Path = OWN, root: Path = ROOT) -> Optional[float]:
    """Return how many processors' worth of time the process may use; None: as much as there is."""
    quotas = [_quota(*_words(folder / "cpu.max")) for folder in _levels("", own, root)]
    for folder in _levels("cpu", own, root):
        quotas.append(_quota(*_words(folder / "cpu.cfs_quota_us"), *_words(folder / "cpu.cfs_period_us")))
    return min((quota for quota in quotas if quota is not None), default=None)


def memory_left_bytes(own: Path = OWN, root: Path = ROOT) -> Optional[int]:
    """Return how much more memory the process's groups let it have; None: no group limits it.

    Pages of files that were not used lately count as free, as the kernel drops them before anything fails.
    """
    left = [_left(folder, "memory.max", "memory.current", "inactive_file") for folder in _levels("", own, root)]
    for folder in _levels("memory", own, root):
        left.append(_left(folder, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"))
    return min((one for one in left if one is not None), default=None)


def _levels(controller: str, own: Path, root: Path) -> Iterator[Path]:
    """Yield the folders of the process's group and those above it, the root of the tree last.

    Args:
        controller: of version 1; ``""`` for version 2.
        own: says which groups the process is in.
        root: where the trees are mounted.
    """
    for line in _text(own).splitlines():
        controllers, _, path = line.partition(":")[2].partition(":")
        if controller not in controllers.split(","):
            continue
        trees = [root / controllers, root / controller] if controller else [root, root / "unified"]
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for tree in dict.fromkeys(trees):
            for depth in range(len(parts), -1, -1):
                yield tree.joinpath(*parts[:depth])


def _quota(quota: str = "", period: str = "") -> Optional[float]:
    """Return processors from microseconds of processor time in a period; ``max`` and -1 are no quota."""
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else None


def _left(folder: Path, limit: str, used: str, droppable: str) -> Optional[int]:
    most, now = _text(folder / limit).strip(), _text(folder / used).strip()
    if not (most.isdigit() and now.isdigit()) or int(most) >= 1 << 62:  # version 1 writes no limit as a huge one
        return None
    free = int(most) - int(now)
    for line in _text(folder / "memory.stat").splitlines():
        name, _, value = line.partition(" ")
        if name == droppable and value.strip().isdigit():
            free += int(value)
    return max(0, min(free, int(most)))


def _words(path: Path) -> Iterator[str]:
    return iter(_text(path).split()[:2])


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
