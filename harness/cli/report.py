"""``siderostat report``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from siderostat.errors import DONE, BadValue, RunFolderError
from siderostat.store import Run

if TYPE_CHECKING:
    from siderostat.reports import RunData


def main(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    """Write the report of stored runs."""
    runs = [Run(Path(folder)) for folder in arguments.runs]
    for warning in (w for run in runs for w in run.warnings):
        print(f"siderostat: {warning}", file=sys.stderr)
    written = write(runs, Path(arguments.output) if arguments.output else runs[0].folder / "report")
    for path in written.values():
        print(path)
    return DONE


def headlines(run: Run) -> list[str]:
    """Return the report's first sentences, one per workload, variant, mode and series, and what they are worth."""
    from siderostat.reports.document import headlines

    return headlines(_data(run))


def _data(run: Run) -> RunData:
    from siderostat import reports

    return reports.RunData(run.folder, run.manifest, run.records, run.warnings)


def write(runs: Sequence[Run], folder: Path) -> Mapping[str, Path]:
    """Write the report's files; return them by kind.

    Raises:
        BadValue: if a package that reports need is missing.
        RunFolderError: if the folder cannot be written.
    """
    from siderostat import reports

    try:
        return reports.write([_data(run) for run in runs], folder)
    except reports.TooManyCases as error:
        folders = " ".join(str(run.folder) for run in runs)
        raise BadValue(
            f"no report was written: there are {error}. Measure fewer in one run; all figures, a line for each: "
            f"siderostat export lines {folders}"
        ) from None
    except ModuleNotFoundError as error:
        raise BadValue(
            f"reports need the package {error.name}; install it with: pip install 'siderostat[report]'"
        ) from None
    except OSError as error:
        raise RunFolderError(
            f"cannot write the report to {folder}: {error.strerror}; choose another folder with 'report -o'"
        ) from error
