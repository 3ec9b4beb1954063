"""One pass over a plan: what is settled is left alone, everything else ends in a record."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Mapping, Sequence
from typing import Protocol

from siderostat import capacity, inputs, ratios, stats
from siderostat.child import Child, Lost
from siderostat.plan import GRADES
from siderostat.record import CAPACITY, QUALITY, THROUGHPUT, Attempt, Reason, Record, Status
from siderostat.store import OpenRun
from siderostat.supervisor import Rhythm, idle, idle_cell, lost_record, measure, probe, train
from siderostat.workshop import Workshop


class Observer(Protocol):
    """Is told about a campaign, always between measurements."""

    def inputs(self, workload: str, done: int, total: int) -> None:
        """``done`` of ``total`` parts of a workload's inputs are made."""

    def started(self, group: Sequence[Attempt]) -> None:
        """A group is about to be measured."""

    def finished(self, record: Record) -> None:
        """A record was stored."""


def work(run: OpenRun, environment: str, observer: Observer, retry: bool = False) -> None:
    """Measure what ``run`` has not settled, in the order of its plan, then repeat what was contended.

    Args:
        run: the open run folder.
        environment: key of the environment in the manifest, noted in each record.
        observer: is told what goes on.
        retry: try again what failed before.

    Raises:
        StorageFull: if a record cannot be stored.
    """
    with Workshop(run.folder / "logs", run.plan.pythons, run.plan.codes) as workshop:
        try:
            _Campaign(run, workshop, environment, observer).go(retry)
        except OSError as error:
            raise run.full(error) from error


class _Campaign:
    def __init__(self, run: OpenRun, workshop: Workshop, environment: str, observer: Observer) -> None:
        self._run = run
        self._workshop = workshop
        self._environment = environment
        self._observer = observer
        self._grade = GRADES[run.plan.grade]
        self._deadline = time.monotonic() + (run.plan.budget_s or math.inf)

    def go(self, retry: bool) -> None:
        """Measure what is not settled. A comparison is measured whole or not at all: its bursts take turns."""
        groups = [group for group in self._run.plan.groups if not all(self._run.settled(a, retry) for a in group)]
        spoilt = self._make_inputs([a for group in groups for a in group])
        metered = sorted({a.cell.device for group in groups for a in group if _is_timed(a)})
        metered = [device for device in metered if self._watch_idle(device)]
        for group in groups:
            self._measure(group, spoilt)
        for _ in range(self._grade.repeats):
            for group in self._contended():
                self._measure(group, spoilt)
        for group in self._run.plan.groups:
            if group[0].cell.measure == CAPACITY and not self._is_spoilt(group[0], spoilt):
                self._search(group[0])
        for device in metered:
            self._watch_idle(device)

    def _watch_idle(self, device: str) -> bool:
        """Read the power of a device that does nothing, if it has a meter; say whether it has one."""
        cell = idle_cell(device)
        number = len(self._run.of_cell(cell))
        like = next(a for a in self._run.plan.attempts() if a.cell.device == device)
        attempt = Attempt(cell, number, number, like.start, like.protocol)
        watched = idle(attempt, self._workshop.start)
        if watched is not None:
            self._store([watched])
        return watched is not None

    def _make_inputs(self, attempts: Sequence[Attempt]) -> dict[str, Lost]:
        """Make the inputs of every workload once; return what could not be made, by ``inputs.key``."""
        spoilt: dict[str, Lost] = {}
        for key, attempt in {inputs.key(a.cell): a for a in reversed(attempts)}.items():

            def progress(done: int, total: int, workload: str = attempt.cell.workload) -> None:
                self._observer.inputs(workload, done, total)

            try:
                inputs.make(attempt, self._start_maker, progress)
            except Lost as lost:
                spoilt[key] = lost
        return spoilt

    def _start_maker(self, attempt: Attempt) -> Child:
        """Start a child that makes inputs, under the driver's interpreter: a device's own may lack what it takes."""
        cell = dataclasses.replace(attempt.cell, framework="numpy")
        return self._workshop.start(dataclasses.replace(attempt, cell=cell, start="warm"), log="inputs")

    def _measure(self, group: Sequence[Attempt], spoilt: Mapping[str, Lost]) -> None:
        """Measure a group and store its records, unless its cells have enough of them or the time is up."""
        if all(self._enough(a) for a in group):
            return
        if time.monotonic() > self._deadline:
            self._skip(group)
            return
        self._observer.started(group)
        lost = {a.key(): lost for a in group if (lost := self._hopeless(a, spoilt)) is not None}
        records = [lost_record(a, lost[a.key()]) for a in group if a.key() in lost]
        sound = [a for a in group if a.key() not in lost]
        records += measure([a for a in sound if _is_timed(a)], self._workshop.start, self._rhythm)
        for attempt in sound:
            if attempt.cell.measure == CAPACITY:
                records.append(probe(attempt, self._workshop.start))
            elif not _is_timed(attempt):
                records.append(train(attempt, self._workshop.start))
        self._store(records)

    def _hopeless(self, attempt: Attempt, spoilt: Mapping[str, Lost]) -> Lost | None:
        """Say why an attempt need not be tried; None where it is to be."""
        if self._is_spoilt(attempt, spoilt):
            return spoilt[inputs.key(attempt.cell)]
        refused = capacity.is_beyond(attempt.cell, self._run.records) if _is_timed(attempt) else None
        if refused is None:
            return None
        text = f"batch {refused.attempt.cell.batch} did not fit ({refused.reason.value if refused.reason else ''})"
        return Lost(Status.SKIPPED, Reason.BEYOND_EDGE, text)

    def _is_spoilt(self, attempt: Attempt, spoilt: Mapping[str, Lost]) -> bool:
        return inputs.key(attempt.cell) in spoilt

    def _search(self, first: Attempt) -> None:
        """Look for the largest batch that fits, from what is known of it on."""
        while time.monotonic() <= self._deadline:
            newest = {r.attempt.cell.batch: r for r in self._run.records if _is_same_search(r, first)}
            tried = {batch: capacity.fits(record) for batch, record in newest.items()}
            known = {batch: good for batch, good in tried.items() if good is not None}
            batch = capacity.next_batch(known, first.cell.batch)
            if batch is None or batch in tried:  # one that failed for another reason ends the search
                return
            attempt = dataclasses.replace(first, cell=dataclasses.replace(first.cell, batch=batch))
            self._observer.started([attempt])
            self._store([probe(attempt, self._workshop.start)])

    def _skip(self, group: Sequence[Attempt]) -> None:
        budget, folder = self._run.plan.budget_s, self._run.folder
        text = f"the budget of {budget:g} s was used up; 'siderostat run --resume {folder}' measures it"
        lost = Lost(Status.SKIPPED, Reason.BUDGET, text)
        if all(self._run.of_attempt(attempt) is None for attempt in group):
            self._store([lost_record(attempt, lost) for attempt in group])

    def _store(self, records: Sequence[Record]) -> None:
        """Append the records of a group in one write, so that a kill leaves all of them or none."""
        complete = []
        for record in records:
            flags = [*record.flags, "converged_false"] if self._is_last_and_wide(record) else record.flags
            complete.append(dataclasses.replace(record, flags=flags, environment=self._environment))
        self._run.append(*complete)
        for record in complete:
            self._observer.finished(record)

    def _rhythm(self, attempt: Attempt) -> Rhythm | None:
        """Return how the first process of this cell cut its bursts."""
        for record in self._run.of_cell(attempt.cell):
            for burst in stats.measured_bursts(record):
                return Rhythm(burst.block_steps, len(burst.seconds))
        return None

    def _enough(self, attempt: Attempt) -> bool:
        """Say whether the grade's stopping rule is met for the attempt's cell. It never looks at a p-value."""
        records = self._run.of_cell(attempt.cell)
        if (
            not _is_timed(attempt)
            or self._grade.target is None
            or len(stats.counted(records)) < self._grade.least_rounds
        ):
            return False
        return not self._is_wide(attempt, records) or self._is_used_up(records)

    def _is_wide(self, attempt: Attempt, records: Sequence[Record]) -> bool:
        """Say whether the interval, of the ratio where there is one, else of the time, is wider than aimed at."""
        if attempt.reference == attempt.cell.key():
            return False  # as far as the ratios of the others go
        if attempt.reference is None:
            estimate = stats.case(records).seconds_per_item
        else:
            references = [r for r in self._run.records if r.attempt.cell.key() == attempt.reference]
            logs = [pair.log_ratio for pair in ratios.pairs(references, records, frozenset())]
            estimate = stats.log_mean(logs).estimate() if logs else None
        half_width = estimate.half_width if estimate else None
        return half_width is None or half_width > (self._grade.target or math.inf)

    def _is_used_up(self, records: Sequence[Record]) -> bool:
        seconds: float = sum(r.process.get("seconds", 0.0) for r in records)
        return seconds > (self._grade.case_s or math.inf)

    def _is_last_and_wide(self, record: Record) -> bool:
        """Say whether ``record`` ends its case although the interval is wider than the grade aims at."""
        if not _is_timed(record.attempt) or self._grade.target is None or record.status is Status.SKIPPED:
            return False
        records = [*self._run.of_cell(record.attempt.cell), record]
        enough = len(stats.counted(records)) >= self._grade.least_rounds
        last = record.attempt.round == self._grade.most_rounds - 1 or (enough and self._is_used_up(records))
        return last and self._is_wide(record.attempt, records)

    def _contended(self) -> list[list[Attempt]]:
        """Return a repeat of each group in which an attempt was measured under contention at every try so far."""
        newest = {(r.attempt.cell.key(), r.attempt.round): r for r in self._run.records}
        repeats = []
        for group in self._run.plan.groups:
            records = [r for a in group if (r := newest.get((a.cell.key(), a.round))) is not None]
            number = max((r.attempt.repeat for r in records), default=0)
            if number < self._grade.repeats and any(map(_is_spoilt_by_others, records)):
                repeats.append([dataclasses.replace(a, repeat=number + 1) for a in group])
        return repeats


def _is_timed(attempt: Attempt) -> bool:
    """Say whether it is the step's time that is measured, not what the step learns."""
    return attempt.cell.measure == THROUGHPUT


def _is_spoilt_by_others(record: Record) -> bool:
    """Say whether other work disturbed a figure that it can disturb."""
    return (
        record.status is Status.OK
        and stats.is_contended(record)
        and record.attempt.cell.measure not in (QUALITY, CAPACITY)
    )


def _is_same_search(record: Record, first: Attempt) -> bool:
    cell = record.attempt.cell
    return cell.measure == CAPACITY and capacity.series(cell) == capacity.series(first.cell)
