"""TensorFlow steps on an IPU, through Graphcore's fork: an on-device loop of training steps that an IPUStrategy runs.

Poplar compiles when the loop first runs, so the time of compiling is in the first step's and not apart from it. All
errors of Poplar's arrive as ``InternalError``.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import os
import time
from typing import Any, Callable, Dict, List, Sequence, Tuple

import numpy as np
import tensorflow as tf

from siderostat.devices.base import Program, Unavailable, Unsupported, Window
from siderostat.devices.ipu.settings import Settings
from siderostat.workloads.base import Phase, Step

_EMULATOR_FLAG = "--use_ipu_model"


class Strategy:
    """Graphcore's strategy, with its scope open until :meth:`close`: models and optimisers must be made within it."""

    def __init__(self, ipu: Any, settings: Settings) -> None:
        config = ipu.config.IPUConfig()
        if settings.index is None:
            config.auto_select_ipus = 1
        else:
            config.select_ipus = settings.index
        config.configure_ipu_system()
        self._strategy = ipu.ipu_strategy.IPUStrategy()
        self._scope = contextlib.ExitStack()
        self._scope.enter_context(self._strategy.scope())

    def run(self, function: Callable[..., Any], *arguments: Any) -> Tuple[Any, ...]:
        """Run a compiled function on the IPU; return its outputs."""
        return _tuple(self._strategy.run(function, args=arguments))

    def close(self) -> None:
        """Leave the scope."""
        self._scope.close()


def configure(settings: Settings) -> Strategy:
    """Attach to an IPU, before any model is built.

    Raises:
        Unavailable: if this is not Graphcore's TensorFlow.
        Unsupported: if a setting asks for what is only there through PopTorch.
    """
    try:
        ipu = importlib.import_module("tensorflow.python.ipu")
    except ModuleNotFoundError as error:
        raise Unavailable(
            f"TensorFlow {tf.__version__} here is not Graphcore's; install the wheel of the Poplar SDK"
        ) from error
    asked = {
        "replicas": settings.replicas > 1,
        "accumulation": settings.accumulation > 1,
        "synthetic": settings.is_synthetic,
        "outputs": settings.outputs != "default",
        "cache": bool(settings.cache),
    }
    if any(asked.values()):
        named = ", ".join(name for name, is_asked in asked.items() if is_asked)
        raise Unsupported(f"{named}: settings of PopTorch, which this adapter does not have for TensorFlow; use torch")
    if settings.is_emulator != (_EMULATOR_FLAG in os.environ.get("TF_POPLAR_FLAGS", "")):
        raise Unsupported(
            f"with TensorFlow emulator=yes and TF_POPLAR_FLAGS={_EMULATOR_FLAG} in the environment go together: "
            "give both or neither"
        )
    return Strategy(ipu, settings)


class TensorFlowProgram(Program):
    """A training or inference step, each of its phases a loop on the chip.

    Raises:
        Unsupported: if the precision is not ``fp32``.
    """

    def __init__(self, step: Step, precision: str, settings: Settings, strategy: Strategy) -> None:
        if precision != "fp32":
            raise Unsupported(f"precision {precision!r} is not available for TensorFlow on IPUs; use fp32")
        self._iterations = settings.iterations
        self._strategy = strategy
        self._loops = [_loop(phase, settings.iterations) for phase in step.phases]
        self._iterators = [_iterator(phase, settings.iterations) for phase in step.phases]
        self._networks: Dict[int, Tuple[Any, Any]] = {}
        self._last: Tuple[Any, ...] = ()

    def run(self, steps: int) -> Window:
        """See :meth:`Program.run`. Steps are rounded up to whole calls of the loop."""
        calls = -(-steps // self._iterations)
        last = self._last
        cpu = time.process_time_ns()
        start = time.perf_counter_ns()
        for _ in range(calls):
            for loop, iterator in zip(self._loops, self._iterators):
                last = self._strategy.run(loop, iterator)
        _arrays(last[-1:])  # wait: calls may return before their work is done
        stop = time.perf_counter_ns()
        cpu = time.process_time_ns() - cpu
        self._last = last
        return Window(calls * self._iterations, (stop - start) * 1e-9, cpu * 1e-9)

    def outputs(self) -> List[np.ndarray]:
        """See :meth:`Program.outputs`."""
        return _arrays(self._last)

    def infer(self, model: Any, arrays: Sequence[np.ndarray]) -> List[np.ndarray]:
        """See :meth:`Program.infer`. Compiled at the first call for each model."""
        if id(model) not in self._networks:
            self._networks[id(model)] = model, tf.function(lambda *batch: model(*batch), jit_compile=True)
        return _arrays(self._strategy.run(self._networks[id(model)][1], *map(tf.convert_to_tensor, arrays)))

    def effective(self) -> Dict[str, Any]:
        """Return the settings in force."""
        return {"iterations": self._iterations, "batches_per_call": self._iterations, "compiled": "in the first step"}

    def close(self) -> None:
        """Let go of the loops and leave the strategy's scope."""
        self._loops, self._iterators, self._networks, self._last = [], [], {}, ()
        self._strategy.close()


def _iterator(phase: Phase, iterations: int) -> Any:
    """Return the feed's batches, in its order, as what the chip takes its inputs from while the loop runs."""
    batch = len(copy.copy(phase.feed).next()[0])
    items = tf.data.Dataset.from_tensor_slices(tuple(phase.feed.arrays))
    return iter(items.batch(batch, drop_remainder=True).repeat().prefetch(2 * iterations))


def _loop(phase: Phase, iterations: int) -> Any:
    """Return a compiled function that runs so many steps on an iterator's batches and returns the last outputs."""
    step = _one_step(phase)
    signature = [tf.TensorSpec(a.shape, a.dtype) for a in copy.copy(phase.feed).next()]
    model = phase.model
    forward = tf.function(lambda *batch: model(*batch)).get_concrete_function(*signature)
    specs = [(output.shape, output.dtype) for output in _tuple(forward.structured_outputs)]

    def loop(iterator: Any) -> Tuple[Any, ...]:
        last = tuple(tf.zeros(shape, dtype) for shape, dtype in specs)  # a loop's variables have a value before it
        for _ in tf.range(iterations):
            last = step(*next(iterator))
        return last

    return tf.function(loop, jit_compile=True)


def _one_step(phase: Phase) -> Callable[..., Tuple[Any, ...]]:
    model = phase.model
    if phase.optimizer is None:
        return lambda *batch: _tuple(model(*batch))
    variables = model.trainable_variables
    optimizer = phase.optimizer(variables)

    def train(*batch: Any) -> Tuple[Any, ...]:
        with tf.GradientTape() as tape:
            out = _tuple(model(*batch))
        optimizer.apply_gradients(zip(tape.gradient(out[-1], variables), variables))
        return out

    return train


def _tuple(outputs: Any) -> Tuple[Any, ...]:
    return tuple(outputs) if isinstance(outputs, (tuple, list)) else (outputs,)


def _arrays(outputs: Sequence[Any]) -> List[np.ndarray]:
    return [np.asarray(output) for output in outputs]
