"""``siderostat validate``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from siderostat import validation
from siderostat.config import check_devices
from siderostat.errors import DONE, BadValue, RunFolderError
from siderostat.files import write_atomically
from siderostat.store import Run
from siderostat.validation import Validation


def main(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    """Print how far a simulated device is from a measured one; write a page about it if asked."""
    (name,) = check_devices([arguments.simulated])
    run = Run(Path(arguments.against))
    for warning in run.warnings:
        print(f"siderostat: {warning}", file=sys.stderr)
    found = validation.validate(name, run.records, str(run.folder), arguments.device)
    if arguments.json:
        print(validation.to_json(found))
    else:
        _print(found)
    if arguments.output:
        _write(Path(arguments.output), found)
    return DONE


def _print(found: Validation) -> None:
    from rich.console import Console
    from rich.table import Table

    from siderostat.reports import validation as page

    console = Console(width=None if sys.stdout.isatty() else 140)
    for shown in (page.case_table(found), page.summary_table(found)):
        table = Table(title=None)
        for number, heading in enumerate(shown.head):
            table.add_column(heading, justify="right" if number in shown.figures else "left", overflow="fold")
        for row in shown.rows:
            table.add_row(*row.cells)
        console.print(table)
    for one in found.left_out:
        print(f"left out: {validation.described(one.cell)}: {one.reason}")
    for sentence in page.headlines(found):
        print(sentence)


def _write(folder: Path, found: Validation) -> None:
    from siderostat.reports import validation as page

    try:
        texts = page.texts(found)
    except ModuleNotFoundError as error:
        raise BadValue(
            f"-o needs the package {error.name}; install what it takes with: pip install 'siderostat[standard]'"
        ) from None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            write_atomically(folder / name, text)
    except OSError as error:
        raise RunFolderError(f"cannot write to {folder}: {error.strerror}; choose another folder with -o") from error
    print(f"{', '.join(texts)} written to {folder}", file=sys.stderr)
