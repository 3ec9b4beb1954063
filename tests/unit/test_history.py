"""Series over many runs: where a level changed, and where nothing did."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from siderostat import store
from siderostat.history import Point, changes, series
from siderostat.plan import GRADES, make
from siderostat.record import Protocol
from siderostat.reports import history as page
from siderostat.stats import Estimate
from siderostat.store import OpenRun
from tests.records import cell, ok

pytest.importorskip("ruptures", reason="the extra 'history' is not installed")


def noisy(levels, scatter=0.03, seed=0):
    rng = np.random.default_rng(seed)
    return [level * float(np.exp(rng.normal(0, scatter))) for level in levels]


def test_a_change_is_found_where_it_is():
    (found,) = changes(noisy([0.1] * 12 + [0.12] * 12))
    assert found.at == 12
    assert found.times.low < 1.2 < found.times.high


def test_two_changes_are_told_apart_and_going_back_is_one():
    found = changes(noisy([0.1] * 10 + [0.13] * 10 + [0.1] * 10))
    assert [c.at for c in found] == [10, 20]
    assert found[1].times.value < 1


def test_a_single_outlier_is_no_change():
    times = noisy([0.1] * 20)
    times[9] *= 2
    assert changes(times) == []


def test_series_without_a_change_seldom_have_one():
    alarms = [bool(changes(noisy([0.1] * 24, seed=seed))) for seed in range(60)]
    assert sum(alarms) <= 6


def test_modelled_times_change_however_little_they_differ_beyond_a_hundredth():
    assert [c.at for c in changes([1.0] * 5 + [1.02] * 5)] == [5]
    assert changes([1.0] * 10) == []


def test_few_runs_are_not_searched():
    assert changes([0.1, 0.1, 0.1, 0.5, 0.5]) == []


def point(run, seconds, made_at="2026-01-01T00:00:00Z"):
    return Point(run, made_at, "c" * 40, Estimate(seconds, seconds * 0.9, seconds * 1.1, 3), "measured")


def test_machines_are_series_of_their_own_and_runs_are_put_in_order():
    held = [
        ("A", cell(), "image", point("late", 0.2, "2026-02-01T00:00:00Z")),
        ("A", cell(), "image", point("early", 0.1)),
        ("B", cell(), "image", point("other", 0.1)),
    ]
    first, second = series(held)
    assert [p.run for p in first.points] == ["early", "late"]
    assert (first.machine, second.machine) == ("A", "B")


def changed_series():
    times = noisy([0.1] * 8 + [0.15] * 8)
    held = [
        ("A", cell(), "image", point(f"run-{i:02d}", t, f"2026-01-{i + 1:02d}T00:00:00Z")) for i, t in enumerate(times)
    ]
    return series(held)


def test_the_page_names_the_commit_and_draws_every_series():
    made = page.texts(changed_series())
    assert "from run-08, cccccccccc on" in made["history.md"]
    assert made["history.html"].count("<svg") == 1
    (line,) = page.lines(changed_series())
    assert line.startswith('history: series="galaxy-shape dnn train torch cpu batch 4" machine="A" change=+0.')


def test_hostile_names_reach_no_page_as_markup():
    bad = "<script>alert(1)</script>"
    one = changed_series()[0]
    hostile = replace(one, name=bad, machine=bad, points=tuple(replace(p, run=bad, commit=bad) for p in one.points))
    assert "<script>alert" not in page.texts([hostile])["history.html"]


def write_run(folder, seconds, made_at):
    plan = make([[cell()]], "t", GRADES["quick"], 0, Protocol())
    store.create(folder, plan, {"run": folder.name, "grade": "quick", "created_at": made_at})
    with OpenRun(folder) as run:
        for attempt in run.plan.attempts():
            run.append(replace(ok([seconds]), attempt=attempt))


def test_a_folder_of_runs_becomes_a_page(siderostat, tmp_path):
    for i, seconds in enumerate(noisy([0.1] * 6 + [0.2] * 6)):
        write_run(tmp_path / "runs" / f"r{i:02d}", seconds, f"2026-01-{i + 1:02d}T00:00:00Z")
    (tmp_path / "runs" / "broken").mkdir()
    (tmp_path / "runs" / "broken" / "plan.json").write_text("{")
    done = siderostat("history", "runs")
    assert done.returncode == 0, done.stderr
    assert "left out:" in done.stderr
    assert 'from="r06"' in done.stdout
    assert (tmp_path / "runs" / "history" / "history.html").exists()
    told = json.loads(siderostat("history", "runs", "--json").stdout)
    assert len(told["series"][0]["points"]) == 12


def test_a_folder_without_runs_is_refused(siderostat, tmp_path):
    done = siderostat("history", str(tmp_path))
    assert done.returncode == 2
    assert "there is no run in" in done.stderr
