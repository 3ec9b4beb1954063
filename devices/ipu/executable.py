"""One phase of a step as an executable of PopTorch's: its options, inputs, loss and outputs."""

from __future__ import annotations

import copy
import importlib
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor, nn

from siderostat.devices.base import Unsupported
from siderostat.devices.ipu import refusals
from siderostat.devices.ipu.settings import Settings
from siderostat.workloads.base import Feed, Phase

poptorch: Any = importlib.import_module("poptorch")  # comes with the Poplar SDK only

_OPTIMIZERS = ("SGD", "Adam", "AdamW", "RMSprop", "LAMB")
_NARROWED = {torch.int64: torch.int32, torch.float64: torch.float32}  # what PopTorch does too, at each call
_LATENCIES = {
    "round_trip": "getLatency",
    "host_to_ipu": "getHostIpuLatency",
    "compute": "getComputeLatency",
    "ipu_to_host": "getIpuHostLatency",
}


class Executable:
    """One phase, compiled.

    Args:
        phase: its model becomes PopTorch's; with ``half`` its weights too become 16 bits wide.
        half: the type to compute in instead of float32; None: in float32.
        settings: of the device's name.

    Raises:
        DeviceRefusal: if PopTorch refuses, or what it makes does not fit.
    """

    def __init__(self, phase: Phase, half: Optional[torch.dtype], settings: Settings) -> None:
        self._is_training = phase.optimizer is not None
        if settings.accumulation > 1 and not self._is_training:
            raise Unsupported("accumulation adds up gradients, and this step has none; leave it out")
        self._settings = settings
        self._feed = phase.feed
        self._host = _host_outputs(phase) if settings.is_synthetic else None
        inputs = [narrowed(array, half) for array in phase.feed.arrays]
        self._arrays = [array for array, _ in inputs]
        self._casts = {f"input {i}": cast for i, (_, cast) in enumerate(inputs) if cast}
        model = phase.model.half() if half is not None else phase.model
        options = options_of(settings, self._is_training)
        if phase.optimizer is None:
            self.executor = poptorch.inferenceModel(model.eval(), options)
        else:
            optimizer = _checked(phase.optimizer(model.parameters()))
            self.executor = poptorch.trainingModel(_LossMarked(model), options, optimizer)
        before = _files(settings.cache)
        compile_now(self.executor, self._batches(copy.copy(self._feed)))
        self._is_cached = bool(settings.cache) and _files(settings.cache) == before
        self._last: Any = ()
        self._cycles = 0

    def call(self) -> int:
        """Work through the batches of one call; return the chip's cycles, 0 where they are not counted."""
        self._last = self.executor(*self._batches(self._feed))
        if _counts_cycles(self._settings):
            self._cycles = int(self.executor.cycleCount())
        return self._cycles

    def outputs(self) -> List[np.ndarray]:
        """Return the outputs of the newest batch: those of the others in the same call stand before them."""
        if self._host is not None:
            return self._host
        returned = self._returned()
        arrays = [as_array(output) for output in flat(self._last)]
        return [a[len(a) - len(a) // returned :] if a.ndim else a for a in arrays]

    def _returned(self) -> int:
        """Return how many batches' outputs a call returns, one behind the other."""
        if _output_mode(self._settings, self._is_training) == "all":
            return self._settings.batches_per_call()
        return self._settings.replicas

    def effective(self) -> Dict[str, Any]:
        """Return what PopTorch made of the phase."""
        told = {
            "kind": "training" if self._is_training else "inference",
            "outputs": _output_mode(self._settings, self._is_training),
            "cast": self._casts,
            "executable": "from the cache" if self._is_cached else "compiled",
            "loss_scaling": False,
        }
        latencies = {name: getattr(self.executor, method)()[2] for name, method in _LATENCIES.items()}
        known = {f"{name}_s": seconds for name, seconds in latencies.items() if seconds > 0}  # (0, 0, 0): not recorded
        return {**told, **known, **({"cycles_per_call": self._cycles} if self._cycles else {})}

    def _batches(self, feed: Feed) -> List[Tensor]:
        """Return the batches of one call, each behind the other; copied only where they do not lie so in memory."""
        places = [feed.place() for _ in range(self._settings.batches_per_call())]
        if all(a.stop == b.start for a, b in zip(places, places[1:])):
            return [array[places[0].start : places[-1].stop] for array in self._arrays]
        return [torch.cat([array[place] for place in places]) for array in self._arrays]


class _LossMarked(nn.Module):
    """A model whose last output is the loss, marked so that PopTorch begins its backward pass there."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: Tensor) -> Tuple[Tensor, ...]:
        """Return what the model returns."""
        *others, loss = flat(self.model(*inputs))
        return (*others, poptorch.identity_loss(loss, reduction="none"))


def options_of(settings: Settings, is_training: bool) -> Any:
    """Return PopTorch's options. What its environment variables could set unseen is set here in any case."""
    options = poptorch.Options()
    options.deviceIterations(settings.iterations)
    options.replicationFactor(settings.replicas)
    if is_training:
        options.Training.gradientAccumulation(settings.accumulation)
    mode = poptorch.OutputMode.All if _output_mode(settings, is_training) == "all" else poptorch.OutputMode.Final
    options.outputMode(mode)
    options.enableSyntheticData(settings.is_synthetic)
    options.enableExecutableCaching(settings.cache or None)
    options.useIpuModel(settings.is_emulator)
    options.logCycleCount(_counts_cycles(settings))
    options.showCompilationProgressBar(False)
    options.randomSeed(torch.initial_seed() % 2**31)  # what the workload seeded; noise is drawn on the chip
    if settings.index is not None:
        options.useIpuId(settings.index)
    return options


def _output_mode(settings: Settings, is_training: bool) -> str:
    if settings.outputs != "default":
        return settings.outputs
    return "final" if is_training else "all"


def _counts_cycles(settings: Settings) -> bool:
    return settings.counts_cycles and not settings.is_emulator  # the emulator has no counter


def compile_now(executor: Any, inputs: Sequence[Tensor]) -> None:
    """Compile now rather than in the first step.

    Raises:
        DeviceRefusal: if PopTorch refuses, or what it makes does not fit.
    """
    try:
        executor.compile(*inputs)
    except (poptorch.Error, RuntimeError, TypeError) as error:
        raise refusals.compilation(error) from error


def _checked(optimizer: Any) -> Any:
    """Return an optimiser that PopTorch can turn into a part of the executable.

    Raises:
        Unsupported: if it is of another kind, or does something at an update that PopTorch would leave out unseen.
    """
    name = type(optimizer).__name__
    if name not in _OPTIMIZERS:
        raise Unsupported(f"PopTorch has no optimiser {name}; it has {', '.join(_OPTIMIZERS)}")
    if getattr(optimizer, "_optimizer_step_pre_hooks", None) or getattr(optimizer, "_optimizer_step_post_hooks", None):
        raise Unsupported("the optimiser has hooks, and PopTorch, which updates on the chip, would leave them out")
    return optimizer


def narrowed(array: np.ndarray, half: Optional[torch.dtype]) -> Tuple[Tensor, str]:
    """Return an array as a tensor of a type that IPUs have, and which cast that took, if any.

    Raises:
        Unsupported: if it holds complex numbers.
    """
    tensor = torch.from_numpy(array)
    if tensor.is_complex():
        raise Unsupported("PopTorch refuses complex tensors; split them into real and imaginary parts")
    wanted = _NARROWED.get(tensor.dtype, tensor.dtype)
    if half is not None and wanted.is_floating_point:
        wanted = half
    cast = "" if wanted is tensor.dtype else f"{tensor.dtype} to {wanted}".replace("torch.", "")
    return tensor.to(wanted), cast


def _host_outputs(phase: Phase) -> List[np.ndarray]:
    """Return what a copy of the model makes of the first batch on the host."""
    inputs = [torch.from_numpy(array) for array in copy.copy(phase.feed).next()]
    with torch.random.fork_rng([]), torch.no_grad():
        return [as_array(output) for output in flat(copy.deepcopy(phase.model)(*inputs))]


def flat(outputs: Any) -> Sequence[Any]:
    """Return what a model or an executable returned as a sequence, also where that was a single tensor."""
    return outputs if isinstance(outputs, (tuple, list)) else (outputs,)


def as_array(output: Tensor) -> np.ndarray:
    """Return a tensor as NumPy has it, in no less than float32."""
    array: np.ndarray = output.detach().float().numpy() if output.dtype is torch.float16 else output.detach().numpy()
    return array


def _files(folder: str) -> int:
    return sum(1 for _ in Path(folder).rglob("*")) if folder else 0
