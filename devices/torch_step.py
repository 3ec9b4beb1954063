"""PyTorch steps on any device of PyTorch's: precision, compilation, training and inference.

What is a device's own, how a batch comes to it and how it keeps time, is added by those that share this.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import warnings
from typing import Any, Callable, ContextManager, Dict, Iterator, List, Optional, Sequence

import numpy as np
import torch
from torch import Tensor

from siderostat.devices.base import CompileFailed, Unsupported
from siderostat.devices.cpu.loop import Loop
from siderostat.devices.torch_compiler import ColdCompiler
from siderostat.workloads.base import Feed, Phase, Step

Batches = Callable[[], Sequence[Tensor]]
"""Returns the next batch, on the device."""

PRECISIONS = ("fp32", "tf32", "bf16", "fp16", "fp64")
_HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Arithmetic:
    """How a step computes in one precision.

    ``fp32`` computes in what the tensors are made of. ``bf16`` and ``fp16`` pass through autocast: matrix products and
    convolutions in 16 bits, parameters and what a workload guards in 32. Training in fp16 scales its loss, so that
    small gradients do not vanish, and leaves a step's update out where they overflow (Micikevicius et al. 2018).
    ``fp64`` makes parameters, buffers and inputs double before anything runs.

    Args:
        precision: ``fp32``, ``tf32`` (a switch of the device, otherwise as fp32), ``bf16``, ``fp16`` or ``fp64``.
        device: where it computes.

    Raises:
        Unsupported: if this torch cannot compute so there.
    """

    def __init__(self, precision: str, device: torch.device) -> None:
        if precision not in PRECISIONS:
            raise Unsupported(f"torch steps compute in {', '.join(PRECISIONS)} in this version, not in {precision!r}")
        self.half: Optional[torch.dtype] = _HALVES.get(precision)
        self._is_double = precision == "fp64"
        self._kind = device.type
        self.autocast: ContextManager[Any] = contextlib.nullcontext()
        if self.half is None:
            return
        if not _computes_in(self.half, device) or (precision == "fp16" and _scaler_class(self._kind) is None):
            raise Unsupported(f"torch {torch.__version__} does not compute in {precision} on {device}; use fp32")
        self.autocast = torch.autocast(self._kind, dtype=self.half)

    def cast(self, tensor: Tensor) -> Tensor:
        """Return an input as the models take it."""
        return tensor.double() if self._is_double and tensor.is_floating_point() else tensor

    def scaler(self) -> Any:
        """Return what scales the loss in training; None where it needs no scale."""
        return _scaler_class(self._kind)() if self.half is torch.float16 else None

    def effective(self) -> Dict[str, Any]:
        """Return what is in force."""
        return {
            "autocast": None if self.half is None else str(self.half).replace("torch.", ""),
            "loss_scaling": self.half is torch.float16,
        }


def _computes_in(half: torch.dtype, device: torch.device) -> bool:
    """Say whether autocast does what it is asked for: older versions warn, and compute in single precision."""
    one = torch.ones(1, 1, device=device)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with torch.autocast(device.type, dtype=half):
                return (one @ one).dtype is half
    except RuntimeError:
        return False


def _scaler_class(kind: str) -> Any:
    """Return what makes a gradient scaler for a kind of device: its place has moved between versions."""
    if hasattr(torch.amp, "GradScaler"):
        return lambda: torch.amp.GradScaler(kind)
    return torch.cuda.amp.GradScaler if kind == "cuda" else None


class TorchProgram(Loop):
    """A training or inference step, eager or compiled.

    Args:
        step: its models are moved to the device.
        device: torch's name of it.
        precision: see :class:`Arithmetic`.
        is_compiled: whether ``torch.compile`` makes the models' forward and backward passes; optimisers stay eager.
        batches: makes, for a feed, what returns its next batch on the device.

    Raises:
        Unsupported: if the device does not have the precision.
        CompileFailed: if this torch cannot compile on this Python at all.
    """

    def __init__(
        self,
        step: Step,
        device: torch.device,
        precision: str,
        is_compiled: bool,
        batches: Callable[[Feed], Batches],
    ) -> None:
        self._device = device
        self._arithmetic = Arithmetic(precision, device)
        if precision == "fp64":
            phases = [dataclasses.replace(p, model=p.model.double(), feed=p.feed.in_double()) for p in step.phases]
            step = dataclasses.replace(step, phases=phases)
        self._models = [phase.model.to(device) for phase in step.phases]
        self._compiler = ColdCompiler() if is_compiled else None
        try:
            calls = self._compiled(step) if is_compiled else self._models
            closures = [self._closure(phase, call, batches(phase.feed)) for phase, call in zip(step.phases, calls)]
        except BaseException:
            self._close_compiler()
            raise
        super().__init__(closures)

    def effective(self) -> Dict[str, Any]:
        """Return precision, execution and what the compiler made."""
        made = {"execution": "eager"} if self._compiler is None else self._compiler.effective()
        return {**self._arithmetic.effective(), **made}

    def infer(self, model: Any, arrays: Sequence[np.ndarray]) -> List[np.ndarray]:
        """See :meth:`Program.infer`. In the step's precision, never compiled."""
        training = [(module, module.training) for module in model.modules()]  # parts may be frozen: each has its own
        model.eval()
        try:
            inputs = [self._arithmetic.cast(torch.from_numpy(a)).to(self._device) for a in arrays]
            with torch.inference_mode(), self._arithmetic.autocast:
                return self._as_arrays(model(*inputs))
        finally:
            for module, was in training:
                module.training = was

    def close(self) -> None:
        """Let go of inputs, outputs and compiled code, and of the device's memory that the models take."""
        self._phases, self._last = [], ()
        for model in self._models:
            model.to("cpu")
        self._close_compiler()

    def _close_compiler(self) -> None:
        if self._compiler is not None:
            self._compiler.close()

    def _as_arrays(self, outputs: Any) -> List[np.ndarray]:
        return [_array(o) for o in (outputs if isinstance(outputs, tuple) else (outputs,))]

    def _closure(self, phase: Phase, call: Callable[..., Any], batch: Batches) -> Callable[[], Any]:
        """Return what one step of ``phase`` does: take the next batch, compute, update."""
        autocast = self._arithmetic.autocast
        if phase.optimizer is None:
            return lambda: _forward(call, batch(), autocast)
        optimizer = phase.optimizer(phase.model.parameters())
        update = _update(optimizer, self._arithmetic.scaler())

        def train() -> Any:
            optimizer.zero_grad(set_to_none=True)
            inputs = batch()
            with autocast:
                out = call(*inputs)
            update(out[-1])
            return out

        return train

    def _compiled(self, step: Step) -> List[Callable[..., Any]]:
        """Compile every model, and have it compiled now rather than in the first step."""
        try:
            calls = [torch.compile(model, dynamic=False) for model in self._models]
        except RuntimeError as error:  # this version of torch does not compile on this version of Python
            raise CompileFailed(f"torch.compile does not work here: {error}; use execution=eager") from error
        with self._unchanged():
            for phase, call in zip(step.phases, calls):
                self._trace(phase, call)
        return list(calls)

    def _trace(self, phase: Phase, call: Callable[..., Any]) -> None:
        """Run both passes once on the first batch; a copy of the feed gives it, so that the first step has it too."""
        batch = [torch.from_numpy(a).to(self._device) for a in copy.copy(phase.feed).next()]
        if phase.optimizer is None:
            _forward(call, batch, self._arithmetic.autocast)
            return
        with self._arithmetic.autocast:
            out = call(*batch)
        out[-1].backward()

    @contextlib.contextmanager
    def _unchanged(self) -> Iterator[None]:
        """Leave buffers, gradients and random numbers as if nothing had run inside."""
        buffers = [(buffer, buffer.detach().clone()) for model in self._models for buffer in model.buffers()]
        with torch.random.fork_rng([self._device.index] if self._device.type == "cuda" else []):
            yield
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)
        for model in self._models:
            model.zero_grad(set_to_none=True)


def _forward(call: Callable[..., Any], batch: Sequence[Tensor], autocast: ContextManager[Any]) -> Any:
    with torch.inference_mode(), autocast:
        return call(*batch)


def _update(optimizer: Any, scaler: Any) -> Callable[[Tensor], None]:
    """Return what a training step does with its loss."""

    def plain(loss: Tensor) -> None:
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    def scaled(loss: Tensor) -> None:
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

    return plain if scaler is None else scaled


def _array(tensor: Tensor) -> np.ndarray:
    """Return a tensor as NumPy has it: bfloat16 it does not know, and checks are made in no less than float32."""
    held = tensor.detach()
    if held.dtype in (torch.bfloat16, torch.float16):
        held = held.float()
    array: np.ndarray = held.cpu().numpy()
    return array
