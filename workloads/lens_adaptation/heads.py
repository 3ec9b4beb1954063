"""What stands on an encoder's features: a classifier, and the discriminator that ADDA trains against."""

from __future__ import annotations

from torch import Tensor, nn

from siderostat.workloads.lens_adaptation.architecture import CLASSES, FEATURES, HIDDEN


class Classifier(nn.Linear):
    """One dense layer from features to the logits of the classes: 771 parameters for 256 features and 3 classes.

    Args:
        features: length of an encoder's output.
        classes: how many there are.
    """

    def __init__(self, features: int = FEATURES, classes: int = CLASSES) -> None:
        super().__init__(features, classes)


class Discriminator(nn.Module):
    """Tells features of the source from features of the target: 256-256-256-2, ReLU between, 132,098 parameters.

    Args:
        features: length of an encoder's output.
    """

    def __init__(self, features: int = FEATURES) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(features, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 2)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits of source and target, (batch, 2), of ``features``, (batch, features)."""
        logits: Tensor = self.layers(features)
        return logits
