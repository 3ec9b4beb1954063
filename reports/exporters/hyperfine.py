"""JSON as ``hyperfine --export-json`` writes it, for scripts that read it: ``results``, a "command" for each case.

``times`` holds one figure for each process, its median in seconds per item; ``mean``, ``stddev`` and the others are of
these, as readers expect. ``user`` and ``system`` are null: CPU time is not known apart for the two.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from typing import Any

from siderostat.reports.exporters import Export
from siderostat.reports.exporters.series import Series, timed


def export(found: Sequence[Series]) -> Export:
    """Return ``hyperfine.json``."""
    held, notes = timed(found, "hyperfine's format")
    if not held:
        return Export({}, notes)
    data = {"results": [_result(one) for one in held]}
    return Export({"hyperfine.json": [json.dumps(data, indent=1, allow_nan=False), "\n"]}, notes)


def _result(one: Series) -> dict[str, Any]:
    times = one.seconds_of_processes
    memory = [record.process.get("maxrss_bytes") for record in one.processes]
    known = [int(size) for size in memory if isinstance(size, int)]
    parameters = {**one.settings, "item": one.row.item, "provenance": one.row.provenance or "", "grade": one.row.grade}
    return {
        "command": one.title,
        "mean": statistics.fmean(times),
        "stddev": statistics.stdev(times) if len(times) > 1 else None,
        "median": statistics.median(times),
        "user": None,
        "system": None,
        "min": min(times),
        "max": max(times),
        "times": times,
        **({"memory_usage_byte": known} if len(known) == len(times) else {}),
        "exit_codes": [0] * len(times),  # a process that did not end well has no figure
        "parameters": {name: value for name, value in parameters.items() if value},
    }
