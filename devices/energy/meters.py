"""Meters that run beside a measurement."""

from __future__ import annotations

import dataclasses
import statistics
import threading
import time
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

from siderostat.devices.energy.counter import Counter, Refused
from siderostat.devices.energy.nameplate import Nameplate
from siderostat.devices.energy.window import POLL_S, Circumstances, Reading, Stretch, Traits, judge
from siderostat.record import EnergyStatus, EnergyWindow

_CLOSE_LOOK_S = 0.03  # without pause, to see updates every millisecond
_LONG_LOOK_S = 0.5  # with pauses, to see updates every 100 ms
_PAUSE_S = 0.002
_CHANGES = 5  # are enough to tell the period
_REST_S = 1.0  # between readings outside windows, for counters that wrap


class Meters:
    """The meters of one device over the life of a worker.

    Args:
        counters: what to read; of several with one scope, the first that can be opened.
        nameplate_w: power of all processors together that an estimate from CPU time rests on; None: no estimate.
    """

    def __init__(self, counters: Sequence[Counter], nameplate_w: Optional[float] = None) -> None:
        self._counters = list(counters)
        self._nameplate = None if nameplate_w is None else Nameplate(nameplate_w)
        self._meters: List[Union[_Watch, Nameplate, None]] = []  # one for each head; None: could not be opened
        self._thread: Optional[threading.Thread] = None
        self._in_window = threading.Event()
        self._is_closed = False
        self._began_s = self._started_at = 0.0

    def open(self) -> List[Dict[str, Any]]:
        """Open the counters; return for each what :class:`siderostat.record.Energy` holds, windows aside, as JSON.

        A counter is watched for up to half a second, to see how often it is updated. One thread reads all of them from
        now on.
        """
        heads = []
        for scope in _scopes(self._counters):
            watch, head = _first_to_open(scope)
            self._meters.append(watch)
            heads.append(head)
        if self._nameplate is not None:
            self._meters.append(self._nameplate)
            heads.append(self._nameplate.head())
        if self._watches():
            self._thread = threading.Thread(target=self._poll, name="siderostat-meters", daemon=True)
            self._thread.start()
        return heads

    def begin(self) -> None:
        """Begin a window."""
        self._started_at, self._began_s = time.time(), time.perf_counter()
        for watch in self._watches():
            watch.begin()
        self._in_window.set()

    def end(
        self, steps: int, cpu_s: float, other_pids: Sequence[int], foreign_cpu: Optional[float]
    ) -> List[Optional[Dict[str, Any]]]:
        """End the window; return one :class:`siderostat.record.EnergyWindow`, turn aside, as JSON for each head.

        Args:
            steps: that were run in the window.
            cpu_s: processor time of this process in the window, all threads.
            other_pids: other processes that computed on the device in the window.
            foreign_cpu: share of the machine's processor time that others used in the window; None: not known.

        Returns:
            None in place of a window where the counter could not be opened.
        """
        self._in_window.clear()
        stretches = {watch: watch.end() for watch in self._watches()}
        seconds = time.perf_counter() - self._began_s
        circumstances = Circumstances(steps, self._started_at, seconds, other_pids, foreign_cpu)
        windows: List[Optional[Dict[str, Any]]] = []
        for meter in self._meters:
            if meter is None:
                windows.append(None)
            elif isinstance(meter, Nameplate):
                windows.append(_as_json(meter.window(circumstances, cpu_s)))
            else:
                windows.append(_as_json(judge(stretches[meter], meter.traits, circumstances)))
        return windows

    def close(self) -> None:
        """End the thread that reads, and close the counters."""
        self._is_closed = True
        self._in_window.set()
        if self._thread is not None:
            self._thread.join()
        for watch in self._watches():
            watch.counter.close()
        self._meters = []

    def _watches(self) -> List[_Watch]:
        return [meter for meter in self._meters if isinstance(meter, _Watch)]

    def _poll(self) -> None:
        while not self._is_closed:
            if self._in_window.wait(_REST_S):
                time.sleep(POLL_S)
            for watch in self._watches():
                watch.look()


class _Watch:
    """An open counter, read by the thread and at the edges of windows."""

    def __init__(self, counter: Counter) -> None:
        self.counter = counter
        self._device = counter.device()
        self.traits = Traits(
            counter.scope, _period_s(counter), self._device.get("power_limit_w"), counter.watts_mean_over_s
        )
        self._lock = threading.Lock()
        self._stretch: Optional[Stretch] = None

    def head(self) -> Dict[str, Any]:
        return {
            "source": self.counter.source,
            "scope": self.counter.scope,
            "provenance": self.counter.provenance.value,
            "status": EnergyStatus.OK.value,
            "reason": "",
            "remedy": "",
            "device": self._device,
            "update_period_s": self.traits.period_s,
        }

    def begin(self) -> None:
        with self._lock:
            self._stretch = Stretch()
            self._read(self._stretch)

    def look(self) -> None:
        """Read the counter. Outside a window that only keeps up with its wraps."""
        with self._lock:
            self._read(self._stretch or Stretch())

    def end(self) -> Stretch:
        """Read the counter for the last time in this window."""
        with self._lock:
            stretch, self._stretch = self._stretch, None
            if stretch is None:
                stretch = Stretch()
                stretch.fail("the window was not begun")
            self._read(stretch)
            return stretch

    def _read(self, stretch: Stretch) -> None:
        try:
            stretch.add(_reading(self.counter))
        except Refused as refused:
            stretch.fail(refused.reason)


def _reading(counter: Counter) -> Reading:
    asked_s = time.perf_counter()
    joules = counter.joules()
    answered_s = time.perf_counter()
    return Reading(0.5 * (asked_s + answered_s), joules, counter.updates, counter.wraps, counter.watts())


def _period_s(counter: Counter) -> Optional[float]:
    """Watch a counter until it has changed a few times; return the median time between; None: it did not.

    Raises:
        Refused: if it cannot be read.
    """
    changes_s: List[float] = []
    began_s = time.perf_counter()
    before = counter.joules(), counter.updates
    now_s = began_s
    while now_s - began_s < _CLOSE_LOOK_S or (len(changes_s) < _CHANGES and now_s - began_s < _LONG_LOOK_S):
        if now_s - began_s >= _CLOSE_LOOK_S:
            time.sleep(_PAUSE_S)
        joules, updates = counter.joules(), counter.updates
        now_s = time.perf_counter()
        if (joules if updates is None else updates) != before[updates is not None]:
            changes_s.append(now_s)
            before = joules, updates
    if len(changes_s) < 2:
        return None
    return max(statistics.median(b - a for a, b in zip(changes_s, changes_s[1:])), counter.shortest_period_s)


def _scopes(counters: Sequence[Counter]) -> List[List[Counter]]:
    """Return counters of one scope together, in order; those that stand for nothing are each alone."""
    groups: Dict[Any, List[Counter]] = {}
    for counter in counters:
        key = id(counter) if counter.scope == "none" else counter.scope
        groups.setdefault(key, []).append(counter)
    return list(groups.values())


def _first_to_open(counters: Sequence[Counter]) -> Tuple[Optional[_Watch], Dict[str, Any]]:
    """Return the first counter that can be opened, and its head; where there is none, the head of a refusal."""
    refusals: List[Refused] = []
    for counter in counters:
        try:
            counter.open()
            watch = _Watch(counter)
        except Refused as refused:
            counter.close()
            refusals.append(refused)
        else:
            passed_over = "; ".join(f"{c.source}: {r.reason}" for c, r in zip(counters, refusals))
            return watch, {**watch.head(), "reason": passed_over}
    return None, _refused_head(counters[0], refusals[0])


def _refused_head(counter: Counter, refused: Refused) -> Dict[str, Any]:
    return {
        "source": counter.source,
        "scope": counter.scope,
        "provenance": None,
        "status": refused.status.value,
        "reason": refused.reason,
        "remedy": refused.remedy,
        "device": {},
        "update_period_s": None,
    }


def _as_json(window: EnergyWindow) -> Dict[str, Any]:
    """Return a window without its turn, which the driver knows."""
    data = dataclasses.asdict(window)
    del data["turn"]
    return {**data, "status": window.status.value}
