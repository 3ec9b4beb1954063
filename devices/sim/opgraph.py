"""What a chip model sees of a step: its operations in order, with shapes, work and traffic."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, FrozenSet, List, Mapping, Tuple

KINDS = ("conv", "matmul", "elementwise", "reduce", "norm", "pool", "random", "copy", "gather", "optimizer", "other")
PASSES = ("forward", "backward", "update")


@dataclass(frozen=True)
class TensorSpec:
    """A tensor as an operation reads or writes it.

    ``id`` is that of its storage: operations that share memory (views) share it. Sizes of one element in bytes.
    """

    id: int
    shape: Tuple[int, ...]
    dtype: str  # float32, bfloat16, int64, complex64, ...
    itemsize: int

    @property
    def numel(self) -> int:
        """Number of elements."""
        n = 1
        for side in self.shape:
            n *= side
        return n

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
        inputs: what it reads.
        outputs: what it writes.
        attributes: what a chip model needs besides, by kind. ``conv``: pass (fwd, dgrad, wgrad), batch, in_channels,
            out_channels, groups, kernel, stride, in_size, out_size (spatial), transposed. ``matmul``: batch, m, k, n.
            ``optimizer``: name, state (tensors per parameter).
    """

    name: str
    kind: str
    stage: str
    flops: float
    inputs: Tuple[TensorSpec, ...]
    outputs: Tuple[TensorSpec, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)

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
        parameter_bytes: of all parameters and buffers; their storages' ids are in ``resident``.
        state_bytes: of the optimisers.
        input_bytes: of one step's inputs, copied from the host.
        saved_bytes: kept between forward and backward pass, parameters aside.
        resident: ids of storages that live for longer than a step (parameters, buffers, optimiser state).
        items: work units of one step.
    """

    framework: str
    ops: List[Op]
    parameter_bytes: int
    state_bytes: int
    input_bytes: int
    saved_bytes: int
    resident: FrozenSet[int] = frozenset()
    items: int = 1

    @property
    def flops(self) -> float:
        """Floating-point operations of a step."""
        return sum(op.flops for op in self.ops)
