"""What will be measured, in which order: groups of attempts, written to ``plan.json`` before the first is measured."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from siderostat import devices, schemas
from siderostat.errors import NewerSchema
from siderostat.record import CAPACITY, QUALITY, THROUGHPUT, TIME_TO_QUALITY, Attempt, Cell, Code, Protocol

SCHEMA = 1


@dataclass(frozen=True)
class Grade:
    """How much evidence a run gathers. A process is one independent figure."""

    name: str
    least_rounds: int
    most_rounds: int
    start: str
    target: float | None = None  # stop a case when its 95 % half-width is at most this, relative
    case_s: float | None = None  # ... or after this much time on it
    quality_rounds: int = 1  # processes that are trained for the fixed budget; least_rounds for the time to quality
    repeats: int = 0  # how often a process measured under contention is repeated
    warmup_limit_s: float = 30.0
    note: str = ""


GRADES: Mapping[str, Grade] = {
    g.name: g
    for g in (
        Grade("quick", 3, 3, "warm", warmup_limit_s=5.0, note="indicative: three processes, a first look"),
        Grade("ci", 10, 10, "warm", quality_rounds=3, repeats=2, note="ten processes: what a CI gate compares"),
        Grade(
            "publish", 10, 30, "cold", target=0.02, case_s=1200.0, quality_rounds=3, repeats=2,
            note="fresh interpreters, 10 to 30 of them, until the 95 % interval is within 2 %",
        ),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """Groups in order. The attempts of one group are compared: their bursts interleave."""

    name: str
    grade: str
    seed: int
    groups: Sequence[Sequence[Attempt]]
    budget_s: float | None = None
    pythons: Mapping[str, str] = field(default_factory=dict)  # kind of device -> interpreter of its workers
    codes: Mapping[str, Code] = field(default_factory=dict)  # name of a revision -> where it is

    def attempts(self) -> list[Attempt]:
        """Return every attempt, in order."""
        return [a for group in self.groups for a in group]

    def to_json(self) -> str:
        """Return the text of ``plan.json``."""
        return json.dumps({"schema": SCHEMA, **dataclasses.asdict(self)}, indent=1, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str) -> Plan:
        """Read what :meth:`to_json` wrote.

        Raises:
            NewerSchema: if a newer siderostat wrote it.
            ValueError: if it is no plan; the text says why.
        """
        data = schemas.decode(text)
        schema = data.get("schema") if isinstance(data, dict) else None
        if isinstance(schema, int) and schema > SCHEMA:
            raise NewerSchema(f"{where} has schema {schema}; this siderostat reads up to {SCHEMA}: upgrade it")
        schemas.check(data, schemas.PLAN)
        values = {k: v for k, v in data.items() if k != "schema"}
        values["groups"] = [[Attempt.from_dict(a) for a in group] for group in values["groups"]]
        values["codes"] = {name: Code.from_dict(code) for name, code in values.get("codes", {}).items()}
        if values["grade"] not in GRADES:
            raise ValueError(f"no grade {values['grade']!r}")
        return cls(**values)

    def same_work(self, other: Plan) -> bool:
        """Say whether both plans ask for the same figures; memory limits, which follow the machine's state, aside."""
        return self._work() == other._work()

    def _work(self) -> tuple[Any, ...]:
        def stripped(attempt: Attempt) -> dict[str, Any]:
            data = dataclasses.asdict(attempt)
            data["protocol"].pop("memory_bytes")
            return data

        return self.grade, dict(self.pythons), dict(self.codes), [[stripped(a) for a in group] for group in self.groups]


def rounds(cell: Cell, grade: Grade) -> int:
    """Return how many processes a cell gets at most: one where all would tell the same."""
    if devices.adapter(devices.split(cell.device)[0]).is_exact:
        return 1
    return {
        THROUGHPUT: grade.most_rounds, QUALITY: grade.quality_rounds, TIME_TO_QUALITY: grade.least_rounds, CAPACITY: 1,
    }[cell.measure]  # fmt: skip


def paced(protocol: Protocol, device: str) -> Protocol:
    """Return the protocol with what the kind of device needs more of, such as longer bursts."""
    pace = devices.adapter(devices.split(device)[0]).pace
    return dataclasses.replace(protocol, **{name: max(getattr(protocol, name), least) for name, least in pace.items()})


def make(
    groups: Sequence[Sequence[Cell]],
    name: str,
    grade: Grade,
    seed: int,
    protocol: Protocol,
    budget_s: float | None = None,
    pythons: Mapping[str, str] | None = None,
    codes: Mapping[str, Code] | None = None,
) -> Plan:
    """Lay out every round of every group: the rounds outside, the groups shuffled within each.

    So each cell spans the whole session, and a drift of the machine hits all cells alike. What is trained to a
    quality comes after what is only timed, and what may run out of memory last, round by round.

    Args:
        groups: cells that are compared with each other, the first of each the reference; most are alone.
        name: of the plan.
        grade: how much evidence.
        seed: of the order, and of the weights.
        protocol: how a process measures where its device asks for no more; the memory is shared out within a group.
        budget_s: when to start nothing new.
        pythons: kind of device -> interpreter of its workers.
        codes: name of a revision of the code -> where it is.
    """
    pythons = pythons or {}
    shuffle = random.Random(seed)
    laid: list[list[Attempt]] = []
    for number in range(grade.most_rounds):
        due = [group for group in groups if number < max(rounds(cell, grade) for cell in group)]
        for group in sorted(shuffle.sample(due, len(due)), key=lambda g: _ORDER.index(g[0].measure)):
            laid.append([_attempt(cell, group, number, seed, grade, protocol, pythons) for cell in group])
    return Plan(name, grade.name, seed, laid, budget_s, dict(pythons), dict(codes or {}))


_ORDER = (THROUGHPUT, QUALITY, TIME_TO_QUALITY, CAPACITY)


def _attempt(
    cell: Cell,
    group: Sequence[Cell],
    number: int,
    seed: int,
    grade: Grade,
    protocol: Protocol,
    pythons: Mapping[str, str],
) -> Attempt:
    """Return one attempt. Devices with an interpreter of their own start cold: it cannot be forked from this one."""
    kind = devices.split(cell.device)[0]
    start = "cold" if kind in pythons or devices.adapter(kind).must_start_cold else grade.start
    reference = group[0].key() if len(group) > 1 else None
    return Attempt(cell, number, seed + number, start, _share(paced(protocol, cell.device), len(group)), 0, reference)


def _share(protocol: Protocol, number: int) -> Protocol:
    """Return the protocol of one of ``number`` processes that are alive together."""
    if protocol.memory_bytes is None:
        return protocol
    return dataclasses.replace(protocol, memory_bytes=protocol.memory_bytes // number)
