"""Lines of MLPerf logging (https://github.com/mlcommons/logging).

``:::MLLOG`` and a JSON object with the keys ``namespace``, ``time_ms``, ``event_type``, ``key``, ``value`` and
``metadata``. It is MLPerf's form for figures that are not MLPerf's: nothing here makes a run a submission.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from siderostat.reports.exporters import Export
from siderostat.reports.exporters.series import Series, timed

_FILE = "siderostat"  # where a logger has its source file
_NAMES = ("seconds_per_item", "items_per_s", "joules_per_item", "peak_bytes")


def export(found: Sequence[Series]) -> Export:
    """Return ``mllog.txt``; a series whose records tell no time of day is left out, as each line must have one."""
    held, notes = timed(found, "an MLPerf log")
    dated = [one for one in held if one.started_at is not None]
    if len(dated) < len(held):
        notes.append(
            f"{len(held) - len(dated):,} series do not say when they were measured, which a log line must; left out"
        )
    return Export({"mllog.txt": (line for one in dated for line in _lines(one))} if dated else {}, notes)


def _lines(one: Series) -> Iterator[str]:
    at = one.started_at
    assert at is not None
    metadata = {
        "file": _FILE, "lineno": 0, "series": one.name, "run": one.run.label, **one.settings, "item": one.row.item,
        "grade": one.row.grade, "processes": one.row.n_processes, "flags": one.row.flags,
    }  # fmt: skip
    for name in _NAMES:
        value = getattr(one.row, name)
        if value is not None:
            event = {
                "namespace": "",
                "time_ms": int(at.timestamp() * 1000),
                "event_type": "POINT_IN_TIME",
                "key": name,
                "value": value,
                "metadata": {**metadata, **_beside(one, name)},
            }
            yield f":::MLLOG {json.dumps(event, allow_nan=False)}\n"


def _beside(one: Series, name: str) -> dict[str, Any]:
    """Return the interval of a figure and where the figure comes from."""
    ends = {end: getattr(one.row, f"{name}_{end}", None) for end in ("low", "high", "u95")}
    provenance = one.row.energy_provenance if name == "joules_per_item" else one.row.provenance
    return {**{end: value for end, value in ends.items() if value is not None}, "provenance": provenance}
