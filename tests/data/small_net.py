"""A workload that is traced: one dense layer; mode guess takes a value out of a tensor, which cannot be."""

import numpy as np

from siderostat.workloads.base import Feed, Phase, Size, Step, Workload


class Small(Workload):
    title = "Small"
    item = "vector"
    modes = ("infer", "guess")
    frameworks = ("torch", "numpy")
    variants = {"plain": {"tiny": Size(45, 45)}}
    batches = (4,)

    def build(self, spec):
        import torch

        class Guesses(torch.nn.Linear):
            def forward(self, x):
                return super().forward(x) if x.sum() > 0 else x

        layer = (Guesses if spec.mode == "guess" else torch.nn.Linear)(8, 5)
        feed = Feed([np.zeros((16, 8), np.float32)], spec.batch, 0)
        return Step(spec.framework, [Phase(layer, feed)], spec.batch)

    def check(self, spec, outputs):
        return {}
