"""The edge of capacity: how large a batch fits, what does not, and why."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from siderostat import capacity
from siderostat.capacity import Edge
from siderostat.record import CAPACITY, THROUGHPUT, Record
from siderostat.reports.labels import BYTE_UNITS, NOT_KNOWN, bytes_, capital, scale, set_title
from siderostat.reports.run import NULL_WORKLOAD, RunData, run_names
from siderostat.reports.section import Part, Section
from siderostat.reports.tables import Table, TableRow

if TYPE_CHECKING:
    from siderostat.reports.charts import Chart

REASONS = {
    "oom_host": "the host's memory, or the worker's share of it, is used up",
    "oom_device": "the device's memory is used up",
    "compile_failed": "it cannot be compiled",
    "timeout": "it gave no answer in time",
}


def section(runs: Sequence[RunData]) -> Section | None:
    """Return what is known of the edge in each series of batch sizes; None where no edge was met or looked for."""
    several = len(runs) > 1
    found = [
        (name if several else "", edge, run)
        for name, run in zip(run_names(runs), runs, strict=True)
        for edge in capacity.edges(r for r in run.records if r.attempt.cell.workload != NULL_WORKLOAD)
    ]
    if not found:
        return None
    sentences = [sentence(edge) for _, edge, _ in found]
    parts = [
        Part(
            "The largest batch that fits",
            sentences,
            table=_table([(name, edge) for name, edge, _ in found]),
            notes=_notes(),
        ),
        *(
            Part(_series(name, edge), charts=_charts(edge, run.records))
            for name, edge, run in found
            if edge.fits is not None
        ),
    ]
    return Section("capacity", "Capacity", parts, sentences)


def sentence(edge: Edge) -> str:
    """Say how large a batch fits."""
    where = _series("", edge)
    if edge.fits is None:
        return f"{where}: not even a batch of {_batch(edge.refused):,} fits ({_reason(edge.refused)})."
    peak = f" (peak memory {bytes_(edge.fits.peak_bytes)})" if edge.fits.peak_bytes else ""
    fits = f"{where}: a batch of {_batch(edge.fits):,} fits{peak}"
    if edge.refused is None:
        return f"{fits}; none was refused."
    return f"{fits}, one of {_batch(edge.refused):,} does not ({_reason(edge.refused)})."


def _batch(record: Record | None) -> int:
    assert record is not None
    return record.attempt.cell.batch


def _reason(record: Record | None) -> str:
    reason = record.reason.value if record is not None and record.reason else ""
    return f"{reason}: {REASONS[reason]}" if reason in REASONS else reason or NOT_KNOWN


def _series(name: str, edge: Edge) -> str:
    cell = edge.cell
    where = (
        f"{set_title((cell.workload, cell.variant, cell.mode))}, {cell.framework} on {cell.device}, {cell.precision}"
    )
    return f"{name}: {where}" if name else where


def _table(edges: Sequence[tuple[str, Edge]]) -> Table:
    head = [
        *("Series", "Fits", "Peak memory", "Does not fit", "Reason", "Asked for", "Could allocate", "How found"),
        "Provenance",
    ]
    rows = []
    for name, edge in edges:
        fits, refused = edge.fits, edge.refused
        known = next(r for r in (refused, fits) if r is not None)
        provenance = fits.provenance if fits is not None else None
        rows.append(
            TableRow(
                [
                    _series(name, edge),
                    f"{_batch(fits):,}" if fits else "none",
                    bytes_(fits.peak_bytes if fits else None),
                    f"{_batch(refused):,}" if refused else "none was refused",
                    refused.reason.value if refused and refused.reason else NOT_KNOWN,
                    bytes_(refused.need_bytes if refused else None),
                    bytes_(known.attempt.protocol.memory_bytes),
                    "searched" if edge.is_searched else "met in the sweep",
                    provenance.value if provenance else NOT_KNOWN,
                ]
            )
        )
    return Table(head, rows, figures=frozenset({1, 2, 3, 5, 6}))


def _notes() -> list[str]:
    return [
        "Asked for: what the refused step wanted in one piece, where the error says so. Could allocate: the "
        "worker's memory limit on the host; a device has its own.",
        "A search ends when both batches are neighbours or, for large ones, about 1.6 % apart. One step, then two "
        "more, must run: the optimiser's state is there from the second on.",
    ]


def _charts(edge: Edge, records: Iterable[Record]) -> Callable[[], Iterator[Chart]]:
    points = list(_points(edge, records))

    def draw() -> Iterator[Chart]:
        if points:
            yield _chart(edge, points)

    return draw


def _points(edge: Edge, records: Iterable[Record]) -> Iterator[dict[str, Any]]:
    """Yield each batch that ran, with the largest peak memory in bytes that a process had."""
    peaks: dict[int, tuple[int, str]] = {}
    for record in records:
        cell = record.attempt.cell
        if cell.measure not in (CAPACITY, THROUGHPUT) or capacity.series(cell) != capacity.series(edge.cell):
            continue
        if capacity.fits(record) and record.peak_bytes:
            origin = record.provenance.value if record.provenance else ""
            peaks[cell.batch] = max(peaks.get(cell.batch, (0, "")), (record.peak_bytes, origin))
    for batch, (peak, origin) in sorted(peaks.items()):
        yield {"batch": batch, "bytes": peak, "provenance": origin}


def _chart(edge: Edge, points: Sequence[dict[str, Any]]) -> Chart:
    """Chart peak memory over batch size up to the edge, and the batch that was refused as a line."""
    import altair as alt

    from siderostat.reports import theme
    from siderostat.reports.charts import Chart, dressed
    from siderostat.reports.glossary import OPEN

    name, unit = scale(max(p["bytes"] for p in points), BYTE_UNITS)
    values = [{**p, "value": p["bytes"] / unit, "open": p["provenance"] in OPEN} for p in points]
    refused = (
        [] if edge.refused is None else [{"batch": _batch(edge.refused), "text": f"{_batch(edge.refused):,} refused"}]
    )
    batches = [p["batch"] for p in [*points, *refused]]
    x = alt.X("batch:Q", title="Batch size", scale=alt.Scale(**theme.batch_scale(batches)))
    base = alt.Chart(alt.InlineData(values=values)).encode(x=x, y=alt.Y("value:Q", title=f"Peak memory ({name})"))
    colour = theme.OKABE_ITO[0]
    fill = alt.condition("datum.open", alt.value("white"), alt.value(colour))
    layers = base.mark_line(color=colour, opacity=0.6) + base.mark_point(size=58, stroke=colour).encode(fill=fill)
    if refused:
        rule = alt.Chart(alt.InlineData(values=refused)).encode(x=x)
        layers += rule.mark_rule(color=theme.OKABE_ITO[1], strokeDash=[5, 3], strokeWidth=1.6)
        layers += rule.mark_text(align="right", baseline="top", dx=-5, y=4, color=theme.OKABE_ITO[1]).encode(
            text="text:N"
        )
    caption = (
        f"{capital('peak memory of what ran')}; dashed: the smallest batch that was refused ({_reason(edge.refused)})."
    )
    return Chart("edge", "Peak memory up to the edge", caption if refused else "Nothing was refused.", dressed(layers))
