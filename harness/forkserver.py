"""Starts workers in a fraction of a second: a process that has imported the framework forks one child per measurement.

It imports, and computes nothing: threads and device contexts do not survive a fork. It speaks JSON over one socket::

    {"log": path} with one file descriptor attached -> {"pid": n}, and when that child has ended
                                                       {"ended": n, "wait": status, "maxrss_bytes": ...}

Worker side: Python 3.8.
"""

from __future__ import annotations

import array
import importlib
import json
import os
import select
import signal
import socket
import sys
from typing import Any, Dict, List, Tuple

from siderostat import limits, worker


def _receive(control: socket.socket) -> Tuple[Dict[str, Any], int]:
    """Receive one request and the descriptor attached to it.

    Raises:
        EOFError: if the driver is gone.
    """
    size = array.array("i").itemsize
    data, ancillary, _, _ = control.recvmsg(65536, socket.CMSG_SPACE(size))
    if not data:
        raise EOFError
    descriptors = array.array("i")
    descriptors.frombytes(ancillary[0][2][:size])
    return json.loads(data), descriptors[0]


def _become_worker(request: Dict[str, Any], fd: int, server: int) -> None:
    """Turn the forked child into a worker with a session, a log and a lifeline of its own. Does not return."""
    code = 1
    try:
        os.setsid()
        limits.die_with_parent(server)
        limits.offer_to_oom_killer()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(log, 1)
        os.dup2(log, 2)
        worker.serve(fd)
        code = 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _say(control: socket.socket, message: Dict[str, Any]) -> None:
    control.sendall(json.dumps(message).encode() + b"\n")


def _reap(control: socket.socket, children: List[int]) -> None:
    """Report the children that have ended."""
    for pid in list(children):
        ended, status, usage = os.wait4(pid, os.WNOHANG)
        if ended:
            children.remove(pid)
            unit = 1 if sys.platform == "darwin" else 1024
            _say(control, {"ended": pid, "wait": status, "maxrss_bytes": usage.ru_maxrss * unit})


def serve(control: socket.socket) -> None:
    """Fork children on request and report their ends, until the driver closes the socket."""
    wake, waker = os.pipe()
    os.set_blocking(waker, False)
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(waker)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    server = os.getpid()
    children: List[int] = []
    while True:
        ready, _, _ = select.select([control.fileno(), wake], [], [])
        if wake in ready:
            os.read(wake, 4096)
            _reap(control, children)
        if control.fileno() in ready:
            request, fd = _receive(control)
            pid = os.fork()
            if pid == 0:
                control.close()
                _become_worker(request, fd, server)
            os.close(fd)
            children.append(pid)
            _say(control, {"pid": pid})


def main() -> None:
    """``python -m siderostat.forkserver FD PARENT MODULE...``."""
    fd, parent, modules = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    limits.die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError:
            continue  # the worker that needs it will say so in its record
    with socket.socket(fileno=fd) as control:
        try:
            _say(control, {"ready": True})
            serve(control)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            return


if __name__ == "__main__":
    main()
