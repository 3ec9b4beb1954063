"""Windows of energy: what readings say, when they say nothing, and the thread that takes them."""

from __future__ import annotations

import dataclasses
import json
import math
import statistics
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siderostat import devices
from siderostat.devices.energy import Counter, Meters, Missing, Refused
from siderostat.devices.energy.nameplate import Nameplate
from siderostat.devices.energy.window import POLL_S, Circumstances, Reading, Stretch, Traits, judge
from siderostat.record import Energy, EnergyStatus, EnergyWindow

PERIOD_S = 0.1
HAS_FIGURE = (EnergyStatus.OK, EnergyStatus.INDICATIVE)


class Board:
    """A counter of a device with a given power, updated at each ``period_s``, in a time that tests make pass."""

    def __init__(self, watts: float = 300.0, period_s: float = PERIOD_S, phase_s: float = 0.0) -> None:
        self.period_s = period_s
        self._phase_s = phase_s
        self._energy_j: Callable[[float], float] = lambda t: watts * t

    @classmethod
    def busy_between(cls, began_s: float, ended_s: float, watts: float, idle_w: float, phase_s: float) -> Board:
        board = cls(phase_s=phase_s)
        board._energy_j = lambda t: idle_w * t + (watts - idle_w) * min(max(t - began_s, 0.0), ended_s - began_s)
        return board

    def at(self, now_s: float, **further: Any) -> Reading:
        updates = math.floor((now_s - self._phase_s) / self.period_s + 1e-9)
        return Reading(now_s, self._energy_j(self._phase_s + updates * self.period_s), **further)

    def watched(self, began_s: float, ended_s: float, **further: Any) -> Stretch:
        stretch = Stretch()
        polls = (began_s + POLL_S * i for i in range(math.ceil((ended_s - began_s) / POLL_S)))
        for now_s in [*polls, ended_s]:
            stretch.add(self.at(now_s, **further))
        return stretch


def window(stretch: Stretch, traits: Traits | None = None, **circumstances: Any) -> EnergyWindow:
    traits = traits or Traits("gpu_board", PERIOD_S, power_limit_w=700.0)
    return judge(stretch, traits, Circumstances(**{"steps": 8, "started_at": 1e9, "seconds": 9.9, **circumstances}))


def is_refused(judged: EnergyWindow, status: EnergyStatus) -> bool:
    return judged.status == status and judged.joules is judged.u_joules is judged.mean_w is None and bool(judged.reason)


def test_a_window_with_100_updates_is_ok_and_one_with_20_is_indicative():
    long, short = window(Board().watched(100.0, 110.2)), window(Board().watched(100.0, 102.2))
    assert (long.status, short.status) == (EnergyStatus.OK, EnergyStatus.INDICATIVE)
    assert long.joules == pytest.approx(300 * 10.2, rel=0.01)
    assert long.mean_w == pytest.approx(300, rel=0.01)
    assert long.n_updates in (101, 102)
    assert long.u_joules == pytest.approx(long.joules / long.n_updates / math.sqrt(3))


def test_a_window_that_is_too_short_is_refused_and_says_what_would_do():
    judged = window(Board(phase_s=0.01).watched(100.0, 101.0))
    assert is_refused(judged, EnergyStatus.TOO_SHORT)
    assert (judged.n_updates, judged.seconds, judged.steps) == (10, 1.0, 8)
    assert judged.reason == (
        "10 updates of the counter in 1.0 s, 20 are needed: a window of 2.1 s would do (--energy-window 2.1s)"
    )


def test_the_window_that_would_do_does():
    assert window(Board(phase_s=0.01).watched(100.0, 102.1)).status == EnergyStatus.INDICATIVE


def test_where_updates_were_missed_a_longer_window_is_advised():
    stretch = Stretch()
    for i in range(6):
        stretch.add(Board().at(100.0 + 0.5 * i))
    assert "--energy-window 8.8s" in window(stretch).reason  # 5 updates in 2.5 s, 6 intervals at most


def test_a_counter_that_was_never_seen_to_change_has_no_advice_but_to_try():
    stretch = Board(watts=0.0).watched(100.0, 100.5)
    judged = window(stretch, Traits("gpu_board"))
    assert is_refused(judged, EnergyStatus.TOO_SHORT)
    assert "try --energy-window 10s" in judged.reason


def test_a_counter_that_falls_was_reset():
    stretch = Board().watched(100.0, 105.0)
    stretch.add(Reading(105.1, 3.0))
    assert is_refused(window(stretch), EnergyStatus.COUNTER_RESET)


def test_a_counter_that_stands_still_is_stale():
    stretch = Board().watched(100.0, 105.0)
    still_j = stretch.last.joules
    for i in range(1, 40):
        stretch.add(Reading(105.0 + i * POLL_S, still_j))
    judged = window(stretch)
    assert is_refused(judged, EnergyStatus.STALE_COUNTER)
    assert "did not change for 2.0 s, though it used to change every 0.1 s" in judged.reason


def test_a_pause_in_the_reading_is_not_a_counter_that_stands_still():
    stretch = Board().watched(100.0, 103.0)
    for i in range(60):
        stretch.add(Board().at(106.0 + i * POLL_S))
    assert window(stretch).status == EnergyStatus.INDICATIVE


def test_a_counter_that_fails_within_the_window_is_stale_and_quoted():
    stretch = Board().watched(100.0, 105.0)
    stretch.fail("GPU is lost")
    stretch.add(Board().at(106.0))
    judged = window(stretch, seconds=6.0)
    assert is_refused(judged, EnergyStatus.STALE_COUNTER)
    assert judged.reason.endswith("GPU is lost")
    assert judged.seconds == 6.0


def test_other_processes_on_the_device_spoil_the_window():
    judged = window(Board().watched(100.0, 105.0), other_pids=[12, 34])
    assert is_refused(judged, EnergyStatus.SHARED_DEVICE)
    assert judged.reason.endswith("12, 34")


@pytest.mark.parametrize(
    ("scope", "foreign_cpu", "status"),
    [
        ("cpu_package", 0.06, EnergyStatus.SHARED_DEVICE),
        ("dram", 0.06, EnergyStatus.SHARED_DEVICE),
        ("platform", 0.06, EnergyStatus.SHARED_DEVICE),
        ("cpu_package", 0.05, EnergyStatus.INDICATIVE),
        ("cpu_package", None, EnergyStatus.INDICATIVE),
        ("gpu_board", 0.90, EnergyStatus.INDICATIVE),
    ],
)
def test_processor_time_of_others_spoils_what_the_host_shares(scope, foreign_cpu, status):
    judged = window(Board().watched(100.0, 105.0), Traits(scope, PERIOD_S), foreign_cpu=foreign_cpu)
    assert judged.status == status


@pytest.mark.parametrize(("sensor_w", "status"), [(265.0, EnergyStatus.INCONSISTENT), (275.0, EnergyStatus.INDICATIVE)])
def test_a_counter_and_integrated_power_that_disagree_by_a_tenth_are_inconsistent(sensor_w, status):
    judged = window(Board().watched(100.0, 105.0, watts=sensor_w))
    assert judged.status == status
    assert judged.cross_check_j == pytest.approx(sensor_w * 5.0)
    assert judged.max_w == sensor_w
    assert (judged.joules is None) == (status == EnergyStatus.INCONSISTENT)


def test_a_sensor_that_looks_back_is_not_held_against_a_window_of_less_than_ten_times_that():
    traits = Traits("gpu_board", PERIOD_S, watts_mean_over_s=1.0)
    assert window(Board().watched(100.0, 105.0, watts=200.0), traits).status == EnergyStatus.INDICATIVE
    assert window(Board().watched(100.0, 112.0, watts=200.0), traits).status == EnergyStatus.INCONSISTENT


def test_power_above_the_limit_is_implausible():
    assert is_refused(window(Board(watts=780.0).watched(100.0, 105.0)), EnergyStatus.IMPLAUSIBLE)
    assert window(Board(watts=760.0).watched(100.0, 105.0)).status == EnergyStatus.INDICATIVE


def test_updates_faster_than_the_polls_are_counted_by_their_period():
    judged = window(Board(period_s=1e-3).watched(100.0, 100.5), Traits("cpu_package", 1e-3))
    assert judged.status == EnergyStatus.OK
    assert judged.n_updates == 500
    assert judged.joules == pytest.approx(150.0, rel=1 / 500)


def test_power_integrated_is_right_at_any_moment_and_has_no_second_sensor():
    stretch = Stretch()
    for i in range(31):
        stretch.add(Reading(100.0 + 0.1 * i, 50.0 * i * 0.1, updates=7 + i, watts=50.0))
    judged = window(stretch)
    assert (judged.joules, judged.n_updates) == (pytest.approx(150.0), 30)
    assert (judged.cross_check_j, judged.max_w) == (None, 50.0)


def test_what_the_device_does_outside_the_window_does_not_matter():
    def error(phase_s: float) -> float:
        board = Board.busy_between(100.0, 102.2, watts=400.0, idle_w=80.0, phase_s=phase_s)
        return window(board.watched(100.0, 102.2)).joules / (400.0 * 2.2) - 1

    assert abs(statistics.fmean(error(i / 200) for i in range(20))) < 0.005


BOARDS = st.builds(
    Board,
    watts=st.floats(1.0, 1000.0),
    period_s=st.one_of(st.floats(1e-3, 0.9 * POLL_S), st.floats(1.1 * POLL_S, 0.3)),
    phase_s=st.floats(0.0, 0.3),
)


@settings(deadline=None)
@given(board=BOARDS, periods=st.floats(60.0, 300.0), share=st.floats(0.4, 0.6))
def test_windows_add_up(board, periods, share):
    traits = Traits("gpu_board", board.period_s)
    ended_s = 100.0 + periods * board.period_s
    split_s = 100.0 + share * (ended_s - 100.0)
    whole, before, after = (
        window(board.watched(*edges), traits) for edges in ((100.0, ended_s), (100.0, split_s), (split_s, ended_s))
    )
    bounds = [w.joules / w.n_updates for w in (whole, before, after)]
    assert abs(whole.joules - before.joules - after.joules) <= 1.3 * sum(bounds)
    assert whole.seconds == pytest.approx(before.seconds + after.seconds)


@settings(deadline=None)
@given(board=BOARDS, periods=st.floats(25.0, 300.0))
def test_the_error_of_a_steady_load_is_within_one_over_the_number_of_updates(board, periods):
    judged = window(board.watched(100.0, 100.0 + periods * board.period_s), Traits("gpu_board", board.period_s))
    true_j = board._energy_j(judged.seconds)
    assert abs(judged.joules - true_j) <= 1.3 * judged.joules / judged.n_updates


@settings(deadline=None)
@given(
    events=st.lists(st.one_of(st.floats(0.0, 50.0), st.none(), st.just("fails"), st.just("falls")), max_size=150),
    period_s=st.one_of(st.none(), st.floats(1e-3, 1.0)),
    sensor_w=st.one_of(st.none(), st.floats(0.0, 1000.0)),
    counts=st.booleans(),
    others=st.lists(st.integers(1, 9), max_size=1),
)
def test_a_failure_is_never_a_number_and_a_number_never_0(events, period_s, sensor_w, counts, others):
    stretch, joules = Stretch(), 100.0
    stretch.add(Reading(0.0, joules, 0 if counts else None, watts=sensor_w))
    for i, event in enumerate(events, start=1):
        if event == "fails":
            stretch.fail("it failed")
            continue
        joules = 0.0 if event == "falls" else joules + (event or 0.0)
        stretch.add(Reading(i * POLL_S, joules, i if counts else None, watts=sensor_w))
    judged = window(stretch, Traits("cpu_package", period_s, 700.0), other_pids=others)
    if judged.status in HAS_FIGURE:
        assert judged.joules > 0 or counts  # a sensor that says 0 W may be right
        assert judged.u_joules >= 0
        assert "fails" not in events
        assert not others
    else:
        assert is_refused(judged, judged.status)


def test_an_estimate_is_processor_time_times_the_nameplate_and_off_by_a_factor_of_two_either_way():
    nameplate = Nameplate(nameplate_w=120.0, cores=4)
    judged = nameplate.window(Circumstances(8, 1e9, 10.0), cpu_s=20.0)
    assert (judged.status, judged.joules, judged.mean_w) == (EnergyStatus.INDICATIVE, 600.0, 60.0)
    assert math.exp(2 * judged.u_joules / judged.joules) == pytest.approx(2.0)
    assert nameplate.head()["provenance"] == "estimated"


def test_an_estimate_knows_nothing_of_an_idle_device():
    judged = Nameplate(120.0, 4).window(Circumstances(0, 1e9, 10.0), cpu_s=0.0)
    assert is_refused(judged, EnergyStatus.UNSUPPORTED)


class Running(Counter):
    """A counter of 300 W in real time."""

    source = "running"

    def __init__(self, scope: str, period_s: float) -> None:
        self.scope = scope
        self.failure: Refused | None = None
        self.is_closed = False
        self._period_s = period_s

    def joules(self) -> float:
        if self.failure is not None:
            raise self.failure
        return 300.0 * self._period_s * math.floor(time.perf_counter() / self._period_s)

    def device(self) -> dict[str, Any]:
        return {"power_limit_w": 400.0}

    def close(self) -> None:
        self.is_closed = True


class Denied(Missing):
    """A counter of a board that this user may not read."""

    source = "denied"
    scope = "gpu_board"


def metered(meters: Meters, seconds: float, **further: Any) -> list[dict[str, Any] | None]:
    meters.begin()
    time.sleep(seconds)
    values: dict[str, Any] = {"steps": 8, "cpu_s": 0.1, "other_pids": [], "foreign_cpu": None, **further}
    return meters.end(**values)


def test_heads_and_windows_are_parallel_and_make_a_record():
    fast, slow = Running("cpu_package", 1e-3), Running("gpu_board", 0.1)
    refusal = Denied("you may not", "ask", EnergyStatus.NO_PERMISSION)
    meters = Meters([fast, Missing("no sensor", "buy one"), refusal, slow], nameplate_w=65.0)
    heads = json.loads(json.dumps(meters.open()))
    windows = json.loads(json.dumps(metered(meters, 2.6)))
    meters.close()
    assert [head["status"] for head in heads] == ["ok", "unsupported", "ok", "indicative"]
    assert [w and w["status"] for w in windows] == ["ok", None, "indicative", "indicative"]
    assert heads[2]["reason"] == "denied: you may not"
    assert [heads[i]["update_period_s"] for i in (0, 2)] == [pytest.approx(1e-3, rel=0.3), pytest.approx(0.1, rel=0.3)]
    for i in (0, 2):
        assert windows[i]["joules"] == pytest.approx(300 * windows[i]["seconds"], rel=2 / windows[i]["n_updates"])
    for head, made in zip(heads, windows, strict=True):
        read = Energy.from_dict({**head, "windows": [{"turn": 3, **made}] if made else []})
        assert all(w.turn == 3 for w in read.windows)
    assert {f.name for f in dataclasses.fields(Energy)} - {"windows"} == set(heads[0])
    assert fast.is_closed
    assert slow.is_closed


def test_of_one_scope_the_refusal_of_the_preferred_counter_is_told_when_none_opens():
    meters = Meters([Denied("you may not", "ask", EnergyStatus.NO_PERMISSION), Denied("it is not there")])
    heads = meters.open()
    assert [(h["status"], h["reason"], h["remedy"], h["provenance"]) for h in heads] == [
        ("no_permission", "you may not", "ask", None)
    ]
    assert metered(meters, 0.0) == [None]


def test_a_counter_that_fails_in_one_window_may_work_in_the_next():
    counter = Running("gpu_board", 1e-3)
    meters = Meters([counter])
    meters.open()
    meters.begin()
    counter.failure = Refused(EnergyStatus.UNSUPPORTED, "it fell off the bus")
    failed = meters.end(8, 0.1, [], None)[0]
    counter.failure = None
    worked = metered(meters, 0.1)[0]
    meters.close()
    assert (failed["status"], failed["joules"]) == ("stale_counter", None)
    assert "it fell off the bus" in failed["reason"]
    assert worked["joules"] > 0


def is_reading() -> bool:
    return any(thread.name == "siderostat-meters" for thread in threading.enumerate())


def test_the_thread_lives_from_open_to_close():
    meters = Meters([Running("gpu_board", 1e-3)])
    assert not is_reading()
    meters.open()
    assert is_reading()
    meters.close()
    assert not is_reading()


def test_without_a_counter_there_is_no_thread_and_no_window():
    meters = Meters([])
    assert meters.open() == []
    assert metered(meters, 0.0) == []
    assert not is_reading()
    meters.close()


def test_a_simulated_device_is_not_measurable():
    (head,) = Meters(devices.load("mock").counters()).open()
    assert (head["status"], head["provenance"]) == ("not_measurable", None)
