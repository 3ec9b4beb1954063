"""Makes the inputs of the workloads, on all cores, before anything is timed."""

from __future__ import annotations

import os
import queue
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from siderostat.child import Child
from siderostat.record import Attempt, Cell


def key(cell: Cell) -> str:
    """Return what cells that read the same inputs have in common."""
    return repr((cell.code, cell.workload, cell.size, sorted(cell.options.items())))


def make(attempt: Attempt, start: Callable[[Attempt], Child], progress: Callable[[int, int], None]) -> None:
    """Have as many children as there are processors make the parts of the inputs that ``attempt`` needs.

    Args:
        attempt: any attempt that needs them.
        start: starts a child.
        progress: is told how many parts are done, of how many.

    Raises:
        Lost: if a part cannot be made.
    """
    request = {"attempt": attempt.to_dict()}
    timeout_s = attempt.protocol.timeout_s
    children = [start(attempt)]
    try:
        parts = int(children[0].ask({"do": "parts", **request}, timeout_s)["parts"])
        children += [start(attempt) for _ in range(min(parts, len(os.sched_getaffinity(0))) - 1)]
        _share_out(
            parts,
            children,
            lambda child, part: child.ask({"do": "make_part", "part": part, **request}, timeout_s),
            progress,
        )
    finally:
        for child in children:
            child.end()


def _share_out(
    parts: int, children: list[Child], make_part: Callable[[Child, int], object], progress: Callable[[int, int], None]
) -> None:
    """Give each idle child the next part; on the first failure give out no more."""
    idle: queue.SimpleQueue[Child] = queue.SimpleQueue()
    for child in children:
        idle.put(child)

    def one(part: int) -> None:
        child = idle.get()
        try:
            make_part(child, part)
        finally:
            idle.put(child)

    pool = ThreadPoolExecutor(len(children))
    try:
        for done, _ in enumerate(pool.map(one, range(parts)), start=1):
            progress(done, parts)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
