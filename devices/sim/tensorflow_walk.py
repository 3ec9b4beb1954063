"""Walks TensorFlow graphs, through the functions that they call and the turns of their loops."""

from __future__ import annotations

import dataclasses
import operator
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Set, Tuple

import numpy as np
import tensorflow as tf

from siderostat.devices.base import Unsupported
from siderostat.devices.sim import tensorflow_ops
from siderostat.devices.sim.opgraph import Op, TensorSpec

MOST_TURNS = 100_000
_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
_LOOPS = ("While", "StatelessWhile")
_BRANCHES = ("If", "StatelessIf", "Case", "StatelessCase")
_ARITHMETIC: Mapping[str, Callable[..., Any]] = {
    "Identity": lambda a: a, "Add": operator.add, "AddV2": operator.add, "Sub": operator.sub, "Mul": operator.mul,
    "FloorDiv": operator.floordiv, "Less": operator.lt, "LessEqual": operator.le, "Greater": operator.gt,
    "GreaterEqual": operator.ge, "Equal": operator.eq, "NotEqual": operator.ne, "LogicalNot": operator.not_,
    "LogicalAnd": lambda a, b: bool(a and b), "LogicalOr": lambda a, b: bool(a or b), "Minimum": min, "Maximum": max,
    "Cast": lambda a: a,
}  # fmt: skip
"""Of single numbers: enough to count the turns of a loop."""


@dataclass(frozen=True)
class Value:
    """What is known of a tensor.

    Attributes:
        shape: None where it is not known before the step runs.
        dtype: TensorFlow's.
        storage: id; None of what takes no memory: constant shapes, axes, single numbers, and arrays of one number.
        is_constant: the same in every step.
        number: the value of a single number, where it is known.
        items: what a list of tensors holds.
    """

    shape: Optional[Tuple[int, ...]]
    dtype: Any
    storage: Optional[int] = None
    is_constant: bool = False
    number: Any = None
    items: Tuple[Any, ...] = ()


Known = Dict[str, Value]
"""By the name of the tensor in its graph."""


class Walk:
    """Writes down the operations of graphs.

    Attributes:
        ops: what was found so far.
        phase: which phase of the step is under way.
        storages: id -> bytes.
        resident: ids of variables and constants.
        state: those of the optimisers' variables.
        returned: ids of what phases return.
        parameters: floating-point numbers in variables and constants, the optimisers' aside.
    """

    def __init__(self) -> None:
        self.ops: List[Op] = []
        self.phase = 0
        self.storages: Dict[int, int] = {}
        self.resident: Set[int] = set()
        self.state: Set[int] = set()
        self.returned: Set[int] = set()
        self.parameters = 0
        self._variables: Dict[int, Tuple[int, Any]] = {}
        self._known: Known = {}

    def state_of(self, variables: Sequence[Any]) -> None:
        """Note the variables of an optimiser."""
        for variable in variables:
            before = self.parameters
            self.state.add(self.variable(variable))
            self.parameters = before

    def variable(self, variable: Any) -> int:
        """Return the id of a variable's storage."""
        key = id(variable.handle)
        if key not in self._variables:
            size = int(variable.shape.num_elements())
            self._variables[key] = (self._new(size * variable.dtype.size), variable)
            self.resident.add(self._variables[key][0])
            self.parameters += size if variable.dtype.is_floating else 0
        return self._variables[key][0]

    def storage_of(self, tensor: Any) -> Optional[int]:
        """Return the id of the storage of a tensor of the graph that was walked last."""
        value = self._known.get(tensor.name)
        return value.storage if value is not None else None

    def whole(self, function: Any, stage_of: Callable[[int], str]) -> None:
        """Walk the graph of a concrete function.

        Args:
            function: with static shapes.
            stage_of: number of an operation in the graph -> the pass that it belongs to.

        Raises:
            Unsupported: if a shape, or how often a loop turns, depends on values.
        """
        # Not all that a graph captures is among its own variables: those of optimisers are not.
        variables = {id(v.handle): v for v in (*function.graph.variables, *(v for _, v in self._variables.values()))}
        known: Known = {}
        for outside, inside in function.graph.captures:
            if id(outside) in variables:
                variable = variables[id(outside)]
                known[inside.name] = Value(tuple(variable.shape), variable.dtype, self.variable(variable))
            else:
                known[inside.name] = self._captured(outside, inside)
        for tensor in function.graph.inputs:
            if tensor.name not in known:
                known[tensor.name] = self._fresh(tensor)
        self._known = known
        self._graph(function.graph, known, stage_of)
        self.returned.update(
            v.storage for t in function.outputs if (v := known.get(t.name)) is not None and v.storage is not None
        )

    def _new(self, size: int) -> int:
        number = len(self.storages)
        self.storages[number] = size
        return number

    def _fresh(self, tensor: Any) -> Value:
        """Return a tensor with memory of its own."""
        shape = _shape(tensor)
        if shape is None:
            return Value(None, tensor.dtype)
        size = tensor.dtype.size
        for side in shape:
            size *= side
        return Value(shape, tensor.dtype, self._new(size))

    def _graph(self, graph: Any, known: Known, stage_of: Callable[[int], str]) -> None:
        """Walk operations in the order in which they were made, those that others need before these.

        The latter since a loop gets further inputs when its backward pass is made.
        """
        places = {op.name: number for number, op in enumerate(graph.get_operations())}
        done: Set[str] = set()
        waiting = list(reversed(graph.get_operations()))
        while waiting:
            op = waiting[-1]
            missing = [t.op for t in op.inputs if t.name not in known and t.op.name not in done]
            if missing and op.name not in done:
                waiting.extend(missing)
                continue
            waiting.pop()
            if op.name not in done:
                done.add(op.name)
                self._op(graph, op, known, stage_of(places[op.name]))

    def _op(self, graph: Any, op: Any, known: Known, stage: str) -> None:
        """Find out what an operation's outputs are, and write it down if it computes or moves data."""
        kind = str(op.type)
        if kind == "Placeholder":
            known.setdefault(op.outputs[0].name, Value(_shape(op.outputs[0]), op.outputs[0].dtype))
            return
        ins = [known[t.name] for t in op.inputs]
        if kind == "Const":
            found: List[Value] = [self._constant(op)]
        elif kind in _CALLS:
            found = self._call(graph, op.get_attr("f").name, ins, stage)
        elif kind in _LOOPS:
            found = self._loop(graph, op, ins, stage)
        elif kind in _BRANCHES:
            found = self._branch(graph, op, ins, stage)
        elif kind.startswith(("TensorList", "EmptyTensorList")):
            found = _list(op, ins)
        elif kind == "ReadVariableOp":
            found = ins[:1]
        elif kind in tensorflow_ops.VIEWS:
            found = [_view(value, tensor) for value, tensor in zip(ins, op.outputs)]
        elif kind in tensorflow_ops.FROM_SHAPES or _is_constant(kind, op, ins):
            is_data = kind not in tensorflow_ops.FROM_SHAPES and any(value.storage is not None for value in ins)
            number = _number(kind, ins)
            found = [
                self._data(t) if is_data else Value(_shape(t), t.dtype, is_constant=True, number=number)
                for t in op.outputs
            ]
        else:
            found = self._computation(op, ins, stage)
        known.update({tensor.name: value for tensor, value in zip(op.outputs, found)})

    def _computation(self, op: Any, ins: Sequence[Value], stage: str) -> List[Value]:
        """Write an operation down."""
        kind = str(op.type)
        if kind in tensorflow_ops.DATA_DEPENDENT:
            raise Unsupported(
                f"the step cannot be traced: the shape of what its operation {op.name} ({kind}) returns depends on "
                "values, and only shapes are known"
            )
        found = [self._fresh(t) for t in op.outputs if t.dtype != tf.resource]
        known_shapes = [v for v in found if v.shape is not None]
        if op.outputs and not known_shapes:
            if all(v.shape is None or v.is_constant for v in ins):
                return found  # what a fused operation keeps for itself
            raise Unsupported(
                f"the step cannot be traced: the shape of {op.name} ({kind}) is not known before it runs; give the "
                "model static shapes"
            )
        reads = self._read(op, ins)
        writes = self._written(op, ins, known_shapes)
        if not writes:
            return found
        if tensorflow_ops.is_convolution(kind):
            flops, attributes = tensorflow_ops.convolution(op, stage, *_sides(op))
            self._add(kind, "conv", stage, flops, reads, writes, attributes)
        else:
            sort, flops, attributes = tensorflow_ops.classify(op, stage, reads, writes)
            self._add(kind, sort, stage, flops, reads, writes, attributes)
        return found

    def _add(
        self,
        name: str,
        kind: str,
        stage: str,
        flops: float,
        reads: Sequence[TensorSpec],
        writes: Sequence[TensorSpec],
        attributes: Dict[str, Any],
    ) -> None:
        self.ops.append(Op(name, kind, stage, flops, tuple(reads), tuple(writes), attributes, self.phase))

    def _read(self, op: Any, ins: Sequence[Value]) -> List[TensorSpec]:
        """Return what an operation reads, each tensor once; a variable that is only assigned to is not read."""
        found: Dict[TensorSpec, None] = {}
        for number, value in enumerate(ins):
            if value.shape is None or (op.type == "AssignVariableOp" and number == 0):
                continue
            if value.is_constant:
                self._hold(value)
            if value.storage is not None:
                found[TensorSpec(value.storage, value.shape, value.dtype.name, value.dtype.size)] = None
        return list(found)

    def _data(self, tensor: Any) -> Value:
        """Return an array that is the same in every step. It counts as held once something reads it."""
        return dataclasses.replace(self._fresh(tensor), is_constant=True)

    def _constant(self, op: Any) -> Value:
        tensor = op.outputs[0]
        if tensor.dtype == tf.string:
            return Value(_shape(tensor), tensor.dtype, is_constant=True)
        array = np.asarray(tf.get_static_value(tensor))
        if tensor.dtype.is_floating and array.size > 1 and not (array == array.flat[0]).all():
            return self._data(tensor)
        number = array.item() if array.ndim == 0 else None
        return Value(_shape(tensor), tensor.dtype, is_constant=True, number=number)

    def _captured(self, outside: Any, inside: Any) -> Value:
        """Return an array from outside the graph. What is made of it is made anew in each step, as of a variable."""
        if inside.shape.rank == 0 and inside.dtype != tf.resource:
            return Value((), inside.dtype, is_constant=True, number=tf.get_static_value(outside))
        value = self._fresh(inside)
        self._hold(value)
        return value

    def _hold(self, value: Value) -> None:
        """Note that an array that outlives the step is read."""
        if value.storage is None or value.storage in self.resident:
            return
        self.resident.add(value.storage)
        if value.dtype.is_floating or value.dtype.is_complex:
            self.parameters += self.storages[value.storage] // int(value.dtype.size)

    def _written(self, op: Any, ins: Sequence[Value], found: Sequence[Value]) -> List[TensorSpec]:
        """Return what an operation writes: its outputs, or the variables that it changes."""
        values = list(found)
        if op.type.startswith(("ResourceApply", "Assign", "ResourceScatter")):
            values = [value for value, tensor in zip(ins, op.inputs) if tensor.dtype == tf.resource]
        return [
            TensorSpec(v.storage, v.shape, v.dtype.name, v.dtype.size)
            for v in values
            if v.storage is not None and v.shape is not None
        ]

    def _call(self, graph: Any, name: str, ins: Sequence[Value], stage: str) -> List[Value]:
        """Walk a function that is called, all of it in the pass that calls it."""
        inside = graph._get_function(name).graph
        known: Known = {t.name: value for t, value in zip(inside.inputs, ins)}
        self._graph(inside, known, lambda number: stage)
        return [known[t.name] for t in inside.outputs]

    def _loop(self, graph: Any, op: Any, ins: Sequence[Value], stage: str) -> List[Value]:
        """Walk the turns of a loop, one after another."""
        values = list(ins)
        condition, body = (op.get_attr(name).name for name in ("cond", "body"))
        for _ in range(MOST_TURNS):
            goes_on = self._decision(graph, condition, values)
            if goes_on is None:
                break
            if not goes_on:
                return values
            values = self._call(graph, body, values, stage)
        raise Unsupported(f"the step cannot be traced: how often its loop {op.name} turns depends on values")

    def _decision(self, graph: Any, name: str, values: Sequence[Value]) -> Any:
        """Return whether a loop goes on; None where that is not known."""
        before = len(self.ops)
        found = self._call(graph, name, values, "forward")[0].number
        del self.ops[before:]
        return found

    def _branch(self, graph: Any, op: Any, ins: Sequence[Value], stage: str) -> List[Value]:
        """Walk the branch that is taken, where it is always the same one."""
        chosen = ins[0].number
        if chosen is None:
            raise Unsupported(f"the step cannot be traced: which branch of {op.name} is taken depends on values")
        if op.type.endswith("Case"):
            branches = op.get_attr("branches")
            name = branches[min(max(int(chosen), 0), len(branches) - 1)].name
        else:
            name = op.get_attr("then_branch" if chosen else "else_branch").name
        return self._call(graph, name, ins[1:], stage)


def _shape(tensor: Any) -> Optional[Tuple[int, ...]]:
    return tuple(int(side) for side in tensor.shape) if tensor.shape.is_fully_defined() else None


def _is_constant(kind: str, op: Any, ins: Sequence[Value]) -> bool:
    """Say whether an operation gives the same in every step, so that it is done before the first."""
    if kind in tensorflow_ops.RANDOMS or any(t.dtype == tf.resource for t in op.inputs):
        return False
    return all(value.is_constant for value in ins)


def _number(kind: str, ins: Sequence[Value]) -> Any:
    """Compute with single numbers, where all are known."""
    if kind not in _ARITHMETIC or any(value.number is None for value in ins):
        return None
    return _ARITHMETIC[kind](*(value.number for value in ins))


def _view(value: Value, tensor: Any) -> Value:
    return dataclasses.replace(value, shape=_shape(tensor) or value.shape, dtype=tensor.dtype)


def _list(op: Any, ins: Sequence[Value]) -> List[Value]:
    """Follow the lists in which loops keep what their backward pass needs."""
    if op.type == "EmptyTensorList":
        return [Value((), op.outputs[0].dtype)]
    if op.type == "TensorListPushBack":
        return [Value((), op.outputs[0].dtype, items=(*ins[0].items, ins[1]))]
    if op.type == "TensorListPopBack" and ins[0].items:
        return [Value((), op.outputs[0].dtype, items=ins[0].items[:-1]), ins[0].items[-1]]
    raise Unsupported(f"the step cannot be traced: {op.name} ({op.type}) keeps tensors in a list that is not followed")


def _sides(op: Any) -> Tuple[Sequence[int], Sequence[int], Sequence[int]]:
    """Return the shapes of a convolution's kernel, of its image and of its features, whichever pass it is."""
    shapes = [_shape(t) for t in op.inputs]
    out = _shape(op.outputs[0])
    if "BackpropFilter" in op.type:
        image, features, kernel = shapes[0], shapes[2], out
    elif "BackpropInput" in op.type:
        kernel, features, image = shapes[1], shapes[2], out
    else:
        image, kernel, features = shapes[0], shapes[1], out
    if kernel is None or image is None or features is None:
        raise Unsupported(f"the step cannot be traced: a shape of {op.name} ({op.type}) is not known before it runs")
    return kernel, image, features
