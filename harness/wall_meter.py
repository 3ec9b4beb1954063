"""A wall meter's log beside a run: the power of the whole node, read by an instrument that is no part of it.

The log is a CSV file with a header, a column of times and one of power or of a counter of energy. It is kept in the
run folder in one form, and matched with the bursts of the records whenever the run is read; the journal stays as it is.
Bursts of a lock-step group take turns, so that the node's power during a burst belongs to the one whose burst it is.
"""

from __future__ import annotations

import bisect
import csv
import dataclasses
import hashlib
import io
import itertools
import json
import math
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from siderostat.errors import BadValue
from siderostat.record import (
    ENOUGH_UPDATES,
    IDLE,
    LEAST_UPDATES,
    Energy,
    EnergyStatus,
    EnergyWindow,
    Provenance,
    Record,
)
from siderostat.stats import measured_bursts

FILE = "wall_meter.jsonl"
SOURCE, NODE = "wall_meter", "node_ac"
GAP = 3  # times the usual time between two samples: longer without one is a gap
POWER_W = {"w": 1.0, "watt": 1.0, "watts": 1.0, "mw": 1e-3, "kw": 1e3}
ENERGY_J = {"wh": 3.6e3, "kwh": 3.6e6, "mwh": 3.6, "j": 1.0, "joule": 1.0, "joules": 1.0, "kj": 1e3}
TIMES = ("time", "timestamp", "datetime", "unix", "epoch")
_UNIX_S = (1e9, 1e11)  # 2001 to 5138: what lies outside is another unit, or counts from another moment


class _Stretch(NamedTuple):
    """A burst, or a while in which the device was idle."""

    turn: int
    steps: int
    started_at: float  # Unix time
    seconds: float


@dataclass(frozen=True)
class Log:
    """What a wall meter told.

    Attributes:
        source: name of the file it was read from.
        sha256: of that file, in hex digits; logs of equal hash are of one meter, whose calibration cancels.
        scope: what the meter feeds: ``node_ac``, or another word of the record's vocabulary.
        quantity: ``power_w`` or ``energy_j``, the latter a counter.
        offset_s: what was added to the meter's times.
        times: Unix time, increasing.
        values: as many, in watts or joules.
    """

    source: str
    sha256: str
    scope: str
    quantity: str
    offset_s: float
    times: list[float]
    values: list[float]

    @cached_property
    def period_s(self) -> float:
        """Usual time between two samples."""
        return statistics.median(b - a for a, b in itertools.pairwise(self.times))

    @cached_property
    def _updates(self) -> tuple[list[float], list[float]]:
        """Times of the meter's updates, and joules since the log began.

        A sample of power is an update; of a counter's samples only those that differ from the one before.
        """
        if self.quantity == "energy_j":
            changed = [i for i in range(1, len(self.times)) if self.values[i] != self.values[i - 1]]
            return [self.times[i] for i in changed], [self.values[i] for i in changed]
        joules = [0.0]
        for i in range(1, len(self.times)):
            mean_w = 0.5 * (self.values[i - 1] + self.values[i])
            joules.append(joules[-1] + mean_w * (self.times[i] - self.times[i - 1]))
        return self.times, joules

    def text(self) -> str:
        """Return the log in the form in which a run folder has it: a line about it, then one for each sample."""
        about = {k: v for k, v in dataclasses.asdict(self).items() if k not in ("times", "values")}
        lines = (f"[{t!r},{v!r}]" for t, v in zip(self.times, self.values, strict=True))
        return "\n".join([json.dumps({"schema": 1, **about}), *lines]) + "\n"

    def energy(self, record: Record) -> Energy | None:
        """Return the energy of a record's bursts; None where the record ran on nothing that a meter could tell of."""
        if record.provenance is not Provenance.MEASURED:
            return None
        windows = [self._window(stretch) for stretch in _stretches(record)]
        device = {"uuid": f"log:{self.sha256[:16]}", "name": self.source}
        if not windows:
            if not measured_bursts(record):
                return None
            reason = "the record does not say when its bursts were, so that the log cannot be matched with them"
            return Energy(SOURCE, self.scope, None, EnergyStatus.UNSUPPORTED, reason, "measure again", device)
        return Energy(
            SOURCE, self.scope, Provenance.MEASURED, EnergyStatus.OK, device=device, update_period_s=self.period_s,
            remedy=self._remedy(windows), windows=windows,
        )  # fmt: skip

    def _window(self, stretch: _Stretch) -> EnergyWindow:
        """Return the energy of one burst, or why there is none.

        It is the energy between the first and the last update within the burst, times the burst's length over the
        time between these two: nothing from outside, where the node does something else, gets into it. ``u_joules``
        takes the bound 1 / N on the error of N updates as the half-width of a rectangular distribution.
        """
        begin, end = stretch.started_at, stretch.started_at + stretch.seconds
        times, joules = self._updates
        first, behind = bisect.bisect_left(times, begin), bisect.bisect_right(times, end)
        n = behind - first
        window = EnergyWindow(*stretch, EnergyStatus.TOO_SHORT, n_updates=n)
        refusal = self._refusal(begin, end)
        if refusal is None and n < LEAST_UPDATES:
            refusal = self._too_few(n, stretch.seconds)
        if refusal is not None:
            return dataclasses.replace(window, status=refusal[0], reason=refusal[1])
        spanned = (joules[behind - 1] - joules[first]) / (times[behind - 1] - times[first])
        energy_j = spanned * stretch.seconds
        return dataclasses.replace(
            window,
            status=EnergyStatus.OK if n >= ENOUGH_UPDATES else EnergyStatus.INDICATIVE,
            joules=energy_j,
            u_joules=energy_j / (n * math.sqrt(3)),
            mean_w=spanned,
            max_w=max(self.values[first:behind]) if self.quantity == "power_w" else None,
        )

    def _refusal(self, begin: float, end: float) -> tuple[EnergyStatus, str] | None:
        """Return why the log says nothing of a stretch of time, however many updates it has; None: it may."""
        if begin < self.times[0] or end > self.times[-1]:
            after = begin >= self.times[0]
            by_s = end - self.times[-1] if after else self.times[0] - begin
            where = "ends before the burst does" if after else "begins after the burst"
            return EnergyStatus.UNSUPPORTED, f"the log {where}, by {by_s:.3g} s"
        first, behind = bisect.bisect_left(self.times, begin), bisect.bisect_right(self.times, end)
        gap_s = max(b - a for a, b in itertools.pairwise([begin, *self.times[first:behind], end]))
        if gap_s > GAP * self.period_s:
            usual = f"usually has a sample every {self.period_s:.3g} s"
            return EnergyStatus.STALE_COUNTER, f"the log has a gap of {gap_s:.3g} s in this burst, and {usual}"
        held = self.values[first:behind]
        if self.quantity == "energy_j" and any(b < a for a, b in itertools.pairwise(held)):
            return EnergyStatus.COUNTER_RESET, "the meter's counter went back within the burst"
        return None

    def _too_few(self, n: int, seconds: float) -> tuple[EnergyStatus, str]:
        return EnergyStatus.TOO_SHORT, (
            f"{n} updates of the meter in {seconds:.2g} s, {LEAST_UPDATES} are needed: bursts of "
            f"{self._enough_s(n, seconds):d} s would do (--energy-window {self._enough_s(n, seconds):d}s)"
        )

    def _enough_s(self, n: int, seconds: float) -> int:
        """Return how long a burst has enough updates, at the rate at which this one had them."""
        return math.ceil((LEAST_UPDATES + 1) * max(self.period_s, seconds / (n + 1)))

    def _remedy(self, windows: Sequence[EnergyWindow]) -> str:
        if any(w.status is EnergyStatus.UNSUPPORTED for w in windows):
            return "if the meter's clock and the computer's differ, import the log again with --offset SECONDS"
        return ""


def matched(record: Record, log: Log | None) -> Record:
    """Return a record with what the log says of its bursts."""
    energy = None if log is None else log.energy(record)
    return record if energy is None else dataclasses.replace(record, energy=[*record.energy, energy])


def _stretches(record: Record) -> list[_Stretch]:
    """Return when the bursts of a record were or, of an idle device, when it was watched."""
    if record.attempt.cell.measure == IDLE:
        watched = next((e.windows for e in record.energy if e.windows), [])
        return [_Stretch(w.turn, 0, w.started_at, w.seconds) for w in watched]
    return [
        _Stretch(b.turn, b.block_steps * len(b.seconds), b.started_at, b.load.get("wall_s", sum(b.seconds)))
        for b in measured_bursts(record)
        if b.started_at is not None
    ]


def load(path: Path) -> Log:
    """Read a log as a run folder has it.

    Raises:
        ValueError: if it is damaged.
        OSError: if it cannot be read.
    """
    head, *lines = path.read_text(encoding="utf-8").splitlines()
    about = json.loads(head)
    if not isinstance(about, dict) or about.pop("schema", None) != 1:
        raise ValueError("its first line is not that of a wall meter's log, schema 1")
    samples = json.loads(f"[{','.join(lines)}]")
    try:
        log = Log(**about, times=[float(t) for t, _ in samples], values=[float(v) for _, v in samples])
    except TypeError as error:
        raise ValueError(str(error)) from None
    if len(log.times) < 2:
        raise ValueError("it has fewer than two samples")
    return log


def read_csv(
    path: Path,
    time: str | None = None,
    power: str | None = None,
    energy: str | None = None,
    offset_s: float = 0.0,
    scope: str = NODE,
) -> Log:
    """Read a meter's log.

    Args:
        path: CSV with a header, separated by commas, semicolons or tabs.
        time: column of times, ISO 8601 with an offset from UTC or Unix seconds; None: found by its name.
        power: column of power; watts unless its name ends in another unit.
        energy: column of a counter of energy; watt-hours unless its name ends in another unit. Where neither is given
            they are found by the unit that the name ends in, power first.
        offset_s: added to the times, where the meter's clock is behind the computer's.
        scope: what the meter feeds.

    Raises:
        BadValue: if the log cannot be used; the text names the line.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadValue(f"cannot read {path}: {error.strerror}") from None
    rows = _rows(path, data)
    line, header = next(rows, (1, []))
    if not header:
        raise BadValue(f"{path}:1: the log is empty; it needs a header, such as time,power_w, and samples below it")
    columns = _Columns.find(f"{path}:{line}", header, time, power, energy)
    times, values = _samples(path, rows, columns)
    if len(times) < 2:
        raise BadValue(f"{path}:{line}: the log has {len(times)} samples; at least two are needed")
    times = [t + offset_s for t in times]
    return Log(path.name, hashlib.sha256(data).hexdigest(), scope, columns.quantity, offset_s, times, values)


def _rows(path: Path, data: bytes) -> Iterator[tuple[int, list[str]]]:
    """Yield line number and fields of each line that is not empty."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BadValue(f"{path}:{line}: not UTF-8; save the log as text in UTF-8") from None
    head = text.lstrip().partition("\n")[0]
    separator = max(",;\t", key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        for row in reader:
            if any(field.strip() for field in row):
                yield reader.line_num, row
    except csv.Error as error:
        raise BadValue(f"{path}:{reader.line_num}: not CSV ({error})") from None


@dataclass(frozen=True)
class _Columns:
    """Where time and the figure stand."""

    time: int
    value: int
    quantity: str  # of Log
    factor: float  # to watts or joules

    @classmethod
    def find(
        cls, place: str, header: Sequence[str], time: str | None, power: str | None, energy: str | None
    ) -> _Columns:
        """Return the columns that were named, or those that their names tell."""
        names = [h.strip() for h in header]
        time_index = _named(place, names, time) if time else _only(place, names, _of_times(names), "time", "--time")
        if energy is None:
            powers = [i for i in _of_unit(names, POWER_W) if i != time_index]
            if power or powers:
                index = _named(place, names, power) if power else _only(place, names, powers, "power", "--power")
                return cls(time_index, index, "power_w", POWER_W.get(_unit(names[index]), 1.0))
        counters = [i for i in _of_unit(names, ENERGY_J) if i != time_index]
        what = "power or energy with a unit, such as power_w or energy_wh,"
        index = _named(place, names, energy) if energy else _only(place, names, counters, what, "--power or --energy")
        return cls(time_index, index, "energy_j", ENERGY_J.get(_unit(names[index]), ENERGY_J["wh"]))


def _words(name: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", name.lower())


def _unit(name: str) -> str:
    """Return the last word of a column's name: ``w`` of "Active power (W)"."""
    return next(reversed(_words(name)), "")


def _of_unit(names: Sequence[str], units: Mapping[str, float]) -> list[int]:
    return [i for i, name in enumerate(names) if _unit(name) in units]


def _of_times(names: Sequence[str]) -> list[int]:
    return [i for i, name in enumerate(names) if set(TIMES) & set(_words(name))]


def _named(place: str, names: Sequence[str], name: str) -> int:
    if name not in names:
        raise BadValue(f"{place}: there is no column {name!r}; the columns are {', '.join(names)}")
    return names.index(name)


def _only(place: str, names: Sequence[str], found: Sequence[int], what: str, flag: str) -> int:
    if len(found) == 1:
        return found[0]
    columns = ", ".join(names[i] for i in found) if found else ", ".join(names)
    many = "several columns of" if found else "no column of"
    raise BadValue(f"{place}: {many} {what} among {columns}; name one with {flag}")


def _samples(path: Path, rows: Iterator[tuple[int, list[str]]], columns: _Columns) -> tuple[list[float], list[float]]:
    """Return times in Unix seconds, and watts or joules."""
    times: list[float] = []
    values: list[float] = []
    for line, row in rows:
        if len(row) <= max(columns.time, columns.value):
            raise BadValue(
                f"{path}:{line}: the line has {len(row)} fields, fewer than the header; complete it or take it away"
            )
        try:
            moment, value = _moment(row[columns.time].strip()), _figure(row[columns.value].strip())
        except ValueError as error:
            raise BadValue(f"{path}:{line}: {error}") from None
        if times and moment <= times[-1]:
            stamp = row[columns.time].strip()
            raise BadValue(f"{path}:{line}: the time {stamp!r} is not after that of the line before; sort by time")
        times.append(moment)
        values.append(value * columns.factor)
    return times, values


def _figure(text: str) -> float:
    """Return a power or a counter's reading.

    Raises:
        ValueError: if it is none.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise ValueError(f"{text!r} is no power or energy; it should be a finite number, and not negative")
    return value


def _moment(text: str) -> float:
    """Return a time in Unix seconds.

    Raises:
        ValueError: if it is none; the text says what is expected.
    """
    try:
        seconds = float(text)
    except ValueError:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise ValueError(
                f"{text!r} is no time; it should be ISO 8601 with an offset from UTC, or Unix seconds"
            ) from None
        if moment.tzinfo is None:
            raise ValueError(
                f"the time {text!r} has no offset from UTC; write it with one ({text}+00:00), or in Unix seconds"
            ) from None
        return moment.timestamp()
    if not _UNIX_S[0] < seconds < _UNIX_S[1]:
        raise ValueError(f"{text!r} is not a Unix time in seconds; convert it, or use ISO 8601 with an offset from UTC")
    return seconds
