"""Comparisons as a report shows them: ratios with the rows of both sides, and as flat rows.

Within a run they follow its plan; the cells of further runs are compared with those of the first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from siderostat import ratios
from siderostat.energy import EnergyRatio, best, energy_ratio
from siderostat.ratios import Mean, Missing, Ratio
from siderostat.reports.rows import Row, row
from siderostat.reports.run import RunData, run_names
from siderostat.stats import Estimate, least_direct

MEAN = "mean"
_CELL = ("workload", "variant", "mode", "framework", "device", "devices", "precision", "size", "batch", "options")
_RUNS = ("run", "reference_run")
COLUMNS = (
    "kind", *_CELL, *(f"reference_{name}" for name in _CELL), "item", "ratio", "ratio_low", "ratio_high", "is_paired",
    "n_pairs", "n_processes", "n_reference_processes", "detectable", "provenance", "flags", "n_tasks", "least",
    "largest", "energy_ratio", "energy_ratio_low", "energy_ratio_high", "energy_scopes_differ",
)  # fmt: skip
"""Of :func:`flat_rows`, after ``run`` and ``reference_run`` where there are several runs."""


@dataclass(frozen=True)
class Compared:
    """A ratio as a report shows it.

    Attributes:
        ratio: the figure.
        reference: row of the reference; ``row`` is that of the other side.
        flags: the ratio's, and ``indicative`` where one of the runs is of grade ``quick``.
        energy: how many times as many items for the same energy; None where that is not known.
    """

    ratio: Ratio
    reference: Row
    row: Row
    flags: tuple[str, ...]
    energy: EnergyRatio | None


@dataclass(frozen=True)
class Unknown:
    """A comparison without a ratio, as a report shows it."""

    missing: Missing
    reference: Row
    row: Row


@dataclass(frozen=True)
class Block:
    """All comparisons within a run, or of a run with the first one."""

    title: str
    compared: list[Compared]
    unknown: list[Unknown]
    means: list[Mean]

    def origin(self, mean: Mean) -> tuple[str | None, list[str]]:
        """Return provenance and flags of what a mean rests on."""
        held = [c for c in self.compared if c.ratio in mean.ratios]
        known = least_direct(c.ratio.provenance for c in held)
        return (known.value if known else None), sorted({f for c in held for f in c.flags})

    def first(self, mean: Mean) -> Compared:
        """Return the first of the ratios that a mean rests on."""
        return next(c for c in self.compared if c.ratio == mean.ratios[0])


def blocks(runs: Sequence[RunData]) -> list[Block]:
    """Return all comparisons: within each run, then of each further run with the first; without empty ones."""
    names = run_names(runs) if len(runs) > 1 else [""] * len(runs)
    tables = [_by_cell(run, name) for run, name in zip(runs, names, strict=True)]
    found = []
    for run, name, table in zip(runs, names, tables, strict=True):
        found.append(_block(name, ratios.within(run.cases), table, table))
    found += [between(runs[0], run, (names[0], name)) for run, name in zip(runs[1:], names[1:], strict=True)]
    return [block for block in found if block.compared or block.unknown]


def between(reference: RunData, run: RunData, names: tuple[str, str]) -> Block:
    """Return the comparison of two runs, named in the order of the arguments: unpaired, with Welch's interval."""
    made = ratios.between(reference.cases, run.cases)
    tables = [_by_cell(one, name) for one, name in zip((reference, run), names, strict=True)]
    return _block(f"{names[1]} against {names[0]}", made, *tables)


def _by_cell(run: RunData, name: str) -> dict[str, Row]:
    """Return the rows of a run by the keys of their cells."""
    return {case.cell.key(): row(case, run.grade, name, run.idle) for case in run.cases}


def _block(title: str, made: ratios.Comparison, theirs: Mapping[str, Row], ours: Mapping[str, Row]) -> Block:
    """Return comparisons with the rows of both sides, looked up in those of the reference's run and of the other."""
    compared = [_compared(r, theirs[r.reference.key()], ours[r.cell.key()]) for r in made.ratios]
    unknown = [Unknown(m, theirs[m.reference.key()], ours[m.cell.key()]) for m in made.missing]
    return Block(title, compared, unknown, made.means)


def _compared(ratio: Ratio, reference: Row, side: Row) -> Compared:
    """Return a ratio as it is shown."""
    quick = {"indicative"} if "quick" in (reference.grade, side.grade) else set()
    first, second = best(reference.energy), best(side.energy)
    joules = None if first is None or second is None else energy_ratio(first, second)
    return Compared(ratio, reference, side, tuple(sorted({*ratio.flags, *quick})), joules)


def flat_rows(runs: Sequence[RunData]) -> Iterator[dict[str, Any]]:
    """Yield one row for each ratio and each mean: the form that ``ratios.csv`` and ``report.json`` have."""
    for block in blocks(runs):
        for c in block.compared:
            yield {**_run_columns(c, len(runs) > 1), **columns(c)}
        for mean in block.means:
            yield {**_run_columns(block.first(mean), len(runs) > 1), **_flat_mean(mean, block)}


def _run_columns(compared: Compared, several: bool) -> dict[str, str]:
    return dict(zip(_RUNS, (compared.row.run, compared.reference.run), strict=True)) if several else {}


def columns(compared: Compared) -> dict[str, Any]:
    """Return the columns of a ratio, ``COLUMNS``."""
    ratio, joules = compared.ratio, compared.energy
    values: dict[str, Any] = {
        "kind": ratio.kind,
        **_cell_columns([ratio]),
        "item": compared.row.item,
        **_interval_columns("ratio", ratio.estimate),
        "is_paired": ratio.is_paired,
        "n_pairs": ratio.n_cell if ratio.is_paired else None,
        "n_processes": ratio.n_cell,
        "n_reference_processes": ratio.n_reference,
        "detectable": ratio.log.detectable,
        "provenance": ratio.provenance.value if ratio.provenance else None,
        "flags": ",".join(compared.flags),
        **_interval_columns("energy_ratio", joules.items if joules else None),
        "energy_scopes_differ": joules.scopes_differ if joules else None,
    }
    return {name: values.get(name) for name in COLUMNS}


def _flat_mean(mean: Mean, block: Block) -> dict[str, Any]:
    """Return the columns of a mean; those in which its ratios differ are not known."""
    provenance, flags = block.origin(mean)
    values: dict[str, Any] = {
        "kind": MEAN,
        **_cell_columns(mean.ratios),
        **_interval_columns("ratio", mean.estimate),
        "is_paired": all(r.is_paired for r in mean.ratios),
        "detectable": mean.log.detectable,
        "provenance": provenance,
        "flags": ",".join(flags),
        "n_tasks": len(mean.parts),
        "least": mean.least,
        "largest": mean.largest,
    }
    return {name: values.get(name) for name in COLUMNS}


def _cell_columns(held: Sequence[Ratio]) -> dict[str, Any]:
    """Return the columns of the cells on both sides, None where they differ among the ratios."""
    columns: dict[str, Any] = {}
    for prefix, cells in (("", [r.cell for r in held]), ("reference_", [r.reference for r in held])):
        for name in _CELL:
            values = [_column(getattr(cell, name)) for cell in cells]
            columns[f"{prefix}{name}"] = values[0] if len(set(values)) == 1 else None
    return columns


def _column(value: Any) -> Any:
    return ",".join(f"{k}={v}" for k, v in sorted(value.items())) if isinstance(value, dict) else value


def _interval_columns(name: str, estimate: Estimate | None) -> dict[str, float | None]:
    if estimate is None:
        return {name: None, f"{name}_low": None, f"{name}_high": None}
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
