"""Records made by hand, for tests that need no process."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from typing import Any

from siderostat.record import QUALITY, Attempt, Burst, Cell, Look, Provenance, Quality, Reason, Record, Status


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


def judged(
    values: Sequence[float] = (0.5, 0.2), target: float = 0.3, round: int = 0, measure: str = QUALITY, **changes: Any
) -> Record:
    """A training that was looked at every 100 items and 10 s."""
    looks = [Look(100 * i, 10.0 * i, {"nll": v, "ellipticity_rmse": v / 2}) for i, v in enumerate(values, start=1)]
    pixels = base64.b64encode(zlib.compress(bytes(range(48)))).decode()
    quality = Quality(
        "nll", target, looks, {"e1": [[0.1, -0.2], [0.05, -0.1]], "redshift": [[0.5, 1.0], [0.6, 0.9]]},
        {"true images": {"shape": [1, 4, 4, 3], "zlib_base64": pixels}},
    )  # fmt: skip
    bursts = [burst([10.0], turn=i, block_steps=25) for i in range(len(values))]
    return ok(round=round, of=cell(measure=measure), bursts=bursts, quality=quality, **changes)
