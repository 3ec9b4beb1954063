"""From measured figures to money and carbon. Every input is a range that is carried through to the result.

Nothing is assumed: prices, PUE, carbon factors, lifetimes and utilisations are the caller's, or presets that name
their year and source.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

HOURS_PER_YEAR = 8760.0
JOULES_PER_KWH = 3.6e6


class Range(NamedTuple):
    """From the least to the largest that a quantity may be."""

    low: float
    high: float


@dataclass(frozen=True)
class Preset:
    """A figure that others have found, with its source."""

    value: Range
    year: int
    source: str


PRESETS = {"pue": Preset(Range(1.54, 1.54), 2025, "Uptime Institute, Global Data Center Survey: mean over sites")}


def items_per_joule(joules_per_item: Range) -> Range:
    """Return the performance per watt: items per second and watt, which is items per joule."""
    return Range(1 / joules_per_item.high, 1 / joules_per_item.low)


def energy_to_solution_j(items: float, joules_per_item: Range, pue: Range) -> Range:
    """Return the energy in joules that a site draws for so many items: N e PUE."""
    return Range(items * joules_per_item.low * pue.low, items * joules_per_item.high * pue.high)


def capital_per_hour(price: Range, residual: Range, years: Range, utilisation: Range) -> Range:
    """Return what an hour of use costs in depreciation: C (1 - residual) / (8760 Y U).

    Args:
        price: of the device with its share of the host.
        residual: share of the price that it still brings in the end, 0 to 1.
        years: of use.
        utilisation: share of these years in which it works, 0 to 1.
    """
    return Range(
        price.low * (1 - residual.high) / (HOURS_PER_YEAR * years.high * utilisation.high),
        price.high * (1 - residual.low) / (HOURS_PER_YEAR * years.low * utilisation.low),
    )


def cost_per_item(
    capital_per_hour: Range, power_w: Range, pue: Range, price_per_kwh: Range, items_per_s: Range
) -> Range:
    """Return what an item costs: (capital per hour + P / 1000 PUE price) / (3600 r), in the currency of the prices."""
    return Range(
        (capital_per_hour.low + power_w.low / 1000 * pue.low * price_per_kwh.low) / (3600 * items_per_s.high),
        (capital_per_hour.high + power_w.high / 1000 * pue.high * price_per_kwh.high) / (3600 * items_per_s.low),
    )


def carbon_kg(energy_j: Range, kg_per_kwh: Range, embodied_kg: Range) -> Range:
    """Return carbon dioxide equivalent in kilograms: that of the energy, and a share of what making the device took.

    Args:
        energy_j: drawn by the site, PUE included.
        kg_per_kwh: of the grid.
        embodied_kg: of the device, times the share of its working life that this takes; ``Range(0, 0)`` leaves it out.
    """
    return Range(
        energy_j.low / JOULES_PER_KWH * kg_per_kwh.low + embodied_kg.low,
        energy_j.high / JOULES_PER_KWH * kg_per_kwh.high + embodied_kg.high,
    )


def extrapolation(items: float, measured_items: float) -> float:
    """Return by what factor a projection goes beyond what was measured; it must stand beside the projection."""
    return items / measured_items
