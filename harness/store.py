"""A run on disk: a folder that only ever grows, whose journal of JSON lines is the only truth.

::

    RUN/manifest.json    what, when, by which command, in which environments
    RUN/plan.json        the attempts, in order
    RUN/records.jsonl    one line per attempt, appended and fsynced before the next one starts
    RUN/logs/            what each worker printed
    RUN/wall_meter.jsonl a wall meter's log, where one was imported; it is matched with the records on reading
"""

from __future__ import annotations

import base64
import contextlib
import errno
import fcntl
import json
import math
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from siderostat import schemas, wall_meter
from siderostat.errors import NewerSchema, RunFolderBusy, RunFolderError, StorageFull
from siderostat.files import write_atomically
from siderostat.plan import Plan
from siderostat.record import FAILURES, SCHEMA, Attempt, Cell, Reason, Record, Status

JOURNAL = "records.jsonl"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_MOST_WARNINGS = 20  # about lines of one journal that are no records; the rest are counted
_MOST_WORDS = 300  # characters of what is quoted from a line that is no record
_TIMES_S = (1e-12, 1e12)  # of a block: shorter and longer ones are no times
_MOST_ITEMS = 10**15
_MOST_PIXELS = 2**26  # of the pictures under one name, colours counted apart


class Run:
    """The folder of one run, opened to be read."""

    def __init__(self, folder: Path) -> None:
        """Read manifest, plan and journal.

        Raises:
            RunFolderError: if this is no run folder, or a file in it cannot be read.
            NewerSchema: if a newer siderostat wrote it.
        """
        self.folder = folder
        _check_is_run(folder)
        self.plan, self.manifest = _plan_and_manifest(folder)
        self.warnings: list[str] = []
        self.records: list[Record] = []
        self._of_cell: dict[str, list[Record]] = {}
        self._of_attempt: dict[str, Record] = {}
        log = self._wall_meter()
        for path in sorted(folder.glob("records*.jsonl")):
            records, warnings = read_journal(path)
            self.warnings += warnings
            for record in records:
                self._add(wall_meter.matched(record, log))

    def _wall_meter(self) -> wall_meter.Log | None:
        path = self.folder / wall_meter.FILE
        try:
            return wall_meter.load(path) if path.exists() else None
        except (ValueError, OSError) as error:
            self.warnings.append(f"{path}: left out, damaged ({error}); import the meter's log again")
            return None

    def _add(self, record: Record) -> None:
        self.records.append(record)
        self._of_cell.setdefault(record.attempt.cell.key(), []).append(record)
        self._of_attempt[record.attempt.key()] = record

    def of_cell(self, cell: Cell) -> list[Record]:
        """Return the records of one cell, in the order of measuring."""
        return self._of_cell.get(cell.key(), [])

    def of_attempt(self, attempt: Attempt) -> Record | None:
        """Return the newest record of one attempt."""
        return self._of_attempt.get(attempt.key())


class OpenRun(Run):
    """The folder of one run, opened to be added to, by one process at a time."""

    def __init__(self, folder: Path) -> None:
        _check_is_run(folder)
        self._lock = _lock(folder)
        self._journal = folder / JOURNAL
        mend_journal(self._journal)
        super().__init__(folder)
        (folder / "logs").mkdir(exist_ok=True)

    def __enter__(self) -> OpenRun:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._lock)

    def settled(self, attempt: Attempt, retry: bool = False) -> bool:
        """Say whether ``attempt`` has its record; with ``retry`` only if a further try could tell nothing new."""
        record = self.of_attempt(attempt)
        if record is None or (record.status is Status.SKIPPED and record.reason is not Reason.BEYOND_EDGE):
            return False
        return not (retry and record.status in FAILURES)

    def append(self, *records: Record) -> None:
        """Write a line for each in one go and see them onto the disk.

        Raises:
            StorageFull: if there is no room; the journal is as it was before.
        """
        line = "".join(record.to_json() + "\n" for record in records).encode()
        descriptor = os.open(self._journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        size = os.fstat(descriptor).st_size
        try:
            written = os.write(descriptor, line)
            if written < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(descriptor)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, size)
            raise self.full(error) from error
        finally:
            os.close(descriptor)
        for record in records:
            self._add(record)

    def full(self, error: OSError) -> RunFolderError:
        """Turn an error of the disk into a sentence."""
        kept = f"the {len(self.records)} records before it are safe"
        todo = "free some space" if error.errno in _FULL else "make it writable"
        return StorageFull(
            f"{self.folder} takes no more ({error.strerror}); {kept}: {todo}, "
            f"then 'siderostat run --resume {self.folder}'"
        )

    def add_session(self, session: Mapping[str, Any], environment: Mapping[str, Any], key: str) -> None:
        """Note in the manifest that a command works on this run, and where."""
        self.manifest.setdefault("sessions", []).append({**session, "environment": key})
        self.manifest.setdefault("environments", {})[key] = dict(environment)
        write_atomically(self.folder / "manifest.json", json.dumps(self.manifest, indent=1) + "\n")


def create(folder: Path, plan: Plan, manifest: Mapping[str, Any]) -> None:
    """Lay out a new run folder. The plan comes last: a folder that has one is whole.

    Raises:
        RunFolderError: if the folder cannot be written.
    """
    try:
        (folder / "logs").mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "manifest.json", json.dumps({"schema": SCHEMA, **manifest}, indent=1) + "\n")
        write_atomically(folder / "plan.json", plan.to_json())
    except OSError as error:
        raise RunFolderError(
            f"cannot write the run folder {folder}: {error.strerror}; choose another with -o"
        ) from error


def keep_wall_meter(folder: Path, log: wall_meter.Log) -> Path:
    """Put a wall meter's log beside the journal; one that was there before is replaced.

    Raises:
        RunFolderError: if it cannot be written; what was there before is as it was.
    """
    try:
        return write_atomically(folder / wall_meter.FILE, log.text())
    except OSError as error:
        raise RunFolderError(
            f"cannot write to {folder}: {error.strerror}; free some space or make it writable"
        ) from error


def read_journal(path: Path) -> tuple[list[Record], list[str]]:
    """Read a journal; lines that are no records are left out, each with a warning.

    Raises:
        NewerSchema: if a line was written by a newer siderostat.
    """
    records: list[Record] = []
    warnings: list[str] = []
    left_out = 0
    once = _Once()
    for number, line in enumerate(_lines(path), start=1):
        if not line:
            continue
        try:
            records.append(once.shared(parse(line)))
        except ValueError as error:
            left_out += 1
            if left_out <= _MOST_WARNINGS:
                why = _shortened(str(error))
                warnings.append(f"{path}:{number}: left out, not a record ({why}); its attempt counts as not measured")
        except NewerSchema as error:
            raise NewerSchema(f"{path}:{number}: {error}") from None
    if left_out > _MOST_WARNINGS:
        warnings.append(f"{path}: {left_out - _MOST_WARNINGS:,} further lines left out, for reasons of this kind")
    return records, warnings


def _lines(path: Path) -> Iterator[str]:
    """Yield the lines of a journal, one at a time: it may be larger than the memory."""
    try:
        with path.open(encoding="utf-8", errors="replace", newline="\n") as file:
            for line in file:
                yield line.removesuffix("\n")
    except OSError as error:
        raise RunFolderError(f"cannot read {path}: {error.strerror}") from error


class _Once:
    """What the records of a cell have in common, held once: a journal of a million lines has few cells."""

    def __init__(self) -> None:
        self._first: dict[tuple[Any, ...], Record] = {}

    def shared(self, record: Record) -> Record:
        """Return an equal record that shares what it can with an earlier one of its cell."""
        cell = record.attempt.cell
        place = (cell.workload, cell.variant, cell.mode, cell.framework, cell.device, cell.batch, cell.size)
        first = self._first.setdefault((*place, cell.precision, cell.measure, cell.code), record)
        if first is record or first.attempt.cell != cell:
            return record
        protocol = record.attempt.protocol
        attempt = replace(
            record.attempt,
            cell=first.attempt.cell,
            protocol=first.attempt.protocol if first.attempt.protocol == protocol else protocol,
        )
        alike = {name: getattr(first, name) for name in _SHARED if getattr(first, name) == getattr(record, name)}
        return replace(record, attempt=attempt, **alike)


_SHARED = ("device", "effective", "model", "item", "environment")


def parse(line: str) -> Record:
    """Read one line of a journal.

    Raises:
        ValueError: if it is no record; the text says why.
        NewerSchema: if it was written by a newer siderostat.
    """
    data = schemas.decode(line)
    if not isinstance(data, dict):
        raise ValueError("a JSON object is expected")
    schema = data.get("schema")
    if isinstance(schema, int) and schema > SCHEMA:
        raise NewerSchema(
            f"schema {schema} is newer than {SCHEMA}, the newest this siderostat reads; upgrade siderostat"
        )
    schemas.check(data, schemas.RECORD)
    record = Record.from_dict(data)
    _check_times(record)
    _check_model(record)
    _check_quality(record)
    return record


def _check_times(record: Record) -> None:
    """Check that figures can be made from what an ``ok`` record timed.

    Raises:
        ValueError: if not.
    """
    bursts = [burst for burst in record.bursts if burst.turn >= 0]
    if record.status is not Status.OK or not bursts:
        return
    if not record.items_per_step or record.items_per_step > _MOST_ITEMS:
        raise ValueError(f"items_per_step: {record.items_per_step} beside bursts that were timed")
    least, most = _TIMES_S
    for burst in bursts:
        if not burst.seconds or min(burst.seconds) < least or max(burst.seconds) > most:
            raise ValueError(f"bursts/{burst.turn}/seconds: empty, or not times of blocks")
        if burst.block_steps > _MOST_ITEMS:
            raise ValueError(f"bursts/{burst.turn}/block_steps: {burst.block_steps:.4g} are no number of steps")


def _check_model(record: Record) -> None:
    """Check that a modelled time is one.

    Raises:
        ValueError: if not.
    """
    band, (least, most) = record.model.get("seconds_per_step", {}), _TIMES_S
    if any(not least <= seconds <= most for seconds in band.values()):
        raise ValueError("model/seconds_per_step: not times of a step")
    if band and not record.items_per_step and record.status is Status.OK:
        raise ValueError(f"items_per_step: {record.items_per_step} beside a time that was modelled")


def _check_quality(record: Record) -> None:
    """Check that what was found of a model can be shown.

    Raises:
        ValueError: if not.
    """
    if record.quality is None:
        return
    for name, (true, predicted) in record.quality.pairs.items():
        if len(true) != len(predicted):
            raise ValueError(f"quality/pairs/{name}: {len(true)} true values and {len(predicted)} predicted ones")
    for name, packed in record.quality.pictures.items():
        if not _are_pictures(packed["shape"], packed["zlib_base64"]):
            raise ValueError(f"quality/pictures/{name}: not the bytes of pictures of shape {packed['shape']}")


def _are_pictures(shape: Sequence[int], text: str) -> bool:
    if len(shape) != 4 or min(shape) < 1 or shape[3] != 3 or math.prod(shape) > _MOST_PIXELS:
        return False
    try:
        # One byte more than is right is enough to tell that it is wrong, however much more a text would grow to.
        return len(zlib.decompressobj().decompress(base64.b64decode(text), math.prod(shape) + 1)) == math.prod(shape)
    except (ValueError, zlib.error):
        return False


def _shortened(text: str) -> str:
    return printable(text if len(text) <= _MOST_WORDS else f"{text[:_MOST_WORDS]}...")


def printable(text: str) -> str:
    """Return a text as one line that does nothing to a terminal but stand there."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def mend_journal(path: Path) -> None:
    """Take away a line that was being written when its writer died; a whole line that lacks its end gets it."""
    if not path.exists():
        return
    data = path.read_bytes()
    if not data or data.endswith(b"\n"):
        return
    start = data.rfind(b"\n") + 1
    with path.open("r+b") as file:
        try:
            parse(data[start:].decode())
        except ValueError:
            file.truncate(start)
        else:
            file.seek(0, os.SEEK_END)
            file.write(b"\n")
        file.flush()
        os.fsync(file.fileno())


def _plan_and_manifest(folder: Path) -> tuple[Plan, dict[str, Any]]:
    plan, manifest = folder / "plan.json", folder / "manifest.json"
    try:
        return Plan.from_json(_read(plan), str(plan)), _manifest(manifest)
    except ValueError as error:
        raise RunFolderError(
            f"plan.json or manifest.json in {folder} is damaged ({error}); the records are in "
            f"{folder / JOURNAL}: bring the files back, or measure into another folder"
        ) from None


def _manifest(path: Path) -> dict[str, Any]:
    data = schemas.decode(_read(path))
    if not isinstance(data, dict):
        raise ValueError(f"{path.name}: a JSON object is expected")
    for name, kind in (("sessions", list), ("environments", dict)):
        if not isinstance(data.get(name, kind()), kind):
            raise ValueError(f"{path.name}: {name} is not what siderostat writes there")
    schema = data.get("schema")
    if isinstance(schema, int) and schema > SCHEMA:
        raise NewerSchema(f"{path} has schema {schema}; this siderostat reads up to {SCHEMA}: upgrade it")
    return data


def _check_is_run(folder: Path) -> None:
    if not (folder / "plan.json").is_file():
        raise RunFolderError(
            f"{folder} is not a run folder: it has no plan.json; give the folder that 'siderostat run' named"
        )


def _lock(folder: Path) -> int:
    """Hold the folder for this process; the kernel lets go when the process ends, however it ends."""
    try:
        descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise RunFolderError(f"cannot write to {folder}: {error.strerror}; choose another folder with -o") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise RunFolderBusy(
            f"another siderostat is measuring into {folder}; wait for it, or choose another folder with -o"
        ) from None
    return descriptor


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise RunFolderError(f"cannot read {path}: {error.strerror}") from error
