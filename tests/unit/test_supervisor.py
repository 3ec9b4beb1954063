"""Measuring with real processes: every attempt ends in a record, and a lost child costs only its own."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time

import pytest

from siderostat import child, stats, supervisor
from siderostat.child import Child, ForkServer, Lost
from siderostat.record import Attempt, Code, Protocol, Reason, Status
from siderostat.workshop import Workshop
from tests.processes import all_end, is_running
from tests.records import cell

QUICK = Protocol(bursts=4, burst_s=0.02, warmup_s=0.05, timeout_s=20)
MOCK = {
    "device": "mock:step_s=0.005",
    "workload": "null",
    "variant": "nothing",
    "mode": "infer",
    "framework": "numpy",
    "size": "empty",
}


def attempt(workload: str, start: str = "warm", **protocol) -> Attempt:
    asked = cell(workload=workload, variant="only", mode="infer", framework="numpy", size="small", batch=1)
    return Attempt(asked, 0, 0, start, dataclasses.replace(QUICK, **protocol))


def mock(device: str = "mock:step_s=0.005", start: str = "warm") -> Attempt:
    return Attempt(cell(**{**MOCK, "device": device, "batch": 1}), 0, 0, start, QUICK)


@pytest.fixture(params=["warm", "cold"])
def start(request) -> str:
    return request.param


@pytest.fixture
def workshop(tmp_path):
    with Workshop(tmp_path, {}) as made:
        yield made


def measure(workshop, *group):
    return supervisor.measure(group, workshop.start, lambda attempt: None)


def test_a_device_that_takes_the_time_it_is_told_is_measured_exactly(workshop, start):
    (record,) = measure(workshop, mock(start=start))
    assert record.status is Status.OK
    assert stats.process_seconds_per_item(record) == pytest.approx(0.005, rel=1e-9)
    assert record.provenance.value == "modelled"
    assert len(stats.measured_bursts(record)) == 4
    assert all(b.block_steps == 4 for b in stats.measured_bursts(record))
    assert record.attempt.start == record.process["start"] == start


def test_revisions_are_forked_from_a_new_server_in_each_round(tmp_path):
    """So that where one server's memory lies is not taken for a change of the code."""

    def servers(code: str) -> list[ForkServer]:
        asked = [
            dataclasses.replace(mock(), cell=dataclasses.replace(mock().cell, code=code), round=n) for n in (0, 0, 1)
        ]
        with Workshop(tmp_path, {}, {"head": Code()}) as made:
            return [made._server(attempt) for attempt in asked]

    first, same, other = servers("head")
    assert first is same is not other
    assert len(set(map(id, servers("")))) == 1


def null(device: str, round: int = 0) -> Attempt:
    return Attempt(cell(**{**MOCK, "device": device, "batch": 1}), round, 0, "warm", QUICK)


def test_single_threads_that_are_compared_share_a_processor(workshop, monkeypatch):
    bound = []
    bind = os.sched_setaffinity
    monkeypatch.setattr(os, "sched_setaffinity", lambda pid, cpus: bound.append((pid, cpus)) or bind(pid, cpus))
    records = measure(workshop, null("cpu:threads=1"), null("cpu:threads=1,heap=kept"))
    assert [(r.process["pid"], {r.process["processor"]}) for r in records] == bound
    assert len({r.process["processor"] for r in records}) == 1


@pytest.mark.parametrize("group", [[], ["cpu:threads=1"], ["cpu:threads=1", "cpu"], ["mock:step_s=0.005"] * 2])
def test_others_run_where_the_kernel_puts_them(workshop, group):
    assert {r.process["processor"] for r in measure(workshop, *(null(device) for device in group))} <= {None}


def test_rounds_take_turns_on_the_processors_there_are(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5})
    pair = [[null("cpu:threads=1", n), null("cpu:threads=1,heap=kept", n)] for n in range(20)]
    assert {supervisor._common_processor(group) for group in pair} == {3, 5}


def test_a_processor_that_may_not_be_bound_to_costs_no_measurement(workshop, monkeypatch):
    def refuse(pid, cpus):
        raise PermissionError("not allowed")

    monkeypatch.setattr(os, "sched_setaffinity", refuse)
    records = measure(workshop, null("cpu:threads=1"), null("cpu:threads=1,heap=kept"))
    assert [(r.status, r.process["processor"]) for r in records] == [(Status.OK, None)] * 2


@pytest.mark.parametrize(
    ("name", "status", "reason", "words"),
    [
        ("Killed", Status.CRASH, Reason.KILLED, "ended by SIGKILL during 'prepare'"),
        ("Exits", Status.CRASH, Reason.EXITED, "left with exit status 7"),
        ("Raises", Status.ERROR, Reason.EXCEPTION, "ZeroDivisionError: a step divides by zero"),
        ("Wrong", Status.INVALID, Reason.WRONG_RESULT, "the sum is off by 3"),
        ("NotFinite", Status.INVALID, Reason.WRONG_RESULT, "figure loss is nan"),
        ("NeedsPackage", Status.UNAVAILABLE, Reason.NO_PACKAGE, "a_package_that_is_not_there is not installed"),
        ("NoInput", Status.UNAVAILABLE, Reason.BAD_INPUT, "the file is empty; make it again"),
    ],
)
def test_every_failure_is_a_record_with_a_reason_and_a_sentence(workshop, faulty, start, name, status, reason, words):
    (record,) = measure(workshop, attempt(faulty(name), start))
    assert (record.status, record.reason) == (status, reason)
    assert words in record.detail
    assert "\n" not in record.detail


def test_a_worker_that_allocates_until_it_dies_is_a_result_and_takes_nobody_along(workshop, faulty, start):
    (record,) = measure(workshop, attempt(faulty("EatsMemory"), start, memory_bytes=1_500_000_000))
    assert (record.status, record.reason) == (Status.CAPACITY, Reason.OOM_HOST)


def test_a_worker_that_hangs_is_ended(workshop, faulty, start):
    began = time.monotonic()
    (record,) = measure(workshop, attempt(faulty("Hangs"), start, timeout_s=3))
    assert (record.status, record.reason) == (Status.TIMEOUT, Reason.TIMEOUT)
    assert time.monotonic() - began < 15
    assert not is_running(record.process["pid"])


def test_a_worker_that_closes_its_socket_and_stays_is_ended(workshop, faulty, monkeypatch):
    monkeypatch.setattr(child, "_LEAVE_S", 0.5)
    (record,) = measure(workshop, attempt(faulty("ClosesItsSocketAndStays")))
    assert (record.status, record.reason) == (Status.CRASH, Reason.KILLED)
    assert not is_running(record.process["pid"])


def test_the_log_of_an_earlier_try_is_not_taken_for_this_ones(workshop, faulty, tmp_path):
    gone = attempt(faulty("Exits"))
    (tmp_path / f"{gone.key()}.log").write_text("MemoryError\n")
    (record,) = measure(workshop, gone)
    assert (record.status, record.reason) == (Status.CRASH, Reason.EXITED)


def test_what_was_measured_before_a_worker_died_is_kept(workshop, faulty):
    (record,) = measure(workshop, attempt(faulty("DiesLate"), bursts=400))
    assert record.status is Status.CRASH
    assert record.bursts


def test_times_that_never_get_steady_are_flagged(workshop, faulty):
    (record,) = measure(workshop, attempt(faulty("Unsteady"), warmup_limit_s=0.5))
    assert record.status is Status.OK
    assert "warmup_unstable" in record.flags


def test_a_lost_child_costs_only_its_own(workshop, faulty):
    well, killed = measure(workshop, attempt(faulty("Well")), attempt(faulty("Killed")))
    assert (well.status, killed.status) == (Status.OK, Status.CRASH)
    assert len(stats.measured_bursts(well)) == 4


def test_a_group_shares_its_block_and_takes_turns(workshop):
    fast, slow = measure(workshop, mock("mock:step_s=0.001"), mock("mock:step_s=0.005"))
    blocks = {b.block_steps for r in (fast, slow) for b in stats.measured_bursts(r)}
    assert blocks == {32}
    assert [b.turn for b in stats.measured_bursts(fast)] == [0, 1, 2, 3]


def test_a_known_rhythm_is_kept(workshop):
    (record,) = supervisor.measure([mock()], workshop.start, lambda attempt: supervisor.Rhythm(2, 7))
    assert {(b.block_steps, len(b.seconds)) for b in stats.measured_bursts(record)} == {(2, 7)}


def test_nothing_of_a_worker_stays(workshop):
    (record,) = measure(workshop, mock())
    assert not is_running(record.process["pid"])


def test_a_fork_server_that_was_killed_is_started_again(workshop):
    measure(workshop, mock())
    os.kill(workshop._servers["numpy", ""][1]._popen.pid, 9)
    time.sleep(0.2)
    (record,) = measure(workshop, mock())
    assert record.status is Status.OK


def test_an_interpreter_that_is_not_there(tmp_path):
    with Workshop(tmp_path, {"mock": "/nowhere/python"}) as workshop:
        (record,) = measure(workshop, mock(start="cold"))
    assert (record.status, record.reason) == (Status.UNAVAILABLE, Reason.NO_DEVICE)
    assert "there is no interpreter /nowhere/python" in record.detail


def test_a_worker_dies_with_its_driver(tmp_path, faulty):
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom siderostat.child import Child, ForkServer\n"
        "folder = Path(sys.argv[1])\nserver = ForkServer(['numpy'], folder / 'server.log')\n"
        "children = [Child(folder / 'a.log'), Child(folder / 'b.log', server=server)]\n"
        "print(*[c.process.pid for c in children], server._popen.pid, flush=True)\ntime.sleep(60)\n"
    )
    driver = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    pids = list(map(int, driver.stdout.readline().split()))
    assert all(map(is_running, pids))
    driver.kill()
    driver.wait()
    assert all_end(pids)


def test_an_answer_that_does_not_come_is_a_timeout(tmp_path):
    slow = Child(tmp_path / "log")
    try:
        with pytest.raises(Lost, match=r"no answer to 'prepare' within 0.01 s \(--timeout\)"):
            slow.ask({"do": "prepare", "attempt": dataclasses.asdict(mock())}, 0.01)
    finally:
        slow.end()


def train(workshop, faulty, name: str, measure: str, mode: str = "train"):
    asked = cell(
        workload=faulty(name), variant="only", mode=mode, framework="numpy", size="small", batch=2, measure=measure
    )
    return supervisor.train(Attempt(asked, 0, 0, "warm", QUICK), workshop.start)


def test_a_training_uses_up_its_budget_and_is_looked_at_once(workshop, faulty):
    record = train(workshop, faulty, "Learns", "quality")
    (look,) = record.quality.looks
    # 40 items are 20 steps, the first of them before the clock; looking does not train.
    assert (look.items, look.figures) == (40, {"error": 1 / 21, "steps": 20})
    assert look.seconds == pytest.approx(sum(s for b in stats.measured_bursts(record) for s in b.seconds))
    assert [b.block_steps for b in record.bursts] == [3, 3, 3, 3, 3, 3, 1]
    assert record.quality.pairs == {"x": [[0.0, 1.0], [0.5, 0.75]]}
    assert record.quality.pictures["shades"]["shape"] == [3, 2, 2, 3]


def test_the_time_to_quality_ends_at_the_first_look_that_meets_the_target(workshop, faulty):
    record = train(workshop, faulty, "Learns", "time-to-quality")
    assert [look.items for look in record.quality.looks] == [2, 8, 14, 20]
    assert record.quality.reached == record.quality.looks[-1]
    assert record.status is Status.OK
    assert stats.time_to_quality([record]).value == pytest.approx(record.quality.looks[-1].seconds)


def test_a_target_that_is_not_met_within_the_budget_is_a_result(workshop, faulty):
    record = train(workshop, faulty, "LearnsNotEnough", "time-to-quality")
    assert record.status is Status.OK
    assert record.quality.looks[-1].items == 40
    assert record.quality.reached is None
    assert stats.time_to_quality([record]) is None


def test_what_does_not_learn_is_judged_as_it_is(workshop, faulty):
    record = train(workshop, faulty, "Learns", "quality", mode="sample")
    assert [(look.items, look.seconds) for look in record.quality.looks] == [(0, 0.0)]
    assert not stats.measured_bursts(record)


def test_a_training_that_dies_keeps_what_was_seen_of_it(workshop, faulty):
    record = train(workshop, faulty, "DiesLearning", "time-to-quality")
    assert (record.status, record.reason) == (Status.CRASH, Reason.KILLED)
    assert [look.items for look in record.quality.looks] == [2, 8, 14]


def test_a_figure_that_is_not_finite_is_no_figure(workshop, faulty):
    record = train(workshop, faulty, "LearnsNonsense", "quality")
    assert (record.status, record.reason) == (Status.INVALID, Reason.WRONG_RESULT)
    assert not record.quality.looks
