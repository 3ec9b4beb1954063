"""Galaxy shape: a network that reads ellipticity and redshift off six-band images (Arcelin 2021)."""

from __future__ import annotations

import importlib
import math
from typing import Any, Callable, ClassVar, Dict, Mapping, Sequence, Tuple

import numpy as np

from siderostat.workloads.base import (
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
    WrongResult,
    checked,
)
from siderostat.workloads.galaxy_images import data
from siderostat.workloads.galaxy_shape.layers import LABELS, forward_flops

LEARNING_RATE = 1e-3
ADAM_EPSILON = 1e-7  # Keras's, as published
TARGET_RMSE = 0.15
"""Of an ellipticity component. Saying the mean for every image gives 0.21."""

TRAINED_RMSE = 0.12
"""Of the weights that come with siderostat."""

BUDGET_IMAGES = 24576
GOAL_OPTIONS = {"images": 8192, "clip": 1.0, "warm_up": 100}
"""Adam's first steps move every weight by the whole learning rate, which can end where likelihoods overflow, and the
gradient of an image with a galaxy a thousand times as bright as most makes its steps too small for all others. As
published, the DNN learns nothing from its first 10,000 images, and the Bayesian network nothing from 16,000."""

HELD_OUT = 512
_AT_ONCE = 64  # images in a call of an exam


class GalaxyShape(Workload):
    """Ellipticity and redshift of galaxies, with errors, from simulated LSST images."""

    name = "galaxy-shape"
    title = "Galaxy ellipticity and redshift from six-band images"
    item = "galaxy image"
    modes = ("train", "infer")
    frameworks = ("torch", "tensorflow")
    precisions = ("fp32", "tf32", "bf16", "fp16")
    variants: ClassVar[Mapping[str, Mapping[str, Size]]] = {
        "dnn": {"paper": Size(parameters=1517217, trainable=1517205)},
        "bnn": {"paper": Size(parameters=2726241, trainable=2726229)},
        "bnn-flipout": {"paper": Size(parameters=2726241, trainable=2726229)},
    }
    batches = (2, 4, 8, 10, 12, 14)
    options: ClassVar[Mapping[str, Option]] = {
        **data.OPTIONS,
        "clip": Option(0.0, "largest norm of the gradient in training; 0, as published: any"),
        "warm_up": Option(0, "steps of training in which the learning rate rises; 0, as published: none"),
        "checkpoint": Option("", "path of the weights that infer uses; empty: those that come along", is_path=True),
    }
    reference = "Arcelin (2021), Comparison of Graphcore IPUs and Nvidia GPUs for cosmology applications"

    def batches_of(self, variant: str, mode: str) -> Tuple[int, ...]:
        """Return the paper's batch sizes: the Bayesian network's are smaller."""
        return self.batches if variant == "dnn" else (2, 4, 6, 8)

    def goal(self, variant: str, mode: str) -> Goal | None:
        """Return what is to be learned: ellipticities, better than saying the mean for every image."""
        if mode == "train":
            return Goal("ellipticity_rmse", TARGET_RMSE, BUDGET_IMAGES, every=1024, batch=16, options=GOAL_OPTIONS)
        return Goal("ellipticity_rmse", TRAINED_RMSE, budget=0, every=0, batch=_AT_ONCE) if variant == "dnn" else None

    def exam(self, spec: Spec, step: Step) -> Exam:
        """Return how predictions for images beyond those trained on are compared with the labels."""
        from siderostat.workloads.galaxy_shape.quality import DRAWS, judge, stacked

        images, made = data.count(spec), data.image_set(spec)
        known = step.phases[0].feed.arrays[1] if spec.mode == "train" else made.load(images)[1]
        pixels, labels = made.load(HELD_OUT, first=images)
        draws = 1 if spec.variant == "dnn" else DRAWS
        layout = _channels_last(pixels) if spec.framework == "tensorflow" else pixels
        batches = [(layout[i : i + _AT_ONCE],) for i in range(0, HELD_OUT, _AT_ONCE)]

        def judged(outputs: Sequence[Sequence[np.ndarray]]) -> Findings:
            return judge(*stacked(outputs, draws), labels, known)

        model = step.phases[0].model
        return Exam(model.network if spec.mode == "train" else model, batches * draws, judged)

    def parts(self, spec: Spec) -> int:
        """Return in how many parts the images asked for are made.

        Raises:
            BadInput: if that is not a positive number, or a file named in an option cannot be used.
        """
        return data.image_set(spec).parts(data.count(spec))

    def make_part(self, spec: Spec, part: int) -> None:
        """Draw and cache one part of the images; return at once where it is there."""
        data.image_set(spec).make_part(part)

    def needs(self, spec: Spec) -> Tuple[str, ...]:
        """Return what only training with a clipped gradient or a rising learning rate needs, in PyTorch."""
        is_gentle = spec.framework == "torch" and spec.mode == "train" and any(_gentleness(spec))
        return (UPDATE_HOOKS,) if is_gentle else ()

    def flops_per_item(self, spec: Spec) -> float | None:
        """Return operations per image, convolutions and dense layer only; training is three times the forward pass.

        Three is exact here: batch normalisation comes first and learns, so that every layer hands a gradient back.
        Flipout does each layer twice. The drawing of kernels is once per batch, whatever its size, and left out.
        """
        layers = 2 if spec.variant == "bnn-flipout" else 1
        return float(forward_flops() * layers * (3 if spec.mode == "train" else 1))

    def build(self, spec: Spec) -> Step:
        """Load the images, made where they are missing, and make the network.

        Weights are drawn from ``spec.seed``, except in inference with the DNN, which has trained ones. The Bayesian
        networks have none: theirs normalise the images as training would have.
        """
        images, labels = data.image_set(spec).load(data.count(spec))
        statistics = _band_statistics(images)
        if spec.framework == "tensorflow":
            images = _channels_last(images)
            network, training, adam = _tensorflow_networks(spec)
        else:
            network, training, adam = _torch_networks(spec)
        if spec.mode == "train":
            phase = Phase(training, Feed((images, labels), spec.batch, spec.seed), adam)
        else:
            if spec.variant == "dnn":
                _load_weights(network, spec)
            else:
                network.normalise(*statistics)
            phase = Phase(network, Feed((images,), spec.batch, spec.seed))
        return Step(spec.framework, (phase,), spec.batch)

    def check(self, spec: Spec, outputs: Sequence[np.ndarray]) -> Dict[str, float]:
        """Return the RMS of the means and, in training, ``nll`` and the kernels' ``divergence`` over 8000.

        Raises:
            WrongResult: if shapes are wrong, anything is not finite, or a scale is not positive.
        """
        mean, scale, *loss = checked(outputs, _output_shapes(spec))
        figures = {"loc_rms": float(np.sqrt(np.mean(np.square(mean, dtype=np.float64))))}
        diagonal = np.diagonal(scale, axis1=1, axis2=2)
        if not (diagonal > 0).all():
            raise WrongResult(f"the covariance has no Cholesky factor: a diagonal element is {diagonal.min():.3g}")
        if loss:
            figures["nll"] = float(loss[0].reshape(()))
        if spec.variant != "dnn" and loss:
            figures["divergence"] = float(loss[1].reshape(()))
        return figures


def _output_shapes(spec: Spec) -> Dict[str, Tuple[int, ...]]:
    shapes: Dict[str, Tuple[int, ...]] = {"mean": (spec.batch, LABELS), "scale": (spec.batch, LABELS, LABELS)}
    if spec.mode == "train" and spec.variant != "dnn":
        shapes.update({"likelihood": (), "divergence": ()})
    if spec.mode == "train":
        shapes["loss"] = ()
    return shapes


def _channels_last(images: np.ndarray) -> np.ndarray:
    """Return a view of images that has TensorFlow's order of axes; a feed lays them out so in memory, once."""
    return images.transpose(0, 2, 3, 1)


def _torch_networks(spec: Spec) -> Tuple[Any, Any, Callable[[Any], Any]]:
    """Make the network, the one with its loss around it, and what makes its optimiser."""
    import torch

    from siderostat.workloads.galaxy_shape import torch as networks

    torch.manual_seed(spec.seed)
    network = networks.GalaxyNetwork(spec.variant).train(spec.mode == "train")
    training = networks.TrainingNetwork if spec.variant == "dnn" else networks.BayesianTrainingNetwork
    return network, training(network), networks.adam(LEARNING_RATE, ADAM_EPSILON, *_gentleness(spec))


def _tensorflow_networks(spec: Spec) -> Tuple[Any, Any, Callable[[Any], Any]]:
    """Do the same in TensorFlow."""
    import tensorflow as tf

    from siderostat.workloads.galaxy_shape import tensorflow as networks

    tf.random.set_seed(spec.seed)
    network = networks.GalaxyNetwork(spec.variant, spec.seed)
    training = networks.TrainingNetwork if spec.variant == "dnn" else networks.BayesianTrainingNetwork
    return network, training(network), networks.adam(LEARNING_RATE, ADAM_EPSILON, *_gentleness(spec))


def _gentleness(spec: Spec) -> Tuple[float, int]:
    """Return the largest norm of the gradient and the steps of warm-up, 0 for none of either.

    Raises:
        BadInput: if one of them is negative or not finite.
    """
    clip, warm_up = float(spec.options.get("clip", 0.0)), int(spec.options.get("warm_up", 0))
    for name, value in (("clip", clip), ("warm_up", warm_up)):
        if not 0 <= value < math.inf:
            raise BadInput(f"{name} must be 0 or more, not {value}")
    return clip, warm_up


def _load_weights(network: Any, spec: Spec) -> None:
    """Give the network the weights that the option ``checkpoint`` names."""
    from siderostat.workloads.galaxy_shape import weights

    networks = importlib.import_module(f"siderostat.workloads.galaxy_shape.{spec.framework}")
    networks.load_state(network, weights.load(str(spec.options.get("checkpoint", ""))))


def _band_statistics(images: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Mean and variance of each band over all pixels, shapes (6,)."""
    return images.mean((0, 2, 3), dtype=np.float64), images.var((0, 2, 3), dtype=np.float64)
