"""The weights that come with siderostat, for inference with a network that has learned something."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Tuple

from siderostat.workloads.checkpoint import Checkpoints
from siderostat.workloads.halo_smf.architecture import (
    HIDDEN,
    KERNEL,
    OUTPUTS,
    STEM_KERNEL,
    blocks,
    features,
)

SHIPPED = Path(__file__).with_name("checkpoint.npz")
VERSION = 1

_LAYERS_PER_HIDDEN = 4  # dense, normalisation, ReLU, dropout


def shapes(channels: int) -> Dict[str, Tuple[int, ...]]:
    """Shapes of the weights and of the statistics of normalisation, named and shaped as PyTorch has them."""
    found: Dict[str, Tuple[int, ...]] = {"scale": (OUTPUTS,)}
    found.update(_convolution("stem", "stem_norm", 1, channels, STEM_KERNEL))
    for i, block in enumerate(blocks(channels)):
        at = f"blocks.{i}"
        found.update(_convolution(f"{at}.first", f"{at}.first_norm", block.inside, block.outside, KERNEL))
        found.update(_convolution(f"{at}.second", f"{at}.second_norm", block.outside, block.outside, KERNEL))
        if block.has_projection:
            found.update(_convolution(f"{at}.projection.0", f"{at}.projection.1", block.inside, block.outside, 1))
    names = [(f"hidden.{i}", f"hidden.{i + 1}") for i in range(0, len(HIDDEN) * _LAYERS_PER_HIDDEN, _LAYERS_PER_HIDDEN)]
    inside = features(channels)
    for (dense, norm), outside in zip([*names, ("last", "last_norm")], (*HIDDEN, OUTPUTS)):
        found.update({f"{dense}.weight": (outside, inside), f"{dense}.bias": (outside,)})
        found.update(_normalisation(norm, outside))
        inside = outside
    return found


def checkpoints(channels: int) -> Checkpoints:
    """How files of such weights are written and read."""
    remedy = "make one by python -m siderostat.workloads.halo_smf.recipe"
    return Checkpoints("checkpoint of halo-smf", VERSION, remedy, shapes(channels))


def load_into(network: Any, channels: int, path: str = "") -> None:
    """Give a network the weights at ``path``, or those that come with siderostat.

    Raises:
        BadInput: if they cannot be used, as where they are of another size.
    """
    import torch

    arrays, _, _ = checkpoints(channels).load(Path(path) if path else SHIPPED)
    # The counts of batches seen are not in the file.
    network.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()}, strict=False)


def _convolution(name: str, norm: str, inside: int, outside: int, kernel: int) -> Dict[str, Tuple[int, ...]]:
    return {f"{name}.weight": (outside, inside, kernel, kernel, kernel), **_normalisation(norm, outside)}


def _normalisation(name: str, channels: int) -> Dict[str, Tuple[int, ...]]:
    return {f"{name}.{part}": (channels,) for part in ("weight", "bias", "running_mean", "running_var")}
