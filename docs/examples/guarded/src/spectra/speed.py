"""What of this package must not become slower, as a workload for siderostat."""

import numpy as np

from siderostat.workloads.base import Feed, Phase, Size, Step, Workload, WrongResult
from spectra import power_spectrum

_SIDE = 64


class PowerSpectrum(Workload):
    """Spectra of maps of white noise, whose power is 1 everywhere."""

    name = "power-spectrum"
    title = "Power spectra of maps of 64 x 64 pixels"
    item = "map"
    modes = ("infer",)
    frameworks = ("numpy",)
    variants = {"numpy": {"small": Size(0, 0)}}
    batches = (4, 16)

    def build(self, spec):
        """Make as many maps as a step handles."""
        maps = np.random.default_rng(spec.seed).standard_normal((spec.batch, _SIDE, _SIDE))
        return Step("numpy", [Phase(power_spectrum, Feed([maps], spec.batch, spec.seed))], items=spec.batch)

    def check(self, spec, outputs):
        """White noise has a power of 1: a faster spectrum that is wrong is no faster spectrum."""
        mean = float(outputs[0][:, 1:].mean())
        if not 0.8 < mean < 1.2:
            raise WrongResult(f"white noise has a mean power of {mean:.3f} instead of 1")
        return {"mean_power": mean}
