"""What readings of a counter say about the energy of a window, and when they say nothing.

A counter is updated every so often; between updates it shows an old value. Three kinds are told apart:

- updated faster than it is polled (RAPL, 1 ms): the difference of the readings at the window's edges;
- integrated from a sensor of power: the same, since the integral is right at any moment;
- slower (NVML, 100 ms): the energy between the first and the last update that were seen inside the window, times the
  window's length over the time between these two.

The third takes nothing from outside the window, where the device may be idle. In a simulation of a counter updated
every 100 ms and polled every 50 ms, over windows of 2.1 s with which a steady load began and ended, it was off by
0.2 +- 0.9 %; reading at the edges by -1.9 +- 1.1 %, and interpolating at the edges between updates by -1.4 +- 0.6 %, a
bias that repeats do not show.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple, Optional, Sequence, Tuple

from siderostat.record import ENOUGH_UPDATES, LEAST_UPDATES, EnergyStatus, EnergyWindow

FOREIGN_CPU = 0.05  # largest share of the machine's processor time that others may have used
POLL_S = 0.05  # between readings in a window
_STILL_S = 1.0  # a counter that stands still for longer, and for 5 periods, is stale
_STILL_PERIODS = 5
_DISAGREE = 0.10  # between a counter and the integral of power
_ABOVE_LIMIT = 1.1
_OF_THE_HOST = ("cpu_package", "dram", "platform")  # scopes that any process on the machine draws on


class Reading(NamedTuple):
    """A counter at one moment."""

    time_s: float
    joules: float
    updates: Optional[int] = None  # so far, where the counter counts them itself
    wraps: int = 0  # so far
    watts: Optional[float] = None  # by a sensor of power


class Stretch:
    """What successive readings told, whatever their number, in constant memory."""

    def __init__(self) -> None:
        self.first: Optional[Reading] = None
        self.last: Optional[Reading] = None
        self.first_change: Optional[Tuple[float, float]] = None  # time in s, joules
        self.last_change: Optional[Tuple[float, float]] = None
        self.changes = 0
        self.still_s = 0.0  # longest while over which it was seen not to change
        self.fell_by_j = 0.0
        self.power_j: Optional[float] = 0.0  # integral of the sensor of power; None: a reading lacked it
        self.max_w: Optional[float] = None
        self.failure = ""
        self._still_since_s = 0.0

    def add(self, reading: Reading) -> None:
        """Take in the next reading."""
        if self.first is None or self.last is None:
            self.first = reading
            self._still_since_s = reading.time_s
        else:
            self._note_change(self.last, reading)
            self._note_power(self.last, reading)
        if reading.watts is not None:
            self.max_w = reading.watts if self.max_w is None else max(self.max_w, reading.watts)
        self.last = reading

    def fail(self, reason: str) -> None:
        """Take in that the counter could not be read."""
        self.failure = self.failure or reason

    def _note_change(self, before: Reading, after: Reading) -> None:
        self.fell_by_j = max(self.fell_by_j, before.joules - after.joules)
        is_same = after.joules == before.joules if after.updates is None else after.updates == before.updates
        if is_same:
            self.still_s = max(self.still_s, after.time_s - self._still_since_s)
            return
        self._still_since_s = after.time_s
        self.changes += 1 if after.updates is None else after.updates - (before.updates or 0)
        self.last_change = (0.5 * (before.time_s + after.time_s), after.joules)  # it happened somewhere in between
        if self.first_change is None:
            self.first_change = self.last_change

    def _note_power(self, before: Reading, after: Reading) -> None:
        if self.power_j is None or before.watts is None or after.watts is None:
            self.power_j = None
        else:
            self.power_j += 0.5 * (before.watts + after.watts) * (after.time_s - before.time_s)

    @property
    def seconds(self) -> float:
        """Time between the first and the last reading."""
        return self.last.time_s - self.first.time_s if self.first and self.last else 0.0


@dataclass(frozen=True)
class Traits:
    """What is known of a counter before the window."""

    scope: str
    period_s: Optional[float] = None  # between updates; None: none was seen yet
    power_limit_w: Optional[float] = None
    watts_mean_over_s: float = 0.0


@dataclass(frozen=True)
class Circumstances:
    """What else is known of the window."""

    steps: int
    started_at: float  # Unix time
    seconds: float  # by the clock of whoever asked; stands where the counter was not read
    other_pids: Sequence[int] = ()
    foreign_cpu: Optional[float] = None  # share of the machine's processor time that others used; None: not known


def judge(stretch: Stretch, traits: Traits, circumstances: Circumstances) -> EnergyWindow:
    """Return the energy of a window, or why there is none; ``turn`` is left at 0.

    ``u_joules`` takes the bound 1/N on the error of a reading with N updates as the half-width of a rectangular
    distribution (JCGM 100:2008, 4.3.7): joules / (N sqrt(3)).
    """
    n_updates = _updates(stretch, traits)
    window = EnergyWindow(
        turn=0,
        steps=circumstances.steps,
        started_at=circumstances.started_at,
        seconds=circumstances.seconds if stretch.failure else stretch.seconds,
        status=EnergyStatus.OK if n_updates >= ENOUGH_UPDATES else EnergyStatus.INDICATIVE,
        n_updates=n_updates if stretch.first else None,
        wraps=stretch.last.wraps - stretch.first.wraps if stretch.first and stretch.last else 0,
        max_w=stretch.max_w,
        cross_check_j=_cross_check_j(stretch),
    )
    objection = _no_figure(stretch, traits, circumstances, n_updates)
    if objection:
        return replace(window, status=objection[0], reason=objection[1])
    joules = _joules(stretch, traits)
    objection = _contradiction(stretch, traits, joules)
    if objection:
        return replace(window, status=objection[0], reason=objection[1])
    return replace(window, joules=joules, u_joules=joules / (n_updates * math.sqrt(3)), mean_w=joules / stretch.seconds)


def is_fast(period_s: Optional[float]) -> bool:
    """Say whether a counter is updated more often than it is polled, so that not every update is seen."""
    return period_s is not None and period_s < POLL_S


def _counts_itself(stretch: Stretch) -> bool:
    return stretch.first is not None and stretch.first.updates is not None


def _updates(stretch: Stretch, traits: Traits) -> int:
    """Return how many updates there were in the window, at least."""
    if traits.period_s is not None and is_fast(traits.period_s) and not _counts_itself(stretch):
        return int(stretch.seconds / traits.period_s + 1e-6) if stretch.changes else 0
    return stretch.changes


def _joules(stretch: Stretch, traits: Traits) -> float:
    """Return the energy of a window with enough updates, as the head of this module has it."""
    assert stretch.first is not None and stretch.last is not None
    if is_fast(traits.period_s) or _counts_itself(stretch):
        return stretch.last.joules - stretch.first.joules
    assert stretch.first_change is not None and stretch.last_change is not None
    (began_s, began_j), (ended_s, ended_j) = stretch.first_change, stretch.last_change
    return (ended_j - began_j) * stretch.seconds / (ended_s - began_s)


_Objection = Optional[Tuple[EnergyStatus, str]]


def _no_figure(stretch: Stretch, traits: Traits, circumstances: Circumstances, n_updates: int) -> _Objection:
    """Return why the window has no figure, whatever the figure would be; None: there is no such reason."""
    if stretch.failure:
        return EnergyStatus.STALE_COUNTER, f"the counter could no longer be read: {stretch.failure}"
    if stretch.fell_by_j > 0:
        return EnergyStatus.COUNTER_RESET, f"the counter fell by {stretch.fell_by_j:.3g} J within the window"
    longest_s = max(_STILL_S, _STILL_PERIODS * (traits.period_s or 0.0))
    if stretch.still_s > longest_s:
        usual = f", though it used to change every {traits.period_s:.2g} s" if traits.period_s else ""
        return EnergyStatus.STALE_COUNTER, f"the counter did not change for {stretch.still_s:.1f} s{usual}"
    if circumstances.other_pids:
        pids = ", ".join(map(str, circumstances.other_pids))
        return EnergyStatus.SHARED_DEVICE, f"other processes computed on the device in this window: {pids}"
    foreign_cpu = circumstances.foreign_cpu or 0.0
    if traits.scope in _OF_THE_HOST and foreign_cpu > FOREIGN_CPU:
        return (
            EnergyStatus.SHARED_DEVICE,
            f"others used {foreign_cpu:.0%} of the machine's processor time in this window, {FOREIGN_CPU:.0%} may",
        )
    if n_updates < LEAST_UPDATES:
        return EnergyStatus.TOO_SHORT, _what_would_do(stretch, traits, n_updates)
    return None


def _what_would_do(stretch: Stretch, traits: Traits, n_updates: int) -> str:
    """Say how many updates there were, and how long a window has enough."""
    seconds = f"{stretch.seconds:.1f}" if stretch.seconds >= 1 else f"{stretch.seconds:.2g}"
    seen = f"{n_updates} updates of the counter in {seconds} s, {LEAST_UPDATES} are needed"
    period_s = traits.period_s
    if n_updates:  # updates that this window missed are missed in a longer one, too
        period_s = max(period_s or 0.0, stretch.seconds / (n_updates + 1))
    if period_s is None:
        return f"{seen}: how often it is updated is not known yet, try --energy-window 10s"
    window = f"{_rounded_up((LEAST_UPDATES + 1) * period_s):g}"
    return f"{seen}: a window of {window} s would do (--energy-window {window}s)"


def _rounded_up(value: float) -> float:
    """Return the next number with two digits."""
    digit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return round(math.ceil(value / digit - 1e-6) * digit, 12)


def _contradiction(stretch: Stretch, traits: Traits, joules: float) -> _Objection:
    """Return why a figure cannot be true; None: nothing speaks against it."""
    mean_w = joules / stretch.seconds
    limit_w = traits.power_limit_w
    if limit_w is not None and mean_w > _ABOVE_LIMIT * limit_w:
        return EnergyStatus.IMPLAUSIBLE, f"a mean of {mean_w:.4g} W is above the power limit of {limit_w:.4g} W"
    check_j = _cross_check_j(stretch)
    is_comparable = stretch.seconds >= 10 * traits.watts_mean_over_s  # else what went before the window is in it
    if check_j is not None and is_comparable and abs(check_j - joules) > _DISAGREE * joules:
        return (
            EnergyStatus.INCONSISTENT,
            f"the counter says {joules:.4g} J, the integral of power {check_j:.4g} J: more than {_DISAGREE:.0%} apart",
        )
    return None


def _cross_check_j(stretch: Stretch) -> Optional[float]:
    is_another_sensor = not _counts_itself(stretch) and stretch.max_w is not None
    return stretch.power_j if is_another_sensor and stretch.seconds > 0 else None
