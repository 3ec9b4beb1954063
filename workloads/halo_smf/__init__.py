"""Halos to the stellar mass function: the 3D ResNet of Nadler & To, and the forest that it is held against."""

from __future__ import annotations

from typing import Any, ClassVar, Dict, List, Mapping, Sequence, Tuple

import numpy as np

from siderostat.workloads.base import (
    DECOMPOSITIONS,
    UPDATE_HOOKS,
    BadInput,
    Exam,
    Feed,
    Findings,
    Goal,
    Option,
    Phase,
    Size,
    Spec,
    Step,
    Workload,
    checked,
)
from siderostat.workloads.halo_grids import data
from siderostat.workloads.halo_smf.architecture import CHANNELS, OUTPUTS
from siderostat.workloads.halo_smf.counts import forward_flops, parameter_counts

TARGET_CHI2 = 45.0
"""Saying the mean of the training labels gives 117, the forest 59 to 70, and knowing every halo's velocity 25."""

TRAINED_CHI2 = 35.0
"""Of the weights that come with siderostat."""

EPOCH = 800  # sub-boxes to train on
EPOCHS, FALL = 15, 10  # as published: the learning rate is lower in the last five
BATCH = 32
GOAL_OPTIONS = {"fall": FALL * EPOCH // BATCH}

WITH_WEIGHTS = "n20"
"""The size whose trained weights come along."""

_AT_ONCE = 50  # sub-boxes in a call of an exam

VARIANTS: Dict[str, Tuple[str, str]] = {
    "fused": ("fused", "contiguous"),
    "naive": ("naive", "contiguous"),
    "channels-last": ("fused", "channels-last"),
}
"""Variant -> form of the loss, and layout of feature maps and kernels. All make the same updates."""


def _size(channels: int) -> Size:
    parts = parameter_counts(channels)
    return Size(sum(parts.values()), sum(parts.values()), parts)


_SIZES = {name: _size(channels) for name, channels in CHANNELS.items()}


class HaloSmf(Workload):
    """A stellar mass function from where halos are and how fast matter moves in them.

    Variants differ in how the loss is written and in how tensors lie in memory, not in what is computed. In inference,
    which has no loss, ``naive`` is the same as ``fused``.
    """

    name = "halo-smf"
    title = "Stellar mass functions from grids of dark-matter halos"
    item = "sub-box"
    modes = ("train", "infer")
    frameworks = ("torch",)
    precisions = ("fp32", "tf32", "bf16", "fp16")
    variants: ClassVar[Mapping[str, Mapping[str, Size]]] = dict.fromkeys(VARIANTS, _SIZES)
    batches = (BATCH,)
    options: ClassVar[Mapping[str, Option]] = {
        **data.OPTIONS,
        "fall": Option(0, "steps of training after which the learning rate falls from 1e-1 to 1e-3; 0: it does not"),
        "checkpoint": Option("", "path of the weights that infer uses; empty: those that come along", is_path=True),
    }
    reference = "Nadler & To, Efficient Neural Network Implementation of the UniverseMachine"

    def goal(self, variant: str, mode: str) -> Goal:
        """Return what is to be learned: a chi^2 below that of the forest, in the published number of epochs."""
        if mode == "train":
            return Goal("chi2", TARGET_CHI2, EPOCHS * EPOCH, every=EPOCH, batch=BATCH, options=GOAL_OPTIONS)
        return Goal("chi2", TRAINED_CHI2, budget=0, every=0, batch=BATCH)

    def exam(self, spec: Spec, step: Step) -> Exam:
        """Return how predictions for the validation boxes are compared with their labels."""
        from siderostat.workloads.halo_smf.quality import judge

        boxes = data.of_spec(spec)
        grids = boxes.grids[boxes.validation]

        def judged(outputs: Sequence[Sequence[np.ndarray]]) -> Findings:
            return judge(np.concatenate([call[0] for call in outputs]), boxes)

        model = step.phases[0].model
        batches = [(grids[start : start + _AT_ONCE],) for start in range(0, len(grids), _AT_ONCE)]
        return Exam(model.network if spec.mode == "train" else model, batches, judged)

    def parts(self, spec: Spec) -> int:
        """Return 1: halos are made at once."""
        return 1

    def make_part(self, spec: Spec, part: int) -> None:
        """Make and keep the halo catalogue, or read the files named in its stead; return at once where it is there."""
        data.of_spec(spec)

    def needs(self, spec: Spec) -> Tuple[str, ...]:
        """Return what the naive loss and a learning rate that falls need, in training."""
        if spec.mode != "train":
            return ()
        found: List[str] = []
        if VARIANTS[spec.variant][0] == "naive":
            found.append(DECOMPOSITIONS)
        if _fall(spec):
            found.append(UPDATE_HOOKS)
        return tuple(found)

    def flops_per_item(self, spec: Spec) -> float:
        """Return operations per sub-box: convolutions and dense layers.

        Training counts as three forward passes, although the first layer hands no gradient back.
        """
        return float(forward_flops(CHANNELS[spec.size]) * (3 if spec.mode == "train" else 1))

    def build(self, spec: Spec) -> Step:
        """Load the sub-boxes and make the network.

        Weights are drawn from ``spec.seed``; in inference those of ``n20`` are trained ones, and so are those that the
        option ``checkpoint`` names.

        Raises:
            BadInput: if an option cannot be, or a file cannot be used.
        """
        import torch

        from siderostat.workloads.halo_smf import network, training
        from siderostat.workloads.halo_smf.loss import LOSSES

        if spec.mode == "train" and spec.batch < 2:
            raise BadInput("training normalises over a batch, which needs two sub-boxes or more; use a batch of 2")
        boxes = data.of_spec(spec)
        loss, layout = VARIANTS[spec.variant]
        torch.manual_seed(spec.seed)
        made = network.SmfNetwork(CHANNELS[spec.size], boxes.sigma, layout)
        if spec.mode == "infer":
            _load_weights(made.eval(), spec)
            phase = Phase(made, Feed((boxes.grids,), spec.batch, spec.seed))
        else:
            model = network.TrainingNetwork(made, boxes.sigma, LOSSES[loss])
            feed = Feed((boxes.grids[boxes.train], boxes.labels[boxes.train]), spec.batch, spec.seed)
            phase = Phase(model, feed, training.adam(_fall(spec)))
        return Step(spec.framework, (phase,), spec.batch)

    def check(self, spec: Spec, outputs: Sequence[np.ndarray]) -> Dict[str, float]:
        """Return the RMS of the stellar mass functions, (h/Mpc)^3 per bin, and in training their ``chi2``.

        Raises:
            WrongResult: if shapes are wrong, or anything is not finite.
        """
        shapes: Dict[str, Tuple[int, ...]] = {"stellar mass functions": (spec.batch, OUTPUTS)}
        if spec.mode == "train":
            shapes["chi2"] = ()
        functions, *loss = checked(outputs, shapes)
        figures = {"phi_rms": float(np.sqrt(np.mean(np.square(functions, dtype=np.float64))))}
        if loss:
            figures["chi2"] = float(loss[0].reshape(()))
        return figures


def _fall(spec: Spec) -> int:
    """Return the steps after which the learning rate falls.

    Raises:
        BadInput: if they are negative.
    """
    fall = int(spec.options.get("fall", 0))
    if fall < 0:
        raise BadInput(f"fall must be 0 or more, not {fall}")
    return fall


def _load_weights(network: Any, spec: Spec) -> None:
    """Give the network trained weights, where there are any of its size."""
    from siderostat.workloads.halo_smf import weights

    path = str(spec.options.get("checkpoint", ""))
    if path or spec.size == WITH_WEIGHTS:
        weights.load_into(network, CHANNELS[spec.size], path)
