"""What an item costs in energy: who needs least, and where no energy is known, why."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING

from siderostat.energy import BAND, DEVICE_SCOPES, PerItem, beats, energy_ratio
from siderostat.record import Provenance
from siderostat.reports.glossary import ENERGY, STATUS
from siderostat.reports.labels import (
    NOT_KNOWN,
    capital,
    count,
    interval,
    number,
    place,
    quantity,
    scale,
    series,
    set_title,
)
from siderostat.reports.rows import Row, rows, sets
from siderostat.reports.run import RunData
from siderostat.reports.section import Part, Section
from siderostat.reports.tables import Table, TableRow
from siderostat.stats import Estimate
from siderostat.words import plural

if TYPE_CHECKING:
    from siderostat.reports.charts import Chart

ENERGY_UNITS = (("kJ", 1e3), ("J", 1.0), ("mJ", 1e-3), ("µJ", 1e-6), ("nJ", 1e-9))
POWER_UNITS = (("kW", 1e3), ("W", 1.0), ("mW", 1e-3))
HEAD = ("Net of idle", "Mean power", "Windows", "Meter", "Provenance", "Grade", "Notes")


@dataclass(frozen=True)
class Line:
    """One case by one meter; ``figure`` is None where no meter was asked."""

    row: Row
    figure: PerItem | None
    series: str

    @property
    def estimate(self) -> Estimate | None:
        """Joules per item."""
        return None if self.figure is None else self.figure.estimate

    @property
    def measured(self) -> PerItem | None:
        """The figure, if it was measured."""
        figure = self.figure
        is_measured = figure is not None and figure.provenance is Provenance.MEASURED
        return figure if is_measured and self.estimate is not None else None


def section(runs: Sequence[RunData]) -> Section | None:
    """Return what is known of the energy of each case; None where no record says anything of energy."""
    if not any(record.energy for run in runs for record in run.records):
        return None
    table = rows(runs)
    parts, headlines, without = [], [], []
    for key, of_set in sets(table).items():
        found = lines(of_set)
        if all(line.estimate is None for line in found):
            without.append((set_title(key), found))
            continue
        least = sentences(found)
        headlines += [f"{set_title(key)}: {sentence}" for sentence in least]
        parts.append(
            Part(set_title(key), [*least, *across_scopes(found)], _charts(found), energy_table(found), _notes(found))
        )
    absent = missing(table)
    if absent or without:
        parts.append(Part("Where no energy was measured", absent, table=_without_table(without)))
    return Section("energy", "Energy", parts, [*headlines, *absent])


def _without_table(without: Sequence[tuple[str, Sequence[Line]]]) -> Table | None:
    """Return why cases have no energy at all, those alike in one row; None where there is no such case."""
    alike: dict[tuple[str, str, str, str], list[int]] = {}
    for title, found in without:
        for line in found:
            status, why = _absence(line)
            alike.setdefault((title, line.series, status, why), []).append(line.row.batch)
    rows_of = [
        TableRow([title, name, ", ".join(map(str, batches)), status, why, NOT_KNOWN], "failed")
        for (title, name, status, why), batches in alike.items()
    ]
    return Table(["Case", "Series", "Batches", "Status", "What happened", "Provenance"], rows_of) if rows_of else None


def _absence(line: Line) -> tuple[str, str]:
    """Return the status of what is not there, and why it is not."""
    if line.figure is not None:
        return line.figure.status.value, _reason(line.figure)
    if line.row.time is None:
        return line.row.status, STATUS.get(line.row.status, "no timings")
    return NOT_KNOWN, "no meter was read"


def lines(table: Sequence[Row]) -> list[Line]:
    """Return the cases of one workload, variant and mode, each by each of its meters."""
    names = series([replace(row, provenance="measured") for row in table])  # energy has a provenance of its own
    return [
        Line(row, figure, name) for row, name in zip(table, names, strict=True) for figure in (row.energy or (None,))
    ]


def sentences(found: Sequence[Line]) -> list[str]:
    """Say for each scope who needs least energy per item, and whether the others are known to need more."""
    by_scope: dict[str, list[Line]] = {}
    for line in found:
        if line.measured is not None:
            by_scope.setdefault(line.measured.scope, []).append(line)
    return [_least(scope, held, [line.row for line in found]) for scope, held in by_scope.items()]


def _least(scope: str, held: Sequence[Line], table: Sequence[Row]) -> str:
    """Return the sentence of one scope."""
    bests = _best_of_series(held)
    first, *others = sorted(bests, key=_joules)
    assert first.figure is not None and first.estimate is not None
    items = plural(first.row.item or "item")
    text = (
        f"Least energy ({scope}, {first.figure.grade}): {joules(first.estimate)} per {first.row.item or 'item'} "
        f"at batch {first.row.batch} {place(first.row, table)}"
    )
    return "; ".join([text, *(_against(first, other, items, table) for other in others)]) + "."


def _best_of_series(held: Iterable[Line]) -> list[Line]:
    """Return of each series the case that needs least."""
    bests: dict[str, Line] = {}
    for line in held:
        if line.series not in bests or _joules(line) < _joules(bests[line.series]):
            bests[line.series] = line
    return list(bests.values())


def _joules(line: Line) -> float:
    return math.inf if line.figure is None or line.figure.joules_per_item is None else line.figure.joules_per_item


def _against(first: Line, other: Line, items: str, table: Sequence[Row]) -> str:
    """Say how the one that needs least stands against another."""
    assert first.figure is not None and other.figure is not None
    where = f"{place(other.row, table)} at batch {other.row.batch}"
    is_less = beats(first.figure, other.figure)
    if is_less is None:
        return f"whether it is less than {where} cannot be said, for want of an uncertainty"
    if not is_less:
        return f"the difference to what is needed {where} is within the uncertainty"
    ratio = energy_ratio(other.figure, first.figure)
    assert ratio is not None  # what can be ranked has a ratio
    return f"{interval(ratio.items, say_none=False)} times as many {items} from the same energy as {where}"


def across_scopes(found: Sequence[Line]) -> list[str]:
    """Set side by side what vendors' own meters say of different kinds of devices, and say that they enclose others."""
    table = [line.row for line in found]
    bests: dict[str, Line] = {}
    for line in sorted(found, key=_joules):
        if line.measured is not None and line.measured.scope in DEVICE_SCOPES:
            bests.setdefault(line.measured.scope, line)
    texts = []
    for less, more in combinations(bests.values(), 2):
        assert less.figure is not None and more.figure is not None
        ratio = energy_ratio(more.figure, less.figure)
        if ratio is not None:
            texts.append(
                f"From the same energy {interval(ratio.items, say_none=False)} times as many "
                f"{plural(less.row.item or 'item')} {place(less.row, table)} at batch {less.row.batch} as "
                f"{place(more.row, table)} at batch {more.row.batch}. The scopes differ ({less.figure.scope} and "
                f"{more.figure.scope}): the meters do not enclose the same parts, so this is no ranking."
            )
    return texts


def missing(table: Sequence[Row]) -> list[str]:
    """Say in one sentence for each run on which devices no energy was measured, why, and what to do."""
    by_run: dict[str, list[Row]] = {}
    for row in table:
        by_run.setdefault(row.run, []).append(row)
    return [text for name, held in by_run.items() if (text := _missing(f"{name}: " if name else "", held))]


def _missing(prefix: str, table: Sequence[Row]) -> str:
    """Return the sentence of one run; empty where energy was measured on every device that was asked."""
    reasons: dict[str, list[str]] = {}
    for device in dict.fromkeys(row.device for row in table):
        figures = [f for row in table if row.device == device for f in row.energy]
        if figures and not any(f.provenance is Provenance.MEASURED and f.joules_per_item is not None for f in figures):
            reasons.setdefault(_why(figures), []).append(device)
    if not reasons:
        return ""
    texts = [f"on {', '.join(devices)}: {why}" for why, devices in reasons.items()]
    is_estimated = any(f.provenance is Provenance.ESTIMATED for row in table for f in row.energy)
    estimates = " Estimates in the tables are right within a factor of two, and rank nothing." if is_estimated else ""
    return f"{prefix}No energy was measured {'; '.join(texts)}.{estimates}"


def _why(figures: Iterable[PerItem]) -> str:
    """Return the distinct reasons: of each status the one given most often."""
    refused = [f for f in figures if f.joules_per_item is None]
    found = []
    for status in dict.fromkeys(f.status for f in refused):
        texts = Counter(_reason(f) for f in refused if f.status is status)
        found.append(texts.most_common(1)[0][0])
    return "; ".join(dict.fromkeys(found)) or "no meter of it was read"


def _reason(figure: PerItem) -> str:
    """Return why there is no figure and what to do, without a full stop."""
    reason = figure.reason or ENERGY[figure.status.value]
    return "; ".join(text.rstrip(". ") for text in (reason, figure.remedy) if text)


def joules(estimate: Estimate) -> str:
    """Return joules as "1.23 (1.10 to 1.36) J"."""
    name, unit = scale(estimate.value, ENERGY_UNITS)
    return f"{interval(estimate, unit, say_none=False)} {name}"


def band(value: float, units: Sequence[tuple[str, float]] = ENERGY_UNITS) -> str:
    """Return what was estimated as the range in which it may be, without decimals: "1 to 6 mJ"."""
    name, unit = scale(value / BAND, units)
    low, high = (float(f"{x / unit:.0e}") for x in (value / BAND, value * BAND))
    return f"{number(low, 0)} to {number(high, 0)} {name}"


def energy_table(found: Sequence[Line]) -> Table:
    """Return the figures of one workload, variant and mode: a row for each case and meter."""
    item = next((line.row.item for line in found if line.row.item), "item")
    head = ["Series", "Batch", f"Energy per {item}", *HEAD]
    caption = (
        "95 % intervals: of scatter the larger of that between windows and that between processes, and a calibration "
        "assumed to be within 5 %"
    )
    return Table(head, [_table_row(line, _reasons(found)) for line in found], caption, frozenset({1, 2, 3, 4, 5}))


def _table_row(line: Line, reasons: Sequence[str]) -> TableRow:
    figure, row = line.figure, line.row
    if figure is None:
        why = "no meter was read" if row.time is not None else f"{row.status}: {STATUS.get(row.status, 'no timings')}"
        blank = [NOT_KNOWN] * len(HEAD[:-1])
        return TableRow([line.series, str(row.batch), NOT_KNOWN, *blank, why], "failed")
    known = figure.joules_per_item is not None
    cells = [
        line.series,
        str(row.batch),
        _figure_text(figure),
        _net(figure),
        _power(figure),
        str(figure.n_windows) if known else NOT_KNOWN,
        NOT_KNOWN if figure.source == "none" else f"{figure.source}, scope {figure.scope}",
        figure.provenance.value if known and figure.provenance else NOT_KNOWN,
        figure.grade or NOT_KNOWN,
        "; ".join(_line_notes(figure, reasons)),
    ]
    return TableRow(cells, "failed" if not known else "plain" if line.measured else "open")


def _figure_text(figure: PerItem) -> str:
    """Return joules per item, or in words what became of them."""
    estimate = figure.estimate
    if estimate is None:
        return f"no figure: {_words(figure.status.value)}"
    return band(estimate.value) if figure.provenance is Provenance.ESTIMATED else joules(estimate)


def _power(figure: PerItem) -> str:
    if figure.mean_w is not None and figure.provenance is Provenance.ESTIMATED:
        return band(figure.mean_w, POWER_UNITS)
    return quantity(figure.mean_w, POWER_UNITS)


def _words(status: str) -> str:
    return status.replace("_", " ")


def _net(figure: PerItem) -> str:
    net = figure.net
    if net.joules_per_item is not None and net.u95 is not None:
        x = net.joules_per_item
        return joules(Estimate(x, x - net.u95, x + net.u95, figure.n_processes))
    return NOT_KNOWN if net.status is None else _words(net.status.value)


def _line_notes(figure: PerItem, reasons: Sequence[str]) -> Iterator[str]:
    """Yield what must be known to read a figure; why there is none stands below the table, under its number."""
    if figure.joules_per_item is None:
        yield f"reason {reasons.index(_reason(figure)) + 1}"
        return
    if figure.provenance is Provenance.ESTIMATED:
        yield "right within a factor of two, not ranked"
        return
    if figure.u95 is None:
        yield f"no interval: {'; '.join(t for t in (figure.reason, figure.remedy) if t) or 'nothing was measured'}"
    elif figure.n_processes == 1:
        yield "one process: the interval does not cover differences between processes"
    if figure.left_out:
        statuses = ", ".join(f"{status.value} {n}" for status, n in figure.left_out.items())
        yield f"{count(sum(figure.left_out.values()), 'window')} left out ({statuses})"
    if figure.net.reason:
        yield figure.net.reason


def _reasons(found: Sequence[Line]) -> list[str]:
    """Return the distinct reasons why figures are missing, in the order of the table."""
    figures = [line.figure for line in found if line.figure is not None]
    return list(dict.fromkeys(_reason(figure) for figure in figures if figure.joules_per_item is None))


def _notes(found: Sequence[Line]) -> list[str]:
    """Give the reasons and explain the statuses that stand in the table."""
    figures = [line.figure for line in found if line.figure is not None]
    statuses = {f.status.value for f in figures if f.joules_per_item is None}
    statuses |= {s.value for f in figures for s in f.left_out}
    statuses |= {f.net.status.value for f in figures if f.net.status is not None} - {"ok"}
    reasons = [f"Reason {number}: {reason}." for number, reason in enumerate(_reasons(found), start=1)]
    return [*reasons, *(f"{status}: {ENERGY[status]}" for status in ENERGY if status in statuses)]


def _charts(found: Sequence[Line]) -> Callable[[], Iterator[Chart]]:
    known = [(line, line.figure) for line in found if line.figure is not None and line.estimate is not None]

    def draw() -> Iterator[Chart]:
        if known:
            yield _chart(known)

    return draw


def _chart(known: Sequence[tuple[Line, PerItem]]) -> Chart:
    """Chart joules per item over batch size."""
    from siderostat.reports.charts import Chart, over_batch, point

    estimates = [(line, figure, e) for line, figure in known if (e := figure.estimate) is not None]
    name, unit = scale(max(e.value for _, _, e in estimates), ENERGY_UNITS)
    several = len({(figure.source, figure.scope) for _, figure in known}) > 1
    points = [
        point(
            _name(line, figure, several),
            figure.provenance.value if figure.provenance else None,
            line.row.batch,
            estimate.times(1 / unit),
        )
        for line, figure, estimate in estimates
    ]
    item = next((line.row.item for line, _ in known if line.row.item), "item")
    title = f"Energy per {item}"
    return Chart("energy", title, _caption(known), over_batch(points, f"{title} ({name})"))


def _name(line: Line, figure: PerItem, several: bool) -> str:
    """Return a series' name, with its meter where there are several kinds and its provenance where not measured."""
    meter = f", {figure.scope} by {figure.source}" if several else ""
    origin = figure.provenance
    if origin is None or origin is Provenance.MEASURED:
        return f"{line.series}{meter}"
    return f"{line.series}{meter} ({origin.value})"


def _caption(known: Sequence[tuple[Line, PerItem]]) -> str:
    origins = {figure.provenance for _, figure in known}
    texts = []
    if Provenance.MEASURED in origins:
        texts.append("95 % intervals, calibration included")
    if Provenance.ESTIMATED in origins:
        texts.append("open triangles: estimates, with the factor of two within which they are right")
    scopes = ", ".join(sorted({figure.scope for _, figure in known}))
    return f"{capital('; '.join([*texts, f'scope: {scopes}']))}."
