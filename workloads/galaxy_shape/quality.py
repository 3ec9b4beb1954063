"""How well a network reads ellipticity and redshift: figures over images that it has not been trained on."""

from __future__ import annotations

import math
from typing import Dict, Sequence, Tuple

import numpy as np

from siderostat.workloads.base import Findings
from siderostat.workloads.galaxy_images.data import LABELS

DRAWS = 16  # of the kernels of a Bayesian network, for each image


def judge(means: np.ndarray, scales: np.ndarray, labels: np.ndarray, known: np.ndarray) -> Findings:
    """Return how well predicted distributions fit the labels.

    A prediction is the equal mixture of the draws' normal distributions; its mean and standard deviation are the
    mixture's.

    Args:
        means: shape (draws, images, 3).
        scales: Cholesky factors of the covariances, shape (draws, images, 3, 3).
        labels: true values, shape (images, 3).
        known: labels of the training set, shape (any, 3): what one would say without looking at the image.

    Returns:
        ``nll``, the mean negative log-density in nats, and its median, which a few galaxies far brighter than all
        others do not rule; root mean square errors of ellipticity and redshift; ``nll`` and errors of the training
        set's mean and covariance, ``label_mean_...``; and the shares of true values within one and two predicted
        standard deviations.
    """
    means, scales, labels = (np.asarray(a, np.float64) for a in (means, scales, labels))
    predicted, spread = _moments(means, scales)
    surprise = -_log_mixture(means, scales, labels)
    figures = {"nll": surprise.mean(), "median_nll": np.median(surprise), **_errors(predicted, labels)}
    figures.update({f"label_mean_{name}": value for name, value in _of_label_mean(labels, known).items()})
    within = np.abs(labels - predicted) / spread
    figures["coverage_68"] = float((within <= 1).mean())
    figures["coverage_95"] = float((within <= 2).mean())
    pairs = {name: (labels[:, i].tolist(), predicted[:, i].tolist()) for i, name in enumerate(LABELS)}
    return Findings({name: float(value) for name, value in figures.items()}, pairs)


def _moments(means: np.ndarray, scales: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each mixture, shapes (images, 3): the law of total variance."""
    variances = np.square(scales).sum(-1)
    return means.mean(0), np.sqrt(variances.mean(0) + means.var(0))


def _log_mixture(means: np.ndarray, scales: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Log-density of the labels under the equal mixture of the draws, shape (images,)."""
    logs = -_negative_log_likelihood(means, scales, labels)
    top = logs.max(0)
    return np.asarray(top + np.log(np.exp(logs - top).mean(0)))


def _negative_log_likelihood(means: np.ndarray, scales: np.ndarray, labels: np.ndarray) -> np.ndarray:
    residuals = np.linalg.solve(scales, (labels - means)[..., None])[..., 0]
    log_diagonal = np.log(np.diagonal(scales, axis1=-2, axis2=-1)).sum(-1)
    return np.asarray(0.5 * np.square(residuals).sum(-1) + log_diagonal + 0.5 * len(LABELS) * math.log(2 * math.pi))


def _errors(predicted: np.ndarray, labels: np.ndarray) -> Dict[str, float]:
    """Root mean square errors: of ellipticity over both components, of redshift in its own unit."""
    squares = np.square(predicted - labels)
    return {"ellipticity_rmse": math.sqrt(squares[:, :2].mean()), "redshift_rmse": math.sqrt(squares[:, 2].mean())}


def _of_label_mean(labels: np.ndarray, known: np.ndarray) -> Dict[str, float]:
    """Return the figures of one normal distribution for all images: that of the known labels."""
    known = np.asarray(known, np.float64)
    mean, scale = known.mean(0), np.linalg.cholesky(np.cov(known.T))
    means, scales = np.broadcast_to(mean, labels.shape), np.broadcast_to(scale, (len(labels), *scale.shape))
    return {"nll": float(_negative_log_likelihood(means, scales, labels).mean()), **_errors(means, labels)}


def stacked(outputs: Sequence[Sequence[np.ndarray]], draws: int) -> Tuple[np.ndarray, np.ndarray]:
    """Return means and Cholesky factors of calls in the order of draws, then batches: (draws, images, ...)."""
    per_draw = len(outputs) // draws
    whole = [
        [np.concatenate([call[i] for call in outputs[d * per_draw : (d + 1) * per_draw]]) for d in range(draws)]
        for i in (0, 1)
    ]
    return np.stack(whole[0]), np.stack(whole[1])
