"""The display: plain lines for logs, one redrawn line for terminals, nothing while a worker measures."""

from __future__ import annotations

import dataclasses
import io
import re

import pytest

from siderostat import progress
from siderostat.record import Attempt, Status
from tests.records import cell, failed, ok


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def attempts(*batches: int) -> list[Attempt]:
    return [Attempt(cell(batch=b), 0, 0) for b in batches]


def done(attempt: Attempt, seconds: float):
    return dataclasses.replace(ok(), attempt=attempt, process={"seconds": seconds})


def test_lines_name_what_was_measured_how_far_and_how_long_it_will_take():
    stream = io.StringIO()
    todo = attempts(2, 4)
    with progress.display(todo, 4, stream) as shown:
        shown.started(todo[:1])
        shown.finished(done(todo[0], 5.0))
    assert re.fullmatch(
        r"\[5/6, about \d+ s left\] galaxy-shape dnn train torch cpu batch 2, process 1: 40 galaxy images/s\n",
        stream.getvalue(),
    )


def test_lines_say_what_went_wrong():
    stream = io.StringIO()
    with progress.display(attempts(4), 0, stream) as shown:
        shown.finished(failed(Status.TIMEOUT))
    assert "timeout (killed): it went wrong" in stream.getvalue()


def test_a_terminal_shows_what_runs():
    stream = Terminal()
    todo = attempts(2, 4)
    with progress.display(todo, 1, stream) as shown:
        shown.inputs("galaxy-shape", 3, 8)
        assert "inputs of galaxy-shape: part 3 of 8" in stream.getvalue()
        shown.started(todo[:1])
        said = stream.getvalue()
        assert "galaxy-shape dnn train torch cpu batch 2" in said
        assert "1/3" in said
        assert "left" in said
        shown.finished(done(todo[0], 1.0))
        shown.started(todo[1:])
        assert "2/3" in stream.getvalue()
        shown.finished(failed(Status.CRASH, of=cell(batch=4)))
        assert "it went wrong" in stream.getvalue()


def test_nothing_is_drawn_between_the_calls():
    import time

    stream = Terminal()
    with progress.display(attempts(2), 0, stream) as shown:
        shown.started(attempts(2))
        before = stream.getvalue()
        time.sleep(0.4)
        assert stream.getvalue() == before, "a thread redraws while a worker may be measuring"


def test_the_rest_takes_as_long_as_it_took_before():
    todo = [Attempt(cell(batch=b), n, 0) for n in range(3) for b in (2, 4)]
    clock = progress.Clock(todo)
    clock.finished(done(todo[0], 10.0))
    clock.finished(done(todo[1], 20.0))
    assert clock.seconds_left() == pytest.approx(2 * 10 + 2 * 20)


def test_cells_not_seen_yet_are_scaled_by_those_that_were():
    todo = attempts(2, 2000)
    clock = progress.Clock(todo)
    forecast = clock.seconds_left()
    first = progress.forecast.attempt_seconds(todo[0])
    clock.finished(done(todo[0], 3 * first))
    assert clock.seconds_left() == pytest.approx(3 * (forecast - first))


@pytest.mark.parametrize(("seconds", "text"), [(0, "0 s"), (59.4, "59 s"), (125, "2 min 05 s"), (3720, "1 h 02 min")])
def test_durations(seconds, text):
    assert progress.duration(seconds) == text
