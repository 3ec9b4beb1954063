"""The tables of a report, as text in cells."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from siderostat.record import Record
from siderostat.reports.glossary import OPEN, STATUS
from siderostat.reports.labels import (
    NOT_KNOWN,
    bytes_,
    capital,
    count,
    differing,
    interval,
    number,
    seconds,
    seconds_interval,
    series,
    set_title,
    traits,
)
from siderostat.reports.processes import failures
from siderostat.reports.published import PROVENANCE, Curve
from siderostat.reports.rows import Row
from siderostat.words import plural

MOST_FAILURES = 200  # rows of the table of what did not end well
MOST_ALIKE = 12  # rounds and logs named in one of them


@dataclass(frozen=True)
class TableRow:
    """A row.

    Attributes:
        cells: texts.
        kind: how it is shown: ``plain``, ``open`` (not measured) or ``failed``.
    """

    cells: list[str]
    kind: str = "plain"


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        head: column headings.
        rows: as many cells each as ``head``.
        caption: what holds for all rows.
        figures: columns of figures, set flush right.
    """

    head: list[str]
    rows: list[TableRow]
    caption: str = ""
    figures: frozenset[int] = frozenset()


def _kind(row: Row) -> str:
    """Return how a row is shown."""
    if row.time is None:
        return "failed"
    return "open" if row.provenance in OPEN else "plain"


def _same(table: Sequence[Row], names: Iterable[str]) -> str:
    """Return what all rows share: "framework torch, device cpu, ..."."""
    held, shown = traits(table[0]), set(names)
    return ", ".join(f"{n} {v}" for n, v in held.items() if n not in shown and v and (n, v) != ("devices", "1"))


def _table(table: Sequence[Row], head: Sequence[str], cells: Sequence[Sequence[str]], text: frozenset[str]) -> Table:
    """Return a table that begins with what tells the rows apart and the batch size.

    Args:
        table: the cases.
        head: headings of the further columns.
        cells: the texts below them, row by row.
        text: those of the headings that stand over words, not figures.
    """
    names = differing(table)
    full = [*map(capital, names), "Batch", *head]
    lines = [
        TableRow([*(traits(r)[n] or NOT_KNOWN for n in names), str(r.batch), *more], _kind(r))
        for r, more in zip(table, cells, strict=True)
    ]
    figures = frozenset(i for i, h in enumerate(full) if i >= len(names) and h not in text)
    return Table(full, lines, _same(table, names), figures)


def case_table(table: Sequence[Row]) -> Table:
    """Return the cases of one workload, variant and mode: figures with intervals, provenance, notes."""
    item = next((r.item for r in table if r.item), "item")
    head = [f"Time per {item}", f"{capital(plural(item))} per second", "Processes", "Peak memory"]
    cells = [
        [
            seconds_interval(r.time, say_none=False),
            interval(r.rate, say_none=False),
            str(r.n_processes),
            bytes_(r.peak_bytes),
            provenance(r),
            notes(r),
        ]
        for r in table
    ]
    return _table(table, [*head, "Provenance", "Notes"], cells, frozenset({"Provenance", "Notes"}))


def provenance(row: Row) -> str:
    """Return where a row's figures come from, and by which clock."""
    if row.provenance is None:
        return NOT_KNOWN
    return row.provenance if row.clock in (None, "model") else f"{row.provenance}, {row.clock} clock"


def notes(row: Row) -> str:
    """Return what must be known to read a row: flags, failures, and why a figure is not known."""
    found = [f for f in row.flags.split(",") if f]
    if row.n_contended:
        found.append(f"{row.n_contended} of {count(row.n_processes, 'process')} contended")
    if row.time is None:
        reason = f" ({row.reason})" if row.reason not in (None, row.status) else ""
        found.append(f"{row.status}{reason}: {STATUS[row.status]}" if row.status in STATUS else "no timings")
        if row.need_bytes is not None:
            found.append(f"needs {bytes_(row.need_bytes)}")
        return "; ".join(found)
    if row.is_band:
        found.append("interval: the model's 95 % band")
    elif row.n_processes == 1:
        found.append("one process: no interval")
    if row.n_failed:
        found.append(f"{count(row.n_failed, 'process')} failed, see below")
    if row.peak_bytes is None:
        found.append("peak memory not reported")
    return "; ".join(found)


def start_up_table(table: Sequence[Row]) -> Table | None:
    """Return the times before the first timed step, medians over the processes; None where nothing ran."""
    table = [r for r in table if r.time is not None]
    if not table:
        return None
    cells = [
        [seconds(r.import_s), seconds(r.build_s), seconds(r.compile_s), seconds(r.first_step_s), r.start, provenance(r)]
        for r in table
    ]
    head = ["Import", "Build", "Compile", "First step", "Start", "Provenance"]
    return _table(table, head, cells, frozenset({"Start", "Provenance"}))


def published_table(table: Sequence[Row], curves: Sequence[Curve]) -> Table:
    """Return seconds for the published task over batch size: one column for each series, here and published."""
    names = series(table)
    ours = {(n, r.batch): r for n, r in zip(names, table, strict=True) if r.time is not None}
    columns = list(dict.fromkeys(n for n, _ in ours))
    batches = sorted({b for _, b in ours} | {b for c in curves for b in c.batches})
    theirs = [dict(zip(c.batches, c.seconds, strict=True)) for c in curves]
    lines = []
    for batch in batches:
        here = [ours.get((n, batch)) for n in columns]
        times = [r.time.times(curves[0].items_at(batch)) if r and r.time else None for r in here]
        there = [_published_seconds(t.get(batch)) for t in theirs]
        lines.append(TableRow([str(batch), *map(interval, times), *there]))
    measured = [n if n.endswith(")") else f"{n} (measured)" for n in columns]
    return Table(
        ["Batch", *measured, *(c.label for c in curves)],
        lines,
        f"Seconds for {curves[0].task}; n/a: not {PROVENANCE}, or not measured",
        frozenset(range(1 + len(columns) + len(curves))),
    )


def _published_seconds(value: float | None) -> str:
    """Return a published time with the digits that matter: whole seconds where they are many."""
    return NOT_KNOWN if value is None else number(value, decimals=0 if value >= 100 else None)


def failure_table(records: Iterable[Record]) -> Table | None:
    """Return every record that is not ``ok``, those of a cell that ended alike in one row; None where all went well."""
    lines = []
    groups = failures(records)
    for group in groups[:MOST_FAILURES]:
        first, cell = group[0], group[0].attempt.cell
        title = set_title((cell.workload, cell.variant, cell.mode))
        where = f"{title}: {cell.framework} on {cell.device}, {cell.precision}, size {cell.size}, batch {cell.batch}"
        logs = [str(r.process["log"]) for r in group if r.process.get("log")]
        lines.append(
            TableRow(
                [
                    where,
                    _first(str(r.attempt.round) for r in group),
                    first.status.value,
                    first.reason.value if first.reason else NOT_KNOWN,
                    first.detail or STATUS[first.status.value],
                    _first(logs) or NOT_KNOWN,
                    first.provenance.value if first.provenance else NOT_KNOWN,
                ],
                "failed",
            )
        )
    head = ["Case", "Rounds", "Status", "Reason", "What happened", "Log", "Provenance"]
    more = f"the first {MOST_FAILURES:,} of {len(groups):,} rows; all processes are in records.csv"
    return Table(head, lines, more if len(groups) > MOST_FAILURES else "") if lines else None


def _first(texts: Iterable[str]) -> str:
    """Return texts with commas between them, the first of many."""
    held = list(texts)
    more = len(held) - MOST_ALIKE
    return ", ".join(held[:MOST_ALIKE]) + (f" and {more:,} more" if more > 0 else "")
