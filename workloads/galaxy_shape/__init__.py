"""Galaxy shape: a network that reads ellipticity and redshift off six-band images (Arcelin 2021)."""

from __future__ import annotations

import functools
from typing import Any, ClassVar, Dict, Mapping, Sequence, Tuple

import numpy as np

from siderostat.workloads.base import (
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
    WrongResult,
)
from siderostat.workloads.galaxy_shape.layers import LABELS, forward_flops

LEARNING_RATE = 1e-3
TARGET_NLL = -0.5
"""Nats. Saying the training set's mean and covariance for every image gives 0.43."""

BUDGET_IMAGES = 24576
TRAINING_IMAGES = 8192
HELD_OUT = 512
_AT_ONCE = 64  # images in a call of an exam


class GalaxyShape(Workload):
    """Ellipticity and redshift of galaxies, with errors, from simulated LSST images."""

    name = "galaxy-shape"
    title = "Galaxy ellipticity and redshift from six-band images"
    item = "galaxy image"
    modes = ("train", "infer")
    frameworks = ("torch",)
    variants: ClassVar[Mapping[str, Mapping[str, Size]]] = {
        "dnn": {"paper": Size(parameters=1517217, trainable=1517205)},
        "bnn": {"paper": Size(parameters=2726241, trainable=2726229)},
        "bnn-flipout": {"paper": Size(parameters=2726241, trainable=2726229)},
    }
    batches = (2, 4, 8, 10, 12, 14)
    options: ClassVar[Mapping[str, Option]] = {
        "images": Option(512, "how many images are made and used"),
        "image_seed": Option(0, "which images are made"),
        "catalogue": Option(
            "", "path of a COSMOS catalogue of parametric galaxies; empty: a made-up one like it", is_path=True
        ),
    }
    reference = "Arcelin (2021), Comparison of Graphcore IPUs and Nvidia GPUs for cosmology applications"

    def batches_of(self, variant: str, mode: str) -> Tuple[int, ...]:
        """Return the paper's batch sizes: the Bayesian network's are smaller."""
        return self.batches if variant == "dnn" else (2, 4, 6, 8)

    def goal(self, variant: str, mode: str) -> Goal | None:
        """Return what is to be learned: a likelihood that saying the mean label for every image does not reach."""
        if mode != "train":
            return None
        return Goal("nll", TARGET_NLL, BUDGET_IMAGES, every=2048, batch=16, options={"images": TRAINING_IMAGES})

    def exam(self, spec: Spec, step: Step) -> Exam:
        """Return how predictions for images beyond those trained on are compared with the labels."""
        from siderostat.workloads.galaxy_shape.quality import DRAWS, judge, stacked

        images = _whole_number(spec, "images", least=1)
        _, known = _image_set(spec).load(images)
        pixels, labels = _image_set(spec).load(HELD_OUT, first=images)
        draws = 1 if spec.variant == "dnn" else DRAWS
        layout = _channels_last(pixels) if spec.framework == "tensorflow" else pixels
        batches = [(layout[i : i + _AT_ONCE],) for i in range(0, HELD_OUT, _AT_ONCE)]

        def judged(outputs: Sequence[Sequence[np.ndarray]]) -> Findings:
            return judge(*stacked(outputs, draws), labels, known)

        return Exam(step.phases[0].model.network, batches * draws, judged)

    def parts(self, spec: Spec) -> int:
        """Return how many parts of 64 images hold the images asked for.

        Raises:
            BadInput: if that is not a positive number.
        """
        from siderostat.workloads.galaxy_images import data

        return data.parts(_whole_number(spec, "images", least=1))

    def make_part(self, spec: Spec, part: int) -> None:
        """Draw and cache one part of the images; return at once where it is there."""
        _image_set(spec).make_part(part)

    def flops_per_item(self, spec: Spec) -> float | None:
        """Return operations per image, convolutions and dense layer only; training is three times the forward pass.

        Three is exact here: batch normalisation comes first and learns, so that every layer hands a gradient back.
        Flipout does each layer twice. The drawing of kernels is once per batch, whatever its size, and left out.
        """
        layers = 2 if spec.variant == "bnn-flipout" else 1
        return float(forward_flops() * layers * (3 if spec.mode == "train" else 1))

    def build(self, spec: Spec) -> Step:
        """Load the images, made where they are missing, and make the network with weights drawn from ``spec.seed``."""
        images, labels = _image_set(spec).load(_whole_number(spec, "images", least=1))
        import torch

        from siderostat.workloads.galaxy_shape.torch import BayesianTrainingNetwork, GalaxyNetwork, TrainingNetwork

        torch.manual_seed(spec.seed)
        network = GalaxyNetwork(spec.variant)
        if spec.mode == "train":
            adam = functools.partial(torch.optim.Adam, lr=LEARNING_RATE)
            training = TrainingNetwork if spec.variant == "dnn" else BayesianTrainingNetwork
            phase = Phase(training(network), Feed((images, labels), spec.batch, spec.seed), adam)
        else:
            network.normalise(*_band_statistics(images))
            phase = Phase(network.eval(), Feed((images,), spec.batch, spec.seed))
        return Step(spec.framework, (phase,), spec.batch)

    def check(self, spec: Spec, outputs: Sequence[np.ndarray]) -> Dict[str, float]:
        """Return the RMS of the means and, in training, ``nll`` and the kernels' ``divergence`` over 8000.

        Raises:
            WrongResult: if shapes are wrong, anything is not finite, or a scale is not positive.
        """
        mean, scale, *loss = _checked(spec, outputs)
        figures = {"loc_rms": float(np.sqrt(np.mean(np.square(mean, dtype=np.float64))))}
        diagonal = np.diagonal(scale, axis1=1, axis2=2)
        if not (diagonal > 0).all():
            raise WrongResult(f"the covariance has no Cholesky factor: a diagonal element is {diagonal.min():.3g}")
        if loss:
            figures["nll"] = float(loss[0].reshape(()))
        if spec.variant != "dnn" and loss:
            figures["divergence"] = float(loss[1].reshape(()))
        return figures


def _checked(spec: Spec, outputs: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
    """Return the outputs if they are as many as they should be, of the right shape, and finite."""
    shapes: Dict[str, Tuple[int, ...]] = {"mean": (spec.batch, LABELS), "scale": (spec.batch, LABELS, LABELS)}
    if spec.mode == "train" and spec.variant != "dnn":
        shapes.update({"likelihood": (), "divergence": ()})
    if spec.mode == "train":
        shapes["loss"] = ()
    if len(outputs) != len(shapes):
        raise WrongResult(f"the step returned {len(outputs)} outputs instead of {len(shapes)}")
    for (name, shape), output in zip(shapes.items(), outputs):
        # Some frameworks hand a scalar back as an array of one element.
        if output.shape != shape and not (shape == () and output.size == 1):
            raise WrongResult(f"the {name} has shape {output.shape} instead of {shape}")
        if not np.isfinite(output).all():
            raise WrongResult(
                f"{np.count_nonzero(~np.isfinite(output))} of {output.size} values of the {name} are not finite"
            )
    return outputs


def _band_statistics(images: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Mean and variance of each band over all pixels, shapes (6,)."""
    return images.mean((0, 2, 3), dtype=np.float64), images.var((0, 2, 3), dtype=np.float64)


def _image_set(spec: Spec) -> Any:
    from siderostat.workloads.galaxy_images.data import ImageSet

    return ImageSet(_whole_number(spec, "image_seed", least=0), str(_option(spec, "catalogue")))


def _option(spec: Spec, name: str) -> Any:
    return spec.options.get(name, GalaxyShape.options[name].default)


def _whole_number(spec: Spec, name: str, least: int) -> int:
    value = _option(spec, name)
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise BadInput(f"{name} must be a whole number of at least {least}, not {value!r}")
    return value
