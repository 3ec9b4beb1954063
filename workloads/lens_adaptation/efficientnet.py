"""EfficientNet-B0 and B2 for images of one channel."""

from __future__ import annotations

import math
from typing import List

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from siderostat.workloads.lens_adaptation.architecture import (
    FEATURES,
    Bottleneck,
    bottlenecks,
    efficientnet_head,
    efficientnet_stem,
)


def convolution(inside: int, outside: int, kernel: int, stride: int = 1, groups: int = 1) -> List[nn.Module]:
    """Return a convolution that keeps the side of the map, divided by the stride, and its batch normalisation.

    The normalisation has torch's settings, eps 1e-5 and momentum 0.1, as the published code's ``efficientnet_b*`` of
    geffnet; those of TensorFlow (1e-3 and 0.01) belong to weights trained there.
    """
    layer = nn.Conv2d(inside, outside, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return [layer, nn.BatchNorm2d(outside)]


class SqueezeExcitation(nn.Module):
    """Scales channels by what a small network makes of their means (Hu et al. 2018)."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeezed, 1)
        self.excite = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Apply to ``x`` of shape (batch, channels, side, side)."""
        means = x.mean((2, 3), keepdim=True)
        return x * torch.sigmoid(self.excite(F.silu(self.squeeze(means))))


class InvertedBottleneck(nn.Module):
    """Mobile inverted bottleneck with squeeze and excitation (Sandler et al. 2018, Tan et al. 2019)."""

    def __init__(self, shape: Bottleneck) -> None:
        super().__init__()
        layers: List[nn.Module] = []
        if shape.is_expanding:
            layers += [*convolution(shape.inside, shape.hidden, 1), nn.SiLU()]
        layers += [
            *convolution(shape.hidden, shape.hidden, shape.kernel, shape.stride, groups=shape.hidden),
            nn.SiLU(),
            SqueezeExcitation(shape.hidden, shape.squeezed),
            *convolution(shape.hidden, shape.outside, 1),
        ]
        self.layers = nn.Sequential(*layers)
        self.has_shortcut = shape.has_shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Apply to ``x`` of shape (batch, inside, side, side)."""
        y: Tensor = self.layers(x)
        return x + y if self.has_shortcut else y


class EfficientNet(nn.Module):
    """Images to features (Tan & Le, EfficientNet, 2019); B0 has 4,334,908 parameters at full width.

    There is neither dropout nor stochastic depth: the published code calls geffnet without asking for them, and with
    them a forward pass could not be used twice in one step of adaptation. Convolutions are drawn as He et al. (2015)
    do, for fan-out, the dense layer uniformly within 1 / sqrt(256), biases are 0.

    Args:
        name: ``efficientnet-b0`` or ``efficientnet-b2``.
        width: what the numbers of channels are multiplied by, besides what the name asks for.
    """

    def __init__(self, name: str = "efficientnet-b0", width: float = 1.0) -> None:
        super().__init__()
        channels, kernel, stride, _ = efficientnet_stem(name, width)
        shapes = list(bottlenecks(name, width))
        last = efficientnet_head(name, width)
        self.stem = nn.Sequential(*convolution(1, channels, kernel, stride), nn.SiLU())
        self.blocks = nn.Sequential(*map(InvertedBottleneck, shapes))
        self.head = nn.Sequential(*convolution(shapes[-1].outside, last, 1), nn.SiLU())
        self.dense = nn.Linear(last, FEATURES)
        self.apply(_initialise)

    def forward(self, images: Tensor) -> Tensor:
        """Return features, (batch, 256), of ``images``, (batch, 1, pixels, pixels)."""
        x = self.head(self.blocks(self.stem(images)))
        features: Tensor = self.dense(x.mean((2, 3)))
        return features


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        fan_out = module.weight[0, 0].numel() * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
    elif isinstance(module, nn.Linear):
        bound = 1 / math.sqrt(module.out_features)
        nn.init.uniform_(module.weight, -bound, bound)
    else:
        return
    if module.bias is not None:
        nn.init.zeros_(module.bias)
