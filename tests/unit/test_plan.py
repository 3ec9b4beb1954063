"""The plan: shuffled within a round, rounds outside, and the same for the same seed."""

from __future__ import annotations

import dataclasses

import pytest

from siderostat import plan
from siderostat.errors import NewerSchema
from siderostat.plan import GRADES, Plan
from siderostat.record import Protocol
from tests.records import cell

CELLS = [cell(batch=b) for b in (2, 4, 8, 10, 12, 14)]


def made(grade: str = "quick", seed: int = 0, **changes) -> Plan:
    return plan.make([[c] for c in CELLS], "test", GRADES[grade], seed, Protocol(**changes))


def test_each_round_holds_every_cell_once():
    attempts = made("ci").attempts()
    for number in range(10):
        batches = [a.cell.batch for a in attempts[6 * number : 6 * number + 6]]
        assert sorted(batches) == [2, 4, 8, 10, 12, 14]
        assert {a.round for a in attempts[6 * number : 6 * number + 6]} == {number}


def test_the_order_is_shuffled_anew_in_each_round():
    attempts = made("ci").attempts()
    orders = {tuple(a.cell.batch for a in attempts[6 * n : 6 * n + 6]) for n in range(10)}
    assert len(orders) > 5


def test_the_same_seed_gives_the_same_plan_and_another_another():
    assert made().to_json() == made().to_json()
    assert made(seed=1).to_json() != made().to_json()


def test_a_plan_survives_its_json():
    assert Plan.from_json(made().to_json(), "plan.json").to_json() == made().to_json()


def test_publish_starts_cold_and_quick_warm():
    assert {a.start for a in made("publish").attempts()} == {"cold"}
    assert {a.start for a in made("quick").attempts()} == {"warm"}


def test_a_device_with_its_own_interpreter_starts_cold():
    made = plan.make([[c] for c in CELLS], "test", GRADES["quick"], 0, Protocol(), pythons={"cpu": "/opt/python"})
    assert {a.start for a in made.attempts()} == {"cold"}


def test_the_same_work_whatever_memory_is_free():
    assert made(memory_bytes=10**9).same_work(made(memory_bytes=2 * 10**9))
    assert not made(timeout_s=5).same_work(made())
    assert not made("ci").same_work(made())


def test_a_newer_plan_is_refused():
    text = made().to_json().replace('"schema": 1', '"schema": 7')
    with pytest.raises(NewerSchema, match="plan.json has schema 7"):
        Plan.from_json(text, "plan.json")


def test_a_repeat_has_a_key_of_its_own():
    attempt = made().attempts()[0]
    assert dataclasses.replace(attempt, repeat=1).key() == attempt.key() + ".1"


class TestComparisons:
    GROUPS = [[cell(device="cpu:threads=1"), cell(device="cpu:threads=2")], [cell(batch=8)]]

    def plan(self, **changes):
        return plan.make(self.GROUPS, "test", GRADES["quick"], 0, Protocol(**changes))

    def test_the_cells_of_a_comparison_stay_together_in_every_round(self):
        assert sorted(len(group) for group in self.plan().groups) == [1, 1, 1, 2, 2, 2]

    def test_each_names_the_reference_and_what_is_alone_names_none(self):
        reference = self.GROUPS[0][0].key()
        for group in self.plan().groups:
            assert {a.reference for a in group} == ({reference} if len(group) == 2 else {None})

    def test_memory_is_shared_out_among_those_that_are_alive_together(self):
        shares = {len(g): {a.protocol.memory_bytes for a in g} for g in self.plan(memory_bytes=1000).groups}
        assert shares == {2: {500}, 1: {1000}}


def test_capacity_is_looked_for_once_and_last():
    cells = [[cell(measure="capacity", batch=16)], *([c] for c in CELLS)]
    made = plan.make(cells, "test", GRADES["quick"], 0, Protocol())
    places = [i for i, a in enumerate(made.attempts()) if a.cell.measure == "capacity"]
    assert places == [len(CELLS)]  # at the end of the first round
