"""The work of a reproduction in parts, each kept in a file of its own as soon as it is finished.

A part is, say, one training from one seed. Killed at any moment and started again with the same command, a reproduction
goes on behind the last part that was finished::

    wanted = [Part("training-0", "training, seed 0", {"steps": 300, "seed": 0}, functools.partial(train, 300, 0), 90.0)]
    found = parts.look(wanted, folder)          # refuses parts of other settings before anything is computed
    parts.complete(found, folder, print)
    parts.look(wanted, folder).results["training-0"].figures["loss"]

A file says with which settings it was made. Where they are not those asked for, the part is refused and never made
anew: it may have taken hours. A file that cannot be read is named and made again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from siderostat import provenance
from siderostat.errors import RunFolderError
from siderostat.files import write_atomically
from siderostat.progress import duration
from siderostat.record import Provenance

FOLDER = "parts"
SCHEMA = 1
_KEYS = ("settings", "figures", "provenance", "cpu_s", "made_at", "environment")


@dataclass(frozen=True)
class Part:
    """A piece of work.

    Attributes:
        name: of its file, without the ending.
        title: what is done, for people.
        settings: everything that the result depends on, as JSON has it, seeds among them.
        make: does it and returns the figures, as JSON has them. It draws no numbers but from the seeds in the settings.
        cpu_s: processor time that it takes, estimated.
        provenance: of the figures.
    """

    name: str
    title: str
    settings: Mapping[str, Any]
    make: Callable[[], dict[str, Any]]
    cpu_s: float
    provenance: Provenance = Provenance.MEASURED


@dataclass(frozen=True)
class Result:
    """What a finished part found.

    Attributes:
        title: of the part.
        settings: that it was made with.
        figures: that it returned.
        provenance: of the figures.
        cpu_s: processor time that it took, of all threads of the process.
        made_at: when it was finished, UTC.
        environment: where, as run folders have it.
    """

    title: str
    settings: dict[str, Any]
    figures: dict[str, Any]
    provenance: Provenance
    cpu_s: float
    made_at: str
    environment: dict[str, Any]


@dataclass(frozen=True)
class Found:
    """What there is of the parts that are wanted.

    Attributes:
        results: by name, in the order of what is wanted.
        missing: not made yet, in this order too.
        broken: files of those among them that cannot be read, and why.
    """

    results: dict[str, Result] = field(default_factory=dict)
    missing: list[Part] = field(default_factory=list)
    broken: dict[Path, str] = field(default_factory=dict)


def look(wanted: Sequence[Part], folder: Path) -> Found:
    """Return what a folder holds of the parts that are wanted; other files in it are left alone.

    Args:
        wanted: the parts.
        folder: of the reproduction; it need not exist.

    Raises:
        RunFolderError: if a part was made with other settings, or a file cannot be opened.
    """
    found = Found()
    for part in wanted:
        path = _path(part, folder)
        try:
            found.results[part.name] = _read(part, path)
        except FileNotFoundError:
            found.missing.append(part)
        except OSError as error:
            raise RunFolderError(f"cannot read {path}: {error.strerror}; choose another folder with -o") from error
        except (ValueError, KeyError, TypeError) as error:
            found.missing.append(part)
            found.broken[path] = _reason(error)
    return found


def complete(found: Found, folder: Path, say: Callable[[str], object]) -> None:
    """Make the parts that are missing; an interruption loses the part in hand only.

    Args:
        found: as :func:`look` returns it.
        folder: of the reproduction, made where it is not there.
        say: called with a line before the work and one for each part.

    Raises:
        RunFolderError: if a part cannot be written.
    """
    for path, reason in found.broken.items():
        say(f"{path} cannot be read ({reason}) and is made again")
    if found.missing:
        say(_forecast(found))
    environment = provenance.environment()
    pace = Pace()
    total = len(found.results) + len(found.missing)
    for i, part in enumerate(found.missing, start=1):
        result = _made(part, environment)
        _write(result, _path(part, folder))
        pace.add(part, result.cpu_s)
        left_s = pace.left_s(found.missing[i:])
        rest = f"; about {duration(left_s)} of processor time left" if left_s else ""
        say(f"[{len(found.results) + i}/{total}] {part.title}: {duration(result.cpu_s)}{rest}")


class Pace:
    """How this machine's processor time compares with what was estimated."""

    def __init__(self) -> None:
        self._estimated_s = self._taken_s = 0.0

    def add(self, part: Part, cpu_s: float) -> None:
        """Take note of what a part has taken."""
        self._estimated_s += part.cpu_s
        self._taken_s += cpu_s

    def left_s(self, parts: Sequence[Part]) -> float:
        """Return what parts will take if they go on like those before them."""
        pace = self._taken_s / self._estimated_s if self._estimated_s else 1.0
        return pace * sum(part.cpu_s for part in parts)


def _forecast(found: Found) -> str:
    there = f", {len(found.results)} more are there already" if found.results else ""
    seconds = sum(part.cpu_s for part in found.missing)
    return (
        f"{len(found.missing)} parts to make{there}: about {duration(seconds)} of processor time, as estimated from "
        "another machine; to go on after an interruption, give the same command again"
    )


def _made(part: Part, environment: dict[str, Any]) -> Result:
    started = time.process_time()
    figures = part.make()
    cpu_s = time.process_time() - started
    return Result(
        part.title, _as_json(part.settings), figures, part.provenance, cpu_s, provenance.utc_now(), environment
    )


def _write(result: Result, path: Path) -> None:
    content = {
        "schema": SCHEMA,
        **{key: getattr(result, key) for key in ("title", *_KEYS)},
        "provenance": result.provenance.value,
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(content, allow_nan=False) + "\n")
    except OSError as error:
        raise RunFolderError(f"cannot write {path}: {error.strerror}; choose another folder with -o") from error


def _read(part: Part, path: Path) -> Result:
    content = json.loads(path.read_text(encoding="utf-8"))
    if content["schema"] != SCHEMA:
        raise RunFolderError(f"{path} has schema {content['schema']} and not {SCHEMA}; choose another folder with -o")
    held = {key: content[key] for key in _KEYS}
    held["provenance"] = Provenance(held["provenance"])
    _refuse_other_settings(part, held["settings"], path)
    return Result(part.title, **held)


def _refuse_other_settings(part: Part, held: dict[str, Any], path: Path) -> None:
    wanted = _as_json(part.settings)
    changed = [f"{key} {held.get(key)!r} and not {wanted.get(key)!r}" for key in {**wanted, **held}
               if held.get(key) != wanted.get(key)]  # fmt: skip
    if changed:
        raise RunFolderError(
            f"{path} was made with {', '.join(changed)}; choose another folder with -o, or remove the file to have it "
            "made anew"
        )


def _as_json(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as they come back from a file: tuples become lists."""
    held: dict[str, Any] = json.loads(json.dumps(settings, allow_nan=False))
    return held


def _reason(error: Exception) -> str:
    return f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)


def _path(part: Part, folder: Path) -> Path:
    return folder / FOLDER / f"{part.name}.json"
