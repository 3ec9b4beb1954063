"""What airspeed velocity (asv) calls a series, exported to it or measured by it: the same.

A benchmark is a workload, a variant and a mode, such as ``galaxy_shape.Dnn.time_train``: what one set of charts of a
report holds. All else that tells two cells apart is a parameter, so that its values are the lines of asv's graph. asv
takes such a name apart into module, class and method: a suite that measures it has them by these names.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from pathlib import PurePath

from siderostat.record import Cell

VERSION = "1"
"""Of all series. asv sets results of another version aside: raise it when figures can no longer be compared."""

PARAMETERS = ("framework", "device", "precision", "size", "options", "batch")


def benchmark(cell: Cell) -> str:
    """Return the benchmark's name: module, class and method, joined by dots."""
    return f"{module(cell)}.{class_name(cell)}.{method(cell)}"


def module(cell: Cell) -> str:
    """Return the module's name: that of the workload, or of the file that it is in."""
    path, is_file, _ = cell.workload.rpartition(".py:")
    return _underscored(PurePath(path).name if is_file else cell.workload)


def class_name(cell: Cell) -> str:
    """Return the class's name: that of the variant, after the workload's own where it is in a file."""
    _, is_file, attribute = cell.workload.rpartition(".py:")
    return (attribute if is_file else "") + "".join(w[0].upper() + w[1:] for w in re.findall(r"\w+", cell.variant))


def method(cell: Cell) -> str:
    """Return the method's name."""
    return f"time_{_underscored(cell.mode)}"


def point(cell: Cell) -> tuple[str | int, ...]:
    """Return the value of each of :data:`PARAMETERS`."""
    device = cell.device if cell.devices == 1 else f"{cell.devices} x {cell.device}"
    given = {name: value for name, value in cell.options.items() if value not in ("", None)}
    options = ", ".join(f"{name}={given[name]}" for name in sorted(given))
    return cell.framework, device, cell.precision, cell.size, options, cell.batch


def axes(cells: Iterable[Cell]) -> list[list[str | int]]:
    """Return the values of each parameter, numbers by size, the others in order of appearance."""
    values = [list(dict.fromkeys(axis)) for axis in zip(*map(point, cells), strict=True)]
    return [sorted(axis) if all(isinstance(v, int) for v in axis) else axis for axis in values]


def texts(axis: Sequence[str | int]) -> list[str]:
    """Return values as asv writes them into its files."""
    return [repr(value) for value in axis]


def combinations(axes: Sequence[Sequence[str]]) -> list[tuple[str, ...]]:
    """Return all combinations of the values, in the order in which asv's files have their figures."""
    return list(itertools.product(*axes))


def _underscored(name: str) -> str:
    return re.sub(r"\W", "_", name)
