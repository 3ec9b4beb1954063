"""Starts workers, warm or cold as their attempts ask."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from siderostat.child import Child, ForkServer, Lost
from siderostat.record import Attempt, Code, Reason, Status

_PRELOAD: Mapping[str, Sequence[str]] = {
    # The first optimiser imports torch._dynamo, which takes over a second: the server does it once for all.
    "torch": ("siderostat.worker", "torch", "torch._dynamo"),
    # TensorFlow first: only then does importing TensorFlow Probability import its layers, and Keras with them.
    "tensorflow": ("siderostat.worker", "tensorflow", "tensorflow_probability"),
    "numpy": ("siderostat.worker", "numpy"),
}


class Workshop:
    """A fork server for each framework and revision of the code, started when the first warm worker is wanted.

    Args:
        logs: folder that workers and servers write to.
        pythons: kind of device -> interpreter of its workers.
        codes: name of a revision of the code -> where it is.
    """

    def __init__(self, logs: Path, pythons: Mapping[str, str], codes: Mapping[str, Code] | None = None) -> None:
        self._logs = logs.absolute()  # a server may work in another folder
        self._pythons = pythons
        self._codes = codes or {}
        self._servers: dict[tuple[str, str], tuple[int, ForkServer]] = {}

    def __enter__(self) -> Workshop:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for _, server in self._servers.values():
            server.close()

    def start(self, attempt: Attempt, log: str | None = None) -> Child:
        """Start the worker of an attempt, with a log of its own unless one is named.

        Raises:
            Lost: if no worker can be started.
        """
        path = self._logs / f"{log or attempt.key()}.log"
        if attempt.start == "warm":
            return Child(path, server=self._server(attempt))
        code = self._code(attempt)
        try:
            return Child(path, code=code)
        except (FileNotFoundError, PermissionError):
            text = f"there is no interpreter {code.python}; correct 'python' under [devices] in the sweep file"
            raise Lost(Status.UNAVAILABLE, Reason.NO_DEVICE, text) from None

    def _code(self, attempt: Attempt) -> Code:
        """Return what a fresh interpreter runs: a device's own interpreter comes before that of the revision."""
        code = self._codes.get(attempt.cell.code, Code())
        python = self._pythons.get(attempt.cell.device.partition(":")[0])
        return dataclasses.replace(code, python=python) if python else code

    def _server(self, attempt: Attempt) -> ForkServer:
        """Return the server that a worker is forked from, of a revision of the code a new one in each round.

        Where a process's memory lies decides some of its speed, and its children inherit that: a step was 5 % slower
        in all children of one server than in those of another. Were revisions forked from one server each, that would
        look like a change of the code.
        """
        framework, code = attempt.cell.framework, attempt.cell.code
        held = self._servers.get((framework, code))
        number = attempt.round if code else 0
        if held and held[0] == number:
            return held[1]
        if held:
            held[1].close()
        log = self._logs / f"forkserver-{'-'.join(filter(None, (framework, code)))}.log"
        modules = _PRELOAD.get(framework, (framework,))
        made = ForkServer(modules, log, self._codes.get(code, Code()))
        self._servers[framework, code] = number, made
        return made
