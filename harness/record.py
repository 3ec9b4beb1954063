"""What is measured and what came of it: the types that cross every boundary.

A :class:`Cell` names one point of a sweep, an :class:`Attempt` is that cell in one round of a plan,
and a :class:`Record` is what became of an attempt. All are plain data and pass through JSON
unchanged, so that the driver, a worker under another interpreter and a report made years later agree
without sharing code. Units are SI and stand in the names (``_s``, ``_bytes``); ``None`` is "not
known", never 0; NaN is refused. The fields are described one by one in ``schema/record-1.json``.

This module belongs to the worker side: Python 3.8, standard library only.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Dict, List, Mapping, Optional, Tuple

SCHEMA = 1

THROUGHPUT = "throughput"
QUALITY = "quality"
TIME_TO_QUALITY = "time-to-quality"
CAPACITY = "capacity"
MEASURES = (THROUGHPUT, QUALITY, TIME_TO_QUALITY, CAPACITY)
"""What can be measured of a step: its time, how good it is after a fixed budget, how long it takes to be good,
and whether it fits at all."""
IDLE = "idle"
"""What is measured of a device that does nothing: its power. No step is asked for it."""


class Status(str, Enum):
    """How an attempt ended. Only ``OK`` carries timings that may be compared."""

    OK = "ok"
    CAPACITY = "capacity"  # does not fit in memory: a result
    UNSUPPORTED = "unsupported"  # the device or framework has no way to run this: a result
    UNAVAILABLE = "unavailable"  # no such device, package or input here
    INVALID = "invalid"  # ran, but its numbers failed the workload's check
    TIMEOUT = "timeout"  # no answer in time
    CRASH = "crash"  # the process ended without a word
    ERROR = "error"  # the process raised something unforeseen
    SKIPPED = "skipped"  # planned, not tried


FAILURES = frozenset({Status.UNAVAILABLE, Status.INVALID, Status.TIMEOUT, Status.CRASH, Status.ERROR})
"""The endings that a further try could change; all others but ``SKIPPED`` are results."""


class Reason(str, Enum):
    """Why an attempt is not ``ok``, in a vocabulary that scripts may rely on."""

    OOM_HOST = "oom_host"
    OOM_DEVICE = "oom_device"
    COMPILE_FAILED = "compile_failed"
    FEATURE = "feature"
    NO_DEVICE = "no_device"
    NO_PACKAGE = "no_package"
    BAD_INPUT = "bad_input"
    WRONG_RESULT = "wrong_result"
    TIMEOUT = "timeout"
    KILLED = "killed"
    EXITED = "exited"
    EXCEPTION = "exception"
    BUDGET = "budget"
    BEYOND_EDGE = "beyond_edge"  # a smaller batch did not fit


class Provenance(str, Enum):
    """Where a figure comes from; it travels with the figure to the last plot."""

    MEASURED = "measured"
    ESTIMATED = "estimated"
    MODELLED = "modelled"
    EMULATED = "emulated"


@dataclass(frozen=True)
class Protocol:
    """How one process measures. A *block* of K steps is one timed sample; a *burst* is several.

    The defaults are those of a CPU. Durations are least values, in seconds.
    """

    bursts: int = 8
    burst_s: float = 0.2
    burst_samples: int = 3
    block_s: float = 0.02
    warmup_steps: int = 5
    warmup_s: float = 0.5
    warmup_limit_s: float = 30.0
    timeout_s: float = 300.0  # longest silence of a worker
    memory_bytes: Optional[int] = None  # most memory a worker may allocate
    lead_s: float = 0.0  # of steps before each burst that are not timed, so that clocks and power have settled
    nameplate_w: Optional[float] = None  # of the processors together: an estimate of energy is asked for


@dataclass(frozen=True)
class Cell:
    """One point of a sweep: which step of which workload, on which device, at which batch size, and what of it."""

    workload: str
    variant: str
    mode: str
    framework: str
    device: str
    batch: int
    size: str
    precision: str = "fp32"
    devices: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)
    measure: str = THROUGHPUT
    code: str = ""  # which of several revisions of the code computes, by the name that the plan has for it

    def key(self) -> str:
        """Sixteen hex digits, the same wherever and whenever they are computed."""
        return self._key

    @functools.cached_property
    def _key(self) -> str:
        data = dataclasses.asdict(self)
        if self.measure == THROUGHPUT:  # as it was before there was anything else to measure
            del data["measure"]
        if not self.code:
            del data["code"]
        text = json.dumps(data, sort_keys=True, separators=(",", ":"))
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def label(self) -> str:
        """Return a cell in a few words: ``galaxy-shape dnn train torch cpu batch 8``."""
        if self.measure == IDLE:
            return f"{self.device} idle"
        words = [self.workload, self.variant, self.mode, self.framework, self.device]
        words += [] if self.precision == "fp32" else [self.precision]
        words += ["batch", str(self.batch)] + ([f"({self.code})"] if self.code else [])
        return " ".join(words if self.measure == THROUGHPUT else [self.measure, "of", *words])


@dataclass(frozen=True)
class Code:
    """Where workers find the code that they run.

    Attributes:
        folder: that they work in, and look for a workload's file in; empty: the driver's.
        path: of folders that come before the interpreter's own packages.
        python: the interpreter; empty: the driver's.
    """

    folder: str = ""
    path: Tuple[str, ...] = ()
    python: str = ""

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Code:
        """Rebuild it from its JSON form."""
        return cls(data["folder"], tuple(data["path"]), data["python"])


@dataclass(frozen=True)
class Attempt:
    """A cell in one round of a plan: the unit of resumption."""

    cell: Cell
    round: int
    seed: int
    start: str = "warm"  # "warm": forked from a server that imported the framework; "cold": a fresh interpreter
    protocol: Protocol = field(default_factory=Protocol)
    repeat: int = 0  # how many times this round was measured before, under contention
    reference: Optional[str] = None  # key of the cell that this one is compared with, in lock-step; its own: it is that

    def key(self) -> str:
        """The cell's key, the round and the repeat."""
        return f"{self.cell.key()}-{self.round}" + (f".{self.repeat}" if self.repeat else "")

    def to_dict(self) -> Dict[str, Any]:
        """Return the JSON form for a worker, which need not know whose code it runs: an older one could not."""
        data = dataclasses.asdict(self)
        del data["cell"]["code"]
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Attempt:
        """Rebuild an attempt from its JSON form."""
        values = dict(data)
        values["cell"] = Cell(**values["cell"])
        values["protocol"] = Protocol(**values["protocol"])
        return cls(**values)


@dataclass(frozen=True)
class Burst:
    """Samples taken in one go. ``seconds[i]`` and ``cpu_s[i]`` belong to block i of ``block_steps`` steps."""

    turn: int  # 0, 1, ... in the order of measuring; -1: warm-up, kept but never counted
    block_steps: int
    seconds: List[float]
    cpu_s: List[float]
    load: Dict[str, float] = field(default_factory=dict)
    flags: List[str] = field(default_factory=list)
    started_at: Optional[float] = None  # Unix time
    device_s: List[float] = field(default_factory=list)  # the same blocks by the device's own events, where it has them
    sensors: Dict[str, float] = field(default_factory=dict)  # of the device, read after the last block


LEAST_UPDATES = 20  # of a meter in a window; fewer: no joules
ENOUGH_UPDATES = 100  # for a figure to be published


class EnergyStatus(str, Enum):
    """What became of a measurement of energy. Only the first two carry joules that may be compared."""

    OK = "ok"  # at least ENOUGH_UPDATES in the window
    INDICATIVE = "indicative"  # at least LEAST_UPDATES
    TOO_SHORT = "too_short"
    NO_PERMISSION = "no_permission"
    UNSUPPORTED = "unsupported"
    COUNTER_RESET = "counter_reset"
    STALE_COUNTER = "stale_counter"  # the counter stood still, or could no longer be read
    SHARED_DEVICE = "shared_device"  # another process computed on it
    INCONSISTENT = "inconsistent"  # the counter and the integrated power differ by more than 10 %
    IMPLAUSIBLE = "implausible"  # above 1.1 times the power limit
    BELOW_IDLE_NOISE = "below_idle_noise"
    NOT_MEASURABLE = "not_measurable"  # a simulated device


@dataclass(frozen=True)
class EnergyWindow:
    """Energy over one burst, or over a while in which the device was idle. None is "not known", never 0."""

    turn: int  # of the burst
    steps: int
    started_at: float  # Unix time
    seconds: float
    status: EnergyStatus
    joules: Optional[float] = None
    u_joules: Optional[float] = None  # standard uncertainty of this window's reading, calibration aside
    reason: str = ""
    n_updates: Optional[int] = None
    wraps: int = 0
    mean_w: Optional[float] = None
    max_w: Optional[float] = None
    cross_check_j: Optional[float] = None  # the same window by integrating power, where the joules are a counter's


@dataclass(frozen=True)
class Energy:
    """What one meter of a device told, or why it told nothing.

    ``source`` is such as ``nvml.total_energy``, ``nvml.power``, ``powercap``, ``cpu_time_x_nameplate`` or
    ``wall_meter``; ``scope`` one of ``gpu_board``, ``cpu_package``, ``dram``, ``platform``, ``ipu_reported``,
    ``node_ac``. Energies of different scope or provenance are never added.
    """

    source: str
    scope: str
    provenance: Optional[Provenance]  # None: no figure
    status: EnergyStatus  # of the meter; each window has its own beside it
    reason: str = ""
    remedy: str = ""
    device: Dict[str, Any] = field(default_factory=dict)  # uuid, pci, name, driver, power_limit_w
    update_period_s: Optional[float] = None
    windows: List[EnergyWindow] = field(default_factory=list)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Energy:
        """Rebuild it from its JSON form."""
        values = dict(data)
        values["provenance"] = None if values["provenance"] is None else Provenance(values["provenance"])
        values["status"] = EnergyStatus(values["status"])
        values["windows"] = [
            EnergyWindow(**{**window, "status": EnergyStatus(window["status"])}) for window in values["windows"]
        ]
        return cls(**values)


@dataclass(frozen=True)
class Look:
    """A look at how good the model is while it is being trained."""

    items: int  # trained on until then, those of the first step included
    seconds: float  # of training until then; building, compiling, the first step and the looks themselves left out
    figures: Dict[str, float]


@dataclass(frozen=True)
class Quality:
    """How good the model became. What ``pairs`` and ``pictures`` hold belongs to the last look."""

    figure: str  # the one that decides; less is better
    target: float
    looks: List[Look] = field(default_factory=list)
    pairs: Dict[str, List[List[float]]] = field(default_factory=dict)  # name -> true values, predicted values
    pictures: Dict[str, Dict[str, Any]] = field(default_factory=dict)  # name -> shape, and zlib_base64 of the bytes

    @property
    def reached(self) -> Optional[Look]:
        """The first look at which the target was met; None: it was not."""
        return next((look for look in self.looks if look.figures[self.figure] <= self.target), None)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Quality:
        """Rebuild it from its JSON form."""
        return cls(**{**data, "looks": [Look(**look) for look in data["looks"]]})


@dataclass(frozen=True)
class Record:
    """One attempt, whatever became of it."""

    attempt: Attempt
    status: Status
    reason: Optional[Reason] = None
    detail: str = ""  # one sentence for people
    provenance: Optional[Provenance] = None  # None: there are no figures
    clock: Optional[str] = None  # "host", "device" or "model"
    item: str = ""
    items_per_step: Optional[int] = None
    bursts: List[Burst] = field(default_factory=list)
    import_s: Optional[float] = None
    build_s: Optional[float] = None
    compile_s: Optional[float] = None
    first_step_s: Optional[float] = None
    peak_bytes: Optional[int] = None
    need_bytes: Optional[int] = None
    check: Dict[str, Dict[str, float]] = field(default_factory=dict)
    quality: Optional[Quality] = None
    energy: List[Energy] = field(default_factory=list)
    model: Dict[str, Any] = field(default_factory=dict)  # what a simulated device was computed from, with its bands
    effective: Dict[str, Any] = field(default_factory=dict)
    device: Dict[str, Any] = field(default_factory=dict)
    process: Dict[str, Any] = field(default_factory=dict)
    flags: List[str] = field(default_factory=list)
    environment: str = ""
    group: str = ""  # the same for attempts whose bursts took turns, all of them alive and warm
    schema: int = SCHEMA

    def to_json(self) -> str:
        """One line of JSON.

        Raises:
            ValueError: if a figure is NaN or infinite.
        """
        data = {"key": self.attempt.key(), **dataclasses.asdict(self)}
        return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Record:
        """Rebuild a record from its JSON form, which ``schema/record-1.json`` has been checked against."""
        values = {k: v for k, v in data.items() if k != "key"}
        values["attempt"] = Attempt.from_dict(values["attempt"])
        values["status"] = Status(values["status"])
        values["reason"] = None if values["reason"] is None else Reason(values["reason"])
        values["provenance"] = None if values["provenance"] is None else Provenance(values["provenance"])
        values["bursts"] = [Burst(**b) for b in values["bursts"]]
        values["quality"] = Quality.from_dict(values["quality"]) if values.get("quality") else None
        values["energy"] = [Energy.from_dict(e) for e in values.get("energy", [])]
        return cls(**values)
