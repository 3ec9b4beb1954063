"""The charts of a reproduction: bands of the model, what was published as grey marks, lines of equal speed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import altair as alt

from siderostat.reports import theme
from siderostat.reports.charts import Chart, dressed
from siderostat.reproduce import published
from siderostat.reproduce.arcelin2021 import DEVICES, FITTED, NETWORKS, RATIO, TITLES, Point, Reproduction

_COLOURS: dict[str, str] = dict(zip((*DEVICES, RATIO), theme.OKABE_ITO, strict=False))
_BANDS = (("p2_5", "p97_5", 0.14), ("p16", "p84", 0.26))
_LOG_IMAGES = alt.Scale(type="log", domain=[0.8, 7000])
_NUMBERS = {"dnn": "2", "bnn": "3"}


def time_charts(of: Reproduction) -> Iterator[Chart]:
    """Yield the time for 100 epochs over batch size, a chart for each network."""
    for network in NETWORKS:
        points = [p for device in DEVICES for p in of.of(network, device)]
        caption = (
            f"Open circles and bands: the model, 68 and 95 %. Grey: published. {_role(points[0])} "
            "Building, compiling and the first ten epochs are left out."
        )
        title = f"Figure {_NUMBERS[network]}: {TITLES[network]}, time for 100 epochs"
        yield Chart(f"times_{network}", title, caption, _chart(points, "Seconds for 100 epochs", is_log=True))


def ratio_charts(of: Reproduction) -> Iterator[Chart]:
    """Yield time on the V100 over time on the GC2, a chart for each network."""
    for network in NETWORKS:
        points = of.of(network, RATIO)
        caption = (
            f"Above the line R = 1 the GC2 is the faster one. Bands: 68 and 95 %. Grey: published. {_role(points[0])}"
        )
        title = f"{TITLES[network]}, V100 over GC2"
        yield Chart(f"ratio_{network}", title, caption, _chart(points, "Ratio of times", is_log=False))


def sampling_chart(of: Reproduction) -> Iterator[Chart]:
    """Yield figure 4: the published curves, the model of the chip where the batch fits, lines through the curves."""
    seen: list[dict[str, Any]] = []
    for row in published.sampling():
        for device, seconds in zip(DEVICES, (row.gpu_s, row.ipu_s), strict=True):
            seen.append({"series": f"{TITLES[device]} (published)", "images": row.images, "seconds": seconds})
    lines = [
        {"series": f"{TITLES[line.device]} (published)", "images": n, "seconds": line.fixed_s + n * line.per_image_s}
        for line in of.lines
        for n in (1, 10, 30, 100, 200, 500, 1000, 2000, 5000)
    ]
    ours = [
        {"series": "GC2, compiled (modelled)", "images": s.images, "seconds": s.seconds["p50"],
         "low": s.seconds["p2_5"], "high": s.seconds["p97_5"]}
        for s in of.sampled if s.fit_probability >= 0.5
    ]  # fmt: skip
    names = [*dict.fromkeys(p["series"] for p in seen), "GC2, compiled (modelled)"]
    scale = alt.Scale(domain=names, range=[*theme.PUBLISHED_GREYS, theme.OKABE_ITO[1]])
    colour = alt.Color("series:N", scale=scale, legend=alt.Legend(title=None))
    x = alt.X("images:Q", title="Images", scale=_LOG_IMAGES, axis=alt.Axis(values=[1, 10, 100, 1000], format=",d"))
    ticks = [0.001, 0.01, 0.1, 1, 10]
    log_s, in_s = alt.Scale(type="log", domain=[ticks[0], ticks[-1]]), alt.Axis(values=ticks, format="~r")
    y = alt.Y("seconds:Q", title="Seconds", scale=log_s, axis=in_s)
    marks = alt.Chart(alt.InlineData(values=seen)).mark_point(size=58, filled=True, shape="diamond", opacity=1)
    fits = alt.Chart(alt.InlineData(values=lines)).mark_line(strokeDash=[5, 4], strokeWidth=1.3)
    band = alt.Chart(alt.InlineData(values=ours)).mark_area(opacity=0.2, color=theme.OKABE_ITO[1])
    curve = alt.Chart(alt.InlineData(values=ours)).mark_point(size=58, strokeWidth=1.7)
    layers = (
        band.encode(x=x, y=alt.Y("low:Q", title="Seconds", scale=log_s, axis=in_s), y2="high:Q")
        + fits.encode(x=x, y=y, color=colour)
        + marks.encode(x=x, y=y, color=colour)
        + curve.encode(x=x, y=y, color=colour)
    )
    caption = "Dashed: straight lines through the published points. The model is shown where the batch fits the chip."
    yield Chart("sampling", "Figure 4: sampling", caption, dressed(layers))


def _role(point: Point) -> str:
    if point.role == FITTED:
        return "The model was fitted on this network's times."
    return "Held out: nothing was fitted on this network's times."


def _chart(points: list[Point], title: str, is_log: bool) -> dict[str, Any]:
    values = [_datum(p) for p in points]
    series = list(dict.fromkeys(v["series"] for v in values))
    colours = alt.Scale(domain=series, range=[_COLOURS[s] for s in dict.fromkeys(p.series for p in points)])
    batches = sorted({p.batch for p in points})
    x = alt.X(
        "batch:Q",
        title="Batch size",
        scale=alt.Scale(**theme.batch_scale(batches)),
        axis=alt.Axis(values=batches, format="d"),
    )
    colour = alt.Color("series:N", scale=colours, legend=alt.Legend(title=None))
    y_scale = _scale(points, is_log)
    base = alt.Chart(alt.InlineData(values=values)).encode(x=x)
    layers = [
        base.mark_area(opacity=opacity).encode(
            y=alt.Y(f"{low}:Q", title=title, scale=y_scale["scale"], axis=y_scale["axis"]), y2=f"{high}:Q", color=colour
        )
        for low, high, opacity in _BANDS
    ]
    y = alt.Y("modelled:Q", title=title, scale=y_scale["scale"], axis=y_scale["axis"])
    layers.append(base.mark_line(strokeWidth=1.3).encode(y=y, color=colour))
    layers.append(base.mark_point(size=52, strokeWidth=1.7, fill="white", opacity=1).encode(y=y, color=colour))
    y = alt.Y("published:Q", title=title, scale=y_scale["scale"], axis=y_scale["axis"])
    layers.append(
        base.mark_point(size=62, filled=True, opacity=1, color=theme.PUBLISHED_GREYS[0]).encode(
            y=y, shape=alt.Shape("what:N", legend=alt.Legend(title=None))
        )
    )
    if points[0].series == RATIO:
        line = alt.Chart(alt.InlineData(values=[{"one": 1}]))
        layers.append(line.mark_rule(color=theme.INK, strokeDash=[4, 4]).encode(y="one:Q"))
    return dressed(alt.layer(*layers))


def _datum(point: Point) -> dict[str, Any]:
    ends = {name: getattr(point, name) for low, high, _ in _BANDS for name in (low, high)}
    of = TITLES.get(point.series, "V100 over GC2")
    return {
        "series": f"{of} (modelled)", "what": f"{of} (published)", "batch": point.batch, "modelled": point.modelled,
        "published": point.published, **ends,
    }  # fmt: skip


def _scale(points: list[Point], is_log: bool) -> dict[str, Any]:
    ends = [x for p in points for x in (p.p2_5, p.p97_5, p.published)]
    if not is_log:
        return {"scale": alt.Scale(zero=True), "axis": alt.Axis()}
    ticks = theme.ticks_125(min(ends), max(ends))
    bounds = alt.Scale(type="log", domain=[ticks[0], ticks[-1]], nice=False)
    return {"scale": bounds, "axis": alt.Axis(values=ticks, format=",~r")}
