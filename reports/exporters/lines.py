"""One line for each figure, in a form that stays the same for scripts.

``figure: series="..." name=items_per_s value=... low=... high=... unit="..." processes=... provenance=...``

``series``, ``name`` and ``value`` come first, always in this order; what is not known is left out, and further keys may
come at the end. Texts are JSON strings in ASCII, so that a line is a line whatever a record holds. A case without a
figure is ``nofigure: series="..." status=... reason=...``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from siderostat.reports.exporters import Export
from siderostat.reports.exporters.series import Series
from siderostat.stats import Estimate


def export(found: Sequence[Series]) -> Export:
    """Return the lines of all series."""
    return Export({"figures.txt": (f"{line}\n" for one in found for line in lines(one))})


def lines(one: Series) -> Iterator[str]:
    """Yield the lines of one series, without line ends."""
    row = one.row
    if one.time is None or one.rate is None:
        yield " ".join(["nofigure:", _text("series", one.name), *_known({"status": row.status, "reason": row.reason})])
        return
    item = row.item or "item"
    yield _figure(one, "seconds_per_item", one.time, f"s/{item}")
    yield _figure(one, "items_per_s", one.rate, f"{item}/s")
    if one.joules is not None:
        yield _figure(one, "joules_per_item", one.joules, f"J/{item}", row.energy_provenance)
    if row.peak_bytes is not None:
        yield _figure(one, "peak_bytes", Estimate(row.peak_bytes, None, None, row.n_processes), "B")


def _figure(one: Series, name: str, estimate: Estimate, unit: str, provenance: str | None = None) -> str:
    ends = {"low": estimate.low, "high": estimate.high}
    words = ["figure:", _text("series", one.name), f"name={name}", f"value={estimate.value:.9g}"]
    words += [f"{key}={end:.9g}" for key, end in ends.items() if end is not None]
    words += [_text("unit", unit), f"processes={estimate.n}"]
    words += _known({"provenance": provenance or one.row.provenance, "grade": one.row.grade})
    return " ".join([*words, *([_text("flags", one.row.flags)] if one.row.flags else [])])


def _known(values: dict[str, str | None]) -> list[str]:
    """Return words from a fixed vocabulary."""
    return [f"{key}={_word(value)}" for key, value in values.items() if value]


def _word(value: str) -> str:
    return value if value.replace("_", "").isalnum() and value.isascii() else json.dumps(value)


def _text(key: str, value: str) -> str:
    return f"{key}={json.dumps(value)}"
