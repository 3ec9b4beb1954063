"""Time on a chip that runs kernel after kernel: a roofline for each, and a queue that the host fills.

The host takes ``op_s`` to launch an operation and does not wait for it; the chip starts a kernel when it is launched
and the one before has ended. The last kernel of n ends at

    sum of all d_i + max over j of (launch_j - sum of d_i before j),    launch_j = j op_s,

where d_i, the time of kernel i, is the larger of its floating-point operations over the peak it can reach and its bytes
over the bandwidth it can reach, and a gap.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence

import numpy as np

from siderostat.devices.sim import chips
from siderostat.devices.sim.bands import Draws
from siderostat.devices.sim.opgraph import Op, OpGraph
from siderostat.devices.sim.spec import Spec

_AT_ONCE = 2_000_000  # elements of an array of draws by kernels
_WIDE = {"float64": "fp64", "complex128": "fp64"}
COMPLEX_FLOPS = 4.0  # real multiply-adds in a complex one


def _peak(op: Op, chip: Spec, precision: str) -> float:
    """Return the peak in which a product is computed, where the file does not tell it that of fp32."""
    dtype = op.outputs[0].dtype if op.outputs else ""
    found = chips.peak_flops(chip, _WIDE.get(dtype, precision))
    return found or chip["flops_fp32"]


def _product_s(op: Op, chip: Spec, precision: str) -> float:
    """Return the time of a product at the peak; of anything else 0, since its bytes decide."""
    if op.kind not in ("conv", "matmul"):
        return 0.0
    factor = COMPLEX_FLOPS if op.outputs and op.outputs[0].dtype.startswith("complex") else 1.0
    return factor * op.flops / _peak(op, chip, precision)


def _scale(op: Op, precision: str) -> float:
    """Return the share of the traced bytes that move in a precision of 16 bits, where updates stay in 32."""
    return 0.5 if precision in ("fp16", "bf16") and op.kind != "optimizer" else 1.0


def _launches(ops: Sequence[Op], framework: Spec, total: Optional[float]) -> np.ndarray:
    """Return how many launches each operation takes, shape (ops,); ``total`` of them where that is known."""
    per_update = framework.get("ops_per_update") or 1.0
    found = np.array([per_update if op.kind == "optimizer" else 1.0 for op in ops])
    return found if total is None else found * (total / found.sum())


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
    products = np.array([_product_s(op, chip, precision) for op in ops])
    traffic = np.array([(op.bytes_read + op.bytes_written) * _scale(op, precision) for op in ops])
    launched = np.cumsum(_launches(ops, framework, launches))

    def column(values: Any) -> np.ndarray:
        return np.broadcast_to(np.asarray(values, dtype=float), (draws.count,))

    efficiency = column(draws.of(calibration, "product_efficiency"))
    bandwidth = column(draws.of(calibration, "bandwidth_efficiency") * draws.of(chip, "memory_bytes_per_s"))
    factor = column(draws.of(calibration, "model_factor"))
    gap, op_s = column(draws.of(framework, "gap_s")), column(draws.of(framework, "op_s"))
    compute, launch = [], []
    step = max(1, _AT_ONCE // len(ops))
    for first in range(0, draws.count, step):
        part = slice(first, first + step)
        kernels = np.maximum(products / efficiency[part, None], traffic / bandwidth[part, None])
        kernels = kernels * factor[part, None] + gap[part, None]
        before = np.cumsum(kernels, axis=1) - kernels
        compute.append(kernels.sum(axis=1))
        launch.append((launched * op_s[part, None] - before).max(axis=1))
    return {"compute": _joined(compute), "launch": _joined(launch)}


def _joined(parts: List[np.ndarray]) -> Any:
    """Return parts as one array, or a number where there is one draw."""
    values = np.concatenate(parts)
    return float(values[0]) if len(values) == 1 else values
