"""The charts of the reproduction: what was measured here in colour, what was published as grey diamonds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import altair as alt

from siderostat.reports import theme
from siderostat.reports.charts import Chart, dressed
from siderostat.reproduce.alexander2022 import published
from siderostat.reproduce.alexander2022.findings import ADDA, Findings, Judged, mean_curve
from siderostat.reproduce.alexander2022.scales import BACK, FORTH
from siderostat.reproduce.alexander2022.trainings import FALSE_POSITIVES

MEASURED, PUBLISHED = "measured", "published"
TITLES = {"euclid": "Euclid", "hst": "HST"}
STAGES = {"source_auc": "source", "before_auc": "target, before", "adda_auc": "target, ADDA"}


def arrow(direction: tuple[str, str]) -> str:
    """Return "Euclid to HST"."""
    return " to ".join(TITLES[name] for name in direction)


def roc_charts(of: Findings) -> Iterator[Chart]:
    """Yield the curves on the target before and behind the adaptation, a chart for each encoder and direction."""
    for encoder in of.encoders:
        for direction in (FORTH, BACK):
            if of.of(encoder, direction):
                yield _roc(of, encoder, direction)


def auc_charts(of: Findings) -> Iterator[Chart]:
    """Yield AUCs beside those that were published, a chart for each direction."""
    for direction in (FORTH, BACK):
        if any(of.of(encoder, direction) for encoder in of.encoders):
            yield _aucs(of, direction)


def learning_charts(of: Findings) -> Iterator[Chart]:
    """Yield accuracies on the target epoch by epoch, a chart for each encoder and direction."""
    for encoder in of.encoders:
        for direction in (FORTH, BACK):
            if any((a.encoder, a.direction) == (encoder, direction) for a in of.adapted):
                yield _learning(of, encoder, direction)


def _roc(of: Findings, encoder: str, direction: tuple[str, str]) -> Chart:
    trained = of.of(encoder, direction)
    curves: dict[str, list[Judged]] = {
        "target, before": [t.before for t in trained],
        "target, AdaBN": [t.adabn for t in trained],
        "target, ADDA": [a.after for a in of.by(ADDA, encoder, direction)],
        "source": [t.on_source for t in trained],
    }
    points: list[dict[str, Any]] = [
        {"series": f"{name} ({MEASURED})", "x": float(x), "value": y}
        for name, judged in curves.items()
        if judged
        for x, y in zip(FALSE_POSITIVES, mean_curve(judged), strict=True)
    ]
    lines = (
        alt.Chart(alt.InlineData(values=points))
        .mark_line(strokeWidth=1.8)
        .encode(
            x=alt.X("x:Q", title="False positives", scale=alt.Scale(domain=[0, 1])),
            y=alt.Y("value:Q", title="True positives", scale=alt.Scale(domain=[0, 1])),
            color=_colour(list(dict.fromkeys(p["series"] for p in points))),
        )
    )
    chance = (
        alt.Chart(alt.InlineData(values=[{"x": 0, "value": 0}, {"x": 1, "value": 1}]))
        .mark_line(color=theme.MUTED, strokeDash=[4, 4], strokeWidth=1)
        .encode(x="x:Q", y="value:Q")
    )
    title = f"ROC curves, {arrow(direction)}, {encoder}"
    caption = (
        "Each class against the others, mean over classes and seeds, on test images. Dashed: by chance. No curves were "
        "published, only the areas in the chart further down."
    )
    return Chart("roc", title, caption, dressed(alt.layer(lines, chance)))


def _aucs(of: Findings, direction: tuple[str, str]) -> Chart:
    points: list[dict[str, Any]] = []
    for encoder in of.encoders:
        for name, estimate in of.figures(encoder, direction).items():
            if name in STAGES:
                low, high = estimate.low, None if estimate.high is None else min(1.0, estimate.high)
                points.append({"name": STAGES[name], "series": f"{encoder} ({MEASURED})", "value": estimate.value,
                               "low": low, "high": high})  # fmt: skip
    for row in published.adapted():
        if (row.source, row.target) == direction:
            series = f"{published.ENCODERS[row.encoder][0]} ({PUBLISHED})"
            points += [{"name": STAGES[k], "series": series, "value": row.figures[k]} for k in STAGES]
    names = list(dict.fromkeys(p["series"] for p in points))
    shapes = alt.Scale(domain=names, range=["diamond" if PUBLISHED in name else "circle" for name in names])
    base = alt.Chart(alt.InlineData(values=points))
    y = alt.Y("name:N", title=None, sort=list(STAGES.values()))
    least = min(p["value"] if p.get("low") is None else p["low"] for p in points)
    across = alt.Scale(domain=[math.floor(20 * least - 0.2) / 20, 1])
    title, axis = "Area under the curve (macro)", alt.Axis(tickCount=6)
    bars = base.transform_filter("isValid(datum.low)").mark_rule(strokeWidth=2)
    drawn = bars.encode(
        x=alt.X("low:Q", title=title, scale=across, axis=axis), x2="high:Q", y=y, color=_colour(names)
    ) + base.mark_point(size=64, filled=True, opacity=1).encode(
        x=alt.X("value:Q", title=title, scale=across, axis=axis),
        y=y,
        color=_colour(names),
        shape=alt.Shape("series:N", scale=shapes, legend=alt.Legend(title=None)),
    )
    caption = "Grey: published, other images and encoders. Bars: 95 % over seeds, where there are two or more."
    return Chart("auc", f"Areas under the curves, {arrow(direction)}", caption, dressed(drawn))


def _learning(of: Findings, encoder: str, direction: tuple[str, str]) -> Chart:
    shown = [a for a in of.adapted if (a.encoder, a.direction) == (encoder, direction)]
    points: list[dict[str, Any]] = [
        {"series": f"{a.algorithm} ({MEASURED})", "run": f"{a.algorithm}-{a.seed}", "x": epoch, "value": accuracy}
        for a in shown
        for epoch, accuracy in enumerate((a.before.accuracy, *a.accuracies))
    ]
    epochs: list[int] = sorted({p["x"] for p in points})
    lines = (
        alt.Chart(alt.InlineData(values=points))
        .mark_line(strokeWidth=1.5, opacity=0.85, point=alt.OverlayMarkDef(size=18))
        .encode(
            x=alt.X("x:Q", title="Epochs of the adaptation", axis=alt.Axis(values=epochs, format="d")),
            y=alt.Y("value:Q", title="Accuracy on the target", scale=alt.Scale(zero=False)),
            detail="run:N",
            color=_colour(list(dict.fromkeys(p["series"] for p in points))),
        )
    )
    caption = (
        "On test images; a line for each seed. Epoch 0: before. The last is the result, the highest an upper bound."
    )
    return Chart("epochs", f"Adaptation, {arrow(direction)}, {encoder}", caption, dressed(alt.layer(lines)))


def _colour(names: Sequence[str]) -> alt.Color:
    """Return the colours of series: greys for what was published."""
    grey, colours = iter(theme.PUBLISHED_GREYS), iter(theme.OKABE_ITO)
    chosen = [next(grey if PUBLISHED in name else colours) for name in names]
    return alt.Color("series:N", scale=alt.Scale(domain=list(names), range=chosen), legend=alt.Legend(title=None))
