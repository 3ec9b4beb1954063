"""The published baseline: a random forest that guesses the stellar mass of one halo at a time (scikit-learn).

Its stellar mass functions follow from the guesses as labels follow from true masses. A forest says the mean for halos
that look alike, so that the scatter of their masses, and with it the heavy end of the function, is lost.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, Tuple

import numpy as np

from siderostat.workloads.base import BadInput
from siderostat.workloads.halo_grids.data import SubBoxes
from siderostat.workloads.halo_smf.quality import chi2

TREES = 500
DEPTH = 10
LEAST_LEAF = 4
"""Halos in a leaf at least."""

ENOUGH = 20000
"""Halos to fit to, unless told otherwise: 37 CPU seconds. A tree of all 167,437 takes fourteen times as long."""


@dataclass(frozen=True)
class ForestResult:
    """How good a forest is.

    Attributes:
        chi2: on the validation boxes.
        importances: of each feature, the share of the variance that splits by it take away; they sum to 1.
        scatter_dex: standard deviation of predicted minus true log10 stellar mass over halos of the validation boxes.
        halos: that it was fitted to.
        labels: predicted of the validation boxes, (boxes, 14).
    """

    chi2: float
    importances: Dict[str, float]
    scatter_dex: float
    halos: int
    labels: np.ndarray = field(repr=False)


def forest(trees: int, depth: int, seed: int, jobs: int) -> Any:
    """Return a ``RandomForestRegressor`` that is not fitted yet; ``jobs`` is how many threads grow its trees."""
    from sklearn.ensemble import RandomForestRegressor

    return RandomForestRegressor(trees, max_depth=depth, min_samples_leaf=LEAST_LEAF, random_state=seed, n_jobs=jobs)


def halos_of(boxes: SubBoxes) -> Tuple[np.ndarray, np.ndarray]:
    """Return indices of the halos in the training boxes, and of those in the validation boxes.

    Raises:
        BadInput: if there are none, as with grids by path.
    """
    if not len(boxes.features):
        raise BadInput("a forest looks at halos, and the files named hold none; name a catalogue instead of grids")
    trains = np.isin(boxes.box_of_halo, boxes.train)
    return np.flatnonzero(trains), np.flatnonzero(~trains)


def forest_chi2(
    boxes: SubBoxes, depth: int = DEPTH, trees: int = TREES, halos: int = ENOUGH, seed: int = 0, jobs: int = 1
) -> ForestResult:
    """Fit a forest to halos of the training boxes, and judge it on the validation boxes as a network is judged.

    Args:
        boxes: with halos.
        depth: of a tree at most; published 5 or 10.
        trees: of the forest.
        halos: to fit to at most, drawn at random.
        seed: of that draw, and of the forest.
        jobs: threads that grow trees.

    Raises:
        BadInput: if the boxes have no halos.
    """
    known, unseen = halos_of(boxes)
    chosen = np.random.default_rng(seed).permutation(known)[:halos]
    grown = forest(trees, depth, seed, jobs).fit(boxes.features[chosen], boxes.log_stellar_mass[chosen])
    guessed = boxes.log_stellar_mass.astype(np.float64)
    guessed[unseen] = grown.predict(boxes.features[unseen])
    labels = boxes.labels_of(guessed)[boxes.validation]
    return ForestResult(
        chi2=chi2(labels, boxes.labels[boxes.validation], boxes.sigma),
        importances=dict(zip(boxes.feature_names, map(float, grown.feature_importances_))),
        scatter_dex=float((guessed - boxes.log_stellar_mass)[unseen].std()),
        halos=len(chosen),
        labels=labels,
    )
