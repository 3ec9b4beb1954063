"""Chips, by kind: what their files hold.

``bsp-sram``: many tiles with memory of their own that compute, exchange and wait for each other in supersteps.
``kernel-hbm``: one memory, and kernels that are launched one after the other.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional

from siderostat.devices.sim import spec
from siderostat.devices.sim.spec import Key, Spec

_ALL = {
    "tdp_w": Key("thermal design power of one chip, W; without it there are no joules", is_required=False),
    "idle_w": Key("power of one chip that does nothing, W", is_required=False),
    "busy_w": Key("power of one chip that computes all the time, W; else tdp_w", is_required=False),
    "host_bytes_per_s": Key("bandwidth from the host to one chip, B/s", least=1),
    "link_bytes_per_s": Key("bandwidth from one chip to its neighbour, B/s, one way", is_required=False, least=1),
    "link_s": Key("latency of one message between chips, s", is_required=False),
}
KEYS = {
    "bsp-sram": {
        "tiles": Key("cores with memory of their own", least=1),
        "clock_hz": Key("clock, Hz", least=1),
        "tile_bytes": Key("memory of one tile, bytes", least=1),
        "macs_fp32": Key("multiply-adds per cycle and tile in fp32", least=1),
        "macs_fp16": Key("multiply-adds per cycle and tile in fp16", is_required=False, least=1),
        "exchange_bytes_per_cycle": Key("bytes a tile receives per cycle from other tiles", least=0.01),
        **_ALL,
    },
    "kernel-hbm": {
        "flops_fp32": Key("peak in fp32, FLOP/s", least=1),
        "flops_tf32": Key("peak in tf32, dense, FLOP/s", is_required=False, least=1),
        "flops_fp16": Key("peak in fp16 and bf16, dense, FLOP/s", is_required=False, least=1),
        "flops_bf16": Key("peak in bf16 where it is not that of fp16, FLOP/s", is_required=False, least=1),
        "flops_fp64": Key("peak in fp64, FLOP/s", is_required=False, least=1),
        "memory_bytes": Key("memory, bytes", least=1),
        "memory_bytes_per_s": Key("bandwidth of the memory, B/s", least=1),
        "product_efficiency": Key(
            "share of the peak of products, where it was measured", is_required=False, least=1e-3
        ),
        "bandwidth_efficiency": Key(
            "share of the bandwidth of the memory, where it was measured", is_required=False, least=1e-3
        ),
        "cache_bytes": Key("most that one operation may touch to run from the cache, bytes", is_required=False),
        "cache_bytes_per_s": Key("bandwidth of the cache, B/s", is_required=False, least=1),
        "randoms_per_s": Key("random numbers per second", is_required=False, least=1),
        "functions_per_s": Key("exponentials, logarithms and the like per second", is_required=False, least=1),
        "op_s": Key("time of one operation beside its work, of a chip that is its own host, s", is_required=False),
        "page_bytes_per_s": Key("rate at which the system hands out new memory, B/s", is_required=False, least=1),
        **_ALL,
    },
}
KINDS = tuple(KEYS)
DEFAULT_FRAMEWORK = {"bsp-sram": "poptorch-loop", "kernel-hbm": "torch-eager"}


def load(name: str) -> Spec:
    """Read a chip by its name or the path of its file.

    Raises:
        SpecError: if there is none, or its file cannot be used.
    """
    return spec.read("chips", name, KEYS)


def names() -> List[str]:
    """Return the chips that come along."""
    return spec.names("chips")


def memory_bytes(chip: Spec) -> int:
    """Return the memory of one chip."""
    return int(chip["tiles"] * chip["tile_bytes"] if chip.kind == "bsp-sram" else chip["memory_bytes"])


def peak_flops(chip: Spec, precision: str) -> Optional[float]:
    """Return the peak of one chip in a precision, FLOP/s; None where the file does not tell it."""
    wanted = "fp16" if precision == "bf16" else precision
    if chip.kind == "kernel-hbm":
        return chip.get(f"flops_{precision}") or chip.get(f"flops_{wanted}")
    macs = chip.get(f"macs_{wanted}")
    return None if macs is None else 2 * macs * chip["tiles"] * chip["clock_hz"]


def about(chip: Spec) -> Dict[str, Any]:
    """Return what a record says of a chip."""
    peaks = {f"peak_flops_{p}": peak_flops(chip, p) for p in ("fp32", "tf32", "fp16")}
    return {
        "name": f"{chip.title} (simulated)",
        "kind": chip.kind,
        "memory_bytes": memory_bytes(chip),
        **{key: value for key, value in peaks.items() if value is not None},
        "spec": chip.name,
        "spec_hash": chip.hash,
        "unchecked": chip.unchecked(),
    }
