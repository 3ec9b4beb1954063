"""``siderostat energy``."""

from __future__ import annotations

import argparse
import math
import sys
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from siderostat import wall_meter
from siderostat.energy import GOOD
from siderostat.errors import DONE, BadValue
from siderostat.record import EnergyStatus, EnergyWindow
from siderostat.store import Run, keep_wall_meter


def main(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    """Put a wall meter's log into a run folder, and say how many bursts it tells the energy of."""
    folder = Path(arguments.run)
    if not math.isfinite(arguments.offset):
        raise BadValue(f"--offset {arguments.offset} is no number of seconds")
    Run(folder)  # before anything is written: it must be a run folder that can be read
    log = wall_meter.read_csv(
        Path(arguments.log),
        arguments.time,
        arguments.power,
        arguments.energy,
        arguments.offset,
        arguments.scope,
    )
    path = keep_wall_meter(folder, log)
    run = Run(folder)
    for warning in run.warnings:
        print(f"siderostat: {warning}", file=sys.stderr)
    print(f"{path}: {_about(log)}")
    print(_matched([w for r in run.records for e in r.energy if e.source == wall_meter.SOURCE for w in e.windows]))
    return DONE


def _about(log: wall_meter.Log) -> str:
    """Say what was imported."""
    what = "power" if log.quantity == "power_w" else "a counter of energy"
    return (
        f"{len(log.times):,} samples of {what}, one every {log.period_s:.3g} s, "
        f"from {_utc(log.times[0])} to {_utc(log.times[-1])}"
    )


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _matched(windows: Sequence[EnergyWindow]) -> str:
    """Say how many bursts have an energy now, and what most of the others lack."""
    if not windows:
        return "The run has no bursts whose time is known; the log will be matched with those that are measured later."
    refused = [w for w in windows if w.status not in GOOD]
    text = f"Energy of {len(windows) - len(refused):,} of {len(windows):,} bursts is known from it"
    if not refused:
        return f"{text}."
    status, n = Counter(w.status for w in refused).most_common(1)[0]
    example = next(w for w in refused if w.status is status)
    clock = "; if the two clocks differ, import it again with --offset" if status is EnergyStatus.UNSUPPORTED else ""
    return f"{text}; {n:,} are refused as {status.value}, such as: {example.reason}{clock}."
