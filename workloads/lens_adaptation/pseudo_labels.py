"""Labels for unlabelled images from spherical k-means on their features, as CGDM uses them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

ROUNDS = 2


def spherical_k_means(features: Tensor, probabilities: Tensor, rounds: int = ROUNDS) -> Tensor:
    """Return the nearest of the classes' centres by cosine, int64 of shape (n,).

    Features get a 1 appended and unit length. Centres are means weighted by what a classifier says first, and by the
    labels of the round before afterwards (Liang et al. 2020, arXiv:2002.08546, whose routine CGDM takes over).

    Args:
        features: (n, d).
        probabilities: of the classes, (n, classes).
        rounds: how often centres are taken.
    """
    points = F.normalize(torch.cat([features, features.new_ones(len(features), 1)], 1), dim=1)
    weights = probabilities
    labels = probabilities.argmax(1)
    for _ in range(rounds):
        # A centre's length does not count in a cosine; one without members stays at 0, at a right angle to all.
        centres = F.normalize(weights.T @ points, dim=1)
        labels = (points @ centres.T).argmax(1)
        weights = F.one_hot(labels, probabilities.shape[1]).to(points.dtype)
    return labels
