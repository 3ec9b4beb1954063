"""Curves of many runs: time per work unit of each case over the runs, with the changes of its level."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import siderostat
from siderostat.history import LEAST_RUNS, Change, Point, Series
from siderostat.reports.labels import TIME_UNITS, count, scale, seconds
from siderostat.reports.section import Part, Section
from siderostat.reports.tables import Table, TableRow
from siderostat.stats import Estimate

if TYPE_CHECKING:
    from siderostat.reports.charts import Chart

_SHORT = 10  # digits of a commit
_ROW_HEIGHT = 170


def lines(held: Sequence[Series]) -> Iterator[str]:
    """Yield one line for each change of a level, the same for scripts for ever: ``key=value`` pairs."""
    for one in held:
        for change in one.changes:
            last, first = one.points[change.at - 1], one.points[change.at]
            assert change.times.low is not None and change.times.high is not None
            yield (
                f"history: series={json.dumps(one.name)} machine={json.dumps(one.machine)} "
                f"change={change.times.value - 1:+.4f} low={change.times.low - 1:+.4f} "
                f"high={change.times.high - 1:+.4f} after={json.dumps(last.run)} from={json.dumps(first.run)}"
            )


def headlines(held: Sequence[Series]) -> list[str]:
    """Return the sentences that matter."""
    changed = [one for one in held if one.changes]
    long_enough = [one for one in held if len(one.points) >= 2 * LEAST_RUNS]
    found = [
        f"{len(held)} series over {count(len({p.run for one in held for p in one.points}), 'run')}; the level of "
        f"{len(changed)} changed."
    ]
    if len(long_enough) < len(held):
        found.append(
            f"{len(held) - len(long_enough)} series have fewer than {2 * LEAST_RUNS} runs: too few to look for a "
            "change."
        )
    return found + [_told(one, change) for one in changed for change in one.changes]


def section(held: Sequence[Series]) -> Section:
    """Return the page."""
    parts = [Part("Changes", headlines(held), table=_table(held), notes=_notes())]
    parts += [Part(f"{one.name}, {one.machine}", charts=_drawer(one)) for one in held]
    return Section("history", "Times over many runs", parts)


def texts(held: Sequence[Series]) -> dict[str, str]:
    """Return what is written to a folder, by file name."""
    from siderostat.reports import html, markdown

    whole = section(held)
    made = f"Made by siderostat {siderostat.__version__}."
    return {"history.html": html.section_text(whole, made), "history.md": markdown.section_text(whole, made)}


def to_json(held: Sequence[Series]) -> str:
    """Return all series as data; times in seconds per item."""
    return json.dumps({"series": [_datum(one) for one in held]}, indent=1)


def _told(one: Series, change: Change) -> str:
    before, after = one.points[change.at - 1], one.points[change.at]
    word = "longer" if change.times.value > 1 else "less long"
    return f"{one.name}, {one.machine}: {_percent(change.times)} {word} from {_of(after)} on (before: {_of(before)})."


def _percent(times: Estimate) -> str:
    """Return the size of a change with its interval: "12.0 % (8.1 % to 15.2 %)"."""
    assert times.low is not None and times.high is not None
    value, *ends = (abs(x - 1) * 100 for x in (times.value, times.low, times.high))
    return f"{value:.1f} % ({min(ends):.1f} % to {max(ends):.1f} %)"


def _of(point: Point) -> str:
    return f"{point.run}" + (f", {point.commit[:_SHORT]}" if point.commit else "")


def _table(held: Sequence[Series]) -> Table | None:
    rows = [
        TableRow([
            one.name, one.machine, _of(one.points[change.at - 1]), _of(one.points[change.at]),
            f"{(change.times.value - 1) * 100:+.1f} %", seconds(one.points[-1].time.value),
        ])
        for one in held for change in one.changes
    ]  # fmt: skip
    head = ["Series", "Machine", "Last of the old level", "First of the new level", "Change of the time", "Latest"]
    return Table(head, rows, "", frozenset({4, 5})) if rows else None


def _notes() -> list[str]:
    return [
        "Runs are made one after the other: a machine that changed looks like a change of the code. Runs of different "
        "machines are different series.",
        f"A level has at least {LEAST_RUNS} runs; a change is told where the 99 % interval of the new time over the "
        "old leaves out 1 and the change is above 1 %.",
    ]


def _drawer(one: Series) -> Any:
    return lambda: _charts(one)


def _charts(one: Series) -> Iterator[Chart]:
    """Yield the times of a series with their intervals, the means of its levels and where they change."""
    import altair as alt

    from siderostat.reports import theme
    from siderostat.reports.charts import Chart

    unit, size = scale(max(point.time.value for point in one.points), TIME_UNITS)
    points = [_mark(i, point, size) for i, point in enumerate(one.points)]
    title = f"{unit} per {one.item or 'item'}"
    x = alt.X("number:Q", title="Run, in the order of making", axis=alt.Axis(tickMinStep=1, format="d"))
    y = alt.Y("time:Q", title=title, scale=alt.Scale(zero=False))
    base = alt.Chart(alt.InlineData(values=points)).encode(x=x)
    bars = base.mark_rule(color=theme.OKABE_ITO[0], opacity=0.6).encode(y=alt.Y("low:Q", title=title), y2="high:Q")
    tooltip = [alt.Tooltip(f"{name}:N") for name in ("run", "made_at", "commit")]
    dots = base.mark_point(filled=True, size=40, color=theme.OKABE_ITO[0]).encode(y=y, tooltip=tooltip)
    layers = [bars, dots, *_levels(one, size, title)]
    for change in one.changes:
        at = alt.Chart(alt.InlineData(values=[{"number": change.at - 0.5}]))
        layers.append(at.mark_rule(color=theme.OKABE_ITO[1], strokeDash=[4, 3]).encode(x="number:Q"))
    chart = alt.layer(*layers).properties(width=2 * theme.WIDTH, height=_ROW_HEIGHT)
    kinds = sorted({point.provenance for point in one.points})
    caption = f"Bars: 95 % intervals over processes. Dashed: changes of the level. Times are {', '.join(kinds)}."
    yield Chart("history", one.name, caption, {**chart.to_dict(), "config": theme.CONFIG})


def _levels(one: Series, size: float, title: str) -> Iterator[Any]:
    import altair as alt

    from siderostat.reports import theme

    edges = [0, *(change.at for change in one.changes), len(one.points)]
    for first, last in zip(edges, edges[1:], strict=False):
        mean = sum(point.time.value for point in one.points[first:last]) / (last - first) / size
        ends = [{"number": first - 0.4, "time": mean}, {"number": last - 0.6, "time": mean}]
        line = alt.Chart(alt.InlineData(values=ends)).mark_line(color=theme.MUTED, strokeWidth=1)
        yield line.encode(x="number:Q", y=alt.Y("time:Q", title=title))


def _mark(number_of: int, point: Point, size: float) -> dict[str, Any]:
    return {
        "number": number_of,
        "time": point.time.value / size,
        "low": None if point.time.low is None else point.time.low / size,
        "high": None if point.time.high is None else point.time.high / size,
        "run": point.run,
        "made_at": point.made_at,
        "commit": point.commit[:_SHORT],
    }


def _datum(one: Series) -> dict[str, Any]:
    return {
        "series": one.name,
        "key": one.cell.key(),
        "machine": one.machine,
        "points": [
            {
                "run": p.run, "made_at": p.made_at, "commit": p.commit or None, "seconds_per_item": p.time.value,
                "low": p.time.low, "high": p.time.high, "provenance": p.provenance,
            }
            for p in one.points
        ],
        "changes": [
            {"at": c.at, "times": c.times.value, "low": c.times.low, "high": c.times.high} for c in one.changes
        ],
    }  # fmt: skip
