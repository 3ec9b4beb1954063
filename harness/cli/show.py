"""``siderostat show``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from siderostat import progress, ratios, stats, store
from siderostat.errors import DONE
from siderostat.ratios import Ratio
from siderostat.record import THROUGHPUT, Record
from siderostat.stats import Case, Estimate
from siderostat.store import Run

_MOST_ROWS = 1000  # of the table, of ratios and of trained models


def main(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    """Print the figures of a run, one row per case."""
    run = Run(Path(arguments.run))
    for warning in run.warnings:
        print(f"siderostat: {warning}", file=sys.stderr)
    cases = stats.cases(r for r in run.records if r.attempt.cell.measure == THROUGHPUT)
    compared = ratios.within(cases).ratios
    judged = [r for r in run.records if r.quality is not None and r.quality.looks]
    if arguments.json:
        figures = {
            "cases": [_as_dict(c) for c in cases],
            "ratios": [_ratio(r) for r in compared],
            "quality": [_quality(r) for r in judged],
        }
        print(json.dumps({"run": str(run.folder), "grade": run.plan.grade, **figures}, indent=1))
        return DONE
    _print_table(run, cases)
    for ratio in compared[:_MOST_ROWS]:
        print(store.printable(_compared(ratio)))
    for record in judged[:_MOST_ROWS]:
        print(store.printable(progress.described(record)))
    longest = max(len(cases), len(compared), len(judged))
    if longest > _MOST_ROWS:
        print(
            f"The first {_MOST_ROWS:,} of {longest:,} are shown; all figures, a line for each: "
            f"siderostat export lines {run.folder}"
        )
    return DONE


def _ratio(ratio: Ratio) -> dict[str, Any]:
    return {
        "kind": ratio.kind,
        "reference": asdict(ratio.reference),
        "cell": asdict(ratio.cell),
        "ratio": asdict(ratio.estimate),
        "is_paired": ratio.is_paired,
        "provenance": ratio.provenance and ratio.provenance.value,
        "flags": list(ratio.flags),
    }


def _compared(ratio: Ratio) -> str:
    """Return a ratio in a line."""
    how = f"{ratio.n_cell} pairs in lock-step" if ratio.is_paired else "unpaired"
    flags = f" ({', '.join(ratio.flags)})" if ratio.flags else ""
    return (
        f"{_with_interval(ratio.estimate)} times as fast, {ratio.kind} batch, {how}{flags}: "
        f"{ratio.cell.label()} against {ratio.reference.label()}"
    )


def _quality(record: Record) -> dict[str, Any]:
    quality = record.quality
    assert quality is not None
    looks = [asdict(look) for look in quality.looks]
    return {
        **asdict(record.attempt.cell),
        "round": record.attempt.round,
        "provenance": record.provenance and record.provenance.value,
        "figure": quality.figure,
        "target": quality.target,
        "reached": quality.reached is not None,
        "looks": looks,
    }


def _as_dict(case: Case) -> dict[str, Any]:
    time = case.seconds_per_item
    return {
        **asdict(case.cell),
        "provenance": case.provenance and case.provenance.value,
        "seconds_per_item": asdict(time) if time else None,
        "items_per_s": asdict(time.inverse()) if time else None,
        "statuses": [r.status.value for r in case.records],
        "reasons": sorted({r.reason.value for r in case.records if r.reason}),
        "flags": list(case.flags),
    }


def _print_table(run: Run, cases: Sequence[Case]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    done = len({r.attempt.key() for r in run.records})
    table = Table(
        title=Text(f"{run.folder}: grade {run.plan.grade}, {done} of {len(run.plan.attempts())} measurements"),
        title_justify="left",
    )
    for heading in (
        "workload",
        "device",
        "batch",
        "items per second",
        "time per item",
        "processes",
        "provenance",
        "notes",
    ):
        table.add_column(heading, justify="right" if heading in ("batch", "processes") else "left", overflow="fold")
    ranked = sorted(cases, key=lambda c: (c.cell.workload, c.cell.variant, c.cell.mode, c.cell.device, c.cell.batch))
    for case in ranked[:_MOST_ROWS]:
        cell, time = case.cell, case.seconds_per_item
        notes = sorted({r.reason.value for r in case.records if r.reason}) + list(case.flags)
        texts = [
            f"{cell.workload} {cell.variant} {cell.mode} {cell.framework}", cell.device, str(cell.batch),
            _with_interval(time.inverse()) if time else "n/a",
            _with_interval(time.times(1e3), " ms") if time else "n/a",
            str(time.n if time else 0), case.provenance.value if case.provenance else "n/a", ", ".join(notes),
        ]  # fmt: skip
        table.add_row(*map(Text, map(store.printable, texts)))  # as texts: no name is taken for markup
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def _with_interval(figure: Estimate, unit: str = "") -> str:
    if figure.low is None or figure.high is None:
        return f"{figure.value:.4g}{unit}, one process: no interval"
    return f"{figure.value:.4g}{unit} ({figure.low:.4g} to {figure.high:.4g})"
