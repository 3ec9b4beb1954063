"""The driver's side of a worker: start it, ask it, find out how it ended.

While a worker measures, the driver sleeps in ``recv``: a driver that spins makes a training step on two
cores several times slower.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from siderostat.record import Code, Reason, Status

_HERE = Code()
_LOG_TAIL_BYTES = 4096
_LEAVE_S = 5.0  # how long a worker may take to end once it has closed its socket
_OUT_OF_MEMORY_WORDS = (
    "bad_alloc", "MemoryError", "can't allocate memory", "Cannot allocate memory", "OOM when allocating",
)  # fmt: skip


class Lost(Exception):
    """A worker will answer no more; says why in the record's vocabulary."""

    def __init__(self, status: Status, reason: Reason, detail: str, need_bytes: int | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.reason = reason
        self.detail = detail
        self.need_bytes = need_bytes


@dataclass(frozen=True)
class End:
    """How a process ended: its exit code, or minus the signal's number, and its peak resident memory."""

    code: int
    maxrss_bytes: int


class Process(Protocol):
    """A worker process, however it was started."""

    pid: int

    def wait(self) -> End:
        """Wait for the end."""
        ...


class ColdProcess:
    """A fresh interpreter."""

    def __init__(self, code: Code, fd: int, log: Path) -> None:
        self._popen = _start(code, ["siderostat.worker", str(fd), str(os.getpid())], fd, log)
        self.pid = self._popen.pid
        self._end: End | None = None

    def wait(self) -> End:
        """Wait for the end."""
        if self._end is None:
            _, status, usage = os.wait4(self.pid, 0)
            self._end = End(os.waitstatus_to_exitcode(status), _maxrss_bytes(usage.ru_maxrss))
            self._popen.returncode = self._end.code
        return self._end


class ForkServer:
    """The process that warm workers are forked from. It starts with the first of them.

    Several threads may wait for workers at a time: while inputs are made, each core has a thread that asks.
    """

    def __init__(self, modules: Sequence[str], log: Path, code: Code = _HERE) -> None:
        self._modules = list(modules)
        self._log = log
        self._code = code
        self._popen: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._lines: Iterator[str] = iter(())
        self._ends: dict[int, End] = {}
        self._reading = threading.Lock()

    def start(self) -> None:
        """Start the server and wait until it has imported its modules."""
        self._control, theirs = socket.socketpair()
        with theirs:
            words = ["siderostat.forkserver", str(theirs.fileno()), str(os.getpid()), *self._modules]
            self._popen = _start(self._code, words, theirs.fileno(), self._log)
        self._lines = iter(self._control.makefile("r", encoding="utf-8"))
        self._read()

    def fork(self, fd: int, log: Path) -> int:
        """Fork a worker that serves ``fd``; return its process id."""
        with self._reading:
            if self._popen is None or self._popen.poll() is not None:
                self.close()
                self.start()
            assert self._control is not None
            with contextlib.suppress(OSError):  # it died just now: the next line says so
                socket.send_fds(self._control, [json.dumps({"log": str(log)}).encode()], [fd])
            while "pid" not in (message := self._read()):
                continue
            self._ends.pop(message["pid"], None)  # of an earlier process with the same number
            return int(message["pid"])

    def wait(self, pid: int) -> End:
        """Wait for the end of a worker; of one whose server died too, no more is known than that it was killed."""
        with self._reading:
            while pid not in self._ends:
                try:
                    self._read()
                except Lost:
                    return End(-signal.SIGKILL, 0)
            return self._ends[pid]

    def _read(self) -> dict[str, Any]:
        try:
            line = next(self._lines, "")
        except ConnectionResetError:
            line = ""
        if not line:
            raise Lost(Status.CRASH, Reason.EXITED, f"the process that starts workers ended; its log is {self._log}")
        message: dict[str, Any] = json.loads(line)
        if "ended" in message:
            self._ends[message["ended"]] = End(os.waitstatus_to_exitcode(message["wait"]), message["maxrss_bytes"])
        return message

    def close(self) -> None:
        """End the server; its workers end with it."""
        if self._control is not None:
            self._control.close()
        if self._popen is not None:
            self._popen.kill()
            self._popen.wait()
        self._popen = None


class WarmProcess:
    """A worker forked from a server."""

    def __init__(self, server: ForkServer, fd: int, log: Path) -> None:
        self._server = server
        self.pid = server.fork(fd, log)
        self._end: End | None = None

    def wait(self) -> End:
        """Wait for the end."""
        if self._end is None:
            self._end = self._server.wait(self.pid)
        return self._end


class Child:
    """A worker and the socket to it.

    Args:
        log: file that the worker's own output is appended to.
        server: fork from it (``warm``); None starts a fresh interpreter (``cold``).
        code: that a fresh interpreter runs; a forked worker has that of its server.
    """

    def __init__(self, log: Path, server: ForkServer | None = None, code: Code = _HERE) -> None:
        self.log = log
        self._log_start = log.stat().st_size if log.exists() else 0
        self._oom_kills = _oom_kills()
        self._socket, theirs = socket.socketpair()
        with theirs:
            self.process: Process = (
                ColdProcess(code, theirs.fileno(), log) if server is None else WarmProcess(server, theirs.fileno(), log)
            )
        self._left = b""

    def ask(self, request: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """Send a request and sleep until the answer.

        Raises:
            Lost: if the worker refuses, fails, ends, or does not answer within ``timeout_s`` seconds.
        """
        deadline = time.monotonic() + timeout_s
        with contextlib.suppress(OSError):  # what became of the worker shows when its answer is read
            self._socket.sendall(json.dumps(request).encode() + b"\n")
        while b"\n" not in self._left:
            self._left += self._receive(request["do"], deadline, timeout_s)
        line, _, self._left = self._left.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        if "status" in answer:
            status, reason = Status(answer["status"]), Reason(answer["reason"])
            raise Lost(status, reason, answer["detail"], answer.get("need_bytes"))
        return answer

    def _receive(self, what: str, deadline: float, timeout_s: float) -> bytes:
        try:
            self._socket.settimeout(max(0.001, deadline - time.monotonic()))
            data = self._socket.recv(65536)
        except TimeoutError:
            text = f"no answer to '{what}' within {timeout_s:g} s (--timeout); its log is {self.log}"
            raise Lost(Status.TIMEOUT, Reason.TIMEOUT, text) from None
        except OSError:
            data = b""
        if not data:
            raise self._epitaph(what)
        return data

    def _epitaph(self, what: str) -> Lost:
        """Say how the worker ended, having closed its socket without an answer."""
        impatience = threading.Timer(_LEAVE_S, self._kill)  # for one that closes its socket and stays
        impatience.start()
        end = self.process.wait()
        impatience.cancel()
        where = f"during '{what}'; its log is {self.log}"
        if any(word in _tail(self.log, self._log_start) for word in _OUT_OF_MEMORY_WORDS):
            return Lost(Status.CAPACITY, Reason.OOM_HOST, f"the worker ran out of host memory {where}")
        if end.code == -signal.SIGKILL and _oom_kills() > self._oom_kills:
            return Lost(Status.CAPACITY, Reason.OOM_HOST, f"the system ran out of memory and ended the worker {where}")
        if end.code < 0:
            name = signal.Signals(-end.code).name
            return Lost(Status.CRASH, Reason.KILLED, f"the worker was ended by {name} {where}")
        return Lost(Status.CRASH, Reason.EXITED, f"the worker left with exit status {end.code} {where}")

    def end(self, grace_s: float = 0.0) -> End:
        """Close the socket, leave nothing of the worker behind, and say how it ended.

        Args:
            grace_s: how long the worker may take to close its end by itself.
        """
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
            self._socket.settimeout(max(grace_s, 0.001))
            while self._socket.recv(65536):
                continue
        self._socket.close()
        self._kill()
        return self.process.wait()

    def _kill(self) -> None:
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            with contextlib.suppress(ProcessLookupError):  # it had no session of its own yet, or has ended
                os.kill(self.process.pid, signal.SIGKILL)


def ask_once(request: dict[str, Any], timeout_s: float, code: Code = _HERE) -> dict[str, Any]:
    """Ask a short-lived worker, so that no context or thread of a device stays here.

    Raises:
        Lost: if it cannot answer.
    """
    with tempfile.TemporaryDirectory() as folder:
        child = Child(Path(folder) / "ask.log", code=code)
        try:
            return child.ask(request, timeout_s)
        finally:
            child.end()


def _start(code: Code, words: Sequence[str], fd: int, log: Path) -> subprocess.Popen[bytes]:
    """Start a module with its arguments in an interpreter of its own, which inherits one descriptor."""
    with log.open("ab") as sink:
        return subprocess.Popen(
            [code.python or sys.executable, "-m", *words],
            stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, pass_fds=[fd], start_new_session=True,
            env=_environment(code), cwd=code.folder or None,
        )  # fmt: skip


def _environment(code: Code) -> dict[str, str]:
    """Return the environment of a worker.

    The current folder, where a random.py may lie, is not on its path. Its tf.keras is the Keras 2 that TensorFlow
    Probability is made of.
    """
    environment = {"TF_USE_LEGACY_KERAS": "1", **os.environ, "PYTHONSAFEPATH": "1"}
    if code.path:
        inherited = os.environ.get("PYTHONPATH")
        environment["PYTHONPATH"] = os.pathsep.join([*code.path, *([inherited] if inherited else [])])
    return environment


def _maxrss_bytes(maxrss: int) -> int:
    return maxrss if sys.platform == "darwin" else maxrss * 1024


def _tail(log: Path, start: int) -> str:
    """Return the end of a log, without what earlier workers wrote before ``start``."""
    try:
        with log.open("rb") as file:
            file.seek(max(start, log.stat().st_size - _LOG_TAIL_BYTES))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def _oom_kills() -> int:
    """Return how often this system's kernel has ended a process for want of memory; 0 where it does not tell."""
    try:
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    except OSError:
        pass
    return 0
