"""Records made by hand, for tests that need no process."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from typing import Any

from siderostat.record import (
    IDLE,
    QUALITY,
    Attempt,
    Burst,
    Cell,
    Energy,
    EnergyStatus,
    EnergyWindow,
    Look,
    Provenance,
    Quality,
    Reason,
    Record,
    Status,
)


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
    reference: str | None = None, **changes: Any,
) -> Record:  # fmt: skip
    values: dict[str, Any] = {
        "provenance": Provenance.MEASURED, "clock": "host", "item": "galaxy image", "items_per_step": 4,
        "bursts": [burst(seconds, block_steps=block_steps)], "process": {"seconds": 2.0},
    }  # fmt: skip
    return Record(
        Attempt(of or cell(), round, round, repeat=repeat, reference=reference), Status.OK, **{**values, **changes}
    )


def failed(status: Status = Status.CRASH, reason: Reason = Reason.KILLED, round: int = 0, **changes: Any) -> Record:
    attempt = Attempt(changes.pop("of", cell()), round, round, reference=changes.pop("reference", None))
    return Record(attempt, status, reason, "it went wrong", **changes)


def lockstep(
    sides: Sequence[tuple[Cell, Sequence[float]]], round: int = 0, repeat: int = 0, **changes: Any,
) -> list[Record]:  # fmt: skip
    """One group: each cell with the seconds per step of each of its bursts, the reference first."""
    (reference, _), *_ = sides
    return [
        ok(
            round=round, repeat=repeat, of=one, reference=reference.key(), items_per_step=one.batch,
            bursts=[burst([0.98 * s, s, 1.03 * s], turn) for turn, s in enumerate(seconds)],
            **{"group": f"{reference.key()}@{round}.{repeat}", **changes},
        )
        for one, seconds in sides
    ]  # fmt: skip


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


def window(joules: float | None, turn: int = 0, **changes: Any) -> EnergyWindow:
    """Energy of one burst of ten steps in 2 s; None: refused."""
    status = EnergyStatus.OK if joules is not None else EnergyStatus.TOO_SHORT
    values: dict[str, Any] = {
        "steps": 10, "started_at": 1.7e9 + 3 * turn, "seconds": 2.0, "status": status, "joules": joules,
        "u_joules": None if joules is None else 0.001 * joules, "n_updates": 120 if joules else 4,
        "reason": "" if joules is not None else "4 updates of the counter in 2 s, 20 are needed",
        "mean_w": None if joules is None else joules / 2.0,
    }  # fmt: skip
    return EnergyWindow(turn=turn, **{**values, **changes})


def meter(windows: Sequence[EnergyWindow] = (), **changes: Any) -> Energy:
    """What a GPU's counter told."""
    values: dict[str, Any] = {
        "source": "nvml.total_energy", "scope": "gpu_board", "provenance": Provenance.MEASURED,
        "status": EnergyStatus.OK, "device": {"uuid": "GPU-1"}, "update_period_s": 0.1, "windows": list(windows),
    }  # fmt: skip
    return Energy(**{**values, **changes})


def no_meter(status: EnergyStatus = EnergyStatus.UNSUPPORTED, **changes: Any) -> Energy:
    """A meter that is not there."""
    values: dict[str, Any] = {
        "source": "none", "scope": "none", "provenance": None, "status": status,
        "reason": "there is no powercap folder, as in most virtual machines", "remedy": "measure on the bare machine",
    }  # fmt: skip
    return Energy(**{**values, **changes})


def metered(
    joules: Sequence[float | None], round: int = 0, of: Cell | None = None, also: Sequence[Energy] = (),
    meters: dict[str, Any] | None = None, **changes: Any,
) -> Record:  # fmt: skip
    """A process whose bursts of ten steps of four items needed so much energy each; ``changes`` of its windows."""
    windows = [window(j, turn, **changes) for turn, j in enumerate(joules)]
    bursts = [burst([2.0], turn, block_steps=10) for turn in range(len(joules))]
    return ok(round=round, of=of, bursts=bursts, energy=[meter(windows, **(meters or {})), *also])


def idle(watts: float, round: int = 0, on: str = "cpu", seconds: float = 10.0, **changes: Any) -> Record:
    """A device that did nothing."""
    of = cell(
        workload="null", variant="null", mode="infer", framework="numpy", batch=1, size="none", measure=IDLE,
        device=on,
    )  # fmt: skip
    windows = [window(watts * seconds, steps=0, seconds=seconds, u_joules=0.0)]
    return ok(round=round, of=of, bursts=[], item="", items_per_step=None, energy=[meter(windows, **changes)])
