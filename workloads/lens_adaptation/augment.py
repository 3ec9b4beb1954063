"""Random changes of images of lenses that leave their class as it is. They draw on torch's own random numbers.

No pixel is interpolated: that would smooth the noise, and the noise is part of what tells two instruments apart.
"""

from __future__ import annotations

import torch
from torch import Tensor

SHIFT = 1 / 8  # of the side, either way
GAIN = 0.2
NOISE = 0.05  # largest standard deviation, of the brightest pixel an image can have


def weak(images: Tensor) -> Tensor:
    """Return images, (batch, 1, side, side), each mirrored or not, left to right and top to bottom."""
    images = torch.where(_coins(images), images.flip(-1), images)
    return torch.where(_coins(images), images.flip(-2), images)


def strong(images: Tensor) -> Tensor:
    """Return images mirrored as by :func:`weak` and along the diagonal, shifted, and with other brightness and noise.

    Shifts repeat the pixels at the edge; brightness changes by up to 20 %, and noise of up to 0.05 is added; how much
    is drawn for each image.
    """
    images = weak(images)
    images = torch.where(_coins(images), images.transpose(-1, -2), images)
    for axis in (-1, -2):
        images = _shifted(images, axis)
    gain = 1 + GAIN * (2 * _uniform(images) - 1)
    return gain * images + NOISE * _uniform(images) * torch.randn_like(images)


def _uniform(images: Tensor) -> Tensor:
    """Return one random number between 0 and 1 for each image, (batch, 1, 1, 1)."""
    return torch.rand(len(images), 1, 1, 1, dtype=images.dtype, device=images.device)


def _coins(images: Tensor) -> Tensor:
    return _uniform(images) < 0.5


def _shifted(images: Tensor, axis: int) -> Tensor:
    """Return images shifted along one axis, each by a whole number of pixels of its own."""
    side = images.shape[axis]
    most = int(SHIFT * side)
    shift = ((2 * most + 1) * _uniform(images)).long() - most
    shape = [1, 1, 1, 1]
    shape[axis] = side
    places = torch.arange(side, device=images.device).view(shape) + shift
    return images.gather(axis, places.clamp(0, side - 1).expand_as(images))
