"""A stand-in for ``tensorflow.python.ipu`` of Graphcore's TensorFlow, for tests only: it runs on the host's processor.

It keeps the names that siderostat uses. A strategy runs functions without XLA, which on a processor does not take
batches from an iterator inside a compiled loop, as the fork's infeeds do; it refuses a function that was not compiled,
operations that Poplar lacks, and models that were made outside its scope.
"""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import tensorflow as tf

_REFUSED = ("Svd", "Qr", "SelfAdjointEig", "Cholesky", "MatrixSolve", "FFT", "RFFT", "Where", "Unique")
said: list = []  # what was configured, newest last
memory_bytes = None  # of the IPU; None: enough for anything
_scopes = 0


class IPUConfig:
    def __init__(self):
        self.auto_select_ipus = []
        self.select_ipus = []

    def configure_ipu_system(self):
        if self.auto_select_ipus and self.select_ipus:
            raise ValueError("Only one of `auto_select_ipus` and `select_ipus` can be set.")
        said.append({"auto_select_ipus": self.auto_select_ipus, "select_ipus": self.select_ipus})


class IPUStrategy:
    def __init__(self):
        assert said, "no IPU is configured"
        self._functions = {}

    @contextlib.contextmanager
    def scope(self):
        global _scopes
        _scopes += 1
        try:
            yield self
        finally:
            _scopes -= 1

    def run(self, fn, args=(), kwargs=None):
        assert _scopes, "run outside the strategy's scope"
        assert getattr(fn, "_jit_compile", None), "Poplar compiles functions with jit_compile=True only"
        if id(fn) not in self._functions:
            plain = tf.function(fn.python_function)
            _refuse(plain.get_concrete_function(*args).graph)
            self._functions[id(fn)] = fn, plain
        return self._functions[id(fn)][1](*args)


def _refuse(graph):
    kinds = {node.op for node in graph.as_graph_def().node}
    kinds |= {node.op for function in graph.as_graph_def().library.function for node in function.node_def}
    lacking = sorted(kinds.intersection(_REFUSED))
    if lacking:
        text = f"Detected unsupported operations when trying to compile graph on XLA_IPU_JIT: {', '.join(lacking)}"
        raise tf.errors.InvalidArgumentError(None, None, text)
    weights = sum(v.shape.num_elements() * v.dtype.size for v in graph.variables)
    if memory_bytes is not None and weights > memory_bytes:
        text = (
            f"[Poplar][Compile engine] Out of memory: the graph needs {weights} bytes, the stand-in has {memory_bytes}"
        )
        raise tf.errors.InternalError(None, None, text)


config = SimpleNamespace(IPUConfig=IPUConfig)
ipu_strategy = SimpleNamespace(IPUStrategy=IPUStrategy)
