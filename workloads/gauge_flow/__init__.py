"""Gauge flow: SU(3) gauge fields in four dimensions through a spectral coupling flow (Abbott et al. 2024/25)."""

from __future__ import annotations

import functools
from typing import Any, ClassVar, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from siderostat.workloads.base import (
    COMPLEX,
    DECOMPOSITIONS,
    HOST_KERNELS,
    BadInput,
    Exam,
    Feed,
    Goal,
    Option,
    Phase,
    Size,
    Spec,
    Step,
    Workload,
    WrongResult,
    checked,
)
from siderostat.workloads.gauge_flow import checkpoint, group, lattice, parameters
from siderostat.workloads.gauge_flow.checkpoint import TRAINED, Stack
from siderostat.workloads.gauge_flow.group import DIMENSIONS

LATTICES: Dict[str, Tuple[int, ...]] = {
    "tiny": (4, 4, 4, 4),
    "4^4": (4, 4, 4, 4),
    "8^4": (8, 8, 8, 8),
    "12^3x24": (12, 12, 12, 24),
}
LAYERS = {"tiny": 8, "4^4": 192, "8^4": 192, "12^3x24": 192}
"""Of the stack, where none are asked for."""

SPREAD = 0.1
"""Standard deviation of the last dense layer of a flow that is only evaluated, so that it moves every link."""

LEARNING_RATE = 1e-3
COPIES = 8  # gauge transforms of one field in a feed; more repeat

DRAWN = "drawn"
LEARNT = "trained"
WEIGHTS = (DRAWN, LEARNT)

TARGET_VARIANCE = 1.5
"""Of the log-weights of the flow that comes along: 0 for a perfect flow and 85 for none at all, at beta = 1."""

TRAINING_VARIANCE = 8.0
TRAINING_OPTIONS = {**TRAINED._asdict(), "rate": 5e-3}
BUDGET_FIELDS = 640
_AT_ONCE = 32  # fields in a call of an exam

UNITARITY = 1e-3  # what single precision and 192 layers leave, with room
LOG_DETERMINANT = 1e-2
PLAQUETTE = 1e-4


def _size(layers: int) -> Size:
    parts = parameters.count(lattice.stack(layers), parameters.LEARNED)
    return Size(sum(parts.values()), sum(parts.values()), parts)


_SIZES = {name: _size(layers) for name, layers in LAYERS.items()}


class GaugeFlow(Workload):
    """A normalizing flow of lattice gauge theory. Variants are formulations of the same mathematics."""

    name = "gauge-flow"
    title = "Spectral coupling flow of SU(3) gauge fields in four dimensions"
    item = "gauge configuration"
    modes = ("evaluate", "inverse", "train")
    frameworks = ("torch",)
    precisions = ("fp32", "fp64")
    variants: ClassVar[Mapping[str, Mapping[str, Size]]] = {
        "real": _SIZES,
        "complex": _SIZES,
        "fused": _SIZES,
    }
    batches = (1, 2, 4, 8, 16)
    options: ClassVar[Mapping[str, Option]] = {
        "masks": Option(lattice.DIAGONAL, "layers: diagonal (direction and location updates) or parity updates"),
        "loops": Option(parameters.LEARNED, "active loops: learned (all but those of location updates) or fixed"),
        "layers": Option(0, "layers of the stack, in rounds of 64, or 24 of parity; 0: as many as belong to the size"),
        "beta": Option(1.0, "of the Wilson action that is trained for, or judged by"),
        "rate": Option(LEARNING_RATE, "learning rate of mode train"),
        "weights": Option(DRAWN, "drawn from the seed, or trained, which fit one stack only: that of the checkpoint"),
        "checkpoint": Option("", "path of the trained weights; empty: those that come along", is_path=True),
    }
    reference = "Abbott et al. (2025), Progress in Normalizing Flows for 4d Gauge Theories, arXiv:2502.00263"

    def needs(self, spec: Spec) -> Tuple[str, ...]:
        """Return what a formulation cannot do without; ``real`` needs nothing special."""
        return {"complex": (COMPLEX, DECOMPOSITIONS), "fused": (HOST_KERNELS,)}.get(spec.variant, ())

    def goal(self, variant: str, mode: str) -> Optional[Goal]:
        """Return how little log-weights may vary: of the flow that comes along, or of one that is trained shortly."""
        figure = "log_weight_variance"
        if mode == "evaluate":
            trained = {**TRAINED._asdict(), "weights": LEARNT}
            return Goal(figure, TARGET_VARIANCE, budget=0, every=0, batch=_AT_ONCE, options=trained)
        if mode == "train":
            return Goal(figure, TRAINING_VARIANCE, BUDGET_FIELDS, every=160, batch=16, options=TRAINING_OPTIONS)
        return None

    def exam(self, spec: Spec, step: Step) -> Exam:
        """Return how draws from the flow are weighed; see :mod:`quality`."""
        from siderostat.workloads.gauge_flow import quality

        is_finished = spec.mode == "evaluate" and _option(spec, "weights") == LEARNT
        return quality.exam(step.phases[0].model.flow, LATTICES[spec.size], float(_option(spec, "beta")), is_finished)

    def flops_per_item(self, spec: Spec) -> Optional[float]:
        """Return operations per configuration, matrix products and their mixing in the staple networks and loops only.

        Of the variants real and fused what the cone of the active links needs; training has three times as many.
        """
        stack = _stack(spec)
        volume = int(np.prod(LATTICES[spec.size]))
        how = spec.variant != "complex", stack.masks == lattice.PARITY
        once = sum(parameters.staple_flops(volume, is_learned, *how) for is_learned in stack.learned())
        return float(once * (3 if spec.mode == "train" else 1))

    def build(self, spec: Spec) -> Step:
        """Make a flow with weights from ``spec.seed``, or trained ones; those drawn for training are the identity.

        Raises:
            BadInput: if an option has no such value, trained weights do not fit the options, or the kernel of the
                variant fused cannot be compiled.
        """
        import torch

        from siderostat.workloads.gauge_flow import coupling
        from siderostat.workloads.gauge_flow import torch as steps

        torch.manual_seed(spec.seed)
        extents, stack = LATTICES[spec.size], _stack(spec)
        flow = steps.make_flow(spec.variant, extents, stack.updates(), stack.learned())
        rng = np.random.default_rng(spec.seed)
        coupling.load_weights(flow, _weights(spec, stack, rng))
        if spec.mode != "train":
            model = steps.FlowEvaluation(flow, spec.mode == "inverse")
            feed = Feed((_gauge_copies(rng, extents, min(spec.batch, COPIES)),), spec.batch, spec.seed)
            return Step(spec.framework, (Phase(model, feed),), spec.batch)
        training = steps.FlowTraining(flow, extents, float(_option(spec, "beta")))
        # Numbers, since a step takes its inputs from somewhere: fields are drawn on the device.
        feed = Feed((np.arange(spec.batch, dtype=np.float32),), spec.batch, spec.seed)
        adam = functools.partial(steps.adam, float(_option(spec, "rate")))
        return Step(spec.framework, (Phase(training, feed, adam),), spec.batch)

    def check(self, spec: Spec, outputs: Sequence[np.ndarray]) -> Dict[str, float]:
        """Return figures of the fields, or in training the ``loss`` and the variance of the log-weights.

        ``off_group`` is the largest entry of U U^dagger - 1 and det U - 1. All fields of a batch are gauge transforms
        of one, so ``log_determinant_spread`` and ``plaquette_spread``, of more than one field, show equivariance.

        Raises:
            WrongResult: if shapes are wrong, anything is not finite, links have left SU(3), or the flow's results
                depend on the gauge.
        """
        if spec.mode == "train":
            log_weights, loss = checked(outputs, {"log-weights": (spec.batch,), "loss": ()})
            return {
                "loss": float(loss.reshape(())),
                "log_weight_variance": float(np.var(log_weights, dtype=np.float64)),
            }
        shape = (spec.batch, DIMENSIONS, *LATTICES[spec.size], 3, 3, 2)
        pairs, log_determinant = checked(outputs, {"links": shape, "log-determinants": (spec.batch,)})
        links = pairs[..., 0] + 1j * pairs[..., 1].astype(np.float64)
        figures = {
            "off_group": group.distance_from_group(links),
            "log_determinant": float(log_determinant.mean(dtype=np.float64)),
            "plaquette": float(group.mean_plaquette(links).mean()),
        }
        if figures["off_group"] > UNITARITY:
            raise WrongResult(f"links are {figures['off_group']:.2g} off SU(3), more than {UNITARITY}")
        if spec.batch > 1:
            figures["log_determinant_spread"] = float(np.ptp(log_determinant))
            figures["plaquette_spread"] = float(np.ptp(group.mean_plaquette(links)))
            _refuse_dependence_on_gauge(figures)
        return figures


def _refuse_dependence_on_gauge(figures: Mapping[str, float]) -> None:
    """Raise WrongResult if gauge transforms of one field fare differently."""
    limit = LOG_DETERMINANT * max(1.0, 0.01 * abs(figures["log_determinant"]))
    if figures["log_determinant_spread"] > limit or figures["plaquette_spread"] > PLAQUETTE:
        raise WrongResult(
            f"gauge transforms of one field differ by {figures['log_determinant_spread']:.2g} in the log-determinant "
            f"and {figures['plaquette_spread']:.2g} in the plaquette, more than {limit:.2g} and {PLAQUETTE}"
        )


def _stack(spec: Spec) -> Stack:
    """Return the layers that the options ask for."""
    layers = int(_option(spec, "layers"))
    if layers < 0:
        raise BadInput(f"the option layers of gauge-flow is {layers}; give a positive number, or 0 for the size's own")
    return Stack(
        _choice(spec, "masks", lattice.MASKS), _choice(spec, "loops", parameters.LOOPS), layers or LAYERS[spec.size]
    )


def _choice(spec: Spec, name: str, choices: Sequence[str]) -> str:
    value = str(_option(spec, name))
    if value not in choices:
        raise BadInput(f"the option {name} of gauge-flow is {value!r}; give one of {', '.join(choices)}")
    return value


def _weights(spec: Spec, stack: Stack, rng: np.random.Generator) -> List[Dict[str, np.ndarray]]:
    """Return the weights of each layer that a flow starts with."""
    if _choice(spec, "weights", WEIGHTS) == LEARNT:
        return checkpoint.load(stack, str(_option(spec, "checkpoint")))[0]
    spread = 0.0 if spec.mode == "train" else SPREAD
    return [parameters.initial(is_learned, rng, spread) for is_learned in stack.learned()]


def _gauge_copies(rng: np.random.Generator, extents: Tuple[int, ...], count: int) -> np.ndarray:
    """Return gauge transforms of one random field, float32 of shape (count, 4, *extents, 3, 3, 2)."""
    links = group.transformed(group.haar(rng, (1, DIMENSIONS, *extents)), group.haar(rng, (count, *extents)))
    return np.stack([np.real(links), np.imag(links)], -1).astype(np.float32)


def _option(spec: Spec, name: str) -> Any:
    return spec.options.get(name, GaugeFlow.options[name].default)
