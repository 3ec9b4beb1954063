"""From flags to a plan: shared by ``run`` and ``plan``."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from siderostat import config, devices, plan, provenance
from siderostat.child import Lost, ask_once
from siderostat.errors import BadValue
from siderostat.plan import GRADES, Grade, Plan
from siderostat.record import CAPACITY, QUALITY, THROUGHPUT, TIME_TO_QUALITY, Cell, Code, Protocol, Status

_IPU_MODEL = "sim:graphcore-gc2"  # the chip of the paper, put in the place of an IPU that is not here
_ASK_S = 60.0
_TOUR_BUDGET_S = 100.0  # so that the tour and its report end within two minutes on a slow machine too
_AXIS_FLAGS = {
    "variants": "variant", "modes": "mode", "frameworks": "framework", "sizes": "size", "precisions": "precision",
}  # fmt: skip
_FLAGS = (
    "workload", "device", "batch", *_AXIS_FLAGS.values(), "set", "compare", "quality", "to_quality", "find_capacity",
    "grade", "seed", "budget", "timeout", "memory", "energy_window", "estimate_energy",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Asked:
    """What flags and sweep file ask for: the arguments of :func:`siderostat.plan.make`."""

    groups: list[list[Cell]]
    name: str
    grade: Grade
    seed: int
    protocol: Protocol
    budget_s: float | None
    pythons: Mapping[str, str]


def make_plan(arguments: argparse.Namespace) -> Plan:
    """Return the plan that flags and sweep file ask for.

    Raises:
        UnknownName, BadValue: if a name or value cannot be used.
    """
    if arguments.sweep and arguments.sweep.endswith(".json"):
        refuse_flags(arguments, f"{arguments.sweep} is a plan, which says all that is measured and how")
        return _stored_plan(arguments)
    asked = ask_for(arguments)
    return plan.make(asked.groups, asked.name, asked.grade, asked.seed, asked.protocol, asked.budget_s, asked.pythons)


def ask_for(arguments: argparse.Namespace) -> Asked:
    """Return what flags and sweep file ask for.

    Raises:
        UnknownName, BadValue: if a name or value cannot be used.
    """
    sweep = config.read(Path(arguments.sweep)) if arguments.sweep else config.Sweep(name=arguments.workload or "tour")
    is_tour = not arguments.sweep and not arguments.workload
    sweep = dataclasses.replace(sweep, tables=_tables(arguments, sweep))
    grade = GRADES[config.grade_name(arguments.grade or sweep.grade)]
    budget_s = config.parse_duration(arguments.budget, "--budget: ") if arguments.budget else sweep.budget_s
    if budget_s is None and is_tour and grade.name == "quick":
        budget_s = _TOUR_BUDGET_S
    timeout_s = config.parse_duration(arguments.timeout, "--timeout: ") if arguments.timeout else sweep.timeout_s
    protocol = Protocol(
        burst_s=_burst_s(arguments),
        timeout_s=timeout_s or Protocol.timeout_s,
        warmup_limit_s=grade.warmup_limit_s,
        memory_bytes=_memory_bytes(arguments),
        nameplate_w=_nameplate_w(arguments),
    )
    seed = sweep.seed if arguments.seed is None else arguments.seed
    groups = _with_ipu(config.groups(sweep), sweep.pythons)
    return Asked(groups, sweep.name, grade, seed, protocol, budget_s, sweep.pythons)


def _with_ipu(groups: list[list[Cell]], pythons: Mapping[str, str]) -> list[list[Cell]]:
    """Return the cells with an IPU that is not here modelled instead, and say so; an emulator is never put there."""
    named = {cell.device for group in groups for cell in group if devices.split(cell.device)[0] == "ipu"}
    instead = {}
    for device in sorted(named):
        try:
            ask_once({"do": "describe", "device": device}, _ASK_S, Code(python=pythons.get("ipu", "")))
        except Lost as lost:
            if lost.status is not Status.UNAVAILABLE or "emulator" in devices.split(device)[2]:
                continue  # the cells will say it
            instead[device] = _IPU_MODEL
            print(f"siderostat: {device}: {lost.detail}. It is modelled instead, as {_IPU_MODEL}.", file=sys.stderr)
    replaced = [
        [dataclasses.replace(cell, device=instead.get(cell.device, cell.device)) for cell in group] for group in groups
    ]
    return list({tuple(cell.key() for cell in group): group for group in replaced}.values())


def _burst_s(arguments: argparse.Namespace) -> float:
    """Return the least length of a burst: each is a window of energy, where there is a meter."""
    if not arguments.energy_window:
        return Protocol.burst_s
    return max(Protocol.burst_s, config.parse_duration(arguments.energy_window, "--energy-window: "))


def _memory_bytes(arguments: argparse.Namespace) -> int:
    """Return what the workers that are alive together may allocate."""
    free = provenance.worker_memory_bytes()
    return min(free, config.parse_bytes(arguments.memory, "--memory: ")) if arguments.memory else free


def _nameplate_w(arguments: argparse.Namespace) -> float | None:
    return config.parse_watts(arguments.estimate_energy, "--estimate-energy: ") if arguments.estimate_energy else None


def refuse_flags(arguments: argparse.Namespace, because: str) -> None:
    """Refuse flags that would be ignored.

    Raises:
        BadValue: if a flag that says what or how to measure is given.
    """
    for name in _FLAGS:
        if getattr(arguments, name) is not False and getattr(arguments, name) not in (None, []):
            raise BadValue(f"{because}; leave --{name.replace('_', '-')} out")


def _stored_plan(arguments: argparse.Namespace) -> Plan:
    path = Path(arguments.sweep)
    try:
        return Plan.from_json(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise BadValue(f"cannot read the plan {path}: {error.strerror}") from None
    except ValueError as error:
        raise BadValue(f"{path} is not a plan ({error}); 'siderostat plan -o {path}' writes one") from None


def _tables(arguments: argparse.Namespace, sweep: config.Sweep) -> list[Mapping[str, Any]]:
    """Return the sweep's tables with the flags laid over each."""
    tables: list[Mapping[str, Any]] = list(sweep.tables or config.tour())
    if arguments.workload:
        names = _names(arguments.workload)
        chosen = [t for t in tables if t.get("workload", config.DEFAULT_WORKLOAD) in names]
        tables = chosen if sweep.tables and chosen else [{"workload": name} for name in names]
    over: dict[str, Any] = {
        axis: _names(value) for axis, flag in _AXIS_FLAGS.items() if (value := getattr(arguments, flag))
    }
    if arguments.device:
        over["devices"] = arguments.device
    if arguments.batch:
        over["batches"] = config.parse_batches(arguments.batch, "-b: ")
    if arguments.compare:
        over["compare"] = arguments.compare
    further = [QUALITY] * arguments.quality + [CAPACITY] * arguments.find_capacity
    if arguments.to_quality:
        over["measures"] = [TIME_TO_QUALITY, *further]
    elif further:
        over["measures"] = [THROUGHPUT, *further]
    options = dict(option_pair(text) for text in arguments.set)
    return [{**t, **over, "options": {**t.get("options", {}), **options}} for t in tables]


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def option_pair(text: str) -> tuple[str, str]:
    """Return name and value of ``--set NAME=VALUE``.

    Raises:
        BadValue: if there is no equals sign.
    """
    name, equals, value = text.partition("=")
    if not equals:
        raise BadValue(f"--set {text}: write NAME=VALUE")
    return name, value
