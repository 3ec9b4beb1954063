"""Conbench BenchmarkResults (https://conbench.github.io/conbench): one JSON object on each line, the body of one POST.

``stats.data`` has one figure for each process, items per second (unit ``i/s``), ``stats.times`` the same processes in
seconds per item; Conbench makes its summaries from these. ``iterations`` is the least number of steps in a burst.
The machine is a ``cluster_info``: a ``machine_info`` must state caches and clock rates, which a manifest does not
know, and 0 is not "not known".
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from siderostat.record import FAILURES, Status
from siderostat.reports.exporters import Export
from siderostat.reports.exporters.series import Series
from siderostat.stats import measured_bursts

_HARDWARE = ("cpu", "cores", "usable_cores", "memory_bytes", "platform", "virtualised")
_COMMIT = {"repository": "CONBENCH_PROJECT_REPOSITORY", "commit": "CONBENCH_PROJECT_COMMIT"}
_PULL_REQUEST = "CONBENCH_PROJECT_PR_NUMBER"


def export(found: Sequence[Series]) -> Export:
    """Return ``conbench.jsonl``; the commit is taken from the environment variables that Conbench's own tools read."""
    results = [result for one in found if (result := _result(one)) is not None]
    left = len(found) - len(results)
    notes = [f"{left:,} cases do not say when they were measured, or were not tried; left out"] if left else []
    if results and "github" not in results[0]:
        notes.append(
            "the results name no commit, which Conbench needs for a history: set CONBENCH_PROJECT_REPOSITORY and "
            "CONBENCH_PROJECT_COMMIT, and CONBENCH_PROJECT_PR_NUMBER for a pull request"
        )
    lines = [json.dumps(result, allow_nan=False) + "\n" for result in results]
    return Export({"conbench.jsonl": lines} if lines else {}, notes)


def _result(one: Series) -> dict[str, Any] | None:
    at = one.started_at
    if at is None:
        return None
    outcome = _outcome(one)
    if not outcome:
        return None
    row = one.row
    info = {
        "siderostat": one.environment.get("siderostat"), "grade": row.grade, "flags": row.flags,
        "start": row.start, "clock": row.clock, "processes": row.n_processes, "failed_processes": row.n_failed,
        "seconds_per_item": row.seconds_per_item, "seconds_per_item_low": row.seconds_per_item_low,
        "seconds_per_item_high": row.seconds_per_item_high, "items_per_s": row.items_per_s,
        "items_per_s_low": row.items_per_s_low, "items_per_s_high": row.items_per_s_high,
        "joules_per_item": row.joules_per_item, "joules_per_item_u95": row.joules_per_item_u95,
        "energy_provenance": row.energy_provenance, "energy_source": row.energy_source, "peak_bytes": row.peak_bytes,
    }  # fmt: skip
    return {
        "run_id": one.run.label,
        "run_tags": {"name": one.run.label, "grade": row.grade or "not known"},
        "batch_id": f"{one.run.label} {row.workload}",
        "timestamp": at.isoformat(),
        **outcome,
        "tags": _tags(one),
        "context": _known({"benchmark_language": "Python", **_versions(one)}),
        "info": _known(info),
        "cluster_info": _cluster(one),
        **_github(),
    }


def _outcome(one: Series) -> dict[str, Any]:
    """Return the figures; of a case without any its error; nothing where it was never tried or does not apply."""
    row = one.row
    if one.time is not None:
        times = one.seconds_of_processes
        steps = min(b.block_steps * len(b.seconds) for r in one.processes for b in measured_bursts(r))
        rates = [1 / seconds for seconds in times]
        return {"stats": {"data": rates, "unit": "i/s", "times": times, "time_unit": "s", "iterations": steps}}
    if Status(row.status) in FAILURES or row.status == Status.CAPACITY.value:
        return {"error": _known({"status": row.status, "reason": row.reason, "detail": row.detail})}
    return {}


def _tags(one: Series) -> dict[str, str]:
    """Return what makes a case of a benchmark: its settings, its work unit, and where its figures come from."""
    row = one.row
    tags = {**one.settings, "item": row.item, "provenance": row.provenance or ""}
    return {"name": " ".join((row.workload, row.variant, row.mode)), **{k: v for k, v in tags.items() if v}}


def _versions(one: Series) -> dict[str, Any]:
    """Return the versions that figures may depend on, of the process that measured."""
    process = one.row.case.records[0].process
    packages = process.get("packages")
    held = packages if isinstance(packages, dict) else {}
    return {"benchmark_language_version": process.get("python"), **{f"package_{k}": v for k, v in held.items()}}


def _cluster(one: Series) -> dict[str, Any]:
    environment = one.environment
    name = environment.get("host") or "host not known"
    info = _known({name: environment.get(name) for name in _HARDWARE})
    return {"name": str(name), "info": info, "optional_info": _known({"governor": environment.get("governor")})}


def _github() -> dict[str, Any]:
    """Return which commit was measured; nothing where the variables do not say."""
    found = {name: os.environ.get(variable, "") for name, variable in _COMMIT.items()}
    if not all(found.values()):
        return {}
    number = os.environ.get(_PULL_REQUEST, "")
    return {"github": {**found, **({"pr_number": int(number)} if number.isdecimal() else {})}}


def _known(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None and value != ""}
