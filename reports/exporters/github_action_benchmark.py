"""What github-action-benchmark reads with its tools ``customSmallerIsBetter`` and ``customBiggerIsBetter``.

An array of ``name``, ``unit``, ``value`` and, as texts, ``range`` and ``extra``
(https://github.com/benchmark-action/github-action-benchmark). The direction belongs to the file: hence two.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from siderostat.record import Provenance
from siderostat.reports.exporters import Export
from siderostat.reports.exporters.gates import GateSeries, Verdicts
from siderostat.reports.exporters.series import Series, timed
from siderostat.stats import Estimate

SMALLER, BIGGER = "smaller-is-better.json", "bigger-is-better.json"


def export(found: Sequence[Series]) -> Export:
    """Return both files: times, energy and memory in the one, items per second in the other."""
    held, notes = timed(found, "github-action-benchmark")
    smaller, bigger = [], []
    for one in held:
        assert one.time is not None and one.rate is not None
        item = one.row.item or "item"
        smaller.append(_entry(f"{one.title}: time", f"s/{item}", one.time, one))
        bigger.append(_entry(f"{one.title}: throughput", f"{item}/s", one.rate, one))
        if one.joules is not None:
            origin = one.row.energy_provenance
            mark = "" if origin == Provenance.MEASURED.value else f" ({origin})"
            smaller.append(_entry(f"{one.title}: energy{mark}", f"J/{item}", one.joules, one, origin))
        if one.row.peak_bytes is not None:
            peak = Estimate(one.row.peak_bytes, None, None, one.row.n_processes)
            smaller.append(_entry(f"{one.title}: peak memory", "B", peak, one))
    return _files(smaller, bigger, notes)


def export_gates(gates: Sequence[Verdicts]) -> Export:
    """Return both files with the head's figures of each series, and the verdict beside them."""
    smaller, bigger = [], []
    left = 0
    for gate in gates:
        for one in gate.series:
            seconds = one.head_seconds_per_item
            left += seconds is None
            if seconds is not None:
                smaller.append(_of_gate(f"{one.title}: time", "s/item", seconds, gate, one))
                bigger.append(_of_gate(f"{one.title}: throughput", "item/s", 1 / seconds, gate, one))
    notes = [f"{left:,} series of the gate have no figure, which github-action-benchmark cannot say; 'junit' does"]
    return _files(smaller, bigger, notes if left else [])


def _files(smaller: list[dict[str, Any]], bigger: list[dict[str, Any]], notes: list[str]) -> Export:
    if not smaller:
        return Export({}, notes)
    texts = {SMALLER: smaller, BIGGER: bigger}
    return Export({name: [json.dumps(held, indent=1, allow_nan=False), "\n"] for name, held in texts.items()}, notes)


def _entry(name: str, unit: str, estimate: Estimate, one: Series, provenance: str | None = None) -> dict[str, Any]:
    extra = [f"{estimate.n} processes", f"provenance: {provenance or one.row.provenance or 'not known'}"]
    around = {}
    if estimate.low is not None and estimate.high is not None:
        around = {"range": f"\N{PLUS-MINUS SIGN} {(estimate.high - estimate.low) / 2:.3g}"}
        extra.append(f"95 % interval: {estimate.low:.6g} to {estimate.high:.6g}")
    extra += [f"grade: {one.row.grade}"] if one.row.grade else []
    extra += [f"flags: {one.row.flags}"] if one.row.flags else []
    return {"name": name, "unit": unit, "value": estimate.value, **around, "extra": "\n".join(extra)}


def _of_gate(name: str, unit: str, value: float, gate: Verdicts, one: GateSeries) -> dict[str, Any]:
    extra = [f"{gate.head} against {gate.base}", f"verdict: {one.word}", one.sentence, f"time by: {one.basis}"]
    return {"name": name, "unit": unit, "value": value, "extra": "\n".join(line for line in extra if line)}
