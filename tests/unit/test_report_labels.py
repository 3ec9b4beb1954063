"""Figures and names as people read them."""

from __future__ import annotations

import pytest

from siderostat.reports import labels
from siderostat.reports.environment import text
from siderostat.reports.rows import row
from siderostat.stats import Estimate, case
from tests.records import cell, ok


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0"), (0.012345, "0.0123"), (1.0, "1.00"), (9.996, "10.0"), (52.7, "52.7"), (231.4, "231"),
        (999.6, "1,000"), (12345.0, "12,300"), (-3.14159, "-3.14"),
    ],
)  # fmt: skip
def test_three_significant_digits(value: float, shown: str):
    assert labels.number(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "n/a"), (0.0, "0 s"), (12.3e-3, "12.3 ms"), (1.9e-6, "1.90 µs"), (0.9999, "1.00 s"), (4e-9, "4.00 ns"),
     (0.9996e-3, "1.00 ms"), (3e-13, "0.000300 ns"), (7200.0, "7,200 s")],
)  # fmt: skip
def test_seconds(value: float | None, shown: str):
    assert labels.seconds(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "n/a"), (0, "0 B"), (999, "999 B"), (1_520_000_000, "1.52 GB"), (640_000_000, "640 MB"), (2e12, "2.00 TB")],
)
def test_memory_in_si_units(value: float | None, shown: str):
    assert labels.bytes_(value) == shown


def test_interval():
    assert labels.interval(Estimate(52.7, 51.0, 54.4, 5)) == "52.7 (51.0 to 54.4)"
    assert labels.seconds_interval(Estimate(12.3e-3, 11.9e-3, 12.8e-3, 3)) == "12.3 (11.9 to 12.8) ms"


def test_an_interval_too_narrow_for_three_digits_gets_more():
    assert labels.interval(Estimate(231.2, 231.0, 231.4, 10)) == "231.2 (231.0 to 231.4)"
    assert labels.interval(Estimate(231.2, 231.2, 231.2, 10)) == "231 (231 to 231)"


def test_one_process_has_no_interval_and_says_so():
    alone = Estimate(0.0123, None, None, 1)
    assert labels.seconds_interval(alone) == "12.3 ms (no interval: 1 process)"
    assert labels.seconds_interval(alone, say_none=False) == "12.3 ms"
    assert labels.interval(None) == labels.seconds_interval(None) == "n/a"


@pytest.mark.parametrize(
    ("one", "many"),
    [("galaxy image", "galaxy images"), ("process", "processes"), ("galaxy", "galaxies"), ("day", "days")],
)
def test_plurals(one: str, many: str):
    assert labels.plural(one) == many
    assert labels.count(1, one) == f"1 {one}"
    assert labels.count(2, one) == f"2 {many}"


def test_headings():
    assert labels.set_title(("galaxy-shape", "dnn", "train")) == "Galaxy shape, dnn, train"
    assert labels.set_title(("/home/me/my_own-net.py:Net", "v", "")) == "/home/me/my_own-net.py:Net, v"


def test_series_are_named_by_what_differs():
    alone = [row(case([ok()]))]
    assert labels.series(alone) == ["torch on cpu"]
    table = [row(case([ok(of=c)])) for c in (cell(), cell(precision="bf16", size="small", options={"images": 64}))]
    assert labels.series(table) == ["torch on cpu, fp32, size paper", "torch on cpu, bf16, size small, images=64"]


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("memory_bytes", 8_200_000_000, "8.20 GB"), ("governor", None, "n/a"), ("dirty", False, "no"),
        ("packages", {"torch": "2.13"}, "torch 2.13"), ("variables", {"OMP_NUM_THREADS": "2"}, "OMP_NUM_THREADS 2"),
        ("wait_s", 0.25, "250 ms"), ("hosts", ["a", "b"], "a, b"), ("hosts", [], "none"), ("cores", 2, "2"),
    ],
)  # fmt: skip
def test_whatever_a_manifest_holds_is_shown(name: str, value: object, shown: str):
    assert text(name, value) == shown
