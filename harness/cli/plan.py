"""``siderostat plan``."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from siderostat import forecast
from siderostat.cli.sweep import make_plan
from siderostat.errors import DONE, RunFolderError
from siderostat.files import write_atomically
from siderostat.plan import GRADES, Plan
from siderostat.progress import duration


def main(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    """Describe, and write if asked, what would run."""
    plan = make_plan(arguments)
    if arguments.output:
        try:
            write_atomically(Path(arguments.output), plan.to_json())
        except OSError as error:
            raise RunFolderError(f"cannot write the plan {arguments.output}: {error.strerror}") from error
    return describe(plan, arguments.json)


def describe(plan: Plan, as_json: bool) -> int:
    """Print a plan."""
    if as_json:
        print(plan.to_json(), end="")
        return DONE
    grade = GRADES[plan.grade]
    attempts = plan.attempts()
    counts = Counter(a.cell.label() for a in attempts)
    at_most = "up to " if grade.target else ""
    print(
        f"{plan.name}: {at_most}{len(attempts)} processes over {len(counts)} cases, grade {grade.name} ({grade.note})"
    )
    for label, count in sorted(counts.items(), key=lambda pair: _natural(pair[0])):
        print(f"  {at_most}{count:3d} x {label}")
    seconds = sum(map(forecast.attempt_seconds, attempts))
    rate = forecast.FLOPS_PER_CORE / 1e9
    print(f"about {duration(seconds)}, assuming {rate:g} GFLOP/s per core; the making of inputs is not counted")
    if plan.budget_s:
        print(f"nothing new is started after {duration(plan.budget_s)}")
    return DONE


def _natural(label: str) -> tuple[str, int]:
    """Sort batch 10 behind batch 8."""
    words, _, batch = label.rpartition(" ")
    return words, int(batch)
