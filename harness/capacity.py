"""The edge of capacity: the largest batch that fits, the first that does not, and why.

A search doubles the batch size until the device refuses (or halves it until the step fits), then halves the gap
between both until the two are neighbours or, for large batches, about 1.6 % apart.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from siderostat.record import CAPACITY, THROUGHPUT, Cell, Reason, Record, Status

MOST = 1 << 24  # items per batch that no search goes beyond
_RESOLUTION = 64  # the gap that is left is at most this part of the batch that fits
_REFUSALS = frozenset({Reason.OOM_HOST, Reason.OOM_DEVICE, Reason.COMPILE_FAILED, Reason.TIMEOUT})


@dataclass(frozen=True)
class Edge:
    """What is known of one series of batch sizes.

    Attributes:
        cell: its smallest measured cell; all others differ from it in batch and measure alone.
        fits: record of the largest batch that ran; None where none did.
        refused: record of the smallest batch that was refused; None where none was.
        is_searched: whether the edge was looked for, and not just met on the way through a sweep.
    """

    cell: Cell
    fits: Record | None
    refused: Record | None
    is_searched: bool


def fits(record: Record) -> bool | None:
    """Say whether a record shows that its batch fits; None where it shows neither, as without the package."""
    if record.status is Status.OK:
        return True
    return False if record.reason in _REFUSALS else None


def series(cell: Cell) -> str:
    """Return what cells have in common that differ in batch alone, whatever is measured of them."""
    return dataclasses.replace(cell, batch=1, measure=CAPACITY).key()


def next_batch(tried: Mapping[int, bool], first: int) -> int | None:
    """Return the batch to try next; None where the edge is known.

    Args:
        tried: batch -> whether it fits.
        first: the batch that a search begins with.
    """
    if not tried:
        return first
    fit = max((b for b, good in tried.items() if good), default=0)
    refused = min((b for b, good in tried.items() if not good and b > fit), default=None)
    if refused is None:
        return fit * 2 if fit * 2 <= MOST else None
    if refused - fit <= max(1, fit // _RESOLUTION):
        return None
    return (fit + refused) // 2 if fit else refused // 2


def is_beyond(cell: Cell, records: Iterable[Record]) -> Record | None:
    """Return the record of a smaller batch of the same series that did not fit; None where there is none."""
    for record in records:
        smaller = record.attempt.cell
        if record.status is Status.CAPACITY and smaller.batch < cell.batch and series(smaller) == series(cell):
            return record
    return None


def edges(records: Iterable[Record]) -> list[Edge]:
    """Return the edge of each series in which a batch was refused or the edge was looked for."""
    found: dict[str, list[Record]] = {}
    known: dict[str, str] = {}
    for record in records:
        cell = record.attempt.cell
        if cell.measure in (CAPACITY, THROUGHPUT) and fits(record) is not None:
            key = cell.key()
            if key not in known:
                known[key] = series(cell)
            found.setdefault(known[key], []).append(record)
    all_edges = map(_edge, found.values())
    return [edge for edge in all_edges if edge.refused is not None or edge.is_searched]


def _edge(records: list[Record]) -> Edge:
    by_batch = sorted(records, key=lambda r: r.attempt.cell.batch)
    good = [r for r in by_batch if fits(r)]
    largest = good[-1] if good else None
    least = largest.attempt.cell.batch if largest else 0
    refused = next((r for r in by_batch if not fits(r) and r.attempt.cell.batch > least), None)
    searched = any(r.attempt.cell.measure == CAPACITY for r in records)
    return Edge(by_batch[0].attempt.cell, largest, refused, searched)
