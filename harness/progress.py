"""What a run shows while it goes on: one redrawn line on a terminal, plain lines elsewhere.

Nothing is drawn while a worker measures: the display changes only between measurements, and no thread refreshes it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import TextIO

from siderostat import forecast, stats
from siderostat.record import CAPACITY, IDLE, Attempt, Record, Status
from siderostat.words import plural


def judged(record: Record) -> str:
    """Return how good a model became: ``nll 0.31 after 40,000 galaxy images and 5 min 10 s (target 0.35 reached)``."""
    quality = record.quality
    assert quality is not None
    look = quality.looks[-1]
    after = f" after {look.items:,} {plural(record.item)} and {duration(look.seconds)}" if look.items else ""
    reached = "reached" if quality.reached else "not reached"
    return f"{quality.figure} {look.figures[quality.figure]:.4g}{after} (target {quality.target:g} {reached})"


def duration(seconds: float) -> str:
    """Return a duration for people: ``45 s``, ``2 min 05 s``, ``1 h 02 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def described(record: Record) -> str:
    """Return what became of an attempt, in a line."""
    what = f"{record.attempt.cell.label()}, process {record.attempt.round + 1}: "
    if record.status is not Status.OK:
        return f"{what}{record.status.value} ({record.reason.value if record.reason else 'no reason'}): {record.detail}"
    if record.attempt.cell.measure == IDLE:
        return what + ", ".join(f"{w.mean_w:.3g} W ({e.scope})" for e in record.energy for w in e.windows if w.mean_w)
    if record.attempt.cell.measure == CAPACITY:
        return what + "fits"
    if record.quality is not None:
        return what + judged(record)
    rate = 1 / stats.process_seconds_per_item(record)
    return f"{what}{rate:.4g} {plural(record.item)}/s" + (f" ({', '.join(record.flags)})" if record.flags else "")


class Clock:
    """Knows from what is done how long the rest will take: each cell as long as it took before, else as forecast.

    The processes of a comparison are alive together, so that each counts for its share of the group's time.
    """

    def __init__(self, todo: Sequence[Attempt]) -> None:
        self._todo = {a.key(): a.cell.key() for a in todo}
        self._seconds: dict[str, list[float]] = {}
        self._forecast = {a.cell.key(): forecast.attempt_seconds(a) for a in todo}
        self._together: Counter[tuple[str | None, int]] = Counter((a.reference, a.round) for a in todo if a.reference)

    def finished(self, record: Record) -> None:
        """Take note of a record."""
        attempt = record.attempt
        self._todo.pop(attempt.key(), None)
        if "seconds" in record.process:
            seconds = record.process["seconds"] / max(1, self._together[attempt.reference, attempt.round])
            self._seconds.setdefault(attempt.cell.key(), []).append(seconds)

    def seconds_left(self) -> float:
        """Return the seconds that the rest will take."""
        known = {key: sum(s) / len(s) for key, s in self._seconds.items()}
        pairs = [(known[k], self._forecast[k]) for k in known if k in self._forecast]
        scale = sum(a for a, _ in pairs) / sum(b for _, b in pairs) if pairs else 1.0
        return sum(known.get(k, self._forecast[k] * scale) for k in self._todo.values())


class Lines:
    """A plain line after each measurement: for logs, pipes and CI.

    Args:
        todo: the attempts that are not settled.
        settled: how many are.
        stream: where to write.
    """

    def __init__(self, todo: Sequence[Attempt], settled: int, stream: TextIO) -> None:
        self._total = settled + len(todo)
        self._done = settled
        self._clock = Clock(todo)
        self._stream = stream

    def __enter__(self) -> Lines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return

    def inputs(self, workload: str, done: int, total: int) -> None:
        """See :class:`siderostat.campaign.Observer`."""
        if done in (1, total):
            self._say(f"inputs of {workload}: part {done} of {total} is there")

    def started(self, group: Sequence[Attempt]) -> None:
        """See :class:`siderostat.campaign.Observer`."""

    def finished(self, record: Record) -> None:
        """See :class:`siderostat.campaign.Observer`."""
        self._done = min(self._done + 1, self._total)
        self._clock.finished(record)
        if record.status is Status.SKIPPED:
            return  # the end of the run says how many there are
        left = duration(self._clock.seconds_left())
        self._say(f"[{self._done}/{self._total}, about {left} left] {described(record)}")

    def _say(self, text: str) -> None:
        self._stream.write(text + "\n")
        self._stream.flush()


class Live:
    """One line on a terminal, redrawn between measurements; failures stay above it. Arguments as for :class:`Lines`."""

    def __init__(self, todo: Sequence[Attempt], settled: int, stream: TextIO) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self._clock = Clock(todo)
        self._bar = Progress(
            BarColumn(24), MofNCompleteColumn(), TextColumn("{task.description}", markup=False),
            console=Console(file=stream), auto_refresh=False, transient=True,
        )  # fmt: skip
        self._task = self._bar.add_task("", total=settled + len(todo), completed=settled)

    def __enter__(self) -> Live:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def inputs(self, workload: str, done: int, total: int) -> None:
        """See :class:`siderostat.campaign.Observer`."""
        self._show(f"inputs of {workload}: part {done} of {total} is there")

    def started(self, group: Sequence[Attempt]) -> None:
        """See :class:`siderostat.campaign.Observer`."""
        what = " | ".join(a.cell.label() for a in group)
        self._show(f"about {duration(self._clock.seconds_left())} left  {what}")

    def finished(self, record: Record) -> None:
        """See :class:`siderostat.campaign.Observer`."""
        self._clock.finished(record)
        self._bar.advance(self._task)
        if record.status not in (Status.OK, Status.SKIPPED):
            self._bar.console.print(described(record), markup=False, highlight=False, soft_wrap=True)

    def _show(self, text: str) -> None:
        self._bar.update(self._task, description=text, refresh=True)


def display(todo: Sequence[Attempt], settled: int, stream: TextIO) -> Live | Lines:
    """Return the display that suits ``stream``."""
    return (Live if stream.isatty() else Lines)(todo, settled, stream)
