"""The guard against other work on the machine."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from siderostat import contention, supervisor
from siderostat.contention import Watch, is_contended
from siderostat.record import Burst

QUIET = {"wall_s": 1.0, "cpu_share": 1.0, "pressure": 0.0, "steal": 0.0}


@pytest.mark.parametrize(
    ("change", "contended"),
    [
        ({}, False),
        ({"pressure": 0.25}, True),
        ({"steal": 0.03}, True),
        ({"cpu_share": 0.8}, True),
        ({"cpu_share": 1.9}, False),
    ],
)
def test_thresholds(change, contended):
    assert is_contended({**QUIET, **change}, on_host=True) is contended


def test_a_device_may_leave_the_host_idle():
    assert not is_contended({**QUIET, "cpu_share": 0.1}, on_host=False)


def test_a_source_that_is_missing_is_not_zero_and_not_contended(monkeypatch):
    monkeypatch.setattr(contention, "_pressure_us", lambda: None)
    monkeypatch.setattr(contention, "_steal_s", lambda: None)
    load = Watch().load()
    assert "pressure" not in load
    assert "steal" not in load


def test_a_process_that_sleeps_has_a_low_cpu_share_and_one_that_works_a_high_one():
    watch = Watch()
    time.sleep(0.2)
    assert watch.load()["cpu_share"] < 0.5
    watch = Watch()
    until = time.process_time() + 0.2
    while time.process_time() < until:
        pass
    assert watch.load()["cpu_share"] > 0.3


def test_one_coarse_tick_in_one_burst_does_not_make_a_process_contended():
    calm = [Burst(i, 1, [0.2], [0.2], {**QUIET, "wall_s": 0.2}) for i in range(7)]
    tick = Burst(7, 1, [0.2], [0.2], {**QUIET, "wall_s": 0.2, "steal": 0.05})
    assert not supervisor._contended([*calm, tick], on_host=True)
    assert supervisor._contended([tick], on_host=True)


@pytest.mark.skipif(contention._pressure_us() is None, reason="this kernel has no pressure stall information")
def test_busy_neighbours_show_as_pressure():
    import os

    spin = "import time\nend = time.time() + 1.5\nwhile time.time() < end: pass"
    neighbours = [subprocess.Popen([sys.executable, "-c", spin]) for _ in range(3 * (os.cpu_count() or 1))]
    time.sleep(0.3)
    watch = Watch()
    until = time.time() + 0.8
    while time.time() < until:
        pass
    load = watch.load()
    for neighbour in neighbours:
        neighbour.wait()
    assert load["pressure"] > contention.PRESSURE
