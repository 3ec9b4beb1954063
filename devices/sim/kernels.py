"""Time on a chip that runs kernel after kernel: a roofline for each, and a queue that the host fills.

The host takes ``op_s`` to launch an operation and does not wait for it; the chip starts a kernel when it is launched
and the one before has ended. The last kernel of n ends at

    sum of all d_i + max over j of (launch_j - sum of d_i before j),    launch_j = j op_s,

where d_i, the time of kernel i, is the larger of its floating-point operations over the peak it can reach and its bytes
over the bandwidth it can reach, and a gap.

A chip whose file tells ``op_s`` is its own host, as a CPU is: it launches what it computes, so that d_i holds ``op_s``
instead of the gap, nothing is launched ahead, and an optimiser is as many operations as its update is made of. What
fits its cache moves at the cache's bandwidth; random numbers, exponentials and the like have rates of their own; and
pages that the system hands out anew in each step take their time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from siderostat.devices.sim import chips
from siderostat.devices.sim.bands import Draws
from siderostat.devices.sim.liveness import new_page_bytes
from siderostat.devices.sim.opgraph import Op, OpGraph
from siderostat.devices.sim.spec import Spec

_AT_ONCE = 2_000_000  # elements of an array of draws by kernels
_WIDE = {"float64": "fp64", "complex128": "fp64"}
_FUNCTIONS = (
    "exp", "log", "tanh", "sigmoid", "softplus", "gelu", "silu", "mish", "elu", "erf", "sin", "cos", "tan", "pow",
    "lgamma", "digamma", "_softmax", "_log_softmax",
)  # fmt: skip
"""Beginnings of the names of element-wise operations that take many instructions for each element."""


def _peak(op: Op, chip: Spec, precision: str) -> float:
    """Return the peak in which a product is computed, where the file does not tell it that of fp32."""
    dtype = op.outputs[0].dtype if op.outputs else ""
    found = chips.peak_flops(chip, _WIDE.get(dtype, precision))
    return found or chip["flops_fp32"]


def _product_s(op: Op, chip: Spec, precision: str) -> float:
    """Return the time of a product at the peak; of anything else 0, since its bytes decide."""
    if op.kind not in ("conv", "matmul"):
        return 0.0
    return op.flops / _peak(op, chip, precision)


def _scale(op: Op, precision: str) -> float:
    """Return the share of the traced bytes that move in a precision of 16 bits, where updates stay in 32."""
    return 0.5 if precision in ("fp16", "bf16") and op.kind != "optimizer" else 1.0


def _launches(ops: Sequence[Op], chip: Spec, framework: Spec, total: Optional[float]) -> np.ndarray:
    """Return how many launches each operation takes, shape (ops,); ``total`` of them where that is known."""
    found = np.array([_updates(op, chip, framework) if op.kind == "optimizer" else 1.0 for op in ops])
    return found if total is None else found * (total / found.sum())


def _updates(op: Op, chip: Spec, framework: Spec) -> float:
    """Return how many launches update one parameter; on a CPU optimisers do not take several of them in one."""
    if chip.get("op_s") is not None:
        return float(op.attributes.get("operations", 1))
    return framework.get("ops_per_update") or 1.0


def _traffic(op: Op, chip: Spec, precision: str) -> float:
    """Return the bytes that an operation moves; each of those that make an update up reads two tensors, writes one."""
    if op.kind == "optimizer" and chip.get("op_s") is not None:
        return 3.0 * _updates(op, chip, chip) * max((t.nbytes for t in op.outputs), default=0)
    return (op.bytes_read + op.bytes_written) * _scale(op, precision)


def _elements(op: Op) -> int:
    return sum(t.numel for t in op.outputs)


@dataclass(frozen=True)
class _Work:
    """What each operation does, arrays of shape (ops,).

    Attributes:
        products_s: at the peak.
        near: bytes of those that run from the cache.
        far: bytes of the others.
        randoms: random numbers.
        functions: exponentials and the like.
        launches: so far, its own among them.
    """

    products_s: np.ndarray
    near: np.ndarray
    far: np.ndarray
    randoms: np.ndarray
    functions: np.ndarray
    launches: np.ndarray


def _work(ops: Sequence[Op], chip: Spec, framework: Spec, precision: str, launches: Optional[float]) -> _Work:
    touched = np.array([(op.bytes_read + op.bytes_written) * _scale(op, precision) for op in ops])
    traffic = np.array([_traffic(op, chip, precision) for op in ops])
    is_near = touched <= (chip.get("cache_bytes") or 0.0)
    return _Work(
        products_s=np.array([_product_s(op, chip, precision) for op in ops]),
        near=np.where(is_near, traffic, 0.0),
        far=np.where(is_near, 0.0, traffic),
        randoms=np.array([_elements(op) if op.kind == "random" else 0 for op in ops], dtype=float),
        functions=np.array([_elements(op) if op.name.startswith(_FUNCTIONS) else 0 for op in ops], dtype=float),
        launches=np.cumsum(_launches(ops, chip, framework, launches)),
    )


@dataclass(frozen=True)
class _Rates:
    """Drawn parameters, each of shape (draws, 1)."""

    efficiency: np.ndarray
    far: np.ndarray
    near: np.ndarray
    randoms: np.ndarray
    functions: np.ndarray
    factor: np.ndarray
    op_s: np.ndarray
    gap_s: np.ndarray


def _rates(chip: Spec, calibration: Spec, framework: Spec, draws: Draws) -> _Rates:
    def column(values: Any) -> np.ndarray:
        return np.broadcast_to(np.asarray(values, dtype=float), (draws.count,))[:, None]

    def share(key: str) -> Any:
        return draws.of(chip if key in chip.figures else calibration, key)

    is_host = "op_s" in chip.figures
    return _Rates(
        efficiency=column(share("product_efficiency")),
        far=column(share("bandwidth_efficiency") * draws.of(chip, "memory_bytes_per_s")),
        near=column(draws.get(chip, "cache_bytes_per_s", chip["memory_bytes_per_s"])),
        randoms=column(draws.get(chip, "randoms_per_s", np.inf)),
        functions=column(draws.get(chip, "functions_per_s", np.inf)),
        factor=column(draws.of(calibration, "model_factor")),
        op_s=column(draws.of(chip if is_host else framework, "op_s")),
        gap_s=column(0.0 if is_host else draws.of(framework, "gap_s")),
    )


def seconds(
    graph: OpGraph,
    chip: Spec,
    calibration: Spec,
    framework: Spec,
    precision: str,
    draws: Draws,
    launches: Optional[float] = None,
) -> Dict[str, Any]:
    """Return the time of a step by part: compute, in which the chip works, and launch, in which it waits.

    Of a chip that is its own host launching is a part of computing, and pages are a part where its file tells their
    rate.

    Args:
        graph: the step's operations.
        chip: of kind ``kernel-hbm``.
        calibration: of its model.
        framework: that launches the kernels.
        precision: of products; tensors are taken to move in it.
        draws: of the parameters.
        launches: how many there are in all; None: one for each operation, and what the framework says for updates.
    """
    ops = list(graph.ops)
    if not ops:
        return {"compute": 0.0, "launch": 0.0}
    work = _work(ops, chip, framework, precision, launches)
    rates = _rates(chip, calibration, framework, draws)
    compute, launch = [], []
    step = max(1, _AT_ONCE // len(ops))
    for first in range(0, draws.count, step):
        part = _Rates(**{name: values[first : first + step] for name, values in vars(rates).items()})
        computed, waited = _at_once(work, part, "op_s" in chip.figures)
        compute.append(computed)
        launch.append(waited)
    found = {"compute": _joined(compute), "launch": _joined(launch)}
    if "page_bytes_per_s" in chip.figures:
        pages = new_page_bytes(graph) * draws.get(calibration, "page_factor", 1.0)
        found["pages"] = pages / draws.of(chip, "page_bytes_per_s")
    return found


def _at_once(work: _Work, rates: _Rates, is_host: bool) -> Tuple[np.ndarray, np.ndarray]:
    """Return the seconds of computing and of waiting for launches, each of shape (draws,)."""
    moving = np.maximum(work.near / rates.near, work.far / rates.far)
    drawing = np.maximum(work.randoms / rates.randoms, work.functions / rates.functions)
    kernels = np.maximum(np.maximum(work.products_s / rates.efficiency, moving), drawing) * rates.factor
    if is_host:
        computed = kernels.sum(axis=1) + work.launches[-1] * rates.op_s[:, 0]
        return computed, np.zeros_like(computed)
    kernels = kernels + rates.gap_s
    before = np.cumsum(kernels, axis=1) - kernels
    return kernels.sum(axis=1), (work.launches * rates.op_s - before).max(axis=1)


def _joined(parts: List[np.ndarray]) -> Any:
    """Return parts as one array, or a number where there is one draw."""
    values = np.concatenate(parts)
    return float(values[0]) if len(values) == 1 else values
