"""The trained sampler: weights of decoder and flow, pictures and measures of drawn galaxies, and how it was made.

``decoder.NAME`` and ``flow.NAME`` are weights named and shaped as in :mod:`layers`; ``thumbnails`` are pictures of
drawn galaxies; the provenance has, as ``real``, quantiles of what was measured on drawn galaxies that the networks have
not seen. See :mod:`siderostat.workloads.checkpoint` for the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Mapping

import numpy as np

from siderostat.workloads.base import BadInput
from siderostat.workloads.checkpoint import Checkpoints
from siderostat.workloads.galaxy_sampler import layers
from siderostat.workloads.galaxy_sampler.statistics import COMPARED, THUMBNAIL

SHIPPED = Path(__file__).with_name("checkpoint.npz")
VERSION = 1
"""Of the file. Rises when names, shapes or the stretch of the images change."""

REMEDY = "make one by python -m siderostat.workloads.galaxy_sampler.recipe"


@dataclass(frozen=True)
class Checkpoint:
    """A trained sampler."""

    decoder: Mapping[str, np.ndarray]  # weights by name, float32
    flow: Mapping[str, np.ndarray]
    thumbnails: np.ndarray  # of drawn galaxies, uint8 of shape (k, 32, 32, 3)
    provenance: Mapping[str, Any]

    def real(self) -> Dict[str, np.ndarray]:
        """Return quantiles of flux, size and ellipticity of drawn galaxies, as ``statistics.compare`` takes them."""
        return {name: np.asarray(self.provenance["real"][name], np.float64) for name in COMPARED}


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint.

    Raises:
        BadInput: if it cannot be written.
    """
    weights = {f"decoder.{name}": array for name, array in checkpoint.decoder.items()}
    weights.update({f"flow.{name}": array for name, array in checkpoint.flow.items()})
    _checkpoints().save(path, weights, checkpoint.provenance, thumbnails=checkpoint.thumbnails)


def load(path: str = "") -> Checkpoint:
    """Read the checkpoint at ``path``, or the one that comes with siderostat.

    Raises:
        BadInput: if it is missing, is no checkpoint, is of another version, or holds what cannot be.
    """
    place = Path(path) if path else SHIPPED
    weights, more, provenance = _checkpoints().load(place)
    pictures = more.get("thumbnails")
    if pictures is None or pictures.dtype != np.uint8 or pictures.shape[1:] != (THUMBNAIL, THUMBNAIL, 3):
        raise BadInput(f"the checkpoint {place} lacks pictures of drawn galaxies; {REMEDY}")
    if not _tells_of_drawn_galaxies(provenance):
        raise BadInput(f"the checkpoint {place} does not say what drawn galaxies are like; {REMEDY}")
    return Checkpoint(_part(weights, "decoder."), _part(weights, "flow."), pictures, provenance)


def _checkpoints() -> Checkpoints:
    shapes = {f"decoder.{name}": shape for name, shape in layers.decoder_shapes().items()}
    shapes.update({f"flow.{name}": shape for name, shape in layers.flow_shapes().items()})
    return Checkpoints("checkpoint of galaxy-sampler", VERSION, REMEDY, shapes)


def _tells_of_drawn_galaxies(provenance: Mapping[str, Any]) -> bool:
    try:
        real = [np.asarray(provenance["real"][name], np.float64) for name in COMPARED]
    except (TypeError, KeyError, ValueError):
        return False
    return all(values.size and np.isfinite(values).all() for values in real)


def _part(weights: Mapping[str, np.ndarray], prefix: str) -> Dict[str, np.ndarray]:
    return {name[len(prefix) :]: array for name, array in weights.items() if name.startswith(prefix)}
