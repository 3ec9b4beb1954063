"""The steps of adaptation as workloads. Nothing here imports a framework before a step is built."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, Callable, ClassVar, Dict, Mapping, Sequence, Tuple

import numpy as np

from siderostat.workloads.base import (
    SHARED_WEIGHTS,
    UPDATE_HOOKS,
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
from siderostat.workloads.lens_adaptation import counts
from siderostat.workloads.lens_adaptation.architecture import CLASSES, ENCODERS
from siderostat.workloads.lens_images import data

PIXELS = {"quarter": 64, "paper": 150, "tiny": 64}
"""Scale of an encoder -> pixels on a side of its images."""

Made = Tuple[Sequence[Any], Dict[str, np.ndarray]]
"""Parts of a step, and inputs that only it has, by name."""

SIZES = tuple(f"{encoder}-{scale}" for scale in PIXELS for encoder in ENCODERS)
DOMAINS = ("source", "target")
_SUM = 1e-3  # how far probabilities may be from a sum of 1, and a discrepancy from its bounds


def split(size: str) -> Tuple[str, str]:
    """Return encoder and scale of a size such as ``efficientnet-b0-quarter``."""
    encoder, _, scale = size.rpartition("-")
    return encoder, scale


def encoder_parameters(size: str) -> int:
    """Return the parameters of a size's encoder, all trainable; statistics of batch normalisation are left out."""
    encoder, scale = split(size)
    return sum(counts.parameter_counts(encoder, scale, PIXELS[scale]).values())


def _sizes(trained: Callable[[int], Mapping[str, int]], kept: Callable[[int], Mapping[str, int]]) -> Dict[str, Size]:
    """Return the sizes of a workload, each with its parts.

    Args:
        trained: an encoder's parameters -> those of each part that gradients change.
        kept: likewise of the other parts.
    """
    sizes = {}
    for name in SIZES:
        learns, stays = trained(encoder_parameters(name)), kept(encoder_parameters(name))
        total = sum(learns.values())
        sizes[name] = Size(total + sum(stays.values()), total, {**learns, **stays})
    return sizes


def _nothing(_: int) -> Mapping[str, int]:
    return {}


class LensStep(Workload):
    """What the steps have in common: encoders as sizes, and labelled images of two instruments."""

    item = "image pair"
    modes = ("train",)
    frameworks = ("torch",)
    precisions: ClassVar[Tuple[str, ...]] = ("fp32", "tf32", "bf16", "fp16", "fp64")
    batches = (8, 32, 100)
    options: ClassVar[Mapping[str, Option]] = {
        "images": Option(600, "how many images of each instrument are made and used"),
        "image_seed": Option(0, "which images are made"),
        "source": Option("euclid", "instrument of the labelled images, hst or euclid, or a folder of DeepLense images"),
        "target": Option("hst", "likewise of the images without labels"),
        "galaxies": Option("synthetic", "what is lensed: synthetic, hubble or galaxy10"),
        "galaxy_file": Option("", "path of the Galaxy10 file, for galaxies=galaxy10", is_path=True),
    }
    reference = "Alexander et al. (2022), Domain Adaptation for Simulation-Based Dark Matter Searches, arXiv:2112.12121"

    passes: ClassVar[Mapping[str, float]]
    """Variant -> what a step computes for one item, in forward passes of an encoder over one image; a backward pass
    counts as two."""

    def parts(self, spec: Spec) -> int:
        """Return in how many parts the images of both instruments are made.

        Raises:
            BadInput: if no images are asked for.
        """
        return 2 * data.parts(_count(self, spec, "images", least=1))

    def make_part(self, spec: Spec, part: int) -> None:
        """Draw and keep one part of the images; return at once where it is there, or images come from a folder."""
        which, number = divmod(part, data.parts(_count(self, spec, "images", least=1)))
        instrument, _, pixels, seed, galaxies, path = self._images_of(spec, DOMAINS[which])
        if not Path(instrument).is_dir():
            data.ImageSet(instrument, pixels, seed, galaxies, path).make_part(number)

    def images(self, spec: Spec, domain: str) -> Tuple[np.ndarray, np.ndarray]:
        """Return images, float32 of shape (n, 1, pixels, pixels), and labels, int64 of shape (n,).

        Args:
            spec: whose options say which.
            domain: one of :data:`DOMAINS`; the two never show the same lenses.

        Raises:
            BadInput: if an option cannot be.
        """
        return data.images(*self._images_of(spec, domain))

    def _images_of(self, spec: Spec, domain: str) -> Tuple[str, int, int, int, str, str]:
        """Return the arguments of :func:`data.images`."""
        instrument, galaxies, path = (str(_option(self, spec, name)) for name in (domain, "galaxies", "galaxy_file"))
        seed = 2 * _count(self, spec, "image_seed") + DOMAINS.index(domain)
        return instrument, _count(self, spec, "images", least=1), PIXELS[split(spec.size)[1]], seed, galaxies, path

    def flops_per_item(self, spec: Spec) -> float:
        """Return operations per image or pair: the encoders' convolutions and dense layers.

        Training counts as three forward passes, although the first layer hands no gradient back. Classifiers and the
        discriminator are left out.
        """
        encoder, scale = split(spec.size)
        return self.passes[spec.variant] * counts.forward_flops(encoder, scale, PIXELS[scale])

    def build(self, spec: Spec) -> Step:
        """Load the images and make the networks, with weights from ``spec.seed``.

        Raises:
            BadInput: if an option cannot be.
        """
        import torch

        from siderostat.workloads.lens_adaptation import encoders, heads
        from siderostat.workloads.lens_adaptation import parts as names

        torch.manual_seed(spec.seed)
        encoder, scale = split(spec.size)
        network = encoders.make_encoder(encoder, scale, PIXELS[scale])
        of_source, of_target = (self.images(spec, domain) for domain in DOMAINS)
        phases, further = self.make(spec, network, heads.Classifier(), of_target[0])
        arrays = {
            names.SOURCE: of_source[0],
            names.LABELS: of_source[1],
            names.TARGET: of_target[0],
            names.AIMS: np.zeros(len(of_target[0]), np.int64),  # the source, as adda.IS_SOURCE has it
            **further,
        }
        feeds = [Feed([arrays[name] for name in part.takes], spec.batch, spec.seed) for part in phases]
        made = [Phase(part.model, feed, part.optimizer) for part, feed in zip(phases, feeds)]
        return Step(spec.framework, made, spec.batch)

    def make(self, spec: Spec, encoder: Any, classifier: Any, target_images: np.ndarray) -> Made:
        """Return the parts of a step, and inputs that only this step has, by name."""
        raise NotImplementedError


class SupervisedStep(LensStep):
    """Training on labelled images of the source."""

    name = "supervised-step"
    title = "A training step of a classifier of lenses on labelled images"
    item = "image"
    variants: ClassVar[Mapping[str, Mapping[str, Size]]] = {
        "published": _sizes(lambda n: {"encoder": n, "classifier": counts.classifier_parameters()}, _nothing)
    }
    options: ClassVar[Mapping[str, Option]] = {
        **LensStep.options,
        "cycle": Option(0, "steps in which the learning rate goes up to 1e-3 and down again; 0: it stays at 1e-3"),
    }
    passes: ClassVar[Mapping[str, float]] = {"published": 3}

    def needs(self, spec: Spec) -> Tuple[str, ...]:
        """Return what a learning rate that changes needs."""
        return (UPDATE_HOOKS,) if self._cycle(spec) else ()

    def make(self, spec: Spec, encoder: Any, classifier: Any, target_images: np.ndarray) -> Made:
        """See :meth:`LensStep.make`."""
        return _algorithm("supervised").parts(_in_a_row(encoder, classifier), self._cycle(spec)), {}

    def check(self, spec: Spec, outputs: Sequence[np.ndarray]) -> Dict[str, float]:
        """Return the ``loss``.

        Raises:
            WrongResult: if shapes are wrong, or anything is not finite.
        """
        _, loss = checked(outputs, {"logits": (spec.batch, CLASSES), "loss": ()})
        return {"loss": float(loss.reshape(()))}

    def _cycle(self, spec: Spec) -> int:
        return _count(self, spec, "cycle")


class AddaStep(LensStep):
    """Adversarial adaptation: an update of the discriminator, and one of the target's encoder.

    Variants are formulations; ``naive`` and ``reused`` make the same updates.
    """

    name = "adda-step"
    title = "A step of ADDA between two instruments"
    variants: ClassVar[Mapping[str, Mapping[str, Size]]] = dict.fromkeys(
        ("naive", "reused", "summed"),
        _sizes(
            lambda n: {"target encoder": n, "discriminator": counts.discriminator_parameters()},
            lambda n: {"source encoder": n},
        ),
    )
    passes: ClassVar[Mapping[str, float]] = {"naive": 7, "reused": 4, "summed": 4}

    def needs(self, spec: Spec) -> Tuple[str, ...]:
        """Return what two phases with the same networks need; ``summed`` is one phase."""
        return () if spec.variant == "summed" else (SHARED_WEIGHTS,)

    def make(self, spec: Spec, encoder: Any, classifier: Any, target_images: np.ndarray) -> Made:
        """See :meth:`LensStep.make`. The classifier has no part in the step."""
        from siderostat.workloads.lens_adaptation.heads import Discriminator

        return _algorithm("adda").parts(spec.variant, encoder, Discriminator()), {}

    def check(self, spec: Spec, outputs: Sequence[np.ndarray]) -> Dict[str, float]:
        """Return the encoder's ``loss`` and the share of target images ``taken_for_source``; of ``summed`` both losses.

        Raises:
            WrongResult: if shapes are wrong, or anything is not finite.
        """
        shapes: Dict[str, Tuple[int, ...]] = {"logits": (spec.batch, 2)}
        losses = ["discriminator's loss", "loss", "sum of both"] if spec.variant == "summed" else ["loss"]
        logits, *found = checked(outputs, {**shapes, **dict.fromkeys(losses, ())})
        figures = {"taken_for_source": float((logits[:, 0] > logits[:, 1]).mean())}
        if spec.variant == "summed":
            figures["discriminator_loss"] = float(found[0].reshape(()))
        return {**figures, "loss": float(found[losses.index("loss")].reshape(()))}


class _Probabilities(LensStep):
    """Steps that return the target's probabilities, the losses of source and target, and what is minimised."""

    def check(self, spec: Spec, outputs: Sequence[np.ndarray]) -> Dict[str, float]:
        """Return the losses ``of_source`` and ``of_target``, and the ``loss`` that is minimised.

        Raises:
            WrongResult: if shapes are wrong, anything is not finite, or probabilities do not sum to 1.
        """
        shapes = {"probabilities": (spec.batch, CLASSES), "source's loss": (), "target's loss": (), "loss": ()}
        probabilities, *losses = checked(outputs, shapes)
        off = float(np.abs(probabilities.sum(1, dtype=np.float64) - 1).max())
        if off > _SUM:
            raise WrongResult(f"probabilities of the target's images are off a sum of 1 by {off:.2g}")
        return dict(zip(("of_source", "of_target", "loss"), (float(some.reshape(())) for some in losses)))


class SelfEnsembleStep(_Probabilities):
    """A student that learns from the source, and to agree with its own average on the target."""

    name = "self-ensemble-step"
    title = "A step of self-ensembling between two instruments"
    variants: ClassVar[Mapping[str, Mapping[str, Size]]] = {
        "published": _sizes(
            lambda n: {"student": n + counts.classifier_parameters()},
            lambda n: {"teacher": n + counts.classifier_parameters()},
        )
    }
    passes: ClassVar[Mapping[str, float]] = {"published": 7}

    def make(self, spec: Spec, encoder: Any, classifier: Any, target_images: np.ndarray) -> Made:
        """See :meth:`LensStep.make`."""
        return _algorithm("self_ensemble").parts(_in_a_row(encoder, classifier)), {}


class AdaMatchStep(_Probabilities):
    """The source's label distribution, imposed on what the target's images are taken for."""

    name = "adamatch-step"
    title = "A step of AdaMatch between two instruments"
    variants: ClassVar[Mapping[str, Mapping[str, Size]]] = {
        "published": _sizes(lambda n: {"encoder": n, "classifier": counts.classifier_parameters()}, _nothing)
    }
    options: ClassVar[Mapping[str, Option]] = {
        **LensStep.options,
        "rise": Option(0, "steps of a training, half of which the target's weight takes to rise to 1; 0: it is 1"),
    }
    passes: ClassVar[Mapping[str, float]] = {"published": 18}

    def make(self, spec: Spec, encoder: Any, classifier: Any, target_images: np.ndarray) -> Made:
        """See :meth:`LensStep.make`."""
        return _algorithm("adamatch").parts(_in_a_row(encoder, classifier), _count(self, spec, "rise")), {}


class CgdmStep(LensStep):
    """Two classifiers that differ where an encoder has not adapted yet, and gradients that should not."""

    name = "cgdm-step"
    title = "A step of CGDM between two instruments"
    precisions: ClassVar[Tuple[str, ...]] = (
        "fp32",
        "tf32",
        "bf16",
        "fp64",
    )  # no loss scale reaches the gradients within the loss
    variants: ClassVar[Mapping[str, Mapping[str, Size]]] = {
        "published": _sizes(lambda n: {"encoder": n, "classifiers": 2 * counts.classifier_parameters()}, _nothing)
    }
    passes: ClassVar[Mapping[str, float]] = {"published": 32}

    def needs(self, spec: Spec) -> Tuple[str, ...]:
        """Return what phases with the same networks need."""
        return (SHARED_WEIGHTS,)

    def make(self, spec: Spec, encoder: Any, classifier: Any, target_images: np.ndarray) -> Made:
        """See :meth:`LensStep.make`. Pseudo labels are made once, before the step."""
        import torch

        from siderostat.workloads.lens_adaptation import cgdm
        from siderostat.workloads.lens_adaptation.heads import Classifier
        from siderostat.workloads.lens_adaptation.parts import PSEUDO

        networks = cgdm.Networks(encoder, classifier, Classifier())
        labels = cgdm.pseudo_labels(networks, torch.from_numpy(target_images))
        return cgdm.parts(networks), {PSEUDO: labels.numpy()}

    def check(self, spec: Spec, outputs: Sequence[np.ndarray]) -> Dict[str, float]:
        """Return how far the classifiers (``discrepancy``) and the gradients are apart, and the encoder's ``loss``.

        Raises:
            WrongResult: if shapes are wrong, anything is not finite, or a discrepancy is out of its bounds.
        """
        shapes = {"logits": (2, spec.batch, CLASSES), "discrepancy": (), "gradient discrepancy": (), "loss": ()}
        _, *found = checked(outputs, shapes)
        names = ("discrepancy", "gradient_discrepancy", "loss")
        figures: Dict[str, float] = {name: float(some.reshape(())) for name, some in zip(names, found)}
        for name, most in (("discrepancy", 2 / CLASSES), ("gradient_discrepancy", 2.0)):
            if not -_SUM <= figures[name] <= most + _SUM:
                raise WrongResult(f"the {name} is {figures[name]:.3g}, not between 0 and {most:.3g}")
        return figures


def _algorithm(name: str) -> Any:
    return importlib.import_module(f"siderostat.workloads.lens_adaptation.{name}")


def _in_a_row(encoder: Any, classifier: Any) -> Any:
    from torch import nn

    return nn.Sequential(encoder, classifier)


def _option(workload: Workload, spec: Spec, name: str) -> Any:
    return spec.options.get(name, workload.options[name].default)


def _count(workload: Workload, spec: Spec, name: str, least: int = 0) -> int:
    """Return an option that is a number.

    Raises:
        BadInput: if it is smaller than ``least``.
    """
    value = int(_option(workload, spec, name))
    if value < least:
        raise BadInput(f"{name} must be {least} or more, not {value}")
    return value
