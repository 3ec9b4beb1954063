"""Joules per item: what the printed uncertainty is worth, who may be called better, and that no failure is a figure."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t as student

from siderostat import energy
from siderostat.energy import CALIBRATION, PerItem, beats, best, energy_ratio, per_item
from siderostat.record import EnergyStatus, Provenance, Record
from tests.records import cell, failed, idle, meter, metered, no_meter, ok, window

ITEMS = 40  # of a window made by hand: ten steps of four
SIX = (80.0, 82.0, 78.0, 81.0, 79.0, 80.0)  # joules: 2 J per item


def only(*records: Record, **arguments) -> PerItem:
    (figure,) = per_item(records, **arguments)
    return figure


def figure(joules: float, u_scatter: float = 0.0, board: str | None = None, **changes) -> PerItem:
    """A measured figure whose uncertainty is the scatter given and the calibration."""
    u95 = math.hypot(u_scatter, 2 * CALIBRATION * joules / math.sqrt(3))
    values = {"source": "nvml.total_energy", "scope": "gpu_board", "provenance": Provenance.MEASURED}
    known = {"joules_per_item": joules, "u95_scatter": u_scatter, "u95": u95, "n_windows": 8, "n_processes": 3}
    return PerItem(**{**values, "status": EnergyStatus.OK, "board": board, **known, **changes})


def test_the_figure_and_its_uncertainty_are_those_of_the_formula():
    found = only(metered(SIX))
    x = np.array(SIX) / ITEMS
    scatter = student.ppf(0.975, 5) * x.std(ddof=1) / math.sqrt(6)
    assert found.joules_per_item == pytest.approx(2.0)
    assert found.u95_scatter == pytest.approx(scatter)
    assert found.u95 == pytest.approx(math.hypot(scatter, 2 * 0.05 * 2.0 / math.sqrt(3)))
    assert found.mean_w == pytest.approx(40.0)
    assert (found.n_windows, found.n_processes, found.status) == (6, 1, EnergyStatus.OK)


def simulated(draws: int, processes: int, between: float, within: float, seed: int) -> float:
    """Share of intervals without calibration that hold the truth of 2 J per item."""
    random = np.random.default_rng(seed)
    hits = 0
    for _ in range(draws):
        levels = 80 + between * random.standard_normal(processes)
        records = [metered(level + within * random.standard_normal(8), round=i) for i, level in enumerate(levels)]
        found = only(*records)
        hits += abs(found.joules_per_item - 2.0) <= found.u95_scatter
    return hits / draws


def test_the_first_term_covers_the_truth_where_windows_are_all_that_differs():
    assert 0.93 <= simulated(400, processes=1, between=0.0, within=2.0, seed=1) <= 0.97


def test_the_first_term_covers_the_truth_where_processes_differ_more_than_windows():
    assert 0.93 <= simulated(400, processes=5, between=2.0, within=0.5, seed=2) <= 0.97


def test_the_larger_of_windows_and_processes_counts():
    apart = only(metered([80.0] * 3, 0), metered([82.0] * 3, 1), metered([78.0] * 3, 2))
    over_processes = student.ppf(0.975, 2) * 0.05 / math.sqrt(3)
    assert apart.u95_scatter == pytest.approx(over_processes)
    alike = only(*(metered([78.0, 80.0, 82.0], i) for i in range(3)))  # means are all the same
    assert alike.u95_scatter == pytest.approx(student.ppf(0.975, 8) * np.std([78, 80, 82] * 3, ddof=1) / 40 / 3)


def test_an_interval_ends_at_zero_however_wide_it_is():
    wide = only(metered([40.0] * 6), metered([120.0] * 6, 1)).estimate
    assert wide.low == 0
    assert wide.high > 2 * wide.value


def test_too_few_windows_are_a_figure_without_an_uncertainty_that_beats_nothing():
    found = only(metered(SIX[:4]))
    assert found.joules_per_item == pytest.approx(np.mean(SIX[:4]) / ITEMS)
    assert found.u95 is None
    assert found.reason == "windows: 4; at least 5 are needed to know the uncertainty"
    assert found.grade == "indicative"
    assert beats(found, figure(100.0)) is None
    assert energy_ratio(found, figure(100.0)) is None


def test_refused_windows_are_left_out_and_counted():
    found = only(metered([*SIX, None, None]))
    assert found.joules_per_item == pytest.approx(2.0)
    assert found.left_out == {EnergyStatus.TOO_SHORT: 2}


def test_with_too_few_good_windows_beside_refused_ones_there_is_no_figure():
    found = only(metered([80.0, 80.0, 80.0, 80.0, None]))
    assert found.joules_per_item is None
    assert found.status is EnergyStatus.TOO_SHORT
    assert found.reason.startswith("4 updates of the counter in 2 s, 20 are needed; only 4 of 5 windows")


def test_the_most_frequent_reason_is_given():
    mixed = [window(None, t, status=s, reason=s.value) for t, s in enumerate([EnergyStatus.STALE_COUNTER] * 2)]
    mixed += [window(None, t, status=EnergyStatus.SHARED_DEVICE, reason="pid 7") for t in range(2, 5)]
    record = dataclasses.replace(metered([None] * 5), energy=[meter(mixed)])
    assert (only(record).status, only(record).reason) == (EnergyStatus.SHARED_DEVICE, "pid 7")


def test_a_missing_meter_says_why_and_what_to_do():
    record = ok(energy=[no_meter()])
    found = only(record)
    assert (found.joules_per_item, found.u95, found.grade, found.estimate) == (None, None, None, None)
    assert found.status is EnergyStatus.UNSUPPORTED
    assert "virtual machines" in found.reason
    assert found.remedy == "measure on the bare machine"


def test_a_meter_that_failed_in_one_process_is_counted_beside_the_others():
    refused = no_meter(EnergyStatus.NO_PERMISSION, source="nvml.total_energy", scope="gpu_board", reason="denied")
    found = only(metered(SIX, 0), ok(round=1, energy=[refused]))
    assert found.n_windows == 6
    assert found.left_out == {EnergyStatus.NO_PERMISSION: 1}


@pytest.mark.parametrize("joules", [0.0, -3.0])
def test_a_good_status_without_joules_is_no_figure(joules):
    found = only(metered([joules] * 6))
    assert found.joules_per_item is None
    assert found.status is EnergyStatus.STALE_COUNTER


def test_meters_of_different_source_scope_or_provenance_are_never_mixed():
    kinds = [
        {"source": "powercap", "scope": "cpu_package"},
        {"source": "powercap", "scope": "dram"},
        {"source": "powercap", "scope": "dram", "provenance": Provenance.ESTIMATED},
    ]
    also = [meter([window(10.0 * i, t) for t in range(6)], **k) for i, k in enumerate(kinds, start=1)]
    found = per_item([metered(SIX, also=also)])
    assert [p.joules_per_item for p in found] == pytest.approx([2.0, 0.25, 0.5, 0.75])
    assert [p.scope for p in found] == ["gpu_board", "cpu_package", "dram", "dram"]


def test_parts_of_one_kind_are_added_up_since_together_they_are_the_device():
    second = meter([window(20.0, t) for t in range(6)], device={"uuid": "GPU-0"})
    found = only(metered([60.0] * 6, also=[second]))
    assert found.joules_per_item == pytest.approx(2.0)
    assert found.board == "GPU-0+GPU-1"


def test_a_device_of_which_one_part_is_not_metered_has_no_energy():
    refused = no_meter(EnergyStatus.NO_PERMISSION, source="nvml.total_energy", scope="gpu_board", reason="denied")
    found = only(metered(SIX, also=[refused]))
    assert found.joules_per_item is None
    assert found.status is EnergyStatus.NO_PERMISSION
    half = meter([window(20.0 if t else None, t) for t in range(6)])
    assert only(metered(SIX, also=[half])).left_out == {EnergyStatus.TOO_SHORT: 1}


def test_processes_on_different_boards_have_no_board_in_common():
    other = metered(SIX, 1, meters={"device": {"uuid": "GPU-2"}})
    assert only(metered(SIX, 0)).board == "GPU-1"
    assert only(metered(SIX, 0), other).board is None


def test_only_processes_that_count_are_used():
    assert per_item([failed()]) == []
    contended = dataclasses.replace(metered([200.0] * 6), flags=["contended"])
    again = metered(SIX)
    again = dataclasses.replace(again, attempt=dataclasses.replace(again.attempt, repeat=1))
    assert only(contended, again).joules_per_item == pytest.approx(2.0)


def test_records_of_before_energy_have_no_figures():
    assert per_item([ok(), ok(round=1)]) == []


@pytest.mark.parametrize(
    ("updates", "seconds", "grade"),
    [(40, 90.0, "indicative"), (120, 2.0, "publishable"), (700, 61.0, "procurement"), (99, 2.0, "indicative")],
)
def test_the_grade_goes_by_updates_and_length_of_the_shortest_window(updates, seconds, grade):
    status = EnergyStatus.OK if updates >= 100 else EnergyStatus.INDICATIVE
    found = only(metered(SIX, n_updates=updates, seconds=seconds, status=status))
    assert found.grade == grade
    assert found.status is status


def test_an_estimate_is_a_band_of_a_factor_of_two_and_is_never_ranked():
    found = only(metered(SIX, meters={"provenance": Provenance.ESTIMATED, "source": "cpu_time_x_nameplate"}))
    assert (found.estimate.low, found.estimate.value, found.estimate.high) == pytest.approx((1.0, 2.0, 4.0))
    assert (found.u95, found.grade) == (None, None)
    assert beats(found, figure(1000.0)) is None
    assert beats(figure(0.001), dataclasses.replace(found, scope="gpu_board")) is None


def test_the_measured_figure_is_shown_before_the_estimated_one_and_any_before_none():
    estimated, nothing = figure(1.0, provenance=Provenance.ESTIMATED, u95=None), figure(1.0, joules_per_item=None)
    assert best([nothing, estimated, figure(5.0)]).joules_per_item == 5.0
    assert best([nothing, estimated]).provenance is Provenance.ESTIMATED
    assert best([nothing]) is nothing
    assert best([]) is None


def test_idle_power_is_subtracted_and_its_drift_is_in_the_uncertainty():
    gross = [80.0] * 6  # 40 W for 2 s
    steady = only(metered(gross), idle=[idle(10.0), idle(10.0, 1)]).net
    assert steady.idle_w == pytest.approx(10.0)
    assert steady.joules_per_item == pytest.approx((80 - 20) / ITEMS)
    assert steady.u95 == pytest.approx(2 * 0.05 * 1.5 / math.sqrt(3))
    drifting = only(metered(gross), idle=[idle(9.0), idle(11.0, 1)]).net
    from_drift = 2 * (1 / math.sqrt(3)) * 2.0 / ITEMS  # half a distance of 2 W over sqrt 3, for 2 s
    assert drifting.joules_per_item == pytest.approx(1.5)
    assert drifting.u95 == pytest.approx(math.hypot(steady.u95, from_drift))


def test_energy_within_its_uncertainty_of_idling_is_refused():
    found = only(metered(SIX), idle=[idle(38.0), idle(42.0, 1)]).net
    assert found.joules_per_item is None
    assert found.status is EnergyStatus.BELOW_IDLE_NOISE
    assert "within its uncertainty" in found.reason


@pytest.mark.parametrize(
    ("records", "reason"),
    [
        ([], "was not measured"),
        ([idle(10.0)], "it was once, and its drift is not known"),
        ([idle(10.0, on="cuda"), idle(10.0, 1, on="cuda")], "was not measured"),
        ([idle(10.0, scope="node_ac"), idle(10.0, 1, scope="node_ac")], "not read by this meter"),
        ([idle(10.0, device={"uuid": "GPU-7"}), idle(10.0, 1)], "once"),
    ],
)
def test_net_energy_needs_idle_power_of_the_same_device_and_meter_from_before_and_after(records, reason):
    found = only(metered(SIX), idle=records).net
    assert found.joules_per_item is None
    assert found.status is None
    assert reason in found.reason


def test_a_beats_b_only_beyond_the_uncertainty_of_both():
    a = figure(1.0)
    margin = math.hypot(a.u95, figure(1.1).u95)
    assert margin > 0.08
    assert beats(a, figure(1.05)) is False
    assert beats(a, figure(1.3)) is True
    assert beats(figure(1.3), a) is False


def test_the_calibration_cancels_on_the_same_board_by_the_same_source():
    a, b = figure(1.0, 0.01, "GPU-1"), figure(1.05, 0.01, "GPU-1")
    assert beats(a, b) is True
    assert beats(a, dataclasses.replace(b, board="GPU-2")) is False
    assert beats(a, dataclasses.replace(b, source="nvml.power")) is False
    assert beats(dataclasses.replace(a, board=None), dataclasses.replace(b, board=None)) is False


def test_different_scopes_are_not_ranked():
    assert beats(figure(1.0), figure(9.0, scope="cpu_package")) is None


def test_as_many_items_from_the_same_energy():
    a, b = figure(4.0, 0.2, "A"), figure(1.0, 0.03, "B")
    found = energy_ratio(a, b)
    half = math.hypot(a.u95 / 4.0, b.u95 / 1.0)
    assert found.items.value == pytest.approx(4.0)
    assert (found.items.low, found.items.high) == pytest.approx((4 * math.exp(-half), 4 * math.exp(half)))
    assert not found.scopes_differ
    same = energy_ratio(a, dataclasses.replace(b, board="A"))
    assert math.log(same.items.high / 4.0) == pytest.approx(math.hypot(0.05, 0.03))


def test_a_ratio_of_a_board_and_a_package_is_flagged_and_of_a_board_and_a_node_is_none():
    assert energy_ratio(figure(1.0, scope="cpu_package"), figure(1.0)).scopes_differ
    assert energy_ratio(figure(1.0, scope="node_ac"), figure(1.0)) is None
    assert energy_ratio(figure(1.0, scope="dram"), figure(1.0)) is None
    assert not energy_ratio(figure(1.0, scope="dram"), figure(1.0, scope="dram")).scopes_differ


def test_a_ratio_covers_the_truth():
    random = np.random.default_rng(5)
    hits = 0
    for _ in range(300):
        sides = []
        for truth, round_ in ((160.0, 0), (80.0, 1)):
            of = cell(batch=8 + round_)
            sides.append(only(metered(truth * (1 + 0.05 * random.standard_normal(8)), of=of)))
        found = energy_ratio(*sides)  # on one board: no calibration in it
        hits += found.items.low <= 2.0 <= found.items.high
    assert 0.92 <= hits / 300 <= 0.985


@given(st.lists(st.floats(1e-3, 1e6), min_size=5, max_size=20), st.floats(0.01, 100))
def test_joules_in_another_unit_give_the_same_figure_in_that_unit(joules, factor):
    plain, scaled = only(metered(joules)), only(metered([j * factor for j in joules]))
    assert scaled.joules_per_item == pytest.approx(plain.joules_per_item * factor)
    assert scaled.u95 == pytest.approx(plain.u95 * factor, rel=1e-6, abs=1e-9 * factor * max(joules))


@given(st.floats(0.1, 10), st.floats(0, 1), st.floats(0.1, 10), st.floats(0, 1))
def test_two_figures_never_beat_each_other_and_the_ratio_is_the_inverse(x, u, y, v):
    a, b = figure(x, u * x), figure(y, v * y)
    assert not (beats(a, b) and beats(b, a))
    there, back = energy_ratio(a, b).items, energy_ratio(b, a).items
    assert there.value * back.value == pytest.approx(1)
    assert there.low * back.high == pytest.approx(1)


@given(st.lists(st.one_of(st.none(), st.floats(1.0, 1e3)), min_size=1, max_size=12))
def test_a_figure_is_the_mean_of_the_good_windows_or_none_and_never_zero(joules):
    found = only(metered(joules))
    good = [j for j in joules if j is not None]
    assert found.n_windows + sum(found.left_out.values()) <= len(joules)
    if found.joules_per_item is None:
        assert found.reason
        assert found.status not in energy.GOOD
    else:
        assert found.joules_per_item == pytest.approx(np.mean(good) / ITEMS)
        assert len(good) >= 5 or len(good) == len(joules)
