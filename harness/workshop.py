"""Starts workers, warm or cold as their attempts ask."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from siderostat.child import Child, ForkServer, Lost
from siderostat.record import Attempt, Reason, Status

_PRELOAD: Mapping[str, Sequence[str]] = {
    # The first optimiser imports torch._dynamo, which takes over a second: the server does it once for all.
    "torch": ("siderostat.worker", "torch", "torch._dynamo"),
    # TensorFlow first: only then does importing TensorFlow Probability import its layers, and Keras with them.
    "tensorflow": ("siderostat.worker", "tensorflow", "tensorflow_probability"),
    "numpy": ("siderostat.worker", "numpy"),
}


class Workshop:
    """One fork server per framework, started when the first warm worker is wanted.

    Args:
        logs: folder that workers and servers write to.
        pythons: kind of device -> interpreter of its workers.
    """

    def __init__(self, logs: Path, pythons: Mapping[str, str]) -> None:
        self._logs = logs
        self._pythons = pythons
        self._servers: dict[str, ForkServer] = {}

    def __enter__(self) -> Workshop:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for server in self._servers.values():
            server.close()

    def start(self, attempt: Attempt, log: str | None = None) -> Child:
        """Start the worker of an attempt, with a log of its own unless one is named.

        Raises:
            Lost: if no worker can be started.
        """
        path = self._logs / f"{log or attempt.key()}.log"
        if attempt.start == "warm":
            return Child(path, server=self._server(attempt.cell.framework))
        python = self._pythons.get(attempt.cell.device.partition(":")[0], sys.executable)
        try:
            return Child(path, python=python)
        except (FileNotFoundError, PermissionError):
            text = f"there is no interpreter {python}; correct 'python' under [devices] in the sweep file"
            raise Lost(Status.UNAVAILABLE, Reason.NO_DEVICE, text) from None

    def _server(self, framework: str) -> ForkServer:
        if framework not in self._servers:
            log = self._logs / f"forkserver-{framework}.log"
            self._servers[framework] = ForkServer(_PRELOAD.get(framework, (framework,)), log)
        return self._servers[framework]
