"""The kernels as operations of PyTorch's, so that the tensors' device chooses one and their work can be counted.

On a processor they are in C++ (:mod:`native`), on a GPU in Triton (:mod:`kernel_triton`), which has a level of the
staple network only. Without values, on PyTorch's ``meta`` device, they give shapes.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Sequence, Tuple

import torch
from torch import Tensor

from siderostat.workloads.gauge_flow import native, pairs
from siderostat.workloads.gauge_flow.group import COLOURS
from siderostat.workloads.gauge_flow.parameters import level_flops, projection_flops, trace_flops

_KINDS = {torch.float32: ("float", (4, 16)), torch.float64: ("double", (4, 8))}

_NAMESPACE = "siderostat_gauge_flow"
_LIBRARY: Any = torch.library.Library(_NAMESPACE, "DEF")  # type: ignore[no-untyped-call]
_LIBRARY.define("level(Tensor s, Tensor mixing, Tensor own, Tensor upper, Tensor lower) -> Tensor")
_LIBRARY.define("traces(Tensor links, Tensor corners) -> Tensor")
_LIBRARY.define("projected(Tensor staples) -> Tensor")


def level(s: Tensor, mixing: Tensor, table: Sequence[Tensor]) -> Tensor:
    """Return one level of the staple network as rows, (n, outside, 2, 3, 3, batch).

    Args:
        s: rows of the level before, contiguous; on a processor the batch is a multiple of the kernel's width.
        mixing: coefficients, (outside, 7 inside).
        table: own, upper and lower of :class:`lattice.StapleTable`.
    """
    made: Tensor = getattr(torch.ops, _NAMESPACE).level(s, mixing.contiguous(), *table)
    return made


def traces(links: Tensor, corners: Tensor) -> Tensor:
    """Return tr P of plaquettes and a 0 after the last, (2, p + 1, batch); see :class:`real.Tables` for the corners."""
    made: Tensor = getattr(torch.ops, _NAMESPACE).traces(links, corners)
    return made


def projected(staples: Tensor) -> Tensor:
    """Return P_SU(3) of matrices, (2, 3, 3, n, batch)."""
    made: Tensor = getattr(torch.ops, _NAMESPACE).projected(staples)
    return made


def width(tensor: Tensor) -> Tuple[str, int]:
    """Return the kernel's name of a tensor's type, and how many configurations lie side by side on a processor.

    Raises:
        RuntimeError: if it is in another precision than single or double.
    """
    if tensor.dtype not in _KINDS:
        raise RuntimeError(
            f"the variant fused of gauge-flow computes in float32 or float64, and not in {tensor.dtype}; "
            "use the variant real"
        )
    kind, widths = _KINDS[tensor.dtype]
    return kind, next((wide for wide in widths if wide >= tensor.shape[-1]), widths[-1])


def _call(name: str, arrays: Sequence[Tensor], *counts: int) -> None:
    kernel = native.function(name, *width(arrays[0]))
    kernel(*(array.data_ptr() for array in arrays), *counts, torch.get_num_threads())


def _empty_level(s: Tensor, mixing: Tensor, own: Tensor, upper: Tensor, lower: Tensor) -> Tensor:
    return s.new_empty((len(own), len(mixing), 2, COLOURS, COLOURS, s.shape[-1]))


def _empty_traces(links: Tensor, corners: Tensor) -> Tensor:
    return links.new_empty((2, corners.shape[1] + 1, links.shape[-1]))


def _native_level(s: Tensor, mixing: Tensor, own: Tensor, upper: Tensor, lower: Tensor) -> Tensor:
    out = _empty_level(s, mixing, own, upper, lower)
    _call("level", (s, out, own, upper, lower, mixing), len(own), s.shape[1], len(mixing), s.shape[-1])
    return out


def _triton_level(s: Tensor, mixing: Tensor, own: Tensor, upper: Tensor, lower: Tensor) -> Tensor:
    from siderostat.workloads.gauge_flow import kernel_triton

    width(s)  # only to refuse other precisions
    return kernel_triton.level(s, mixing, own, upper, lower)


def _native_traces(links: Tensor, corners: Tensor) -> Tensor:
    out = _empty_traces(links, corners)
    out[:, -1] = 0
    stride = links.shape[-2] * links.shape[-1]
    _call("traces", (links, out, corners), stride, corners.shape[1], links.shape[-1])
    return out


def _native_projected(staples: Tensor) -> Tensor:
    out = torch.empty_like(staples)
    _call("project", (staples, out), staples.shape[-2], staples.shape[-1], pairs.NEWTON_STEPS)
    return out


_IMPLEMENTATIONS: Dict[str, Dict[str, Callable[..., Tensor]]] = {
    "level": {"CPU": _native_level, "CUDA": _triton_level, "Meta": _empty_level},
    "traces": {"CPU": _native_traces, "Meta": _empty_traces},
    "projected": {"CPU": _native_projected, "Meta": torch.empty_like},
}
for _name, _implementations in _IMPLEMENTATIONS.items():
    for _key, _implementation in _implementations.items():
        _LIBRARY.impl(_name, _implementation, _key)


def _count_with_torch() -> None:
    """Tell PyTorch's counter of operations what the kernels compute; before version 2.1 it takes no others."""
    try:
        from torch.utils.flop_counter import register_flop_formula
    except ImportError:
        return
    known: Any = getattr(torch.ops, _NAMESPACE)

    def of_level(s: Sequence[int], mixing: Sequence[int], own: Sequence[int], *_: Any, **__: Any) -> int:
        return level_flops(own[0], s[1], mixing[0]) * s[-1]

    def of_traces(links: Sequence[int], corners: Sequence[int], **_: Any) -> int:
        return trace_flops(corners[1]) * links[-1]

    def of_projected(staples: Sequence[int], **_: Any) -> int:
        return projection_flops(staples[-2] * staples[-1], pairs.NEWTON_STEPS)

    formulas: Dict[Any, Any] = {known.level: of_level, known.traces: of_traces, known.projected: of_projected}
    for operation, formula in formulas.items():
        register_flop_formula(operation)(formula)


_count_with_torch()
