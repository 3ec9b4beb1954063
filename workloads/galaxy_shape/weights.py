"""The weights that come with siderostat, for inference with a network that has learned something."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, Tuple

from siderostat.workloads.checkpoint import Checkpoints, Weights
from siderostat.workloads.galaxy_images.survey import BANDS
from siderostat.workloads.galaxy_shape.layers import HEAD, KERNEL, convolutions, flat_features

SHIPPED = Path(__file__).with_name("checkpoint.npz")
VERSION = 1


def shapes() -> Dict[str, Tuple[int, ...]]:
    """Shapes of the DNN's weights, named and shaped as PyTorch has them: 1,517,217 numbers."""
    found: Dict[str, Tuple[int, ...]] = {
        f"normalisation.{name}": (len(BANDS),) for name in ("weight", "bias", "running_mean", "running_var")
    }
    for i, (inside, outside, side) in enumerate(convolutions()):
        found[f"blocks.{2 * i}.weight"] = (outside, inside, KERNEL, KERNEL)
        found[f"blocks.{2 * i}.bias"] = (outside,)
        found[f"blocks.{2 * i + 1}.slope"] = (outside, side, side)
    found.update({"dense.weight": (HEAD, flat_features()), "dense.bias": (HEAD,)})
    return found


def checkpoints() -> Checkpoints:
    """How files of such weights are written and read."""
    remedy = "make one by python -m siderostat.workloads.galaxy_shape.recipe"
    return Checkpoints("checkpoint of galaxy-shape", VERSION, remedy, shapes())


def load(path: str = "") -> Weights:
    """Return the weights at ``path``, or those that come with siderostat.

    Raises:
        BadInput: if they cannot be used.
    """
    weights, _, _ = checkpoints().load(Path(path) if path else SHIPPED)
    return weights
