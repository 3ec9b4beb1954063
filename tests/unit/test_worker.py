"""The worker: what happens inside the measured process, without a process."""

from __future__ import annotations

import dataclasses
import json
import statistics

import numpy as np
import pytest

from siderostat import worker
from siderostat.devices.base import DeviceAdapter, OutOfCapacity, Program, Window
from siderostat.devices.energy import Meters
from siderostat.record import Attempt, Protocol, Reason
from siderostat.workloads.base import BadInput, Feed
from tests.records import cell


class Scripted(Program):
    """Takes what a function says for the n-th step; its clock is its own."""

    def __init__(self, step_s):
        self.step_s = step_s
        self.steps = 0
        self.calls = []

    def run(self, steps):
        seconds = sum(self.step_s(self.steps + i) for i in range(steps)) if steps else 1e-7
        self.steps += steps
        self.calls.append(steps)
        return Window(steps, seconds, seconds)

    def outputs(self):
        return []


class Device(DeviceAdapter):
    def describe(self):
        return {}

    def compile(self, step, precision):
        raise AssertionError


def bench(step_s, **protocol) -> worker.Bench:
    made = object.__new__(worker.Bench)
    made.attempt = Attempt(cell(), 0, 0, protocol=Protocol(**protocol))
    made.device = Device("", {})
    made._program = Scripted(step_s)
    made._meters, made._is_metered = Meters([]), False
    return made


def test_warm_up_takes_its_steps_and_its_time():
    answer = bench(lambda n: 0.1)._warm_up()
    assert answer["steady"]
    assert len(answer["warmup"]["seconds"]) == 10  # two windows of five
    assert answer["block_steps"] == 1


def test_warm_up_goes_on_until_times_are_steady():
    answer = bench(lambda n: 0.1 if n >= 30 else 0.3 - 0.006 * n)._warm_up()
    assert answer["steady"]
    assert sum(answer["warmup"]["block_steps"]) >= 35
    assert answer["step_s"] == pytest.approx(0.1)


def test_warm_up_that_never_gets_steady_ends_and_says_so():
    answer = bench(lambda n: 0.05 * 1.03**n)._warm_up()
    assert not answer["steady"]
    assert sum(answer["warmup"]["seconds"]) < 31 + 10


@pytest.mark.parametrize(
    ("step_s", "steps"), [(0.05, 1), (0.02, 1), (0.019, 2), (0.005, 4), (0.001, 32), (2e-6, 16384)]
)
def test_the_block_is_the_smallest_power_of_two_that_lasts_long_enough(step_s, steps):
    assert bench(lambda n: step_s)._warm_up()["block_steps"] == steps


def test_the_block_lasts_a_thousand_times_what_timing_nothing_takes():
    made = bench(lambda n: 1e-3)
    run = made._program.run
    made._program.run = lambda steps: run(steps) if steps else Window(0, 1e-4, 1e-4)
    assert made._warm_up()["block_steps"] == 128  # 0.1 s rather than 0.02 s


def test_blocks_grow_so_that_a_tiny_step_is_not_stored_a_million_times():
    answer = bench(lambda n: 1e-7)._warm_up()
    assert len(answer["warmup"]["seconds"]) < 100


def test_a_burst_times_the_blocks_it_is_told():
    made = bench(lambda n: 0.01)
    answer = made.burst(block_steps=4, samples=3, pids=[])
    assert answer["seconds"] == pytest.approx([0.04] * 3)
    assert made._program.calls == [4, 4, 4]
    assert answer["load"]["wall_s"] > 0


def test_steps_that_lead_in_are_run_and_not_timed():
    made = bench(lambda n: 0.1, lead_s=0.5)
    answer = made.burst(block_steps=2, samples=1, pids=[])
    assert made._program.calls == [2, 2, 2, 2]
    assert answer["seconds"] == pytest.approx([0.2])


def test_a_device_that_holds_its_clock_down_is_waited_for(monkeypatch):
    naps = []
    monkeypatch.setattr(worker.time, "sleep", naps.append)
    made = bench(lambda n: 0.01)
    hot = iter([True, True, False])
    made.device.is_throttled = lambda: next(hot)
    answer = made.burst(1, 1, [])
    assert len(naps) == 2 and answer["load"]["cooled"] == 2 and answer["flags"] == []
    made.device.is_throttled = lambda: True
    assert made.burst(1, 1, [])["flags"] == ["throttled"]


def test_another_process_on_the_device_is_contention():
    made = bench(lambda n: 0.01)
    made.device.other_pids = lambda ours: [4711]
    assert "contended" in made.burst(1, 1, [])["flags"]


def words(error):
    return worker._last_words(error, Device("", {}))


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (BadInput("no column"), "unavailable", "bad_input"),
        (ModuleNotFoundError("No module named 'galsim'", name="galsim"), "unavailable", "no_package"),
        (MemoryError(), "capacity", "oom_host"),
        (OutOfCapacity("too big", Reason.OOM_DEVICE, 12), "capacity", "oom_device"),
        (ValueError("what"), "error", "exception"),
    ],
)
def test_each_failure_has_its_word(error, status, reason):
    answer = words(error)
    assert (answer["status"], answer["reason"]) == (status, reason)
    assert "\n" not in answer["detail"]


def test_a_session_ends_with_its_first_failure(faulty):
    attempt = Attempt(
        cell(workload=faulty("Wrong"), variant="only", mode="infer", framework="numpy", size="small"), 0, 0
    )
    request = json.dumps({"do": "prepare", "attempt": dataclasses.asdict(attempt)})
    answers = list(worker.answers(iter([request, request])))
    assert answers == [{"status": "invalid", "reason": "wrong_result", "detail": "the sum is off by 3"}]


class TestFeed:
    """Batches from host memory."""

    def test_a_round_shows_each_item_once(self):
        feed = Feed([np.arange(10), 10 * np.arange(10)], batch=5, seed=1)
        rounds = [feed.next() for _ in range(2)]
        assert sorted(np.concatenate([r[0] for r in rounds])) == list(range(10))
        assert all((10 * a == b).all() for a, b in rounds)

    def test_what_does_not_fill_a_batch_is_left_out(self):
        feed = Feed([np.arange(10)], batch=4, seed=1)
        firsts = [feed.next()[0] for _ in range(4)]
        assert all(len(f) == 4 for f in firsts)
        assert (firsts[0] == firsts[2]).all()

    def test_nothing_is_copied(self):
        feed = Feed([np.arange(8.0)], batch=4, seed=1)
        assert feed.next()[0].base is not None

    def test_the_seed_decides_the_order(self):
        first = [Feed([np.arange(100)], 100, seed).next()[0].tolist() for seed in (1, 1, 2)]
        assert first[0] == first[1] != first[2]

    def test_items_repeat_in_a_batch_that_is_larger_than_all_of_them(self):
        feed = Feed([np.arange(3)], 7, 0)
        first, second = feed.next()[0], feed.next()[0]
        assert sorted(np.bincount(first).tolist()) == [2, 2, 3]
        assert (first == second).all()


def test_the_median_is_over_windows():
    windows = [Window(2, s, s) for s in (2.0, 4.0, 6.0)]
    assert worker._median_step_s(windows) == statistics.median([1, 2, 3])
