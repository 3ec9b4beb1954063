"""``siderostat selftest``."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from siderostat import progress, provenance, selftest
from siderostat.cli.run import measure_into
from siderostat.config import check_devices
from siderostat.errors import DONE, FINISHED_WITH_FAILURES, NothingMeasured
from siderostat.record import Protocol
from siderostat.selftest import Verdict
from siderostat.stats import Estimate

_SEED = 0


def main(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    """Measure this machine and print what it can tell; exit code 3 if its figures cannot be trusted.

    Raises:
        NothingMeasured: if no pair could be measured.
        Interrupted: on SIGINT and SIGTERM.
    """
    (device,) = check_devices([arguments.device])
    protocol = Protocol(memory_bytes=provenance.worker_memory_bytes())
    folder = Path(arguments.output) if arguments.output else None
    run = measure_into(folder, selftest.make_plan(_SEED, device, protocol), arguments, words)
    verdict = selftest.judge(run.records)
    if verdict is None:
        last = run.records[-1]
        raise NothingMeasured(f"no two pairs could be measured; the last: {progress.described(last)}")
    if arguments.json:
        print(
            json.dumps({"run": str(run.folder), **dataclasses.asdict(verdict), "is_sound": verdict.is_sound}, indent=1)
        )
    else:
        for line in _lines(verdict):
            print(line)
        print(f"records: {run.folder}")
    return DONE if verdict.is_sound else FINISHED_WITH_FAILURES


def _lines(verdict: Verdict) -> Iterator[str]:
    """Say what was found."""
    yield (
        f"A step against itself, {verdict.n} pairs in lock-step: {_with_ends(verdict.same, '.4f')} times as long; "
        "1 is right."
    )
    yield (
        f"False alarms: {verdict.false_alarms:.1%} of comparisons of equal things on this machine "
        f"({selftest.NOMINAL:.0%} is nominal)."
    )
    if verdict.detectable is not None:
        yield f"The least difference that {verdict.n} pairs can be relied on to see here: {verdict.detectable:.1%}."
    yield (
        f"A planted slowdown of {selftest.SLOWDOWN:.0%}: measured {_with_ends(verdict.slower, '.3f')} times as long; "
        f"found in {verdict.found:.0%} of comparisons."
    )
    if verdict.overhead is not None:
        yield f"The harness adds {verdict.overhead.value * 1e6:.2f} \u00b5s per step."
    if verdict.n_contended:
        yield f"{verdict.n_contended} of {verdict.n} pairs were disturbed by other work: stop it, and measure again."
    if verdict.drift is not None and verdict.drift.is_clear:
        yield f"Times changed by {verdict.drift.change.value - 1:+.1%} over the session: compare in lock-step only."
    if not verdict.is_sound:
        yield "Figures of this machine are not to be trusted as it is: 'siderostat doctor' says what disturbs."


def _with_ends(ratio: Estimate, form: str) -> str:
    """Return a ratio with the ends of its interval, which two pairs are enough for."""
    assert ratio.low is not None and ratio.high is not None
    return f"{ratio.value:{form}} ({ratio.low:{form}} to {ratio.high:{form}})"
