"""Galaxy sampler: a normalizing flow draws latents, a decoder turns them into six-band images (Arcelin 2021)."""

from __future__ import annotations

import functools
import importlib
from typing import Any, ClassVar, Dict, Mapping, Sequence, Tuple

import numpy as np

from siderostat.workloads.base import (
    LOOSE_TENSORS,
    SHARED_WEIGHTS,
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
from siderostat.workloads.galaxy_images.survey import BANDS, PIXELS
from siderostat.workloads.galaxy_sampler import layers, statistics
from siderostat.workloads.galaxy_sampler.stretch import stretch, unstretch

LEARNING_RATE = 2e-4  # 5e-4 takes twice as many images to the same loss, 1.5e-3 hardly learns
PIXEL_ERROR = 0.003  # of the stretched image

TARGET_KS = 0.15
"""Largest Kolmogorov-Smirnov distance between sampled and drawn galaxies in flux, size and ellipticity."""

TRAINING_KS = 0.3
BUDGET_IMAGES = 16384
GOAL_OPTIONS = {"images": 6144}
EXAMINED = 1024  # galaxies sampled for an exam
_AT_ONCE = 256  # of them, in a call
PICTURES = 32

_NETWORK = Size(
    parameters=layers.count(layers.decoder_shapes()) + layers.count(layers.flow_shapes()),
    trainable=layers.count(layers.decoder_shapes()) + layers.count(layers.flow_shapes()),
    parts={
        "encoder": layers.count(layers.encoder_shapes()),
        "decoder": layers.count(layers.decoder_shapes()),
        "flow": layers.count(layers.flow_shapes()),
    },
)


class GalaxySampler(Workload):
    """New galaxies: a flow turns noise into latents, a decoder latents into images. The encoder only helps to train."""

    name = "galaxy-sampler"
    title = "Sampling of six-band galaxy images from a flow and a decoder"
    item = "galaxy image"
    modes = ("sample", "train")
    frameworks = ("torch", "tensorflow")
    precisions = ("fp32", "tf32", "bf16", "fp16")
    variants: ClassVar[Mapping[str, Mapping[str, Size]]] = {
        "incremental": {"paper": _NETWORK},
        "naive": {"paper": _NETWORK},
    }
    batches = (1, 10, 100, 500, 1000, 5000)
    options: ClassVar[Mapping[str, Option]] = {
        "checkpoint": Option("", "path of a trained sampler; empty: the one that comes with siderostat", is_path=True),
        **{name: data.OPTIONS[name] for name in ("images", "image_seed", "catalogue")},
    }
    reference = "Arcelin (2021), Comparison of Graphcore IPUs and Nvidia GPUs for cosmology applications, figure 4"

    def batches_of(self, variant: str, mode: str) -> Tuple[int, ...]:
        """Return the paper's numbers of images per step; training has others."""
        return self.batches if mode == "sample" else (8, 32)

    def goal(self, variant: str, mode: str) -> Goal | None:
        """Return how far sampled galaxies may be from drawn ones: those of the checkpoint, or what training makes."""
        if mode == "sample":
            return Goal("largest_ks", TARGET_KS, budget=0, every=0, batch=_AT_ONCE)
        return Goal("largest_ks", TRAINING_KS, BUDGET_IMAGES, every=2048, batch=8, options=GOAL_OPTIONS)

    def exam(self, spec: Spec, step: Step) -> Exam:
        """Return how sampled galaxies are compared with drawn ones, whose measures the checkpoint holds."""
        from siderostat.workloads.galaxy_sampler import checkpoint

        trained = checkpoint.load(str(_option(spec, "checkpoint")))
        judge = functools.partial(_judge, spec, trained.real(), trained.thumbnails)
        if spec.mode == "sample":
            model = step.phases[0].model
        else:
            autoencoder, flow = (phase.model for phase in step.phases)
            model = _networks(spec.framework).UnfinishedSampling(flow.flow, autoencoder.decoder)
        numbers = np.arange(_AT_ONCE, dtype=np.float32)
        return Exam(model, [(numbers,)] * (EXAMINED // _AT_ONCE), judge)

    def parts(self, spec: Spec) -> int:
        """Return how many parts of 64 images hold the images to train on; sampling needs none.

        Raises:
            BadInput: if that is not a positive number.
        """
        return data.parts(data.count(spec)) if spec.mode == "train" else 0

    def make_part(self, spec: Spec, part: int) -> None:
        """Draw and cache one part of the images; return at once where it is there."""
        _image_set(spec).make_part(part)

    def needs(self, spec: Spec) -> Tuple[str, ...]:
        """Return what one formulation of sampling, or training, cannot do without.

        The flow is trained on what the encoder of the other phase makes; PyTorch's incremental sampler keeps its pieces
        where modules do not look.
        """
        if spec.mode == "train":
            return (SHARED_WEIGHTS,)
        return (LOOSE_TENSORS,) if spec.framework == "torch" and spec.variant == "incremental" else ()

    def flops_per_item(self, spec: Spec) -> float | None:
        """Return operations per image, convolutions and dense layers only.

        In training three times the forward pass of all three networks, and the encoder once more for the flow.
        """
        if spec.mode == "sample":
            return float(layers.decoder_flops() + layers.flow_flops(spec.variant))
        forward = layers.encoder_flops() + layers.decoder_flops() + layers.flow_flops("density")
        return float(3 * forward + layers.encoder_flops())

    def build(self, spec: Spec) -> Step:
        """Load trained weights for sampling; for training, load images and draw weights from ``spec.seed``."""
        if spec.mode == "sample":
            return sampling(spec)
        images, _ = _image_set(spec).load(data.count(spec))
        return training(spec, stretch(images))

    def check(self, spec: Spec, outputs: Sequence[np.ndarray]) -> Dict[str, float]:
        """Return ``latent_rms`` and, of sampled images, ``flux_mean`` and ``centred``; in training the flow's ``loss``.

        ``flux_mean`` is in electrons in r; ``centred`` is the share of images whose brightest pixel in r is within 4
        pixels of the middle.

        Raises:
            WrongResult: if shapes are wrong, anything is not finite, images are not between 0 and 1, or an image is
                everywhere the same.
        """
        if spec.mode == "train":
            latents, loss = checked(outputs, {"latents": (spec.batch, layers.LATENTS), "loss": ()})
            return {"latent_rms": _rms(latents), "loss": float(loss.reshape(()))}
        images, latents = checked(outputs, {"images": _image_shape(spec), "latents": (spec.batch, layers.LATENTS)})
        if images.min() < 0 or images.max() > 1:
            raise WrongResult(f"pixels are between {images.min():.3g} and {images.max():.3g}, not between 0 and 1")
        r = unstretch(_channels_first(spec, images))[:, BANDS.index("r")]
        brightest = r.reshape(spec.batch, -1).argmax(1)
        if (r.min((1, 2)) == r.max((1, 2))).any():
            raise WrongResult("an image is everywhere the same")
        off = np.abs(np.stack(np.unravel_index(brightest, r.shape[1:])) - (PIXELS - 1) / 2).max(0)
        return {
            "latent_rms": _rms(latents),
            "flux_mean": float(r.sum((1, 2), dtype=np.float64).mean()),
            "centred": float((off < 4).mean()),
        }


def sampling(spec: Spec) -> Step:
    """Return the step that samples ``spec.batch`` galaxies from a checkpoint."""
    from siderostat.workloads.galaxy_sampler import checkpoint

    trained = checkpoint.load(str(_option(spec, "checkpoint")))
    networks = _networks(spec.framework)
    _set_seed(spec)
    flow, decoder = networks.Flow(), networks.Decoder()
    networks.load_weights(flow, trained.flow)
    networks.load_weights(decoder, trained.decoder)
    model = networks.GalaxySampling(networks.SAMPLERS[spec.variant](flow), decoder)
    # Numbers, since a step takes its inputs from somewhere: what is sampled comes from noise drawn on the device.
    feed = Feed((np.arange(spec.batch, dtype=np.float32),), spec.batch, spec.seed)
    return Step(spec.framework, (Phase(model, feed),), spec.batch)


def training(spec: Spec, images: np.ndarray) -> Step:
    """Return the step of two phases that trains the autoencoder and, on its latents, the flow.

    Args:
        spec: its framework, batch and seed count.
        images: stretched, float32 of shape (any, 6, 64, 64).
    """
    networks = _networks(spec.framework)
    _set_seed(spec)
    encoder, decoder, flow = networks.Encoder(), networks.Decoder(), networks.Flow()
    rng = np.random.default_rng(spec.seed)
    networks.load_weights(encoder, layers.initial(layers.encoder_shapes(), rng))
    networks.load_weights(decoder, layers.initial(layers.decoder_shapes(), rng))
    networks.load_weights(flow, layers.initial(layers.flow_shapes(), rng, layers.FLOW_GAIN))
    encoder.normalise(images.mean((0, 2, 3), dtype=np.float64), images.var((0, 2, 3), dtype=np.float64))
    arrays = images.transpose(0, 2, 3, 1) if spec.framework == "tensorflow" else images
    models = networks.AutoencoderTraining(encoder, decoder, PIXEL_ERROR), networks.FlowTraining(flow, encoder.__call__)
    phases = [
        Phase(model, Feed((arrays,), spec.batch, spec.seed), functools.partial(networks.adam, LEARNING_RATE))
        for model in models
    ]
    return Step(spec.framework, phases, spec.batch)


def _judge(
    spec: Spec, real: Mapping[str, np.ndarray], drawn: np.ndarray, outputs: Sequence[Sequence[np.ndarray]]
) -> Findings:
    """Compare what all calls sampled with measures of drawn galaxies and their pictures."""
    images = [unstretch(_channels_first(spec, np.asarray(call[0]))) for call in outputs]
    measured = [statistics.measure(some) for some in images]
    sampled = {name: np.concatenate([m[name] for m in measured]) for name in measured[0]}
    pictures = statistics.thumbnails(images[0][:PICTURES])
    return Findings(
        statistics.compare(sampled, real), {}, {"drawn galaxies": drawn[:PICTURES], "sampled galaxies": pictures}
    )


def _image_shape(spec: Spec) -> Tuple[int, ...]:
    """Shape of the images that the step returns: each framework's own, so that none pays for a transposition."""
    bands = (len(BANDS),)
    sides = (PIXELS, PIXELS)
    return (spec.batch, *sides, *bands) if spec.framework == "tensorflow" else (spec.batch, *bands, *sides)


def _channels_first(spec: Spec, images: np.ndarray) -> np.ndarray:
    return images.transpose(0, 3, 1, 2) if spec.framework == "tensorflow" else images


def _networks(framework: str) -> Any:
    """Return the module with the networks of a framework."""
    return importlib.import_module(f"{__name__}.{framework}")


def _set_seed(spec: Spec) -> None:
    """Seed the noise that the framework draws."""
    framework: Any = importlib.import_module(spec.framework)
    (framework.random.set_seed if spec.framework == "tensorflow" else framework.manual_seed)(spec.seed)


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


def _image_set(spec: Spec) -> Any:
    return data.ImageSet(data.image_seed(spec), str(_option(spec, "catalogue")), noise="none")


def _option(spec: Spec, name: str) -> Any:
    return spec.options.get(name, GalaxySampler.options[name].default)
