"""Results of airspeed velocity (https://asv.readthedocs.io, results version 2): asv shows them without measuring again.

Names, parameters and version are those of :mod:`siderostat.asv_names`, which a suite that asv runs by itself shares.
Figures are seconds per item: the geometric mean over processes, their medians as asv's samples, so that its tests take
for independent what is, and Student's 99 % interval over them. What a simulated device says has neither.
"""

from __future__ import annotations

import functools
import json
import math
import re
import statistics
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from siderostat import asv_names
from siderostat.errors import BadValue
from siderostat.record import Record, Status
from siderostat.reports.exporters import Export
from siderostat.reports.exporters.series import Series, started_at
from siderostat.reports.run import RunData
from siderostat.stats import Case, cases, counted, geometric_mean, process_seconds_per_item

ENVIRONMENT = "siderostat"
"""asv's name of the environment. It is not the interpreter's path: results of one commit belong together."""

_CONFIDENCE = 0.99  # that of asv's intervals
_POINTWISE = (
    "result", "stats_ci_99_a", "stats_ci_99_b", "stats_q_25", "stats_q_75", "stats_number", "stats_repeat", "samples",
)  # fmt: skip
_COLUMNS = (
    "result", "params", "version", "started_at", "duration", "stats_ci_99_a", "stats_ci_99_b", "stats_q_25",
    "stats_q_75", "stats_number", "stats_repeat", "samples",
)  # fmt: skip
_NOT_APPLICABLE = (Status.CAPACITY, Status.UNSUPPORTED, Status.UNAVAILABLE, Status.SKIPPED)
_PLATFORM = re.compile(r"(?P<system>[^-]+)-(?P<release>.+)-(?P<arch>[^-]+)-with-")

_Point = tuple[str, ...]
_Figures = dict[str, Any]  # column of _POINTWISE -> value


@dataclass
class _Benchmark:
    """Figures by the values of the benchmark's parameters, as texts."""

    points: dict[_Point, _Figures] = field(default_factory=dict)
    started_at_ms: int | None = None
    duration_s: float | None = None


@dataclass
class _Place:
    """What was measured on one machine of one commit."""

    machine: dict[str, str]
    python: str
    benchmarks: dict[str, _Benchmark] = field(default_factory=lambda: defaultdict(_Benchmark))


@dataclass(frozen=True)
class _Commit:
    hash: str
    date_ms: int


def export(
    found: Sequence[Series], output: Path | None = None, commits: Sequence[str] = (), machine: str | None = None
) -> Export:
    """Return ``benchmarks.json`` and, for each machine, its description and a file for each commit.

    Args:
        found: the series; those of the null workload of the same runs are added.
        output: asv's folder of results; what is there already stays, but for the figures that are given anew.
        commits: ``HASH``, or ``SIDE=HASH`` for the sides of a gate, in place of what runs and gates say.
        machine: asv's name of the machine; None: the host as the run names it.

    Raises:
        BadValue: if the commit that was measured is not known, or not in the repository of the current folder.
    """
    folder = output or Path()
    places = _places(found, folder, _named_commits(commits), machine)
    listed = _read(folder / "benchmarks.json")
    files: dict[str, dict[str, Any]] = {}
    for (name, commit), place in places.items():
        path = f"{name}/{commit.hash[:8]}-{ENVIRONMENT}.json"
        files[f"{name}/machine.json"] = {**place.machine, "version": 1}
        files[path] = {
            "commit_hash": commit.hash, "date": commit.date_ms, "env_name": ENVIRONMENT, "env_vars": {},
            "requirements": {}, "params": {**place.machine, "python": place.python}, "python": place.python,
            "durations": {}, "version": 2, "result_columns": list(_COLUMNS),
            "results": _results(_read(folder / path), place.benchmarks),
        }  # fmt: skip
        for benchmark, about in place.benchmarks.items():
            listed[benchmark] = _listed(listed.get(benchmark), benchmark, about)
    if files:
        files["benchmarks.json"] = {**listed, "version": 2}
    return Export({path: [json.dumps(data, indent=1), "\n"] for path, data in files.items()})


def _places(
    found: Sequence[Series], folder: Path, named: Mapping[str, str], machine: str | None
) -> dict[tuple[str, _Commit], _Place]:
    """Return what was measured by machine and commit; of a cell that several runs have, the last run's figures."""
    places: dict[tuple[str, _Commit], _Place] = {}
    for run in {id(one.run): one.run for one in found}.values():
        held: dict[tuple[str, _Commit], list[Record]] = defaultdict(list)
        for record in _timed(run):
            environment = run.environment(record)
            name = machine or str(environment.get("host") or "unknown")
            at = name, _commit(record, run, named)
            if at not in places:
                python = ".".join(str(environment.get("python") or "").split(".")[:2])
                places[at] = _Place(_machine(folder, name, environment), python)
            held[at].append(record)
        for at, records in held.items():
            for case in cases(records):
                _add(places[at].benchmarks[asv_names.benchmark(case.cell)], case)
    return places


def _timed(run: RunData) -> list[Record]:
    return [record for case in [*run.cases, *run.overheads] for record in case.records]


def _add(benchmark: _Benchmark, case: Case) -> None:
    """Add one cell's figures."""
    benchmark.points[tuple(asv_names.texts(asv_names.point(case.cell)))] = _figures(case)
    starts = [round(1000 * at.timestamp()) for r in case.records if (at := started_at(r)) is not None]
    starts += [] if benchmark.started_at_ms is None else [benchmark.started_at_ms]
    benchmark.started_at_ms = min(starts, default=None)
    benchmark.duration_s = (benchmark.duration_s or 0.0) + sum(r.process.get("seconds", 0.0) for r in case.records)


def _figures(case: Case) -> _Figures:
    """Return what asv holds of one cell: no result is a failure, NaN means that it does not apply."""
    if case.seconds_per_item is None:
        last = case.records[-1].status
        return {"result": math.nan if last in _NOT_APPLICABLE else None}
    ok = counted(case.records)
    if any(r.model.get("seconds_per_step") for r in ok):
        return {"result": case.seconds_per_item.value}
    samples = [process_seconds_per_item(r) for r in ok]
    interval = geometric_mean(samples, _CONFIDENCE)
    q25, _, q75 = statistics.quantiles(samples, n=4, method="inclusive") if len(samples) > 1 else samples * 3
    return {
        "result": case.seconds_per_item.value,
        "stats_ci_99_a": -math.inf if interval.low is None else interval.low,  # as asv has it of a single sample
        "stats_ci_99_b": math.inf if interval.high is None else interval.high,
        "stats_q_25": q25,
        "stats_q_75": q75,
        "stats_number": 1,
        "stats_repeat": len(samples),
        "samples": samples,
    }


def _results(old: Mapping[str, Any], benchmarks: Mapping[str, _Benchmark]) -> dict[str, list[Any]]:
    """Return the rows of a file of results: the old ones with the new figures in them."""
    columns = old.get("result_columns", [])
    rows = {name: dict(zip(columns, row, strict=False)) for name, row in old.get("results", {}).items()}
    for name, benchmark in benchmarks.items():
        row = rows.get(name, {})
        points = {**_points(row), **benchmark.points} if row.get("version") == asv_names.VERSION else benchmark.points
        axes = _axes(points)
        laid = [points.get(point, {"result": math.nan}) for point in asv_names.combinations(axes)]
        rows[name] = {
            **{column: _column([one.get(column) for one in laid]) for column in _POINTWISE},
            "params": axes,
            "version": asv_names.VERSION,
            "started_at": benchmark.started_at_ms,
            "duration": benchmark.duration_s,
        }
    return {name: [row.get(column) for column in _COLUMNS] for name, row in rows.items()}


def _points(row: Mapping[str, Any]) -> dict[_Point, _Figures]:
    """Return the figures of a row by the values of the parameters."""
    points = asv_names.combinations(row["params"])
    columns = {name: row.get(name) or [None] * len(points) for name in _POINTWISE}
    return {point: {name: values[i] for name, values in columns.items()} for i, point in enumerate(points)}


def _column(values: list[Any]) -> list[Any] | None:
    return None if all(value is None for value in values) else values


def _axes(points: Iterable[_Point]) -> list[list[str]]:
    """Return the values of each parameter, as texts; whole numbers by size, others in order of appearance."""
    axes = [list(dict.fromkeys(axis)) for axis in zip(*points, strict=True)]
    return [sorted(axis, key=int) if all(text.isdigit() for text in axis) else axis for axis in axes]


def _listed(old: Mapping[str, Any] | None, name: str, benchmark: _Benchmark) -> dict[str, Any]:
    """Return what ``benchmarks.json`` says of a benchmark, with the values of parameters that it says already."""
    names = list(asv_names.PARAMETERS)
    points = list(benchmark.points)
    if old is not None and old.get("version") == asv_names.VERSION and old.get("param_names") == names:
        points = [*asv_names.combinations(old["params"]), *points]
    else:
        old = {"code": "# seconds per item, measured by siderostat", "type": "time", "unit": "seconds", "number": 1}
    return {**old, "name": name, "param_names": names, "params": _axes(points), "version": asv_names.VERSION}


def _machine(folder: Path, name: str, environment: Mapping[str, Any]) -> dict[str, str]:
    """Return what asv says of a machine: what it said before, so that its lines go on; else in its own words."""
    known = _read(folder / name / "machine.json")
    if known:
        return {key: str(value) for key, value in known.items() if key != "version"}
    found = _PLATFORM.match(str(environment.get("platform") or ""))
    return {
        "machine": name,
        "os": f"{found['system']} {found['release']}" if found else str(environment.get("platform") or ""),
        "arch": found["arch"] if found else "",
        "cpu": str(environment.get("cpu") or ""),
        "num_cpu": str(environment.get("cores") or ""),
        "ram": str(environment.get("memory_bytes") or ""),
    }


def _named_commits(commits: Sequence[str]) -> dict[str, str]:
    """Return the commit by the side that it is of; the key is empty for what is no side of a gate."""
    named = {}
    for text in commits:
        side, equals, commit = text.rpartition("=")
        if not commit or (equals and not side):
            raise BadValue(f"--commit {text!r} names no commit; write HASH, or SIDE=HASH as in base=1a2b3c4d")
        named[side] = commit
    return named


def _commit(record: Record, run: RunData, named: Mapping[str, str]) -> _Commit:
    """Return the commit that a record is of."""
    side = record.attempt.cell.code
    if side in named:
        return _looked_up(named[side], run)
    measured = run.measured(record)
    if not measured.commit:
        what, how = (side, f"{side}=HASH") if side else ("it measured", "HASH")
        raise BadValue(f"{run.folder} does not say which commit {what}{' is' if side else ''}; say so: --commit {how}")
    if measured.is_changed:
        raise BadValue(
            f"{run.folder} measured code that was not committed, on top of {measured.commit[:8]}; measure "
            "the commit itself, or say which one the figures are to stand for: --commit HASH"
        )
    return _looked_up(measured.commit, run)


def _looked_up(name: str, run: RunData) -> _Commit:
    """Return a commit as the repository here has it: asv leaves out, without a word, what it does not know."""
    commit = _in_repository(name, Path.cwd())
    if commit is None:
        raise BadValue(
            f"{run.folder} was measured of commit {name[:10]}, which the repository of {Path.cwd()} does not have; "
            "go to the repository that asv.conf.json is in, fetch the commit, or name another with --commit"
        )
    return commit


@functools.lru_cache(maxsize=64)
def _in_repository(name: str, folder: Path) -> _Commit | None:
    words = ["git", "-C", str(folder), "log", "-1", "--format=%H %at", "--end-of-options", f"{name}^{{commit}}"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise BadValue("results of asv are by commit, and git is not installed") from None
    if done.returncode:
        return None
    full, seconds = done.stdout.split()
    return _Commit(full, 1000 * int(seconds))


def _read(path: Path) -> dict[str, Any]:
    """Return what one of asv's files says; empty where there is none.

    Raises:
        BadValue: if it cannot be read.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (ValueError, OSError) as error:
        raise BadValue(f"{path} is there and cannot be read ({error}); mend or remove it") from None
    if not isinstance(data, dict):
        raise BadValue(f"{path} is there and is none of asv's files; mend or remove it")
    return data
