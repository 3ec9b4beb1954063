"""Records as flat rows: one process, one row, for those who want to see what lies behind an interval."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from siderostat.record import Record, Status
from siderostat.reports.run import RunData, run_names
from siderostat.stats import cases, counted, is_contended, measured_bursts, process_seconds_per_item

COLUMNS = (
    *("key", "workload", "variant", "mode", "framework", "device", "devices", "precision", "size", "batch", "options"),
    *("round", "repeat", "seed", "start", "status", "reason", "detail", "counted", "provenance", "clock"),
    *("item", "items_per_step", "seconds_per_item", "n_samples", "cpu_s_per_wall_s", "contended", "peak_bytes"),
    *("need_bytes", "import_s", "build_s", "compile_s", "first_step_s"),
    *("flags", "pid", "started_at", "ended_at", "log", "environment"),
)


def cpu_per_wall(record: Record) -> float | None:
    """Return processor seconds over wall seconds in the bursts that count; None without processor times."""
    pairs = [p for b in measured_bursts(record) for p in zip(b.cpu_s, b.seconds, strict=False)]
    wall = sum(s for _, s in pairs)
    return sum(c for c, _ in pairs) / wall if wall else None


def process_row(record: Record, is_counted: bool) -> dict[str, Any]:
    """Return one process as column -> value.

    Args:
        record: any record, whatever became of it.
        is_counted: whether the estimate of its case rests on it.
    """
    cell, attempt, process = asdict(record.attempt.cell), record.attempt, record.process
    timed = bool(measured_bursts(record)) and bool(record.items_per_step)
    values: dict[str, Any] = {
        **cell,
        "key": attempt.key(),
        "options": ",".join(f"{k}={v}" for k, v in sorted(cell["options"].items())),
        **{name: getattr(attempt, name) for name in ("round", "repeat", "seed", "start")},
        "status": record.status.value,
        "reason": None if record.reason is None else record.reason.value,
        "counted": is_counted,
        "provenance": None if record.provenance is None else record.provenance.value,
        "seconds_per_item": process_seconds_per_item(record) if timed else None,
        "n_samples": sum(len(b.seconds) for b in measured_bursts(record)),
        "cpu_s_per_wall_s": cpu_per_wall(record),
        "contended": is_contended(record),
        "flags": ",".join(record.flags),
        **{name: process.get(name) for name in ("pid", "started_at", "ended_at", "log")},
    }
    return {name: values[name] if name in values else getattr(record, name) for name in COLUMNS}


def process_rows(records: Iterable[Record]) -> Iterator[dict[str, Any]]:
    """Yield one row for each record of one run, in their order."""
    held = list(records)
    chosen = {id(r) for case in cases(held) for r in counted(case.records)}
    for record in held:
        yield process_row(record, id(record) in chosen)


def all_process_rows(runs: Sequence[RunData]) -> Iterator[dict[str, Any]]:
    """Yield the processes of all runs, the null workload's too; column ``run`` comes first where there are several."""
    names = run_names(runs)
    for run, name in zip(runs, names, strict=True):
        for row in process_rows(run.records):
            yield row if len(runs) == 1 else {"run": name, **row}


def failures(records: Iterable[Record]) -> list[list[Record]]:
    """Return the records that are not ``ok``; those of one cell that ended alike stand together."""
    groups: dict[tuple[str, str, str, str], list[Record]] = {}
    for r in records:
        if r.status is not Status.OK:
            key = (r.attempt.cell.key(), r.status.value, r.reason.value if r.reason else "", r.detail)
            groups.setdefault(key, []).append(r)
    return list(groups.values())
