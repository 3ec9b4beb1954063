"""The edge of capacity in the report: in words, in a table, and drawn."""

from __future__ import annotations

from pathlib import Path

from siderostat.record import Reason, Status
from siderostat.reports import capacity
from siderostat.reports.charts import svg
from siderostat.reports.run import RunData
from tests.records import cell, failed, ok


def run(*records) -> RunData:
    return RunData(Path("run"), {"run": "night"}, list(records))


def refused(batch: int, reason: Reason = Reason.OOM_DEVICE, **changes):
    return failed(
        Status.CAPACITY, reason, of=cell(batch=batch, measure="capacity"), need_bytes=2_000_000_000, **changes
    )


def fits(batch: int, peak: int = 1_500_000_000):
    return ok(of=cell(batch=batch, measure="capacity"), peak_bytes=peak)


def test_the_sentence_says_what_fits_what_does_not_and_why():
    section = capacity.section([run(fits(12), refused(16), refused(14))])
    assert section is not None
    assert section.headlines == [
        "Galaxy shape, dnn, train, torch on cpu, fp32: a batch of 12 fits (peak memory 1.50 GB), one of 14 does not "
        "(oom_device: the device's memory is used up)."
    ]


def test_the_table_says_how_the_edge_was_found():
    met = run(ok(of=cell(batch=2)), failed(Status.CAPACITY, Reason.OOM_HOST, of=cell(batch=4)))
    for made, how in ((run(fits(12), refused(14)), "searched"), (met, "met in the sweep")):
        section = capacity.section([made])
        assert section is not None and section.parts[0].table is not None
        (row,) = section.parts[0].table.rows
        assert how in row.cells


def test_the_edge_is_drawn_between_what_ran_and_what_was_refused():
    section = capacity.section([run(fits(8, 10**9), fits(12), refused(14))])
    assert section is not None
    (chart,) = section.parts[1].charts()
    drawn = svg(chart, "x")
    assert "14 refused" in drawn and "Peak memory (GB)" in drawn


def test_where_nothing_fits_there_is_a_sentence_and_no_chart():
    section = capacity.section([run(refused(1))])
    assert section is not None and len(section.parts) == 1
    assert "not even a batch of 1 fits" in section.headlines[0]


def test_a_run_that_met_no_edge_has_no_such_section():
    assert capacity.section([run(ok(), failed())]) is None


def test_a_search_that_met_no_edge_says_so():
    section = capacity.section([run(fits(8))])
    assert section is not None
    assert section.headlines[0].endswith("a batch of 8 fits (peak memory 1.50 GB); none was refused.")


def test_several_runs_are_named():
    section = capacity.section([run(fits(12), refused(14)), run(fits(6), refused(7))])
    assert section is not None and section.parts[0].table is not None
    assert [row.cells[0].split(":")[0] for row in section.parts[0].table.rows] == ["night", "night (2)"]
