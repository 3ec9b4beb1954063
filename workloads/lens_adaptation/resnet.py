"""ResNet18 for images of one channel."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from siderostat.workloads.lens_adaptation.architecture import FEATURES, Residual, residuals, resnet_stem


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, each with batch normalisation, and a shortcut around them."""

    def __init__(self, shape: Residual) -> None:
        super().__init__()
        self.first = nn.Conv2d(shape.inside, shape.outside, 3, shape.stride, padding=1, bias=False)
        self.first_normalisation = nn.BatchNorm2d(shape.outside)
        self.second = nn.Conv2d(shape.outside, shape.outside, 3, padding=1, bias=False)
        self.second_normalisation = nn.BatchNorm2d(shape.outside)
        self.shortcut: nn.Module = nn.Identity()
        if shape.has_projection:
            projection = nn.Conv2d(shape.inside, shape.outside, 1, shape.stride, bias=False)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(shape.outside))

    def forward(self, x: Tensor) -> Tensor:
        """Apply to ``x`` of shape (batch, inside, side, side)."""
        y = F.relu(self.first_normalisation(self.first(x)))
        return F.relu(self.second_normalisation(self.second(y)) + self.shortcut(x))


class ResNet18(nn.Module):
    """Images to features, as torchvision's ``resnet18`` has it but for the first and the last layer.

    He et al., Deep Residual Learning for Image Recognition (2016); 11,301,568 parameters at full width. Convolutions
    are drawn as He et al. (2015) do, for fan-out; the dense layer as torch does.

    Args:
        width: what the numbers of channels are multiplied by.
    """

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        channels, kernel, stride, padding = resnet_stem(width)
        shapes = list(residuals(width))
        first = nn.Conv2d(1, channels, kernel, stride, padding, bias=False)
        self.stem = nn.Sequential(first, nn.BatchNorm2d(channels), nn.ReLU(), nn.MaxPool2d(3, stride=2, padding=1))
        self.blocks = nn.Sequential(*map(ResidualBlock, shapes))
        self.dense = nn.Linear(shapes[-1].outside, FEATURES)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Return features, (batch, 256), of ``images``, (batch, 1, pixels, pixels)."""
        features: Tensor = self.dense(self.blocks(self.stem(images)).mean((2, 3)))
        return features
