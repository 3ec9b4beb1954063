"""What the reproduction says in words and tables."""

from __future__ import annotations

from collections.abc import Sequence

from siderostat import stats
from siderostat.reports.labels import NOT_KNOWN, count, number, seconds
from siderostat.reports.section import Part, Section
from siderostat.reports.tables import Table, TableRow
from siderostat.reproduce.alexander2022 import figures, published
from siderostat.reproduce.alexander2022.figures import MEASURED, PUBLISHED, arrow
from siderostat.reproduce.alexander2022.findings import (
    ADDA,
    LEAST_AUC,
    LEAST_GAIN,
    Adapted,
    Findings,
    Gate,
    Judged,
    Trained,
    gates,
    mean,
)
from siderostat.reproduce.alexander2022.scales import BACK, FORTH
from siderostat.reproduce.alexander2022.trainings import FALSE_POSITIVES
from siderostat.reproduce.page import Page, to_csv

TITLE = "Alexander et al. (2022) made anew: lens classifiers from one instrument to another"
MADE = (
    "Made by siderostat. What is not marked as published (grey in charts) was measured, on images that were made here; "
    "every figure is in points.csv."
)
DIRECTIONS = (FORTH, BACK)
ALGORITHMS = (ADDA, "adamatch", "self-ensemble", "cgdm")
_NOTHING = "No part of this is there yet."
_NAMES = {
    "source_auc": "AUC, source",
    "before_auc": "AUC, target, before",
    "adda_auc": "AUC, target, ADDA",
    "adda_accuracy": "accuracy, target, ADDA",
}
_OF_TRAININGS = [
    "Final: after the last epoch, which is the result. Selected: after the epoch of the highest accuracy on these very "
    "test images; their labels choose it, so it is an upper bound and no result.",
    "Labels of the target judge and do nothing else. The source's epoch is chosen on validation images of the source. "
    "Training, validation and test images show different lenses, those of each seed others than those of the next.",
    "AdaBN takes the target's statistics over into batch normalisation and trains nothing: the control, since "
    "adversarial training moves these statistics too.",
    "AUC: of each class against the others, the mean over classes, by scikit-learn.",
]
_OF_PUBLISHED = [
    "The images of the paper are not those made here. In the public DeepLense set the lens galaxy depends on the class "
    "and gives it away; here it is the same for all, and every image has a peak signal-to-noise ratio of 20, so that "
    "nothing but the substructure tells the classes apart.",
    "The paper has images of 150 px and whole encoders. Which EfficientNet it was is not published.",
]
_OF_DEEPLENSE = [
    'The published table is of the simulations "Model A" and "Model B", not of instruments: the columns show the order '
    "of the algorithms, not the same quantity.",
    "AdaMatch aligns the distribution of each class as published; the scalar ratio of the public code does nothing.",
    "No published values of AdaBN and CGDM stand in that table.",
]


def page(of: Findings) -> Page:
    """Return the page."""
    parts = [
        Part("Lenses by class and instrument", _lenses(of), pictures=of.pictures),
        Part("Before and after", _adapting(of), lambda: figures.roc_charts(of), _trainings(of), _OF_TRAININGS),
        Part("Epoch by epoch", _epochs(of), lambda: figures.learning_charts(of)),
        Part(
            "Beside Alexander et al.", _beside(of), lambda: figures.auc_charts(of), _published_table(of), _OF_PUBLISHED
        ),
        Part("Beside the DeepLense table", table=_deeplense_table(of), notes=_OF_DEEPLENSE),
    ]
    headlines = [*_adapting(of), *_beside(of)[:1]]
    shown = [headline for headline in dict.fromkeys(headlines) if headline != _NOTHING]
    return Page(Section("alexander2022", TITLE, parts, shown), to_csv(_points(of)), MADE)


def percent(of: stats.Estimate | None) -> str:
    """Return a share as "87.3 % (85.1 to 89.5)"; without a second seed there is no interval."""
    if of is None:
        return NOT_KNOWN
    if of.low is None or of.high is None:
        return f"{100 * of.value:.1f} %"
    return f"{100 * of.value:.1f} % ({100 * of.low:.1f} to {100 * of.high:.1f})"


def area(of: stats.Estimate | None) -> str:
    """Return an area under a curve as "0.873 (0.861 to 0.885)"."""
    if of is None:
        return NOT_KNOWN
    if of.low is None or of.high is None:
        return number(of.value, 3)
    return f"{number(of.value, 3)} ({number(of.low, 3)} to {number(of.high, 3)})"


def _lenses(of: Findings) -> list[str]:
    if not of.pictures:
        return [_NOTHING]
    return [
        "The same lenses by both instruments, on the same field of 6.4 arcseconds, as the networks see "
        "them (reproduction.html)."
    ]


def _adapting(of: Findings) -> list[str]:
    said = [s for encoder in of.encoders for direction in DIRECTIONS for s in _direction(of, encoder, direction)]
    return said or [_NOTHING]


def _direction(of: Findings, encoder: str, direction: tuple[str, str]) -> list[str]:
    adda, trained = of.by(ADDA, encoder, direction), of.of(encoder, direction)
    if not adda or not trained:
        return []
    settings = trained[0].settings
    seeds = "one seed" if len(adda) == 1 else f"{len(adda)} seeds, 95 % intervals over them"
    began, ended = mean([a.before.accuracy for a in adda]), mean([a.after.accuracy for a in adda])
    control = {t.seed: t.adabn.accuracy for t in trained}
    above = [a.after.accuracy - control[a.seed] for a in adda if a.seed in control]
    beyond = f"; ADDA less AdaBN: {_points_gained(mean(above))} points" if above else ""
    said = [
        f"{arrow(direction)}, {encoder} ({settings['size']}), {settings['training']:,} images of each class of "
        f"{settings['pixels']} px, {seeds}: ADDA takes the accuracy on the target from {percent(began)} to "
        f"{percent(ended)}, by {_points_gained(mean([a.gain for a in adda]))} points; AdaBN alone reaches "
        f"{percent(mean([t.adabn.accuracy for t in trained]))}{beyond}. AUC {area(mean([a.before.auc for a in adda]))} "
        f"before, {area(mean([a.after.auc for a in adda]))} after, {area(mean([t.adabn.auc for t in trained]))} by "
        f"AdaBN, {area(mean([t.on_source.auc for t in trained]))} on the source.",
    ]
    held = gates(of, encoder, direction)
    return [*said, *([_gate(held, direction)] if held else [])]


def _points_gained(of: stats.Estimate) -> str:
    if of.low is None or of.high is None:
        return f"{100 * of.value:+.1f}"
    return f"{100 * of.value:+.1f} ({100 * of.low:+.1f} to {100 * of.high:+.1f})"


def _gate(of: Sequence[Gate], direction: tuple[str, str]) -> str:
    met = sum(gate.is_met for gate in of)
    each = "; ".join(f"seed {g.seed}: {g.source_auc:.3f}, {100 * g.gain:+.1f} points" for g in of)
    return (
        f"The gate for {arrow(direction)}, an AUC of {LEAST_AUC} on the source and {100 * LEAST_GAIN:g} points of "
        f"accuracy gained by the last epoch of ADDA, is met by {met} of {count(len(of), 'seed')} ({each})."
    )


def _epochs(of: Findings) -> list[str]:
    said = []
    for encoder in of.encoders:
        for direction in DIRECTIONS:
            by = {name: of.by(name, encoder, direction) for name in ALGORITHMS}
            below = [
                f"{name} {100 * mean([a.selected.accuracy - a.after.accuracy for a in some]).value:.1f}"
                for name, some in by.items()
                if some
            ]
            if below:
                said.append(f"{arrow(direction)}, {encoder}: the last epoch lies below the best by {', '.join(below)} "
                            "points of accuracy, the mean over seeds.")  # fmt: skip
    return said or [_NOTHING]


def _trainings(of: Findings) -> Table | None:
    rows = []
    for encoder in of.encoders:
        for direction in DIRECTIONS:
            for t in of.of(encoder, direction):
                rows += _source_rows(t)
            rows += [_adapted_row(a) for a in of.adapted if (a.encoder, a.direction) == (encoder, direction)]
    head = [
        "Encoder", "Direction", "Network", "Judged on", "Seed", "Accuracy, final", "Accuracy, selected", "AUC, final",
        "AUC, selected", "Processor time", "Provenance",
    ]  # fmt: skip
    return Table(head, rows, "", frozenset(range(4, 10))) if rows else None


def _source_rows(t: Trained) -> list[TableRow]:
    judged = (
        ("source's labels only", "source", t.on_source),
        ("source's labels only", "target", t.before),
        ("AdaBN", "target", t.adabn),
    )
    return [
        _row(t, name, on, j, None, seconds(t.cpu_s) if i == 0 else NOT_KNOWN) for i, (name, on, j) in enumerate(judged)
    ]


def _adapted_row(a: Adapted) -> TableRow:
    return _row(a, a.algorithm, "target", a.after, a.selected, seconds(a.cpu_s))


def _row(of: Trained | Adapted, name: str, on: str, final: Judged, selected: Judged | None, time: str) -> TableRow:
    chosen = (NOT_KNOWN, NOT_KNOWN) if selected is None else (f"{100 * selected.accuracy:.1f} %", f"{selected.auc:.3f}")
    cells = [
        of.encoder, arrow(of.direction), name, on, str(of.seed), f"{100 * final.accuracy:.1f} %", chosen[0],
        f"{final.auc:.3f}", chosen[1], time, MEASURED,
    ]  # fmt: skip
    return TableRow(cells)


def _counterpart(of: Findings, encoder: str) -> str | None:
    """Return the encoder here to set beside a published one: that like it, else the first; None without any."""
    like = published.ENCODERS[encoder][1]
    return like if like in of.encoders else next(iter(of.encoders), None)


def _beside(of: Findings) -> list[str]:
    encoder = next(iter(of.encoders), "")
    ours = of.figures(encoder, FORTH)
    if not {"before_auc", "adda_auc"} <= set(ours):
        return [_NOTHING]
    theirs = [row for row in published.adapted() if (row.source, row.target) == FORTH]
    before, after = (" and ".join(number(r.figures[n], 3) for r in theirs) for n in ("before_auc", "adda_auc"))
    settings = of.of(encoder, FORTH)[0].settings
    return [
        f"Published for {arrow(FORTH)}: an AUC of {before} before and {after} after ADDA (EfficientNet and "
        f"D2-equivariant, 150 px). Measured here: {area(ours['before_auc'])} and {area(ours['adda_auc'])} ({encoder}, "
        f"{settings['size']}, {settings['pixels']} px), on other images."
    ]


def _published_table(of: Findings) -> Table:
    rows = []
    for row in published.adapted():
        direction = (row.source, row.target)
        encoder = _counterpart(of, row.encoder)
        ours = {} if encoder is None else of.figures(encoder, direction)
        for name, theirs in row.figures.items():
            rows.append(_beside_row(arrow(direction), row.encoder, encoder, name, theirs, ours.get(name)))
    head = [
        "Direction", f"Encoder ({PUBLISHED})", "Encoder here", "Figure", f"Value ({PUBLISHED})",
        f"Value here ({MEASURED})", "Difference",
    ]  # fmt: skip
    return Table(head, rows, "final values; why they differ stands below", frozenset({4, 5, 6}))


def _beside_row(
    direction: str, theirs_of: str, encoder: str | None, name: str, theirs: float, ours: stats.Estimate | None
) -> TableRow:
    is_share = name.endswith("accuracy")
    value = f"{100 * theirs:.1f} %" if is_share else number(theirs, 3)
    here = percent(ours) if is_share else area(ours)
    cells = [
        direction, published.ENCODERS[theirs_of][0], encoder or NOT_KNOWN, _NAMES[name], value, here,
        _difference(ours, theirs, is_share),
    ]  # fmt: skip
    return TableRow(cells)


def _difference(ours: stats.Estimate | None, theirs: float | None, is_share: bool) -> str:
    if ours is None or theirs is None:
        return NOT_KNOWN
    apart = ours.value - theirs
    return f"{100 * apart:+.1f} points" if is_share else f"{apart:+.3f}"


def _deeplense_table(of: Findings) -> Table:
    theirs = {(r.encoder, r.algorithm, r.evaluated_on): r for r in published.deeplense()}
    rows = []
    for encoder in dict.fromkeys(r.encoder for r in theirs.values()):
        here = _counterpart(of, encoder)
        for algorithm, on, judged in _judgements(of, here):
            row = theirs.get((encoder, algorithm, on))
            accuracy = mean([j.accuracy for j in judged]) if judged else None
            auc = mean([j.auc for j in judged]) if judged else None
            cells = [
                published.ENCODERS[encoder][0], here or NOT_KNOWN, algorithm, on,
                f"{100 * row.accuracy:.1f} %" if row else NOT_KNOWN, percent(accuracy),
                _difference(accuracy, row.accuracy if row else None, is_share=True),
                number(row.auc, 3) if row else NOT_KNOWN, area(auc),
                _difference(auc, row.auc if row else None, is_share=False),
            ]  # fmt: skip
            rows.append(TableRow(cells))
    head = [
        f"Encoder ({PUBLISHED})", "Encoder here", "Algorithm", "Judged on", f"Accuracy ({PUBLISHED})",
        f"Accuracy here ({MEASURED})", "Difference", f"AUC ({PUBLISHED})", f"AUC here ({MEASURED})", "Difference",
    ]  # fmt: skip
    caption = f"published: Model A to Model B; here: {arrow(FORTH)}; final values, means over seeds"
    return Table(head, rows, caption, frozenset(range(4, 10)))


def _judgements(of: Findings, encoder: str | None) -> list[tuple[str, str, list[Judged]]]:
    """Return algorithms, what they are judged on, and how each seed came out from Euclid to HST."""
    trained = [] if encoder is None else of.of(encoder, FORTH)
    by = {name: [] if encoder is None else [a.after for a in of.by(name, encoder, FORTH)] for name in ALGORITHMS}
    return [
        ("supervised", "source", [t.on_source for t in trained]),
        ("supervised", "target", [t.before for t in trained]),
        ("adabn", "target", [t.adabn for t in trained]),
        *((name, "target", judged) for name, judged in by.items()),
    ]


def _points(of: Findings) -> list[dict[str, object]]:
    """Return every figure with where it comes from."""
    rows: list[dict[str, object]] = []
    for t in of.trained:
        about: tuple[object, ...] = (t.encoder, *t.direction)
        rows += _judged_points((*about, "supervised on source", t.seed), t.on_source)
        rows += _judged_points((*about, "supervised", t.seed), t.before)
        rows += _judged_points((*about, "adabn", t.seed), t.adabn)
        rows.append(_point("cpu_s", (*about, "supervised", t.seed), t.cpu_s))
    for a in of.adapted:
        about = (a.encoder, *a.direction, a.algorithm, a.seed)
        rows += _judged_points(about, a.after)
        rows += [_point("selected_accuracy", about, a.selected.accuracy), _point("selected_auc", about, a.selected.auc)]
        rows += [_point("epoch_accuracy", about, v, epoch) for epoch, v in enumerate(a.accuracies, start=1)]
        rows += [_point("epoch_loss", about, v, epoch) for epoch, v in enumerate(a.losses, start=1)]
        rows.append(_point("cpu_s", about, a.cpu_s))
    return [*rows, *_published_points()]


def _judged_points(about: tuple[object, ...], judged: Judged) -> list[dict[str, object]]:
    curve = zip(FALSE_POSITIVES, judged.true_positives, strict=True)
    return [
        _point("final_accuracy", about, judged.accuracy),
        _point("final_auc", about, judged.auc),
        *(_point("true_positives", about, true, round(float(false), 6)) for false, true in curve),
    ]


def _published_points() -> list[dict[str, object]]:
    rows = [
        _point(name, (f"{row.encoder}, Alexander et al.", row.source, row.target, "", ""), value, origin=PUBLISHED)
        for row in published.adapted()
        for name, value in row.figures.items()
    ]
    for row in published.deeplense():
        about = (f"{row.encoder}, DeepLense", "model A", "model B", f"{row.algorithm} on {row.evaluated_on}", "")
        rows.append(_point("accuracy", about, row.accuracy, origin=PUBLISHED))
        rows.append(_point("auc", about, row.auc, origin=PUBLISHED))
    return rows


def _point(
    quantity: str, about: tuple[object, ...], value: float, at: object = "", origin: str = MEASURED
) -> dict[str, object]:
    names = ("encoder", "source", "target", "algorithm", "seed")
    return {"quantity": quantity, **dict(zip(names, about, strict=True)), "at": at, "value": value,
            "provenance": origin}  # fmt: skip
