"""Energy of the processors guessed from processor time and the figure on their nameplate."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Dict

from siderostat.devices.energy.window import Circumstances
from siderostat.record import EnergyStatus, EnergyWindow, Provenance

_BAND = 2.0  # published comparisons with RAPL: off by -80 to +140 %, by 38 to 54 % in the mean


@dataclass(frozen=True)
class Nameplate:
    """Processor time, over the time of all processors, times their power.

    Args:
        nameplate_w: power of all processors of the machine together, such as the sum of their TDP.
        cores: how many processors the system counts.
    """

    source: ClassVar[str] = "cpu_time_x_nameplate"
    scope: ClassVar[str] = "cpu_package"
    nameplate_w: float
    cores: int = field(default_factory=lambda: os.cpu_count() or 1)

    def head(self) -> Dict[str, Any]:
        """Return what :class:`siderostat.record.Energy` holds, windows aside, as JSON."""
        return {
            "source": self.source,
            "scope": self.scope,
            "provenance": Provenance.ESTIMATED.value,
            "status": EnergyStatus.INDICATIVE.value,
            "reason": "processor time times a nameplate figure: right within a factor of two, no measurement",
            "remedy": "",
            "device": {"nameplate_w": self.nameplate_w, "cores": self.cores},
            "update_period_s": None,
        }

    def window(self, circumstances: Circumstances, cpu_s: float) -> EnergyWindow:
        """Return the estimate for a window in which this process used ``cpu_s`` of processor time.

        ``turn`` is left at 0. ``u_joules`` is ln(2)/2 of the estimate: a factor of two either way
        is two standard deviations of the logarithm.
        """
        window = EnergyWindow(
            0, circumstances.steps, circumstances.started_at, circumstances.seconds, EnergyStatus.INDICATIVE
        )
        if circumstances.steps == 0 or cpu_s <= 0:
            reason = "no processor time was used, and the estimate knows nothing of idle power"
            return replace(window, status=EnergyStatus.UNSUPPORTED, reason=reason)
        joules = cpu_s / self.cores * self.nameplate_w
        u_joules = joules * math.log(_BAND) / 2
        return replace(window, joules=joules, u_joules=u_joules, mean_w=joules / circumstances.seconds)
