"""``siderostat trace``: what it prints, what it writes, what it refuses."""

from __future__ import annotations

import csv
import io
import json
import sys

import pytest

from siderostat import cli, tracing
from siderostat.devices.sim.opgraph import Op, OpGraph, TensorSpec
from siderostat.errors import BadValue
from siderostat.record import Cell
from siderostat.reports import trace as page
from siderostat.tracing import Roof, Trace


def spec(number, *shape):
    return TensorSpec(number, shape, "float32", 4)


def example() -> Trace:
    """A product, and two times the same element-wise operation, one of which is worth next to nothing."""
    ops = [
        Op("mm", "matmul", "forward", 2000.0, (spec(0, 10, 10), spec(1, 10, 10)), (spec(2, 10, 10),), {"m": 10}),
        Op("relu", "elementwise", "forward", 100.0, (spec(2, 10, 10),), (spec(3, 10, 10),)),
        Op("relu", "elementwise", "forward", 0.01, (spec(3, 1),), (spec(4, 1),)),
        Op("clone", "copy", "forward", 0.0, (spec(4, 1),), (spec(5, 1),)),
    ]
    sizes = {0: 400, 1: 400, 2: 400, 3: 400, 4: 4, 5: 4}
    graph = OpGraph("torch", ops, 400, 0, 400, 0, frozenset({1}), 5, 100, sizes, frozenset({5}))
    return Trace(Cell("net", "plain", "infer", "torch", "cpu", 5, "tiny"), graph, "vector", {"torch": "2.0"}, 0.1)


def test_operations_of_one_name_are_put_together_and_the_most_work_comes_first():
    rows = example().by_operation()
    assert [(r.name, r.count, r.flops, r.bytes) for r in rows] == [
        ("mm", 1, 2000.0, 1200),
        ("relu", 2, 100.01, 808),
        ("clone", 1, 0.0, 8),
    ]
    assert rows[0].intensity == pytest.approx(2000 / 1200)
    assert sum(r.share for r in rows) == pytest.approx(1)


def test_totals_are_per_item_too():
    totals = example().totals()
    assert totals["flops_per_item"] == totals["flops"] / 5
    assert (totals["operations"], totals["moved_bytes"], totals["parameters"]) == (4, 2016, 100)
    assert totals["live_bytes"] == 800


def test_a_table_says_what_it_leaves_out():
    table = page.operation_table(example(), 1)
    assert len(table.rows) == 1
    assert table.caption == "2 further rows with 4.76 % of the work"
    assert page.operation_table(example()).caption == ""


def test_a_roof_is_the_peak_or_the_bandwidth():
    roof = Roof("chip", "Chip", 1000.0, 10.0, "memory")
    product, elementwise, _ = example().by_operation()
    assert roof.ridge == 100
    assert page.least_s(product, roof) == pytest.approx(120)
    assert page.least_s(product, Roof("chip", "Chip", 1000.0, 1e6, "memory")) == pytest.approx(2)
    assert page.least_s(elementwise, roof) == pytest.approx(80.8)


def test_chips_that_come_along_have_roofs_and_others_are_named():
    found = {roof.name: roof for roof in tracing.roofs([])}
    assert found["nvidia-h100"].between == "memory"
    assert found["graphcore-gc2"].between == "tiles"
    assert all(1 < roof.ridge < 100 for roof in found.values())
    with pytest.raises(BadValue, match="did you mean graphcore-gc2"):
        tracing.roofs(["graphcore-gc3"])


def test_a_page_its_text_and_every_operation_are_written():
    texts = page.texts(example(), tracing.roofs(["nvidia-h100", "graphcore-gc2"]))
    assert set(texts) == {"trace.html", "trace.md", "trace.csv"}
    assert "<svg" in texts["trace.html"]
    assert "NVIDIA H100" in texts["trace.md"]
    rows = list(csv.DictReader(io.StringIO(texts["trace.csv"])))
    assert [row["name"] for row in rows] == ["mm", "relu", "relu", "clone"]
    assert rows[0]["inputs"] == "float32[10x10] float32[10x10]"
    assert rows[0]["attributes"] == "m=10"


def test_points_that_lie_close_share_a_label(monkeypatch):
    roofs = tracing.roofs(["nvidia-h100"])
    assert [p["label"] for p in page._points(example(), roofs)] == ["elementwise", "whole step", "matmul"]
    monkeypatch.setattr(page, "_APART", 2.0)  # in place of 1.4; the ratio of the last two is 1.6
    assert [p["label"] for p in page._points(example(), roofs)] == ["elementwise", "", "whole step, matmul"]


def test_a_step_is_traced_in_a_process_of_its_own(net, tmp_path, capsys):
    had_torch = "torch" in sys.modules
    assert cli.main(["trace", net, "--batch", "3", "-o", str(tmp_path / "out")]) == 0
    told = capsys.readouterr()
    assert "work per vector: 80.0 FLOP" in told.out
    assert "addmm" in told.out
    assert ("torch" in sys.modules) == had_torch
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["trace.csv", "trace.html", "trace.md"]


def test_json_holds_the_graph(net, capsys):
    assert cli.main(["trace", net, "--json", "-b", "2"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["totals"]["flops"] == 2 * 2 * 8 * 5
    assert OpGraph.from_dict(data["graph"]).ops[0].name == "addmm"
    assert (data["batch"], data["variant"], data["size"]) == (2, "plain", "tiny")


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["galaxy-shap"], 2, "did you mean 'galaxy-shape'"),
        (["NET", "--mode", "infers"], 2, "did you mean 'infer'"),
        (["NET", "--set", "x"], 2, "write NAME=VALUE"),
        (["NET", "-b", "0"], 2, "at least one item"),
        (["NET", "--chip", "gpu"], 2, "no chip is called 'gpu'"),
        (["NET", "--mode", "guess"], 4, "depends on values"),
        (["NET", "--framework", "numpy"], 4, "only torch and tensorflow tell what they compute"),
    ],
)
def test_what_cannot_be_traced_is_said_in_a_sentence(net, capsys, words, code, text):
    assert cli.main(["trace", *(net if word == "NET" else word for word in words)]) == code
    told = capsys.readouterr().err
    assert text in told
    assert "log is" not in told
    assert told.count("\n") == 1
