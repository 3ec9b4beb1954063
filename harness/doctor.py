"""Looks at this machine: what the main job needs, what will disturb it, and how to mend each."""

from __future__ import annotations

import importlib.util
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from siderostat import contention, devices, provenance
from siderostat.child import Lost, ask_once
from siderostat.devices.cpu import usable_cores
from siderostat.record import Provenance

_ASK_S = 60.0
_LOOK_S = 1.0
_LEAST_DISK_BYTES = 500_000_000
_LEAST_MEMORY_BYTES = 2_000_000_000
_NEEDED = {
    "torch": "torch",
    "galsim": "sky",
    "altair": "report",
    "vl_convert": "report",
    "jinja2": "report",
    "PIL": "report",
}
_FURTHER = {"tensorflow": "tensorflow", "tf_keras": "tensorflow", "tensorflow_probability": "tensorflow"}


@dataclass(frozen=True)
class Finding:
    """One thing seen.

    ``level`` is ``ok``, ``note`` (know it), ``disturbs`` (figures suffer) or ``missing`` (the main job fails).
    """

    level: str
    what: str
    fix: str = ""


def examine() -> list[Finding]:
    """Return all findings, in the order of asking."""
    return [*_packages(), *_devices(), *_room(), *_quiet(), *_hardware()]


def describe_device(name: str) -> tuple[dict[str, Any], str]:
    """Return what a device says of itself, and the reason why it is not available (empty where it is)."""
    try:
        return ask_once({"do": "describe", "device": name}, _ASK_S), ""
    except Lost as lost:
        return {}, lost.detail


def _packages() -> Iterator[Finding]:
    for level, packages in (("missing", _NEEDED), ("note", _FURTHER)):
        for package, extra in packages.items():
            if importlib.util.find_spec(package) is None:
                yield Finding(level, f"the package {package} is not installed", f"pip install 'siderostat[{extra}]'")
    versions = provenance.environment()["packages"]
    yield Finding("ok", "packages: " + ", ".join(f"{name} {version}" for name, version in versions.items()))


def _devices() -> Iterator[Finding]:
    for kind in devices.kinds():
        about, missing = describe_device(kind)
        if missing:
            yield Finding("note", f"device {kind} is not available: {missing}")
        else:
            yield Finding("ok", f"device {kind}: " + ", ".join(f"{key} {value}" for key, value in about.items()))
            yield from _meters(kind)


def _meters(kind: str) -> Iterator[Finding]:
    """Say from what the energy of a device can be read, or why it cannot."""
    if devices.adapter(kind).provenance is not Provenance.MEASURED:
        return
    try:
        meters = ask_once({"do": "meters", "device": kind}, _ASK_S)["energy"]
    except Lost as lost:
        yield Finding("note", f"energy of {kind}: {lost.detail}")
        return
    for meter in meters:
        if meter["provenance"] is None:
            yield Finding("note", f"energy of {kind}: {meter['status']}: {meter['reason']}", meter["remedy"])
        else:
            period = f", updated every {meter['update_period_s']:.3g} s" if meter["update_period_s"] else ""
            yield Finding("ok", f"energy of {kind}: {meter['source']}, scope {meter['scope']}{period}")


def _room() -> Iterator[Finding]:
    from siderostat.workloads import cache

    memory = provenance.available_memory_bytes()
    level = "ok" if memory >= _LEAST_MEMORY_BYTES else "disturbs"
    yield Finding(
        level, f"{memory / 1e9:.1f} GB of memory are free", "" if level == "ok" else "close what holds memory"
    )
    for name, path, remedy in (
        ("here, for run folders", Path.cwd(), "run elsewhere, or name a folder with -o"),
        (f"in the cache {cache.root()}", cache.root(), "set SIDEROSTAT_CACHE to a folder with room"),
    ):
        there = next(p for p in (path, *path.parents) if p.exists())
        free = shutil.disk_usage(there).free
        if not os.access(there, os.W_OK):
            yield Finding("missing", f"no permission to write {name}", remedy)
        elif free < _LEAST_DISK_BYTES:
            yield Finding("missing", f"only {free / 1e6:.0f} MB of disk are free {name}", remedy)
        else:
            yield Finding("ok", f"{free / 1e9:.1f} GB of disk are free {name}")


def _quiet() -> Iterator[Finding]:
    """Look for a second at what others do on this machine, this process asleep."""
    watch = contention.Watch()
    time.sleep(_LOOK_S)
    load = watch.load()
    for share, limit, name in (
        ("pressure", contention.PRESSURE, "tasks waited for a processor"),
        ("steal", contention.STEAL, "the hypervisor took processors away"),
    ):
        if share not in load:
            yield Finding(
                "note", f"this system does not tell how often {name}: contention will be noticed by CPU time alone"
            )
        elif load[share] > limit:
            yield Finding("disturbs", f"{name} for {load[share]:.0%} of a second", "stop other work, or measure later")
        else:
            yield Finding("ok", f"{name} for {load[share]:.0%} of a second")
    busy = os.getloadavg()[0]
    if busy > 0.5 * usable_cores():
        yield Finding(
            "note",
            f"the load average of the last minute is {busy:.1f} on {usable_cores()} cores",
            "let other work finish first",
        )


def _hardware() -> Iterator[Finding]:
    about = provenance.environment()
    if about["governor"] not in (None, "performance"):
        yield Finding(
            "disturbs",
            f"the frequency governor is {about['governor']}",
            "cpupower frequency-set -g performance (administrator)",
        )
    if about["virtualised"]:
        yield Finding(
            "note",
            f"this is a virtual machine ({about['virtualised']}), where neighbours may disturb",
            "compare side by side, not across hours",
        )
    resolution = time.get_clock_info("perf_counter").resolution
    level = "ok" if resolution <= 1e-6 else "disturbs"
    yield Finding(level, f"the clock resolves {resolution * 1e9:g} ns")
