"""Comparisons: how many times as fast one side is as another, in sentences, tables and charts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from siderostat.ratios import BEST, MATCHED, Mean, Ratio
from siderostat.record import Cell, Record, Status
from siderostat.reports.comparisons import Block, Compared, Unknown, blocks
from siderostat.reports.glossary import STATUS, explain
from siderostat.reports.labels import NOT_KNOWN, about, count, interval, number, series, set_title
from siderostat.reports.rows import Row
from siderostat.reports.run import RunData
from siderostat.reports.section import Part, Section
from siderostat.reports.tables import Table, TableRow
from siderostat.stats import Estimate
from siderostat.words import plural

if TYPE_CHECKING:
    from siderostat.reports.charts import Chart


@dataclass(frozen=True)
class _Task:
    """What a block says of one workload, variant and mode; a reference of another variant brings it here too."""

    title: str
    compared: list[Compared]
    unknown: list[Unknown]

    def name(self, side: Row) -> str:
        """Return the name of a side: framework, device, and what else differs among the sides."""
        sides = [r for pair in _sides(self.compared, self.unknown) for r in pair]
        plain = [dataclasses.replace(r, provenance="measured") for r in [side, *sides]]
        text = series(plain)[0]
        prefix = [f"{x}, " for x, y in zip(side.set_key, _sets(sides), strict=True) if len(y) > 1]
        origin = side.provenance or "measured"
        return "".join(prefix) + text + ("" if origin == "measured" else f" ({origin})")


def section(runs: Sequence[RunData]) -> Section | None:
    """Return what came of comparing; None where nothing was compared."""
    told = [tell(block) for block in blocks(runs)]
    parts = [part for block_parts, _ in told for part in block_parts]
    headlines = [text for _, texts in told for text in texts]
    return Section("ratios", "Comparisons", parts, headlines, is_first=True) if parts else None


def tell(block: Block) -> tuple[list[Part], list[str]]:
    """Return what came of the comparisons of one block, and the sentences that matter."""
    parts, headlines = [], []
    for task in _tasks(block):
        said = [sentence(c, task.name) for c in _telling(task.compared)]
        headlines += [_prefixed(task.title, text) for text in said]
        parts.append(_part(task, said))
    said = [_mean_sentence(mean, block) for mean in block.means]
    headlines += [_prefixed(block.title, text) for text in said]
    if said:
        parts.append(_means_part(block, said))
    return parts, headlines


def _tasks(block: Block) -> list[_Task]:
    """Return a block's comparisons by the task of the reference, in the order of its rows."""
    keys = sorted({reference.set_key for reference, _ in _sides(block.compared, block.unknown)})
    return [
        _Task(
            _prefixed(block.title, set_title(key)),
            sorted((c for c in block.compared if c.reference.set_key == key), key=lambda c: _order(c.row, c.ratio)),
            [u for u in block.unknown if u.reference.set_key == key],
        )
        for key in keys
    ]


def _sides(compared: Sequence[Compared], unknown: Sequence[Unknown]) -> list[tuple[Row, Row]]:
    """Return reference and other side of each comparison."""
    return [*((c.reference, c.row) for c in compared), *((u.reference, u.row) for u in unknown)]


def _order(side: Row, ratio: Ratio) -> tuple[Any, ...]:
    traits = (*side.set_key, side.framework, side.device, side.devices, side.precision, side.size, side.code)
    return *traits, str(sorted(side.options.items())), ratio.kind == BEST, side.batch


def _sets(sides: Sequence[Row]) -> list[set[str]]:
    """Return the different workloads, variants and modes among the sides."""
    return [set(values) for values in zip(*(side.set_key for side in sides), strict=True)]


def _prefixed(prefix: str, text: str) -> str:
    return f"{prefix}: {text}" if prefix else text


def _telling(compared: Sequence[Compared]) -> list[Compared]:
    """Return of each two series the ratio at the largest matched batch and, if it is another one, that of the best."""
    found: dict[tuple[Any, ...], dict[str, Compared]] = {}
    for c in compared:
        sides = _series(c.ratio.reference), _series(c.ratio.cell)
        found.setdefault(sides, {})[c.ratio.kind] = c  # batches ascend
    telling = []
    for kinds in found.values():
        matched, best = kinds.get(MATCHED), kinds.get(BEST)
        telling += [matched] if matched else []
        if best and not (matched and _cells(best.ratio) == _cells(matched.ratio)):
            telling.append(best)
    return telling


def _series(cell: Cell) -> str:
    return dataclasses.replace(cell, batch=0).key()


def _cells(ratio: Ratio) -> tuple[Cell, Cell]:
    return ratio.reference, ratio.cell


def sentence(compared: Compared, name: Callable[[Row], str]) -> str:
    """Say how many times as fast one side was, or that no difference was found and what could have been."""
    ratio, estimate = compared.ratio, compared.ratio.estimate
    side, reference = name(compared.row), name(compared.reference)
    rate = f"{plural(compared.row.item or 'item')} per second"
    at = _at(ratio, ", at batch ", ", each at its best batch, ")
    tail = f" ({_evidence(compared)})."
    if _holds_one(estimate):
        said = (
            f"No difference was found between {side} and {reference} in {rate}{at}: {interval(estimate)} times as many"
        )
        return f"{said}{_least(ratio)}{tail}"
    return f"{side} ran {interval(estimate, say_none=False)} times as many {rate} as {reference}{at}{tail}"


def _least(ratio: Ratio) -> str:
    """Say how large a difference would have been found."""
    least = ratio.log.detectable
    return f"; one of {about(least)} or more would probably have shown" if least else ""


def _holds_one(estimate: Estimate) -> bool:
    return estimate.low is not None and estimate.high is not None and estimate.low <= 1 <= estimate.high


def _at(ratio: Ratio, matched: str, best: str) -> str:
    """Return the batch sizes: of the cell and, where it has another, of the reference."""
    ours, theirs = ratio.cell.batch, ratio.reference.batch
    batches = f"{ours}" if ours == theirs else f"{ours} against {theirs}"
    return f"{best if ratio.kind == BEST else matched}{batches}"


def _evidence(compared: Compared) -> str:
    """Return what a ratio rests on: "10 pairs, lock-step"."""
    ratio = compared.ratio
    provenance = ratio.provenance.value if ratio.provenance else "provenance not known"
    words = [_numbers(ratio), _how(ratio)]
    words += ["no interval"] if ratio.log.error is None else []
    words += [provenance] if provenance != "measured" else []
    words += ["indicative"] if "indicative" in compared.flags else []
    flags = [f for f in compared.flags if f != "indicative"]
    return ", ".join(words) + (f"; flagged {', '.join(flags)}" if flags else "")


def _numbers(ratio: Ratio) -> str:
    if ratio.is_paired:
        return count(ratio.n_cell, "pair")
    if ratio.n_cell == ratio.n_reference:
        return f"{count(ratio.n_cell, 'process')} each"
    return f"{ratio.n_cell} and {ratio.n_reference} processes"


def _how(ratio: Ratio) -> str:
    return "lock-step" if ratio.is_paired else "unpaired"


def _part(task: _Task, said: Sequence[str]) -> Part:
    """Return the part of one task."""
    flags = sorted({f for c in task.compared for f in c.flags})
    return Part(
        task.title,
        sentences=[*said, *_unknown_sentences(task)],
        charts=partial(_charts, task),
        table=_table(task) if task.compared else None,
        notes=[explain(f) for f in flags],
    )


def _unknown_sentences(task: _Task) -> list[str]:
    """Say which comparisons have no ratio and why, batches for which the reason is the same together."""
    batches: dict[tuple[str, str], list[str]] = {}
    for u in task.unknown:
        why = "; ".join(f"{task.name(_row_of(r, u))} has no figure, {_why(r)}" for r in u.missing.without)
        what = f"No ratio of {task.name(u.row)} to {task.name(u.reference)}"
        batches.setdefault((what, why), []).append(str(u.row.batch))
    return [f"{what} at batch {', '.join(at)}: {why}." for (what, why), at in batches.items()]


def _row_of(record: Record, unknown: Unknown) -> Row:
    return unknown.reference if record.attempt.cell == unknown.missing.reference else unknown.row


def _why(record: Record) -> str:
    """Return how a record ended, in words."""
    status = record.status.value
    reason = f" ({record.reason.value})" if record.reason and record.reason.value != status else ""
    words = record.detail if record.status is Status.SKIPPED else STATUS.get(status, "")
    return f"{status}{reason}" + (f": {words}" if words else "")


def _table(task: _Task) -> Table:
    """Return the ratios of a task."""
    items = plural(next((c.row.item for c in task.compared if c.row.item), "item"))
    with_energy = any(c.energy for c in task.compared)
    head = ["What", "Reference", "Batch", f"Times as many {items} per second"]
    head += [f"Times as many {items} for the same energy"] if with_energy else []
    lines = [
        TableRow(
            [
                task.name(c.row),
                task.name(c.reference),
                _at(c.ratio, "", "best: "),
                interval(c.ratio.estimate, say_none=False),
                *([interval(c.energy.items) if c.energy else NOT_KNOWN] if with_energy else []),
                _numbers(c.ratio),
                _how(c.ratio),
                c.ratio.provenance.value if c.ratio.provenance else NOT_KNOWN,
                ", ".join(c.flags),
            ],
            "plain" if c.ratio.provenance and c.ratio.provenance.value == "measured" else "open",
        )
        for c in task.compared
    ]
    columns = [*head, "Evidence", "Measured", "Provenance", "Notes"]
    return Table(columns, lines, figures=frozenset(range(2, len(head))))


def _charts(task: _Task) -> Iterator[Chart]:
    """Yield the chart of the ratios at matched batches."""
    from siderostat.reports.charts import Chart, over_batch, point

    shown = [c for c in task.compared if c.ratio.kind == MATCHED]
    if not shown:
        return
    references = list(dict.fromkeys(task.name(c.reference) for c in shown))
    points = []
    for c in shown:
        against = f" against {task.name(c.reference)}" if len(references) > 1 else ""
        provenance = c.ratio.provenance.value if c.ratio.provenance else None
        points.append(point(f"{task.name(c.row)}{against}", provenance, c.row.batch, c.ratio.estimate))
    items = plural(shown[0].row.item or "item")
    caption = (
        f"Above the dashed line at 1: more {items} per second than {' or '.join(references)}. Bars: 95 % intervals; "
        "where none is to be seen it is smaller than the mark, or there is only one pair."
    )
    spec = over_batch(points, f"Times as many {items} per second", ratios=True)
    yield Chart("speed", "Speed ratios", caption, spec)


def _means_part(block: Block, said: list[str]) -> Part:
    """Return the geometric means over the tasks of a block."""
    lines = []
    for mean in block.means:
        name, reference = _mean_names(mean, block)
        provenance, flags = block.origin(mean)
        figures = [interval(mean.estimate), number(mean.least), number(mean.largest)]
        about = [str(len(mean.parts)), provenance or NOT_KNOWN, ", ".join(flags)]
        lines.append(TableRow([name, reference, *figures, *about]))
    head = ["What", "Reference", "Geometric mean", "Least", "Largest", "Tasks", "Provenance", "Notes"]
    note = (
        "The interval covers the errors of measuring, not the choice of tasks: other tasks would have another mean, "
        "and the least and the largest ratio show how much that can matter."
    )
    table = Table(head, lines, "times as many items per second", frozenset(range(2, 6)))
    return Part(_prefixed(block.title, "Over all tasks"), said, table=table, notes=[note])


def _mean_sentence(mean: Mean, block: Block) -> str:
    """Say what the geometric mean over tasks is."""
    name, reference = _mean_names(mean, block)
    provenance, _ = block.origin(mean)
    origin = "" if provenance == "measured" else f", {provenance or 'provenance not known'}"
    return (
        f"Over {count(len(mean.parts), 'task')}, {name} ran {interval(mean.estimate)} times as many items per second "
        f"as {reference} (geometric mean{origin}; {number(mean.least)} to {number(mean.largest)} by task)."
    )


def _mean_names(mean: Mean, block: Block) -> tuple[str, str]:
    """Return the names of both sides: by what tells them apart, leaving out what differs among the tasks alone."""
    first = block.first(mean)
    task = _Task("", [first], [])
    return task.name(first.row), task.name(first.reference)
