"""What can go wrong on the driver's side. Only ``cli`` turns these into exit codes.

Each text is one sentence or two: what happened, where, what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar

DONE = 0
REGRESSION = 1
USAGE = 2
FINISHED_WITH_FAILURES = 3
NOTHING_MEASURED = 4
INCONCLUSIVE = 5
INTERRUPTED = 130


class SiderostatError(Exception):
    """Anything that ends a command with a sentence instead of a traceback."""

    exit_code: ClassVar[int] = USAGE


class UnknownName(SiderostatError):
    """A name or value that is not among the allowed ones."""

    def __init__(self, what: str, name: str, allowed: Iterable[str], where: str = "", inside: str = "") -> None:
        choices = list(allowed)
        near = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        listed = ", ".join(choices) if choices else "none"
        super().__init__(f"{where}unknown {what} {name!r}{inside}{hint} Allowed: {listed}.")


class BadValue(SiderostatError):
    """A value that cannot be used, in a flag or a file."""


class RunFolderError(SiderostatError):
    """A run folder that cannot be used as asked."""


class RunFolderBusy(RunFolderError):
    """Another process writes to the run folder."""


class StorageFull(RunFolderError):
    """A record could not be stored. What was stored before is whole."""


class NewerSchema(RunFolderError):
    """A file written by a newer siderostat."""


class NothingMeasured(SiderostatError):
    """The command finished, and not one figure came of it."""

    exit_code = NOTHING_MEASURED


class Interrupted(SiderostatError):
    """The user, or the system, asked to stop."""

    exit_code = INTERRUPTED
