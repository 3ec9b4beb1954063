"""What the parts of the reproduction say together: every figure of the page, from whatever parts there are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from siderostat import stats
from siderostat.reproduce.abbott2024 import derivative, transport
from siderostat.reproduce.abbott2024.loops import KINDS
from siderostat.reproduce.parts import Found, Result
from siderostat.workloads.gauge_flow import ensemble
from siderostat.workloads.gauge_flow.ensemble import Estimate

COSTS = ("generation", "measurement", "flow_evaluation")
_SMALL_STEP = 0.1  # of the gap between the couplings: the second reweighting


@dataclass(frozen=True)
class Trained:
    """A flow from the Haar measure.

    Attributes:
        kind: of :data:`loops.KINDS`.
        seed: of weights and fields.
        settings: of its training.
        losses: of its updates, -<ln w>.
        variance: of ln w over draws, with the error of the draws.
        effective: share of the draws that they are worth.
        log_z: ln Z as the draws have it.
        mean_log_weight: <ln w>, below ln Z by the divergence.
        training_s: processor time of the training.
        draw_s: of a draw.
        parameters: that are trained.
    """

    kind: str
    seed: int
    settings: Mapping[str, object]
    losses: list[float]
    variance: Estimate
    effective: Estimate
    log_z: Estimate
    mean_log_weight: float
    training_s: float
    draw_s: float
    parameters: int


@dataclass(frozen=True)
class Derivative:
    """d<P>/d beta by one estimator, the mean over seeds.

    Attributes:
        name: of the estimator.
        of: which slope it is of.
        estimate: with its error.
        seeds: estimates of each seed.
        fields_s: processor time of one of its configurations, all that it needs of both couplings; training left out.
        fields: configurations.
    """

    name: str
    of: str
    estimate: Estimate
    seeds: list[Estimate]
    fields_s: float
    fields: int

    @property
    def percent_s(self) -> float:
        """Processor time to a standard error of 1 % of the value; it falls with the square of the error."""
        return self.fields * self.fields_s * (self.estimate.error / self.estimate.value / 0.01) ** 2


@dataclass(frozen=True)
class Findings:
    """Everything that the page shows.

    Attributes:
        trained: flows from the Haar measure.
        derivatives: estimates of d<P>/d beta, those over the whole gap first.
        costs: of :data:`COSTS` the processor time for one configuration, in seconds; empty without a flow between two
            couplings.
        transport_training_s: of such a flow's training.
        transport_effective: share of the fields that they are worth behind such a flow, by seed.
        beta: where derivatives begin; None without one.
        gap: how far they reach.
    """

    trained: list[Trained]
    derivatives: list[Derivative]
    costs: dict[str, stats.Estimate]
    transport_training_s: stats.Estimate | None
    transport_effective: list[Estimate]
    beta: float | None
    gap: float | None

    def of(self, kind: str) -> list[Trained]:
        """Return the flows of one kind, by seed."""
        return [t for t in self.trained if t.kind == kind]

    def ratio(self, above: str, below: str, figure: Callable[[Trained], float]) -> stats.Estimate | None:
        """Return one kind's figure over another's, over the seeds that both have; None where there is none."""
        held = {t.seed: figure(t) for t in self.of(below)}
        ratios = [figure(t) / held[t.seed] for t in self.of(above) if t.seed in held]
        return stats.geometric_mean(ratios) if ratios else None

    def mean(self, kind: str, figure: Callable[[Trained], float]) -> stats.Estimate | None:
        """Return the geometric mean of a figure over the seeds of a kind; None where there is none."""
        values = [figure(t) for t in self.of(kind)]
        return stats.geometric_mean(values) if values else None


def variance(of: Trained) -> float:
    """Return the variance of the log-weights."""
    return of.variance.value


def effective(of: Trained) -> float:
    """Return the effective sample size as a share of the draws."""
    return of.effective.value


def find(found: Found) -> Findings:
    """Compute every figure from the parts that there are."""
    by_kind = {kind: _of(found, kind) for kind in KINDS}
    moved = _of(found, transport.NAME)
    settings = moved[0].settings if moved else {}
    return Findings(
        trained=[_trained(kind, result) for kind, results in by_kind.items() for result in results],
        derivatives=_derivatives(moved) if moved else [],
        costs=_costs(moved) if moved else {},
        transport_training_s=stats.geometric_mean([r.figures["training_s"] for r in moved]) if moved else None,
        transport_effective=[
            ensemble.effective_sample_size(np.ravel(r.figures["log_weights"])) for r in moved
        ],
        beta=settings.get("beta"),
        gap=settings.get("gap"),
    )  # fmt: skip


def _of(found: Found, kind: str) -> list[Result]:
    return [result for name, result in found.results.items() if name.rpartition("-")[0] == kind]


def _trained(kind: str, result: Result) -> Trained:
    figures = result.figures
    log_weights = np.array(figures["log_weights"])
    return Trained(
        kind,
        result.settings["seed"],
        result.settings,
        figures["losses"],
        ensemble.log_weight_variance(log_weights),
        ensemble.effective_sample_size(log_weights),
        ensemble.log_partition(log_weights),
        float(log_weights.mean()),
        figures["training_s"],
        figures["draw_s"] / len(log_weights),
        figures["parameters"],
    )


def _costs(results: Sequence[Result]) -> dict[str, stats.Estimate]:
    names = dict(zip(COSTS, ("generation_s", "measurement_s", "flow_s"), strict=True))
    return {cost: stats.geometric_mean([r.figures[name] for r in results]) for cost, name in names.items()}


def _derivatives(results: Sequence[Result]) -> list[Derivative]:
    beta, gap = results[0].settings["beta"], results[0].settings["gap"]
    cost = {name: e.value for name, e in _costs(results).items()}
    once = cost["generation"] + cost["measurement"]
    secant, slope = f"secant, {beta:g} to {beta + gap:g}", f"slope at {beta:g}"
    short = f"secant, {beta:g} to {beta + _SMALL_STEP * gap:g}"
    fields = sum(np.size(r.figures["first"]) for r in results)
    of_all: dict[str, tuple[str, float, list[Estimate]]] = {
        "flow": (secant, once + cost["flow_evaluation"] + cost["measurement"], [_by_flow(r) for r in results]),
        "reweighting": (secant, once, [_by_reweighting(r, gap) for r in results]),
        "independent ensembles": (secant, 2 * once, [_by_independent(r) for r in results]),
        "reweighting, small step": (short, once, [_by_reweighting(r, _SMALL_STEP * gap) for r in results]),
        "connected correlator": (slope, once, [_by_connected(r, "first") for r in results]),
        "connected correlator, both ends": (secant, 2 * once, [_by_both_ends(r) for r in results]),
    }
    return [
        Derivative(name, of, derivative.mean(seeds), seeds, seconds, fields)
        for name, (of, seconds, seeds) in of_all.items()
    ]


def _by_flow(result: Result) -> Estimate:
    first, moved, log_weights = (np.array(result.figures[name]) for name in ("first", "moved", "log_weights"))
    return derivative.correlated(first, moved, log_weights, result.settings["gap"])


def _by_reweighting(result: Result, step: float) -> Estimate:
    """Return the estimate of a flow that does nothing: ln w = step * sum Re tr P / 3."""
    first = np.array(result.figures["first"])
    return derivative.correlated(first, first, step * _plaquettes(result) * first, step)


def _by_independent(result: Result) -> Estimate:
    first, second = (np.array(result.figures[name]) for name in ("first", "second"))
    return derivative.independent(first, second, result.settings["gap"])


def _by_connected(result: Result, name: str) -> Estimate:
    values = np.array(result.figures[name])
    return derivative.connected(values, _plaquettes(result) * values)


def _by_both_ends(result: Result) -> Estimate:
    """Return the trapezoidal rule for the mean slope; the error of the rule is of second order in the gap."""
    return derivative.mean([_by_connected(result, name) for name in ("first", "second")])


def _plaquettes(result: Result) -> int:
    return transport.plaquettes_of(tuple(result.settings["extents"]))
