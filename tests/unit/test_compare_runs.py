"""Two stored runs beside each other: the ratio, and what else differs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from siderostat.reports import compare
from siderostat.reports.run import RunData
from tests.records import cell, ok

HERE = {"cpu": "A", "cores": 2, "packages": {"torch": "2.1", "numpy": "1.26"}, "memory_bytes": 8e9}


def run(tmp_path, name, seconds, environment=None, block_steps=1, **changes):
    records = [ok([s], i, block_steps=block_steps, environment="e", **changes) for i, s in enumerate(seconds)]
    manifest = {"run": name, "grade": "ci", "environments": {"e": environment or HERE}}
    return RunData(tmp_path / name, manifest, records)


def test_the_second_run_is_compared_with_the_first(tmp_path):
    old, new = run(tmp_path, "old", [0.2, 0.21, 0.2]), run(tmp_path, "new", [0.1, 0.1, 0.105])
    (ratio,) = (c.ratio for c in compare.compared(old, new).compared)
    assert ratio.estimate.value == pytest.approx(2.0, rel=0.01)
    assert not ratio.is_paired
    assert compare.differences(old, new) == []


def test_whatever_differs_is_named_before_the_figures(tmp_path):
    there = {**HERE, "cpu": "B", "packages": {"torch": "2.2", "numpy": "1.26"}, "memory_bytes": 16e9}
    old, new = run(tmp_path, "old", [0.2] * 3), run(tmp_path, "new", [0.1] * 3, there, block_steps=4)
    found = {d.what: (d.first, d.second) for d in compare.differences(old, new)}
    label = cell().label()
    assert found == {
        "cpu": ("A", "B"), "packages: torch": ("2.1", "2.2"), "memory": ("8.00 GB", "16.0 GB"),
        f"{label}: steps per block": ("1", "4"),
    }  # fmt: skip
    assert compare.section(old, new).parts[0].table is not None


def test_hostile_words_reach_no_page_as_markup(tmp_path):
    bad = "<script>alert(1)</script>"
    old = run(tmp_path, bad, [0.2, 0.21])
    new = run(tmp_path, "new", [0.1, 0.11], {**HERE, "cpu": bad})
    assert "<script>alert" not in compare.texts(old, new)["compare.html"]


def test_runs_without_a_common_case_say_so(tmp_path):
    other = run(tmp_path, "new", [0.1], of=cell(workload="gauge-flow"))
    assert "nothing to compare" in compare.section(run(tmp_path, "old", [0.2]), other).headlines[0]


def test_a_record_of_another_environment_does_not_hide_that_of_most(tmp_path):
    old = run(tmp_path, "old", [0.2] * 3)
    new = run(tmp_path, "new", [0.2] * 3)
    new.records[0] = replace(new.records[0], environment="f")
    new.manifest["environments"]["f"] = {**HERE, "cpu": "C"}
    assert compare.differences(old, new) == []
