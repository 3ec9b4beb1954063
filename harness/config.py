"""What the user asks for: flags and a TOML file become a :class:`Sweep`, a :class:`Sweep` becomes cells.

A sweep file::

    name = "shapes on two thread counts"
    grade = "ci"                      # quick, ci or publish
    seed = 0
    budget = "10m"                    # stop starting new measurements after this
    timeout = "300s"                  # longest silence of a worker

    [[sweep]]
    workload = "galaxy-shape"
    devices = ["cpu:threads=1", "cpu:threads=2"]
    batches = "1..64x2"               # or [1, 2, 4]
    options = { images = 1024 }       # variants, modes, frameworks, sizes, precisions: lists too
    measures = ["throughput", "quality"]  # or "time-to-quality", "capacity"
    compare = ["torch", "tensorflow"] # sides that are measured in lock-step, the first the reference

    [devices.cpu]
    python = "/opt/other/bin/python"  # interpreter of this device's workers
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomllib

from siderostat import devices, workloads
from siderostat.errors import BadValue, UnknownName
from siderostat.plan import GRADES
from siderostat.record import CAPACITY, MEASURES, QUALITY, THROUGHPUT, TIME_TO_QUALITY, Cell
from siderostat.workloads.base import Option, Workload

TOUR: Sequence[Mapping[str, Any]] = (
    {"workload": "galaxy-shape", "batches": [2, 8, 14], "devices": ["cpu", "sim:graphcore-gc2"]},
    {"workload": "galaxy-shape", "modes": ["infer"], "measures": [QUALITY]},
    {"workload": "galaxy-sampler", "batches": [1, 10], "measures": [THROUGHPUT, QUALITY]},
    {"workload": "galaxy-images", "batches": [64]},
)
"""What is measured when nothing is named."""


def tour() -> list[Mapping[str, Any]]:
    """Return the tables of the tour, on the CPU, on what else may be on this machine, and on a simulated IPU."""
    found = [kind for kind in devices.kinds() if devices.adapter(kind).may_be_here()]
    return [{**table, "devices": [*table.get("devices", ["cpu"]), *found]} for table in TOUR]


DEFAULT_WORKLOAD = "galaxy-shape"  # the workload of a table that names none
AXES = ("variants", "modes", "frameworks", "devices", "batches", "sizes", "precisions")
_TABLE_KEYS = ("workload", *AXES, "options", "measures", "compare")
_TOP_KEYS = ("name", "grade", "seed", "budget", "timeout", "sweep", "devices")
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}
_BYTES = {"MB": 10**6, "GB": 10**9, "MiB": 2**20, "GiB": 2**30}


@dataclass(frozen=True)
class Sweep:
    """Everything that decides a plan. Values still unset (None) take the default of the command or the workload."""

    name: str = "sweep"
    grade: str | None = None
    seed: int = 0
    budget_s: float | None = None
    timeout_s: float | None = None
    tables: Sequence[Mapping[str, Any]] = ()
    pythons: Mapping[str, str] = field(default_factory=dict)
    where: str = ""  # prefix of messages about the tables


def parse_duration(text: str, where: str = "") -> float:
    """Return seconds: ``90``, ``90s``, ``1.5m``, ``2h``.

    Raises:
        BadValue: if it is none of these.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", str(text).strip())
    if match is None or float(match[1]) == 0:
        raise BadValue(f"{where}{text!r} is no duration; write 90s, 1.5m or 2h")
    return float(match[1]) * _UNITS[match[2]]


def parse_bytes(text: str, where: str = "") -> int:
    """Return bytes: ``1500MB``, ``2GB``, ``1.5GiB``.

    Raises:
        BadValue: if it is none of these.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([MG]i?B)", text.strip())
    if match is None or float(match[1]) == 0:
        raise BadValue(f"{where}{text!r} is no amount of memory; write 1500MB, 2GB or 1.5GiB")
    return int(float(match[1]) * _BYTES[match[2]])


def parse_watts(text: str, where: str = "") -> float:
    """Return watts: ``120``, ``120W``.

    Raises:
        BadValue: if it is neither.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?W?", text.strip())
    if match is None or float(match[1]) == 0:
        raise BadValue(f"{where}{text!r} is no power; write 120W, as the data sheet of the processors gives it")
    return float(match[1])


def parse_batches(value: Any, where: str = "") -> list[int]:
    """Return batch sizes from a list, ``1,8,64`` or ``1..256x2`` (from 1 to 256, doubling).

    Raises:
        BadValue: if it is none of these, or a size is not a whole number of at least 1.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        value = [value]
    if isinstance(value, str):
        value = [x for part in value.split(",") for x in _batch_range(part.strip(), where)]
    if not isinstance(value, list) or not value or any(type(b) is not int or b < 1 for b in value):
        raise BadValue(f"{where}batch sizes are whole numbers of at least 1, such as 1,8,64 or 1..256x2; got {value!r}")
    return list(dict.fromkeys(value))


def _batch_range(part: str, where: str) -> list[int]:
    if part.isdigit():
        return [int(part)]
    match = re.fullmatch(r"(\d+)\.\.(\d+)x(\d+)", part)
    if match is None or int(match[1]) < 1 or int(match[3]) < 2 or int(match[2]) < int(match[1]):
        raise BadValue(f"{where}{part!r} is no batch size; write 8, or a range such as 1..256x2")
    first, last, factor = (int(g) for g in match.groups())
    sizes = itertools.takewhile(lambda b: b <= last, (first * factor**i for i in itertools.count()))
    return list(sizes)


def read(path: Path) -> Sweep:
    """Read a sweep file.

    Raises:
        BadValue: if it cannot be read, is no TOML, or a value has the wrong kind.
        UnknownName: if a key or a name is not known; the text gives file, line and the nearest match.
    """
    try:
        text = path.read_text(encoding="utf-8")
        data = tomllib.loads(text)
    except OSError as error:
        raise BadValue(f"cannot read the sweep file {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadValue(f"{path}: not valid TOML: {error}") from None
    _check_keys(data, _TOP_KEYS, path, text, "")
    tables = data.get("sweep", [])
    if not isinstance(tables, list) or not all(isinstance(t, dict) for t in tables):
        raise BadValue(f"{path}: 'sweep' is a list of tables: write [[sweep]]")
    for number, table in enumerate(tables):
        _check_keys(table, _TABLE_KEYS, path, text, "[[sweep]]", number)
    return Sweep(
        name=str(data.get("name", path.stem)),
        grade=data.get("grade"),
        seed=_whole(data.get("seed", 0), f"{path}: seed"),
        budget_s=parse_duration(data["budget"], f"{path}: budget: ") if "budget" in data else None,
        timeout_s=parse_duration(data["timeout"], f"{path}: timeout: ") if "timeout" in data else None,
        tables=tables,
        pythons=_pythons(data.get("devices", {}), path, text),
        where=f"{path}: ",
    )


def _whole(value: Any, where: str) -> int:
    if type(value) is not int:
        raise BadValue(f"{where} is a whole number; got {value!r}")
    return value


def _pythons(tables: Mapping[str, Any], path: Path, text: str) -> dict[str, str]:
    pythons = {}
    for kind, table in tables.items():
        if kind not in devices.kinds():
            raise UnknownName("device", kind, devices.kinds(), f"{path}:{_line(text, kind)}: ")
        _check_keys(table, ("python",), path, text, f"[devices.{kind}]")
        pythons[kind] = str(table["python"])
    return pythons


def _check_keys(
    table: Mapping[str, Any], allowed: Sequence[str], path: Path, text: str, head: str, number: int = 0
) -> None:
    for key in table:
        if key not in allowed:
            inside = f" in {head}" if head else ""
            raise UnknownName("key", key, allowed, f"{path}:{_line(text, key, head, number)}: ", inside)


def _line(text: str, word: str, head: str = "", number: int = 0) -> int:
    """Return the line where ``word`` stands behind the ``number``-th ``head``, for messages only."""
    lines = text.splitlines()
    heads = [i for i, line in enumerate(lines) if head and line.strip() == head]
    start = heads[number] if number < len(heads) else 0
    pattern = re.compile(rf"(^|[\s{{.\"']){re.escape(word)}[\"']?\s*[=\].]")
    return next((i + 1 for i in range(start, len(lines)) if pattern.search(lines[i])), start + 1)


def groups(sweep: Sweep) -> list[list[Cell]]:
    """Return every cell of a sweep, those that are compared together, and null workloads for the harness's own time.

    Raises:
        UnknownName: if a workload, device, option, value of an axis or side is not known.
        BadValue: if a value has the wrong kind, or a cell would be compared with two references.
    """
    found: list[list[Cell]] = []
    for table in sweep.tables or TOUR:
        found += _table_groups(table, sweep.where)
    if not found:
        raise BadValue(f"{sweep.where}nothing to measure: none of these steps has a goal that it could be trained to")
    null = workloads.load("null")
    measured = {_null_device(cell.device): None for group in found for cell in group if cell.measure == THROUGHPUT}
    found += [[_cell(null, device, null.batches[0], {})] for device in measured]
    return _merged(found, sweep.where)


def _null_device(device: str) -> str:
    """Return where the harness's own time is measured: on the device or, where no NumPy runs on it, on its host."""
    return device if devices.adapter(devices.split(device)[0]).runs_numpy else "cpu"


def _merged(found: Sequence[Sequence[Cell]], where: str) -> list[list[Cell]]:
    """Return groups in which each cell is once: those of one reference together, none alone that is compared too."""
    compared: dict[str, dict[str, Cell]] = {}
    for group in found:
        if len(group) > 1:
            compared.setdefault(group[0].key(), {}).update({cell.key(): cell for cell in group})
    held = [key for members in compared.values() for key in members]
    for key in held:
        if held.count(key) > 1:
            cell = next(cell for members in compared.values() for k, cell in members.items() if k == key)
            raise BadValue(
                f"{where}{cell.workload} on {cell.device} with {cell.framework}, batch {cell.batch}, would be compared "
                "with two references; measure the comparisons in two runs"
            )
    merged: dict[str, list[Cell]] = {}
    for group in found:
        reference = group[0].key()
        if reference in compared:
            merged[reference] = list(compared[reference].values())
        elif reference not in held:
            merged[reference] = list(group)
    return list(merged.values())


def grade_name(name: str | None) -> str:
    """Return the name of a grade, ``quick`` for None.

    Raises:
        UnknownName: if there is no such grade.
    """
    if name is not None and name not in GRADES:
        raise UnknownName("grade", str(name), GRADES)
    return name or "quick"


def _table_groups(table: Mapping[str, Any], where: str) -> list[list[Cell]]:
    """Return the cells of one table, each alone or, where the table compares, with its like on the other sides."""
    cells = _table_cells(table, where)
    if "compare" not in table:
        return [[cell] for cell in cells]
    workload = load_workload(table.get("workload", DEFAULT_WORKLOAD), where)
    texts = table["compare"]
    if not isinstance(texts, list) or len(texts) < 2 or not all(isinstance(text, str) for text in texts):
        raise BadValue(
            f"{where}a comparison has at least two sides, such as cpu:threads=1 cpu:threads=2; got {texts!r}"
        )
    found: list[list[Cell]] = []
    for cell in cells:
        if cell.measure != THROUGHPUT:
            found.append([cell])
            continue
        group = [_on_side(cell, text, workload, where) for text in texts]
        if len({one.key() for one in group}) < len(group):
            raise BadValue(f"{where}two sides of the comparison {' '.join(texts)} are the same thing")
        found.append(group)
    return found


def _on_side(cell: Cell, text: str, workload: Workload, where: str) -> Cell:
    """Return the cell with what one side of a comparison says: ``tensorflow``, ``cuda:1+bf16``, ``threads=2``."""
    for name in text.split("+"):
        change: dict[str, Any]
        if devices.split(name)[0] in devices.kinds():
            change = {"device": check_devices(name, where)[0]}
        elif "=" in name:
            change = {"device": check_devices(f"{cell.device}{',' if '=' in cell.device else ':'}{name}", where)[0]}
        elif name in workload.frameworks:
            change = {"framework": name}
        elif name in workload.precisions:
            change = {"precision": name}
        elif name in workload.variants:
            change = {"variant": name}
        else:
            sides = [*devices.kinds(), *workload.frameworks, *workload.precisions, *workload.variants, "SETTING=VALUE"]
            raise UnknownName("side", name, sides, where, f" of the comparison of {workload.name}")
        cell = dataclasses.replace(cell, **change)
    return cell


def _table_cells(table: Mapping[str, Any], where: str) -> list[Cell]:
    name = table.get("workload", DEFAULT_WORKLOAD)
    workload = load_workload(name, where)
    allowed = {
        "variants": list(workload.variants),
        "modes": list(workload.modes),
        "frameworks": list(workload.frameworks),
        "precisions": list(workload.precisions),
        "sizes": list(dict.fromkeys(size for sizes in workload.variants.values() for size in sizes)),
    }
    axes = {axis: _choose(table.get(axis), axis, choices, f"{where}{name}: ") for axis, choices in allowed.items()}
    batches = parse_batches(table["batches"], where) if "batches" in table else None
    measures = _choose(table.get("measures"), "measures", MEASURES, f"{where}{name}: ")
    found = []
    for measure, variant, mode in itertools.product(measures, axes["variants"], axes["modes"]):
        sizes = [size for size in axes["sizes"] if size in workload.variants[variant]]
        due, given = _due(workload, measure, variant, mode, batches)
        options = _options(workload, {**given, **table.get("options", {})}, f"{where}{name}: ")
        for framework, precision, size, device, batch in itertools.product(
            axes["frameworks"], axes["precisions"], sizes, check_devices(table.get("devices"), where), due
        ):
            found.append(
                _cell(
                    workload,
                    device,
                    batch,
                    options,
                    variant=variant,
                    mode=mode,
                    framework=framework,
                    size=size,
                    precision=precision,
                    measure=measure,
                )
            )
    return found


def _due(
    workload: Workload, measure: str, variant: str, mode: str, batches: Sequence[int] | None
) -> tuple[Sequence[int], Mapping[str, Any]]:
    """Return the batch sizes that are due, and the options that go with them in place of the workload's defaults.

    A fixed budget means the same only at one batch size: the goal's, whatever is asked for. The search for the largest
    batch begins with the largest that is asked for.
    """
    if measure == THROUGHPUT:
        return batches or workload.batches_of(variant, mode), {}
    if measure == CAPACITY:
        return (max(batches or workload.batches_of(variant, mode)),), {}
    goal = workload.goal(variant, mode)
    if goal is None or (measure == TIME_TO_QUALITY and not goal.budget):
        return (), {}
    return (batches if measure == TIME_TO_QUALITY and batches else (goal.batch,)), goal.options


def _cell(workload: Workload, device: str, batch: int, options: Mapping[str, Any], **axes: str) -> Cell:
    variant = axes.get("variant", next(iter(workload.variants)))
    return Cell(
        workload=workload.name,
        variant=variant,
        mode=axes.get("mode", workload.modes[0]),
        framework=axes.get("framework", workload.frameworks[0]),
        device=device,
        batch=batch,
        size=axes.get("size", next(iter(workload.variants[variant]))),
        precision=axes.get("precision", workload.precisions[0]),
        options=dict(options),
        measure=axes.get("measure", THROUGHPUT),
    )


def load_workload(name: str, where: str = "") -> Workload:
    """Load a workload by name or ``file.py:Class``.

    Raises:
        UnknownName: if there is none.
        BadValue: if the file has none.
    """
    try:
        return workloads.load(name)
    except LookupError as error:
        if ".py:" in name or name in workloads.names():
            raise BadValue(f"{where}{error}") from None
        raise UnknownName("workload", name, workloads.names(), where) from None


def _choose(value: Any, axis: str, choices: Sequence[str], where: str) -> list[str]:
    """Return the values asked for on one axis; by default the first choice alone."""
    if value is None:
        return list(choices[:1])
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not values:
        raise BadValue(f"{where}{axis} is a list of names; got {value!r}")
    for one in values:
        if one not in choices:
            raise UnknownName(axis.removesuffix("s"), str(one), choices, where)
    return list(dict.fromkeys(values))


def check_devices(value: Any, where: str = "") -> list[str]:
    """Return the names of devices, each once; the CPU where none is named.

    Raises:
        UnknownName: if there is no such device, or it has no such setting.
        BadValue: if a setting has a value that cannot be.
    """
    names = ["cpu"] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
        raise BadValue(f"{where}devices is a list of names; got {value!r}")
    names = [_with_absolute_files(name) for name in names]
    for name in names:
        kind, _, settings = devices.split(name)
        if kind not in devices.kinds():
            raise UnknownName("device", kind, devices.kinds(), where)
        known = devices.adapter(kind).settings_help
        for key in settings:
            if key not in known:
                raise UnknownName("setting", key, known, where, f" of device {kind!r}")
        try:
            devices.load(name)
        except ValueError as error:
            raise BadValue(f"{where}device {name!r}: {error}") from None
    return list(dict.fromkeys(names))


def _with_absolute_files(name: str) -> str:
    """Return a device's name with the paths of specifications made absolute: a run can be resumed from any folder."""
    return re.sub(r"[^:,=]+\.toml", lambda path: str(Path(path[0]).resolve()), name)


def _options(workload: Workload, given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the workload's options, the given ones typed like their defaults."""
    options = {key: option.default for key, option in workload.options.items()}
    for key, value in given.items():
        if key not in workload.options:
            raise UnknownName("option", key, workload.options, where)
        options[key] = _typed(value, workload.options[key], f"{where}option {key!r}: ")
    return options


def _typed(value: Any, option: Option, where: str) -> Any:
    kind = type(option.default)
    try:
        if kind is bool and isinstance(value, str):
            return {"true": True, "false": False}[value.lower()]
        if kind is int and isinstance(value, str):
            return int(value)
        if kind is float:
            return float(value)
    except (ValueError, KeyError):
        raise BadValue(f"{where}{value!r} is not of the kind {kind.__name__}") from None
    if type(value) is not kind:
        raise BadValue(f"{where}{value!r} is not of the kind {kind.__name__}")
    return str(Path(value).resolve()) if option.is_path and value else value
