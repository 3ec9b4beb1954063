"""A report for programs: ``report.json``, schema 1. SI units; null is "not known"; NaN does not occur."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from siderostat.reports import comparisons, quality
from siderostat.reports.document import Document
from siderostat.reports.rows import flat_rows
from siderostat.reports.run import RunData, run_names
from siderostat.stats import Estimate

SCHEMA = 1


def text(runs: Sequence[RunData], document: Document) -> str:
    """Return the report as JSON.

    ``null_seconds_per_step`` is the harness's own time per step, the largest over the runs, and has its interval
    beside it; ``cases`` has the columns of ``report.csv``, ``quality`` and ``ratios`` those of the files of these
    names; ``published`` holds the curves set beside them. ``drift`` of a run is the change of times over the session.

    Args:
        runs: what the report is about.
        document: the report made of them.
    """
    several = len(runs) > 1
    table = [r for case_set in document.sets for r in case_set.rows]
    overheads = [e for run in runs if (e := run.null_seconds_per_step) is not None]
    data = {
        "schema": SCHEMA,
        "generated_at": document.generated_at,
        **_null(max(overheads, key=lambda e: e.value, default=None)),
        "cases": flat_rows(table, with_run=several),
        "quality": list(quality.flat_rows(runs)),
        "ratios": list(comparisons.flat_rows(runs)),
        "published": [{"set": s.title, **asdict(curve)} for s in document.sets for curve in s.curves],
        "runs": [_run(name, run) for name, run in zip(run_names(runs), runs, strict=True)],
    }
    return json.dumps(_finite(data), indent=1, ensure_ascii=False, allow_nan=False, default=str) + "\n"


def _finite(value: Any) -> Any:
    """Return JSON data with null in place of NaN and infinity, which a manifest written elsewhere may hold."""
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _null(overhead: Estimate | None) -> dict[str, float | None]:
    """Return the harness's time per step in seconds, with its interval."""
    name = "null_seconds_per_step"
    if overhead is None:
        return {name: None, f"{name}_low": None, f"{name}_high": None}
    return {name: overhead.value, f"{name}_low": overhead.low, f"{name}_high": overhead.high}


def _run(name: str, run: RunData) -> dict[str, Any]:
    """Return one run without its records, which are in its folder."""
    return {
        "run": name,
        "grade": run.grade,
        "n_records": len(run.records),
        **_null(run.null_seconds_per_step),
        "drift": None if run.drift is None else asdict(run.drift),
        "warnings": list(run.warnings),
        "manifest": run.manifest,
    }
