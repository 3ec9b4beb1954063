"""The self-test: its rates are right for a known noise, and what it says follows from them."""

from __future__ import annotations

import dataclasses
import json
import math
import random
import statistics

import pytest

from siderostat import cli, selftest
from siderostat.record import Cell, Protocol
from tests.records import burst, ok

CELL = Cell("arithmetic", "fourier", "infer", "numpy", "cpu", 4, "small", options={"label": "", "passes": 10})


def records(noise: float, slowdown: float = 0.1, bias: float = 0.0, pairs: int = 10, seed: int = 0):
    """Pairs whose differences scatter by ``noise``, on a machine that is twice as fast at times."""
    draw = random.Random(seed)
    made = []
    for number in range(pairs):
        machine = draw.choice((0.1, 0.2))
        for label, factor in (("base", 0.0), ("same", bias), ("slower", math.log1p(slowdown))):
            seconds = machine * math.exp(factor + draw.gauss(0, noise / math.sqrt(2)))
            of = dataclasses.replace(CELL, options={"label": label, "passes": 10})
            made.append(ok([seconds], round=number, of=of, group=f"g{number}", bursts=[burst([seconds])]))
    return made


def test_alarms_are_as_rare_as_they_should_be():
    draw = random.Random(1)
    rates = [selftest.false_alarm_rate([draw.gauss(0, 0.05) for _ in range(10)]) for _ in range(40)]
    assert statistics.fmean(rates) == pytest.approx(0.05, abs=0.02)


def test_pairs_that_are_not_equal_do_not_raise_the_rate_of_alarms():
    """Signs are exchanged, so a bias shows as a bias and not as a rate."""
    verdict = selftest.judge(records(0.01, bias=0.05))
    assert verdict is not None
    assert verdict.same.value == pytest.approx(1.05, abs=0.01)
    assert not verdict.is_sound


def test_a_quiet_machine_is_sound_and_finds_what_was_planted():
    verdict = selftest.judge(records(0.02))
    assert verdict is not None and verdict.is_sound
    assert verdict.slower.value == pytest.approx(1.1, abs=0.03)
    assert verdict.found > 0.99
    assert verdict.detectable == pytest.approx(2.8 * 0.02 / math.sqrt(10), rel=0.6)


def test_a_noisy_machine_does_not_find_it():
    verdict = selftest.judge(records(0.5))
    assert verdict is not None
    assert verdict.found < 0.4
    assert verdict.detectable is not None and verdict.detectable > 0.2


def test_one_pair_tells_nothing():
    assert selftest.judge(records(0.01, pairs=1)) is None


def test_the_three_sides_are_measured_together():
    made = selftest.make_plan(0, "cpu", Protocol())
    groups = [g for g in made.groups if len(g) == 3]
    assert len(groups) == 10
    assert [a.cell.options["passes"] for a in groups[0]] == [10, 10, 11]
    assert {a.cell.workload for g in made.groups if len(g) == 1 for a in g} == {"null"}


def test_the_command_measures_and_says_what_it_found(tmp_path, capsys):
    device = "mock:step_s=0.01,process_noise=0.01,sample_noise=0.01"
    assert cli.main(["selftest", "-d", device, "-o", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().out
    assert "A step against itself, 10 pairs in lock-step" in said
    assert "False alarms:" in said
    assert cli.main(["selftest", "-d", device, "-o", str(tmp_path / "run"), "--json"]) == 0  # nothing is measured anew
    told = json.loads(capsys.readouterr().out)
    assert told["n"] == 10 and told["is_sound"] is True


def test_an_unknown_device_is_named(capsys):
    assert cli.main(["selftest", "-d", "cpuu"]) == 2
    assert "did you mean 'cpu'" in capsys.readouterr().err
