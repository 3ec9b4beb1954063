"""``siderostat list``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from siderostat import devices, workloads
from siderostat.config import load_workload
from siderostat.errors import DONE, BadValue, UnknownName
from siderostat.words import plural


def main(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    """Print workloads or devices: all of them in short, or those that are named with what can be asked of them.

    Raises:
        UnknownName: if there is none of a name.
    """
    known = workloads.names() if arguments.what == "workloads" else devices.kinds()
    for name in arguments.names:
        if name not in known and ".py:" not in name:
            raise UnknownName(arguments.what.removesuffix("s"), name, known)
    make = {"workloads": _workloads, "devices": _devices}[arguments.what]
    rows = make(arguments.names or known)
    if arguments.json:
        print(json.dumps(rows, indent=1))
        return DONE
    is_short = arguments.what == "workloads" and not arguments.names
    for row in rows:
        print(f"{row['name']}: {row['title']}")
        for line in () if is_short else {"workloads": _workload_lines, "devices": _device_lines}[arguments.what](row):
            print(f"    {line}")
    if is_short:
        print("what can be asked of one: siderostat list workloads NAME")
    return DONE


def _workload_lines(row: dict[str, Any]) -> Iterator[str]:
    """Yield what one needs to know to ask for a workload."""
    yield "; ".join(f"{axis}: {', '.join(row[axis])}" for axis in ("modes", "frameworks", "precisions"))
    alike: dict[str, list[str]] = {}
    for variant, sizes in row["variants"].items():
        alike.setdefault(json.dumps(sizes), []).append(variant)
    for text, variants in alike.items():
        yield f"variants: {', '.join(variants)}"
        for name, size in json.loads(text).items():
            yield f"    size {name}{_parameters(size)}"
    for mode in row["modes"]:
        groups: dict[str, list[str]] = {}
        for variant, batches in row["batches"][mode].items():
            groups.setdefault(", ".join(map(str, batches)), []).append(variant)
        for batches, variants in groups.items():
            yield f"batches in {mode}, {', '.join(variants)}: {batches}"
        for variant, goal in row["goals"][mode].items():
            budget = (
                f" within {goal['budget']:,} {plural(row['item'])}, batch {goal['batch']}" if goal["budget"] else ""
            )
            yield f"goal in {mode}, {variant}: {goal['figure']} {goal['target']:g}{budget}"
    for name, option in row["options"].items():
        yield f"--set {name}={option['default']}: {option['help']}"
    if row["reference"]:
        yield f"after {row['reference']}"


def _parameters(size: dict[str, Any]) -> str:
    if not size["parameters"]:
        return ""
    parts = "".join(f", {name} {count:,}" for name, count in size["parts"].items())
    return f" with {size['parameters']:,} parameters, {size['trainable']:,} trained{parts}"


def _device_lines(row: dict[str, Any]) -> Iterator[str]:
    for key, value in row.items():
        if key not in ("name", "title") and value:
            yield f"{key}: {_text(value)}"


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(f"{k}: {_text(v)}" for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else str(value)


def _workloads(names: Sequence[str]) -> list[dict[str, Any]]:
    rows = []
    for name in names:
        try:
            workload = load_workload(name)
        except BadValue as error:  # a package's own fault must not hide the others
            print(f"siderostat: {error}", file=sys.stderr)
            continue
        rows.append({
            "name": name,
            "title": workload.title,
            "item": workload.item,
            "frameworks": list(workload.frameworks),
            "modes": list(workload.modes),
            "precisions": list(workload.precisions),
            "batches": {
                mode: {variant: list(workload.batches_of(variant, mode)) for variant in workload.variants}
                for mode in workload.modes
            },
            "goals": {
                mode: {v: asdict(goal) for v in workload.variants if (goal := workload.goal(v, mode)) is not None}
                for mode in workload.modes
            },
            "variants": {v: {s: asdict(size) for s, size in sizes.items()} for v, sizes in workload.variants.items()},
            "options": {key: {"default": o.default, "help": o.help} for key, o in workload.options.items()},
            "reference": workload.reference,
        })  # fmt: skip
    return rows


def _devices(kinds: Sequence[str]) -> list[dict[str, Any]]:
    from siderostat.doctor import describe_device

    rows = []
    for kind in kinds:
        adapter = devices.adapter(kind)
        about, missing = describe_device(kind)
        rows.append({
            "name": kind,
            "title": adapter.title,
            "clock": adapter.clock,
            "provenance": adapter.provenance.value,
            "settings": dict(adapter.settings_help),
            "available": not missing,
            "reason": missing,
            "about": about,
        })  # fmt: skip
    return rows
