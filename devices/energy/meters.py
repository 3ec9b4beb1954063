"""Meters that run beside a measurement."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence

from siderostat.devices.energy.counter import Counter, Refused


class Meters:
    """The meters of one device over the life of a worker.

    Args:
        counters: what to read.
        nameplate_w: power of all processors together that an estimate from CPU time rests on; None: no estimate.
    """

    def __init__(self, counters: Sequence[Counter], nameplate_w: Optional[float] = None) -> None:
        self._counters = list(counters)
        self._refusals: List[Refused] = []

    def open(self) -> List[Dict[str, Any]]:
        """Open every counter; return for each what :class:`siderostat.record.Energy` holds, windows aside, as JSON."""
        heads = []
        for counter in self._counters:
            try:
                counter.open()
            except Refused as refused:
                self._refusals.append(refused)
                heads.append({
                    "source": counter.source, "scope": counter.scope, "provenance": None, "status": refused.status.value,
                    "reason": refused.reason, "remedy": refused.remedy, "device": {}, "update_period_s": None,
                })  # fmt: skip
        return heads

    def begin(self) -> None:
        """Begin a window."""

    def end(
        self, steps: int, cpu_s: float, other_pids: Sequence[int], foreign_cpu: Optional[float]
    ) -> List[Dict[str, Any]]:
        """End the window; return one :class:`siderostat.record.EnergyWindow`, turn aside, as JSON for each head."""
        return []

    def close(self) -> None:
        """End the thread that reads."""
