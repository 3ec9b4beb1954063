"""What a chip model sees of a step: its operations in order, with shapes, work and traffic."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Dict, FrozenSet, List, Mapping, Tuple

SCHEMA = 2
"""Of :meth:`OpGraph.to_dict`; rises with every change of what is counted, so that no cache keeps the old."""

KINDS = ("conv", "matmul", "elementwise", "reduce", "norm", "pool", "random", "copy", "gather", "optimizer", "other")
PASSES = ("forward", "backward", "update")


@dataclass(frozen=True)
class TensorSpec:
    """A tensor as an operation reads or writes it.

    Attributes:
        id: of its storage: operations that share memory (views) share it.
        shape: of what is read or written; an axis along which one element is repeated (``expand``) has length 1.
        dtype: ``float32``, ``bfloat16``, ``int64``, ``complex64``, ...
        itemsize: size of one element in bytes.
    """

    id: int
    shape: Tuple[int, ...]
    dtype: str
    itemsize: int

    @property
    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self.numel * self.itemsize


@dataclass(frozen=True)
class Op:
    """One operation that moves or computes data; views and other bookkeeping are left out.

    Attributes:
        name: the framework's own, such as ``convolution`` or ``Conv2DBackpropInput``.
        kind: one of :data:`KINDS`.
        stage: one of :data:`PASSES`.
        flops: floating-point operations, 2 for each multiply-add.
        inputs: what it reads, each tensor once.
        outputs: what it writes.
        attributes: what a chip model needs besides, by kind. ``conv``: pass (fwd, dgrad, wgrad), batch, in_channels,
            out_channels, groups, kernel, stride, in_size, out_size (spatial), transposed. ``matmul``: batch, m, k, n.
            ``norm``: statistics (``batch``: those of its input; ``given``: an element-wise operation).
            ``optimizer``: name, state (tensors per parameter), operations (element-wise ones that make it up).
        phase: which of the step's phases, from 0.
    """

    name: str
    kind: str
    stage: str
    flops: float
    inputs: Tuple[TensorSpec, ...]
    outputs: Tuple[TensorSpec, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    phase: int = 0

    @property
    def bytes_read(self) -> int:
        """Bytes of all inputs."""
        return sum(t.nbytes for t in self.inputs)

    @property
    def bytes_written(self) -> int:
        """Bytes of all outputs."""
        return sum(t.nbytes for t in self.outputs)


@dataclass(frozen=True)
class OpGraph:
    """A step's operations in the order of execution.

    Attributes:
        framework: torch or tensorflow.
        ops: phase after phase.
        parameter_bytes: of all parameters, buffers and other tensors that the models hold; their storages' ids are in
            ``resident``.
        state_bytes: of the optimisers.
        input_bytes: of one step's inputs, copied from the host.
        saved_bytes: kept between forward and backward pass, parameters aside.
        resident: ids of storages that live for longer than a step (parameters, buffers, optimiser state).
        items: work units of one step.
        parameters: floating-point numbers that make up ``parameter_bytes``.
        storages: id -> bytes of every storage that an operation touches.
        returned: ids of storages that a phase returns, which live to its end.
    """

    framework: str
    ops: List[Op]
    parameter_bytes: int
    state_bytes: int
    input_bytes: int
    saved_bytes: int
    resident: FrozenSet[int] = frozenset()
    items: int = 1
    parameters: int = 0
    storages: Mapping[int, int] = field(default_factory=dict)
    returned: FrozenSet[int] = frozenset()

    @property
    def flops(self) -> float:
        """Floating-point operations of a step."""
        return sum(op.flops for op in self.ops)

    @property
    def bytes_moved(self) -> int:
        """Bytes that a step's operations read and write, each on its own."""
        return sum(op.bytes_read + op.bytes_written for op in self.ops)

    def to_dict(self) -> Dict[str, Any]:
        """Return the graph as JSON takes it."""
        data = {name: value for name, value in vars(self).items() if name != "ops"}
        return {
            **data,
            "schema": SCHEMA,
            "resident": sorted(self.resident),
            "returned": sorted(self.returned),
            "storages": {str(storage): size for storage, size in self.storages.items()},
            "ops": [_op_to_dict(op) for op in self.ops],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> OpGraph:
        """Rebuild a graph from its JSON form.

        Raises:
            ValueError: if another version of siderostat wrote it.
        """
        if data.get("schema") != SCHEMA:
            raise ValueError(f"the trace has schema {data.get('schema')}, and this siderostat reads {SCHEMA}")
        values = {name: value for name, value in data.items() if name != "schema"}
        values.update(
            resident=frozenset(data["resident"]),
            returned=frozenset(data["returned"]),
            storages={int(storage): size for storage, size in data["storages"].items()},
            ops=[_op_from_dict(op) for op in data["ops"]],
        )
        return cls(**values)


def _op_to_dict(op: Op) -> Dict[str, Any]:
    tensors = {name: [list(vars(t).values()) for t in getattr(op, name)] for name in ("inputs", "outputs")}
    return {**vars(op), "attributes": dict(op.attributes), **tensors}


def _op_from_dict(data: Mapping[str, Any]) -> Op:
    tensors = {
        name: tuple(TensorSpec(i, tuple(shape), dtype, size) for i, shape, dtype, size in data[name])
        for name in ("inputs", "outputs")
    }
    attributes = {name: tuple(v) if isinstance(v, list) else v for name, v in data["attributes"].items()}
    return Op(**{**data, **tensors, "attributes": attributes})
