"""The charts of the reproduction: what was measured here in colour, what was published in grey."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np

from siderostat.reports import theme
from siderostat.reports.charts import Chart, dressed
from siderostat.reproduce.nadler_to import published
from siderostat.reproduce.nadler_to.findings import FLOOR, FORESTS, MEAN, RELATION, Findings, Model, Spread
from siderostat.workloads.halo_grids import smf

MEASURED, PUBLISHED = "measured", "published"
MOUSTAKAS = "Moustakas et al. (2013)"
_APART = 0.016  # dex between points of one bin, so that their bars can be told apart


def chi2_charts(of: Findings) -> Iterator[Chart]:
    """Yield chi^2 of every model and seed beside what was published."""
    if of.judged:
        points: list[dict[str, Any]] = [
            {"name": j.model.title, "series": f"here ({MEASURED})", "value": j.chi2}
            for model in of.models
            for j in of.by(model).values()
        ]
        theirs = {model.title: model.published for model in (*reversed(FORESTS), *published_networks(of))}
        points += [
            {"name": name, "series": f"Nadler & To ({PUBLISHED})", "value": value}
            for name, value in theirs.items()
            if value is not None
        ]
        caption = (
            "A point for each seed. Grey: published, another catalogue. The published forest is of depth 5 or 10. "
            "Ratios can be compared, not the values."
        )
        names = [m.title for m in (MEAN, *reversed(FORESTS), RELATION, *published_networks(of), FLOOR)]
        ticks = theme.ticks_125(*_ends(points))
        x = alt.X(
            "value:Q",
            title="chi^2",
            scale=alt.Scale(type="log", domain=[ticks[0], ticks[-1]], nice=False),
            axis=alt.Axis(values=ticks, format=",~r"),
        )
        yield Chart("chi2", "chi^2 on the validation boxes", caption, _rows(points, names, x))


def published_networks(of: Findings) -> list[Model]:
    """Return networks that were published or are here, smallest first."""
    return sorted({*of.networks, *(Model("resnet", channels) for channels in published.networks())})


def function_charts(of: Findings) -> Iterator[Chart]:
    """Yield stellar mass functions of the first seed, and what each bin adds to chi^2."""
    if of.boxes:
        yield _functions(of)
    if of.judged:
        yield _bins(of)


def forest_charts(of: Findings) -> Iterator[Chart]:
    """Yield importances of the features."""
    if of.forests:
        points: list[dict[str, Any]] = [
            {"name": name, "series": f"{f.model.title} ({MEASURED})", "value": value}
            for f in of.forests
            for name, value in f.importances.items()
        ]
        names = sorted({p["name"] for p in points}, key=lambda n: -max(p["value"] for p in points if p["name"] == n))
        caption = "A point for each seed and depth. In the made catalogue only the peak velocity says anything."
        x = alt.X(
            "value:Q",
            title="Share",
            scale=alt.Scale(domain=[-0.03, 1.03], nice=False),
            axis=alt.Axis(values=[0, 0.2, 0.4, 0.6, 0.8, 1], format=".1f"),
        )
        yield Chart("importances", "Importances of a halo's features", caption, _rows(points, names, x))


def learning_charts(of: Findings) -> Iterator[Chart]:
    """Yield chi^2 of the networks epoch by epoch."""
    if not of.learning:
        return
    points: list[dict[str, Any]] = [
        {"series": f"{run.model.title} ({MEASURED})", "run": f"{run.model.size}-{run.seed}", "x": i, "value": value}
        for run in of.learning
        for i, value in enumerate(run.chi2, start=1)
    ]
    low, high = (np.log10(end) for end in _ends(points))
    ticks = [10.0**power for power in range(int(np.floor(low)), int(np.ceil(high)) + 1)]
    lines = (
        alt.Chart(alt.InlineData(values=points))
        .mark_line(strokeWidth=1.5, opacity=0.85, point=alt.OverlayMarkDef(size=18))
        .encode(
            x=alt.X("x:Q", title="Epochs", axis=alt.Axis(values=sorted({p["x"] for p in points}), format="d")),
            y=alt.Y(
                "value:Q",
                title="chi^2 on the validation boxes",
                scale=alt.Scale(type="log", domain=[ticks[0], ticks[-1]], nice=False),
                axis=alt.Axis(values=ticks, format=",~r"),
            ),
            detail="run:N",
            color=_colour(list(dict.fromkeys(p["series"] for p in points))),
        )
    )
    caption = (
        "A line for each seed. At the learning rate of 0.1 running statistics lag behind the weights; the last epochs, "
        "at 0.001, bring them together."
    )
    yield Chart("epochs", "Training of the networks", caption, dressed(alt.layer(lines)))


def _functions(of: Findings) -> Chart:
    first = of.boxes[0]
    shown: dict[str, Spread] = {f"made galaxies ({MEASURED})": first.truth}
    for model in (FORESTS[0], *of.networks):
        held = of.by(model).get(first.seed)
        if held is not None:
            shown[f"{model.title} ({MEASURED})"] = held.predicted
    foot = _foot(shown)
    points: list[dict[str, Any]] = [
        {"series": name, "x": centre + (i - (len(shown) - 1) / 2) * _APART, "value": value, "low": max(low, foot),
         "high": max(high, foot)}
        for i, (name, spread) in enumerate(shown.items())
        for centre, value, low, high in zip(_centres(), spread.phi, spread.low, spread.high, strict=True)
        if value >= foot
    ]  # fmt: skip
    theirs: list[dict[str, Any]] = [
        {"series": f"{MOUSTAKAS} ({PUBLISHED})", "x": centre, "value": d.phi, "low": max(d.phi - d.error_down, foot),
         "high": d.phi + d.error_up}
        for centre, d in zip(_centres(), published.densities(), strict=True)
    ]  # fmt: skip
    names = [*shown, f"{MOUSTAKAS} ({PUBLISHED})"]
    x = alt.X("x:Q", title="log10 of the stellar mass (Msun)", scale=alt.Scale(zero=False, nice=False, padding=14))
    ticks = [tick for tick in theme.ticks_125(foot, max(p["high"] for p in points + theirs)) if tick >= foot]
    up: dict[str, Any] = {
        "title": "phi (per Mpc³ and dex)",
        "scale": alt.Scale(type="log", domain=[foot, ticks[-1]], nice=False),
        "axis": alt.Axis(values=ticks, format="~g"),
    }
    y, look = alt.Y("value:Q", **up), _colour(names)
    ours, grey = alt.Chart(alt.InlineData(values=points)), alt.Chart(alt.InlineData(values=theirs))
    bars = {"x": x, "y": alt.Y("low:Q", **up), "y2": "high:Q", "color": look}
    drawn = alt.layer(
        grey.mark_rule(strokeWidth=2).encode(**bars),
        grey.mark_point(size=52, filled=True, opacity=1, shape="diamond").encode(x=x, y=y, color=look),
        ours.mark_rule(strokeWidth=1.4, opacity=0.7).encode(**bars),
        ours.mark_point(size=34, filled=True, opacity=1).encode(x=x, y=y, color=look),
    )
    caption = (
        f"Seed {first.seed}, {first.judged_on} validation boxes: means, and bars from the 16th to the 84th percentile "
        "of the boxes, cut off below. Labels count occupied cells, so heavy galaxies in groups are missing; the "
        "published points, with their errors, count galaxies."
    )
    return Chart("smf", "Stellar mass functions", caption, dressed(drawn))


def _foot(shown: Mapping[str, Spread]) -> float:
    """Return where the axis ends: half of the least mean above zero, of what is true and of what was published."""
    truth = next(iter(shown.values()))
    return 0.5 * min([value for value in truth.phi if value > 0] + [d.phi for d in published.densities()])


def _bins(of: Findings) -> Chart:
    shown = [model for model in of.models if model not in FORESTS[1:]]
    points: list[dict[str, Any]] = [
        {"series": f"{model.title} ({MEASURED})", "x": centre, "value": float(value)}
        for model in shown
        for centre, value in zip(_centres(), np.mean([j.by_bin for j in of.by(model).values()], axis=0), strict=True)
    ]
    lines = (
        alt.Chart(alt.InlineData(values=points))
        .mark_line(strokeWidth=1.5, point=alt.OverlayMarkDef(size=24))
        .encode(
            x=alt.X(
                "x:Q", title="log10 of the stellar mass (Msun)", scale=alt.Scale(zero=False, nice=False, padding=14)
            ),
            y=alt.Y("value:Q", title="Added to chi^2"),
            color=_colour([f"{model.title} ({MEASURED})" for model in shown]),
        )
    )
    caption = "Means over boxes and seeds. The 14 bins of a line add up to chi^2; nothing like this was published."
    return Chart("bins", "What each bin adds to chi^2", caption, dressed(alt.layer(lines)))


def _centres() -> list[float]:
    return [round(float(low) + smf.BIN_DEX / 2, 3) for low in smf.EDGES[:-1]]


def _ends(points: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    values = [p["value"] for p in points]
    return min(values), max(values)


def _rows(points: list[dict[str, Any]], names: Sequence[str], x: alt.X) -> dict[str, Any]:
    """Return a row for each name, with its figures as points, those published grey."""
    series = list(dict.fromkeys(p["series"] for p in points))
    shapes = alt.Scale(domain=series, range=["diamond" if PUBLISHED in name else "circle" for name in series])
    marks = (
        alt.Chart(alt.InlineData(values=points))
        .mark_point(size=64, filled=True, opacity=0.8)
        .encode(
            x=x,
            y=alt.Y("name:N", title=None, sort=list(names), axis=alt.Axis(labelLimit=220)),
            color=_colour(series),
            shape=alt.Shape("series:N", scale=shapes, legend=alt.Legend(title=None)),
        )
    )
    return dressed(alt.layer(marks))


def _colour(names: Sequence[str]) -> alt.Color:
    """Return the colours of series: greys for what was published."""
    grey, colours = iter(theme.PUBLISHED_GREYS), iter(theme.OKABE_ITO)
    chosen = [next(grey if PUBLISHED in name else colours) for name in names]
    return alt.Color("series:N", scale=alt.Scale(domain=list(names), range=chosen), legend=alt.Legend(title=None))
