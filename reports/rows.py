"""Cases as flat rows: what every table, chart and file of a report is made from. None is "not known", never 0.

Units are SI and stand in the field names. Nothing here needs pandas; :mod:`siderostat.reports.frame` wraps the rows.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from siderostat.energy import PerItem, best, per_item
from siderostat.record import Record, Status
from siderostat.reports.run import RunData, run_names
from siderostat.stats import Case, Estimate, counted, is_contended, least_direct


@dataclass(frozen=True)
class Row:
    """One cell of a sweep and what came of it over all its processes.

    Attributes:
        provenance: of the figures; where counted processes disagree, the least direct; None where there are none.
        n_processes: processes that the estimate rests on.
        n_failed: processes that did not end ``ok``.
        n_contended: counted processes that other work disturbed.
        seconds_per_item: with the 95 % interval over processes in ``_low`` and ``_high``.
        items_per_s: the inverse, its interval the inverted one.
        peak_bytes: largest over the counted processes.
        need_bytes: largest that a process said it would need, as a refused one does.
        joules_per_item: with the half-width of its 95 % interval in ``_u95``, by the first of the meters that have a
            figure, measured ones before estimated ones; ``energy_status`` and ``energy_reason`` say why it has none.
        net_joules_per_item: above the idle device.
        import_s: median over the counted processes, as are ``build_s``, ``compile_s`` and ``first_step_s``.
        status: ``ok`` if any process ended so, else the last one's; ``reason`` and ``detail`` belong to it.
        start: ``warm``, ``cold``, or both, comma-joined.
        flags: comma-joined.
    """

    run: str
    workload: str
    variant: str
    mode: str
    framework: str
    device: str
    devices: int
    precision: str
    size: str
    batch: int
    options: dict[str, Any]
    code: str
    item: str
    provenance: str | None
    clock: str | None
    n_processes: int
    n_failed: int
    n_contended: int
    seconds_per_item: float | None
    seconds_per_item_low: float | None
    seconds_per_item_high: float | None
    items_per_s: float | None
    items_per_s_low: float | None
    items_per_s_high: float | None
    peak_bytes: int | None
    need_bytes: int | None
    joules_per_item: float | None
    joules_per_item_u95: float | None
    net_joules_per_item: float | None
    n_energy_windows: int | None
    energy_status: str | None
    energy_reason: str | None
    energy_source: str | None
    energy_scope: str | None
    energy_provenance: str | None
    import_s: float | None
    build_s: float | None
    compile_s: float | None
    first_step_s: float | None
    status: str
    reason: str | None
    detail: str
    start: str
    grade: str
    flags: str
    case: Case = field(repr=False, compare=False)
    energy: tuple[PerItem, ...] = field(default=(), repr=False, compare=False)  # by each meter

    @property
    def time(self) -> Estimate | None:
        """Seconds per item."""
        return self.case.seconds_per_item

    @property
    def rate(self) -> Estimate | None:
        """Items per second."""
        return None if self.time is None else self.time.inverse()

    @property
    def is_band(self) -> bool:
        """Whether the interval is that of a model and not one over processes."""
        return any(r.model.get("seconds_per_step") for r in counted(self.case.records))

    @property
    def set_key(self) -> tuple[str, str, str]:
        """Workload, variant and mode: what one set of charts and one table hold."""
        return self.workload, self.variant, self.mode

    def flat(self, option_names: Sequence[str], with_run: bool) -> dict[str, Any]:
        """Return column name -> value, with one column ``option_NAME`` for each option after ``batch``."""
        flat: dict[str, Any] = {}
        for column in dataclasses.fields(self):
            if column.name in ("case", "energy") or (column.name == "run" and not with_run):
                continue
            if column.name == "options":
                flat.update({f"option_{name}": self.options.get(name) for name in option_names})
            else:
                flat[column.name] = getattr(self, column.name)
        return flat


def _median(records: Sequence[Record], get: Callable[[Record], float | None]) -> float | None:
    """Return the median over the records that know the figure; None where none does."""
    known = [x for r in records if (x := get(r)) is not None]
    return statistics.median(known) if known else None


def row(case: Case, grade: str = "", run: str = "", idle: Iterable[Record] = ()) -> Row:
    """Return the row of one case.

    Args:
        case: a cell with its records and estimate.
        grade: ``quick``, ``ci`` or ``publish``, as the run says.
        run: the run's name, where rows of several runs stand together.
        idle: records of devices that did nothing, of the same run.
    """
    energy = tuple(per_item(case.records, idle))
    joules = best(energy)
    cell, ok = case.cell, counted(case.records)
    time, provenance = case.seconds_per_item, least_direct(r.provenance for r in ok)
    rate = None if time is None else time.inverse()
    succeeded = any(r.status is Status.OK for r in case.records)
    last = case.records[-1]
    return Row(
        run=run,
        workload=cell.workload,
        variant=cell.variant,
        mode=cell.mode,
        framework=cell.framework,
        device=cell.device,
        devices=cell.devices,
        precision=cell.precision,
        size=cell.size,
        batch=cell.batch,
        options=dict(cell.options),
        code=cell.code,
        item=next((r.item for r in [*ok, *case.records] if r.item), ""),
        provenance=provenance.value if provenance else None,
        clock=next((r.clock for r in ok if r.clock), None),
        n_processes=len(ok),
        n_failed=sum(r.status is not Status.OK for r in case.records),
        n_contended=sum(map(is_contended, ok)),
        seconds_per_item=time.value if time else None,
        seconds_per_item_low=time.low if time else None,
        seconds_per_item_high=time.high if time else None,
        items_per_s=rate.value if rate else None,
        items_per_s_low=rate.low if rate else None,
        items_per_s_high=rate.high if rate else None,
        peak_bytes=max((r.peak_bytes for r in ok if r.peak_bytes is not None), default=None),
        need_bytes=max((r.need_bytes for r in case.records if r.need_bytes is not None), default=None),
        joules_per_item=joules.joules_per_item if joules else None,
        joules_per_item_u95=joules.u95 if joules else None,
        net_joules_per_item=joules.net.joules_per_item if joules else None,
        n_energy_windows=joules.n_windows or None if joules else None,
        energy_status=joules.status.value if joules else None,
        energy_reason=joules.reason or None if joules else None,
        energy_source=joules.source if joules else None,
        energy_scope=joules.scope if joules else None,
        energy_provenance=joules.provenance.value if joules and joules.estimate and joules.provenance else None,
        import_s=_median(ok, lambda r: r.import_s),
        build_s=_median(ok, lambda r: r.build_s),
        compile_s=_median(ok, lambda r: r.compile_s),
        first_step_s=_median(ok, lambda r: r.first_step_s),
        status=(Status.OK if succeeded else last.status).value,
        reason=None if succeeded or last.reason is None else last.reason.value,
        detail="" if succeeded else last.detail,
        start=",".join(sorted({r.attempt.start for r in ok or case.records})),
        grade=grade,
        flags=",".join(case.flags),
        case=case,
        energy=energy,
    )


def ordered(table: Iterable[Row]) -> list[Row]:
    """Return rows by set, then series, then batch size: runs measure in random order."""
    return sorted(
        table,
        key=lambda r: (
            *(*r.set_key, r.run, r.framework, r.device, r.devices, r.precision, r.size, r.code),
            *(sorted((k, str(v)) for k, v in r.options.items()), r.batch),
        ),
    )


def rows(runs: Sequence[RunData]) -> list[Row]:
    """Return the rows of all cases of all runs, without the null workload; runs are never pooled.

    The rows of a single run do not name it.
    """
    names = run_names(runs) if len(runs) > 1 else [""] * len(runs)
    return ordered(row(c, run.grade, name, run.idle) for run, name in zip(runs, names, strict=True) for c in run.cases)


def flat_rows(table: Sequence[Row], with_run: bool = False) -> list[dict[str, Any]]:
    """Return rows as dictionaries with the same keys in the same order.

    Args:
        table: rows, which may have different options.
        with_run: whether column ``run`` comes first.
    """
    names = sorted({name for r in table for name in r.options})
    return [r.flat(names, with_run) for r in table]


def sets(table: Iterable[Row]) -> dict[tuple[str, str, str], list[Row]]:
    """Return rows by workload, variant and mode, in the order given."""
    found: dict[tuple[str, str, str], list[Row]] = {}
    for r in table:
        found.setdefault(r.set_key, []).append(r)
    return found
