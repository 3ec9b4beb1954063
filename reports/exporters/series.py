"""What is exported: every timed cell of every run, with a name that stays the same from run to run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from siderostat.energy import best
from siderostat.record import Cell, Provenance, Record
from siderostat.reports.rows import Row, row
from siderostat.reports.run import RunData, run_names
from siderostat.stats import Estimate, counted, process_seconds_per_item
from siderostat.words import plural

_LONGEST = 400  # characters of a name; Bencher takes 1024, and names end in more than this


@dataclass(frozen=True)
class Series:
    """One cell of one run.

    Attributes:
        name: of the cell, with its size and the options that differ in its run; no other series has it.
        row: its figures and settings.
        run: that it belongs to.
        processes: the records that its figures rest on, one for each round.
    """

    name: str
    row: Row
    run: RunData
    processes: tuple[Record, ...]

    @property
    def time(self) -> Estimate | None:
        """Seconds per item: geometric mean over processes with the 95 % interval."""
        return self.row.time

    @property
    def rate(self) -> Estimate | None:
        """Items per second."""
        return self.row.rate

    @property
    def joules(self) -> Estimate | None:
        """Joules per item with the 95 % interval, or the band of an estimate; None where they are not known."""
        found = best(self.row.energy)
        return None if found is None else found.estimate

    @property
    def title(self) -> str:
        """The name; where it was not measured, with its provenance, for formats that have no place for that."""
        measured = self.row.provenance in (None, Provenance.MEASURED.value)
        return self.name if measured else f"{self.name} ({self.row.provenance})"

    @property
    def seconds_of_processes(self) -> list[float]:
        """The figure of each process: its median seconds per item. Of a model the one that it gives."""
        if self.row.is_band and self.time is not None:
            return [self.time.value]
        return [process_seconds_per_item(record) for record in self.processes]

    @property
    def started_at(self) -> datetime | None:
        """When the first of its processes started; None where no record says."""
        known = [at for record in self.row.case.records if (at := started_at(record)) is not None]
        return min(known, default=None)

    @property
    def settings(self) -> dict[str, str]:
        """What tells the series from others, as texts; options as ``option_NAME``."""
        cell = self.row.case.cell
        held = {
            "workload": cell.workload, "variant": cell.variant, "mode": cell.mode, "framework": cell.framework,
            "device": cell.device, "devices": str(cell.devices), "batch": str(cell.batch), "size": cell.size,
            "precision": cell.precision, "code": cell.code,
        }  # fmt: skip
        held.update({f"option_{name}": str(value) for name, value in sorted(cell.options.items())})
        return {name: value for name, value in held.items() if value}

    @property
    def environment(self) -> Mapping[str, Any]:
        """What the manifest says of the machine of the first record; empty where it says nothing."""
        environments = self.run.manifest.get("environments")
        found = environments.get(self.row.case.records[0].environment) if isinstance(environments, dict) else None
        return found if isinstance(found, dict) else {}


def series(runs: Sequence[RunData]) -> list[Series]:
    """Return the timed cells of all runs but those of the null workload; with several runs the names say which."""
    labels = run_names(runs)
    found: list[Series] = []
    taken: set[str] = set()
    for run, label in zip(runs, labels, strict=True):
        differing = _differing_options([case.cell for case in run.cases])
        for case in run.cases:
            name = _name(case.cell, differing[_label(case.cell)], label if len(runs) > 1 else "")
            if name in taken:
                name = f"{name} [{case.cell.key()}]"
            taken.add(name)
            found.append(Series(name, row(case, run.grade, label, run.idle), run, tuple(counted(case.records))))
    return found


def _label(cell: Cell) -> str:
    words = [cell.label(), *([f"size {cell.size}"] if cell.size else [])]
    return " ".join([*words, *([f"devices {cell.devices}"] if cell.devices != 1 else [])])


def _differing_options(cells: Sequence[Cell]) -> dict[str, list[str]]:
    """Return for each label the options that are not the same in all cells of that label.

    The others stay out of names: a workload that learns a further option keeps the names of its series.
    """
    values: dict[str, dict[str, set[str]]] = {}
    for cell in cells:
        held = values.setdefault(_label(cell), {})
        for name, value in cell.options.items():
            held.setdefault(name, set()).add(str(value))
    return {label: sorted(name for name, seen in held.items() if len(seen) > 1) for label, held in values.items()}


def _name(cell: Cell, options: Sequence[str], run: str) -> str:
    words = [_label(cell), *(f"{name}={cell.options.get(name)}" for name in options)]
    name = in_one_line(" ".join([*words, *([f"run {run}"] if run else [])]))
    return name if len(name) <= _LONGEST else f"{name[:_LONGEST]} [{cell.key()}]"


def in_one_line(text: str) -> str:
    """Return a text without line breaks, control characters and repeated blanks."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def started_at(record: Record) -> datetime | None:
    """Return when a process started; None where its record does not say."""
    try:
        at = datetime.fromisoformat(str(record.process["started_at"]))
    except (KeyError, ValueError):
        return None
    return at if at.tzinfo is not None else None


def timed(found: Sequence[Series], reader: str) -> tuple[list[Series], list[str]]:
    """Return the series that have a time, and a sentence about the others.

    Args:
        found: all series.
        reader: the format, which has no place for a case without a figure.
    """
    held = [one for one in found if one.time is not None]
    left = len(found) - len(held)
    if not left:
        return held, []
    verb = "has" if left == 1 else "have"
    noun = "case" if left == 1 else plural("case")
    return held, [
        f"{left:,} {noun} {verb} no figure, which {reader} cannot say; left out here ('junit' and 'lines' say why)"
    ]
