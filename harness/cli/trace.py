"""``siderostat trace``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from siderostat import config, tracing
from siderostat.cli.sweep import option_pair
from siderostat.errors import DONE, BadValue, RunFolderError
from siderostat.files import write_atomically
from siderostat.record import Cell
from siderostat.tracing import Trace

_TOP = 20  # rows that are printed; a page and a CSV file have all


def main(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    """Print what a step computes and moves; write a page about it if asked."""
    roofs = tracing.roofs(arguments.chip)
    trace = tracing.ask(_cell(arguments))
    if arguments.json:
        print(json.dumps(_as_dict(trace), indent=1))
    else:
        _print(trace)
    if arguments.output:
        _write(Path(arguments.output), trace, roofs)
    return DONE


def _cell(arguments: argparse.Namespace) -> Cell:
    """Return the one step that is asked for."""
    if arguments.batch < 1:
        raise BadValue(f"-b: a batch has at least one item, not {arguments.batch}")
    axes = {
        f"{axis}s": [value] for axis in ("variant", "mode", "framework", "size") if (value := vars(arguments)[axis])
    }
    table: dict[str, Any] = {"workload": arguments.workload, "batches": [arguments.batch], **axes}
    table["options"] = dict(option_pair(text) for text in arguments.set)
    return config.groups(config.Sweep(tables=[table]))[0][0]


def _as_dict(trace: Trace) -> dict[str, Any]:
    cell = trace.cell
    step = {
        name: vars(cell)[name]
        for name in ("workload", "variant", "mode", "framework", "size", "batch", "options")
    }  # fmt: skip
    rows = [{**vars(row), "flops_per_byte": row.intensity} for row in trace.by_operation()]
    return {
        **step,
        "item": trace.item,
        "packages": trace.packages,
        "totals": trace.totals(),
        "operations": rows,
        "graph": trace.graph.to_dict(),
    }


def _print(trace: Trace) -> None:
    from rich.console import Console
    from rich.table import Table

    from siderostat.reports import trace as page

    print(page.title(trace))
    for name, value in page.facts(trace):
        print(f"  {name}: {value}")
    shown = page.operation_table(trace, _TOP)
    table = Table(title=None)
    for number, heading in enumerate(shown.head):
        table.add_column(heading, justify="right" if number in shown.figures else "left", overflow="fold")
    for row in shown.rows:
        table.add_row(*row.cells)
    Console(width=None if sys.stdout.isatty() else 140).print(table)
    if shown.caption:
        print(f"{shown.caption}.")


def _write(folder: Path, trace: Trace, roofs: Sequence[tracing.Roof]) -> None:
    from siderostat.reports import trace as page

    texts = page.texts(trace, roofs)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            write_atomically(folder / name, text)
    except OSError as error:
        raise RunFolderError(f"cannot write to {folder}: {error.strerror}") from error
    print(f"{', '.join(texts)} written to {folder}", file=sys.stderr)
