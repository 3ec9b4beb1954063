"""Nothing at all: what the harness itself takes per step."""

from __future__ import annotations

from typing import Any, Dict, Sequence, Tuple

import numpy as np

from siderostat.workloads.base import Feed, Phase, Size, Spec, Step, Workload, WrongResult

_ITEMS = 64


class Null(Workload):
    """Fetches a batch and returns it. Its time per step is the overhead in every other figure."""

    name = "null"
    title = "Null: the harness's own overhead"
    item = "step"
    modes = ("infer",)
    frameworks = ("numpy",)
    variants = {"nothing": {"empty": Size(0, 0)}}
    batches = (1,)

    def build(self, spec: Spec) -> Step:
        """See :meth:`Workload.build`."""
        feed = Feed([np.arange(_ITEMS, dtype=np.float32)], spec.batch, spec.seed)
        return Step("numpy", [Phase(_return_inputs, feed)], items=1)

    def check(self, spec: Spec, outputs: Sequence[np.ndarray]) -> Dict[str, float]:
        """See :meth:`Workload.check`."""
        if outputs[0].shape != (spec.batch,):
            raise WrongResult(f"a batch of {spec.batch} came back with shape {outputs[0].shape}")
        return {"items": float(len(outputs[0]))}


def _return_inputs(*inputs: Any) -> Tuple[Any, ...]:
    return inputs
