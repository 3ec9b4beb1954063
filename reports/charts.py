"""Charts of one workload, variant and mode: throughput, time beside published times, peak memory, quality.

A chart is a Vega-Lite description; :func:`svg` draws it. Measured points are filled, modelled, estimated and emulated
ones open, published ones grey diamonds and triangles on dashed lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from siderostat.reports import theme
from siderostat.reports.glossary import OPEN
from siderostat.reports.labels import BYTE_UNITS, capital, count, scale, series, spread
from siderostat.reports.published import PROVENANCE, Curve
from siderostat.reports.quality import Learned, words
from siderostat.reports.rows import Row
from siderostat.stats import Estimate
from siderostat.words import plural

SHAPES = {"measured": "circle", "modelled": "circle", "estimated": "triangle-up", "emulated": "square"}
PUBLISHED_SHAPES = ("diamond", "triangle-down")


@dataclass(frozen=True)
class Chart:
    """A chart and what stands beside it.

    Attributes:
        name: ``throughput``, ``published``, ``memory``, ``predicted_...`` or ``learning``.
        title: heading in words.
        caption: what the marks mean and what is missing.
        spec: Vega-Lite description.
    """

    name: str
    title: str
    caption: str
    spec: dict[str, Any]


def charts(table: Sequence[Row], curves: Sequence[Curve]) -> Iterator[Chart]:
    """Yield the charts of the rows of one workload, variant and mode; none where nothing was measured."""
    timed = [r for r in table if r.time is not None]
    if not timed:
        return
    names = dict(zip(map(id, timed), series(timed), strict=True))
    missing = _missing(table)
    yield _throughput(timed, names, missing)
    if curves:
        yield _published(timed, names, curves, missing)
    with_memory = [r for r in timed if r.peak_bytes is not None]
    if with_memory:
        yield _memory(with_memory, names)


def quality_charts(of: Learned) -> Iterator[Chart]:
    """Yield what the model says against what is true and, where it was looked at while it learned, how it learned."""
    pairs, item = of.qualities[0].pairs, of.records[0].item or "item"
    shapes: dict[str, Sequence[Sequence[float]]] = {n: pairs[n] for n in ("e1", "e2") if n in pairs}
    if shapes:
        yield _predictions("ellipticity", "ellipticity component", shapes, item)
    for name in pairs:
        if name not in shapes:
            yield _predictions(name, name, {name: pairs[name]}, item)
    if any(len(q.looks) > 1 for q in of.qualities):
        yield _learning(of)


def _predictions(name: str, title: str, pairs: Mapping[str, Sequence[Sequence[float]]], item: str) -> Chart:
    """Chart predicted over true values, with the line on which they would be equal; ``item`` is the work unit."""
    points: list[dict[str, Any]] = [
        {"series": series_name, "true": true, "predicted": predicted}
        for series_name, (all_true, all_predicted) in pairs.items()
        for true, predicted in zip(all_true, all_predicted, strict=True)
    ]
    ends = [min(p["true"] for p in points), max(p["true"] for p in points)]
    colours = alt.Scale(domain=list(pairs), range=list(theme.OKABE_ITO[: len(pairs)]))
    marks = (
        alt.Chart(alt.InlineData(values=points))
        .mark_circle(size=16, opacity=0.55)
        .encode(
            x=alt.X("true:Q", title=f"True {title}"),
            y=alt.Y("predicted:Q", title=f"Predicted {title}"),
            color=alt.Color("series:N", scale=colours, legend=alt.Legend(title=None) if len(pairs) > 1 else None),
        )
    )
    line = (
        alt.Chart(alt.InlineData(values=[{"true": x, "predicted": x} for x in ends]))
        .mark_line(color=theme.MUTED, strokeDash=[4, 4], strokeWidth=1.2)
        .encode(x="true:Q", y="predicted:Q")
    )
    n = count(len(next(iter(pairs.values()))[0]), item)
    caption = f"{capital(n)} that the model was not trained on; dashed: predicted as it is."
    return Chart(f"predicted_{name}", f"Predicted against true {name}", caption, dressed(marks + line))


def _learning(of: Learned) -> Chart:
    """Chart the figure that decides over the time of training, a line for each process."""
    figure, target = of.qualities[0].figure, of.qualities[0].target
    points: list[dict[str, Any]] = [
        {"series": f"process {i}", "seconds": look.seconds, "value": look.figures[figure]}
        for i, quality in enumerate(of.qualities, start=1)
        for look in quality.looks
    ]
    lines = (
        alt.Chart(alt.InlineData(values=points))
        .mark_line(point=True, strokeWidth=1.4)
        .encode(
            x=alt.X("seconds:Q", title="Training (s)"),
            y=alt.Y("value:Q", title=words(figure), scale=alt.Scale(zero=False)),
            color=alt.Color(
                "series:N",
                scale=alt.Scale(domain=list(dict.fromkeys(p["series"] for p in points)), range=list(theme.OKABE_ITO)),
                legend=alt.Legend(title=None),
            ),
        )
    )
    goal = (
        alt.Chart(alt.InlineData(values=[{"value": target}]))
        .mark_rule(color=theme.MUTED, strokeDash=[4, 4])
        .encode(y="value:Q")
    )
    caption = (
        f"Dashed: the target of {target:g}. Looking at the model, building, compiling and the first step left out."
    )
    return Chart("learning", f"{capital(words(figure))} while training", caption, dressed(lines + goal))


def svg(chart: Chart, prefix: str) -> str:
    """Draw a chart as an ``<svg>`` element to stand within a page.

    Args:
        chart: what to draw.
        prefix: put before the element's ids, which must differ from those of other charts on the page.
    """
    import vl_convert

    text: str = vl_convert.vegalite_to_svg(_drawable(chart.spec))
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text)
    return re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{prefix}-", text)


def _drawable(value: Any) -> Any:
    """Return a description without the control characters that some texts hold: what draws it ends at them."""
    if isinstance(value, str):
        return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in value)
    if isinstance(value, Mapping):
        return {_drawable(key): _drawable(held) for key, held in value.items()}
    return [_drawable(held) for held in value] if isinstance(value, (list, tuple)) else value


def _throughput(timed: Sequence[Row], names: dict[int, str], missing: str) -> Chart:
    """Chart items per second over batch size."""
    items = plural(timed[0].item or "item")
    points = [point(names[id(r)], r.provenance, r.batch, rate) for r in timed if (rate := r.rate) is not None]
    title = f"{capital(items)} per second"
    return Chart("throughput", "Throughput", f"{_intervals(timed)}{missing}", over_batch(points, title))


def _published(timed: Sequence[Row], names: dict[int, str], curves: Sequence[Curve], missing: str) -> Chart:
    """Chart the time for the published task over batch size, measured and published."""
    task = curves[0].task
    points = [
        point(names[id(r)], r.provenance, r.batch, time.times(curves[0].items_at(r.batch)))
        for r in timed
        if (time := r.time) is not None
    ]
    for curve in curves:
        for batch, seconds in zip(curve.batches, curve.seconds, strict=True):
            points.append(point(curve.label, PROVENANCE, batch, _alone(seconds)))
    caption = (
        f"Time for {task}, at the steady time per image measured here; building, compiling and the first step are left "
        f"out. Grey, dashed: published, see the caveats. {_intervals(timed)}{missing}"
    )
    return Chart("published", f"Time for {task}", caption, over_batch(points, f"Seconds for {task}", log=True))


def _memory(known: Sequence[Row], names: dict[int, str]) -> Chart:
    """Chart peak memory over batch size."""
    peaks = [(r, float(r.peak_bytes or 0)) for r in known]
    name, unit = scale(max(b for _, b in peaks), BYTE_UNITS)
    points = [point(names[id(r)], r.provenance, r.batch, _alone(b / unit)) for r, b in peaks]
    spec = over_batch(points, f"Peak memory ({name})")
    return Chart("memory", "Peak memory", "Largest over the processes of a case.", spec)


def point(name: str, provenance: str | None, batch: int, figure: Estimate) -> dict[str, Any]:
    """Return one datum of :func:`over_batch`."""
    ends = {"low": figure.low, "high": figure.high}
    return {"series": name, "provenance": provenance, "batch": batch, "value": figure.value, **ends}


def _alone(value: float) -> Estimate:
    """Return a figure that has no interval."""
    return Estimate(value, None, None, 1)


def _value_axis(points: Sequence[dict[str, Any]], title: str, log: bool, ratios: bool) -> alt.Y:
    """Return an axis from 0; a logarithmic one with ticks at 1, 2, 5 where asked for or where values span much."""
    ends = [x for p in points for x in (p["value"], p["low"], p["high"]) if x is not None]
    if not log and not ratios and not theme.is_log(ends, theme.LOG_VALUE):
        return alt.Y("value:Q", title=title, scale=alt.Scale(zero=True))
    ticks = theme.ratio_ticks(min(ends), max(ends)) if ratios else theme.ticks_125(min(ends), max(ends))
    bounds = alt.Scale(type="log", domain=[ticks[0], ticks[-1]], nice=False)
    return alt.Y("value:Q", title=title, scale=bounds, axis=alt.Axis(values=ticks, format=",~r"))


def over_batch(points: list[dict[str, Any]], title: str, log: bool = False, ratios: bool = False) -> dict[str, Any]:
    """Return lines, interval bars and points over batch size.

    Args:
        points: from :func:`point`.
        title: of the axis of values.
        log: whether that axis is logarithmic even where the values span little.
        ratios: whether the values are ratios: a logarithmic axis with a line at 1.
    """
    look = _looks(points)
    domain = list(look)
    batches = sorted({p["batch"] for p in points})
    x = alt.X(
        "batch:Q",
        title="Batch size",
        scale=alt.Scale(**theme.batch_scale(batches)),
        axis=alt.Axis(values=batches, format="d", labelOverlap=True),
    )

    def by_series(values: list[Any]) -> alt.Scale:
        return alt.Scale(domain=domain, range=values)

    legend = alt.Legend(title=None, columns=1)
    stroke = alt.Stroke("series:N", scale=by_series([v["colour"] for v in look.values()]), legend=legend)
    fill = alt.Fill("series:N", scale=by_series([v["fill"] for v in look.values()]), legend=legend)
    shape = alt.Shape("series:N", scale=by_series([v["shape"] for v in look.values()]), legend=legend)
    dash = alt.StrokeDash("series:N", scale=by_series([v["dash"] for v in look.values()]), legend=None)
    base = alt.Chart(alt.InlineData(values=points)).encode(x=x, y=_value_axis(points, title, log, ratios))
    lines = base.mark_line(strokeWidth=1.4, opacity=0.6).encode(stroke=stroke, strokeDash=dash)
    bars = (
        base.transform_filter("isValid(datum.low)")
        .mark_rule(strokeWidth=2.2)
        .encode(y=alt.Y("low:Q", title=title), y2="high:Q", stroke=stroke)
    )
    marks = base.mark_point(size=58, strokeWidth=1.7, opacity=1).encode(stroke=stroke, fill=fill, shape=shape)
    return dressed(lines + bars + marks + _line_at_one(title) if ratios else lines + bars + marks)


def _line_at_one(title: str) -> alt.Chart:
    """Return the line on which both sides are equally fast."""
    line = alt.Chart(alt.InlineData(values=[{"value": 1.0}])).mark_rule(color=theme.MUTED, strokeDash=[4, 4])
    placed: alt.Chart = line.encode(y=alt.Y("value:Q", title=title))
    return placed


def dressed(chart: alt.LayerChart | alt.FacetChart) -> dict[str, Any]:
    """Return a chart's description in the size and look of all of them."""
    spec: dict[str, Any] = chart.properties(width=theme.WIDTH, height=theme.HEIGHT).to_dict()
    spec["config"] = theme.CONFIG
    return spec


def _looks(points: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return colour, fill, shape and dash of every series, in order of first appearance."""
    look: dict[str, dict[str, Any]] = {}
    ours = published = 0
    for p in points:
        name, provenance = p["series"], p["provenance"]
        if name in look:
            continue
        if provenance == PROVENANCE:
            colour = theme.PUBLISHED_GREYS[published % len(theme.PUBLISHED_GREYS)]
            shape = PUBLISHED_SHAPES[published % len(PUBLISHED_SHAPES)]
            look[name] = {"colour": colour, "fill": colour, "shape": shape, "dash": [5, 4]}
            published += 1
            continue
        colour = theme.OKABE_ITO[ours % len(theme.OKABE_ITO)]
        fill = "white" if provenance in OPEN else colour
        look[name] = {"colour": colour, "fill": fill, "shape": SHAPES.get(provenance, "cross"), "dash": [1, 0]}
        ours += 1
    return look


def _intervals(timed: Sequence[Row]) -> str:
    """Say what the bars are, and where there are none."""
    bands = "Bars of modelled points: the model's 95 % band. " if any(r.is_band for r in timed) else ""
    ours = [r for r in timed if not r.is_band]
    single = sum(r.n_processes < 2 for r in ours)
    if single == len(ours):
        return bands + ("No intervals: one process per case." if ours else "")
    n = spread(r.n_processes for r in ours if r.n_processes > 1)
    text = f"Bars: 95 % intervals over {n} processes; where none is to be seen it is smaller than the mark. {bands}"
    return text + (f"{count(single, 'case')} of one process: no interval." if single else "")


def _missing(table: Sequence[Row]) -> str:
    """Say which batch sizes have no figure, and why."""
    gone = [r for r in table if r.time is None]
    if not gone:
        return ""
    return (
        " No figure at "
        + ", ".join(f"batch {r.batch} on {r.device}{r.run and f', run {r.run}'} ({r.status})" for r in gone)
        + "."
    )
