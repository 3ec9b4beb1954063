"""What this machine's processor can do through PyTorch, measured: the figures of a chip's file, not assumed ones.

``python -m siderostat.devices.sim.measured THREADS ROUNDS PARENT`` writes one JSON object to its standard output. Every
probe is timed in short bursts, one burst of each in every round, so that what disturbs the machine for a while disturbs
all of them. No probe is a part of a workload. Worker side: Python 3.8.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterator, List, Tuple

import torch
from torch import Tensor

from siderostat import limits
from siderostat.contention import Watch
from siderostat.devices.cpu import memory_bytes, model_name

BURST_S = 0.02
SIDES = (256, 512, 1024)  # of square matrices
CONVOLUTIONS = ((32, 32, 4), (128, 16, 4))  # channels in and out, height and width, images; 3 x 3
NEAR_BYTES = (1 << 18, 1 << 20)  # of each of two arrays, both in a processor's own cache
FOOTPRINTS = (4, 8, 16, 32, 64)  # MiB of three arrays together, to see where the cache ends
FAR_BYTES = 1 << 27  # of each of two arrays, in no cache
PAGE_BYTES = 1 << 26  # of an array that glibc maps anew each time: its largest threshold is 32 MiB
_ELEMENTS = 1 << 18
_CHAIN = 10


@dataclass(frozen=True)
class Probe:
    """Something that is timed.

    Attributes:
        kind: ``fp32``, ``bf16`` and ``conv`` (FLOP); ``near``, ``far``, ``span`` (bytes of reading and writing);
            ``random``, ``function`` (elements); ``tiny`` (operations); ``new`` and ``old`` (bytes written).
        name: which one of its kind.
        work: of one call, in the unit of its kind.
        call: does it.
    """

    kind: str
    name: str
    work: float
    call: Callable[[], Any]


def probes() -> List[Probe]:
    """Return everything that is timed, with its arrays."""
    return [*_products(), *_moves(), *_elements(), *_tiny(), *_pages()]


def _products() -> Iterator[Probe]:
    for kind, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        for side in SIDES:
            a, b = (torch.randn(side, side).to(dtype) for _ in range(2))
            yield Probe(kind, f"matrices of {side}", 2.0 * side**3, _call(torch.mm, a, b))
    for channels, side, images in CONVOLUTIONS:
        x, kernel = torch.randn(images, channels, side, side), torch.randn(channels, channels, 3, 3)
        flops = 2.0 * images * (channels * side * 3) ** 2
        name = f"{channels} channels of {side} x {side}"
        yield Probe("conv", name, flops, _call(torch.conv2d, x, kernel, None, 1, 1))
        fixed = ([0], [1, 1], [1, 1], [1, 1], False, [0, 0], 1, [True, True, False])
        yield Probe(
            "conv",
            f"{name}, gradients",
            2 * flops,
            _call(torch.ops.aten.convolution_backward, torch.randn(x.shape), x, kernel, *fixed),
        )


def _moves() -> Iterator[Probe]:
    for size in NEAR_BYTES:
        yield Probe("near", f"copy of {size >> 10} KiB", 2.0 * size, _copy(size))
    for footprint in FOOTPRINTS:
        a, b, out = (torch.ones((footprint << 20) // 12) for _ in range(3))
        yield Probe("span", str(footprint << 20), float(footprint << 20), _into(torch.add, out, a, b))
    yield Probe("far", f"copy of {FAR_BYTES >> 20} MiB", 2.0 * FAR_BYTES, _copy(FAR_BYTES))
    a, out = torch.ones(FAR_BYTES // 4), torch.ones(FAR_BYTES // 4)
    yield Probe("far", f"product of {FAR_BYTES >> 20} MiB with itself", 2.0 * FAR_BYTES, _into(torch.mul, out, a, a))


def _elements() -> Iterator[Probe]:
    x, out = torch.rand(_ELEMENTS) + 0.5, torch.empty(_ELEMENTS)
    for name, draw in (("normal", out.normal_), ("uniform", out.uniform_)):
        yield Probe("random", name, float(_ELEMENTS), draw)
    yield Probe("random", "bernoulli", float(_ELEMENTS), _call(out.bernoulli_, 0.5))
    for function in (torch.exp, torch.log, torch.tanh):
        yield Probe("function", function.__name__, float(_ELEMENTS), _into(function, out, x))
    yield Probe("function", "softplus", float(_ELEMENTS), _call(torch.nn.functional.softplus, x))


def _tiny() -> Iterator[Probe]:
    a, square, image, kernel = torch.ones(4), torch.ones(4, 4), torch.ones(1, 4, 4, 4), torch.ones(4, 4, 3, 3)
    yield Probe("tiny", "add", 1.0, _call(torch.add, a, a))
    yield Probe("tiny", "matrix product", 1.0, _call(torch.mm, square, square))
    yield Probe("tiny", "convolution", 1.0, _call(torch.conv2d, image, kernel))
    trained = torch.ones(4, requires_grad=True)
    yield Probe("tiny", "products and their gradients", 2.0 * _CHAIN + 2, lambda: _differentiated(trained, a))


def _differentiated(trained: Tensor, factor: Tensor) -> Any:
    y = trained
    for _ in range(_CHAIN):
        y = y * factor
    return torch.autograd.grad(y.sum(), [trained])


def _pages() -> Iterator[Probe]:
    there = torch.ones(PAGE_BYTES // 4)
    yield Probe("new", "new memory", float(PAGE_BYTES), _call(torch.ones, PAGE_BYTES // 4))
    yield Probe("old", "memory that is there", float(PAGE_BYTES), _call(there.fill_, 1.0))


def _call(function: Callable[..., Any], *args: Any) -> Callable[[], Any]:
    return lambda: function(*args)


def _into(function: Callable[..., Any], out: Tensor, *args: Tensor) -> Callable[[], Any]:
    return lambda: function(*args, out=out)


def _copy(size: int) -> Callable[[], Any]:
    return _call(torch.ones(size // 4).copy_, torch.ones(size // 4))


def calls_in_a_burst(call: Callable[[], Any], burst_s: float = BURST_S) -> int:
    """Return how many calls last about a burst; the first ones, which are slow, are made here."""
    calls = 1
    while True:
        spent = burst(call, calls)
        if spent >= burst_s / 2:
            return max(1, round(calls * burst_s / spent))
        calls *= 2


def burst(call: Callable[[], Any], calls: int) -> float:
    """Return the seconds that so many calls take."""
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return time.perf_counter() - start


def measure(threads: int, rounds: int) -> Dict[str, Any]:
    """Time every probe once in each round.

    Args:
        threads: that compute.
        rounds: how many.
    """
    torch.set_num_threads(threads)
    with torch.no_grad():
        made = [(probe, calls_in_a_burst(_graded(probe))) for probe in probes()]
        watch = Watch()
        taken: Dict[Tuple[str, str], List[float]] = {(p.kind, p.name): [] for p, _ in made}
        for _ in range(rounds):
            for probe, calls in made:
                taken[probe.kind, probe.name].append(burst(_graded(probe), calls) / calls)
    return {
        "probes": [{"kind": p.kind, "name": p.name, "work": p.work, "seconds": taken[p.kind, p.name]} for p, _ in made],
        "load": watch.load(),
        "processor": model_name(),
        "memory_bytes": memory_bytes(),
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
    }


def _graded(probe: Probe) -> Callable[[], Any]:
    """Return a call under which autograd works where the probe is one of gradients."""
    if "their gradients" not in probe.name:
        return probe.call

    def call() -> Any:
        with torch.enable_grad():
            return probe.call()

    return call


def main() -> None:
    """Measure, and write what was found as JSON."""
    threads, rounds, parent = map(int, sys.argv[1:4])
    limits.die_with_parent(parent)
    sys.stdout.write(json.dumps(measure(threads, rounds)) + "\n")


if __name__ == "__main__":
    main()
