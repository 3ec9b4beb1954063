"""What a figure means in kilowatt-hours, money and carbon, and that ranges are carried through."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from siderostat.procurement import (
    PRESETS,
    Range,
    capital_per_hour,
    carbon_kg,
    cost_per_item,
    energy_to_solution_j,
    extrapolation,
    items_per_joule,
)

POSITIVE = st.floats(1e-3, 1e3)


@st.composite
def ranges(draw) -> Range:
    return Range(*sorted((draw(POSITIVE), draw(POSITIVE))))


def point(value: float) -> Range:
    return Range(value, value)


def test_a_hand_made_example_comes_out():
    # 30,000 over 5 years at 60 %, worth nothing in the end, is 1.1416 an hour; 700 W at 1.5 and 0.20 is 0.21 an hour.
    capital = capital_per_hour(point(30_000), point(0.0), point(5), point(0.6))
    assert capital.low == pytest.approx(1.14155, rel=1e-4)
    cost = cost_per_item(capital, point(700), point(1.5), point(0.20), point(1000))
    assert cost.low == pytest.approx((1.14155 + 0.21) / 3.6e6, rel=1e-4)
    # 2.26e9 images of 0.1 J at a PUE of 1.54 are 96.7 kWh.
    energy = energy_to_solution_j(2.26e9, point(0.1), PRESETS["pue"].value)
    assert energy.low / 3.6e6 == pytest.approx(96.68, rel=1e-3)
    assert carbon_kg(energy, point(0.4), point(0)).low == pytest.approx(38.67, rel=1e-3)
    assert extrapolation(2.26e9, 1e6) == 2260


def test_a_preset_has_its_year_and_source():
    assert all(preset.year >= 2020 and preset.source for preset in PRESETS.values())


@given(ranges(), ranges(), ranges(), ranges(), ranges())
def test_a_range_holds_what_any_values_within_its_inputs_give(capital, power, pue, price, rate):
    whole = cost_per_item(capital, power, pue, price, rate)
    for pick in (lambda r: point(r.low), lambda r: point(r.high), lambda r: point((r.low + r.high) / 2)):
        inner = cost_per_item(*map(pick, (capital, power, pue, price, rate)))
        assert whole.low * (1 - 1e-9) <= inner.low <= whole.high * (1 + 1e-9)


@given(ranges())
def test_items_per_joule_is_the_inverse(joules):
    inverse = items_per_joule(joules)
    assert inverse.low <= inverse.high
    assert inverse.low * joules.high == pytest.approx(1)


@given(ranges(), st.floats(0, 0.5), st.floats(0.5, 1))
def test_a_longer_life_and_more_use_never_cost_more(price, residual, utilisation):
    short = capital_per_hour(price, point(residual), point(3), point(utilisation))
    longer = capital_per_hour(price, point(residual), point(6), point(utilisation))
    assert longer.high < short.high
