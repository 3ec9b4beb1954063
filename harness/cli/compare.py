"""``siderostat compare``."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from siderostat.errors import DONE, BadValue, NothingMeasured, RunFolderError
from siderostat.files import write_atomically
from siderostat.store import Run


def main(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    """Say how fast one stored run is against another, and what else differs between them.

    Raises:
        NothingMeasured: if no case was measured in both.
    """
    from siderostat.reports import RunData, compare
    from siderostat.reports.comparisons import columns

    runs = [Run(Path(folder)) for folder in (arguments.first, arguments.second)]
    for warning in (w for run in runs for w in run.warnings):
        print(f"siderostat: {warning}", file=sys.stderr)
    first, second = (RunData(run.folder, run.manifest, run.records, run.warnings) for run in runs)
    block = compare.compared(first, second)
    if not block.compared:
        raise NothingMeasured(f"{first.folder} and {second.folder} have no case that was measured in both")
    if arguments.json:
        found = [dataclasses.asdict(d) for d in compare.differences(first, second)]
        print(json.dumps({"differences": found, "ratios": [columns(c) for c in block.compared]}, indent=1))
    else:
        for one in compare.differences(first, second):
            print(f"differs: {one.what}: {one.first} against {one.second}")
        for sentence in compare.section(first, second).headlines:
            print(sentence)
    folder = Path(arguments.output) if arguments.output else second.folder / "compare"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in compare.texts(first, second).items():
            write_atomically(folder / name, text)
            print(folder / name, file=sys.stderr)
    except ModuleNotFoundError as error:
        raise BadValue(
            f"the page needs the package {error.name}; install it with: pip install 'siderostat[report]'"
        ) from None
    except OSError as error:
        raise RunFolderError(f"cannot write to {folder}: {error.strerror}; choose another folder with -o") from error
    return DONE
