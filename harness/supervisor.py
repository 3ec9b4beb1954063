"""Measures one group: each cell in a process of its own, all alive and warm, their bursts taking turns.

What is not timed has a process alone: a model that is trained to a quality, a probe whether a batch fits, a device
whose power is read while it does nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from siderostat import contention, devices
from siderostat.child import Child, Lost
from siderostat.record import (
    IDLE,
    TIME_TO_QUALITY,
    Attempt,
    Burst,
    Cell,
    Energy,
    Look,
    Protocol,
    Provenance,
    Quality,
    Record,
    Status,
)

IDLE_S = 10.0  # how long a device that does nothing is watched
_FAREWELL_S = 5.0  # how long a worker that has finished may take to leave
_MOST_SAMPLES = 64  # of a burst: a longer one has longer blocks
_COMMON = 16  # a comparison has one block for all, unless that makes the blocks of one so many times as long as needed
_MARGIN = (
    1.25  # bursts that are windows of energy are planned so much longer: steps may be faster later than in warm-up
)
_PROBE_STEPS = 2  # after the first step, whose memory for the optimiser's state is there from the second on


@dataclasses.dataclass(frozen=True)
class Rhythm:
    """How a burst is cut: the same for all processes of a case, and within a comparison the same block for all."""

    block_steps: int
    samples: int


class Measurement:
    """One attempt while it is being measured: the child, and what it has told so far."""

    def __init__(self, attempt: Attempt) -> None:
        self.attempt = attempt
        self.head: dict[str, Any] = {}
        self._tail: dict[str, Any] = {}
        self._bursts: list[Burst] = []
        self._energy: list[dict[str, Any]] = []
        self._quality: Quality | None = None
        self._lost: Lost | None = None
        self._child: Child | None = None
        self._maxrss_bytes: int | None = None
        self._processor: int | None = None
        self._started = time.time()

    @property
    def alive(self) -> bool:
        """Whether the child still answers."""
        return self._lost is None

    def prepare(self, start: Callable[[Attempt], Child], processor: int | None = None) -> None:
        """Start the child and let it build, compile, check and warm up, bound to a processor if one is given."""
        try:
            self._child = start(self.attempt)
        except Lost as lost:
            self._lost = lost
        if self._child and processor is not None:
            with contextlib.suppress(OSError):  # gone by now, or not allowed to: then it is measured where it is
                os.sched_setaffinity(self._child.process.pid, {processor})
                self._processor = processor
        self.head = self._ask({"do": "prepare", "attempt": self.attempt.to_dict()}) or {}
        self._energy = [{**meter, "windows": []} for meter in self.head.get("energy", [])]

    @property
    def pid(self) -> int | None:
        """Process id of the child."""
        return self._child.process.pid if self._child else None

    def burst(self, turn: int, rhythm: Rhythm, pids: Sequence[int] = ()) -> None:
        """Have one burst timed; ``pids`` are the children that take turns with this one."""
        answer = self._ask({"do": "burst", "pids": list(pids), **dataclasses.asdict(rhythm)})
        if answer is not None:
            self._note_energy(turn, answer.pop("energy"))
            self._bursts.append(Burst(turn=turn, **answer))

    def idle(self, seconds: float) -> None:
        """Have the device's power read while it does nothing."""
        started_at = time.time()
        answer = self._ask({"do": "idle", "seconds": seconds})
        if answer is not None:
            unread = {"steps": 0, "started_at": started_at, "seconds": seconds}
            windows = [
                {**unread, "status": meter["status"]} if window is None else window
                for meter, window in zip(self._energy, answer["energy"], strict=True)
            ]
            self._note_energy(0, windows)

    def _note_energy(self, turn: int, windows: Sequence[dict[str, Any] | None]) -> None:
        """Keep the windows of one burst, one for each meter; None where the meter could not be read at all."""
        for meter, window in zip(self._energy, windows, strict=True):
            if window is not None:
                meter["windows"].append({"turn": turn, **window})

    def train(self) -> None:
        """Train towards the workload's goal: until its budget is used up or, where its time is asked for, it is met."""
        if not self.alive:
            return
        goal, per_step = self.head["goal"], self.head["items_per_step"]
        quality = Quality(goal["figure"], goal["target"])
        items, seconds = (per_step if goal["budget"] else 0), 0.0
        while self.alive:
            is_over = items >= goal["budget"]
            if is_over or self.attempt.cell.measure == TIME_TO_QUALITY:
                quality = self._look(quality, items, seconds)
            if is_over or quality.reached:
                break
            steps = math.ceil(min(goal["every"], goal["budget"] - items) / per_step)
            self.burst(len(self._bursts), Rhythm(steps, samples=1))
            if self.alive:
                done = self._bursts[-1]
                items, seconds = items + done.block_steps * per_step, seconds + sum(done.seconds)
        self._quality = quality

    def _look(self, quality: Quality, items: int, seconds: float) -> Quality:
        """Return what is known of the model's quality with one more look at it."""
        answer = self._ask({"do": "look"})
        if answer is None:
            return quality
        look = Look(items, seconds, answer.pop("figures"))
        return dataclasses.replace(quality, looks=[*quality.looks, look], **answer)

    def finish(self) -> None:
        """Have the last outputs checked."""
        self._tail = self._ask({"do": "finish"}) or {}

    def end(self) -> None:
        """Leave nothing of the child behind."""
        if self._child is not None:
            self._maxrss_bytes = self._child.end(_FAREWELL_S if self.alive else 0.0).maxrss_bytes or None

    def _ask(self, request: dict[str, Any]) -> dict[str, Any] | None:
        if self._child is None or not self.alive:
            return None
        try:
            return self._child.ask(request, self.attempt.protocol.timeout_s)
        except Lost as lost:
            self._lost = lost
            return None

    def record(self) -> Record:
        """Put together what the child told; bursts are kept even if it was lost later."""
        head, tail = self.head, self._tail
        flags = [] if head.get("steady", True) else ["warmup_unstable"]
        if _contended(self._bursts, bool(head.get("computes_on_host"))):
            flags.append("contended")
        record = Record(
            self.attempt,
            Status.OK,
            provenance=Provenance(head["provenance"]) if head else None,
            bursts=_warmup_bursts(head) + self._bursts,
            check={k: v["check"] for k, v in (("first", head), ("last", tail)) if "check" in v},
            quality=self._quality,
            energy=[Energy.from_dict(meter) for meter in self._energy],
            model=tail.get("model", {}),
            peak_bytes=tail.get("peak_bytes"),
            process=self._process(),
            flags=flags,
            clock=head.get("clock"),
            item=head.get("item", ""),
            items_per_step=head.get("items_per_step"),
            import_s=head.get("import_s"),
            build_s=head.get("build_s"),
            compile_s=head.get("compile_s"),
            first_step_s=head.get("first_step_s"),
            effective={**head.get("effective", {}), **tail.get("effective", {})},
            device=head.get("device", {}),
        )
        return record if self._lost is None else lost_record(self.attempt, self._lost, record)

    def _process(self) -> dict[str, Any]:
        ended = time.time()
        return {
            "pid": self.pid,
            "start": self.attempt.start,
            "started_at": _utc(self._started),
            "ended_at": _utc(ended),
            "seconds": ended - self._started,
            "log": f"logs/{self.attempt.key()}.log",
            "maxrss_bytes": self._maxrss_bytes,
            "python": self.head.get("python"),
            "packages": self.head.get("packages", {}),
            "processor": self._processor,
        }


def measure(
    group: Sequence[Attempt], start: Callable[[Attempt], Child], known: Callable[[Attempt], Rhythm | None]
) -> list[Record]:
    """Measure a group with interleaved bursts. Every attempt gets a record; a lost child costs only its own.

    Args:
        group: the attempts that are compared with each other.
        start: starts the child of an attempt.
        known: the rhythm of the case as an earlier process found it, None for the first.
    """
    measurements = [Measurement(a) for a in group]
    try:
        processor = _common_processor(group)
        for one in measurements:
            one.prepare(start, processor)
        alive = [m for m in measurements if m.alive]
        pids = [m.pid for m in alive if m.pid is not None]
        rhythms = _rhythms(alive, known)
        for turn in range(max((m.attempt.protocol.bursts for m in alive), default=0)):
            order = random.Random(f"{group[0].key()}/{turn}").sample(range(len(alive)), len(alive))
            for index in order:
                alive[index].burst(turn, rhythms[index], pids)
        for one in alive:
            one.finish()
    finally:
        for one in measurements:
            one.end()
    name = f"{group[0].key()}@{time.time_ns():x}" if len(group) > 1 else ""
    return [dataclasses.replace(m.record(), group=name) for m in measurements]


def _common_processor(group: Sequence[Attempt]) -> int | None:
    """Return a processor for all of a comparison between single threads, another from round to round; None for others.

    What else a processor has to do, its sibling's work on a shared core above all, then slows both sides alike.
    """
    if len(group) < 2 or not all(devices.is_single_threaded(a.cell.device) for a in group):
        return None
    if not hasattr(os, "sched_getaffinity"):
        return None
    return random.Random(group[0].key()).choice(sorted(os.sched_getaffinity(0)))


def train(attempt: Attempt, start: Callable[[Attempt], Child]) -> Record:
    """Measure how good the step's model becomes, or how long that takes."""
    measurement = Measurement(attempt)
    try:
        measurement.prepare(start)
        measurement.train()
        measurement.finish()
    finally:
        measurement.end()
    return measurement.record()


def probe(attempt: Attempt, start: Callable[[Attempt], Child]) -> Record:
    """Find out whether the step fits at this batch size."""
    measurement = Measurement(attempt)
    try:
        measurement.prepare(start)
        measurement.burst(0, Rhythm(1, _PROBE_STEPS))
        measurement.finish()
    finally:
        measurement.end()
    return measurement.record()


def idle(attempt: Attempt, start: Callable[[Attempt], Child]) -> Record | None:
    """Read the power of a device that does nothing.

    None where it has no meter, unless bursts are so long that a wall meter's log, imported later, can be matched.
    """
    measurement = Measurement(attempt)
    try:
        measurement.prepare(start)
        if not measurement.alive:
            return None  # the cells of this device will say why
        meters = measurement.head.get("energy", [])
        is_long = attempt.protocol.burst_s > Protocol.burst_s
        if not is_long and not any(meter["provenance"] == Provenance.MEASURED.value for meter in meters):
            return None
        measurement.idle(IDLE_S)
    finally:
        measurement.end()
    return measurement.record()


def idle_cell(device: str) -> Cell:
    """Return the cell of a device that does nothing."""
    return Cell("null", "null", "infer", "numpy", device, batch=1, size="none", measure=IDLE)


def _rhythms(alive: Sequence[Measurement], known: Callable[[Attempt], Rhythm | None]) -> list[Rhythm]:
    """Give each its rhythm: the known one, else the group's block and as many samples as fill a burst.

    The group's block is the largest that one of them needs. Where they differ so much in speed that the slow ones
    would take far longer for it than for their own, each has its own.
    """
    largest = max((m.head["block_steps"] for m in alive), default=1)
    is_common = all(largest <= _COMMON * m.head["block_steps"] for m in alive)
    rhythms = []
    for one in alive:
        protocol, step_s = one.attempt.protocol, one.head["step_s"]
        block = largest if is_common else one.head["block_steps"]
        burst_s = protocol.burst_s * (_MARGIN if protocol.burst_s > Protocol.burst_s else 1.0)
        while burst_s > _MOST_SAMPLES * block * step_s:
            block *= 2
        fill = math.ceil(burst_s / (block * step_s))
        rhythms.append(known(one.attempt) or Rhythm(block, max(protocol.burst_samples, fill)))
    return rhythms


def lost_record(attempt: Attempt, lost: Lost, so_far: Record | None = None) -> Record:
    """Return the record of an attempt that ended early, with what had been measured until then."""
    so_far = so_far or Record(attempt, Status.OK, process={"started_at": _utc(time.time())})
    return dataclasses.replace(
        so_far, status=lost.status, reason=lost.reason, detail=lost.detail, need_bytes=lost.need_bytes
    )


def _warmup_bursts(head: Mapping[str, Any]) -> list[Burst]:
    """Return the warm-up's samples, blocks of equal size together, marked with turn -1."""
    warmup = head.get("warmup", {"block_steps": [], "seconds": [], "cpu_s": []})
    samples = zip(warmup["block_steps"], warmup["seconds"], warmup["cpu_s"], strict=True)
    bursts = []
    for steps, blocks in itertools.groupby(samples, key=lambda s: s[0]):
        rows = list(blocks)
        bursts.append(Burst(-1, steps, [r[1] for r in rows], [r[2] for r in rows]))
    return bursts


def _contended(bursts: Sequence[Burst], on_host: bool) -> bool:
    """Judge a process by its load over all bursts: one tick of a coarse counter in one burst is no evidence."""
    wall = sum(b.load["wall_s"] for b in bursts)
    if not bursts or wall <= 0:
        return False
    shares = ("cpu_share", "pressure", "steal")
    return contention.is_contended(
        {
            k: sum(b.load[k] * b.load["wall_s"] for b in bursts) / wall
            for k in shares
            if all(k in b.load for b in bursts)
        },
        on_host,
    )


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
