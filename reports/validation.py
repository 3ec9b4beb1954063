"""A simulated device against a measured one, as tables, a picture, a page, Markdown and CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import siderostat
from siderostat.reports.labels import count, interval, percent, set_title
from siderostat.reports.section import Part, Section
from siderostat.reports.tables import Table, TableRow
from siderostat.stats import Estimate
from siderostat.validation import AIM_COVERAGE, AIM_ERROR, Point, Summary, Validation, described, row

if TYPE_CHECKING:
    from siderostat.reports.charts import Chart

_MS = 1e-3
_WIDE = 100.0  # ratio of largest to smallest time from which ticks stand at powers of ten
_HEAD = ["Case", "Batch", "Precision", "Measured, ms per item", "Modelled, ms per item", "Error", "Band", "Notes"]


def headlines(of: Validation) -> list[str]:
    """Return the verdict in sentences."""
    all_ = of.overall()
    met = "met" if all_.reaches_aim else "not met"
    aim = f"The aim is an error under {_whole(AIM_ERROR)} and {_whole(AIM_COVERAGE)} in the 95 % band: {met}."
    noisy = sum(bool({"noisy", "contended"} & set(point.flags)) for point in of.points)
    lines = [
        f"{of.simulated} against {of.hardware} ({of.device}), {count(all_.n, 'case')}: median error "
        f"{percent(all_.median_abs_error)}; {_whole(all_.share_95)} of the cases lie in the model's 95 % "
        f"band, {_whole(all_.share_68)} in its 68 % band. {aim}",
    ]
    if noisy:
        lines.append(f"Other work disturbed the measurement of {count(noisy, 'case')}: the error is partly theirs.")
    if of.unchecked:
        lines.append(f"Figures of the chip that nobody compared with a source: {', '.join(of.unchecked)}.")
    return lines


def case_table(of: Validation) -> Table:
    """Return every case: measured, modelled with the 95 % band, error."""
    telling = _telling_options(of.points)
    rows = [TableRow(_cells(point, telling), "open") for point in of.points]
    return Table(_HEAD, rows, _CAPTION, frozenset({1, 3, 4, 5}))


def _telling_options(points: Sequence[Point]) -> set[tuple[str, str]]:
    """Return the workloads' options that are not the same in all cases."""
    values: dict[tuple[str, str], set[str]] = {}
    for point in points:
        for name, value in point.cell.options.items():
            values.setdefault((point.cell.workload, name), set()).add(str(value))
    return {option for option, found in values.items() if len(found) > 1}


_CAPTION = (
    "modelled: the median with the model's 95 % band; error: modelled over measured time, minus 1; band: the narrowest "
    "that holds what was measured"
)


def _cells(point: Point, telling: set[tuple[str, str]]) -> list[str]:
    cell = point.cell
    held = [(name, value) for name, value in sorted(cell.options.items()) if (cell.workload, name) in telling]
    options = "".join(f", {name}={value}" for name, value in held)
    return [
        f"{set_title((cell.workload, cell.variant, cell.mode))}, size {cell.size}{options}",
        f"{cell.batch:,}",
        cell.precision,
        interval(point.measured, _MS, say_none=False),
        interval(_estimate(point), _MS),
        signed(point.error),
        "68 %" if point.is_in_68 else "95 %" if point.is_in_95 else "outside",
        ", ".join(point.flags),
    ]


def _estimate(point: Point) -> Estimate:
    return Estimate(point.modelled_s, point.band["p2_5"], point.band["p97_5"], 1)


def signed(share: float) -> str:
    """Return an error as "+12.3 %"."""
    return f"{'+' if share >= 0 else '-'}{percent(abs(share))}" if share else "0 %"


def summary_table(of: Validation) -> Table:
    """Return how well the model does on each workload and on all."""
    head = ["Workload", "Cases", "Median error", "Leaning", "In the 68 % band", "In the 95 % band"]
    each = of.by_workload()
    rows = [*each, of.overall()] if len(each) > 1 else each
    caption = "median error: of errors without their sign; leaning: the median with it"
    return Table(head, [TableRow(_summed(one), "open") for one in rows], caption, frozenset(range(1, 6)))


def _summed(one: Summary) -> list[str]:
    errors = [percent(one.median_abs_error), signed(one.median_error)]
    return [_titled(one.name), str(one.n), *errors, _whole(one.share_68), _whole(one.share_95)]


def _titled(workload: str) -> str:
    return set_title((workload, "", ""))


def _whole(share: float) -> str:
    return f"{100 * share:.0f} %"


def left_out_table(of: Validation) -> Table | None:
    """Return the cases that have no figure on one of the sides; None where there are none."""
    if not of.left_out:
        return None
    return Table(["Case", "Why"], [TableRow([described(one.cell), one.reason], "failed") for one in of.left_out])


def texts(of: Validation) -> dict[str, str]:
    """Return what is written to a folder, by file name."""
    from siderostat.reports import html, markdown

    whole = section(of)
    files = ", ".join(f"{name} ({digest})" for name, digest in of.sources.items())
    made = (
        f"Measured in {of.run}; modelled by siderostat {siderostat.__version__} from {files}. "
        "Every case is in validation.csv."
    )
    return {
        "validation.html": html.section_text(whole, made),
        "validation.md": markdown.section_text(whole, made),
        "validation.csv": csv_text(of),
    }


def section(of: Validation) -> Section:
    """Return the page's content."""
    left = left_out_table(of)
    return Section(
        "validation",
        f"{of.simulated} against {of.device}",
        [
            Part("How well it does", headlines(of), lambda: _charts(of), summary_table(of), _notes()),
            Part("Cases", table=case_table(of)),
            *([Part("Left out", table=left)] if left else []),
        ],
    )


def _notes() -> list[str]:
    return [
        "Nothing was fitted on these cases. Times are per item, at the steady state; the measured one holds the host's "
        "inputs, the modelled one does not unless the device says host=published.",
        "A band holds what is not known of the chip and the model. That of one case and that of the next lean the same "
        "way, so that coverage over few cases says little.",
    ]


def _charts(of: Validation) -> Iterator[Chart]:
    """Yield modelled over measured time with the line on which both are equal."""
    import altair as alt

    from siderostat.reports import theme
    from siderostat.reports.charts import Chart, dressed

    points = [_datum(point) for point in of.points]
    ends = _ends(points)
    axis = alt.Axis(values=_ticks(*ends), format=",~r")
    scale = alt.Scale(type="log", domain=ends, nice=False)
    x = alt.X("measured:Q", title="Measured, ms per item", scale=scale, axis=axis)
    y = alt.Y("modelled:Q", title="Modelled, ms per item", scale=scale, axis=axis)
    names = list(dict.fromkeys(point["series"] for point in points))
    colours = [theme.OKABE_ITO[i % len(theme.OKABE_ITO)] for i in range(len(names))]
    stroke = alt.Stroke(
        "series:N", scale=alt.Scale(domain=names, range=colours), legend=alt.Legend(title=None, columns=2)
    )
    base = alt.Chart(alt.InlineData(values=points)).encode(x=x, stroke=stroke)
    bars = base.mark_rule(strokeWidth=1.6, opacity=0.7).encode(
        y=alt.Y("low:Q", title="Modelled, ms per item", scale=scale, axis=axis), y2="high:Q"
    )
    marks = base.mark_point(size=58, strokeWidth=1.7, opacity=1, fill="white").encode(y=y)
    equal = (
        alt.Chart(alt.InlineData(values=[{"measured": end, "modelled": end} for end in ends]))
        .mark_line(color=theme.MUTED, strokeDash=[4, 4], strokeWidth=1.2)
        .encode(x=x, y=y)
    )
    caption = "Open marks: modelled. Bars: the model's 95 % band. Dashed: modelled as measured."
    yield Chart("validation", "Modelled against measured", caption, dressed(equal + bars + marks))


def _datum(point: Point) -> dict[str, Any]:
    cell = point.cell
    return {
        "series": set_title((cell.workload, cell.variant, cell.mode)),
        "measured": point.measured.value / _MS,
        "modelled": point.modelled_s / _MS,
        "low": point.band["p2_5"] / _MS,
        "high": point.band["p97_5"] / _MS,
    }


def _ends(points: Sequence[dict[str, Any]]) -> list[float]:
    values = [point[name] for point in points for name in ("measured", "modelled", "low", "high")]
    return [min(values) / 1.3, max(values) * 1.3]


def _ticks(low: float, high: float) -> list[float]:
    """Return ticks at 1, 2, 5, or at powers of ten alone where the times span much."""
    from siderostat.reports import theme

    if high / low < _WIDE:
        return theme.ticks_125(low, high)
    return [10.0**power for power in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)]


def csv_text(of: Validation) -> str:
    """Return every case as a row; those left out have a reason and no figures."""
    rows = [row(point) for point in of.points]
    file = io.StringIO(newline="")
    names = [*dict.fromkeys(name for one in rows for name in one), "left_out"]
    writer = csv.DictWriter(file, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    for one in of.left_out:
        known = {name: value for name, value in vars(one.cell).items() if name in names and name != "options"}
        options = "; ".join(f"{name}={value}" for name, value in sorted(one.cell.options.items()))
        writer.writerow({**known, "options": options, "left_out": one.reason})
    return file.getvalue()
