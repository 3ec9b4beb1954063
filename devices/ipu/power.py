"""Power, clock and temperatures of IPUs, through Graphcore's gcipuinfo, which comes with the driver's tools.

It tells every attribute as text, and ``N/A`` where a board has no sensor. Readings keep the place of their device in
the list: one that tells nothing must not hand its place to the next.
"""

from __future__ import annotations

import importlib
import os
import re
import time
from typing import Any, Dict, List, Mapping, Optional, Sequence

from siderostat.devices.energy.counter import Counter, Missing, Refused
from siderostat.devices.ipu.settings import Settings
from siderostat.record import EnergyStatus

_SENSORS = {  # attribute -> name and factor of the figure
    "clock": "ipu_clock_mhz",
    "average die temp": "die_temperature_c",
    "average board temp": "board_temperature_c",
    "ipu power": "power_w",
}
_UNITS = {"W": 1.0, "C": 1.0, "MHz": 1.0, "GHz": 1e3}


class Boards:
    """The IPUs of this machine as gcipuinfo lists them, in its order."""

    def __init__(self, gcipuinfo: Any) -> None:
        self._attribute = gcipuinfo.IpuPower
        self._info = gcipuinfo.gcipuinfo()
        self._info.setUpdateMode(True)  # read anew at each question

    @classmethod
    def find(cls) -> Optional[Boards]:
        """Return them; None where gcipuinfo is not installed for this interpreter."""
        try:
            return cls(importlib.import_module("gcipuinfo"))
        except ImportError:
            return None

    def devices(self) -> List[Dict[str, str]]:
        """Return all attributes of every IPU, by their names, as texts with units."""
        return [dict(device) for device in self._info.getDevices()]

    def power(self) -> List[str]:
        """Return the power of every IPU, such as ``103.2W`` or ``N/A``."""
        return [str(text) for text in self._info.getNamedAttributeForAll(self._attribute)]


def chosen(devices: Sequence[Mapping[str, str]], index: Optional[int]) -> List[int]:
    """Return the places in the list of those that this process uses; empty where that is not known.

    Args:
        devices: what :meth:`Boards.devices` returns.
        index: number of the IPU that was asked for; that of a group of IPUs is not in the list.
    """
    named = [i for i, device in enumerate(devices) if index is not None and device.get("id") == str(index)]
    attached = [i for i, device in enumerate(devices) if device.get("user process id") == str(os.getpid())]
    return named or attached or ([0] if len(devices) == 1 and index in (None, 0) else [])


def amount(text: str) -> Optional[float]:
    """Return the number of a text such as ``92.3 W``, ``1330MHz`` or ``20.0 C``, clocks in MHz; None of any other."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*", text)
    return float(found[1]) * _UNITS[found[2]] if found is not None and found[2] in _UNITS else None


def sensors(index: Optional[int]) -> Dict[str, float]:
    """Return clock, temperatures and power of the first IPU in use; what is not told is left out."""
    boards = Boards.find()
    devices = boards.devices() if boards is not None else []
    places = chosen(devices, index)
    if not places:
        return {}
    told = {name: amount(devices[places[0]].get(key, "")) for key, name in _SENSORS.items()}
    return {name: value for name, value in told.items() if value is not None}


def clock_hz(index: Optional[int]) -> Optional[float]:
    """Return the clock of the first IPU in use; None: it is not told."""
    clock_mhz = sensors(index).get("ipu_clock_mhz")
    return None if clock_mhz is None else clock_mhz * 1e6


def counters(settings: Settings) -> List[Counter]:
    """Return what tells the energy of the IPUs in use."""
    if settings.is_emulator:
        return [Missing("an emulator uses no energy of an IPU", status=EnergyStatus.NOT_MEASURABLE)]
    return [IpuPower(settings.index)]


class IpuPower(Counter):
    """The power that the boards report for the IPUs in use, added up and integrated by the trapezoidal rule.

    Args:
        index: number of the IPU; None: those that this process is attached to.
    """

    source = "gcipuinfo.power"
    scope = "ipu_reported"

    def __init__(self, index: Optional[int]) -> None:
        self._index = index
        self._boards: Optional[Boards] = None
        self._devices: List[Dict[str, str]] = []
        self._places: List[int] = []
        self._updates = 0
        self._joules = 0.0
        self._last_w: Optional[float] = None
        self._last_s = 0.0

    def open(self) -> None:
        """See :meth:`Counter.open`."""
        self._boards = Boards.find()
        if self._boards is None:
            reason = "gcipuinfo, which reads the sensors of IPUs, is not installed for this interpreter"
            raise Refused(EnergyStatus.UNSUPPORTED, reason, "install it from the Poplar SDK's driver tools")
        self._devices = self._boards.devices()
        if not self._devices:
            raise Refused(EnergyStatus.UNSUPPORTED, "gcipuinfo lists no IPU", "see gc-info -l")
        self._places = chosen(self._devices, self._index)
        if not self._places:
            reason = f"which of the {len(self._devices)} IPUs is in use is not known"
            raise Refused(EnergyStatus.UNSUPPORTED, reason, "name one, such as ipu:0")
        self.joules()

    def joules(self) -> float:
        """See :meth:`Counter.joules`."""
        now_w = self._power_w()
        now_s = time.perf_counter()
        if self._last_w is not None:
            self._joules += 0.5 * (self._last_w + now_w) * (now_s - self._last_s)
            self._updates += now_w != self._last_w
        self._last_w, self._last_s = now_w, now_s
        return self._joules

    def device(self) -> Dict[str, Any]:
        """See :meth:`Counter.device`."""
        ours = [self._devices[place] for place in self._places]
        told = {"name": ours[0].get("board type"), "driver": ours[0].get("driver version")}
        ids = [device.get("id", str(place)) for place, device in zip(self._places, ours)]
        return {"ipus": ids, **{name: value for name, value in told.items() if value is not None}}

    @property
    def updates(self) -> Optional[int]:
        """See :meth:`Counter.updates`: readings that differ from the one before."""
        return self._updates

    def watts(self) -> Optional[float]:
        """See :meth:`Counter.watts`."""
        return self._last_w

    def _power_w(self) -> float:
        """Return the power of the IPUs in use together.

        Raises:
            Refused: if one of them does not tell its own.
        """
        assert self._boards is not None
        texts = self._boards.power()
        total_w = 0.0
        for place in self._places:
            text = texts[place] if place < len(texts) else "nothing"
            power_w = amount(text)
            if power_w is None:
                ipu = self._devices[place].get("id", str(place))
                reason = f"gcipuinfo tells {text!r} for the power of IPU {ipu}"
                raise Refused(EnergyStatus.UNSUPPORTED, reason, "measure at the mains: a wall meter")
            total_w += power_w
        return total_w
