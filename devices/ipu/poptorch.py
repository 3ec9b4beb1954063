"""PyTorch steps on IPUs, through PopTorch: each phase is one executable that works through several batches a call.

A step is one batch, as on every device. A call handles iterations x replicas x accumulation batches; steps asked for
are rounded up to whole calls, and the window says how many there were. Every phase has an executable, and IPUs, of its
own.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor, nn

from siderostat.devices.base import Program, Unsupported, Window
from siderostat.devices.ipu import power, refusals
from siderostat.devices.ipu.settings import Settings
from siderostat.workloads.base import Feed, Phase, Step

poptorch: Any = importlib.import_module("poptorch")  # comes with the Poplar SDK only

_OPTIMIZERS = ("SGD", "Adam", "AdamW", "RMSprop", "LAMB")
_NARROWED = {torch.int64: torch.int32, torch.float64: torch.float32}  # what PopTorch does too, at each call
_LATENCIES = {
    "round_trip": "getLatency",
    "host_to_ipu": "getHostIpuLatency",
    "compute": "getComputeLatency",
    "ipu_to_host": "getIpuHostLatency",
}
_Key = Tuple[int, Tuple[Tuple[int, ...], ...]]


class PopTorchProgram(Program):
    """A training or inference step, compiled for IPUs.

    Args:
        step: its models become PopTorch's; with fp16 their weights too become 16 bits wide.
        precision: ``fp32`` or ``fp16``.
        settings: of the device's name.

    Raises:
        Unsupported: if PopTorch cannot run the step as it is.
        OutOfCapacity: if an executable does not fit; PopTorch finds that when it compiles.
        CompileFailed: if it cannot be compiled for another reason.
        Unavailable: if no IPU is free.
    """

    def __init__(self, step: Step, precision: str, settings: Settings) -> None:
        if precision not in ("fp32", "fp16"):
            raise Unsupported(f"precision {precision!r} is not available on IPUs; use fp32 or fp16")
        _refuse_shared_weights(step)
        self._settings = settings
        self._half = torch.float16 if precision == "fp16" else None
        self._networks: Dict[_Key, Any] = {}
        self._clock_hz = settings.clock_hz
        self._executables: List[_Executable] = []
        try:
            for phase in step.phases:
                self._executables.append(_Executable(phase, self._half, settings))
        except BaseException:
            self.close()
            raise

    def run(self, steps: int) -> Window:
        """See :meth:`Program.run`. ``device_s`` is the chip's cycles over its clock, where both are known."""
        per_call = self._settings.batches_per_call()
        calls = -(-steps // per_call)
        cycles = 0
        cpu = time.process_time_ns()
        start = time.perf_counter_ns()
        for _ in range(calls):
            for executable in self._executables:
                cycles += executable.call()
        stop = time.perf_counter_ns()
        cpu = time.process_time_ns() - cpu
        seconds = (stop - start) * 1e-9
        return Window(calls * per_call, seconds, cpu * 1e-9, self._device_s(cycles, seconds))

    def _device_s(self, cycles: int, within_s: float) -> Optional[float]:
        """Return the chip's time, None where it is not known: an idle chip may tell a clock lower than it ran at."""
        if not cycles:
            return None
        if self._clock_hz is None:
            self._clock_hz = power.clock_hz(self._settings.index)
        device_s = None if self._clock_hz is None else cycles / self._clock_hz
        return device_s if device_s is not None and device_s <= within_s else None

    def outputs(self) -> List[np.ndarray]:
        """See :meth:`Program.outputs`. With synthetic data, which leaves no outputs, a forward pass on the host's."""
        return self._executables[-1].outputs()

    def infer(self, model: Any, arrays: Sequence[np.ndarray]) -> List[np.ndarray]:
        """See :meth:`Program.infer`. By an executable of its own, which takes the step's IPU for a while."""
        if self._settings.is_synthetic:
            raise Unsupported("with synthetic=yes nothing is learned from the data; leave it out to see how good it is")
        inputs = [_narrowed(array, self._half)[0] for array in arrays]
        with self._detached():
            network = self._network(model, inputs)
            try:
                return [_array(output) for output in _flat(network(*inputs))]
            finally:
                if network.isAttachedToDevice():
                    network.detachFromDevice()

    def _network(self, model: Any, inputs: Sequence[Tensor]) -> Any:
        """Return PopTorch's inference model of a network for inputs of these shapes."""
        key = (id(model), tuple(tuple(one.shape) for one in inputs))
        if key not in self._networks:
            plain = Settings(self._settings.index, cache=self._settings.cache, is_emulator=self._settings.is_emulator)
            training = [(module, module.training) for module in model.modules()]
            model.eval()
            try:
                network = poptorch.inferenceModel(model, _options(plain, is_training=False))
                _compile(network, inputs)
            finally:
                for module, was in training:
                    module.training = was
            self._networks[key] = network
        return self._networks[key]

    @contextlib.contextmanager
    def _detached(self) -> Iterator[None]:
        """Take the step's executables off the IPUs, their weights to the host, and put them back afterwards."""
        ours = [one.executor for one in self._executables if one.executor.isAttachedToDevice()]
        for executor in ours:
            executor.detachFromDevice()
        try:
            yield
        finally:
            for executor in ours:
                executor.attachToDevice()

    def effective(self) -> Dict[str, Any]:
        """Return the options in force, what was cast, and the parts of the last call's time."""
        settings = self._settings
        return {
            "iterations": settings.iterations,
            "replicas": settings.replicas,
            "accumulation": settings.accumulation,
            "batches_per_call": settings.batches_per_call(),
            "synthetic_data": settings.is_synthetic,
            "emulator": settings.is_emulator,
            "clock_hz": self._clock_hz,
            "executables": [one.effective() for one in self._executables],
        }

    def close(self) -> None:
        """Release the IPUs, so that the next batch size finds them free."""
        for network in self._networks.values():
            network.destroy()
        for one in self._executables:
            one.executor.destroy()
        self._networks, self._executables = {}, []


class _Executable:
    """One phase, compiled."""

    def __init__(self, phase: Phase, half: Optional[torch.dtype], settings: Settings) -> None:
        self._is_training = phase.optimizer is not None
        if settings.accumulation > 1 and not self._is_training:
            raise Unsupported("accumulation adds up gradients, and this step has none; leave it out")
        self._settings = settings
        self._feed = phase.feed
        self._host = _host_outputs(phase) if settings.is_synthetic else None
        narrowed = [_narrowed(array, half) for array in phase.feed.arrays]
        self._arrays = [array for array, _ in narrowed]
        self._casts = {f"input {i}": cast for i, (_, cast) in enumerate(narrowed) if cast}
        model = phase.model.half() if half is not None else phase.model
        options = _options(settings, self._is_training)
        if phase.optimizer is None:
            self.executor = poptorch.inferenceModel(model.eval(), options)
        else:
            optimizer = _checked(phase.optimizer(model.parameters()))
            self.executor = poptorch.trainingModel(_LossMarked(model), options, optimizer)
        before = _files(settings.cache)
        _compile(self.executor, self._batches(copy.copy(self._feed)))
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
        arrays = [_array(output) for output in _flat(self._last)]
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
        *others, loss = _flat(self.model(*inputs))
        return (*others, poptorch.identity_loss(loss, reduction="none"))


def _options(settings: Settings, is_training: bool) -> Any:
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


def _compile(executor: Any, inputs: Sequence[Tensor]) -> None:
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


def _refuse_shared_weights(step: Step) -> None:
    """Refuse phases that have weights in common.

    Raises:
        Unsupported: if there are any: each executable has a copy on its IPU, and one would not see the other's updates.
    """
    seen: Dict[int, int] = {}
    for number, phase in enumerate(step.phases):
        for parameter in phase.model.parameters():
            if seen.setdefault(id(parameter), number) != number:
                raise Unsupported(
                    "two phases share weights, and each has an executable with a copy of its own on IPUs; "
                    "use one phase with a summed loss"
                )


def _narrowed(array: np.ndarray, half: Optional[torch.dtype]) -> Tuple[Tensor, str]:
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
        return [_array(output) for output in _flat(copy.deepcopy(phase.model)(*inputs))]


def _flat(outputs: Any) -> Sequence[Any]:
    return outputs if isinstance(outputs, (tuple, list)) else (outputs,)


def _array(output: Tensor) -> np.ndarray:
    array: np.ndarray = output.detach().float().numpy() if output.dtype is torch.float16 else output.detach().numpy()
    return array


def _files(folder: str) -> int:
    return sum(1 for _ in Path(folder).rglob("*")) if folder else 0
