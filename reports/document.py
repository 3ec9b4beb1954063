"""A report's content, without its form: what the page and the Markdown file both say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from siderostat.reports import capacity, energy, published, quality, ratios, sentences, tables
from siderostat.reports.environment import commands, facts, summary
from siderostat.reports.glossary import FLAGS, PROVENANCE, STATUS, TERMS, explain
from siderostat.reports.labels import set_title
from siderostat.reports.published.arcelin2021 import caveats
from siderostat.reports.rows import Row, rows, sets
from siderostat.reports.run import RunData, run_names
from siderostat.reports.section import Section
from siderostat.reports.tables import Table

SECTIONS: Sequence[Callable[[Sequence[RunData]], Section | None]] = (
    ratios.section,
    capacity.section,
    energy.section,
)
"""In the order of the report."""


@dataclass(frozen=True)
class CaseSet:
    """All of one workload, variant and mode.

    Attributes:
        title: heading.
        rows: its cases.
        curves: published curves that belong beside them.
        headlines: sentences.
        cases: table of the cases.
        flags: explanations of the flags in that table.
        start_up: table of the times before the first timed step; None where nothing ran.
        beside: times for the published task, measured and published; None without published curves.
        caveats: what keeps the published figures from being compared freely.
    """

    title: str
    rows: list[Row]
    curves: list[published.Curve]
    headlines: list[str]
    cases: Table
    flags: list[str]
    start_up: Table | None
    beside: Table | None
    caveats: list[str]


@dataclass(frozen=True)
class LearnedPart:
    """What is said of one model's quality.

    Attributes:
        learned: the cell and its records.
        headline: sentence.
        table: figures.
    """

    learned: quality.Learned
    headline: str
    table: Table


@dataclass(frozen=True)
class RunPart:
    """What belongs to one run rather than to a workload."""

    name: str
    summary: str
    overhead: list[str]
    failures: Table | None
    protocol: list[str]
    facts: list[tuple[str, list[tuple[str, str]]]]
    commands: list[tuple[str, str]]


@dataclass(frozen=True)
class Document:
    """A whole report."""

    title: str
    generated_at: str
    notes: list[str]
    warnings: list[str]
    sections: list[Section]
    sets: list[CaseSet]
    learned: list[LearnedPart]
    runs: list[RunPart]
    sources: list[str]
    glossary: list[tuple[str, list[tuple[str, str]]]] = field(
        default_factory=lambda: [
            ("Terms", list(TERMS.items())),
            ("Where figures come from", list(PROVENANCE.items())),
            ("Flags", list(FLAGS.items())),
            ("How a process ends, where not ok", list(STATUS.items())),
        ]
    )


def document(runs: Sequence[RunData]) -> Document:
    """Return the report of runs, which are set side by side and never pooled."""
    names = run_names(runs)
    case_sets = [_case_set(key, table) for key, table in sets(rows(runs)).items()]
    named = [(f"{name}: " if len(runs) > 1 else "", run) for name, run in zip(names, runs, strict=True)]
    return Document(
        title=f"siderostat: {_title(runs)}",
        generated_at=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        notes=[f"{prefix}{note}" for prefix, run in named for note in sentences.notes(run)],
        warnings=[f"{prefix}{warning}" for prefix, run in named for warning in run.warnings],
        sections=sections(runs),
        sets=case_sets,
        learned=[LearnedPart(of, quality.headline(of), quality.table(of)) for of in quality.learned(runs)],
        runs=[_run_part(name, run) for name, run in zip(names, runs, strict=True)],
        sources=list(dict.fromkeys(c.source for s in case_sets for c in s.curves)),
    )


def sections(runs: Sequence[RunData]) -> list[Section]:
    """Return the sections that stand on their own, without those that have nothing to say."""
    return [section for make in SECTIONS if (section := make(runs)) is not None]


def headlines(run: RunData) -> list[str]:
    """Return what a run's report says first, as plain lines."""
    lines = [f"{set_title(key)}: {s}" for key, table in sets(rows([run])).items() for s in sentences.headlines(table)]
    lines += [f"{of.title}: {quality.headline(of)}" for of in quality.learned([run])]
    lines += [f"{section.title}: {headline}" for section in sections([run]) for headline in section.headlines]
    return [*lines, *sentences.notes(run)] if lines else lines


def _title(runs: Sequence[RunData]) -> str:
    """Return what a report is called."""
    if len(runs) != 1:
        return f"{len(runs)} runs side by side"
    name = runs[0].manifest.get("name")
    return f"{name}, {runs[0].label}" if name else runs[0].label


def _case_set(key: tuple[str, str, str], table: list[Row]) -> CaseSet:
    """Return all of one workload, variant and mode."""
    curves = published.curves(*key)
    flags = {f for r in table for f in r.flags.split(",") if f} | (
        {"contended"} if any(r.n_contended for r in table) else set()
    )
    return CaseSet(
        title=set_title(key),
        rows=table,
        curves=curves,
        headlines=sentences.headlines(table),
        cases=tables.case_table(table),
        flags=[explain(f) for f in sorted(flags)],
        start_up=tables.start_up_table(table),
        beside=tables.published_table(table, curves) if curves else None,
        caveats=[*caveats(key[1]), _networks(table, curves)] if curves else [],
    )


def _networks(table: Sequence[Row], curves: Sequence[published.Curve]) -> str:
    """Say which networks stand side by side."""
    sizes = ", ".join(sorted({r.size for r in table}))
    return f"The published network has {curves[0].parameters:,} parameters; size here: {sizes}."


def _run_part(name: str, run: RunData) -> RunPart:
    """Return what belongs to one run."""
    return RunPart(
        name=name,
        summary=summary(run),
        overhead=sentences.overhead(run),
        failures=tables.failure_table(run.records),
        protocol=sentences.protocols(run),
        facts=facts(run),
        commands=commands(run),
    )
