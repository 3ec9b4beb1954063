"""What the reproduction says in words and tables."""

from __future__ import annotations

import math

from siderostat import stats
from siderostat.reports.labels import NOT_KNOWN, interval, number, seconds, seconds_interval
from siderostat.reports.section import Part, Section
from siderostat.reports.tables import Table, TableRow
from siderostat.reproduce.abbott2024 import figures, published
from siderostat.reproduce.abbott2024.findings import COSTS, Derivative, Findings, Trained, effective, variance
from siderostat.reproduce.abbott2024.loops import KINDS, SHORTER, TITLES
from siderostat.reproduce.page import Page, to_csv
from siderostat.workloads.gauge_flow.ensemble import Estimate
from siderostat.workloads.gauge_flow.parameters import FIXED, LEARNED

TITLE = "Abbott et al. (2024/25) made anew on one processor core: learned active loops and correlated ensembles"
MADE = (
    "Made by siderostat. What is not marked as published (grey in charts) was measured; every figure is in points.csv."
)
_NOTHING = "No part of this is there yet."
_OF_LOOPS = [
    "Trainings of one seed draw the same fields and differ in the active loops only: the same layers (parity updates, "
    "1/8 of the links each), updates, batch and learning rate. Learned loops begin as the fixed ones with some noise.",
    "The figure to compare is the variance of ln w: an effective sample size of a few per cent, from a thousand draws, "
    "rests on a handful of them.",
    "Masks, context network and staple network (one hidden level) are choices of this project, of the type that the "
    "paper describes.",
    "With draws this far from the target, ln Z from the draws is too low; it is listed to show by how much.",
]
_OF_DERIVATIVES = [
    "Fields come from heat baths, those that a flow learns from of other chains than those it is judged by. Errors: "
    "jackknife over chains; of the mean over seeds, from those of each.",
    "The correlated estimate is eqs. (12) and (13) with what they leave out in print: the division by the difference "
    "of the couplings, and weights normalised by their own sum.",
    "A secant and a slope at one end differ by half the gap times the curvature, about 1 % by the strong-coupling "
    "series.",
    "Where few fields carry all the weight, as in reweighting over the whole gap, the jackknife's error is itself "
    "uncertain, and too small more often than too large.",
]
_OF_COSTS = [
    "Published: hours of an A100 for one configuration of Nf = 2 twisted-mass fermions on 12^3 x 24, where generation "
    "and measurement need solves of the Dirac equation. Here: pure gauge theory, without them. The ratios are not "
    "expected to agree; they decide whether a flow pays.",
    "The published cost of training, 4,608 GPU hours, is given there as 8 days on 16 GPUs, which would be 3,072.",
    "Processor times of one thread; generation: the updates of the heat bath between two configurations.",
]


def page(of: Findings) -> Page:
    """Return the page."""
    parts = [
        Part("Learned against fixed loops", _loops(of), lambda: figures.training_charts(of), _trainings(of), _OF_LOOPS),
        Part("Beside what was published", _beside(of), table=_published_table(of)),
        Part(
            "d<P>/d beta from correlated ensembles", _derivatives(of), lambda: figures.derivative_charts(of),
            _derivative_table(of), _OF_DERIVATIVES,
        ),
        Part("What a configuration costs", _costs(of), lambda: figures.cost_charts(of), _cost_table(of), _OF_COSTS),
    ]  # fmt: skip
    headlines = [*_loops(of)[:2], *_beside(of)[:1], *_derivatives(of)[:2], *_costs(of)[:1]]
    shown = [h for h in dict.fromkeys(headlines) if h != _NOTHING]
    return Page(Section("abbott2024", TITLE, parts, shown), to_csv(_points(of)), MADE)


def plus_minus(of: Estimate) -> str:
    """Return "0.0760 +- 0.0020", both with two digits of the error."""
    if not of.error > 0:
        return number(of.value)
    places = max(0, 1 - math.floor(math.log10(of.error)))
    return f"{number(of.value, places)} +- {number(of.error, places)}"


def _share(share: float, decimals: int = 0) -> str:
    """Return a share as "80 %"."""
    return f"{100 * share:.{decimals}f} %"


def _interval(of: stats.Estimate) -> str:
    """Return a figure with its interval over seeds, or that there is one seed only."""
    return f"{number(of.value)} (one seed, no interval)" if of.low is None else interval(of)


def _seeds(n: int) -> str:
    return "one seed" if n == 1 else f"{n} seeds, 95 % intervals over them"


def _loops(of: Findings) -> list[str]:
    ratio = of.ratio(FIXED, LEARNED, variance)
    if ratio is None:
        return [_NOTHING]
    fixed, learned, some = of.mean(FIXED, variance), of.mean(LEARNED, variance), of.of(LEARNED)[0].settings
    cost = of.ratio(LEARNED, FIXED, lambda t: t.training_s)
    assert fixed and learned and cost
    said = [
        f"Measured at {some['layers']} layers, {some['steps']} updates of batch {some['batch']}, beta {some['beta']:g} "
        f"({_seeds(ratio.n)}): the variance of ln w is {number(learned.value)} with learned loops and "
        f"{number(fixed.value)} with fixed ones, {_interval(ratio)} times as large.",
        f"A training with learned loops takes {_interval(cost)} times the processor time of one with fixed loops"
        + _equal_cost(of),
    ]
    draws = of.ratio(LEARNED, FIXED, lambda t: t.draw_s)
    assert draws
    return [*said, f"A draw from a flow with learned loops takes {_interval(draws)} times as long as with fixed ones."]


def _equal_cost(of: Findings) -> str:
    ratio, cost = of.ratio(FIXED, SHORTER, variance), of.ratio(SHORTER, FIXED, lambda t: t.training_s)
    if ratio is None or cost is None:
        return "."
    return (
        f"; cut to {of.of(SHORTER)[0].settings['steps']} updates, {number(cost.value)} times that time, it leaves a "
        f"variance of which that with fixed loops is {_interval(ratio)} times."
    )


def _beside(of: Findings) -> list[str]:
    learned, fixed = of.mean(LEARNED, effective), of.mean(FIXED, effective)
    if learned is None or fixed is None:
        return [_NOTHING]
    theirs = published.figures()
    some = of.of(LEARNED)[0]
    update_s = some.training_s / len(some.losses)
    return [
        f"The published effective sample sizes, {_share(theirs['ess_learned_active_loops'])} with learned and "
        f"{_share(theirs['ess_fixed_loops'])} with fixed loops, are not reproduced: measured here are "
        f"{_share(learned.value, 1)} and {_share(fixed.value, 1)}.",
        f"Those are of {published.FLOW_LAYERS} layers, trained on GPUs; here are {some.settings['layers']} and "
        f"{len(some.losses)} updates, each {seconds(update_s)} of one core with learned loops: enough to see whether "
        "the loops help, not to reach the published values.",
    ]


def _trainings(of: Findings) -> Table | None:
    rows = [_training_row(t) for kind in KINDS for t in of.of(kind)]
    head = [
        "Loops", "Seed", "Updates", "Parameters", "Training", "Variance of ln w", "Effective sample size", "ln Z",
        "<ln w>", "Provenance",
    ]  # fmt: skip
    caption = "errors are one standard error of the draws"
    return Table(head, rows, caption, frozenset(range(1, 9))) if rows else None


def _training_row(t: Trained) -> TableRow:
    cells = [
        TITLES[t.kind], str(t.seed), str(len(t.losses)), f"{t.parameters:,}", seconds(t.training_s),
        plus_minus(t.variance), plus_minus(t.effective), plus_minus(t.log_z), number(t.mean_log_weight, 2),
        figures.MEASURED,
    ]  # fmt: skip
    return TableRow(cells)


def _published_table(of: Findings) -> Table:
    rows = []
    for kind, key in ((LEARNED, "ess_learned_active_loops"), (FIXED, "ess_fixed_loops")):
        ours, theirs = of.mean(kind, effective), published.figures()[key]
        here = NOT_KNOWN if ours is None else _share(ours.value, 2)
        missed = NOT_KNOWN if ours is None else f"{100 * (ours.value - theirs):+.0f} points"
        rows.append(TableRow([TITLES[kind], _share(theirs), here, missed]))
    head = ["Loops", f"{published.FLOW_LAYERS} layers (published)", f"here ({figures.MEASURED})", "Difference"]
    return Table(head, rows, "effective sample size at beta 2 on 4^4", frozenset({1, 2, 3}))


def _derivatives(of: Findings) -> list[str]:
    if not of.derivatives:
        return [_NOTHING]
    by_name = {d.name: d for d in of.derivatives}
    flow, plain, apart = (by_name[n] for n in ("flow", "reweighting", "independent ensembles"))
    reference = by_name["connected correlator, both ends"]
    training = of.transport_training_s
    assert training
    sigmas = flow.estimate.sigmas_from(reference.estimate.value, reference.estimate.error)
    worth = ", ".join(_share(e.value) for e in of.transport_effective)
    assert of.beta is not None
    assert of.gap is not None
    return [
        f"Measured between beta {of.beta:g} and {of.beta + of.gap:g}: d<P>/d beta = {plus_minus(flow.estimate)} by the "
        f"flow, {plus_minus(plain.estimate)} by reweighting, {plus_minus(apart.estimate)} by independent ensembles and "
        f"{plus_minus(reference.estimate)} by the connected correlator; {flow.fields:,} fields at each coupling.",
        f"The flow's error is {number(flow.estimate.error / plain.estimate.error)} times that of reweighting the same "
        f"fields over the same gap, and {number(flow.estimate.error / apart.estimate.error)} times that of independent "
        f"ensembles. For an error of 1 % the flow takes {seconds(flow.percent_s)} of processor time, independent "
        f"ensembles {seconds(apart.percent_s)} (training left out: {seconds_interval(training, say_none=False)}).",
        f"The flow and the correlator differ by {abs(sigmas):.1f} standard errors of the difference, taken as "
        f"independent. Behind the flow the fields are worth {worth} of their number, seed by seed.",
    ]


def _derivative_table(of: Findings) -> Table | None:
    rows = [_derivative_row(d) for d in of.derivatives]
    head = ["Estimator", "Of", "d<P>/d beta", "Each seed", "Time for a field", "Time for 1 %", "Provenance"]
    caption = "processor times with everything that an estimator needs at both couplings, training left out"
    return Table(head, rows, caption, frozenset({2, 3, 4, 5})) if rows else None


def _derivative_row(d: Derivative) -> TableRow:
    each = ", ".join(plus_minus(e) for e in d.seeds)
    cells = [d.name, d.of, plus_minus(d.estimate), each, seconds(d.fields_s), seconds(d.percent_s), figures.MEASURED]
    return TableRow(cells)


def _costs(of: Findings) -> list[str]:
    if not of.costs:
        return [_NOTHING]
    theirs = published.figures()
    ours = of.costs["flow_evaluation"].value / of.costs["generation"].value
    published_ratio = theirs["cost_flow_evaluation"] / theirs["cost_generation"]
    return [
        f"Taking a field through the flow costs {number(ours)} times its generation here (measured) and "
        f"{number(published_ratio)} times with dynamical fermions on an A100 (published): a flow pays where fields are "
        "dear, and a heat bath's are not."
    ]


def _cost_table(of: Findings) -> Table:
    theirs = published.figures()
    rows = []
    for name in (*COSTS, "reweighting"):
        ours = of.costs.get(name)
        shares = [
            NOT_KNOWN if ours is None else number(ours.value / of.costs["generation"].value),
            number(theirs[f"cost_{name}"] / theirs["cost_generation"]),
        ]
        here = NOT_KNOWN if ours is None else seconds_interval(ours, say_none=False)
        rows.append(TableRow([name.replace("_", " "), here, f"{theirs[f'cost_{name}']} GPU h", *shares]))
    training = of.transport_training_s
    here = NOT_KNOWN if training is None else seconds_interval(training, say_none=False)
    rows.append(TableRow(["training", here, f"{theirs['cost_training']:,.0f} GPU h", NOT_KNOWN, NOT_KNOWN]))
    head = [
        "Cost", f"Processor time here ({figures.MEASURED})", "A100 (published)", "Over generation, here",
        "Over generation, published",
    ]  # fmt: skip
    return Table(head, rows, "for one configuration, training once: the costs of eq. (19)", frozenset({1, 2, 3, 4}))


def _points(of: Findings) -> list[dict[str, object]]:
    """Return every figure with where it comes from."""
    rows = []
    for t in of.trained:
        name = f"{TITLES[t.kind]}, seed {t.seed}"
        found = {
            "log_weight_variance": t.variance, "effective_sample_size": t.effective, "log_z": t.log_z,
            "mean_log_weight": Estimate(t.mean_log_weight, math.nan), "training_s": Estimate(t.training_s, math.nan),
            "draw_s": Estimate(t.draw_s, math.nan),
        }  # fmt: skip
        rows += [_point(quantity, name, e) for quantity, e in found.items()]
    for d in of.derivatives:
        rows.append(_point("plaquette_derivative", d.name, d.estimate))
        rows += [_point("plaquette_derivative", f"{d.name}, seed {i}", e) for i, e in enumerate(d.seeds)]
    rows += [_point(f"cost_{name}_s", "here", Estimate(cost.value, math.nan)) for name, cost in of.costs.items()]
    for quantity, value in published.figures().items():
        unit = "_gpu_h" if quantity.startswith("cost") else ""
        rows.append(_point(f"{quantity}{unit}", "Abbott et al.", Estimate(value, math.nan), figures.PUBLISHED))
    return rows


def _point(quantity: str, series: str, of: Estimate, provenance: str = figures.MEASURED) -> dict[str, object]:
    error = "" if math.isnan(of.error) else of.error
    return {"quantity": quantity, "series": series, "value": of.value, "error": error, "provenance": provenance}
