"""Comparisons in a report: what the sentences say, and that no figure stands without what it is worth."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from siderostat import reports, stats
from siderostat.record import Provenance, Reason, Record, Status
from siderostat.reports import comparisons, ratios, sentences, theme
from siderostat.reports.charts import svg
from siderostat.reports.document import document, headlines
from siderostat.reports.run import RunData
from tests.records import cell, failed, lockstep, metered, ok

ONE, TWO = cell(device="cpu:threads=1", batch=8), cell(device="cpu:threads=2", batch=8)
NOISE = (0.99, 1.0, 1.02, 0.98, 1.01, 1.0, 0.99, 1.0, 1.02, 0.99)


def run(*records: Record, grade: str = "ci", name: str = "a") -> RunData:
    return RunData(Path("x"), {"run": name, "grade": grade}, list(records))


def paired(factor: float = 1.83, n: int = 10, sides=(ONE, TWO), **changes) -> list[Record]:
    pairs = [lockstep([(sides[0], [0.1 * factor * f]), (sides[1], [0.1])], i) for i, f in enumerate(NOISE[:n])]
    return [replace(r, **changes) for pair in pairs for r in pair]


def said(*runs: RunData) -> list[str]:
    section = ratios.section(runs)
    return section.headlines if section else []


def table(*runs: RunData) -> list[dict[str, str]]:
    """The first table, row by row."""
    held = next(p.table for p in ratios.section(runs).parts if p.table)
    return [dict(zip(held.head, r.cells, strict=True)) for r in held.rows]


def test_the_headline_says_who_ran_how_many_times_as_many_of_what_and_on_what_evidence():
    assert said(run(*paired())) == [
        "Galaxy shape, dnn, train: torch on cpu:threads=2 ran 1.83 (1.81 to 1.85) times as many galaxy images per second "
        "as torch on cpu:threads=1, at batch 8 (10 pairs, lock-step)."
    ]


def test_no_difference_is_said_to_be_none_with_what_would_have_shown():
    (text,) = said(run(*paired(1.0)))
    assert "No difference was found between torch on cpu:threads=2 and torch on cpu:threads=1 in galaxy images" in text
    logs = stats.log_mean([math.log(f) for f in NOISE])
    assert f"one of {100 * math.expm1(2.8 * logs.error):.1f} % or more would probably have shown" in text
    assert " ran " not in text


def test_one_pair_is_no_interval_and_quick_is_indicative():
    (text,) = said(run(*paired(n=1), grade="quick"))
    assert "ran 1.81 times as many" in text
    assert "(1 pair, lock-step, no interval, indicative)" in text
    assert table(run(*paired(n=3), grade="quick"))[0]["Notes"] == "indicative"


def test_flags_and_provenance_stand_in_sentence_and_table():
    slow, fast = paired()[::2], paired()[1::2]
    modelled = [replace(r, provenance=Provenance.MODELLED, clock="model") for r in fast]
    (text,) = said(run(*slow, *modelled))
    assert "torch on cpu:threads=2 (modelled) ran" in text
    assert "(10 pairs, lock-step, modelled; flagged clocks_differ)" in text
    (row,) = table(run(*slow, *modelled))
    assert (row["Provenance"], row["Notes"]) == ("modelled", "clocks_differ")
    unsteady = [replace(r, flags=["warmup_unstable"]) for r in slow]
    assert "flagged warmup_unstable" in said(run(*unsteady, *fast))[0]
    notes = [note for part in ratios.section([run(*unsteady, *fast)]).parts for note in part.notes]
    assert notes == ["warmup_unstable: times had not settled when the warm-up reached its limit"]


def test_a_side_without_a_figure_is_named_with_the_reason_and_its_batches_stand_together():
    def gone(batch: int) -> Record:
        of = cell(device="cuda", batch=batch)
        return failed(Status.CAPACITY, Reason.OOM_DEVICE, of=of, reference=replace(ONE, batch=batch).key())

    large = [ok([1.6], of=replace(ONE, batch=16), reference=replace(ONE, batch=16).key(), items_per_step=16)]
    (part,) = ratios.section([run(*paired(), *large, gone(8), gone(16))]).parts
    assert part.sentences[-1] == (
        "No ratio of torch on cuda to torch on cpu:threads=1 at batch 8, 16: torch on cuda has no figure, capacity "
        "(oom_device): does not fit in memory; a result, not a fault."
    )
    assert [r.cells[0] for r in part.table.rows] == ["torch on cpu:threads=2"] * 2  # at batch 8, and best


def test_where_nothing_has_a_ratio_there_is_a_section_that_says_why():
    records = [failed(of=c, reference=ONE.key()) for c in (ONE, TWO)]
    section = ratios.section([run(*records)])
    assert section.headlines == []
    (text,) = section.parts[0].sentences
    assert "torch on cpu:threads=1 has no figure, crash (killed)" in text
    assert "torch on cpu:threads=2 has no figure, crash (killed)" in text
    assert section.parts[0].table is None
    assert list(section.parts[0].charts()) == []


def test_without_comparisons_there_is_no_section():
    assert ratios.section([run(ok(of=ONE), ok(of=TWO))]) is None
    assert ratios.section([run()]) is None


def test_each_side_at_its_best_batch_is_said_where_it_is_not_the_largest_matched_one():
    small, large = [replace(c, batch=2) for c in (ONE, TWO)], (ONE, TWO)
    records = paired(5.0, sides=small)
    both = said(run(*records, *paired(sides=large)))
    assert len(both) == 1  # batch 8 is best on either side, and the largest
    slow_large = [
        replace(r, bursts=[replace(b, seconds=[100 * x for x in b.seconds]) for b in r.bursts])
        for r in paired(sides=large)
    ]
    first, second = said(run(*records, *slow_large))
    assert "at batch 8 (10 pairs" in first
    assert "each at its best batch, 2 (10 pairs, lock-step)" in second
    assert [r["Batch"] for r in table(run(*records, *slow_large))] == ["2", "8", "best: 2"]


def test_sides_are_named_by_what_differs():
    bnn = (ONE, replace(ONE, variant="bnn"))
    assert "bnn, torch on cpu:threads=1 ran 1.83" in said(run(*paired(sides=bnn)))[0]
    options = (ONE, replace(ONE, options={"fused": True}))
    assert "torch on cpu:threads=1, fused=True ran 1.83" in said(run(*paired(sides=options)))[0]


def test_the_mean_over_tasks_says_what_its_interval_does_not_cover():
    infer = [replace(c, mode="infer") for c in (ONE, TWO)]
    section = ratios.section([run(*paired(2.0), *paired(8.0, sides=infer))])
    assert section.headlines[-1].startswith("Over 2 tasks, torch on cpu:threads=2 ran 4.0")
    assert section.headlines[-1].endswith("(geometric mean; 2.00 to 8.00 by task).")
    assert "not the choice of tasks" in section.parts[-1].notes[0]
    assert section.parts[-1].table.rows[0].cells[3:7] == ["2.00", "8.00", "2", "measured"]


def test_runs_are_compared_unpaired_and_named():
    here = run(*(ok([0.2 * f], i, of=ONE) for i, f in enumerate(NOISE)), name="old")
    there = run(*(ok([0.1 * f], i, of=ONE) for i, f in enumerate(NOISE[:9])), name="new")
    (text,) = said(here, there)
    assert text.startswith("new against old: Galaxy shape, dnn, train: torch on cpu:threads=1, run new ran 2.00 (")
    assert text.endswith("as torch on cpu:threads=1, run old, at batch 8 (9 and 10 processes, unpaired).")


def test_the_chart_has_a_line_at_one_on_a_logarithmic_axis_and_open_markers_for_what_is_modelled():
    slow, fast = paired()[::2], paired()[1::2]
    (part,) = ratios.section([run(*slow, *(replace(r, provenance=Provenance.MODELLED) for r in fast))]).parts
    (chart,) = part.charts()
    layers = chart.spec["layer"]
    line = layers[-1]
    assert chart.spec["datasets"][line["data"]["name"]] == [{"value": 1.0}]
    scale = layers[0]["encoding"]["y"]["scale"]
    assert scale["type"] == "log"
    assert scale["domain"][0] < 1 < 1.85 < scale["domain"][1]
    marks = next(layer for layer in layers if layer["mark"]["type"] == "point")
    assert marks["encoding"]["fill"]["scale"]["range"] == ["white"]
    picture = svg(chart, "r0")
    assert "NaN" not in picture
    assert picture.count(">Times as many galaxy images per second<") == 1  # the line at 1 adds no title of its own


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (1.0, 1.0, [0.99, 1.0, 1.01]), (1.79, 1.88, [0.8, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0]),
        (0.97, 1.02, [0.96, 0.97, 0.98, 0.99, 1.0, 1.01, 1.02, 1.03]), (3, 7, [0.5, 1, 2, 5, 10]),
    ],
)  # fmt: skip
def test_ticks_of_ratios_enclose_them_and_hold_one(low: float, high: float, ticks: list[float]):
    assert theme.ratio_ticks(low, high) == ticks


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> dict[str, str]:
    infer = [replace(c, mode="infer") for c in (ONE, TWO)]
    gone = failed(Status.CAPACITY, Reason.OOM_DEVICE, of=cell(device="cuda", batch=8), reference=ONE.key())
    paths = reports.write([run(*paired(), *paired(8.0, sides=infer), gone)], tmp_path_factory.mktemp("report"))
    return {name: path.read_text() for name, path in paths.items()}


def test_every_form_of_the_report_has_it(written):
    for name in ("report.html", "report.md"):
        assert "torch on cpu:threads=2 ran 1.83 (1.81 to 1.85) times as many galaxy images per second" in written[name]
        assert "No ratio of torch on cuda to torch on cpu:threads=1 at batch 8" in written[name]
        assert "unpaired: the sides were measured" in written[name].replace("*", "").replace("</dt><dd>", ": ")
    assert written["report.html"].count("<h4>Speed ratios</h4>") == 2


def test_the_files_hold_all_figures(written):
    rows = list(csv.DictReader(io.StringIO(written["ratios.csv"])))
    assert list(rows[0]) == list(comparisons.COLUMNS)
    assert [r["kind"] for r in rows] == ["matched", "matched", "mean"]
    first, _, mean = rows
    assert float(first["ratio"]) == pytest.approx(1.83, rel=0.001)
    assert float(first["ratio_low"]) < float(first["ratio"]) < float(first["ratio_high"])
    assert (first["device"], first["reference_device"], first["n_pairs"]) == ("cpu:threads=2", "cpu:threads=1", "10")
    assert (first["is_paired"], first["provenance"], first["energy_ratio"]) == ("True", "measured", "")
    assert (mean["mode"], mean["workload"], mean["n_tasks"]) == ("", "galaxy-shape", "2")
    data = json.loads(written["report.json"])
    assert [r["ratio"] for r in data["ratios"]] == [float(r["ratio"]) for r in rows]
    assert data["runs"][0]["drift"] is None


def test_a_run_without_comparisons_has_an_empty_table(tmp_path):
    paths = reports.write([run(ok())], tmp_path)
    assert paths["ratios.csv"].read_text() == ",".join(comparisons.COLUMNS) + "\n"
    assert json.loads(paths["report.json"].read_text())["ratios"] == []


def test_the_same_energy_is_compared_where_both_sides_were_metered():
    def with_energy(joules: float, of) -> list[Record]:
        made = [metered([joules * f for f in NOISE], i, of=of) for i in range(3)]
        return [replace(r, attempt=replace(r.attempt, reference=ONE.key()), group=f"g{r.attempt.round}") for r in made]

    records = [*with_energy(120.0, ONE), *with_energy(40.0, TWO)]
    (row,) = table(run(*records))
    assert row["Times as many galaxy images for the same energy"].startswith("3.0")
    (flat,) = comparisons.flat_rows([run(*records)])
    assert flat["energy_ratio_low"] < 3 < flat["energy_ratio_high"]


def drifting(change: float) -> list[Record]:
    made = []
    for i, f in enumerate(NOISE):
        seconds = 0.1 * f * math.exp(math.log1p(change) * i / 9)
        made.append(ok([seconds], i, of=ONE, process={"started_at": f"2026-11-22T10:{i:02d}:00.000Z"}))
    return made


def test_a_drift_is_told_of_where_the_figures_are_read():
    drifted = run(*drifting(0.3))
    note = sentences.drifted(drifted)
    assert note.startswith("Times grew by 3")
    assert "over the 9 min of measuring" in note
    assert "measured in lock-step are not affected" in note
    assert document([drifted]).notes == [note]
    assert headlines(drifted)[-1] == note
    assert sentences.drifted(run(*drifting(-0.3))).startswith("Times fell by 3")


def test_no_drift_is_no_note():
    assert sentences.notes(run(*drifting(0.0))) == []
    assert sentences.notes(run(ok())) == []
