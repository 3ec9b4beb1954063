"""The random forest as a workload of the host's processor."""

from __future__ import annotations

from typing import ClassVar, Dict, Mapping, Sequence, Tuple

import numpy as np

from siderostat.workloads.base import BadInput, Feed, Option, Phase, Size, Spec, Step, Workload, WrongResult, checked
from siderostat.workloads.halo_grids import data
from siderostat.workloads.halo_smf.forest import TREES, forest, halos_of

DEPTHS = {"depth-10": 10, "depth-5": 5}
SIZES = {"500-trees": TREES, "20-trees": 20}
FITTED_TO = 4096
"""Halos that the forest of mode predict is fitted to, before anything is timed."""
HELD_OUT = 256
"""Halos of the validation boxes that a forest is judged on after each fit."""
_SUM = 1e-6  # how far importances may be from a sum of 1


class HaloForest(Workload):
    """A random forest on features of halos, fitted and asked. Variants are how deep its trees are."""

    name = "halo-forest"
    title = "Random forest from features of a halo to its stellar mass"
    item = "halo"
    modes = ("fit", "predict")
    frameworks = ("numpy",)
    variants: ClassVar[Mapping[str, Mapping[str, Size]]] = {
        variant: {size: Size(0, 0) for size in SIZES} for variant in DEPTHS
    }
    batches = (1024, 8192)
    options: ClassVar[Mapping[str, Option]] = {
        **{name: data.OPTIONS[name] for name in ("halo_seed", "halos", "vpeak_min", "box")},
        "jobs": Option(1, "threads that grow trees and ask them; scikit-learn's own, whatever the device says"),
    }
    reference = "Nadler & To, Efficient Neural Network Implementation of the UniverseMachine; Breiman (2001)"

    def parts(self, spec: Spec) -> int:
        """Return 1: halos are made at once."""
        return 1

    def make_part(self, spec: Spec, part: int) -> None:
        """Make and keep the halo catalogue, or read the file named in its stead; return at once where it is there."""
        data.of_spec(spec)

    def build(self, spec: Spec) -> Step:
        """Load the halos, and in mode ``predict`` fit the forest.

        Raises:
            BadInput: if an option cannot be, or a file cannot be used.
        """
        boxes = data.of_spec(spec)
        known, unseen = halos_of(boxes)
        features, masses = boxes.features, boxes.log_stellar_mass
        settings = (SIZES[spec.size], DEPTHS[spec.variant], spec.seed, _jobs(spec))
        rng = np.random.default_rng(spec.seed)
        held_out = rng.permutation(unseen)[:HELD_OUT]

        def fit(seen: np.ndarray, true: np.ndarray) -> Tuple[np.ndarray, ...]:
            """Return importances of a forest fitted to halos, what it says of others, and what is true of them."""
            grown = forest(*settings).fit(seen, true)
            return grown.feature_importances_, grown.predict(features[held_out]), masses[held_out]

        if spec.mode == "fit":
            phase = Phase(fit, Feed((features[known], masses[known]), spec.batch, spec.seed))
        else:
            chosen = rng.permutation(known)[:FITTED_TO]
            grown = forest(*settings).fit(features[chosen], masses[chosen])

            def predict(seen: np.ndarray, true: np.ndarray) -> Tuple[np.ndarray, ...]:
                return grown.feature_importances_, grown.predict(seen), true

            phase = Phase(predict, Feed((features[unseen], masses[unseen]), spec.batch, spec.seed))
        return Step(spec.framework, (phase,), spec.batch)

    def check(self, spec: Spec, outputs: Sequence[np.ndarray]) -> Dict[str, float]:
        """Return the scatter of the predictions and the spread of the true masses, dex, and the largest importance.

        Raises:
            WrongResult: if shapes are wrong, anything is not finite, or importances do not sum to 1.
        """
        if len(outputs) != 3:
            raise WrongResult(f"the step returned {len(outputs)} outputs instead of 3")
        judged = (spec.batch,) if spec.mode == "predict" else (outputs[2].size,)
        shapes = {"importances": (outputs[0].size,), "predictions": judged, "true masses": judged}
        importances, predicted, true = checked(outputs, shapes)
        if abs(importances.sum() - 1) > _SUM:
            raise WrongResult(
                f"the importances sum to {importances.sum():.6g} instead of 1; 0 is of trees that never split, which a "
                "larger batch mends"
            )
        return {
            "scatter_dex": float((predicted - true).std()),
            "spread_dex": float(true.std()),
            "largest_importance": float(importances.max()),
        }


def _jobs(spec: Spec) -> int:
    """Return the threads that grow trees.

    Raises:
        BadInput: if there are none.
    """
    jobs = int(spec.options.get("jobs", 1))
    if jobs < 1:
        raise BadInput(f"jobs must be 1 or more, not {jobs}")
    return jobs
