"""The charts of the reproduction: what was measured here in colour, what was published as grey diamonds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import altair as alt
import numpy as np

from siderostat.reports import theme
from siderostat.reports.charts import Chart, dressed
from siderostat.reproduce.abbott2024 import published
from siderostat.reproduce.abbott2024.findings import COSTS, Findings
from siderostat.reproduce.abbott2024.loops import KINDS, TITLES

MEASURED, PUBLISHED = "measured", "published"
_COLOURS: dict[str, str] = dict(zip(KINDS, theme.OKABE_ITO, strict=False))
_SMOOTHED = 5  # updates in the mean of a learning curve


def training_charts(of: Findings) -> Iterator[Chart]:
    """Yield how flows learn, how good they are for what they cost, and effective sample sizes."""
    if of.trained:
        yield _learning(of)
        yield _variances(of)
        yield _effective(of)


def derivative_charts(of: Findings) -> Iterator[Chart]:
    """Yield d<P>/d beta by every estimator."""
    if of.derivatives:
        points = [
            {"name": d.name, "value": d.estimate.value, "low": d.estimate.value - d.estimate.error,
             "high": d.estimate.value + d.estimate.error, "series": f"{d.of} ({MEASURED})"}
            for d in of.derivatives
        ]  # fmt: skip
        caption = "Measured; bars are one standard error, by the jackknife over chains of the heat bath."
        yield Chart("derivative", "d<P>/d beta by estimator", caption, _categories(points, "d<P> / d beta", log=False))


def cost_charts(of: Findings) -> Iterator[Chart]:
    """Yield the costs of one configuration relative to its generation."""
    if of.costs:
        ours, theirs = of.costs["generation"].value, published.figures()["cost_generation"]
        names = {name: name.replace("_", " ") for name in COSTS}
        points: list[dict[str, Any]] = [
            {"name": names[name], "value": cost.value / ours, "series": f"here ({MEASURED})"}
            for name, cost in of.costs.items()
        ]
        points += [
            {"name": name, "value": published.figures()[f"cost_{key}"] / theirs, "series": f"A100 ({PUBLISHED})"}
            for key, name in {**names, "reweighting": "reweighting"}.items()
        ]
        caption = "Grey: published, another theory on a larger lattice. What it costs to generate a configuration is 1."
        title = "Cost of a configuration over that of its generation"
        yield Chart("costs", "Costs of one configuration", caption, _categories(points, title, log=True))


def _learning(of: Findings) -> Chart:
    points = [
        {"series": f"{TITLES[t.kind]} ({MEASURED})", "run": f"{t.kind}-{t.seed}", "step": i + 1, "value": float(value)}
        for t in of.trained
        for i, value in enumerate(_smoothed(t.losses))
    ]
    kinds = [kind for kind in KINDS if of.of(kind)]
    lines = (
        alt.Chart(alt.InlineData(values=points))
        .mark_line(strokeWidth=1.3, opacity=0.8)
        .encode(
            x=alt.X("step:Q", title="Updates"),
            y=alt.Y("value:Q", title="-<ln w>", scale=alt.Scale(zero=False)),
            detail="run:N",
            color=_colour([f"{TITLES[kind]} ({MEASURED})" for kind in kinds], [_COLOURS[kind] for kind in kinds]),
        )
    )
    caption = f"Reverse divergence up to ln Z, mean over {_SMOOTHED} updates; a line for each seed."
    return Chart("learning", "Training from the Haar measure", caption, dressed(alt.layer(lines)))


def _variances(of: Findings) -> Chart:
    points = [
        {"series": f"{TITLES[t.kind]} ({MEASURED})", "x": t.training_s, "value": t.variance.value,
         "low": t.variance.value - t.variance.error, "high": t.variance.value + t.variance.error}
        for t in of.trained
    ]  # fmt: skip
    caption = "One point for each seed; bars are one standard error of the draws. Lower is better."
    spec = _scatter(of, points, "Processor time of the training (s)", "Variance of ln w", [])
    return Chart("variance", "Variance of the log-weights over training time", caption, spec)


def _effective(of: Findings) -> Chart:
    points = [
        {"series": f"{TITLES[t.kind]} ({MEASURED})", "x": t.settings["layers"], "value": t.effective.value,
         "low": max(t.effective.value - t.effective.error, 1e-4), "high": t.effective.value + t.effective.error}
        for t in of.trained
    ]  # fmt: skip
    names = {"fixed loops": "ess_fixed_loops", "learned loops": "ess_learned_active_loops"}
    theirs = [
        {"series": f"{title} ({PUBLISHED})", "x": published.FLOW_LAYERS, "value": published.figures()[key]}
        for title, key in names.items()
    ]
    caption = (
        "Grey: published, at 192 layers and a training on GPUs. An effective sample size from so few draws is noisy, "
        "and certifies nothing."
    )
    spec = _scatter(of, points, "Layers", "Effective sample size", theirs)
    return Chart("effective", "Effective sample size", caption, spec)


def _scatter(of: Findings, ours: list[dict[str, Any]], x: str, y: str, theirs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return points with bars on logarithmic axes, in the colours of the kinds, published ones grey."""
    kinds = [kind for kind in KINDS if of.of(kind)]
    names = [*(f"{TITLES[kind]} ({MEASURED})" for kind in kinds), *(p["series"] for p in theirs)]
    look = _colour(names, [*(_COLOURS[kind] for kind in kinds), *theme.PUBLISHED_GREYS[: len(theirs)]])
    across = alt.X("x:Q", title=x, scale=alt.Scale(type="log", padding=14))
    up = alt.Y("value:Q", title=y, scale=alt.Scale(type="log", padding=10))
    base = alt.Chart(alt.InlineData(values=ours))
    layers = [
        base.mark_rule(strokeWidth=2).encode(x=across, y=alt.Y("low:Q", title=y), y2="high:Q", color=look),
        base.mark_point(size=58, filled=True, opacity=1).encode(x=across, y=up, color=look),
    ]
    if theirs:
        grey = alt.Chart(alt.InlineData(values=theirs)).mark_point(size=70, filled=True, opacity=1, shape="diamond")
        layers.append(grey.encode(x=across, y=up, color=look))
    return dressed(alt.layer(*layers))


def _categories(points: list[dict[str, Any]], title: str, log: bool) -> dict[str, Any]:
    """Return a row for each name, with its figures as points, those published grey."""
    names = list(dict.fromkeys(p["name"] for p in points))
    series = list(dict.fromkeys(p["series"] for p in points))
    grey, colours = iter(theme.PUBLISHED_GREYS), iter(theme.OKABE_ITO)
    look = _colour(series, [next(grey if PUBLISHED in name else colours) for name in series])
    shapes = alt.Scale(domain=series, range=["diamond" if PUBLISHED in name else "circle" for name in series])
    across = alt.Scale(type="log", padding=14) if log else alt.Scale(zero=False, padding=14)
    y = alt.Y("name:N", title=None, sort=names)
    base = alt.Chart(alt.InlineData(values=points))
    bars = base.transform_filter("isValid(datum.low)").mark_rule(strokeWidth=2)
    marks = base.mark_point(size=64, filled=True, opacity=1)
    return dressed(
        bars.encode(x=alt.X("low:Q", title=title, scale=across), x2="high:Q", y=y, color=look)
        + marks.encode(
            x=alt.X("value:Q", title=title, scale=across),
            y=y,
            color=look,
            shape=alt.Shape("series:N", scale=shapes, legend=alt.Legend(title=None)),
        )
    )


def _colour(names: list[str], colours: list[str]) -> alt.Color:
    return alt.Color("series:N", scale=alt.Scale(domain=names, range=colours), legend=alt.Legend(title=None))


def _smoothed(losses: list[float]) -> np.ndarray:
    """Return running means, the first of fewer updates."""
    sums = np.cumsum([0.0, *losses])
    ends = np.arange(1, len(losses) + 1)
    starts = np.maximum(ends - _SMOOTHED, 0)
    return np.asarray((sums[ends] - sums[starts]) / (ends - starts))
