"""Gauge fields with two flavours of quarks: a marginal and a conditional flow, and the solves that weigh them."""

from __future__ import annotations

from typing import Any, ClassVar, Dict, Mapping, Sequence, Tuple

import numpy as np

from siderostat.workloads.base import (
    COMPLEX,
    DECOMPOSITIONS,
    BadInput,
    Feed,
    Option,
    Phase,
    Size,
    Spec,
    Step,
    Workload,
    WrongResult,
    checked,
)
from siderostat.workloads.gauge_flow import SPREAD as GAUGE_SPREAD
from siderostat.workloads.gauge_flow import group, lattice, parameters
from siderostat.workloads.gauge_flow.group import COLOURS, DIMENSIONS
from siderostat.workloads.gauge_pseudofermion import conditional, dirac
from siderostat.workloads.gauge_pseudofermion.dirac import SPINS

LATTICES: Dict[str, Tuple[int, ...]] = {"tiny": (4, 4, 4, 4), "4^4": (4, 4, 4, 4), "8^4": (8, 8, 8, 8)}
LAYERS = {"tiny": 8, "4^4": 192, "8^4": 192}
"""Of the marginal flow, where none are asked for."""
COUPLINGS = 4
"""Of the conditional flow, likewise."""

SPREAD = 1e-3
"""Standard deviation of what is added to the parameters of the conditional flow, so that each of them counts."""
COPIES = 8  # gauge transforms of one field and noise in a feed; more repeat

LARGEST_KAPPA = 0.25  # where the pion loses its mass in the limit of strong coupling (Kawamoto 1981)
RESIDUAL = 1e-5
LOG_WEIGHT = 1e-2
ROUNDING = 1e-6  # of the action, in a log-weight


def _size(layers: int) -> Size:
    parts = {
        "marginal flow": sum(parameters.count(lattice.stack(layers), parameters.LEARNED).values()),
        "conditional flow": conditional.count(COUPLINGS),
    }
    return Size(sum(parts.values()), sum(parts.values()), parts)


_SIZES = {name: _size(layers) for name, layers in LAYERS.items()}


class GaugePseudofermion(Workload):
    """Flows and solves of two-flavour lattice gauge theory. Variants are formulations of the same mathematics."""

    name = "gauge-pseudofermion"
    title = "Marginal and conditional flow of SU(3) gauge fields and pseudofermions in four dimensions"
    item = "gauge configuration"
    modes = ("evaluate", "reweight")
    frameworks = ("torch",)
    precisions = ("fp32", "fp64")
    variants: ClassVar[Mapping[str, Mapping[str, Size]]] = {"real": _SIZES, "complex": _SIZES}
    batches = (1, 2, 4, 8, 16)
    options: ClassVar[Mapping[str, Option]] = {
        "layers": Option(-1, "layers of the marginal flow; 0: none; -1: as many as belong to the size"),
        "couplings": Option(COUPLINGS, "layers of the conditional flow; 0: the pseudofermion is the noise"),
        "beta": Option(1.0, "of the Wilson gauge action"),
        "kappa": Option(0.1, "hopping parameter of the quarks"),
        "reweight_to": Option(0.102, "hopping parameter that mode reweight leads to"),
        "iterations": Option(16, "of the solver; the same for all fields"),
    }
    reference = (
        "Abbott et al. (2022), Gauge-equivariant flow models for sampling in lattice field theories with "
        "pseudofermions, arXiv:2207.08945"
    )

    def needs(self, spec: Spec) -> Tuple[str, ...]:
        """Return what a formulation cannot do without; ``real`` needs nothing special."""
        if spec.variant != "complex":
            return ()
        return (COMPLEX, DECOMPOSITIONS) if spec.mode == "evaluate" and _layers(spec) else (COMPLEX,)

    def build(self, spec: Spec) -> Step:
        """Make flows with weights from ``spec.seed``; mode ``reweight`` has none.

        Raises:
            BadInput: if an option has no such value.
        """
        import torch

        from siderostat.workloads.gauge_flow.coupling import load_weights
        from siderostat.workloads.gauge_flow.torch import make_flow
        from siderostat.workloads.gauge_pseudofermion import torch as steps
        from siderostat.workloads.gauge_pseudofermion.wilson import ConditionalFlow

        _refuse_nonsense(spec)
        torch.manual_seed(spec.seed)
        rng = np.random.default_rng(spec.seed)
        extents, kappa, iterations = LATTICES[spec.size], _option(spec, "kappa"), _option(spec, "iterations")
        feed = Feed(_gauge_copies(rng, extents, min(spec.batch, COPIES)), spec.batch, spec.seed)
        fermions = steps.make_fermions(spec.variant, extents)
        model: torch.nn.Module
        if spec.mode == "reweight":
            model = steps.Reweighting(fermions, kappa, _option(spec, "reweight_to"), iterations)
            return Step(spec.framework, (Phase(model, feed),), spec.batch)
        layers = _layers(spec)
        updates = lattice.stack(layers) if layers else []
        learned = [parameters.is_learned(update, parameters.LEARNED) for update in updates]
        marginal = make_flow(spec.variant, extents, updates, learned)
        load_weights(marginal, [parameters.initial(is_learned, rng, GAUGE_SPREAD) for is_learned in learned])
        of_noise = ConditionalFlow(fermions, conditional.drawn(_option(spec, "couplings"), kappa, rng, SPREAD))
        model = steps.JointEvaluation(marginal, of_noise, _option(spec, "beta"), kappa, iterations)
        return Step(spec.framework, (Phase(model, feed),), spec.batch)

    def check(self, spec: Spec, outputs: Sequence[np.ndarray]) -> Dict[str, float]:
        """Return figures of the weights and of the solver.

        ``residual`` is the largest |phi - D psi| / |phi|, computed anew with the whole operator. All fields of a batch
        are gauge transforms of one, so ``log_weight_spread``, of more than one field, shows that the weights do not
        depend on the gauge.

        Raises:
            WrongResult: if shapes are wrong, anything is not finite, a solve is not good enough, or weights depend on
                the gauge.
        """
        shape = (spec.batch,)
        log_weights, actions, residuals = checked(
            outputs, {"log-weights": shape, "pseudofermion actions": shape, "residuals": shape}
        )
        figures = {
            "log_weight": float(log_weights.mean(dtype=np.float64)),
            "pseudofermion_action": float(actions.mean(dtype=np.float64)),
            "residual": float(residuals.max()),
        }
        if figures["residual"] > RESIDUAL:
            raise WrongResult(
                f"the solver left a residual of {figures['residual']:.2g}, more than {RESIDUAL}: raise the option "
                "iterations"
            )
        if spec.batch > 1:
            figures["log_weight_spread"] = float(np.ptp(log_weights))
            limit = LOG_WEIGHT + ROUNDING * figures["pseudofermion_action"]
            if figures["log_weight_spread"] > limit:
                raise WrongResult(
                    f"gauge transforms of one field differ by {figures['log_weight_spread']:.2g} in the log-weight, "
                    f"more than {limit:.2g}"
                )
        return figures


def _refuse_nonsense(spec: Spec) -> None:
    """Raise BadInput if an option has a value that cannot be."""
    for name in ("kappa", "reweight_to"):
        if not 0 <= _option(spec, name) < LARGEST_KAPPA:
            raise BadInput(
                f"the option {name} of gauge-pseudofermion is {_option(spec, name)}; give a number from 0 to below "
                f"{LARGEST_KAPPA}"
            )
    for name, least in (("layers", -1), ("couplings", 0), ("iterations", 1)):
        if _option(spec, name) < least:
            raise BadInput(
                f"the option {name} of gauge-pseudofermion is {_option(spec, name)}; give a number of at least {least}"
            )


def _layers(spec: Spec) -> int:
    asked = int(_option(spec, "layers"))
    return LAYERS[spec.size] if asked < 0 else asked


def _gauge_copies(rng: np.random.Generator, extents: Tuple[int, ...], count: int) -> Tuple[np.ndarray, np.ndarray]:
    """Return gauge transforms of one random field and of one noise of the density exp(-|chi|^2) / pi^n.

    Both float32, of shapes (count, 4, *extents, 3, 3, 2) and (count, *extents, 4, 3, 2).
    """
    g = group.haar(rng, (count, *extents))
    links = group.transformed(group.haar(rng, (1, DIMENSIONS, *extents)), g)
    re, im = rng.normal(0.0, np.sqrt(0.5), (2, 1, *extents, SPINS, COLOURS))
    return _pairs(links), _pairs(dirac.transformed(re + 1j * im, g))


def _pairs(numbers: np.ndarray) -> np.ndarray:
    return np.stack([np.real(numbers), np.imag(numbers)], -1).astype(np.float32)


def _option(spec: Spec, name: str) -> Any:
    return spec.options.get(name, GaugePseudofermion.options[name].default)
