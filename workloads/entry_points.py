"""What other packages bring: their entry points, by group and name."""

from __future__ import annotations

import functools
from typing import Any, Dict, List, Tuple


@functools.lru_cache(maxsize=None)
def offers(group: str) -> Dict[str, List[Tuple[str, Any]]]:
    """Return for each name the packages that bring it, and their entry points; read once in a process.

    Args:
        group: ``siderostat.workloads`` or ``siderostat.devices``; names are those of workloads or kinds of device.
    """
    import importlib.metadata  # not above: a worker that needs nothing of another package need not wait for it

    found: Dict[str, List[Tuple[str, Any]]] = {}
    packages = set()
    for distribution in importlib.metadata.distributions():
        package = str(distribution.metadata["Name"])
        if package in packages:  # a copy further down the path, hidden by the first
            continue
        packages.add(package)
        for entry in distribution.entry_points:
            if entry.group == group:
                found.setdefault(entry.name, []).append((package, entry))
    return found
