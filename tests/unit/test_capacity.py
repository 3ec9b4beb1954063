"""The edge of capacity: found in few tries, wherever it is, and read off a sweep that met it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siderostat import capacity
from siderostat.record import Reason, Status
from tests.records import cell, failed, ok


def search(edge: int, first: int) -> dict[int, bool]:
    tried: dict[int, bool] = {}
    while (batch := capacity.next_batch(tried, first)) is not None:
        assert batch not in tried
        tried[batch] = batch <= edge
    return tried


@given(edge=st.integers(1, 1 << 20), first=st.integers(1, 1 << 16))
def test_the_edge_is_found_to_a_sixty_fourth(edge, first):
    tried = search(edge, first)
    fit = max(b for b, good in tried.items() if good)
    refused = min(b for b, good in tried.items() if not good)
    assert fit <= edge < refused <= fit + max(1, fit // 64)
    assert len(tried) < 50


def test_small_edges_are_found_exactly():
    assert {b for b, good in search(14, 8).items() if good} == {8, 12, 14}


def test_where_nothing_fits_the_search_ends_at_one():
    assert search(0, 16) == {16: False, 8: False, 4: False, 2: False, 1: False}


def test_where_nothing_is_refused_the_search_ends_all_the_same():
    assert max(search(1 << 30, 1)) == capacity.MOST


@pytest.mark.parametrize(
    ("record", "verdict"),
    [
        (ok(), True),
        (failed(Status.CAPACITY, Reason.OOM_DEVICE), False),
        (failed(Status.CAPACITY, Reason.OOM_HOST), False),
        (failed(Status.UNSUPPORTED, Reason.COMPILE_FAILED), False),
        (failed(Status.TIMEOUT, Reason.TIMEOUT), False),
        (failed(Status.UNAVAILABLE, Reason.NO_PACKAGE), None),
        (failed(Status.CRASH, Reason.KILLED), None),
        (failed(Status.INVALID, Reason.WRONG_RESULT), None),
    ],
)
def test_what_a_record_says_of_the_edge(record, verdict):
    assert capacity.fits(record) is verdict


class TestEdges:
    def test_a_sweep_that_met_its_edge(self):
        records = [
            ok(of=cell(batch=2)),
            ok(of=cell(batch=4)),
            failed(Status.CAPACITY, Reason.OOM_HOST, of=cell(batch=8)),
        ]
        (edge,) = capacity.edges(records)
        assert edge.fits is records[1] and edge.refused is records[2] and not edge.is_searched

    def test_a_sweep_that_met_none_says_nothing(self):
        assert capacity.edges([ok(of=cell(batch=2)), failed(of=cell(batch=4))]) == []

    def test_series_are_kept_apart(self):
        records = [
            failed(Status.CAPACITY, Reason.OOM_HOST, of=cell(batch=8)),
            ok(of=cell(batch=8, precision="bf16")),
        ]
        assert [e.cell.precision for e in capacity.edges(records)] == ["fp32"]

    def test_a_search_and_a_sweep_speak_of_the_same_series(self):
        records = [ok(of=cell(batch=4)), failed(Status.CAPACITY, Reason.OOM_HOST, of=cell(batch=8, measure="capacity"))]
        (edge,) = capacity.edges(records)
        assert edge.fits is records[0] and edge.refused is records[1] and edge.is_searched


def test_only_larger_batches_of_the_same_series_are_beyond():
    refused = failed(Status.CAPACITY, Reason.OOM_HOST, of=cell(batch=8))
    assert capacity.is_beyond(cell(batch=16), [refused]) is refused
    assert capacity.is_beyond(cell(batch=8), [refused]) is None
    assert capacity.is_beyond(cell(batch=16, precision="bf16"), [refused]) is None
    assert capacity.is_beyond(cell(batch=16), [failed(of=cell(batch=8))]) is None
