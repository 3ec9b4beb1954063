"""What energy is read from: a counter of joules, or a sensor of watts made into one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Dict, Optional

from siderostat.record import EnergyStatus, Provenance


class Refused(Exception):
    """There is no energy to be had, and why. ``remedy`` says what would mend that."""

    def __init__(self, status: EnergyStatus, reason: str, remedy: str = "") -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.remedy = remedy


class Counter(ABC):
    """Joules since an arbitrary moment, never going back but by a wrap, which the counter itself allows for."""

    source: ClassVar[str]
    scope: str
    provenance: ClassVar[Provenance] = Provenance.MEASURED
    shortest_period_s: ClassVar[float] = (
        0.0  # between updates, by its data sheet; what is seen to be shorter is not one
    )
    watts_mean_over_s: float = 0.0  # how long :meth:`watts` looks back; 0: it tells the power of the moment

    def open(self) -> None:
        """Find the sensor and read it once.

        Raises:
            Refused: if there is none, or it cannot be read.
        """

    @abstractmethod
    def joules(self) -> float:
        """Return the counter as it is now, in joules.

        Raises:
            Refused: if it can no longer be read.
        """

    def device(self) -> Dict[str, Any]:
        """Return what is metered: uuid, pci, name, driver, power_limit_w, as far as they are known."""
        return {}

    def watts(self) -> Optional[float]:
        """Return the power now by a sensor of power: its integral checks a counter of joules; None: there is none."""
        return None

    @property
    def updates(self) -> Optional[int]:
        """Updates of its sensor so far, where it counts them itself and is right at any moment; None: it does not."""
        return None

    @property
    def wraps(self) -> int:
        """How often it began anew, and was allowed for."""
        return 0

    def close(self) -> None:
        """Give back what :meth:`open` took."""


class Missing(Counter):
    """Stands where there is no sensor, and says why."""

    source = "none"
    scope = "none"

    def __init__(self, reason: str, remedy: str = "", status: EnergyStatus = EnergyStatus.UNSUPPORTED) -> None:
        self._refusal = Refused(status, reason, remedy)

    def open(self) -> None:
        """See :meth:`Counter.open`."""
        raise self._refusal

    def joules(self) -> float:
        """See :meth:`Counter.joules`."""
        raise self._refusal
