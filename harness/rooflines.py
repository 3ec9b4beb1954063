"""A chip file of this machine's processor: what short-lived processes measured of it, figure by figure."""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from siderostat import provenance
from siderostat.contention import PRESSURE, STEAL
from siderostat.errors import NothingMeasured

PROCESSES = 3
ROUNDS = 7
LEAST_SPREAD = 1.02
_TIMEOUT_S = 300.0
_WORKER = "siderostat.devices.sim.measured"
_LEAST_SHARE = 0.05  # by which new memory must be slower than memory that is there, to have a rate of its own
_FOREIGN = 0.05  # share of all processors' time that other work takes


@dataclass(frozen=True)
class Found:
    """A measured figure of a chip's file.

    Attributes:
        key: see ``kernel-hbm`` in :data:`siderostat.devices.sim.chips.KEYS`.
        value: geometric mean over the medians of its probes.
        spread: factor within which 68 % of the repeats of all its probes lie; 1: exact.
        source: what was measured.
    """

    key: str
    value: float
    spread: float
    source: str


@dataclass(frozen=True)
class Roofline:
    """What was measured of a processor.

    Attributes:
        processor: its maker's name.
        threads: that computed.
        torch: version of PyTorch.
        date: of measuring, ISO 8601.
        figures: in the order of the file.
        disturbances: sentences on what other work took meanwhile; empty: nothing worth a word.
    """

    processor: str
    threads: int
    torch: str
    date: str
    figures: list[Found]
    disturbances: list[str]

    @property
    def title(self) -> str:
        """What the chip is called."""
        return f"{self.processor}, {self.threads} thread{'' if self.threads == 1 else 's'}"

    def to_toml(self) -> str:
        """Return the file that ``sim:PATH`` reads."""
        head = [
            f"Measured by 'siderostat calibrate cpu --threads {self.threads}' on {self.date} with torch {self.torch}:",
            f"{PROCESSES} processes of {ROUNDS} rounds of short bursts. Spreads are over these and over what is named.",
            *(self.disturbances or ["Nothing disturbed it."]),
        ]
        lines = [*(f"# {line}" for line in head), f"title = {_quoted(self.title)}", 'kind = "kernel-hbm"', ""]
        return "\n".join([*lines, "[figures]", *map(_toml_line, self.figures)]) + "\n"


def measure(threads: int) -> Roofline:
    """Measure this machine's processor in processes of their own.

    Args:
        threads: that compute.

    Raises:
        NothingMeasured: if a process does not end well.
    """
    date = provenance.utc_now()
    return evaluate([_ask(threads) for _ in range(PROCESSES)], date)


def _ask(threads: int) -> dict[str, Any]:
    command = [sys.executable, "-m", _WORKER, str(threads), str(ROUNDS), str(os.getpid())]
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}
    try:
        ended = subprocess.run(
            command, capture_output=True, text=True, timeout=_TIMEOUT_S, env=environment, check=False
        )
    except subprocess.TimeoutExpired:
        raise NothingMeasured(
            f"the process that measures the processor did not end within {_TIMEOUT_S:g} s; "
            "stop other work, or give it fewer --threads than there are cores"
        ) from None
    if ended.returncode != 0:
        last = (ended.stderr.strip().splitlines() or [f"exit status {ended.returncode}"])[-1]
        raise NothingMeasured(
            f"the process that measures the processor failed ({last}); "
            "it needs PyTorch and 1 GB of memory: pip install 'siderostat[torch]'"
        )
    answer: dict[str, Any] = json.loads(ended.stdout)
    return answer


def evaluate(answers: Sequence[Mapping[str, Any]], date: str) -> Roofline:
    """Turn what the processes told into figures.

    Args:
        answers: see :func:`siderostat.devices.sim.measured.measure`.
        date: of measuring.
    """
    first = answers[0]
    return Roofline(
        processor=str(first["processor"]),
        threads=int(first["threads"]),
        torch=str(first["torch"]),
        date=date,
        figures=list(_figures(_rates(answers), float(first["memory_bytes"]))),
        disturbances=list(_disturbances([answer["load"] for answer in answers])),
    )


_Rates = dict[str, dict[str, list[float]]]
"""Kind -> probe -> work per second in each round of each process."""


def _rates(answers: Iterable[Mapping[str, Any]]) -> _Rates:
    rates: _Rates = {}
    for answer in answers:
        for probe in answer["probes"]:
            found = rates.setdefault(probe["kind"], {}).setdefault(probe["name"], [])
            found += [probe["work"] / taken for taken in probe["seconds"]]
    return rates


def _figures(rates: _Rates, memory_bytes: float) -> Iterator[Found]:
    peak = 1.0
    for key, kind in (("flops_fp32", "fp32"), ("flops_bf16", "bf16")):
        name, best = max(rates[kind].items(), key=lambda item: statistics.median(item[1]))
        yield _found(key, {name: best}, f"measured: product of {name}, the fastest of {_listed(rates[kind])}")
        if kind == "fp32":
            peak = statistics.median(best)
    products = {**rates["fp32"], **rates["conv"]}
    shares = {name: [rate / peak for rate in held] for name, held in products.items()}
    yield _found("product_efficiency", shares, f"measured: products in fp32 over the fastest, {_listed(products)}")
    yield Found("memory_bytes", memory_bytes, 1.0, "what the system says")
    memory = _found("memory_bytes_per_s", rates["far"], f"measured: {_listed(rates['far'])}, outputs there before")
    yield memory
    yield Found("bandwidth_efficiency", 1.0, 1.0, "the bandwidth is measured, not a data sheet's")
    cache = _found("cache_bytes_per_s", rates["near"], f"measured: {_listed(rates['near'])}")
    yield Found("cache_bytes", _cache_bytes(rates["span"], memory.value, cache.value), 1.0, _CACHE)
    yield cache
    yield _found("randoms_per_s", rates["random"], f"measured: {_listed(rates['random'])}")
    yield _found("functions_per_s", rates["function"], f"measured: {_listed(rates['function'])}")
    tiny = {name: [1 / rate for rate in held] for name, held in rates["tiny"].items()}
    yield _found("op_s", tiny, f"measured: operations on next to nothing, {_listed(tiny)}")
    yield from _pages(rates)
    yield Found("host_bytes_per_s", memory.value, memory.spread, "inputs lie in the same memory")


_CACHE = (
    "measured: most that a sum of two arrays may touch, steps of two, and be nearer the cache's bandwidth than the "
    "memory's"
)


def _found(key: str, values: Mapping[str, Sequence[float]], source: str) -> Found:
    """Return the geometric mean over the medians of probes, and the spread over all repeats of all of them.

    The spread is the root of the ratio of the 84th to the 16th percentile: a few repeats that other work disturbed do
    not widen it.
    """
    logs = [math.log(value) for held in values.values() for value in held]
    centre = statistics.fmean(math.log(statistics.median(held)) for held in values.values())
    ends = statistics.quantiles(logs, n=100, method="inclusive")
    spread = math.exp((ends[83] - ends[15]) / 2)
    return Found(key, math.exp(centre), max(LEAST_SPREAD, spread), source)


def _cache_bytes(spans: Mapping[str, Sequence[float]], far: float, near: float) -> float:
    """Return the largest footprint that moves faster than half-way, by logarithm, between memory and cache."""
    reached = [float(size) for size, held in spans.items() if statistics.median(held) >= math.sqrt(far * near)]
    return max(reached, default=0.0)


def _pages(rates: _Rates) -> Iterator[Found]:
    """Yield the rate of new memory by what it costs above memory that is there; nothing where that is next to none."""
    ((_, old),) = rates["old"].items()
    ((name, new),) = rates["new"].items()
    if statistics.median(new) < (1 - _LEAST_SHARE) * statistics.median(old):
        beyond = [1 / (1 / slow - 1 / statistics.median(old)) for slow in new if slow < statistics.median(old)]
        yield _found("page_bytes_per_s", {name: beyond}, "measured: ones in 64 MiB of new memory, above those in old")


def _disturbances(loads: Sequence[Mapping[str, float]]) -> Iterator[str]:
    def mean(key: str) -> float | None:
        known = [load[key] for load in loads if key in load]
        return statistics.fmean(known) if known else None

    foreign, pressure, steal = mean("foreign_cpu"), mean("pressure"), mean("steal")
    if foreign is not None and foreign > _FOREIGN:
        yield f"Other work took {foreign:.0%} of all processors' time meanwhile."
    if pressure is not None and pressure > PRESSURE:
        yield f"Work waited for a processor in {pressure:.0%} of the time."
    if steal is not None and steal > STEAL:
        yield f"Other virtual machines took {steal:.0%} of the processors' time."


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _toml_line(found: Found) -> str:
    spread = "" if found.spread == 1 else f", spread = {found.spread:.3f}"
    return f"{found.key} = {{ value = {found.value:.4g}{spread}, source = {_quoted(found.source)} }}"
