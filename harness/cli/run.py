"""``siderostat run``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from siderostat import campaign, progress, provenance, store
from siderostat.cli import plan as plan_command
from siderostat.cli import report as report_command
from siderostat.cli.sweep import make_plan, refuse_flags
from siderostat.errors import DONE, FINISHED_WITH_FAILURES, BadValue, Interrupted, NothingMeasured, RunFolderError
from siderostat.plan import GRADES, Plan
from siderostat.record import FAILURES, Reason, Record, Status
from siderostat.store import OpenRun, Run

_RUNS = Path("siderostat-runs")


def main(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    """Measure what the plan asks for and write the report.

    Raises:
        NothingMeasured: if no attempt gave a figure.
        Interrupted: on SIGINT and SIGTERM.
    """
    if arguments.dry_run:
        return plan_command.describe(make_plan(arguments), arguments.json)
    with OpenRun(_folder(arguments)) as run:
        _measure(run, arguments, words)
        written = report_command.write([run], run.folder / "report")
        return _conclude(run, written["report.html"], arguments.json)


def measure_into(folder: Path | None, plan: Plan, arguments: argparse.Namespace, words: Sequence[str]) -> Run:
    """Measure a plan into a folder, a new one if it is None; go on with what is there.

    Raises:
        RunFolderError: if the folder holds another run.
        Interrupted: on SIGINT and SIGTERM.
    """
    with OpenRun(_laid_out(folder, plan)) as run:
        _measure(run, arguments, words)
        return run


def _measure(run: OpenRun, arguments: argparse.Namespace, words: Sequence[str]) -> None:
    for warning in run.warnings:
        print(f"siderostat: {warning}", file=sys.stderr)
    try:
        _work(run, arguments, words)
    except KeyboardInterrupt:
        raise Interrupted(
            f"interrupted; {len(run.records)} records are safe: siderostat run --resume {run.folder}"
        ) from None


def _folder(arguments: argparse.Namespace) -> Path:
    """Return the run folder, laid out: an old one to resume, or a new one.

    Raises:
        RunFolderError: if the folder holds another run.
    """
    if arguments.resume:
        if arguments.output or arguments.sweep:
            raise BadValue("--resume goes on with the plan in its folder; leave -o and the sweep file out")
        refuse_flags(arguments, "--resume goes on with the plan in its folder")
        return Path(arguments.resume)
    return _laid_out(Path(arguments.output) if arguments.output else None, make_plan(arguments))


def _laid_out(folder: Path | None, plan: Plan) -> Path:
    """Return the folder of a plan, new or with what is measured of it."""
    now = provenance.utc_now()
    folder = folder or _RUNS / now.replace(":", "-").removesuffix("Z")
    if (folder / "plan.json").is_file():
        if not store.Run(folder).plan.same_work(plan):
            raise RunFolderError(
                f"{folder} holds a run of another plan; go on with that one by --resume {folder}, "
                "or choose another folder with -o"
            )
        return folder
    store.create(
        folder, plan, {"run": folder.name, "name": plan.name, "grade": plan.grade, "seed": plan.seed, "created_at": now}
    )
    return folder


def _work(run: OpenRun, arguments: argparse.Namespace, words: Sequence[str]) -> None:
    environment = provenance.environment(arguments.identify)
    environment["code"] = provenance.code(a.cell.workload for a in run.plan.attempts() if not a.cell.code)
    key = provenance.key(environment)
    run.add_session(provenance.session(words), environment, key)
    attempts = run.plan.attempts()
    todo = [a for a in attempts if not run.settled(a, arguments.retry)]
    grade = GRADES[run.plan.grade]
    print(
        f"siderostat: {len(todo)} of {len(attempts)} measurements to do, grade {grade.name} ({grade.note}), "
        f"into {run.folder}",
        file=sys.stderr,
    )
    with progress.display(todo, len(attempts) - len(todo), sys.stderr) as observer:
        campaign.work(run, key, observer, arguments.retry)


def _conclude(run: OpenRun, report: Path, as_json: bool) -> int:
    """Print the outcome and return the exit code."""
    failed = [r for r in _newest(run) if r.status in FAILURES]
    skipped = [r for r in _newest(run) if r.reason is Reason.BUDGET]
    if as_json:
        print(
            json.dumps({"run": str(run.folder), "report": str(report), "failed": len(failed), "skipped": len(skipped)})
        )
    else:
        _print_outcome(run, failed, skipped, report)
    results = (Status.OK, Status.CAPACITY, Status.UNSUPPORTED)
    wanted = [r for r in run.records if r.attempt.cell.workload != "null"] or run.records
    if not any(r.status in results for r in wanted):
        raise NothingMeasured(f"nothing could be measured; the reasons are above and in {report}")
    return FINISHED_WITH_FAILURES if failed else DONE


def _newest(run: OpenRun) -> list[Record]:
    """Return the newest record of each attempt."""
    return list({r.attempt.key(): r for r in run.records}.values())


def _print_outcome(run: OpenRun, failed: Sequence[Record], skipped: Sequence[Record], report: Path) -> None:
    for line in report_command.headlines(run):
        print(line)
    if failed:
        print(f"{len(failed)} measurements failed; the first: {progress.described(failed[0])}")
    if skipped:
        print(
            f"{len(skipped)} measurements were left out, as the budget was used up; "
            f"go on: siderostat run --resume {run.folder}"
        )
    print(f"report: {report}")
