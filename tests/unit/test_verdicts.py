"""What the gate says of series of records: which time is judged, what is compared as it is, and when nothing can be."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from siderostat import verdicts
from siderostat.gate import Verdict
from siderostat.record import Record
from siderostat.reports import gate as page
from siderostat.verdicts import CPU, HEAD, WALL, Outcome
from tests.records import cell, failed, lockstep

ONE = cell(device="cpu:threads=1")
TWO = cell(device="cpu:threads=2")
BASE_ONE, HEAD_ONE = (replace(ONE, code=side) for side in verdicts.SIDES)


def pair(times: float, round: int, of=ONE, **changes) -> list[Record]:
    """One pair, whose head takes ``times`` as long."""
    base, head = (replace(of, code=side) for side in verdicts.SIDES)
    threads = {"threads": int(of.device[-1])}
    return lockstep([(base, [0.1, 0.2]), (head, [0.1 * times, 0.2 * times])], round, effective=threads, **changes)


def stage(slowdown: float, n: int = 10, scatter: float = 0.01, seed: int = 0, of=ONE, **changes) -> list[Record]:
    noise = np.random.default_rng(seed).normal(0, scatter, n)
    return [r for i, e in enumerate(noise) for r in pair((1 + slowdown) * float(np.exp(e)), i, of, **changes)]


def only(first, fresh=(), traced=None, of=ONE) -> verdicts.Series:
    (found,) = verdicts.judge([of], first, list(fresh), {of.key(): traced or {}})
    return found


def test_equal_sides_pass():
    found = only(stage(0.0))
    assert (found.verdict, found.pairs, found.reason) == (Verdict.PASS, 10, "")
    assert found.detectable < 0.02


def test_a_slower_head_is_suspect_and_fails_after_fresh_pairs():
    first, fresh = stage(0.1), stage(0.1, 15, seed=1)
    assert verdicts.unsettled(first, [ONE], 0.05) == ([ONE], [])
    assert only(first).verdict is Verdict.INCONCLUSIVE
    found = only(first, fresh)
    assert (found.verdict, found.pairs, found.fresh) == (Verdict.FAIL, 15, 15)
    assert found.slowdown.value == pytest.approx(1.1, abs=0.01)


def test_what_noise_hides_gets_fresh_pairs_and_is_judged_by_all():
    first, fresh = stage(0.0, scatter=0.05), stage(0.0, 15, scatter=0.03, seed=1)
    assert verdicts.unsettled(first, [ONE], 0.05) == ([], [ONE])
    assert only(first).verdict is Verdict.INCONCLUSIVE
    found = only(first, fresh)
    assert (found.verdict, found.pairs, found.fresh) == (Verdict.PASS, 25, 15)
    assert verdicts.unsettled(first, [ONE], 0.2) == ([], [])


def test_what_cannot_be_compared_gets_no_fresh_pairs():
    differing = [replace(r, item="halo") if r.attempt.cell.code == HEAD else r for r in stage(0.2)]
    broken = [failed(of=HEAD_ONE, round=i) if r.attempt.cell.code == HEAD else r for i, r in enumerate(stage(0.2))]
    for first in ([], pair(1.0, 0), differing, broken):
        assert verdicts.unsettled(first, [ONE], 0.05) == ([], [])


def test_a_suspect_of_chance_is_cleared_by_fresh_pairs():
    assert only(stage(0.04), stage(0.0, 15, seed=1)).verdict is Verdict.PASS


def test_a_slowdown_below_the_floor_is_never_passed_by_the_pairs_that_saw_it():
    found = only(stage(0.03), stage(0.03, 15, seed=1))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.slowdown.high < 1.05
    noisy = only(stage(0.03, scatter=0.1, seed=3))
    assert noisy.verdict is Verdict.INCONCLUSIVE
    assert noisy.detectable > 0.05


def test_one_thread_is_judged_by_processor_time_and_several_by_the_clock():
    def with_clock(records, times):
        """The clock of the head says ``times`` as long; its processor time is as it was."""
        return [
            replace(r, bursts=[replace(b, seconds=[s * times for s in b.seconds]) for b in r.bursts])
            if r.attempt.cell.code == HEAD else r
            for r in records
        ]  # fmt: skip

    single, several = only(stage(0.0)), only(stage(0.0, of=TWO), of=TWO)
    assert (single.basis, several.basis) == (CPU, WALL)
    disturbed = only(with_clock(stage(0.0), 1.01))
    assert disturbed.verdict is Verdict.PASS
    assert disturbed.slowdown.value == pytest.approx(only(stage(0.0)).slowdown.value)
    waiting = only(with_clock(stage(0.0), 1.3))
    assert waiting.verdict is Verdict.INCONCLUSIVE
    assert "by the clock" in waiting.reason
    assert verdicts.unsettled(with_clock(stage(0.0, of=TWO), 1.3), [TWO], 0.05) == ([TWO], [])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"clock": "device"}, "time bases differ: base host; head device"),
        ({"items_per_step": 8}, "work units per step differ: base 4; head 8"),
        ({"effective": {"threads": 2}}, "threads differ: base 1; head 2"),
        ({"process": {"packages": {"torch": "2.1"}}}, "versions of the framework differ: base ; head torch 2.1"),
    ],
)
def test_unequal_conditions_are_not_compared(changes, words):
    records = [replace(r, **changes) if r.attempt.cell.code == HEAD else r for r in stage(0.0)]
    found = only(records)
    assert (found.verdict, found.reason) == (Verdict.NOT_COMPARABLE, words)
    assert found.slowdown is None


def test_a_head_that_fails_is_named_and_is_no_pass():
    records = [r for r in stage(0.0) if r.attempt.cell.code != HEAD]
    records += [failed(of=HEAD_ONE, round=i) for i in range(10)]
    found = only(records)
    assert found.verdict is Verdict.NOT_COMPARABLE
    assert found.reason == "head: crash (killed): it went wrong"
    assert found.has_failed


def test_a_process_that_failed_and_was_measured_again_is_no_failure():
    records = [failed(of=HEAD_ONE, round=0), *stage(0.0)]
    assert not only(records).has_failed


def test_what_was_not_measured_is_said():
    assert only([]).reason == "base: not measured"
    assert only(pair(1.0, 0)).reason == "fewer than two pairs were measured"


def test_more_operations_fail_however_fast_they_are():
    base = {"parameters": 100, "flops": 1e6, "operations": 40, "moved_bytes": 1000, "live_bytes": 500}
    same = only(stage(0.0), traced={"base": base, "head": base})
    assert same.verdict is Verdict.PASS
    more = only(stage(-0.1), traced={"base": base, "head": {**base, "flops": 1.1e6, "live_bytes": 400}})
    assert (more.verdict, more.time) == (Verdict.FAIL, Verdict.PASS)
    assert [f.name for f in more.exact if f.verdict is Verdict.FAIL] == ["floating-point operations of a step"]


def test_modelled_times_are_compared_as_they_are():
    def modelled(times):
        band = {"p2_5": 0.9e-3, "p50": 1e-3, "p97_5": 1.2e-3}
        bands = (band, {name: value * times for name, value in band.items()})
        return [
            replace(r, clock="model", model={"seconds_per_step": b})
            for r, b in zip(pair(1.0, 0), bands, strict=True)
        ]  # fmt: skip

    assert only(modelled(1.0)).verdict is Verdict.PASS
    assert only(modelled(1.001)).verdict is Verdict.FAIL
    assert only(modelled(0.9)).verdict is Verdict.PASS


def test_series_that_differ_in_options_alone_have_names_of_their_own():
    cells = [cell(options={"images": n, "source": "made"}) for n in (10, 20)]
    assert verdicts.names(cells) == [f"galaxy-shape dnn train torch cpu batch 4 images={n}" for n in (10, 20)]
    assert verdicts.names([cell(size="paper"), cell(size="tiny", batch=8)])[1].endswith("batch 8")


def test_what_a_number_of_pairs_can_see_shrinks_with_their_number():
    assert verdicts.reach(0.1, 1) is None
    assert 0.07 < verdicts.reach(0.08, 10) < 0.08
    assert verdicts.reach(0.08, 40) < verdicts.reach(0.08, 10) / 1.8


class TestPage:
    def outcome(self, **changes):
        series = [only(stage(0.1), stage(0.1, 15, seed=1)), only(stage(0.0, of=TWO), of=TWO), only([])]
        return Outcome("base 1111 (old)", "head 2222 (new)", tuple(series), 0.05, **changes)

    def test_every_series_has_one_line_that_scripts_can_read(self):
        lines = list(page.lines(self.outcome()))
        assert len(lines) == 3
        assert lines[0].startswith('gate: verdict=fail series="galaxy-shape dnn train torch cpu:threads=1 batch 4" ')
        assert "slowdown=+0.1" in lines[0]
        assert 'reason="base: not measured"' in lines[2]

    def test_the_comment_names_verdict_interval_and_what_could_be_seen(self):
        text = page.texts(self.outcome())["gate.md"]
        (row,) = (
            line for line in text.splitlines() if line.startswith("|") and "cpu:threads=1" in line and "FAIL" in line
        )
        assert "% to +" in row
        assert "1 series FAIL, 1 series NOT COMPARABLE, 1 series PASS" in text

    def test_data_holds_every_series_and_no_missing_figure_is_zero(self):
        data = json.loads(page.to_json(self.outcome()))
        assert [one["verdict"] for one in data["series"]] == ["fail", "pass", "not_comparable"]
        assert data["series"][2]["slowdown"] is None
        assert data["series"][2]["base_seconds_per_item"] is None

    def test_hostile_titles_reach_no_page_as_markup(self):
        bad = "<script>alert(1)</script>"
        text = page.texts(replace(self.outcome(untraced=(bad,)), base=bad))["gate.html"]
        assert "<script>alert" not in text


def test_a_disturbed_pair_is_replaced_by_its_repeat():
    spoilt = [replace(r, flags=["contended"]) for r in pair(3.0, 0)]
    again = pair(1.0, 0, repeat=1)
    rest = [r for i in range(1, 10) for r in pair(1.0 + 0.001 * i, i)]
    assert only([*spoilt, *again, *rest]).slowdown.value == pytest.approx(1.0, abs=0.01)
