"""``siderostat gate``."""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from siderostat import devices, forecast, plan, progress, provenance, revisions, store, tracing, verdicts
from siderostat.cli.run import measure_into
from siderostat.cli.sweep import Asked, ask_for
from siderostat.errors import (
    DONE,
    FINISHED_WITH_FAILURES,
    INCONCLUSIVE,
    REGRESSION,
    BadValue,
    NothingMeasured,
    RunFolderError,
)
from siderostat.files import write_atomically
from siderostat.gate import FRESH_PAIRS, PAIRS, Verdict
from siderostat.plan import GRADES, Plan
from siderostat.record import THROUGHPUT, Cell, Code, Record
from siderostat.verdicts import BASE, HEAD, SIDES, Outcome

_FOLDER = Path("siderostat-gates")
_QUICK_BUDGET_S = 300.0
_LEAST_PAIRS = 3
_FIRST_SHARE = 0.5  # of a budget, for the first stage; the second has what is left
_SCATTER = {True: (0.01, 0.04), False: (0.08, 0.13)}  # of a pair on shared machines, of single threads and of others
_FIRST, _FRESH = "first", "fresh"
_IMPORT_S = {"torch": 3.0, "tensorflow": 5.0}  # of a framework by a server; torch as seen, the other assumed
_TURNS: Mapping[str, Any] = {"bursts": 24, "burst_s": 0.067, "burst_samples": 1}
"""Of a process: as long as in a run, in three times as many turns, so that what a machine does meets both sides."""
_TRACED = ("torch", "tensorflow")
_NOT_OF_A_GATE = ("grade", "compare", "quality", "to_quality", "find_capacity", "energy_window", "estimate_energy")


@dataclasses.dataclass(frozen=True)
class _Sides:
    """The two revisions.

    Attributes:
        codes: where the workers of each find it.
        titles: what each is, for people.
    """

    codes: Mapping[str, Code]
    titles: Mapping[str, str]


def main(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    """Measure two revisions in lock-step and say whether the head is slower.

    Raises:
        NothingMeasured: if not one series can be compared.
        Interrupted: on SIGINT and SIGTERM.
    """
    folder = Path(arguments.output or _FOLDER / provenance.utc_now().replace(":", "-").removesuffix("Z"))
    floor = _share(arguments.floor)
    with _laid_out(arguments, folder) as sides:
        asked = _asked(arguments, sides)
        cells = _cells(asked, sides)
        pairs, budget_s = _pairs(arguments, asked, cells, sides)
        planned = _plan(asked, cells, pairs, sides, _FIRST_SHARE * budget_s if budget_s else None)
        _announce(cells, pairs, sides, planned)
        begun = time.monotonic()
        first = measure_into(folder / _FIRST, planned, arguments, words).records
        left_s = budget_s - (time.monotonic() - begun) if budget_s else None
        again = dataclasses.replace(asked, seed=asked.seed + pairs)
        more = _begun(folder / _FRESH) or _fresh(again, first, cells, sides, floor, left_s)
        fresh = measure_into(folder / _FRESH, more, arguments, words).records if more.groups else []
        traced, untraced = _trace(cells, sides)
        series = verdicts.judge(cells, first, fresh, traced, floor)
        outcome = Outcome(sides.titles[BASE], sides.titles[HEAD], tuple(series), floor, untraced)
    return _conclude(outcome, folder, arguments)


@contextmanager
def _laid_out(arguments: argparse.Namespace, folder: Path) -> Iterator[_Sides]:
    """Lay the two sides out; take down what was made for it, unless the gate was interrupted and may be resumed."""
    if bool(arguments.base_python) != bool(arguments.head_python):
        raise BadValue("two environments are compared by --base-python and --head-python together")
    if arguments.base_python:
        yield _environments(arguments.base_python, arguments.head_python)
        return
    if not arguments.base:
        raise BadValue("say what the head is compared with: --base REV, such as --base origin/main")
    root = revisions.repository(Path.cwd())
    found = {BASE: revisions.find(root, arguments.base), HEAD: revisions.find(root, arguments.head)}
    if revisions.has_changes(root) and arguments.head == "HEAD":
        print("siderostat: what is not committed is not measured", file=sys.stderr)
    codes = {side: revisions.lay_out(root, found[side], folder / side) for side in SIDES}
    yield _Sides(codes, {side: f"{side} {found[side].short} ({found[side].title})" for side in SIDES})
    for side in SIDES:
        revisions.take_down(root, folder / side)
        shutil.rmtree(folder / side, ignore_errors=True)


def _environments(base: str, head: str) -> _Sides:
    pythons = {BASE: base, HEAD: head}
    for side, python in pythons.items():
        if shutil.which(python) is None:
            raise BadValue(f"there is no interpreter {python}; correct --{side}-python")
    absolute = {side: str(Path(shutil.which(python) or python).absolute()) for side, python in pythons.items()}
    codes = {side: Code(python=python) for side, python in absolute.items()}
    return _Sides(codes, {side: f"{side} {python}" for side, python in absolute.items()})


def _asked(arguments: argparse.Namespace, sides: _Sides) -> Asked:
    """Return what is measured: a workload's file of the repository is looked for in the head."""
    if not arguments.sweep and not arguments.workload:
        raise BadValue("say what is measured: a sweep file, or -w with names, or with path/to/file.py:Class")
    for flag in _NOT_OF_A_GATE:
        if getattr(arguments, flag):
            raise BadValue(f"a gate compares times, by rules of its own; leave --{flag.replace('_', '-')} out")
    # Last, for workloads that the head brings and this environment has not: what is installed here stays what it is.
    sys.path += sides.codes[HEAD].path
    head = sides.codes[HEAD].folder
    if head and arguments.workload:
        names = [_in_head(name.strip(), Path(head)) for name in arguments.workload.split(",")]
        arguments = argparse.Namespace(**{**vars(arguments), "workload": ",".join(names)})
    return ask_for(arguments)


def _in_head(name: str, head: Path) -> str:
    """Return the name of a workload, its file in the head's worktree where the repository has it."""
    path, colon, attribute = name.rpartition(":")
    if not path.endswith(".py"):
        return name
    root = revisions.repository(Path.cwd())
    inside = Path(path).absolute()
    return f"{head / inside.relative_to(root)}{colon}{attribute}" if inside.is_relative_to(root) else name


def _cells(asked: Asked, sides: _Sides) -> list[Cell]:
    """Return what is measured of both; files of the repository by their place in it, so that each side has its own."""
    head = sides.codes[HEAD].folder
    cells = {}
    for group in asked.groups:
        for cell in group:
            name = cell.workload.removeprefix(f"{head}/") if head else cell.workload
            if cell.measure == THROUGHPUT and name != "null":
                cells[cell.key()] = dataclasses.replace(cell, workload=name)
    if not cells:
        raise BadValue("nothing to compare: only what is timed is, and nothing of that kind is asked for")
    return list(cells.values())


def _plan(asked: Asked, cells: Sequence[Cell], pairs: int, sides: _Sides, budget_s: float | None) -> Plan:
    protocol = dataclasses.replace(asked.protocol, **_TURNS)
    grade = dataclasses.replace(GRADES["ci"], least_rounds=pairs, most_rounds=pairs)
    groups = verdicts.sides(cells)
    return plan.make(groups, "gate", grade, asked.seed, protocol, budget_s, asked.pythons, sides.codes)


def _pairs(
    arguments: argparse.Namespace, asked: Asked, cells: Sequence[Cell], sides: _Sides
) -> tuple[int, float | None]:
    """Return how many pairs the first stage has, and the budget of both stages."""
    if not arguments.quick:
        return PAIRS, asked.budget_s
    budget_s = asked.budget_s or _QUICK_BUDGET_S
    once = _seconds(_plan(asked, cells, 1, sides, None))
    return max(_LEAST_PAIRS, min(PAIRS, int(_FIRST_SHARE * budget_s / once))), budget_s


def _begun(folder: Path) -> Plan | None:
    """Return the plan of a second stage that was interrupted, or done: a later look at the first changes nothing."""
    return store.Run(folder).plan if (folder / "plan.json").is_file() else None


def _fresh(
    asked: Asked, first: Sequence[Record], cells: Sequence[Cell], sides: _Sides, floor: float, left_s: float | None
) -> Plan:
    """Return the plan of the second stage: fresh pairs of the suspects, then of what else could not be passed.

    A budget leaves the suspects the least number of pairs at least, since without them nothing can fail.
    """
    suspects, undecided = verdicts.unsettled(first, cells, floor)
    if left_s is not None:
        undecided = undecided if left_s > 0 else []
        left_s = max(left_s, _seconds(_plan(asked, suspects, _LEAST_PAIRS, sides, None)))
    if suspects or undecided:
        print(
            f"siderostat: of {len(cells)} series, {len(suspects)} look slower and {len(undecided)} cannot be passed "
            f"yet: up to {FRESH_PAIRS} fresh pairs",
            file=sys.stderr,
        )
    plans = [_plan(asked, some, FRESH_PAIRS, sides, None) for some in (suspects, undecided)]
    return dataclasses.replace(plans[0], groups=[*plans[0].groups, *plans[1].groups], budget_s=left_s)


def _seconds(of: Plan) -> float:
    """Return about how long a plan takes: its processes, and the servers that each round forks them from."""
    servers = {(attempt.cell.framework, attempt.cell.code, attempt.round) for attempt in of.attempts()}
    imports_s = sum(_IMPORT_S.get(framework, 0.5) for framework, *_ in servers)
    return imports_s + sum(forecast.attempt_seconds(attempt) for attempt in of.attempts())


def _announce(cells: Sequence[Cell], pairs: int, sides: _Sides, first: Plan) -> None:
    """Say, before anything is measured, what is compared, about how long it takes and what it can see."""
    scatter = _SCATTER[all(devices.is_single_threaded(cell.device) for cell in cells)]
    least, most = (verdicts.reach(one, pairs) for one in scatter)
    seconds = _seconds(first)
    further = seconds * FRESH_PAIRS / pairs
    if first.budget_s is not None:
        further = max(0.0, min(further, first.budget_s / _FIRST_SHARE - seconds))
    print(
        f"siderostat: {sides.titles[HEAD]} against {sides.titles[BASE]}: {len(cells)} series, {pairs} pairs each, "
        f"about {progress.duration(seconds)}, and up to {progress.duration(further)} for fresh "
        f"pairs where these leave something open. Where pairs scatter by {scatter[0]:.0%} to {scatter[1]:.0%}, "
        f"as on shared machines, that sees slowdowns from {least:.0%} to {most:.0%} on.",
        file=sys.stderr,
    )


def _trace(cells: Sequence[Cell], sides: _Sides) -> tuple[dict[str, dict[str, dict[str, Any]]], tuple[str, ...]]:
    """Return the exact figures of each cell's step on both sides, and why there are none of some."""
    traced: dict[str, dict[str, dict[str, Any]]] = {}
    untraced = []
    alike: dict[str, dict[str, dict[str, Any]]] = {}
    for cell in cells:
        if cell.framework not in _TRACED:
            continue
        step = dataclasses.replace(cell, device="cpu", precision="fp32").key()
        try:
            alike[step] = alike.get(step) or {
                side: tracing.ask(cell, code).totals() for side, code in sides.codes.items()
            }
            traced[cell.key()] = alike[step]
        except NothingMeasured as error:
            untraced.append(f"{cell.label()}: {error}")
    return traced, tuple(untraced)


def _conclude(outcome: Outcome, folder: Path, arguments: argparse.Namespace) -> int:
    """Write what came of it, print it, and return the exit code."""
    from siderostat.reports import gate as page

    written = page.texts(outcome)
    try:
        for name, text in written.items():
            write_atomically(folder / name, text)
    except OSError as error:
        raise RunFolderError(f"cannot write to {folder}: {error.strerror}; choose another folder with -o") from error
    if arguments.json:
        print(written["gate.json"], end="")
    else:
        for line in (*page.lines(outcome), *page.headlines(outcome)):
            print(line)
        print(f"report: {folder / ('gate.html' if 'gate.html' in written else 'gate.md')}")
    if outcome.of(Verdict.FAIL):
        return REGRESSION
    if any(one.has_failed for one in outcome.series):
        return FINISHED_WITH_FAILURES
    if len(outcome.of(Verdict.NOT_COMPARABLE)) == len(outcome.series):
        raise NothingMeasured(f"nothing could be compared: {outcome.series[0].reason}")
    return INCONCLUSIVE if arguments.strict and len(outcome.of(Verdict.PASS)) != len(outcome.series) else DONE


def _share(text: str) -> float:
    """Return 0.05 for "5%" and for "0.05".

    Raises:
        BadValue: if it is no share between 0 and 1.
    """
    try:
        share = float(text.rstrip("% ")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 < share < 1:
        raise BadValue(f"--floor {text}: write 5% or 0.05")
    return share
