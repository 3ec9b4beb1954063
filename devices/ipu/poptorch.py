"""PyTorch steps on IPUs, through PopTorch: each phase is one executable that works through several batches a call.

A step is one batch, as on every device. A call handles iterations x replicas x accumulation batches; steps asked for
are rounded up to whole calls, and the window says how many there were. Every phase has an executable, and IPUs, of its
own.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor

from siderostat.devices.base import Program, Unsupported, Window
from siderostat.devices.ipu import power
from siderostat.devices.ipu.executable import Executable, as_array, compile_now, flat, narrowed, options_of, poptorch
from siderostat.devices.ipu.settings import Settings
from siderostat.workloads.base import Step

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
        self._networks: Dict[_Key, Tuple[Any, Any]] = {}  # model, which keeps its id from being used again; executor
        self._clock_hz = settings.clock_hz
        self._executables: List[Executable] = []
        try:
            for phase in step.phases:
                self._executables.append(Executable(phase, self._half, settings))
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
        """See :meth:`Program.outputs`. With synthetic data, which leaves no outputs, a forward pass on the host."""
        return self._executables[-1].outputs()

    def infer(self, model: Any, arrays: Sequence[np.ndarray]) -> List[np.ndarray]:
        """See :meth:`Program.infer`. By an executable of its own, which takes the step's IPU for a while."""
        if self._settings.is_synthetic:
            raise Unsupported("with synthetic=yes nothing is learned from the data; leave it out to see how good it is")
        inputs = [narrowed(array, self._half)[0] for array in arrays]
        with self._detached():
            network = self._network(model, inputs)
            try:
                return [as_array(output) for output in flat(network(*inputs))]
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
                network = poptorch.inferenceModel(model, options_of(plain, is_training=False))
                compile_now(network, inputs)
            finally:
                for module, was in training:
                    module.training = was
            self._networks[key] = model, network
        return self._networks[key][1]

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
        for _, network in self._networks.values():
            network.destroy()
        for one in self._executables:
            one.executor.destroy()
        self._networks, self._executables = {}, []


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
