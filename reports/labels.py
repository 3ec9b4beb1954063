"""Figures and names as people read them: three significant digits, SI prefixes, "52.7 (51.0 to 54.4)"."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from siderostat.reports.rows import Row
from siderostat.stats import Estimate
from siderostat.words import plural

NOT_KNOWN = "n/a"
DIGITS = 3
MOST_DIGITS = 5  # spent only where three would print both ends of an interval alike
TIME_UNITS = (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6), ("ns", 1e-9))
BYTE_UNITS = (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("B", 1.0))


def _decimals(value: float, digits: int) -> int:
    """Return how many decimals show ``digits`` significant digits; negative: round to tens and beyond."""
    if value == 0:
        return 0
    return digits - 1 - math.floor(math.log10(abs(float(f"{value:.{digits - 1}e}"))))


def number(value: float, decimals: int | None = None) -> str:
    """Return a number with three significant digits, or with the given decimals: ``0.0123``, ``231``, ``12,300``."""
    places = _decimals(value, DIGITS) if decimals is None else decimals
    return f"{round(value, places):,.{max(places, 0)}f}"


def interval(estimate: Estimate | None, unit: float = 1.0, say_none: bool = True) -> str:
    """Return "52.7 (51.0 to 54.4)".

    Args:
        estimate: a figure with its interval; None becomes ``n/a``.
        unit: what the figures are divided by.
        say_none: whether to say that there is no interval, where the text around it does not.
    """
    if estimate is None:
        return NOT_KNOWN
    value = estimate.value / unit
    if estimate.low is None or estimate.high is None:
        return number(value) + (f" (no interval: {count(estimate.n, 'process')})" if say_none else "")
    low, high = estimate.low / unit, estimate.high / unit
    places = _decimals(value, DIGITS)
    if high > low:
        places = max(places, min(_decimals((high - low) / 2, 1), _decimals(value, MOST_DIGITS)))
    return f"{number(value, places)} ({number(low, places)} to {number(high, places)})"


def scale(value: float, units: Sequence[tuple[str, float]]) -> tuple[str, float]:
    """Return the largest unit in which the value, as printed, is at least 1; the smallest where there is none."""
    for name, unit in units:
        if abs(float(f"{value / unit:.{DIGITS - 1}e}")) >= 1:
            return name, unit
    return units[-1]


def quantity(value: float | None, units: Sequence[tuple[str, float]]) -> str:
    """Return "12.3 ms" or "1.52 GB"; None becomes ``n/a``."""
    if value is None:
        return NOT_KNOWN
    name, unit = scale(value, units) if value else units[-1 if units is BYTE_UNITS else 0]
    return f"{number(value / unit)} {name}"


def seconds(value: float | None) -> str:
    """Return a time in seconds as "12.3 ms"."""
    return quantity(value, TIME_UNITS)


def setting(value: float) -> str:
    """Return a time in seconds that someone chose, as "20 ms": without the zeros of a measured one."""
    name, unit = scale(value, TIME_UNITS) if value else TIME_UNITS[0]
    return f"{value / unit:.4g} {name}"


def bytes_(value: float | None) -> str:
    """Return an amount of memory in bytes as "1.52 GB", with SI prefixes: 1 GB is 10^9 bytes."""
    return quantity(value, BYTE_UNITS)


def seconds_interval(estimate: Estimate | None, say_none: bool = True) -> str:
    """Return a time in seconds as "12.3 (11.9 to 12.8) ms"."""
    if estimate is None:
        return NOT_KNOWN
    name, unit = scale(estimate.value, TIME_UNITS)
    text = interval(estimate, unit, say_none)
    if " (" not in text:
        return f"{text} {name}"
    return f"{text} {name}" if estimate.low is not None else text.replace(" (", f" {name} (", 1)


def percent(share: float) -> str:
    """Return a share as "0.012 %"."""
    return f"{number(share * 100)} %"


def about(share: float) -> str:
    """Return a share with the two digits that matter where it is itself uncertain: "0.42 %", "4.2 %", "120 %"."""
    return f"{share * 100:.2g} %" if share < 0.1 else f"{share * 100:,.0f} %"


def capital(text: str) -> str:
    """Return the text with a capital first letter and the others as they are."""
    return text[:1].upper() + text[1:]


def count(n: int, noun: str) -> str:
    """Return "1 process" or "3 processes"."""
    return f"{n:,} {noun if n == 1 else plural(noun)}"


def spread(values: Iterable[int]) -> str:
    """Return "3" or "1 to 3" of whole numbers."""
    held = sorted(set(values))
    return f"{held[0]}" if len(held) == 1 else f"{held[0]} to {held[-1]}"


def set_title(key: tuple[str, str, str]) -> str:
    """Return the heading of a workload, variant and mode: "Galaxy shape, dnn, train"."""
    workload, *rest = key
    # A workload of the user's own is named by its file, which must stay as it is.
    name = capital(workload.replace("_", " ").replace("-", " ")) if ":" not in workload else workload
    return ", ".join(part for part in (name, *rest) if part)


def options(row: Row) -> str:
    """Return the options of a row as "fused=True, threads=2"."""
    return ", ".join(f"{k}={v}" for k, v in sorted(row.options.items()) if v != "")


def traits(row: Row) -> dict[str, str]:
    """Return what tells series apart, as heading -> text."""
    return {
        "run": row.run,
        "framework": row.framework,
        "device": row.device,
        "devices": str(row.devices),
        "precision": row.precision,
        "size": row.size,
        "options": options(row),
        "code": row.code,
    }


def differing(table: Sequence[Row]) -> list[str]:
    """Return the headings of the traits that are not the same in all rows."""
    all_traits = [traits(r) for r in table]
    return [name for name in (all_traits[0] if all_traits else {}) if len({t[name] for t in all_traits}) > 1]


def series(table: Sequence[Row]) -> list[str]:
    """Return for each row the name of its series: framework, device, and what else differs within the table.

    What was not measured says so: "torch on sim:graphcore-gc2 (modelled)".
    """
    names = []
    further = [name for name in differing(table) if name not in ("framework", "device")]
    for row in table:
        name = ", ".join([f"{row.framework} on {row.device}", *_named(row, further)])
        names.append(name if row.provenance == "measured" else f"{name} ({row.provenance or 'provenance not known'})")
    return names


def _named(row: Row, names: Iterable[str]) -> list[str]:
    """Return the texts of some traits; numbers and sizes with their heading, so that they can be understood alone."""
    held = traits(row)
    return [f"{n} {held[n]}" if n in ("devices", "size", "run") else held[n] for n in names if held[n]]


def place(row: Row, table: Sequence[Row]) -> str:
    """Return where a row was measured: "on cpu with torch", and what else differs within the table."""
    further = [name for name in differing(table) if name not in ("framework", "device")]
    return ", ".join([f"on {row.device} with {row.framework}", *_named(row, further)])
