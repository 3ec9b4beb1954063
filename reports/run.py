"""What a report is made from: runs as the store hands them over."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from siderostat.record import IDLE, QUALITY, THROUGHPUT, TIME_TO_QUALITY, Cell, Protocol, Provenance, Record
from siderostat.stats import Case, Drift, Estimate, cases, drift

NULL_WORKLOAD = "null"  # does nothing: its time per step is what the harness itself costs


@dataclass(frozen=True)
class Measured:
    """Which code a figure is of.

    Attributes:
        commit: its commit, or the first digits of it; empty where that is not known.
        is_changed: whether there was code on top of it that was not committed.
    """

    commit: str
    is_changed: bool = False


@dataclass(frozen=True)
class RunData:
    """One run folder, read.

    Attributes:
        folder: where the run lies.
        manifest: ``manifest.json``; any key may be missing.
        records: all records, in the order of writing.
        warnings: sentences about what was left out on reading, such as torn journal lines.
    """

    folder: Path
    manifest: dict[str, Any]
    records: list[Record]
    warnings: list[str] = field(default_factory=list)

    @property
    def label(self) -> str:
        """The run's name: the manifest's identifier, else the folder's name."""
        return str(self.manifest.get("run") or self.folder.name)

    @property
    def grade(self) -> str:
        """``quick``, ``ci``, ``publish``, or empty where the manifest does not say."""
        return str(self.manifest.get("grade") or "")

    def environment(self, record: Record) -> Mapping[str, Any]:
        """Return what the manifest says of the machine and the software that a record was made on."""
        return _mapping(_mapping(self.manifest.get("environments")).get(record.environment or ""))

    def measured(self, record: Record) -> Measured:
        """Say which code a record is of: a side of a gate, a workload's own or, for bundled ones, siderostat's."""
        cell, environment = record.attempt.cell, self.environment(record)
        if cell.code:
            return Measured(self._sides.get(cell.code, ""))
        about = _mapping(_mapping(environment.get("code")).get(cell.workload)) or environment
        return Measured(str(about.get("commit") or ""), bool(about.get("dirty")))

    @cached_property
    def _sides(self) -> dict[str, str]:
        """The first digits of the commit of either side of a gate, from ``gate.json`` beside the run."""
        try:
            said = _mapping(json.loads((self.folder.resolve().parent / "gate.json").read_text()))
        except (OSError, ValueError):
            return {}
        words = {side: str(said.get(side, "")).split() for side in ("base", "head")}
        return {side: of[1] for side, of in words.items() if len(of) > 1 and re.fullmatch(r"[0-9a-f]{7,64}", of[1])}

    @cached_property
    def cases(self) -> list[Case]:
        """Every cell that was timed but those of the null workload, estimated."""
        return cases(r for r in self._timed if r.attempt.cell.workload != NULL_WORKLOAD)

    @property
    def _timed(self) -> list[Record]:
        return [r for r in self.records if r.attempt.cell.measure == THROUGHPUT]

    @cached_property
    def idle(self) -> list[Record]:
        """The records of devices that did nothing."""
        return [r for r in self.records if r.attempt.cell.measure == IDLE]

    @cached_property
    def drift(self) -> Drift | None:
        """How times changed while the run was measured; None where that cannot be told."""
        return drift(record for case in self.cases for record in case.records)

    @cached_property
    def trained(self) -> list[tuple[Cell, list[Record]]]:
        """Every cell whose model was judged, with its records."""
        found: dict[str, list[Record]] = {}
        for record in self.records:
            if record.attempt.cell.measure in (QUALITY, TIME_TO_QUALITY):
                found.setdefault(record.attempt.cell.key(), []).append(record)
        return [(records[0].attempt.cell, records) for records in found.values()]

    @cached_property
    def overheads(self) -> list[Case]:
        """The null workload's cells; ``seconds_per_item`` is seconds per step, since its item is the step."""
        return cases(r for r in self._timed if r.attempt.cell.workload == NULL_WORKLOAD)

    @property
    def null_seconds_per_step(self) -> Estimate | None:
        """The harness's own time in seconds per step, the largest where several were measured; None: not measured."""
        known = [c.seconds_per_item for c in self.overheads if c.provenance is Provenance.MEASURED]
        return max((e for e in known if e is not None), key=lambda e: e.value, default=None)

    @property
    def shortest_step(self) -> tuple[Case, float] | None:
        """The measured case with the shortest step, and that step in seconds; None where none was measured."""
        steps = [
            (case, case.seconds_per_item.value * items)
            for case in self.cases
            if case.seconds_per_item is not None and case.provenance is Provenance.MEASURED
            for items in [next(r.items_per_step for r in case.records if r.items_per_step)]
            if items is not None
        ]
        return min(steps, key=lambda step: step[1], default=None)

    @property
    def protocols(self) -> list[Protocol]:
        """The distinct protocols of the records, in order of first appearance."""
        found: list[Protocol] = []
        for record in self.records:
            if record.attempt.protocol not in found:
                found.append(record.attempt.protocol)
        return found


def _mapping(value: object) -> Mapping[str, Any]:
    """Return what should be a mapping, an empty one where it is none: a manifest may come from anywhere."""
    return value if isinstance(value, Mapping) else {}


def run_names(runs: Sequence[RunData]) -> list[str]:
    """Return a name for each run, all different: a second one of the same name gets " (2)"."""
    labels = [run.label for run in runs]
    return [
        label if (nth := labels[: i + 1].count(label)) == 1 else f"{label} ({nth})" for i, label in enumerate(labels)
    ]
