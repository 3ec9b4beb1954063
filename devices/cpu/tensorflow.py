"""TensorFlow steps on the host's processor."""

from __future__ import annotations

import copy
import math
import re
from typing import Any, Callable, Dict, List, Optional, Sequence

import numpy as np
import tensorflow as tf

from siderostat.devices.cpu.loop import Loop
from siderostat.workloads.base import Phase, Step


def configure(threads: int) -> None:
    """Fix the number of threads, which share one operation; operations run one after another. Leave GPUs alone.

    Raises:
        RuntimeError: if an operation has run before: that is when TensorFlow makes its threads.
    """
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.set_visible_devices([], "GPU")  # where there is one, TensorFlow would compute on it


def effective() -> Dict[str, Any]:
    """Return what TensorFlow says of its threads, and whether oneDNN and XLA compute for it."""
    return {
        "threads": tf.config.threading.get_intra_op_parallelism_threads(),
        "inter_op_threads": tf.config.threading.get_inter_op_parallelism_threads(),
        "onednn": _onednn(),
        "xla": bool(tf.config.optimizer.get_jit()),
    }


def _onednn() -> Optional[bool]:
    """Say whether convolutions and the like go to oneDNN; None where this TensorFlow does not tell."""
    try:
        from tensorflow.python.util import _pywrap_util_port
    except ImportError:
        return None
    return bool(_pywrap_util_port.IsMklEnabled())


def refused_bytes(message: str) -> Optional[int]:
    """Read off an out-of-memory error how large the tensor is that found no room, if it says."""
    found = re.search(r"shape\[([\d,]*)\] and type (\w+)", message)
    if found is None:
        return None
    return math.prod(int(side) for side in found[1].split(",") if side) * int(tf.as_dtype(found[2]).size)


class TensorFlowProgram(Loop):
    """A training or inference step, each of its phases one compiled graph."""

    def __init__(self, step: Step) -> None:
        super().__init__([_closure(phase) for phase in step.phases])

    def infer(self, model: Any, arrays: Sequence[np.ndarray]) -> List[np.ndarray]:
        """See :meth:`Program.infer`. A Keras model that is not told ``training=True`` is in inference."""
        return self._as_arrays(model(*map(tf.convert_to_tensor, arrays)))

    def _wait(self, last: Any) -> None:
        """Read the newest output back: a function may return before its work is done."""
        self._as_arrays(last[-1:] if isinstance(last, tuple) else last)


def _closure(phase: Phase) -> Callable[[], Any]:
    """Return what one step of ``phase`` does: take the next batch from host memory, compute, update."""
    feed = phase.feed
    # Traced here, not in the first step; from a copy of the feed, so that the first step has the first batch.
    signature = [tf.TensorSpec(a.shape, a.dtype) for a in copy.copy(feed).next()]
    # Without XLA (jit_compile): it makes a training step of the galaxy network slower on a processor, of the plain one
    # by about a tenth and of the Bayesian ones by a factor of two, after 5 and 20 s of compiling.
    graph = tf.function(_call(phase)).get_concrete_function(*signature)
    return lambda: graph(*map(tf.convert_to_tensor, feed.next()))


def _call(phase: Phase) -> Callable[..., Any]:
    model = phase.model
    if phase.optimizer is None:
        return lambda *batch: model(*batch)  # called as it is, a model of Keras is no function that can be traced
    variables = model.trainable_variables
    optimizer = phase.optimizer(variables)

    def train(*batch: Any) -> Any:
        with tf.GradientTape() as tape:
            out = model(*batch)
        optimizer.apply_gradients(zip(tape.gradient(out[-1], variables), variables))
        return out

    return train
