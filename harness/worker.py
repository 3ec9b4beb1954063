"""The measured process: makes one cell ready, then times bursts of it when told to.

It speaks JSON, one object a line, over one socket; what frameworks print goes to the log. It ends when the
socket closes, so it cannot outlive its driver. Requests and answers::

    {"do": "describe", "device": ...}          -> what the device says of itself
    {"do": "meters", "device": ...}            -> {"energy": what each meter of the device is, or why it cannot be read}
    {"do": "parts", "attempt": ...}            -> {"parts": n}
    {"do": "trace", "attempt": ...}            -> {"graph": what a step computes, "trace_s": s, "item", "packages"}
    {"do": "make_part", "attempt": ..., "part": i} -> {}
    {"do": "prepare", "attempt": ...}          -> times, settings, meters of energy and the block size that suits
    {"do": "burst", "block_steps": K, "samples": m, "pids": [...]} -> steps, seconds and CPU seconds of m blocks, energy
    {"do": "idle", "seconds": s}               -> energy of the device while nothing runs
    {"do": "look"}                             -> how good the model is by now: figures, pairs, pictures
    {"do": "finish"}                           -> last check, peak memory

An answer with ``status`` is the last one: it says why the cell ends here. Worker side: Python 3.8.
"""

from __future__ import annotations

import base64
import dataclasses
import gc
import importlib
import json
import math
import os
import platform
import random
import socket
import statistics
import sys
import time
import traceback
import zlib
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence

import numpy as np

from siderostat import devices, limits, workloads
from siderostat.contention import Watch, is_contended
from siderostat.devices.base import DeviceAdapter, DeviceRefusal, Program, Window
from siderostat.devices.energy import Meters
from siderostat.record import CAPACITY, IDLE, THROUGHPUT, Attempt, Reason, Status
from siderostat.workloads.base import BadInput, Exam, Spec, Step, Workload, WrongResult

_LEAST_TIMES_EMPTY = 1000  # a block lasts at least this many times what timing nothing takes
_PACKAGES = {  # what brings a module that goes by another name, or does not work alone
    "tensorflow": "'siderostat[tensorflow]'",
    "tensorflow_probability": "'siderostat[tensorflow]'",
    "tf_keras": "'siderostat[tensorflow]'",
    "torch": "'siderostat[torch]'",
    "galsim": "'siderostat[sky]'",
}
_WINDOW = 5  # samples in each of the two windows that must agree before warm-up ends
_AGREE = 0.05
_LONGEST_GAP_S = 0.1  # before a metered burst, so that bursts do not keep step with the meter's updates
_COOLING_TRIES = 3  # bursts that are taken again because the device held its clock down
_COOLING_S = 2.0  # pause before each


class Bench:
    """A cell on its device."""

    def __init__(self, attempt: Attempt) -> None:
        cell = attempt.cell
        self.attempt = attempt
        self.device: DeviceAdapter = devices.load(cell.device)
        self.workload: Workload = workloads.load(cell.workload)
        self.spec = Spec(
            cell.variant, cell.mode, cell.framework, cell.batch, cell.size, attempt.seed, dict(cell.options)
        )
        self._program: Optional[Program] = None
        self._step: Optional[Step] = None
        self._exam: Optional[Exam] = None
        self._meters = Meters([])
        self._is_metered = False

    @property
    def program(self) -> Program:
        """The step made ready; there is one after :meth:`prepare`."""
        assert self._program is not None
        return self._program

    def prepare(self) -> Dict[str, Any]:
        """Import, build, compile, run the first step, check it; warm up where it is the step's time that counts."""
        cell = self.attempt.cell
        if cell.measure == IDLE:
            return {**self._about(self.device.describe()), "energy": self._open_meters()}
        limits.limit_memory(self.attempt.protocol.memory_bytes)
        described = self.device.describe()
        self.device.require(self.workload.needs(self.spec), cell.framework)
        started = time.perf_counter()
        framework = importlib.import_module(cell.framework)
        self.device.configure(cell.framework)
        imported = time.perf_counter()
        self._step = step = self.workload.build(self.spec)
        built = time.perf_counter()
        self._program = self.device.compile(step, cell.precision)
        compiled = time.perf_counter()
        first_step_s = self.program.run(1).seconds
        figures = self._check()
        gc.collect()
        gc.freeze()
        gc.disable()
        return {
            **self._about(described),
            "item": self.workload.item,
            "items_per_step": step.items,
            "import_s": imported - started,
            "build_s": built - imported,
            "compile_s": compiled - built,
            "first_step_s": first_step_s,
            "check": figures,
            "effective": {"precision": cell.precision, **self.device.effective()},
            "packages": {cell.framework: str(getattr(framework, "__version__", "")), "numpy": _version("numpy")},
            **self._further(),
            "energy": self._open_meters(),
        }

    def trace(self) -> Dict[str, Any]:
        """Say what a step computes, without computing it."""
        from siderostat.devices.sim.trace import trace

        framework = importlib.import_module(self.spec.framework)
        self.device.configure(self.spec.framework)
        step = self.workload.build(self.spec)
        started = time.perf_counter()
        graph = trace(step)
        return {
            "trace_s": time.perf_counter() - started,
            "graph": graph.to_dict(),
            "item": self.workload.item,
            "packages": {self.spec.framework: str(getattr(framework, "__version__", ""))},
        }

    def _about(self, described: Dict[str, Any]) -> Dict[str, Any]:
        """Return what the record says of the device."""
        return {
            "device": described,
            "clock": self.device.clock,
            "provenance": self.device.provenance.value,
            "computes_on_host": self.device.computes_on_host,
        }

    def _further(self) -> Dict[str, Any]:
        """Return what preparing for this measure tells besides."""
        measure = self.attempt.cell.measure
        if measure == THROUGHPUT:
            return self._warm_up()
        return {} if measure == CAPACITY else {"goal": self._goal()}

    def _open_meters(self) -> List[Dict[str, Any]]:
        if self.attempt.cell.measure == CAPACITY:
            return []
        self._meters = Meters(self.device.counters(), self.attempt.protocol.nameplate_w)
        heads = self._meters.open()
        self._is_metered = any(head["provenance"] == "measured" for head in heads)
        return heads

    def _warm_up(self) -> Dict[str, Any]:
        """Run until it is warm and steady, and find the block size that suits.

        Blocks double until they last ``block_s``. Warm is: the steps and seconds of the protocol, and medians of
        the last two windows that agree; where they do not, one more window, and so on up to ``warmup_limit_s``.
        Doubling the warm-up instead costs most of a minute as soon as a noisy machine makes windows differ by chance.
        """
        protocol = self.attempt.protocol
        windows: List[Window] = []
        block_steps, elapsed_s, enough = 1, 0.0, 2 * _WINDOW
        steady = False
        while not steady:
            window = self.program.run(block_steps)
            windows.append(window)
            elapsed_s += window.seconds
            if window.seconds < protocol.block_s:
                block_steps *= 2
            if elapsed_s > protocol.warmup_limit_s:
                break
            is_due = sum(w.steps for w in windows) >= protocol.warmup_steps and elapsed_s >= protocol.warmup_s
            if is_due and len(windows) >= enough:
                steady = _agree(windows)
                enough = len(windows) + _WINDOW
        step_s = _median_step_s(windows[-2 * _WINDOW :])
        return {
            "warmup": {
                "block_steps": [w.steps for w in windows],
                "seconds": [w.seconds for w in windows],
                "cpu_s": [w.cpu_s for w in windows],
            },
            "steady": steady,
            "block_steps": self._block_steps(step_s),
            "step_s": step_s,
        }

    def _block_steps(self, step_s: float) -> int:
        """Return the smallest power of two of steps that makes a block long enough to be timed well."""
        empty_s = statistics.median(self.program.run(0).seconds for _ in range(9))
        least_s = max(self.attempt.protocol.block_s, _LEAST_TIMES_EMPTY * empty_s)
        return 1 << max(0, math.ceil(math.log2(least_s / step_s)))

    def burst(self, block_steps: int, samples: int, pids: Sequence[int]) -> Dict[str, Any]:
        """Time ``samples`` blocks of ``block_steps`` steps; again where the device held its clock down meanwhile."""
        answer = self._burst(block_steps, samples, pids)
        tries = 0
        while self.device.is_throttled() and tries < _COOLING_TRIES:
            time.sleep(_COOLING_S)
            answer = self._burst(block_steps, samples, pids)
            tries += 1
        answer["load"]["cooled"] = float(tries)
        if tries == _COOLING_TRIES and self.device.is_throttled():
            answer["flags"].append("throttled")
        return answer

    def _burst(self, block_steps: int, samples: int, pids: Sequence[int]) -> Dict[str, Any]:
        self._lead(block_steps)
        if self._is_metered:
            time.sleep(random.uniform(0.0, _LONGEST_GAP_S))
        started_at = time.time()
        self._meters.begin()
        watch = Watch()
        windows = [self.program.run(block_steps) for _ in range(samples)]
        load = watch.load()
        cpu_s = sum(w.cpu_s for w in windows)
        others = self.device.other_pids(pids)
        energy = self._meters.end(sum(w.steps for w in windows), cpu_s, others, load.get("foreign_cpu"))
        contended = is_contended(load, self.device.computes_on_host) or bool(others)
        return {
            "block_steps": windows[0].steps,  # a device that does several steps in one call may have done more
            "seconds": [w.seconds for w in windows],
            "cpu_s": [w.cpu_s for w in windows],
            "device_s": [w.device_s for w in windows if w.device_s is not None],
            "load": load,
            "flags": ["contended"] if contended else [],
            "started_at": started_at,
            "sensors": self.device.sensors(),
            "energy": energy,
        }

    def _lead(self, block_steps: int) -> None:
        """Run steps that are not timed, so that clocks and power have settled when the burst begins."""
        run_s = 0.0
        while run_s < self.attempt.protocol.lead_s:
            run_s += self.program.run(block_steps).seconds

    def idle(self, seconds: float) -> Dict[str, Any]:
        """Read the device's power while it does nothing."""
        self._meters.begin()
        time.sleep(seconds)
        return {"energy": self._meters.end(0, 0.0, self.device.other_pids([]), None)}

    def _goal(self) -> Dict[str, Any]:
        goal = self.workload.goal(self.spec.variant, self.spec.mode)
        if goal is None:
            raise WrongResult(f"{self.workload.name} has no goal in mode {self.spec.mode!r}")
        return dataclasses.asdict(goal)

    def look(self) -> Dict[str, Any]:
        """Judge the model as it is now."""
        assert self._step is not None
        if self._exam is None:
            self._exam = self.workload.exam(self.spec, self._step)
        outputs = [self.program.infer(self._exam.model, batch) for batch in self._exam.batches]
        findings = self._exam.judge(outputs)
        return {
            "figures": _finite(findings.figures),
            "pairs": {name: [list(map(float, column)) for column in pair] for name, pair in findings.pairs.items()},
            "pictures": {name: _packed(picture) for name, picture in findings.pictures.items()},
        }

    def finish(self) -> Dict[str, Any]:
        """Check the last outputs and release the device."""
        self._meters.close()
        answer = {
            "check": self._check(),
            "peak_bytes": self.program.peak_bytes(),
            "effective": self.device.effective(),
            "model": self.program.modelled(),
        }
        self.program.close()
        return answer

    def _check(self) -> Dict[str, float]:
        return _finite(self.workload.check(self.spec, self.program.outputs()))


def _finite(figures: Mapping[str, float]) -> Dict[str, float]:
    for name, value in figures.items():
        if not math.isfinite(value):
            raise WrongResult(f"the check's figure {name} is {value}")
    return {name: float(value) for name, value in figures.items()}


def _packed(pictures: np.ndarray) -> Dict[str, Any]:
    """Return bytes in the form the record has them."""
    whole = np.ascontiguousarray(pictures, np.uint8)
    return {"shape": list(whole.shape), "zlib_base64": base64.b64encode(zlib.compress(whole.tobytes(), 9)).decode()}


def _median_step_s(windows: List[Window]) -> float:
    return statistics.median(w.seconds / w.steps for w in windows)


def _agree(windows: List[Window]) -> bool:
    """Say whether the medians of the last two groups of ``_WINDOW`` samples are within ``_AGREE`` of each other."""
    early, late = _median_step_s(windows[-2 * _WINDOW : -_WINDOW]), _median_step_s(windows[-_WINDOW:])
    return abs(late - early) <= _AGREE * early


def _version(package: str) -> str:
    return str(getattr(sys.modules.get(package), "__version__", ""))


class Session:
    """What one worker does in its life: requests about one attempt, answered in turn."""

    def __init__(self) -> None:
        self._bench: Optional[Bench] = None

    @property
    def device(self) -> Optional[DeviceAdapter]:
        """The device, once there is one."""
        return self._bench.device if self._bench else None

    def answer(self, request: Dict[str, Any]) -> Dict[str, Any]:
        """Answer one request."""
        what = request["do"]
        if what == "describe":
            return devices.load(request["device"]).describe()
        if what == "meters":
            return {"energy": _meters_of(request["device"])}
        if "attempt" in request:
            self._bench = Bench(Attempt.from_dict(request["attempt"]))
        bench = self._bench
        assert bench is not None
        if what == "parts":
            return {"parts": bench.workload.parts(bench.spec)}
        if what == "make_part":
            bench.workload.make_part(bench.spec, request["part"])
            return {}
        if what == "trace":
            return bench.trace()
        if what == "prepare":
            return {"python": platform.python_version(), **bench.prepare()}
        if what == "burst":
            return bench.burst(request["block_steps"], request["samples"], request["pids"])
        if what == "idle":
            return bench.idle(request["seconds"])
        if what == "look":
            return bench.look()
        return bench.finish()


def _meters_of(name: str) -> List[Dict[str, Any]]:
    device = devices.load(name)
    device.describe()
    meters = Meters(device.counters())
    try:
        return meters.open()
    finally:
        meters.close()


def _last_words(error: BaseException, device: Optional[DeviceAdapter]) -> Dict[str, Any]:
    """Say in the record's vocabulary why the cell ends here."""
    if isinstance(error, WrongResult):
        return _ending(Status.INVALID, Reason.WRONG_RESULT, str(error))
    if isinstance(error, BadInput):
        return _ending(Status.UNAVAILABLE, Reason.BAD_INPUT, str(error))
    if isinstance(error, ModuleNotFoundError):
        return _ending(
            Status.UNAVAILABLE,
            Reason.NO_PACKAGE,
            f"package {error.name} is not installed for {sys.executable}; install it: "
            f"{sys.executable} -m pip install {_PACKAGES.get(str(error.name), error.name)}",
        )
    refusal = error if isinstance(error, DeviceRefusal) else device and device.refusal(error)
    if isinstance(refusal, DeviceRefusal):
        return {**_ending(refusal.status, refusal.reason, str(refusal)), "need_bytes": refusal.need_bytes}
    return _ending(Status.ERROR, Reason.EXCEPTION, f"{type(error).__name__}: {error}".splitlines()[0])


def _ending(status: Status, reason: Reason, detail: str) -> Dict[str, Any]:
    return {"status": status.value, "reason": reason.value, "detail": detail}


def answers(requests: Iterator[str]) -> Iterator[Dict[str, Any]]:
    """Answer requests until they stop, the cell is finished, or something goes wrong."""
    session = Session()
    try:
        for line in requests:
            yield session.answer(json.loads(line))
    except Exception as error:  # noqa: BLE001 - the border of the measured process: whatever happens becomes an answer
        traceback.print_exc()
        yield _last_words(error, session.device)


def serve(fd: int) -> None:
    """Answer requests on socket ``fd`` until it closes."""
    with socket.socket(fileno=fd) as channel, channel.makefile("rw", encoding="utf-8") as lines:
        for answer in answers(iter(lines.readline, "")):
            lines.write(json.dumps(answer) + "\n")
            lines.flush()


def main() -> None:
    """Serve one cell in a fresh interpreter: ``python -m siderostat.worker FD PARENT``."""
    fd, parent = int(sys.argv[1]), int(sys.argv[2])
    limits.die_with_parent(parent)
    limits.offer_to_oom_killer()
    try:
        serve(fd)
    except BrokenPipeError:
        os._exit(1)


if __name__ == "__main__":
    main()
