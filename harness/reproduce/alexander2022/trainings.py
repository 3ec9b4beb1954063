"""Trainings on the images of one instrument, and how far each algorithm carries them over to the other.

Everything is judged on images that were neither trained on nor chosen by. Labels of the target are used to judge only.
"""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from siderostat.errors import BadValue
from siderostat.reproduce.alexander2022.scales import BACK, FORTH, Scale
from siderostat.reproduce.parts import Part
from siderostat.reproduce.threads import one_thread
from siderostat.workloads.lens_adaptation import adaptation, counts
from siderostat.workloads.lens_adaptation.adaptation import ALGORITHMS, Images
from siderostat.workloads.lens_adaptation.encoders import make_encoder
from siderostat.workloads.lens_adaptation.heads import Classifier
from siderostat.workloads.lens_images import data
from siderostat.workloads.lens_images.catalogue import CLASSES

SOURCE, ADDA = "source", "adda"
FALSE_POSITIVES = np.linspace(0, 1, 61) ** 2
"""Where curves are kept: closer together where they are steep."""

_SETS = ("euclid training", "hst training", "euclid validation", "hst validation", "euclid test", "hst test")
_BETWEEN_SEEDS = 100  # image seeds: no two sets of any two seeds share a lens
_PASSES = {SOURCE: 3, ADDA: 4, "self-ensemble": 7, "adamatch": 15, "cgdm": 27}
"""Forward passes that the work on an image of the source takes as long as, about."""

_AT_ONCE = 200

_Make = Callable[[dict[str, Any]], dict[str, Any]]


def plan(scale: Scale, encoder: str, seed: int) -> list[Part]:
    """Return the trainings with one encoder from one seed: ADDA in both directions, the other algorithms in the first.

    Raises:
        LookupError: if there is no such encoder.
    """
    others = [name for name in ALGORITHMS if name != ADDA]
    wanted = [(FORTH, SOURCE), (FORTH, ADDA), (BACK, SOURCE), (BACK, ADDA), *((FORTH, name) for name in others)]
    return [_part(scale, encoder, direction, work, seed) for direction, work in wanted]


def _part(scale: Scale, encoder: str, direction: tuple[str, str], work: str, seed: int) -> Part:
    source, target = direction
    settings: dict[str, Any] = {
        "images": data.VERSION,
        "encoder": encoder,
        "size": scale.size,
        "pixels": scale.pixels,
        "training": scale.training,
        "judged": scale.judged,
        "batch": scale.batch,
        "source": source,
        "target": target,
        "source_epochs": scale.source_epochs,
        "seed": seed,
    }
    epochs, make = scale.source_epochs, trained
    if work != SOURCE:
        epochs, make = scale.epochs, adapted
        settings |= {"algorithm": work, "epochs": epochs}
    title = f"{encoder}, {source} to {target}, seed {seed}: {'training on the source' if work == SOURCE else work}"
    images = scale.training * len(CLASSES) * epochs
    cpu_s = images * counts.forward_flops(encoder, scale.size, scale.pixels) * _PASSES[work] / scale.flop_s
    name = f"{work}-{source}-{target}-{encoder}-{seed}"
    return Part(name, title, settings, functools.partial(_guarded, scale.needs_gpu, make, settings), cpu_s)


def _guarded(needs_gpu: bool, make: _Make, settings: dict[str, Any]) -> dict[str, Any]:
    """Do the work with one thread of the processor.

    Raises:
        BadValue: if it needs a GPU and there is none.
    """
    if needs_gpu and not torch.cuda.is_available():
        raise BadValue("this scale needs a GPU and PyTorch sees none; take --scale small")
    with one_thread():
        return make(settings)


def trained(settings: dict[str, Any]) -> dict[str, Any]:
    """Train on the source.

    Returns:
        ``losses`` and ``validation_accuracies`` of the epochs; and judged as :func:`judged` has it ``on_source``, the
        source's test images, ``before``, the target's, and ``adabn``, these after its statistics were taken over.
    """
    network, history = _source_network(_key(settings))
    test = _images(settings, settings["target"], "test")
    statistics = _images(settings, settings["target"], "training").pixels
    return {
        "losses": history.losses,
        "validation_accuracies": [score.accuracy for score in history.scores],
        "on_source": judged(network, _images(settings, settings["source"], "test")),
        "before": judged(network, test),
        "adabn": judged(adaptation.adapt_statistics(network, statistics), test),
    }


def adapted(settings: dict[str, Any]) -> dict[str, Any]:
    """Adapt the network that the source training ends with.

    That network is trained again where this process has not just trained it; from one seed it is the same on a
    processor, and nearly so on a GPU. What is gained is therefore told against ``before``, of this very network.

    Returns:
        ``losses``, ``accuracies`` and ``aucs`` of the epochs, on the target's test images, and judged on these
        ``before`` and ``after``, the last epoch.
    """
    network, _ = _source_network(_key(settings))
    source, target = (_images(settings, settings[name], "training") for name in ("source", "target"))
    test = _images(settings, settings["target"], "test")
    result, history = adaptation.adapt(
        settings["algorithm"], network, source, target, test, settings["epochs"], settings["seed"], settings["batch"]
    )
    return {
        "losses": history.losses,
        "accuracies": [score.accuracy for score in history.scores],
        "aucs": [score.auc for score in history.scores],
        "before": judged(network, test),
        "after": judged(result, test),
    }


def judged(network: nn.Module, images: Images) -> dict[str, Any]:
    """Return ``accuracy``, ``auc``, the mean over classes of that against the others, and ``true_positives``.

    The last is the mean over classes of the share found, at each of :data:`FALSE_POSITIVES`.

    Args:
        network: images to logits; it is left as it is.
        images: with all classes among them.
    """
    from sklearn.metrics import roc_auc_score

    still = copy.deepcopy(network).eval()
    with torch.inference_mode():
        logits = torch.cat([still(some) for some in torch.split(images.pixels, _AT_ONCE)])
    said, labels = logits.double().softmax(1).cpu().numpy(), images.labels.cpu().numpy()
    return {
        "accuracy": float(np.mean(said.argmax(1) == labels)),
        "auc": float(roc_auc_score(labels, said, multi_class="ovr", average="macro")),
        "true_positives": _true_positives(said, labels).tolist(),
    }


def _true_positives(said: np.ndarray, labels: np.ndarray) -> np.ndarray:
    from sklearn.metrics import roc_curve

    curves = (roc_curve(labels == label, said[:, label])[:2] for label in range(said.shape[1]))
    return np.asarray(np.mean([np.interp(FALSE_POSITIVES, false, true) for false, true in curves], axis=0))


def _key(settings: dict[str, Any]) -> str:
    """Return what the training on the source depends on."""
    return json.dumps({name: value for name, value in settings.items() if name not in ("algorithm", "epochs")})


@functools.lru_cache(maxsize=2)  # of both directions, for the parts that follow
def _source_network(key: str) -> tuple[nn.Sequential, adaptation.History]:
    settings = json.loads(key)
    with torch.random.fork_rng([]):
        torch.manual_seed(settings["seed"])
        encoder = make_encoder(settings["encoder"], settings["size"], settings["pixels"])
        network = nn.Sequential(encoder, Classifier()).to(_device())
    training, validation = (_images(settings, settings["source"], part) for part in ("training", "validation"))
    history = adaptation.train_source(
        network, training, validation, settings["source_epochs"], settings["seed"], settings["batch"]
    )
    return network, history


def _images(settings: dict[str, Any], instrument: str, part: str) -> Images:
    return _set(instrument, part, settings["training" if part == "training" else "judged"], settings["pixels"],
                settings["seed"])  # fmt: skip


@functools.lru_cache(maxsize=len(_SETS))
def _set(instrument: str, part: str, of_each: int, pixels: int, seed: int) -> Images:
    image_seed = seed * _BETWEEN_SEEDS + _SETS.index(f"{instrument} {part}")
    images, labels = data.images(instrument, of_each * len(CLASSES), pixels, image_seed)
    return Images(torch.from_numpy(images).to(_device()), torch.from_numpy(labels).to(_device()))


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def area(true_positives: Sequence[float]) -> float:
    """Return the area under a curve as it is kept, by the trapezoidal rule."""
    return float(np.trapezoid(true_positives, FALSE_POSITIVES))
