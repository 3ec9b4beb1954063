"""Graphcore IPUs, through PopTorch or Graphcore's TensorFlow. No figure of this adapter has come from an IPU so far.

What drives an IPU lives in the Poplar SDK's own environment, so a sweep file names its interpreter: ``[devices.ipu]
python = "..."``. Where there is no IPU nothing else is put in its place: the cell ends with a sentence that says what
would help.
"""

from __future__ import annotations

from typing import Any, ClassVar, Dict, List, Mapping, Optional

from siderostat.devices.base import DeviceAdapter, DeviceRefusal, Program, Unsupported
from siderostat.devices.energy import Counter
from siderostat.devices.ipu import hardware, power, refusals
from siderostat.devices.ipu.settings import Settings
from siderostat.record import Provenance
from siderostat.workloads import base as features
from siderostat.workloads.base import Step

_COMPILERS = {  # what neither compiler for IPUs has -> what to do instead
    features.COMPLEX: "split them into real and imaginary parts",
    features.DECOMPOSITIONS: "use a variant that writes them out",
    features.FOURIER: "use a variant that writes them as matrix products",
    features.HOST_KERNELS: "use a variant that is written in the framework alone",
    features.DYNAMIC_SHAPES: "use a variant with fixed shapes",
}
_POPTORCH = {
    **_COMPILERS,
    features.SHARED_WEIGHTS: "each phase is an executable with weights of its own; use one phase with a summed loss",
    features.LOOSE_TENSORS: "use another variant, such as naive",
    features.UPDATE_HOOKS: "the chip does both in one go; leave clip, warm_up and cycle at 0",
}


class Ipu(DeviceAdapter):
    """One IPU, or several that share a batch's work as replicas."""

    kind = "ipu"
    title = "Graphcore IPUs, through PopTorch or Graphcore's TensorFlow"
    must_start_cold = True
    pace: ClassVar[Mapping[str, float]] = {"timeout_s": 1800.0}  # the published networks took up to 256 s to compile
    settings_help: ClassVar[Mapping[str, str]] = {
        "iterations": "device iterations: batches that the chip works through in one call, each a step; default 1",
        "replicas": "replication factor: IPUs that work on a batch each and share gradients; default 1 (PopTorch)",
        "accumulation": "batches whose gradients are added up before an update; default 1 (PopTorch)",
        "synthetic": "no (default), or yes: data made on the chip, so that the host's share falls away (PopTorch)",
        "outputs": "what a call returns: final or all batches; default: final in training, all in inference (PopTorch)",
        "cycles": "yes (default): count the chip's cycles, which costs it a little; no (PopTorch)",
        "clock_mhz": "of the chip, to turn cycles into seconds; default: as gcipuinfo tells",
        "cache": "absolute path of a folder that keeps executables from run to run; default: none is kept (PopTorch)",
        "emulator": "no (default), or yes: Graphcore's IPU Model on the host instead of a chip, very slow",
    }

    def __init__(self, index: str, settings: Mapping[str, str]) -> None:
        super().__init__(index, settings)
        if index and not index.isdigit():
            raise ValueError(f"an IPU is named by its number in gc-info -l, not {index!r}")
        self._settings = Settings(
            index=int(index) if index else None,
            iterations=_count(settings, "iterations"),
            replicas=_count(settings, "replicas"),
            accumulation=_count(settings, "accumulation"),
            is_synthetic=self.choice("synthetic", "no", "yes") == "yes",
            outputs=self.choice("outputs", "default", "final", "all"),
            counts_cycles=self.choice("cycles", "yes", "no") == "yes",
            clock_hz=_clock_hz(settings),
            cache=settings.get("cache", ""),
            is_emulator=self.choice("emulator", "no", "yes") == "yes",
        )
        if self._settings.cache and not self._settings.cache.startswith("/"):
            raise ValueError(
                f"cache is an absolute path, so that a run can be resumed from any folder, not {self._settings.cache!r}"
            )
        if self._settings.is_emulator:
            self.provenance = Provenance.EMULATED
        self._program: Any = None
        self._strategy: Any = None

    def describe(self) -> Dict[str, Any]:
        """See :meth:`DeviceAdapter.describe`."""
        return hardware.describe(self._settings)

    def lacks(self, framework: str) -> Mapping[str, str]:
        """See :meth:`DeviceAdapter.lacks`."""
        return _POPTORCH if framework == "torch" else _COMPILERS

    def configure(self, framework: str) -> None:
        """See :meth:`DeviceAdapter.configure`. TensorFlow's models must be built within the scope of an IPU."""
        if framework == "tensorflow":
            from siderostat.devices.ipu import tensorflow

            self._strategy = tensorflow.configure(self._settings)

    def compile(self, step: Step, precision: str) -> Program:
        """See :meth:`DeviceAdapter.compile`."""
        if step.framework == "torch":
            from siderostat.devices.ipu.poptorch import PopTorchProgram

            self._program = PopTorchProgram(step, precision, self._settings)
        elif step.framework == "tensorflow":
            from siderostat.devices.ipu.tensorflow import TensorFlowProgram

            self._program = TensorFlowProgram(step, precision, self._settings, self._strategy)
        else:
            raise Unsupported(f"framework {step.framework!r} does not run on IPUs; they run torch and tensorflow")
        program: Program = self._program
        return program

    def effective(self) -> Dict[str, Any]:
        """See :meth:`DeviceAdapter.effective`."""
        return {} if self._program is None else dict(self._program.effective())

    def counters(self) -> List[Counter]:
        """See :meth:`DeviceAdapter.counters`."""
        return power.counters(self._settings)

    def sensors(self) -> Dict[str, float]:
        """See :meth:`DeviceAdapter.sensors`."""
        return {} if self._settings.is_emulator else power.sensors(self._settings.index)

    def refusal(self, error: BaseException) -> Optional[DeviceRefusal]:
        """See :meth:`DeviceAdapter.refusal`."""
        return refusals.poptorch(error) or refusals.tensorflow(error) or super().refusal(error)


def _count(settings: Mapping[str, str], name: str) -> int:
    value = settings.get(name, "1")
    if not value.isdigit() or int(value) < 1:
        raise ValueError(f"{name} is a whole number of at least 1, not {value!r}")
    return int(value)


def _clock_hz(settings: Mapping[str, str]) -> Optional[float]:
    value = settings.get("clock_mhz")
    if value is None:
        return None
    try:
        clock_hz = float(value) * 1e6
    except ValueError:
        clock_hz = 0.0
    if not 0 < clock_hz < float("inf"):
        raise ValueError(f"clock_mhz is a number of MHz, such as 1330, not {value!r}")
    return clock_hz
