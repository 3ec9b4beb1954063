"""Charts: what is drawn, and that a reader can tell what was measured from what was not."""

from __future__ import annotations

import re
from typing import Any

import pytest

from siderostat import stats
from siderostat.record import Provenance, Reason, Status
from siderostat.reports import published, theme
from siderostat.reports.charts import Chart, charts, svg
from siderostat.reports.rows import Row, ordered, row
from siderostat.reports.tables import published_table
from tests.records import cell, failed, ok

NOISE = (0.97, 1.0, 1.03)


def rows(batches=(2, 4, 8), device="cpu", rate=80.0, provenance=Provenance.MEASURED, **changes) -> list[Row]:
    records = [
        ok(
            [b / rate * noise],
            round=i,
            of=cell(batch=b, device=device),
            items_per_step=b,
            provenance=provenance,
            **changes,
        )
        for b in batches
        for i, noise in enumerate(NOISE)
    ]
    return [row(c) for c in stats.cases(records)]


def drawn(table: list[Row], variant: str = "dnn") -> dict[str, Chart]:
    curves = published.curves("galaxy-shape", variant, "train")
    return {c.name: c for c in charts(ordered(table), curves)}


def points(chart: Chart) -> list[dict[str, Any]]:
    return next(iter(chart.spec["datasets"].values())) if "datasets" in chart.spec else chart.spec["data"]["values"]


def looks(chart: Chart, channel: str) -> dict[str, Any]:
    """What a channel of the marks maps each series to."""
    marks = next(layer for layer in chart.spec["layer"] if layer["mark"]["type"] == "point")
    scale = marks["encoding"][channel]["scale"]
    return dict(zip(scale["domain"], scale["range"], strict=True))


def test_throughput_has_its_intervals():
    chart = drawn(rows())["throughput"]
    at_four = next(p for p in points(chart) if p["batch"] == 4)
    half = 4.302652729911275 * 0.03 / 3**0.5  # t of two degrees of freedom; the logs of the noise are about +-0.03
    assert at_four["value"] == pytest.approx(80, rel=1e-3)
    assert at_four["low"] == pytest.approx(80 * (1 - half), rel=0.01)
    assert at_four["low"] < at_four["value"] < at_four["high"]
    assert {layer["mark"]["type"] for layer in chart.spec["layer"]} == {"line", "rule", "point"}
    assert "95 % intervals over 3 processes" in chart.caption


def test_ticks_stand_at_the_batches_measured():
    chart = drawn(rows())["throughput"]
    axis = chart.spec["layer"][0]["encoding"]["x"]
    assert axis["axis"]["values"] == [2, 4, 8]
    assert axis["title"] == "Batch size"
    assert chart.spec["layer"][0]["encoding"]["y"]["title"] == "Galaxy images per second"


def test_training_time_is_that_of_800_000_images():
    chart = drawn(rows())["published"]
    ours = {p["batch"]: p for p in points(chart) if p["provenance"] == "measured"}
    assert ours[8]["value"] == pytest.approx(800_000 / 80, rel=1e-3)
    assert ours[8]["low"] < ours[8]["value"] < ours[8]["high"]
    assert chart.spec["layer"][0]["encoding"]["y"]["scale"]["type"] == "log"
    assert "Seconds for 100 epochs of 8000 images" in chart.spec["layer"][0]["encoding"]["y"]["title"]


def test_published_points_are_there_and_marked():
    chart = drawn(rows())["published"]
    theirs = [p for p in points(chart) if p["provenance"] == "published"]
    assert {(p["series"], p["batch"], p["value"]) for p in theirs} >= {
        ("Nvidia V100 (published)", 14, 442.94), ("Graphcore GC2 (published)", 2, 189.24),
    }  # fmt: skip
    assert len(theirs) == 12
    assert looks(chart, "shape")["Nvidia V100 (published)"] != looks(chart, "shape")["torch on cpu"] == "circle"
    lines = next(layer for layer in chart.spec["layer"] if layer["mark"]["type"] == "line")
    dashes = lines["encoding"]["strokeDash"]["scale"]["range"]
    assert dashes[0] == [1, 0]
    assert set(map(tuple, dashes[1:])) == {(5, 4)}


def test_published_points_are_of_the_same_variant():
    batches = [p["batch"] for p in points(drawn(rows(), "bnn")["published"]) if p["provenance"] == "published"]
    assert sorted(set(batches)) == [2, 4, 6, 8]
    assert "published" not in drawn(rows(), "other")


@pytest.mark.parametrize("provenance", [Provenance.MODELLED, Provenance.ESTIMATED, Provenance.EMULATED])
def test_what_was_not_measured_has_open_markers(provenance: Provenance):
    table = rows() + rows(device="sim:graphcore-gc2", rate=3000, provenance=provenance)
    for chart in drawn(table).values():
        fill, name = looks(chart, "fill"), f"torch on sim:graphcore-gc2 ({provenance.value})"
        assert fill[name] == "white"
        assert fill["torch on cpu"] == theme.OKABE_ITO[0]
        assert looks(chart, "stroke")[name] == theme.OKABE_ITO[1]


def test_memory_is_drawn_where_it_is_known_and_not_as_zero():
    assert "memory" not in drawn(rows())
    chart = drawn([*rows((2,), peak_bytes=640_000_000), *rows((4,))])["memory"]
    assert [(p["batch"], p["value"]) for p in points(chart)] == [(2, 640.0)]
    assert chart.spec["layer"][0]["encoding"]["y"]["title"] == "Peak memory (MB)"


def test_a_case_without_a_figure_is_named_below_the_chart():
    gone = row(stats.case([failed(Status.CAPACITY, Reason.OOM_HOST, of=cell(batch=64))]))
    chart = drawn([*rows(), gone])["throughput"]
    assert "No figure at batch 64 on cpu (capacity)" in chart.caption
    assert 64 not in {p["batch"] for p in points(chart)}
    assert not drawn([gone])


def test_one_process_has_no_bar_and_the_caption_says_so():
    chart = drawn([row(stats.case([ok([0.1])]))])["throughput"]
    assert [(p["low"], p["high"]) for p in points(chart)] == [(None, None)]
    assert "No intervals: one process per case" in chart.caption


def test_wide_ranges_get_logarithmic_axes():
    encoding = drawn(rows((1, 8, 256)) + rows(device="fast", rate=9000))["throughput"].spec["layer"][0]["encoding"]
    assert encoding["x"]["scale"] == {"type": "log", "base": 2, "nice": False, "padding": 14}
    assert encoding["y"]["scale"]["type"] == "log"
    narrow = drawn(rows())["throughput"].spec["layer"][0]["encoding"]
    assert narrow["y"]["scale"] == {"zero": True}


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(150, 900, [100, 200, 500, 1000]), (100, 100, [50, 100, 200]), (0.3, 4, [0.2, 0.5, 1, 2, 5])],
)
def test_ticks_enclose_the_values(low: float, high: float, ticks: list[float]):
    assert theme.ticks_125(low, high) == ticks


@pytest.mark.parametrize("batches", [(2, 4, 8), (8,), (1, 256)])
def test_drawings_stand_in_a_page_without_a_network(batches: tuple[int, ...]):
    for chart in drawn(rows(batches, peak_bytes=10**9)).values():
        picture = svg(chart, "p1")
        assert picture.startswith("<svg")
        assert "http" not in picture
        assert "NaN" not in picture
        assert all(i.startswith("p1-") for i in re.findall(r'\bid="([^"]*)"', picture))
        assert "Batch size" in picture


def test_names_are_escaped_in_drawings():
    picture = svg(drawn(rows(device="<script>alert(1)</script>"))["throughput"], "p")
    assert "<script" not in picture


def test_the_table_beside_published_times_holds_both():
    table = published_table(rows((2, 14)), published.curves("galaxy-shape", "dnn", "train"))
    assert table.head == ["Batch", "torch on cpu (measured)", "Nvidia V100 (published)", "Graphcore GC2 (published)"]
    by_batch = {r.cells[0]: r.cells[1:] for r in table.rows}
    assert by_batch["14"][1:] == ["443", "187"]
    assert by_batch["14"][0].startswith("10,000 (")
    assert by_batch["4"][0] == "n/a"


def test_published_curves_belong_to_galaxy_shape_training_alone():
    v100, gc2 = published.curves("galaxy-shape", "dnn", "train")
    assert (v100.batches[0], v100.seconds[0], v100.parameters) == (2, 2082.35, 1_517_217)
    assert gc2.seconds[-1] == 186.95
    assert v100.provenance == gc2.provenance == "published"
    assert "Arcelin (2021)" in v100.source
    for key in (("galaxy-shape", "dnn", "infer"), ("galaxy-shape", "cnn", "train"), ("gauge-flow", "dnn", "train")):
        assert published.curves(*key) == []
