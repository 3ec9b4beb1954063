"""``siderostat report``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from siderostat.errors import DONE, BadValue, RunFolderError
from siderostat.store import Run


def main(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    """Write the report of stored runs."""
    runs = [Run(Path(folder)) for folder in arguments.runs]
    for warning in (w for run in runs for w in run.warnings):
        print(f"siderostat: {warning}", file=sys.stderr)
    written = write(runs, Path(arguments.output) if arguments.output else runs[0].folder / "report")
    for path in written.values():
        print(path)
    return DONE


def write(runs: Sequence[Run], folder: Path) -> Mapping[str, Path]:
    """Write the report's files; return them by kind.

    Raises:
        BadValue: if a package that reports need is missing.
        RunFolderError: if the folder cannot be written.
    """
    from siderostat import reports

    try:
        return reports.write([reports.RunData(r.folder, r.manifest, r.records, r.warnings) for r in runs], folder)
    except ModuleNotFoundError as error:
        raise BadValue(
            f"reports need the package {error.name}; install it with: pip install 'siderostat[report]'"
        ) from None
    except OSError as error:
        raise RunFolderError(
            f"cannot write the report to {folder}: {error.strerror}; choose another folder with 'report -o'"
        ) from error
