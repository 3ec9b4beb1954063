r"""OpenMetrics text (https://prometheus.io/docs/specs/om/open_metrics_spec/): gauges with HELP, TYPE, UNIT.

A case's settings and provenance are labels, the ends of an interval gauges of their own. What is not known has no
sample. In labels ``\``, ``"`` and line ends are escaped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from siderostat.reports.exporters import Export
from siderostat.reports.exporters.series import Series


@dataclass(frozen=True)
class _Family:
    """A gauge: the column that it shows, its name without the unit, the unit, and what it is."""

    column: str
    name: str
    unit: str
    text: str

    @property
    def full_name(self) -> str:
        return "_".join(part for part in ("siderostat", self.name, self.unit) if part)


_RATE = "items_per_second"
_FAMILIES = (
    _Family("seconds_per_item", "item", "seconds", "Time per item, geometric mean over processes."),
    _Family("seconds_per_item_low", "item_low", "seconds", "Lower end of the 95 % interval of the time per item."),
    _Family("seconds_per_item_high", "item_high", "seconds", "Upper end of the 95 % interval of the time per item."),
    _Family("items_per_s", "throughput", _RATE, "Items per second."),
    _Family("items_per_s_low", "throughput_low", _RATE, "Lower end of the 95 % interval of the throughput."),
    _Family("items_per_s_high", "throughput_high", _RATE, "Upper end of the 95 % interval of the throughput."),
    _Family("joules_per_item", "item", "joules", "Energy per item."),
    _Family("joules_per_item_u95", "item_u95", "joules", "Half-width of the 95 % interval of the energy per item."),
    _Family("peak_bytes", "peak_memory", "bytes", "Largest memory use over the processes."),
    _Family("n_processes", "processes", "", "Processes that the figures rest on."),
    _Family("n_failed", "failed_processes", "", "Processes that did not end with a figure."),
)


def export(found: Sequence[Series]) -> Export:
    """Return ``siderostat.prom``."""
    return Export({"siderostat.prom": _text(found)} if found else {})


def _text(found: Sequence[Series]) -> Iterator[str]:
    for family in _FAMILIES:
        lines = (_sample(family, one) for one in found)
        samples = (line for line in lines if line is not None)
        first = next(samples, None)
        if first is not None:
            name = family.full_name
            yield f"# TYPE {name} gauge\n"
            yield f"# UNIT {name} {family.unit}\n" if family.unit else ""
            yield f"# HELP {name} {family.text}\n"
            yield first
            yield from samples
    yield "# EOF\n"


def _sample(family: _Family, one: Series) -> str | None:
    value = getattr(one.row, family.column)
    if value is None:
        return None
    # What further tells a figure from others of its name. A provenance that nobody stated is no label.
    provenance = one.row.energy_provenance if "joules" in family.column else one.row.provenance
    options = {name: text for name, text in one.settings.items() if name.startswith("option_")}
    labels = {
        "series": one.name,
        **{name: text for name, text in one.settings.items() if name not in options},
        "options": ", ".join(f"{name.removeprefix('option_')}={text}" for name, text in options.items()),
        "item": one.row.item,
        "provenance": provenance,
        "status": one.row.status,
        "grade": one.row.grade,
        "run": one.run.label,
    }
    held = ",".join(f'{name}="{_escaped(text)}"' for name, text in labels.items() if text)
    return f"{family.full_name}{{{held}}} {value!r}\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\r", " ").replace("\n", "\\n")
