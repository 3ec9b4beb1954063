"""Two stored runs beside each other: what differs in how they were made, and how fast one is against the other.

They were never measured in lock-step, so that a drift of the machine between them looks like a difference: intervals
are Welch's, and whatever differs between the machines is listed before the figures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import siderostat
from siderostat.record import Record
from siderostat.reports import ratios
from siderostat.reports.comparisons import Block, between
from siderostat.reports.environment import heading, text
from siderostat.reports.run import RunData, run_names
from siderostat.reports.section import Part, Section
from siderostat.reports.tables import Table, TableRow
from siderostat.stats import counted, measured_bursts

_UNPAIRED = (
    "The two runs were made one after the other. What the machine did between them counts as a difference; only "
    "siderostat gate and run --compare, which measure both sides in turns, tell the two apart."
)
_SAME = "Nothing that the runs recorded of their machines, software and protocol differs."


@dataclass(frozen=True)
class Difference:
    """Something that may explain a difference of times.

    Attributes:
        what: in words.
        first: of the run that is compared with.
        second: of the other.
    """

    what: str
    first: str
    second: str


def differences(first: RunData, second: RunData) -> list[Difference]:
    """Return all that differs in machine, software and protocol, as far as both runs recorded it."""
    found = list(_of_mappings("", _environment(first), _environment(second)))
    if first.grade != second.grade:
        found.append(Difference("grade", text("grade", first.grade), text("grade", second.grade)))
    theirs = {case.cell.key(): case for case in first.cases}
    for case in second.cases:
        if case.cell.key() in theirs:
            found += _of_records(case.cell.label(), theirs[case.cell.key()].records, case.records)
    return found


def section(first: RunData, second: RunData) -> Section:
    """Return the comparison of the second run with the first."""
    block = compared(first, second)
    parts, headlines = ratios.tell(block)
    told = headlines or ["The runs have no case in common: there is nothing to compare."]
    return Section("compare", f"Comparison: {block.title}", [_made(first, second), *parts], told)


def compared(first: RunData, second: RunData) -> Block:
    """Return the ratios of the second run to the first."""
    names = run_names([first, second])
    return between(first, second, (names[0], names[1]))


def texts(first: RunData, second: RunData) -> dict[str, str]:
    """Return what is written to a folder, by file name."""
    from siderostat.reports import html, markdown

    whole = section(first, second)
    made = f"Made by siderostat {siderostat.__version__} from {first.folder} and {second.folder}."
    return {"compare.html": html.section_text(whole, made), "compare.md": markdown.section_text(whole, made)}


def _made(first: RunData, second: RunData) -> Part:
    """Return what differs, before any figure."""
    rows = [TableRow([d.what, d.first, d.second]) for d in differences(first, second)]
    names = run_names([first, second])
    table = Table(["What", *names], rows) if rows else None
    return Part("What differs besides", [_UNPAIRED, *([] if rows else [_SAME])], table=table)


def _environment(run: RunData) -> Mapping[str, Any]:
    """Return the environment that most records were made in."""
    held = run.manifest.get("environments")
    known = {str(key): value for key, value in held.items() if isinstance(value, Mapping)} if held else {}
    keys = [record.environment for record in run.records if record.environment in known]
    return known[max(set(keys), key=keys.count)] if keys else {}


def _of_mappings(prefix: str, first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[Difference]:
    for name in [*first, *(name for name in second if name not in first)]:
        one, other = first.get(name), second.get(name)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            yield from _of_mappings(f"{heading(name)}: ", one, other)
        elif one != other:
            yield Difference(prefix + heading(name), text(name, one), text(name, other))


_OF_PROCESSES: Mapping[str, Callable[[Record], Any]] = {
    "steps per block": lambda r: measured_bursts(r)[0].block_steps,
    "clock": lambda r: r.clock,
    "threads": lambda r: r.effective.get("threads"),
    "start": lambda r: r.attempt.start,
    "device": lambda r: r.device.get("name"),
}


def _of_records(case: str, first: Sequence[Record], second: Sequence[Record]) -> Iterator[Difference]:
    for what, get in _OF_PROCESSES.items():
        values = [", ".join(sorted({text("", get(r)) for r in counted(records)})) for records in (first, second)]
        if all(values) and values[0] != values[1]:
            yield Difference(f"{case}: {what}", *values)
