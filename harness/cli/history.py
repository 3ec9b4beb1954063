"""``siderostat history``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from siderostat.errors import DONE, BadValue, NothingMeasured, RunFolderError
from siderostat.files import write_atomically
from siderostat.history import Point, series
from siderostat.record import Cell
from siderostat.store import Run

_NOT_OURS = ("null",)


def main(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    """Say where times changed over the runs in a folder, and draw them.

    Raises:
        NothingMeasured: if no run there holds a time.
    """
    try:
        held = series(_points(Path(arguments.folder)))
        if not held:
            raise NothingMeasured(f"no run in {arguments.folder} holds a time")
        from siderostat.reports import history as page

        if arguments.json:
            print(page.to_json(held))
        else:
            for line in (*page.lines(held), *page.headlines(held)):
                print(line)
        _write(Path(arguments.output or Path(arguments.folder) / "history"), page.texts(held))
    except ModuleNotFoundError as error:
        raise BadValue(
            f"this needs the package {error.name}; install what it takes with: "
            "pip install 'siderostat[standard,history]'"
        ) from None
    return DONE


def _write(folder: Path, texts: Mapping[str, str]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            write_atomically(folder / name, text)
            print(folder / name, file=sys.stderr)
    except OSError as error:
        raise RunFolderError(f"cannot write to {folder}: {error.strerror}; choose another folder with -o") from error


def _points(folder: Path) -> Iterator[tuple[str, Cell, str, Point]]:
    """Yield machine, cell, work unit and time of every case of every run; runs that cannot be read are named."""
    from siderostat.reports import RunData

    plans = sorted(folder.rglob("plan.json"))
    if not plans:
        raise RunFolderError(f"there is no run in {folder}; give a folder that holds run folders")
    for path in plans:
        try:
            run = Run(path.parent)
        except RunFolderError as error:
            print(f"siderostat: left out: {error}", file=sys.stderr)
            continue
        for warning in run.warnings:
            print(f"siderostat: {warning}", file=sys.stderr)
        name = str(path.parent.relative_to(folder)) if path.parent != folder else path.parent.name
        data = RunData(run.folder, run.manifest, run.records, run.warnings)
        for case in data.cases:
            if case.seconds_per_item is None or case.cell.workload in _NOT_OURS or case.provenance is None:
                continue
            last = case.records[-1]
            moment = str(run.manifest.get("created_at") or "")
            point = Point(name, moment, data.measured(last).commit, case.seconds_per_item, case.provenance.value)
            yield _machine(data.environment(last)), case.cell, last.item, point


def _machine(environment: Mapping[str, Any]) -> str:
    """Return what tells machines apart: the host, or its hash, and the processor."""
    parts = [str(environment[name]) for name in ("cpu", "host") if environment.get(name)]
    return ", host ".join(parts) or "machine not known"
