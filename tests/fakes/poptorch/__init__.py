"""A stand-in for PopTorch, for tests only: it is not Graphcore's, and nothing here runs on an IPU.

It keeps the names and signatures that PopTorch 3.4 publishes, as far as siderostat uses them, and refuses what PopTorch
refuses: other shapes than were compiled, complex numbers, operations that IPUs lack, a model wrapped twice, backward(),
more IPUs than there are, executables that do not fit. What it computes it computes with PyTorch on the host, on copies
of the weights that stand for those in the chip's memory: they reach the model only by ``copyWeightsToHost`` or
``detachFromDevice``. Environment variables say what to pretend::

    POPTORCH_STAND_IN_IPUS     how many IPUs there are; default 1
    POPTORCH_STAND_IN_VERSION  their generation; default 2
    POPTORCH_STAND_IN_BYTES    memory of one; default: enough for anything
"""

from __future__ import annotations

import copy
import enum
import os
import time
import zlib
from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode

__version__ = "3.4.0+stand-in"
CYCLES_PER_BATCH = 1000

_REFUSED = ("svd", "eigh", "eig", "cholesky", "solve", "qr", "lu_", "fft", "linalg_inv", "nan_to_num")
_DYNAMIC = ("nonzero", "masked_select", "_unique", "unique")
_OPTIMIZERS = ("SGD", "Adam", "AdamW", "RMSprop", "LAMB")
_attached = []  # executors that hold IPUs, each as often as it holds one


class Error(Exception):
    """As PopTorch's: type, message and location are attributes of the class, those of the newest error."""


class RecoverableError(Error):
    recovery_action = ""


class UnrecoverableError(Error):
    pass


def _error(kind, message, location=""):
    Error.type, Error.message, Error.location = kind, message, location
    return Error(f"In {location}: '{kind}': {message}" if location else f"'{kind}': {message}")


def ipuHardwareIsAvailable(num_ipus=1):  # noqa: N802
    return _ipus() >= num_ipus


def ipuHardwareVersion():  # noqa: N802
    assert _ipus(), "No IPU hardware available on this system"
    return int(os.environ.get("POPTORCH_STAND_IN_VERSION", "2"))


def _ipus():
    return int(os.environ.get("POPTORCH_STAND_IN_IPUS", "1"))


class OutputMode(enum.IntEnum):
    Final = 0
    EveryN = 1
    All = 2
    Sum = 3
    Default = 4


class _Training:
    def __init__(self):
        self.gradient_accumulation = 1

    def gradientAccumulation(self, gradient_accumulation):  # noqa: N802
        self.gradient_accumulation = gradient_accumulation
        return self


class Options:
    def __init__(self):
        self.Training = _Training()
        self.device_iterations = 1
        self.replication_factor = 1
        self.output_mode = OutputMode.Default
        self.synthetic = False
        self.cycles = False
        self.cache = None
        self.use_model = False
        self.random_seed = None
        self.ipu_id = None
        self.progress = True

    def deviceIterations(self, device_iterations):  # noqa: N802
        self.device_iterations = device_iterations
        return self

    def replicationFactor(self, replication_factor):  # noqa: N802
        self.replication_factor = replication_factor
        return self

    def outputMode(self, output_mode, output_return_period=None):  # noqa: N802
        assert isinstance(output_mode, OutputMode)
        self.output_mode = output_mode
        return self

    def enableSyntheticData(self, enabled):  # noqa: N802
        self.synthetic = enabled
        return self

    def logCycleCount(self, log_cycle_count):  # noqa: N802
        self.cycles = log_cycle_count
        return self

    def enableExecutableCaching(self, path):  # noqa: N802
        self.cache = path
        return self

    def useIpuModel(self, use_model):  # noqa: N802
        self.use_model = use_model
        return self

    def useIpuId(self, ipu_id):  # noqa: N802
        assert isinstance(ipu_id, int)
        self.ipu_id = ipu_id
        return self

    def randomSeed(self, random_seed):  # noqa: N802
        assert isinstance(random_seed, int)
        torch.manual_seed(random_seed)
        self.random_seed = random_seed
        return self

    def showCompilationProgressBar(self, show=True):  # noqa: N802
        self.progress = show
        return self

    def batches(self):
        return self.device_iterations * self.replication_factor * self.Training.gradient_accumulation


def identity_loss(x, reduction):
    if reduction == "sum":
        return x.sum()
    if reduction == "mean":
        return x.mean()
    assert reduction == "none", "Unsupported reduction type!"
    return x


def trainingModel(model, options=None, optimizer=None):  # noqa: N802
    if getattr(model, "_wrapped_by_poptorch", False):
        raise RuntimeError(
            "Model has already been wrapped in 'poptorch.trainingModel'. Call model.destroy() on the model to unwrap "
            "before wrapping again."
        )
    if optimizer is not None and type(optimizer).__name__ not in _OPTIMIZERS:
        raise AssertionError(f"Unsupported optimizer type. Types supported {', '.join(_OPTIMIZERS)}")
    model._wrapped_by_poptorch = True
    return PoplarExecutor(model, options or Options(), True, optimizer)


def inferenceModel(model, options=None):  # noqa: N802
    options = options or Options()
    if options.Training.gradient_accumulation != 1:
        raise _error("poptorch_py_error", "You must set poptorch.Options().Training.gradientAccumulation to 1")
    return PoplarExecutor(model, options, False, None)


class PoplarExecutor:
    def __init__(self, model, options, training, optimizer):
        self._model = model
        self._options = options
        self._training = training
        self._optimizer = optimizer
        self._on_chip = None  # the copy of the model that stands for the executable
        self._chip_optimizer = None
        self._shapes = None
        self._last_call_s = 0.0
        mode = options.output_mode
        if mode is OutputMode.Default:
            mode = OutputMode.Final if training else OutputMode.All
        self._mode = mode

    def isCompiled(self):  # noqa: N802
        return self._on_chip is not None

    def isAttachedToDevice(self):  # noqa: N802
        return self in _attached

    def compile(self, *args):
        inputs = [self._first_batch(one) for one in args]
        self._check_inputs(args)
        traced = copy.deepcopy(self._model)
        training = [m.training for m in self._model.modules()]
        with torch.random.fork_rng([]), _Refusals() as seen:
            outputs = _flat(traced(*inputs))
            if self._training:
                if outputs[-1].dim():
                    raise _error("popart_exception", "The loss tensor has to be a scalar")
                outputs[-1].backward()
        self._check_memory(seen.bytes_made)
        self._shapes = [(tuple(one.shape), one.dtype) for one in args]
        self._on_chip = copy.deepcopy(self._model)
        for module, was in zip(self._on_chip.modules(), training):
            module.training = was
        self._keep_in_cache()
        self.attachToDevice()

    def attachToDevice(self):  # noqa: N802
        self._need_executable()
        if self.isAttachedToDevice():
            raise _error("poptorch_py_error", "Device is already attached")
        if not self._options.use_model and len(_attached) + self._options.replication_factor > _ipus():
            message = f"Failed to acquire {self._options.replication_factor} IPU(s)"
            raise _error("poptorch_cpp_error", message, "popart_compiler/CompilerImpl.cpp:726")
        _attached.extend([self] * self._options.replication_factor)
        self.copyWeightsToDevice()

    def detachFromDevice(self):  # noqa: N802
        self._need_executable()
        if not self.isAttachedToDevice():
            raise _error("poptorch_py_error", "Device is not attached")
        if self._training:
            self.copyWeightsToHost()
        self._let_go()

    def copyWeightsToHost(self):  # noqa: N802
        self._need_executable()
        _copy_state(self._on_chip, self._model)

    def copyWeightsToDevice(self):  # noqa: N802
        self._need_executable()
        _copy_state(self._model, self._on_chip)

    def destroy(self):
        if not self.isCompiled():
            return
        if self._training:
            self.copyWeightsToHost()
            self._model._wrapped_by_poptorch = False
        self._on_chip = None
        self._let_go()

    def cycleCount(self):  # noqa: N802
        if not self._options.cycles:
            raise _error(
                "poptorch_py_error", "Cycle count logging is disabled. Please set option logCycleCount to True"
            )
        self._need_executable()
        return CYCLES_PER_BATCH * self._options.batches()

    def getLatency(self):  # noqa: N802
        return self._latency(1.0)

    def getHostIpuLatency(self):  # noqa: N802
        return self._latency(0.25)

    def getComputeLatency(self):  # noqa: N802
        return self._latency(0.5)

    def getIpuHostLatency(self):  # noqa: N802
        return self._latency(0.25)

    def __call__(self, *args):
        if not self.isCompiled():
            self.compile(*args)
        if not self.isAttachedToDevice():
            self.attachToDevice()
        if [(tuple(one.shape), one.dtype) for one in args] != self._shapes:
            raise _error(
                "poptorch_py_error",
                "Shape mismatch\nThis error occurred because the inputs passed at runtime don't match the inputs used "
                "to compile the model.",
            )
        start = time.perf_counter()
        if self._options.synthetic:
            args = [torch.randn_like(one) if one.is_floating_point() else torch.zeros_like(one) for one in args]
        pieces = list(zip(*(one.chunk(self._options.batches()) for one in args)))
        results = self._train(pieces) if self._training else self._infer(pieces)
        self._last_call_s = time.perf_counter() - start
        return self._returned(results)

    def _train(self, pieces):
        self._make_optimizer()
        per_update = self._options.replication_factor * self._options.Training.gradient_accumulation
        results = []
        for number, piece in enumerate(pieces, 1):
            outputs = _flat(self._on_chip(*piece))
            (outputs[-1] / per_update).backward()
            results.append([one.detach() for one in outputs])
            if number % per_update == 0:
                self._chip_optimizer.step()
                self._chip_optimizer.zero_grad()
        return results

    def _infer(self, pieces):
        with torch.no_grad():
            return [list(_flat(self._on_chip(*piece))) for piece in pieces]

    def _make_optimizer(self):
        """Make an optimiser of the same kind and settings on the copy: hooks of the given one are never called."""
        if self._chip_optimizer is not None:
            return
        twin = {id(ours): theirs for ours, theirs in zip(self._model.parameters(), self._on_chip.parameters())}
        groups = [
            {**{k: v for k, v in group.items() if k != "params"}, "params": [twin[id(p)] for p in group["params"]]}
            for group in self._optimizer.param_groups
        ]
        self._chip_optimizer = type(self._optimizer)(groups)

    def _returned(self, results):
        if self._options.synthetic:
            results = [[torch.zeros_like(one) for one in row] for row in results]
        kept = results if self._mode is OutputMode.All else results[-self._options.replication_factor :]
        if len(kept) == 1:
            outputs = kept[0]
        else:
            outputs = [torch.cat([one if one.dim() else one[None] for one in column]) for column in zip(*kept)]
        for one in outputs:
            one.backward = _refuse_backward
        return tuple(outputs) if len(outputs) > 1 else outputs[0]

    def _latency(self, share):
        seconds = 0.0 if self._options.synthetic else share * self._last_call_s
        return seconds, seconds, seconds

    def _first_batch(self, one):
        batches = self._options.batches()
        assert one.shape[0] % batches == 0, f"Invalid batch dimension: {one.shape[0]} is no multiple of {batches}"
        return one.narrow(0, 0, one.shape[0] // batches)

    def _check_inputs(self, args):
        for one in args:
            if one.is_complex():
                message = f"Unsupported tensor input type from pytorch: {one.dtype}"
                raise _error("poptorch_cpp_error", message, "poptorch/Tensor.cpp:66")

    def _check_memory(self, bytes_made):
        weights = sum(p.numel() * p.element_size() for p in self._model.parameters())
        copies = 4 if self._training else 1
        need, have = bytes_made + copies * weights, int(os.environ.get("POPTORCH_STAND_IN_BYTES", str(2**60)))
        if need > have:
            message = f"Out of memory: the graph needs {need} bytes and the stand-in's IPU has {have}"
            raise _error("poplar_graph_memory_allocation_error", message, "popart_compiler/Compiler.cpp:1004")

    def _keep_in_cache(self):
        if self._options.cache:
            folder = Path(self._options.cache)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{zlib.crc32(str(self._shapes).encode())}.popef").touch()

    def _need_executable(self):
        if not self.isCompiled():
            raise _error("poptorch_py_error", "Model has not been compiled or has been destroyed.")

    def _let_go(self):
        while self in _attached:
            _attached.remove(self)


class _Refusals(TorchDispatchMode):
    """Sees every operation of the traced step: refuses those that IPUs lack, adds up the bytes that others make."""

    def __init__(self):
        super().__init__()
        self.bytes_made = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = str(func).split(".")[1]
        if name.startswith(tuple(before + word for word in _REFUSED for before in ("", "_", "linalg_", "_linalg_"))):
            raise _error("poptorch_cpp_error", _unsupported(name), "poptorch/ErrorOnUnsupportedAten.cpp:30")
        if name.startswith(_DYNAMIC) or (name == "index" and any(_is_mask(one) for one in args[1])):
            message = f"Operations using aten::{name} are unsupported because the output shape depends on the values"
            raise _error("poptorch_cpp_error", message, "poptorch/RegisterMetaOps.cpp:241")
        out = func(*args, **(kwargs or {}))
        for one in _flat(out):
            if isinstance(one, torch.Tensor):
                if one.is_complex():
                    message = f"Unsupported tensor input type from pytorch: {one.dtype}"
                    raise _error("poptorch_cpp_error", message, "poptorch/Tensor.cpp:66")
                self.bytes_made += one.numel() * one.element_size()
        return out


def _is_mask(index):
    return index is not None and index.dtype is torch.bool


def _unsupported(name):
    return (
        f"Unsupported ops found in compiled model: [aten::{name}]. Not all operations are supported yet by Graphcore's "
        "PyTorch compiler."
    )


def _refuse_backward(*args, **kwargs):
    raise _error("poptorch_py_error", "backward() cannot be called explicitly on outputs of a PopTorch model.")


def _copy_state(source, target):
    with torch.no_grad():
        for name, value in source.state_dict().items():
            target.state_dict()[name].copy_(value)


def _flat(outputs):
    return list(outputs) if isinstance(outputs, (tuple, list)) else [outputs]
