"""One pass over a plan: resumption, stopping rules, budgets, repeats, inputs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from siderostat import campaign, plan, stats, store
from siderostat.plan import GRADES, Grade
from siderostat.record import Protocol, Reason, Status
from siderostat.store import OpenRun
from siderostat.supervisor import lost_record
from tests.records import cell, ok

QUICK = Protocol(bursts=2, burst_s=0.01, warmup_s=0.01, timeout_s=30)


class Silent:
    def __init__(self):
        self.seen = []
        self.parts = []

    def inputs(self, workload, done, total):
        self.parts.append((done, total))

    def started(self, group):
        pass

    def finished(self, record):
        self.seen.append(record)


def mock_cell(noise: float = 0.0, **changes):
    return cell(
        **{
            "workload": "null", "variant": "nothing", "mode": "infer", "framework": "numpy", "size": "empty", "batch": 1,
            "device": f"mock:step_s=0.01,process_noise={noise}", **changes,
        }
    )  # fmt: skip


def make(folder: Path, cells, grade: str = "quick", **changes) -> Path:
    groups = [c if isinstance(c, list) else [c] for c in cells]
    made = plan.make(groups, "test", GRADES[grade], 0, QUICK, **changes)
    store.create(folder, made, {})
    return folder


def work(folder: Path, retry: bool = False) -> tuple[Silent, list]:
    with OpenRun(folder) as run:
        observer = Silent()
        campaign.work(run, "env", observer, retry)
        return observer, run.records


def test_every_attempt_gets_its_record_and_a_second_pass_measures_nothing(tmp_path):
    folder = make(tmp_path / "run", [mock_cell()])
    first, records = work(folder)
    assert [r.status for r in records] == [Status.OK] * 3
    assert {r.environment for r in records} == {"env"}
    second, records = work(folder)
    assert (len(first.seen), len(second.seen), len(records)) == (3, 0, 3)


def test_what_is_missing_is_measured_and_nothing_else(tmp_path):
    folder = make(tmp_path / "run", [mock_cell()])
    work(folder)
    journal = folder / "records.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text(lines[0] + lines[2])
    second, _ = work(folder)
    assert [r.attempt.round for r in second.seen] == [1]
    assert journal.read_text().startswith(lines[0] + lines[2])


def test_retry_measures_failures_again_and_they_count(tmp_path):
    folder = make(tmp_path / "run", [mock_cell()])
    work(folder)
    with OpenRun(folder) as run:
        attempt = run.plan.attempts()[0]
        from siderostat.child import Lost

        run.append(lost_record(attempt, Lost(Status.CRASH, Reason.KILLED, "gone")))
    assert not work(folder)[0].seen
    again, records = work(folder, retry=True)
    assert [r.attempt.key() for r in again.seen] == [attempt.key()]
    assert stats.case(records).seconds_per_item.n == 3


def test_publish_stops_when_the_interval_is_narrow(tmp_path, monkeypatch):
    monkeypatch.setitem(GRADES, "publish", dataclasses.replace(GRADES["publish"], start="warm"))
    _, records = work(make(tmp_path / "run", [mock_cell(noise=0.001)], "publish"))
    assert len(records) == 10
    assert not any("converged_false" in r.flags for r in records)


def test_publish_says_when_it_did_not_converge(tmp_path, monkeypatch):
    monkeypatch.setitem(GRADES, "publish", dataclasses.replace(GRADES["publish"], start="warm", most_rounds=12))
    _, records = work(make(tmp_path / "run", [mock_cell(noise=0.5)], "publish"))
    assert len(records) == 12
    assert "converged_false" in records[-1].flags
    assert "converged_false" in stats.case(records).flags


def test_publish_gives_up_on_a_case_that_takes_too_long(tmp_path, monkeypatch):
    monkeypatch.setitem(GRADES, "publish", dataclasses.replace(GRADES["publish"], start="warm", case_s=1e-6))
    _, records = work(make(tmp_path / "run", [mock_cell(noise=0.5)], "publish"))
    assert len(records) == 10
    assert "converged_false" in records[-1].flags


def test_a_budget_that_is_used_up_leaves_the_rest_for_later(tmp_path):
    folder = make(tmp_path / "run", [mock_cell()], budget_s=1e-9)
    _, records = work(folder)
    assert {(r.status, r.reason) for r in records} == {(Status.SKIPPED, Reason.BUDGET)}
    assert len(records) == 3
    _, records = work(folder)
    assert len(records) == 3
    with OpenRun(folder) as run:
        assert not any(run.settled(a) for a in run.plan.attempts())


def test_contended_processes_are_repeated_at_the_end_and_kept(tmp_path, monkeypatch):
    monkeypatch.setitem(GRADES, "ci", Grade("ci", 2, 2, "warm", repeats=2))

    def measure(group, start, rhythm):
        disturbed = group[0].round == 0 and group[0].repeat < 1
        return [dataclasses.replace(ok(flags=["contended"] if disturbed else []), attempt=a) for a in group]

    monkeypatch.setattr(campaign, "measure", measure)
    _, records = work(make(tmp_path / "run", [mock_cell()], "ci"))
    assert [(r.attempt.round, r.attempt.repeat) for r in records] == [(0, 0), (1, 0), (0, 1)]
    assert stats.case(records).flags == ()
    assert len(work(tmp_path / "run")[0].seen) == 0


def test_a_process_is_repeated_twice_at_most(tmp_path, monkeypatch):
    monkeypatch.setitem(GRADES, "ci", Grade("ci", 2, 2, "warm", repeats=2))

    def measure(group, start, rhythm):
        return [dataclasses.replace(ok(flags=["contended"]), attempt=a) for a in group]

    monkeypatch.setattr(campaign, "measure", measure)
    _, records = work(make(tmp_path / "run", [mock_cell()], "ci"))
    assert len(records) == 6
    assert "noisy" in stats.case(records).flags


@pytest.mark.parametrize("name", ["PartsFail", "AllPartsFail"])
def test_inputs_that_cannot_be_made_spoil_their_workload_only(tmp_path, faulty, name):
    bad = mock_cell(workload=faulty(name), variant="only", size="small", device="cpu")
    _, records = work(make(tmp_path / "run", [bad, mock_cell()]))
    by_status = {s: [r for r in records if r.status is s] for s in (Status.OK, Status.UNAVAILABLE)}
    assert (len(by_status[Status.OK]), len(by_status[Status.UNAVAILABLE])) == (3, 3)
    assert "cannot be made: the catalogue has no column 'mag'" in by_status[Status.UNAVAILABLE][0].detail
    assert by_status[Status.UNAVAILABLE][0].reason is Reason.BAD_INPUT


@pytest.mark.parametrize("name", ["Killed", "Raises"])
def test_the_sweep_goes_on_after_a_failure(tmp_path, faulty, name):
    bad = mock_cell(workload=faulty(name), variant="only", size="small", device="cpu")
    _, records = work(make(tmp_path / "run", [bad, mock_cell()]))
    assert sum(r.status is Status.OK for r in records) == 3
    assert len(records) == 6


class TestComparisons:
    def pair(self, noise: float = 0.0):
        return [mock_cell(noise), mock_cell(noise, batch=2)]

    def test_the_records_of_a_group_say_that_they_took_turns(self, tmp_path):
        _, records = work(make(tmp_path / "run", [self.pair()]))
        groups = {}
        for record in records:
            groups.setdefault(record.group, []).append(record.attempt.cell.batch)
        assert "" not in groups
        assert [sorted(batches) for batches in groups.values()] == [[1, 2]] * 3

    def test_what_is_alone_names_no_group(self, tmp_path):
        _, records = work(make(tmp_path / "run", [mock_cell()]))
        assert {r.group for r in records} == {""}

    def test_a_group_that_was_stored_in_part_is_measured_again_whole(self, tmp_path):
        folder = make(tmp_path / "run", [self.pair()])
        work(folder)
        journal = folder / "records.jsonl"
        lines = journal.read_text().splitlines(keepends=True)
        journal.write_text("".join(lines[:-1]))  # as a kill between two pages of one write leaves it
        seen, records = work(folder)
        assert sorted(r.attempt.cell.batch for r in seen.seen) == [1, 2]
        assert len({r.group for r in seen.seen}) == 1
        assert len(records) == 7

    def test_a_contended_group_is_repeated_whole(self, tmp_path, monkeypatch):
        calls = []

        def measure(group, start, known):
            calls.append([a.key() for a in group])
            flags = ["contended"] if len(calls) == 1 else []
            made = [ok(of=a.cell, round=a.round, repeat=a.repeat, flags=flags if a is group[0] else []) for a in group]
            return [dataclasses.replace(r, attempt=a) for r, a in zip(made, group, strict=True)]

        monkeypatch.setattr(campaign, "measure", measure)
        work(make(tmp_path / "run", [self.pair()], "ci"))
        assert len(calls) == 11
        assert calls[-1] == [f"{key}.1" for key in calls[0]]


class TestCapacity:
    def cell(self, largest: int, **changes):
        return mock_cell(device=f"mock:step_s=0.01,largest={largest}", measure="capacity", **changes)

    def test_the_search_doubles_then_closes_in(self, tmp_path):
        _, records = work(make(tmp_path / "run", [self.cell(11, batch=4)]))
        assert [(r.attempt.cell.batch, r.status.value) for r in records] == [
            (4, "ok"), (8, "ok"), (16, "capacity"), (12, "capacity"), (10, "ok"), (11, "ok"),
        ]  # fmt: skip
        assert {r.reason for r in records} == {None, Reason.OOM_DEVICE}

    def test_a_search_that_was_interrupted_goes_on(self, tmp_path):
        folder = make(tmp_path / "run", [self.cell(11, batch=4)])
        work(folder)
        journal = folder / "records.jsonl"
        lines = journal.read_text().splitlines(keepends=True)
        journal.write_text("".join(lines[:3]))
        seen, _ = work(folder)
        assert [r.attempt.cell.batch for r in seen.seen] == [12, 10, 11]

    def test_a_search_that_is_done_is_not_done_again(self, tmp_path):
        folder = make(tmp_path / "run", [self.cell(11, batch=4)])
        work(folder)
        assert work(folder)[0].seen == []

    def test_a_sweep_leaves_out_what_lies_beyond_a_refusal(self, tmp_path):
        cells = [dataclasses.replace(self.cell(4, batch=b), measure="throughput") for b in (2, 4, 8, 16)]
        folder = make(tmp_path / "run", cells)
        _, records = work(folder)
        beyond = [r for r in records if r.reason is Reason.BEYOND_EDGE]
        assert {r.attempt.cell.batch for r in beyond} == {16}
        assert "batch 8 did not fit" in beyond[-1].detail
        assert work(folder)[0].seen == []  # which is settled
