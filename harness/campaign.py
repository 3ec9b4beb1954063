"""One pass over a plan: what is settled is left alone, everything else ends in a record."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Mapping, Sequence
from typing import Protocol

from siderostat import inputs, stats
from siderostat.child import Lost
from siderostat.plan import GRADES
from siderostat.record import QUALITY, THROUGHPUT, Attempt, Reason, Record, Status
from siderostat.store import OpenRun
from siderostat.supervisor import Rhythm, lost_record, measure, train
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
    with Workshop(run.folder / "logs", run.plan.pythons) as workshop:
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
        groups = [[a for a in group if not self._run.settled(a, retry)] for group in self._run.plan.groups]
        spoilt = self._make_inputs([a for group in groups for a in group])
        for group in groups:
            self._measure(group, spoilt)
        for _ in range(self._grade.repeats):
            for group in self._contended():
                self._measure(group, spoilt)

    def _make_inputs(self, attempts: Sequence[Attempt]) -> dict[str, Lost]:
        """Make the inputs of every workload once; return what could not be made, by ``inputs.key``."""
        spoilt: dict[str, Lost] = {}
        for key, attempt in {inputs.key(a.cell): a for a in reversed(attempts)}.items():

            def progress(done: int, total: int, workload: str = attempt.cell.workload) -> None:
                self._observer.inputs(workload, done, total)

            try:
                inputs.make(attempt, lambda a: self._workshop.start(a, log="inputs"), progress)
            except Lost as lost:
                spoilt[key] = lost
        return spoilt

    def _measure(self, group: Sequence[Attempt], spoilt: Mapping[str, Lost]) -> None:
        """Measure a group and store its records, unless its cells have enough of them or the time is up."""
        group = [a for a in group if not self._enough(a)]
        if not group:
            return
        if time.monotonic() > self._deadline:
            self._skip(group)
            return
        self._observer.started(group)
        records = [lost_record(a, spoilt[inputs.key(a.cell)]) for a in group if inputs.key(a.cell) in spoilt]
        sound = [a for a in group if inputs.key(a.cell) not in spoilt]
        records += measure([a for a in sound if _is_timed(a)], self._workshop.start, self._rhythm)
        records += [train(a, self._workshop.start) for a in sound if not _is_timed(a)]
        for record in records:
            self._store(record)

    def _skip(self, group: Sequence[Attempt]) -> None:
        budget, folder = self._run.plan.budget_s, self._run.folder
        text = f"the budget of {budget:g} s was used up; 'siderostat run --resume {folder}' measures it"
        for attempt in group:
            if self._run.of_attempt(attempt) is None:
                self._store(lost_record(attempt, Lost(Status.SKIPPED, Reason.BUDGET, text)))

    def _store(self, record: Record) -> None:
        flags = [*record.flags, "converged_false"] if self._is_last_and_wide(record) else record.flags
        record = dataclasses.replace(record, flags=flags, environment=self._environment)
        self._run.append(record)
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
        return not self._is_wide(records) or self._is_used_up(records)

    def _is_wide(self, records: Sequence[Record]) -> bool:
        estimate = stats.case(records).seconds_per_item
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
        return last and self._is_wide(records)

    def _contended(self) -> list[list[Attempt]]:
        """Return a repeat of each attempt that was measured under contention at every try so far."""
        newest = {(r.attempt.cell.key(), r.attempt.round): r for r in self._run.records}
        return [
            [dataclasses.replace(r.attempt, repeat=r.attempt.repeat + 1)]
            for r in newest.values()
            if r.status is Status.OK
            and stats.is_contended(r)
            and r.attempt.repeat < self._grade.repeats
            and r.attempt.cell.measure != QUALITY  # which no other work can spoil
        ]


def _is_timed(attempt: Attempt) -> bool:
    """Say whether it is the step's time that is measured, not what the step learns."""
    return attempt.cell.measure == THROUGHPUT
