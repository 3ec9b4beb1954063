"""What the reproduction says in words and tables."""

from __future__ import annotations

from collections.abc import Sequence

from siderostat import stats
from siderostat.reports.labels import NOT_KNOWN, count, interval, number, percent, seconds
from siderostat.reports.section import Part, Section
from siderostat.reports.tables import Table, TableRow
from siderostat.reproduce.nadler_to import figures, published
from siderostat.reproduce.nadler_to.figures import MEASURED, MOUSTAKAS, PUBLISHED, published_networks
from siderostat.reproduce.nadler_to.findings import (
    FLOOR,
    FORESTS,
    MEAN,
    RELATION,
    UNFITTED,
    Findings,
    Gate,
    Judged,
    Model,
    Spread,
    gates,
)
from siderostat.reproduce.nadler_to.scales import SCALES
from siderostat.reproduce.page import Page, to_csv
from siderostat.workloads.halo_grids import galaxies, smf
from siderostat.workloads.halo_grids.data import VPEAK_MIN

TITLE = "Nadler & To made anew: from halos to the stellar mass function"
MADE = (
    "Made by siderostat. What is not marked as published (grey in charts) was measured, on halos that were made here; "
    "every figure is in points.csv."
)
PAPER = "Nadler & To"
_HEAVY = 11  # of the bins, the first of those that are summed up: from 11.3
_NOTHING = "No part of this is there yet."
_OF_CHI2 = [
    "chi^2 is the mean over validation boxes of the sum over 14 bins of ((predicted - label) / sigma)^2, in the "
    "stellar mass function itself: the scale of the published values.",
    "The published forest is one of depth 5 or 10; both are set beside it.",
    '"Every peak velocity known" predicts the label that is to be expected when the peak velocity of each halo is '
    "given, and not the scatter of stellar masses about it, which no model can know: a floor, computed from the made "
    "catalogue's own relation. With the median mass at each peak velocity instead, which a perfect forest would guess, "
    "chi^2 is larger because the scatter is lost: that is what holds the forests back, not what they are given.",
    "Errors (+-) are standard errors from the differences between validation boxes, as if these were independent. "
    "Intervals are 95 %, over seeds, of geometric means.",
]
_OF_GATES = [
    "A seed is that of the halos, of which boxes are trained on, of the network's weights, order and dropout, and of "
    "the forest. Validation boxes of one catalogue can be harder than those of another: compare within a row.",
]
_OF_FORESTS = [
    "Scatter: standard deviation of predicted minus true log10 stellar mass, over halos of the validation boxes. "
    f"Masses were drawn with {galaxies.STELLAR_SCATTER:g} dex at given peak velocity: less is by chance.",
    "Importances are shares of the variance that splits by a feature take away. In the made catalogue no feature but "
    "the peak velocity says anything of the stellar mass; in a simulation others do.",
]
_OF_LEARNING = [
    "As published, but for the scale tiny: Adam, 0.1 for ten epochs and 0.001 for five. The result is the last epoch's."
]
_DEVIATIONS = [
    "Scale of the loss: the equation of the paper has log10 of the function and a mean over bins; its code, and its "
    "values with it, have the function itself and the sum, as here. Labels are per (Mpc/h)^3 and bin and sigma is per "
    f"Mpc^3 and dex, as in that code; in one unit every chi^2 would be {number(smf.PHYSICAL**2)} times as large.",
    f"Halos: made from a seed, with the abundance and bias of Tinker et al., all faster than {VPEAK_MIN:g} km/s. The "
    f"paper has about {published.HALOS / 1e6:g} million, of an N-body simulation, about what 70 km/s would give here.",
    "Galaxies: drawn from the peak velocity alone, where those of the paper are the UniverseMachine's, which follow "
    "the history of each halo.",
    "Validation: a random fifth of the sub-boxes of one box. Neighbours share structure, so they are not wholly "
    "independent of those trained on.",
    "Network: dropout is a half and comes last in a dense layer; neither is known of the paper. Outputs are in units "
    "of five sigma; without that the network ends above the forest.",
    "Forest: fitted to some of the halos, as the table says; how many the paper took is not known here.",
]


def page(of: Findings) -> Page:
    """Return the page."""
    parts = [
        Part(
            "chi^2 beside the published",
            [*_trial(of), *_beside(of)],
            lambda: figures.chi2_charts(of),
            _table(of),
            _OF_CHI2,
        ),
        Part("The gate, seed by seed", _gate(of), table=_gate_table(of), notes=_OF_GATES),
        Part("Stellar mass functions", _functions(of), lambda: figures.function_charts(of), _function_table(of)),
        Part("The forest", _forest(of), lambda: figures.forest_charts(of), _forest_table(of), _OF_FORESTS),
        Part("Epoch by epoch", _learning(of), lambda: figures.learning_charts(of), notes=_OF_LEARNING),
        Part("What differs from the paper", _halos(of), notes=_DEVIATIONS),
    ]
    headlines = [*_trial(of), *_gate(of), *_beside(of), *_forest(of)]
    shown = [headline for headline in dict.fromkeys(headlines) if headline != _NOTHING]
    return Page(Section("nadler-to", TITLE, parts, shown), to_csv(_points(of)), MADE)


def over_seeds(of: stats.Estimate | None) -> str:
    """Return "32.0 (28.1 to 36.5)"; without a second seed there is no interval."""
    if of is None:
        return NOT_KNOWN
    return number(of.value) if of.low is None else interval(of)


def _seeds(n: int) -> str:
    return "one seed" if n == 1 else f"{n} seeds, 95 % intervals over them"


def _plus_minus(of: Judged) -> str:
    return f"{number(of.chi2, 1)} +- {number(of.error, 1)}"


def _trial(of: Findings) -> list[str]:
    if not of.boxes or of.boxes[0].box == SCALES["small"].box:
        return []
    return [f"The box is {of.boxes[0].box}: that everything runs is all that is shown, and nothing about the paper."]


def _beside(of: Findings) -> list[str]:
    if not of.networks:
        return [_NOTHING]
    network = of.networks[0]
    ratios = {model: of.ratio(network, model) for model in FORESTS}
    known = {model: ratio for model, ratio in ratios.items() if ratio is not None}
    if not known:
        return [_NOTHING]
    said = " and ".join(f"{over_seeds(ratio)} times that of the {model.title}" for model, ratio in known.items())
    seeds = _seeds(next(iter(known.values())).n)
    sentences = [f"Measured ({seeds}): chi^2 of the {network.title} is {said}.{_published_ratio(network)}"]
    return [*sentences, *_values(of, network, next(iter(known)))]


def _published_ratio(network: Model) -> str:
    theirs = network.published
    if theirs is None:
        return f" No chi^2 of a {network.title} was published."
    return f" Published: {theirs:g} / {published.forest():g} = {number(theirs / published.forest(), 2)}."


def _values(of: Findings, network: Model, forest: Model) -> list[str]:
    """Say how far the values themselves are from the published ones, and why."""
    ours = {model: of.chi2(model) for model in (network, forest)}
    said = [
        f"{over_seeds(estimate)} against {model.published:g} ({model.title}, "
        f"{number(estimate.value / model.published, 2)} times)"
        for model, estimate in ours.items()
        if estimate is not None and model.published is not None
    ]
    if not said:
        return []
    median, floor = of.chi2(RELATION), of.chi2(FLOOR)
    least = (
        f" Here the median mass at every peak velocity would give {over_seeds(median)}, and the label that is to be "
        f"expected from these velocities {over_seeds(floor)}."
        if median and floor
        else ""
    )
    return [
        f"The values are not those published: measured {' and '.join(said)}. The halos and galaxies are others and "
        f"fewer.{least}"
    ]


def _gate(of: Findings) -> list[str]:
    held = gates(of)
    if not held:
        return [_NOTHING]
    met = sum(gate.is_met for gate in held)
    boxes = {b.seed: b for b in of.boxes}[held[0].seed]
    each = "; ".join(f"seed {gate.seed}: {_order(gate)}" for gate in held)
    return [
        f"The gate, {of.networks[0].title} below both forests and these below the mean of the training labels, is met "
        f"by {met} of {count(len(held), 'seed')}: measured chi^2 with {boxes.trained_on} sub-boxes trained on and "
        f"{boxes.judged_on} judged on, {each}."
    ]


def _order(gate: Gate) -> str:
    forests = " and ".join(f"{number(chi2, 1)} (depth {depth})" for depth, chi2 in gate.forests.items())
    return f"network {number(gate.network, 1)}, forests {forests}, mean {number(gate.mean, 1)}"


def _functions(of: Findings) -> list[str]:
    if not of.boxes:
        return [_NOTHING]
    said = [
        f"Predicted for the validation boxes of seed {of.boxes[0].seed} (measured), beside the galaxies that were made "
        f"and the measurement of {MOUSTAKAS} (published), whose errors are sigma in chi^2."
    ]
    truth = {boxes.seed: _heavy(boxes.truth) for boxes in of.boxes}
    found = {
        model.title: [_heavy(j.predicted) / truth[seed] for seed, j in of.by(model).items() if truth.get(seed)]
        for model in (*FORESTS, *of.networks)
    }
    shares = [f"{', '.join(percent(x) for x in each)} ({title})" for title, each in found.items() if each]
    if not shares:
        return said
    return [
        *said,
        f"From {smf.EDGES[_HEAVY]:.1f} upwards they have {', '.join(shares)} of what is true, by seed (measured). A "
        "forest says the mean for halos that look alike, and loses the scatter that fills these bins.",
    ]


def _heavy(of: Spread) -> float:
    """Return the sum over the heaviest bins."""
    return sum(of.phi[_HEAVY:])


def _forest(of: Findings) -> list[str]:
    if not of.forests:
        return [_NOTHING]
    said = []
    for model in FORESTS:
        scatters = [f.scatter_dex for f in of.forests if f.model == model]
        if scatters:
            said.append(f"{over_seeds(stats.geometric_mean(scatters))} dex at depth {model.size}")
    strongest = max(of.forests[0].importances.items(), key=lambda item: item[1])
    return [
        f"Forests miss the stellar mass of a halo by {' and '.join(said)} (measured), where "
        f"{galaxies.STELLAR_SCATTER:g} dex cannot be known; {strongest[0]} has {number(strongest[1], 2)} of the "
        f"importance ({of.forests[0].model.title}, seed {of.forests[0].seed})."
    ]


def _learning(of: Findings) -> list[str]:
    if not of.learning:
        return [_NOTHING]
    said = []
    for model in of.networks:
        runs = [run for run in of.learning if run.model == model]
        first, last = (", ".join(number(run.chi2[i]) for run in runs) for i in (0, -1))
        said.append(
            f"{model.title}: chi^2 is {first} after the first epoch and {last} after the last of {len(runs[0].chi2)}, "
            "seed by seed (measured)."
        )
    return said


def _halos(of: Findings) -> list[str]:
    if not of.boxes:
        return [_NOTHING]
    halos = ", ".join(f"{boxes.halos:,}" for boxes in of.boxes)
    return [f"Halos in the box, seed by seed: {halos} (measured), against about {published.HALOS:,.0f} (published)."]


def _table(of: Findings) -> Table:
    models = [MEAN, *reversed(FORESTS), RELATION, *published_networks(of), FLOOR]
    head = [
        "Model", f"chi^2 ({PUBLISHED})", f"chi^2 here ({MEASURED})", "Here / published", "Each seed", "Processor time",
    ]  # fmt: skip
    caption = "validation boxes; processor times are means over seeds; n/a: not published, or not made"
    return Table(head, [_row(of, model) for model in models], caption, frozenset({1, 2, 3, 5}))


def _row(of: Findings, model: Model) -> TableRow:
    ours, theirs, held = of.chi2(model), model.published, list(of.by(model).values())
    missed = NOT_KNOWN if ours is None or theirs is None else number(ours.value / theirs, 2)
    has_time = model not in UNFITTED and held
    time = seconds(sum(j.cpu_s for j in held) / len(held)) if has_time else NOT_KNOWN
    each = ", ".join(_plus_minus(j) for j in held) or NOT_KNOWN
    published_chi2 = NOT_KNOWN if theirs is None else f"{theirs:g}"
    return TableRow([model.title, published_chi2, over_seeds(ours), missed, each, time])


def _gate_table(of: Findings) -> Table | None:
    held = gates(of)
    if not held:
        return None
    network, columns = of.networks[0], [MEAN, *reversed(FORESTS), RELATION, of.networks[0], FLOOR]
    rows = []
    for gate in held:
        judged = [of.by(model)[gate.seed] for model in columns]
        ratios = [number(gate.network / gate.forests[model.size], 2) for model in FORESTS]
        cells = [str(gate.seed), *map(_plus_minus, judged), *ratios, number(gate.network / gate.mean, 2)]
        rows.append(TableRow([*cells, "met" if gate.is_met else "not met"], "plain" if gate.is_met else "failed"))
    over = [f"{network.title} / {model.title}" for model in FORESTS]
    head = ["Seed", *(model.title for model in columns), *over, f"{network.title} / mean", "Gate"]
    return Table(head, rows, f"chi^2, {MEASURED}", frozenset(range(1, len(head) - 1)))


def _function_table(of: Findings) -> Table | None:
    if not of.boxes:
        return None
    first = of.boxes[0]
    columns = {f"Made galaxies ({MEASURED})": first.truth.phi}
    for model in (FORESTS[0], *of.networks):
        held = of.by(model).get(first.seed)
        if held is not None:
            columns[f"{model.title} ({MEASURED})"] = held.predicted.phi
    rows = [
        TableRow([f"{d.low:.1f}", *(_phi(phi[i]) for phi in columns.values()), _phi(d.phi)])
        for i, d in enumerate(published.densities())
    ]
    head = ["log10 M* from", *columns, f"{MOUSTAKAS} ({PUBLISHED})"]
    caption = f"phi in 10^-4 per Mpc^3 and dex, means over the validation boxes of seed {first.seed}"
    return Table(head, rows, caption, frozenset(range(len(head))))


def _phi(phi: float) -> str:
    return number(phi * 1e4, 3)


def _forest_table(of: Findings) -> Table | None:
    if not of.forests:
        return None
    names = list(of.forests[0].importances)
    rows = [
        TableRow(
            [str(f.seed), str(f.model.size), f"{f.halos:,}", number(f.scatter_dex, 4),
             *(number(f.importances[name], 3) for name in names), MEASURED]
        )
        for f in of.forests
    ]  # fmt: skip
    head = ["Seed", "Depth", "Halos fitted to", "Scatter (dex)", *names, "Provenance"]
    return Table(head, rows, "importances by feature; they sum to 1", frozenset(range(len(head) - 1)))


def _points(of: Findings) -> list[dict[str, object]]:
    """Return every figure with where it comes from."""
    rows: list[dict[str, object]] = []
    for boxes in of.boxes:
        rows.append(_point("halos", "made catalogue", boxes.seed, boxes.halos))
        rows += _by_bin("phi", "made galaxies", boxes.seed, boxes.truth.phi)
    for j in of.judged:
        about = (j.model.title, j.seed)
        rows += [_point("chi2", *about, j.chi2), _point("chi2_error", *about, j.error)]
        rows += _by_bin("chi2_of_bin", *about, j.by_bin)
        for name, values in (("phi", j.predicted.phi), ("phi_p16", j.predicted.low), ("phi_p84", j.predicted.high)):
            rows += _by_bin(name, *about, values)
        if j.model not in UNFITTED:
            rows.append(_point("cpu_s", *about, j.cpu_s))
    for f in of.forests:
        rows.append(_point("scatter_dex", f.model.title, f.seed, f.scatter_dex))
        rows += [_point("importance", f.model.title, f.seed, value, name) for name, value in f.importances.items()]
    for run in of.learning:
        rows += [_point("epoch_chi2", run.model.title, run.seed, v, i) for i, v in enumerate(run.chi2, start=1)]
        rows += [_point("epoch_loss", run.model.title, run.seed, v, i) for i, v in enumerate(run.losses, start=1)]
    return [*rows, *_published_points()]


def _published_points() -> list[dict[str, object]]:
    networks = {f"ResNet N = {channels}": chi2 for channels, chi2 in published.networks().items()}
    theirs = {"forest of depth 5 or 10": published.forest(), **networks}
    rows = [_point("chi2", f"{name}, {PAPER}", "", chi2, origin=PUBLISHED) for name, chi2 in theirs.items()]
    for d in published.densities():
        for name, value in (("phi", d.phi), ("phi_error_up", d.error_up), ("phi_error_down", d.error_down)):
            rows.append(_point(name, MOUSTAKAS, "", value, d.low, PUBLISHED))
    return rows


def _by_bin(quantity: str, series: str, seed: int, values: Sequence[float]) -> list[dict[str, object]]:
    lows = smf.EDGES[:-1].tolist()
    return [_point(quantity, series, seed, value, low) for low, value in zip(lows, values, strict=True)]


def _point(
    quantity: str, series: str, seed: int | str, value: float, at: object = "", origin: str = MEASURED
) -> dict[str, object]:
    return {"quantity": quantity, "series": series, "seed": seed, "at": at, "value": value, "provenance": origin}
