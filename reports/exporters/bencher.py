"""Bencher Metric Format (https://bencher.dev/docs/reference/bencher-metric-format): benchmark -> measure -> metric.

``latency`` and ``throughput`` are Bencher's own measures, in nanoseconds and per second; the others are made by it on
the first upload. A metric's bounds are the 95 % interval; without one they are left out.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from siderostat.record import Provenance
from siderostat.reports.exporters import Export
from siderostat.reports.exporters.series import Series, timed
from siderostat.stats import Estimate

_NS = 1e9


def export(found: Sequence[Series]) -> Export:
    """Return ``bencher.json``."""
    held, notes = timed(found, "Bencher")
    if not held:
        return Export({}, notes)
    data = {one.title: _measures(one) for one in held}
    return Export({"bencher.json": [json.dumps(data, indent=1, allow_nan=False), "\n"]}, notes)


def _measures(one: Series) -> dict[str, dict[str, float]]:
    assert one.time is not None and one.rate is not None
    found = {"latency": _metric(one.time.times(_NS)), "throughput": _metric(one.rate)}
    joules = one.joules
    if joules is not None:
        origin = one.row.energy_provenance
        mark = "" if origin == Provenance.MEASURED.value else f"-{origin}"
        found[f"joules-per-item{mark}"] = _metric(joules)
    if one.row.peak_bytes is not None:
        found["peak-memory-bytes"] = {"value": one.row.peak_bytes}
    return found


def _metric(estimate: Estimate) -> dict[str, float]:
    metric = {"value": estimate.value, "lower_value": estimate.low, "upper_value": estimate.high}
    return {name: value for name, value in metric.items() if value is not None}
