"""What a step computes and moves: asked of a short-lived worker, and summed up in plain rows."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from siderostat.child import Child, Lost
from siderostat.devices.sim import chips
from siderostat.devices.sim.liveness import fuse, live_bytes
from siderostat.devices.sim.opgraph import Op, OpGraph
from siderostat.devices.sim.spec import SpecError
from siderostat.errors import BadValue, NothingMeasured
from siderostat.record import Attempt, Cell, Code

_ASK_S = 900.0  # the inputs of a workload may have to be made first


@dataclass(frozen=True)
class Row:
    """Operations of one name and pass together, or all of one kind.

    Attributes:
        name: of the operation; of a kind, the kind.
        kind: see :data:`siderostat.devices.sim.opgraph.KINDS`.
        stage: forward, backward or update; empty where passes are taken together.
        count: how many there are in a step.
        flops: floating-point operations of all of them.
        bytes: read and written by all of them.
        share: of the step's floating-point operations; 0 where there are none.
    """

    name: str
    kind: str
    stage: str
    count: int
    flops: float
    bytes: int
    share: float

    @property
    def intensity(self) -> float | None:
        """Floating-point operations per byte; None where nothing is moved."""
        return self.flops / self.bytes if self.bytes else None


@dataclass(frozen=True)
class Roof:
    """What a chip can do at most, by its data sheet.

    Attributes:
        name: as it is asked for.
        title: for people.
        flops_per_s: peak in fp32.
        bytes_per_s: bandwidth of the memory; of chips whose memory lies in their tiles, that between tiles.
        between: ``memory`` or ``tiles``: what that bandwidth is of.
    """

    name: str
    title: str
    flops_per_s: float
    bytes_per_s: float
    between: str

    @property
    def ridge(self) -> float:
        """Floating-point operations per byte from which on the peak, and not the bandwidth, is the limit."""
        return self.flops_per_s / self.bytes_per_s


@dataclass(frozen=True)
class Trace:
    """What a step computes and moves.

    Attributes:
        cell: which step.
        graph: its operations.
        item: the workload's unit.
        packages: versions of what the step was made with.
        trace_s: time that tracing took, building the step left out.
    """

    cell: Cell
    graph: OpGraph
    item: str
    packages: dict[str, str]
    trace_s: float

    def by_operation(self) -> list[Row]:
        """Return operations of one name and pass together, most work first."""
        return _rows(self.graph.ops, lambda op: (op.name, op.kind, op.stage), lambda op: (op.name, op.kind, op.stage))

    def by_kind(self) -> list[Row]:
        """Return operations of one kind together, most work first."""
        return _rows(self.graph.ops, lambda op: op.kind, lambda op: (op.kind, op.kind, ""))

    def total(self) -> Row:
        """Return the whole step."""
        return _row("whole step", "", "", self.graph.ops, self.graph.flops)

    def totals(self) -> dict[str, Any]:
        """Return the figures of the whole step, SI units in the names."""
        graph, total, groups = self.graph, self.total(), fuse(self.graph)
        return {
            "items": graph.items,
            "flops": graph.flops,
            "flops_per_item": graph.flops / graph.items,
            "operations": len(graph.ops),
            "fused_operations": len(groups),
            "moved_bytes": total.bytes,
            "fused_moved_bytes": sum(group.bytes_read + group.bytes_written for group in groups),
            "flops_per_byte": total.intensity,
            "parameters": graph.parameters,
            "parameter_bytes": graph.parameter_bytes,
            "state_bytes": graph.state_bytes,
            "input_bytes": graph.input_bytes,
            "saved_bytes": graph.saved_bytes,
            "live_bytes": live_bytes(graph, fused=False),
            "fused_live_bytes": live_bytes(graph),
        }


def ask(cell: Cell, code: Code | None = None) -> Trace:
    """Have a step traced in a process of its own, so that no framework is imported here.

    Args:
        cell: which step.
        code: where the worker finds what it runs; None: here.

    Raises:
        NothingMeasured: if it cannot be traced; the text says why.
    """
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "trace.log"
        child = Child(log, code=code or Code())
        try:
            answer = child.ask({"do": "trace", "attempt": Attempt(cell, 0, 0).to_dict()}, _ASK_S)
        except Lost as lost:
            raise NothingMeasured(_without_log(lost.detail, log)) from None
        finally:
            child.end()
    graph = OpGraph.from_dict(answer["graph"])
    return Trace(cell, graph, answer["item"], answer["packages"], answer["trace_s"])


def roofs(names: Sequence[str]) -> list[Roof]:
    """Return what chips can do at most; of all that come along, where none is named.

    Raises:
        BadValue: if there is no such chip, or its file cannot be used.
    """
    found = []
    for name in names or chips.names():
        try:
            chip = chips.load(name)
        except SpecError as error:
            raise BadValue(f"--chip: {error}") from None
        peak = chips.peak_flops(chip, "fp32")
        assert peak is not None  # every kind of chip must tell it
        if chip.kind == "bsp-sram":
            bandwidth, between = chip["tiles"] * chip["exchange_bytes_per_cycle"] * chip["clock_hz"], "tiles"
        else:
            bandwidth, between = chip["memory_bytes_per_s"], "memory"
        found.append(Roof(chip.name, chip.title, peak, bandwidth, between))
    return found


def _rows(ops: Iterable[Op], key: Callable[[Op], Hashable], head: Callable[[Op], tuple[str, str, str]]) -> list[Row]:
    groups: dict[Hashable, list[Op]] = {}
    for op in ops:
        groups.setdefault(key(op), []).append(op)
    total = math.fsum(op.flops for group in groups.values() for op in group)
    rows = [_row(*head(group[0]), group, total) for group in groups.values()]
    return sorted(rows, key=lambda row: (-row.flops, -row.bytes, row.name))


def _row(name: str, kind: str, stage: str, ops: Sequence[Op], total: float) -> Row:
    flops = math.fsum(op.flops for op in ops)
    moved = sum(op.bytes_read + op.bytes_written for op in ops)
    return Row(name, kind, stage, len(ops), flops, moved, flops / total if total else 0.0)


def _without_log(text: str, log: Path) -> str:
    """Leave the place of a log out that is gone when this is read."""
    return text.replace(f"; its log is {log}", "")
