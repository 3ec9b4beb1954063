"""What a step computes and moves, as tables, a roofline picture, a page, Markdown and CSV."""

from __future__ import annotations

import csv
import io
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import siderostat
from siderostat.reports.labels import NOT_KNOWN, bytes_, count, number, percent, quantity, set_title
from siderostat.reports.section import Part, Section
from siderostat.reports.tables import Table, TableRow
from siderostat.tracing import Roof, Row, Trace
from siderostat.words import plural

if TYPE_CHECKING:
    import altair as alt

    from siderostat.reports.charts import Chart

FLOP_UNITS = (("TFLOP", 1e12), ("GFLOP", 1e9), ("MFLOP", 1e6), ("kFLOP", 1e3), ("FLOP", 1.0))
_COLUMNS = (
    "number", "phase", "stage", "name", "kind", "flops", "read_bytes", "written_bytes", "inputs", "outputs",
    "attributes",
)  # fmt: skip
_LEAST_SHARE = 1e-4
_APART = 1.4  # ratio of intensities from which two labels do not touch
_HEAD = ["Operation", "Kind", "Pass", "Count", "Work", "Share", "Moved", "FLOP per byte"]


def title(trace: Trace) -> str:
    """Return which step it is: "Galaxy shape, dnn, train: torch, size paper, batch 8"."""
    cell = trace.cell
    where = set_title((cell.workload, cell.variant, cell.mode))
    return f"{where}: {cell.framework}, size {cell.size}, batch {cell.batch:,}"


def facts(trace: Trace) -> list[tuple[str, str]]:
    """Return the figures of the whole step, as name and text."""
    total = trace.totals()
    updates = f", and {bytes_(total['state_bytes'])} of the optimiser's" if total["state_bytes"] else ""
    saved = (
        [("kept from the forward for the backward pass", bytes_(total["saved_bytes"]))] if total["saved_bytes"] else []
    )
    return [
        (f"work per {trace.item}", flops(total["flops_per_item"])),
        (
            "work per step",
            f"{flops(total['flops'])} in {count(total['operations'], 'operation')}, "
            f"for {count(total['items'], trace.item)}",
        ),
        (
            "moved per step",
            f"{bytes_(total['moved_bytes'])}; {bytes_(total['fused_moved_bytes'])} in "
            f"{count(total['fused_operations'], 'operation')} where chains of element-wise ones are joined",
        ),
        ("arithmetic intensity", f"{_intensity(trace.total())} FLOP per byte"),
        ("parameters", f"{total['parameters']:,}, {bytes_(total['parameter_bytes'])}{updates}"),
        ("inputs per step", bytes_(total["input_bytes"])),
        *saved,
        (
            "most memory at one time, parameters aside",
            f"{bytes_(total['live_bytes'])}; {bytes_(total['fused_live_bytes'])} with joined operations",
        ),
    ]


def flops(value: float) -> str:
    """Return floating-point operations as "4.92 GFLOP"."""
    return quantity(value, FLOP_UNITS) if value else "0 FLOP"


def operation_table(trace: Trace, most: int | None = None) -> Table:
    """Return the operations of one name and pass together, those with the most work first.

    Args:
        trace: of a step.
        most: how many rows; None: all.
    """
    rows = trace.by_operation()
    left = rows[most:] if most is not None else []
    caption = f"{count(len(left), 'further row')} with {_share(sum(r.share for r in left))} of the work" if left else ""
    return Table(_HEAD, [TableRow(_cells(row)) for row in rows[:most]], caption, frozenset(range(3, 8)))


def _cells(row: Row) -> list[str]:
    work = [f"{row.count:,}", flops(row.flops), _share(row.share)]
    return [row.name, row.kind, row.stage, *work, bytes_(row.bytes), _intensity(row)]


def _share(share: float) -> str:
    """Return a share of the work; of what is next to nothing, no more than that."""
    if 0 < share < _LEAST_SHARE:
        return f"under {percent(_LEAST_SHARE)}"
    return percent(share) if share else "0 %"


def _intensity(row: Row) -> str:
    return NOT_KNOWN if row.intensity is None else number(row.intensity) if row.intensity else "0"


def kind_table(trace: Trace) -> Table:
    """Return the operations of one kind together, and the whole step."""
    head = [_HEAD[1], *_HEAD[3:]]
    rows = [TableRow([row.name, *_cells(row)[3:]]) for row in (*trace.by_kind(), trace.total())]
    return Table(head, rows, figures=frozenset(range(1, 6)))


def texts(trace: Trace, roofs: Sequence[Roof]) -> dict[str, str]:
    """Return what is written to a folder, by file name.

    Args:
        trace: of a step.
        roofs: chips that the roofline picture shows.
    """
    from siderostat.reports import html, markdown

    whole = section(trace, roofs)
    versions = ", ".join(f"{name} {version}" for name, version in trace.packages.items())
    made = f"Traced with {versions} by siderostat {siderostat.__version__}. Every operation is in trace.csv."
    return {
        "trace.html": html.section_text(whole, made),
        "trace.md": markdown.section_text(whole, made),
        "trace.csv": csv_text(trace),
    }


def section(trace: Trace, roofs: Sequence[Roof]) -> Section:
    """Return the page's content."""
    return Section(
        "trace",
        title(trace),
        [
            Part("The whole step", [f"{name[0].upper()}{name[1:]}: {value}." for name, value in facts(trace)]),
            Part("Roofline", charts=_charts(trace, roofs), table=_roof_table(trace, roofs), notes=_roof_notes()),
            Part("By kind", table=kind_table(trace)),
            Part("Operations", table=operation_table(trace), notes=_notes(trace)),
        ],
        [f"One {trace.item} takes {flops(trace.totals()['flops_per_item'])}; nothing was run to know it."],
    )


def _notes(trace: Trace) -> list[str]:
    return [
        "A multiply-add counts as two operations; element-wise operations count one per element written, reductions "
        "one per element read, copies none. docs/tracing.md says how the others count.",
        "Moved: what each operation reads and writes, each tensor once, as if nothing stayed in a cache.",
        f"Most memory at one time: {plural(trace.item)} and what is made of them; what a framework or a vendor's "
        "library sets aside for itself is not known.",
    ]


def _roof_table(trace: Trace, roofs: Sequence[Roof]) -> Table:
    total = trace.total()
    head = ["Chip", "Peak, fp32", "Bandwidth", "of", "FLOP per byte at which both limit", "Least time per step"]
    rows = [
        TableRow(
            [
                roof.title, f"{flops(roof.flops_per_s)}/s", f"{bytes_(roof.bytes_per_s)}/s", roof.between,
                number(roof.ridge), f"{number(1e3 * least_s(total, roof))} ms",
            ],
            "open",
        )
        for roof in roofs
    ]  # fmt: skip
    return Table(head, rows, "by data sheet, nothing of it measured here", frozenset({1, 2, 4, 5}))


def least_s(row: Row, roof: Roof) -> float:
    """Return the time in seconds below which a chip cannot do it: at its peak, or at its bandwidth."""
    return max(row.flops / roof.flops_per_s, row.bytes / roof.bytes_per_s)


def _roof_notes() -> list[str]:
    return [
        "A roof is the smaller of the peak and of the intensity times the bandwidth (Williams, Waterman and Patterson "
        "2009). A point stands on the highest roof at its intensity, not on anything measured.",
        "Of a chip whose memory lies in its tiles the bandwidth between tiles is shown: what a tile holds itself costs "
        "none of it.",
    ]


def _charts(trace: Trace, roofs: Sequence[Roof]) -> Callable[[], Iterator[Chart]]:
    def draw() -> Iterator[Chart]:
        if roofs:
            yield _roofline(trace, roofs)

    return draw


def _roofline(trace: Trace, roofs: Sequence[Roof]) -> Chart:
    """Chart what chips can do at most over the intensity, and where the kinds of operations stand."""
    import altair as alt

    from siderostat.reports import theme
    from siderostat.reports.charts import Chart, dressed

    points = _points(trace, roofs)
    lines = list(_lines(roofs, [p["intensity"] for p in points]))
    values = [p["flops"] for p in (*points, *lines)]
    x = alt.X("intensity:Q", title="FLOP per byte", scale=alt.Scale(type="log"), axis=_axis(lines, "intensity"))
    y = alt.Y(
        "flops:Q", title="GFLOP per second, at most", axis=_axis(lines, "flops"),
        scale=alt.Scale(type="log", domain=[min(values) / 2, max(values) * 3], nice=False),
    )  # fmt: skip
    names = [roof.title for roof in roofs]
    colour = alt.Color(
        "chip:N", scale=alt.Scale(domain=names, range=list(theme.OKABE_ITO)), legend=alt.Legend(title=None, columns=2)
    )
    roof_lines = (
        alt.Chart(alt.InlineData(values=lines))
        .mark_line(strokeWidth=1.5, strokeDash=[5, 3])
        .encode(x=x, y=y, color=colour)
    )
    base = alt.Chart(alt.InlineData(values=points)).encode(x=x, y=y)
    marks = base.mark_point(size=64, fill="white", stroke=theme.INK, strokeWidth=1.6)
    labels = base.mark_text(align="right", baseline="bottom", dx=-4, dy=-5, color=theme.INK, fontSize=11).encode(
        text="label:N"
    )
    caption = (
        "Dashed: the roofs of chips by their data sheets, fp32. Points: kinds of operations and the whole step, on the "
        "highest roof at their intensity. Modelled, not measured."
    )
    return Chart("roofline", "Roofline", caption, dressed(roof_lines + marks + labels))


def _axis(lines: Sequence[dict[str, Any]], name: str) -> alt.Axis:
    """Return an axis with a tick at each power of ten."""
    import altair as alt

    ends = [line[name] for line in lines]
    powers = range(math.floor(math.log10(min(ends))), math.ceil(math.log10(max(ends))) + 1)
    return alt.Axis(values=[10.0**power for power in powers], format=",~g")


def _points(trace: Trace, roofs: Sequence[Roof]) -> list[dict[str, Any]]:
    """Return the kinds that compute, and the whole step, on the highest roof; GFLOP per second."""
    points: list[dict[str, Any]] = [
        {"name": row.name, "label": row.name, "intensity": row.intensity, "flops": _highest(row.intensity, roofs)}
        for row in (*trace.by_kind(), trace.total())
        if row.intensity
    ]
    points.sort(key=lambda point: point["intensity"])
    for before, point in itertools.pairwise(points):  # labels that would lie over each other are put together
        if point["intensity"] < _APART * before["intensity"]:
            point["label"], before["label"] = f"{before['label']}, {point['label']}", ""
    return points


def _highest(intensity: float, roofs: Sequence[Roof]) -> float:
    return max(min(roof.flops_per_s, intensity * roof.bytes_per_s) for roof in roofs) / 1e9


def _lines(roofs: Sequence[Roof], intensities: Sequence[float]) -> Iterator[dict[str, Any]]:
    """Yield the ends and the bend of each chip's roof; GFLOP per second."""
    low = min([*intensities, *(roof.ridge for roof in roofs)]) / 3
    high = max([*intensities, *(roof.ridge for roof in roofs)]) * 3
    for roof in roofs:
        for intensity in (low, roof.ridge, high):
            reached = min(roof.flops_per_s, intensity * roof.bytes_per_s) / 1e9
            yield {"chip": roof.title, "intensity": intensity, "flops": reached}


def csv_text(trace: Trace) -> str:
    """Return every operation in order, one a row; shapes as ``float32[8x6x64x64]``, several separated by blanks."""
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for place, op in enumerate(trace.graph.ops):
        shapes = [
            " ".join(f"{t.dtype}[{'x'.join(map(str, t.shape))}]" for t in side) for side in (op.inputs, op.outputs)
        ]
        attributes = "; ".join(f"{key}={_plain(value)}" for key, value in op.attributes.items())
        head = [place, op.phase, op.stage, op.name, op.kind, op.flops, op.bytes_read, op.bytes_written]
        writer.writerow([*head, *shapes, attributes])
    return file.getvalue()


def _plain(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
