"""The dispatch mode that writes down what PyTorch does with meta tensors."""

from __future__ import annotations

import math
from typing import Any, Dict, Hashable, Iterator, List, Optional, Sequence, Set, Tuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from siderostat.devices.base import Unsupported
from siderostat.devices.sim import torch_ops
from siderostat.devices.sim.opgraph import Op, TensorSpec

META = torch.device("meta")


class _Function:
    """What an operation's signature says, looked at once.

    Attributes:
        name: without the underscore of those that work in place.
        is_view: its result shares memory with what it is made from.
        changes: positions of arguments that it writes to.
        fills: names of further ones that it writes to without reading them, such as ``out``.
        has_device: it takes the device on which to make something.
    """

    def __init__(self, func: Any) -> None:
        schema = func._schema
        written = [a.alias_info is not None and a.alias_info.is_write for a in schema.arguments]
        self.name = torch_ops.base_name(func)
        self.is_view = any(r.alias_info is not None and not r.alias_info.is_write for r in schema.returns)
        self.changes = [i for i, a in enumerate(schema.arguments) if written[i] and not a.kwarg_only]
        self.fills = [a.name for i, a in enumerate(schema.arguments) if written[i] and a.kwarg_only]
        self.has_device = any(a.name == "device" for a in schema.arguments)
        self.is_composite = torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd")
        self.is_allocation = self.name.startswith(("empty", "new_empty", "_empty"))

    @property
    def may_be_repeated(self) -> bool:
        """Whether a second call with tensors of the same shapes gives new tensors of the same shapes."""
        return not (self.is_view or self.changes or self.fills)


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]  # it has no types
    """Writes down every operation on meta tensors. Real tensors that it meets give way to meta ones.

    Attributes:
        ops: what was done so far.
        phase: which phase of the step is under way.
        stage: which pass of it.
        is_recording: whether operations are written down.
        storages: id -> bytes.
        resident: ids of storages that were there before the step.
        held: those of them that the models hold.
        state: those of them that the optimisers hold.
        saved: ids of storages kept for the backward pass.
        returned: ids of storages of what phases return.
        parameters: floating-point numbers in ``held``.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.ops: List[Op] = []
        self.phase = 0
        self.stage = "forward"
        self.is_recording = True
        self.storages: Dict[int, int] = {}
        self.resident: Set[int] = set()
        self.held: Set[int] = set()
        self.state: Set[int] = set()
        self.saved: Set[int] = set()
        self.returned: Set[int] = set()
        self.parameters = 0
        self._ids: Dict[int, int] = {}
        self._kept: List[Any] = []  # storages, so that no address is used twice
        self._stand_ins: Dict[int, Tuple[Tensor, Tensor]] = {}
        self._functions: Dict[Any, _Function] = {}
        self._results: Dict[Hashable, Any] = {}

    def stand_in(self, real: Tensor) -> Tensor:
        """Return the meta tensor in place of a real one, always the same."""
        if id(real) not in self._stand_ins:
            meta = torch.empty_strided(real.shape, real.stride(), dtype=real.dtype, device=META)
            if isinstance(real, nn.Parameter):
                meta = nn.Parameter(meta, requires_grad=real.requires_grad)
            self._stand_ins[id(real)] = (real, meta)
            number = self.storage(real)
            self._ids[_address(meta)] = number
            self._kept.append(meta.untyped_storage())
            if number not in self.held:
                self.parameters += real.numel() if real.is_floating_point() or real.is_complex() else 0
            self.held.add(number)
            self.resident.add(number)
        return self._stand_ins[id(real)][1]

    def storage(self, tensor: Tensor) -> int:
        """Return the id of a tensor's storage."""
        address = _address(tensor)
        if address not in self._ids:
            self._ids[address] = len(self.storages)
            self._kept.append(tensor.untyped_storage())
            self.storages[self._ids[address]] = int(tensor.untyped_storage().nbytes())
        return self._ids[address]

    def returns(self, outputs: Any) -> None:
        """Note what a phase returns."""
        self.returned.update(self.storage(t) for t in _tensors(outputs) if t.device == META)

    def save(self, tensor: Tensor) -> Tensor:
        """Note what autograd keeps for the backward pass."""
        if tensor.device == META:
            self.saved.add(self.storage(tensor))
        return tensor

    def spec(self, tensor: Tensor) -> TensorSpec:
        """Describe a tensor."""
        shape = tuple(1 if stride == 0 else size for size, stride in zip(tensor.shape, tensor.stride()))
        dtype = str(tensor.dtype).replace("torch.", "")
        return TensorSpec(self.storage(tensor), shape, dtype, tensor.element_size())

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Optional[Dict[str, Any]] = None
    ) -> Any:
        named = dict(kwargs or {})
        function = self._functions.get(func)
        if function is None:
            function = self._functions[func] = _Function(func)
        if function.is_composite and hasattr(func, "decompose"):
            with self:
                result = func.decompose(*args, **named)
            if result is not NotImplemented:
                return result
        given = list(_tensors((args, list(named.values()))))
        if given and all(t.device != META and t.numel() <= 1 for t in given):
            return func(
                *args, **named
            )  # arithmetic of single numbers on the host, such as an optimiser's count of steps
        if not given and self.stage == "update" and function.has_device and _is_single(args, named):
            return func(*args, **named)  # such a count, when it is made
        if torch_ops.depends_on_values(func, function.name, args, named):
            raise Unsupported(
                f"the step cannot be traced: what its operation {function.name} returns depends on values, and only "
                "shapes are known; write it with a fixed shape, such as torch.where in place of a mask"
            )
        args = self._on_meta(args)
        named = self._on_meta_named(function, named)
        result = self._result(func, function, args, named)
        if self.is_recording:
            self._record(func, function, args, named, result)
        return result

    def _on_meta(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return value if value.device == META else self.stand_in(value)
        if isinstance(value, (list, tuple)):
            return [self._on_meta(v) for v in value]
        return value

    def _on_meta_named(self, function: _Function, named: Dict[str, Any]) -> Dict[str, Any]:
        found = {name: self._on_meta(value) for name, value in named.items()}
        if function.has_device:
            found["device"] = META
        if found.get("generator") is not None:
            found["generator"] = None
        return found

    def _result(self, func: Any, function: _Function, args: Sequence[Any], named: Dict[str, Any]) -> Any:
        """Return what an operation returns: of those seen before with these shapes, without asking torch again.

        Steps repeat themselves, and a new tensor of a known shape takes a tenth of the time of an operation.
        """
        key = None
        if function.may_be_repeated:
            key = (func, _signature(args), *((name, _signature(value)) for name, value in sorted(named.items())))
            try:
                if key in self._results:
                    return _remade(self._results[key])
            except TypeError:  # an argument that has no hash
                key = None
        result = func(*args, **named)
        if key is not None and self._is_new(args, result):
            self._results[key] = _layout(result)
        return result

    def _is_new(self, args: Sequence[Any], result: Any) -> bool:
        """Say whether a result is made of tensors alone that share no memory with an argument."""
        results = [result] if isinstance(result, Tensor) else result
        if not isinstance(results, (list, tuple)) or not all(isinstance(r, Tensor) for r in results):
            return False
        before = {_address(t) for t in _tensors(args)}
        return not any(_address(r) in before for r in results)

    def _record(self, func: Any, function: _Function, args: Sequence[Any], named: Dict[str, Any], result: Any) -> None:
        if function.is_view or function.is_allocation:
            return
        outs = [t for i in function.changes if i < len(args) for t in _tensors(args[i])]
        outs += [t for name in function.fills for t in _tensors(named.get(name))]
        if not outs:
            outs = list(_tensors(result))
        overwritten = function.changes if function.name in torch_ops.WRITES_ALL else []
        ins = [t for i, value in enumerate(args) if i not in overwritten for t in _tensors(value)]
        ins += [t for name, value in named.items() if name not in function.fills for t in _tensors(value)]
        is_changed = bool(function.changes or function.fills)
        if not outs or (not is_changed and {self.storage(t) for t in outs} <= {self.storage(t) for t in ins}):
            return  # a view that does not say so
        if function.name == "convolution_backward":
            self._record_convolution_backward(args, result)
            return
        kind, flops, attributes = torch_ops.classify(func, function.name, args, named, ins, outs)
        self.add(str(func.overloadpacket.__name__), kind, flops, ins, outs, attributes)

    def _record_convolution_backward(self, args: Sequence[Any], result: Sequence[Optional[Tensor]]) -> None:
        gradient, x, weight, _, stride, _, _, transposed, _, groups, _ = args
        for pass_, other, out in (("dgrad", weight, result[0]), ("wgrad", x, result[1])):
            if out is not None:
                found = torch_ops.convolution(x, weight, gradient.shape, stride, bool(transposed), int(groups), pass_)
                self.add(f"convolution_{pass_}", "conv", found[0], [gradient, other], [out], found[1])
        if result[2] is not None:
            self.add("convolution_bias_grad", "reduce", float(gradient.numel()), [gradient], [result[2]], {})

    def add(
        self,
        name: str,
        kind: str,
        flops: float,
        ins: Sequence[Tensor],
        outs: Sequence[Tensor],
        attributes: Dict[str, Any],
    ) -> None:
        """Write an operation down."""
        self.ops.append(Op(name, kind, self.stage, flops, self._specs(ins), self._specs(outs), attributes, self.phase))

    def _specs(self, tensors: Sequence[Tensor]) -> Tuple[TensorSpec, ...]:
        """Describe tensors, each once: ``x * x`` reads one."""
        return tuple({(_address(t), t.storage_offset(), t.shape, t.stride()): self.spec(t) for t in tensors}.values())


def _address(tensor: Tensor) -> int:
    """Return what tells storages apart; those of meta tensors have no place in memory."""
    return int(tensor.untyped_storage()._cdata)


def _tensors(value: Any) -> Iterator[Tensor]:
    """Yield the tensors in nested lists, tuples and dictionaries."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _tensors(part)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


def _is_single(args: Sequence[Any], named: Dict[str, Any]) -> bool:
    """Say whether what is to be made is one number on the host."""
    shape = args[0] if args and isinstance(args[0], (list, tuple)) else None
    return shape is not None and math.prod(shape) <= 1 and named.get("device") in (None, torch.device("cpu"))


def _signature(value: Any) -> Hashable:
    """Return what an argument's part in the shape of the result is; that 1, 1.0 and True are equal does not count."""
    if isinstance(value, Tensor):
        return value.shape, value.stride(), value.dtype
    if isinstance(value, (list, tuple)):
        return tuple(_signature(v) for v in value)
    return type(value), value


def _layout(result: Any) -> Any:
    if isinstance(result, Tensor):
        return result.shape, result.stride(), result.dtype
    return [_layout(r) for r in result]


def _remade(layout: Any) -> Any:
    if isinstance(layout, tuple):
        shape, stride, dtype = layout
        return torch.empty_strided(shape, stride, dtype=dtype, device=META)
    return tuple(_remade(one) for one in layout)
