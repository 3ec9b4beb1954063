"""How well stellar mass functions are predicted: chi^2 over sub-boxes that nothing was trained on."""

from __future__ import annotations

import numpy as np

from siderostat.workloads.base import Findings
from siderostat.workloads.halo_grids import smf
from siderostat.workloads.halo_grids.data import SubBoxes

SHOWN = (0, 6, 12)
"""Bins whose predictions are set against the truth, of the 14: log10 M* from 10.2, 10.8 and 11.4."""


def chi2(predicted: np.ndarray, labels: np.ndarray, sigma: np.ndarray) -> float:
    """Return the mean over sub-boxes of sum over bins ((predicted - label) / sigma)^2, in double precision.

    On the scale of the published 272, 135, 93 and 84, where :class:`~siderostat.workloads.halo_grids.data.SubBoxes`
    has the labels.

    Args:
        predicted: (boxes, 14), or (14,) for all alike.
        labels: (boxes, 14).
        sigma: (14,).
    """
    residuals = (np.asarray(predicted, np.float64) - labels) / sigma
    return float(np.square(residuals).sum(1).mean())


def mean_predictor_chi2(boxes: SubBoxes) -> float:
    """Return chi^2 on the validation boxes of one who says the mean of the training labels for each."""
    mean = boxes.labels[boxes.train].mean(0, dtype=np.float64)
    return chi2(mean, boxes.labels[boxes.validation], boxes.sigma)


def judge(predicted: np.ndarray, boxes: SubBoxes) -> Findings:
    """Return how good predictions for the validation boxes are.

    Args:
        predicted: stellar mass functions, (validation boxes, 14).
        boxes: that they are of.

    Returns:
        ``chi2`` and ``chi2_mean_predictor``; and in three bins, named by their lower edge in log10 M*, true and
        predicted phi of each box, Mpc^-3 dex^-1.
    """
    labels = boxes.labels[boxes.validation]
    pairs = {
        f"phi_{smf.EDGES[i]:.1f}": (
            (labels[:, i] * smf.PHYSICAL).tolist(),
            (predicted[:, i] * smf.PHYSICAL).tolist(),
        )
        for i in SHOWN
    }
    figures = {"chi2": chi2(predicted, labels, boxes.sigma), "chi2_mean_predictor": mean_predictor_chi2(boxes)}
    return Findings(figures, pairs)
