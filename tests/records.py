"""Records made by hand, for tests that need no process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from siderostat.record import Attempt, Burst, Cell, Provenance, Reason, Record, Status


def cell(**changes: Any) -> Cell:
    values = {
        "workload": "galaxy-shape", "variant": "dnn", "mode": "train", "framework": "torch", "device": "cpu",
        "batch": 4, "size": "paper",
    }  # fmt: skip
    return Cell(**{**values, **changes})


def burst(seconds: Sequence[float], turn: int = 0, block_steps: int = 1) -> Burst:
    return Burst(turn, block_steps, list(seconds), list(seconds), {"wall_s": sum(seconds), "cpu_share": 1.0})


def ok(
    seconds: Sequence[float] = (0.1,), round: int = 0, block_steps: int = 1, repeat: int = 0, of: Cell | None = None,
    **changes: Any,
) -> Record:  # fmt: skip
    values: dict[str, Any] = {
        "provenance": Provenance.MEASURED, "clock": "host", "item": "galaxy image", "items_per_step": 4,
        "bursts": [burst(seconds, block_steps=block_steps)], "process": {"seconds": 2.0},
    }  # fmt: skip
    return Record(Attempt(of or cell(), round, round, repeat=repeat), Status.OK, **{**values, **changes})


def failed(status: Status = Status.CRASH, reason: Reason = Reason.KILLED, round: int = 0, **changes: Any) -> Record:
    return Record(Attempt(changes.pop("of", cell()), round, round), status, reason, "it went wrong", **changes)
