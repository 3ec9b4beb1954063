"""How good the models became: what records of quality and of the time to it say, as rows, sentences and tables."""

from __future__ import annotations

import base64
import io
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from siderostat.record import TIME_TO_QUALITY, Cell, Look, Quality, Record
from siderostat.reports.labels import (
    NOT_KNOWN,
    capital,
    count,
    number,
    seconds,
    seconds_interval,
    set_title,
    spread,
)
from siderostat.reports.run import RunData, run_names
from siderostat.reports.tables import Table, TableRow
from siderostat.stats import time_to_quality
from siderostat.words import plural

MAGNIFIED = 2  # screen pixels on a side of a picture's pixel
ACROSS = 8  # pictures in a row of a grid
COLUMNS = (
    "workload", "variant", "mode", "framework", "device", "batch", "measure", "round", "provenance", "items",
    "training_s", "figure", "value", "target",
)  # fmt: skip
"""Of :func:`flat_rows`, after the run's name where there are several runs."""


@dataclass(frozen=True)
class Learned:
    """One cell whose model was judged.

    Attributes:
        title: heading.
        run: the run's name where there are several, else empty.
        cell: what was trained, or sampled.
        records: those with at least one look, one for each process.
    """

    title: str
    run: str
    cell: Cell
    records: list[Record]

    @property
    def qualities(self) -> list[Quality]:
        """What each process found."""
        return [r.quality for r in self.records if r.quality is not None]

    @property
    def last_looks(self) -> list[Look]:
        """The last look of each process."""
        return [q.looks[-1] for q in self.qualities]

    @property
    def items(self) -> str:
        """The work unit, plural."""
        return plural(self.records[0].item or "item")


def learned(runs: Sequence[RunData]) -> list[Learned]:
    """Return every cell with at least one look at its model, run by run."""
    names = run_names(runs) if len(runs) > 1 else [""] * len(runs)
    found = []
    for name, run in zip(names, runs, strict=True):
        for cell, records in run.trained:
            judged = [r for r in records if r.quality is not None and r.quality.looks]
            if judged:
                found.append(Learned(_title(cell), name, cell, judged))
    return found


def _title(cell: Cell) -> str:
    what = "time to quality" if cell.measure == TIME_TO_QUALITY else "quality"
    return f"{set_title((cell.workload, cell.variant, cell.mode))}: {what} with {cell.framework} on {cell.device}"


def headline(of: Learned) -> str:
    """Return what came out, in a sentence."""
    figure, target = of.qualities[0].figure, of.qualities[0].target
    met = sum(q.reached is not None for q in of.qualities)
    n = len(of.qualities)
    if of.cell.measure == TIME_TO_QUALITY:
        time = time_to_quality(of.records)
        missed = "" if met == n else f"; {n - met} of {count(n, 'process')} did not reach it"
        took = seconds_interval(time) if time else "not reached"
        return f"Time to {words(figure)} {target:g}: {took} at batch {of.cell.batch}{missed}."
    looks = of.last_looks
    after = f" after {looks[0].items:,} {of.items} ({seconds(_median([x.seconds for x in looks]))})"
    reached = "met" if met == n else "not met" if met == 0 else f"met by {met} of {n}"
    value = number(_median([x.figures[figure] for x in looks]))
    return f"{capital(words(figure))} {value}{after if looks[0].items else ''}; the target of {target:g} is {reached}."


def table(of: Learned) -> Table:
    """Return the figures of the last look: the median over the processes, and their extremes where they are several."""
    looks = of.last_looks
    head = ["Figure", "Median", "Least", "Largest"] if len(looks) > 1 else ["Figure", "Value"]
    decisive = of.qualities[0].figure
    lines = [
        TableRow([words(name), *_values([x.figures[name] for x in looks if name in x.figures])])
        for name in sorted(looks[0].figures, key=lambda name: name != decisive)
    ]
    lines[0] = TableRow([f"{lines[0].cells[0]} (target {of.qualities[0].target:g})", *lines[0].cells[1:]])
    items = spread(x.items for x in looks)
    trained = f"trained on {items} {of.items}, batch {of.cell.batch}, " if looks[0].items else ""
    origin = of.records[0].provenance.value if of.records[0].provenance else NOT_KNOWN
    caption = f"{trained}{count(len(looks), 'process')}; {origin}, on {of.items} that were not trained on"
    return Table(head, lines, caption, frozenset(range(1, len(head))))


def words(name: str) -> str:
    """Return a figure's name for people: ``ellipticity_rmse`` is "ellipticity RMSE"."""
    return " ".join(part.upper() if part in ("nll", "rmse", "ks", "snr") else part for part in name.split("_"))


def flat_rows(runs: Sequence[RunData]) -> Iterator[dict[str, Any]]:
    """Yield one row for each figure of each look: the form that ``quality.csv`` and ``report.json`` have."""
    for of in learned(runs):
        for record in of.records:
            for look in record.quality.looks if record.quality else ():
                for name, value in look.figures.items():
                    yield _flat(of, record, look, name, value)


def _flat(of: Learned, record: Record, look: Look, name: str, value: float) -> dict[str, Any]:
    cell, quality = of.cell, record.quality
    target = quality.target if quality is not None and name == quality.figure else None
    values = (
        cell.workload, cell.variant, cell.mode, cell.framework, cell.device, cell.batch, cell.measure,
        record.attempt.round, record.provenance.value if record.provenance else None, look.items, look.seconds, name,
        value, target,
    )  # fmt: skip
    return {**({"run": of.run} if of.run else {}), **dict(zip(COLUMNS, values, strict=True))}


def grid_png(packed: dict[str, Any]) -> bytes:
    """Return pictures, as a record holds them, side by side in rows of eight, as a PNG file.

    Raises:
        ValueError: if the bytes are not those of the shape.
    """
    from PIL import Image

    n, rows, columns, colours = packed["shape"]
    flat = np.frombuffer(zlib.decompress(base64.b64decode(packed["zlib_base64"])), np.uint8)
    pictures = flat.reshape(n, rows, columns, colours)
    across = min(ACROSS, n)
    down = -(-n // across)
    whole = np.full((down * (rows + 1) - 1, across * (columns + 1) - 1, colours), 255, np.uint8)
    for i, picture in enumerate(pictures):
        top, left = i // across * (rows + 1), i % across * (columns + 1)
        whole[top : top + rows, left : left + columns] = picture
    image = Image.fromarray(whole).resize(
        (whole.shape[1] * MAGNIFIED, whole.shape[0] * MAGNIFIED), Image.Resampling.NEAREST
    )
    file = io.BytesIO()
    image.save(file, "png", optimize=True)
    return file.getvalue()


def _values(values: Sequence[float]) -> list[str]:
    """Return median, least and largest as text; of a single value that one."""
    shown = (_median(values), min(values), max(values)) if len(values) > 1 else values
    return [number(value) for value in shown]


def _median(values: Sequence[float]) -> float:
    return float(np.median(values))
