"""Tables: the figures in them are those of the formula, and what is not known stays not known."""

from __future__ import annotations

import io
import json
import math
import statistics
from pathlib import Path

import pandas as pd
import pytest
from scipy.stats import t as student

from siderostat import reports, stats
from siderostat.record import Provenance, Reason, Status
from siderostat.reports import csv, frame
from siderostat.reports.run import RunData
from tests.records import burst, cell, failed, ok

PROCESSES = (0.40, 0.44, 0.42)  # seconds per step of four images


def three_processes(**changes):
    return [ok([s * 0.9, s, s * 1.1], round=i, **changes) for i, s in enumerate(PROCESSES)]


def only_row(records, **arguments) -> pd.Series:
    table = frame.frame(stats.cases(records), **arguments)
    assert len(table) == 1
    return table.iloc[0]


def test_time_and_interval_are_those_of_the_formula():
    logs = [math.log(s / 4) for s in PROCESSES]
    half = student.ppf(0.975, 2) * statistics.stdev(logs) / math.sqrt(3)
    found = only_row(three_processes())
    assert found.seconds_per_item == pytest.approx(math.exp(statistics.fmean(logs)), rel=1e-12)
    assert found.seconds_per_item_low == pytest.approx(math.exp(statistics.fmean(logs) - half), rel=1e-12)
    assert found.seconds_per_item_high == pytest.approx(math.exp(statistics.fmean(logs) + half), rel=1e-12)
    assert found.n_processes == 3


def test_throughput_is_the_inverse_with_the_inverted_interval():
    found = only_row(three_processes())
    assert found.items_per_s == 1 / found.seconds_per_item
    assert found.items_per_s_low == 1 / found.seconds_per_item_high
    assert found.items_per_s_high == 1 / found.seconds_per_item_low


def test_memory_is_the_largest_and_start_up_the_median():
    extra = [{"peak_bytes": b, "compile_s": c} for b, c in ((7, 1.0), (9, None), (8, 3.0))]
    records = [ok([0.4], round=i, **e) for i, e in enumerate(extra)]
    found = only_row(records)
    assert found.peak_bytes == 9
    assert found.compile_s == 2.0
    assert pd.isna(found.build_s)


def test_one_process_has_a_figure_and_no_interval():
    found = only_row([ok([0.4])])
    assert found.seconds_per_item == pytest.approx(0.1)
    assert pd.isna(found.seconds_per_item_low)
    assert pd.isna(found.items_per_s_high)


def test_what_is_not_known_is_missing_never_zero():
    found = only_row([failed(Status.CAPACITY, Reason.OOM_HOST, need_bytes=10**10)])
    for name in ("seconds_per_item", "items_per_s", "peak_bytes", "import_s", "provenance", "clock"):
        assert pd.isna(found[name]), name
    assert (found.status, found.reason, found.detail) == ("capacity", "oom_host", "it went wrong")
    assert (found.n_processes, found.n_failed, found.need_bytes) == (0, 1, 10**10)


def test_a_case_that_succeeded_once_is_ok_and_counts_its_failures():
    found = only_row([ok([0.4]), failed(round=1)])
    assert (found.status, found.n_processes, found.n_failed) == ("ok", 1, 1)
    assert pd.isna(found.reason)
    assert found.provenance == "measured"


def test_the_least_direct_provenance_wins():
    records = [ok([0.4]), ok([0.4], round=1, provenance=Provenance.MODELLED)]
    assert only_row(records).provenance == "modelled"


def test_grade_run_flags_and_options_have_columns():
    records = three_processes(of=cell(options={"images": 64}), flags=["contended", "warmup_unstable"])
    found = only_row(records, grade="quick", run="monday")
    assert (found.run, found.grade, found.option_images) == ("monday", "quick", 64)
    assert found["flags"] == "noisy,warmup_unstable"
    assert found.n_contended == 3
    assert "run" not in frame.frame(stats.cases(records)).columns


def test_rows_are_sorted_however_they_were_measured():
    records = [ok([0.4], of=cell(batch=b)) for b in (14, 2, 8)]
    assert list(frame.frame(stats.cases(records)).batch) == [2, 8, 14]


def test_processes_have_a_row_each():
    slow = ok([0.5], flags=["contended"], process={"pid": 7, "started_at": "2026-11-22T03:50:00Z", "log": "logs/x.log"})
    again = ok(
        [0.4, 0.6, 0.4], repeat=1, block_steps=2, bursts=[burst([9.0], turn=-1), burst([0.8, 1.2], block_steps=2)]
    )
    table = frame.records_frame([slow, again, failed(round=1)])
    assert list(table.key) == [slow.attempt.key(), again.attempt.key(), failed(round=1).attempt.key()]
    assert list(table.seconds_per_item[:2]) == pytest.approx([0.125, 0.125])  # warm-up does not count
    assert pd.isna(table.seconds_per_item[2])
    assert list(table.counted) == [False, True, False]
    assert list(table.contended) == [True, False, False]
    assert (table.pid[0], table.log[0], table.reason[2]) == (7, "logs/x.log", "killed")
    assert table.cpu_s_per_wall_s[0] == 1.0
    assert pd.isna(table.cpu_s_per_wall_s[2])


def test_empty_tables():
    assert frame.frame([]).empty
    assert list(frame.records_frame([]).columns)[:2] == ["key", "workload"]


def a_run(records, **manifest) -> RunData:
    return RunData(Path("a"), {"run": "a", "grade": "ci", **manifest}, records)


def test_csv_is_the_frame_at_full_precision():
    run = a_run([*three_processes(peak_bytes=2**53 + 1), failed(of=cell(batch=64))])
    read = pd.read_csv(io.StringIO(csv.cases([run])), dtype={"peak_bytes": "Int64"})
    held = frame.frame(run.cases, grade="ci")
    assert list(read.columns) == list(held.columns)
    assert list(read.seconds_per_item)[:1] == list(held.seconds_per_item)[:1]
    assert read.peak_bytes[0] == 2**53 + 1
    assert pd.isna(read.seconds_per_item[1])


def test_records_csv_is_the_frame_of_processes():
    run = a_run(three_processes())
    read = pd.read_csv(io.StringIO(csv.processes([run])))
    held = frame.records_frame(run.records)
    assert list(read.columns) == list(held.columns)
    assert list(read.seconds_per_item) == list(held.seconds_per_item)


def test_json_has_null_where_nothing_is_known_and_no_nan(tmp_path: Path):
    null = cell(workload="null", variant="nothing", mode="infer", framework="numpy", batch=1)
    overhead = [ok([2e-6], round=i, of=null, items_per_step=1, item="step") for i in range(3)]
    run = a_run([*overhead, *three_processes(), failed(of=cell(batch=64))], odd=float("nan"))
    written = reports.write([run], tmp_path)["report.json"].read_text()
    assert "NaN" not in written
    data = json.loads(written)
    assert data["schema"] == 1
    assert data["null_seconds_per_step"] == pytest.approx(2e-6)
    assert [c["workload"] for c in data["cases"]] == ["galaxy-shape"] * 2
    assert data["cases"][1]["seconds_per_item"] is None
    assert data["runs"][0]["manifest"]["odd"] is None
    assert {c["provenance"] for c in data["published"]} == {"published"}
