"""``siderostat export``."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from siderostat.errors import DONE, BadValue, NothingMeasured, RunFolderError, UnknownName
from siderostat.files import write_atomically
from siderostat.schemas import decode
from siderostat.store import Run

if TYPE_CHECKING:
    from siderostat.reports.exporters import Export, Format
    from siderostat.reports.exporters.gates import Verdicts

_GATE = "gate.json"


def main(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    """Write the figures of runs, or the verdicts of gates, in the format of another tool.

    Raises:
        BadValue: if the format cannot be written as asked.
        NothingMeasured: if there is nothing to write.
        RunFolderError: if a folder cannot be read or written.
    """
    from siderostat.reports.exporters import FORMATS

    if arguments.format not in FORMATS:
        raise UnknownName("format", arguments.format, FORMATS)
    wanted = FORMATS[arguments.format]
    export = _export(
        arguments.format, wanted, [Path(folder) for folder in arguments.runs], _by_commit(arguments, wanted)
    )
    for note in export.notes:
        print(f"siderostat: {note}", file=sys.stderr)
    if not export.files:
        raise NothingMeasured(f"{', '.join(arguments.runs)}: nothing there can be written as {arguments.format}")
    if arguments.output:
        for path in _write(export.files, Path(arguments.output)):
            print(path)
        return DONE
    if len(export.files) > 1:
        raise BadValue(
            f"{arguments.format} is {len(export.files)} files ({', '.join(export.files)}); say where with -o DIR"
        )
    for parts in export.files.values():
        for part in parts:
            sys.stdout.write(part)
    sys.stdout.flush()
    return DONE


def _by_commit(arguments: argparse.Namespace, wanted: Format) -> dict[str, Any]:
    """Return what a format that keeps results by commit is told besides."""
    if wanted.is_by_commit:
        output = Path(arguments.output) if arguments.output else None
        return {"output": output, "commits": arguments.commit, "machine": arguments.machine}
    if arguments.commit or arguments.machine:
        raise BadValue(f"--commit and --machine are for results that are kept by commit; {arguments.format} keeps none")
    return {}


def _export(name: str, wanted: Format, folders: Sequence[Path], by_commit: Mapping[str, Any]) -> Export:
    from siderostat.reports import RunData
    from siderostat.reports.exporters.series import series

    module = importlib.import_module(f"siderostat.reports.exporters.{wanted.module}")
    gates = [folder for folder in folders if (folder / _GATE).is_file() and not (folder / "plan.json").is_file()]
    if not gates:
        runs = [Run(folder) for folder in folders]
        for warning in (w for run in runs for w in run.warnings):
            print(f"siderostat: {warning}", file=sys.stderr)
        export: Callable[..., Export] = module.export
        return export(series([RunData(r.folder, r.manifest, r.records, r.warnings) for r in runs]), **by_commit)
    if not wanted.takes_gates:
        raise BadValue(
            f"{gates[0]} is a gate's folder, and {name} takes runs only; give {gates[0] / 'first'}, "
            "the run of the gate's first stage, or export it as junit or github-action-benchmark"
        )
    if len(gates) < len(folders):
        raise BadValue("runs and gates cannot stand in one export; export them one after the other")
    export = module.export_gates
    return export([_verdicts(folder) for folder in folders])


def _verdicts(folder: Path) -> Verdicts:
    from siderostat.reports.exporters.gates import verdicts

    path = folder / _GATE
    try:
        return verdicts(folder.resolve().name, decode(path.read_text(encoding="utf-8")))
    except (ValueError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise RunFolderError(f"cannot read {path}: {reason}; give a folder that 'siderostat gate' wrote") from None


def _write(files: Mapping[str, Iterable[str]], output: Path) -> list[Path]:
    """Write to a folder; a single file also under the name that is given."""
    is_folder = len(files) > 1 or output.is_dir()
    try:
        if is_folder and output.exists() and not output.is_dir():
            raise BadValue(f"{output} is a file, and there are {len(files)} files to write; name a folder with -o")
        places = {name: output / name if is_folder else output for name in files}
        for path in places.values():
            path.parent.mkdir(parents=True, exist_ok=True)
        return [write_atomically(places[name], "".join(parts)) for name, parts in files.items()]
    except OSError as error:
        raise RunFolderError(f"cannot write to {output}: {error.strerror}; name another place with -o") from error
