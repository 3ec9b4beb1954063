"""pyperf's JSON, format 1.0 (https://pyperf.readthedocs.io/en/latest/api.html): a suite with a benchmark for each case.

Each process is one run with one value: its median, in seconds per item. All samples of a process would be taken by
``pyperf compare_to`` for independent figures, which they are not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from siderostat.record import Record
from siderostat.reports.exporters import Export
from siderostat.reports.exporters.series import Series, in_one_line, started_at, timed


def export(found: Sequence[Series]) -> Export:
    """Return ``pyperf.json``."""
    held, notes = timed(found, "pyperf")
    if not held:
        return Export({}, notes)
    suite = {"version": "1.0", "metadata": {"unit": "second"}, "benchmarks": [_benchmark(one) for one in held]}
    return Export({"pyperf.json": [json.dumps(suite, allow_nan=False), "\n"]}, notes)


def _benchmark(one: Series) -> dict[str, Any]:
    time = one.time
    assert time is not None
    metadata = {
        "name": one.title,
        "description": f"seconds per {one.row.item or 'item'}, the median of each process",
        **{f"siderostat_{name}": value for name, value in one.settings.items()},
        "siderostat_provenance": one.row.provenance,
        "siderostat_grade": one.row.grade,
        "siderostat_flags": one.row.flags,
        "siderostat_seconds_per_item": time.value,
        "siderostat_seconds_per_item_low": time.low,
        "siderostat_seconds_per_item_high": time.high,
        "siderostat_joules_per_item": one.row.joules_per_item,
        "siderostat_energy_provenance": one.row.energy_provenance,
        **_machine(one.environment),
    }
    times = one.seconds_of_processes
    processes = one.processes[: len(times)]
    runs = [
        {"metadata": _process(record), "values": [seconds]} for record, seconds in zip(processes, times, strict=True)
    ]
    return {"metadata": _plain(metadata), "runs": runs}


def _machine(environment: Mapping[str, Any]) -> dict[str, Any]:
    names = {"cpu": "cpu_model_name", "cores": "cpu_count", "platform": "platform", "host": "hostname"}
    return {theirs: environment.get(ours) for ours, theirs in names.items()}


def _process(record: Record) -> dict[str, Any]:
    at = started_at(record)
    life, memory = record.process.get("seconds"), record.process.get("maxrss_bytes")
    return _plain(
        {
            "date": None if at is None else at.replace(tzinfo=None).isoformat(sep=" "),
            "duration": life if isinstance(life, (int, float)) and life >= 0 else None,
            "mem_max_rss": memory if isinstance(memory, int) and memory >= 1 else None,
            "python_version": record.process.get("python"),
        }
    )


def _plain(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return what pyperf takes as metadata: numbers, and texts of one line that are not empty."""
    held = {in_one_line(k): in_one_line(v) if isinstance(v, str) else v for k, v in metadata.items()}
    return {k: v for k, v in held.items() if v != "" and isinstance(v, (str, int, float))}
