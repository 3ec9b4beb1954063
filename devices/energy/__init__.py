"""Energy of a device, window by window, or the reason why there is none."""

from siderostat.devices.energy.counter import Counter, Missing, Refused
from siderostat.devices.energy.meters import Meters

__all__ = ["Counter", "Meters", "Missing", "Refused"]
