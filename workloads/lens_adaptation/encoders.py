"""Encoders by name and size."""

from __future__ import annotations

from torch import nn

from siderostat.workloads.lens_adaptation.architecture import ENCODERS, PIXELS, width_of
from siderostat.workloads.lens_adaptation.efficientnet import EfficientNet
from siderostat.workloads.lens_adaptation.equivariant import EquivariantNetwork
from siderostat.workloads.lens_adaptation.resnet import ResNet18


def make_encoder(name: str, size: str, pixels: int = PIXELS) -> nn.Module:
    """Return an encoder, its weights drawn from torch's random numbers: ``torch.manual_seed`` fixes them.

    It takes images of shape (batch, 1, pixels, pixels) and returns features of shape (batch, 256).

    Args:
        name: one of :data:`~siderostat.workloads.lens_adaptation.architecture.ENCODERS`.
        size: ``paper``, ``quarter`` or ``tiny``: all numbers of channels, a quarter or an eighth of them.
        pixels: on a side of the images. The equivariant network's dense layer depends on them, and it takes no
            others; the ResNet and the EfficientNets take any.

    Raises:
        LookupError: if there is no such encoder or size; the text says which there are.
        ValueError: if the images are too small for the network.
    """
    width = width_of(size)
    if name == "resnet18":
        return ResNet18(width)
    if name == "equivariant":
        return EquivariantNetwork(width, pixels)
    if name in ENCODERS:
        return EfficientNet(name, width)
    raise LookupError(f"there is no encoder {name!r}; there are {', '.join(ENCODERS)}")
