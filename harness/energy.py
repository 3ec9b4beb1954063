"""From windows of energy to joules per item: what one item costs, how well that is known, and who needs less.

A window is a burst whose energy a meter told. Windows of different source, scope or provenance are never mixed:
each meter gives a figure of its own. Energy within one process scatters less than between processes, as times do, so
the uncertainty is the larger of the one over windows and the one over the processes' means.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from siderostat.record import ENOUGH_UPDATES, Cell, Energy, EnergyStatus, EnergyWindow, Provenance, Record, Status
from siderostat.stats import CONFIDENCE, DIRECTNESS, Estimate, counted, measured_bursts

LEAST_WINDOWS = 5
CALIBRATION = (
    0.05  # assumed half-width of a meter's scale error: equally likely anywhere within it, so u is this / sqrt 3
)
BAND = 2.0  # an estimate from activity and a nameplate is right within this factor
PROCUREMENT_S = 60.0  # shortest window that MLPerf Power accepts
GOOD = (EnergyStatus.OK, EnergyStatus.INDICATIVE)
DEVICE_SCOPES = frozenset({"gpu_board", "cpu_package", "ipu_reported"})
"""What a vendor's own meter takes for the whole of a device. They enclose different things (a board has its memory and
voltage regulators, a package has neither), so two of them can be set side by side only with a word on that."""

Meter = tuple[str, str, Provenance | None]
"""Source, scope and provenance."""


@dataclass(frozen=True)
class Net:
    """Energy above that of the idle device.

    Attributes:
        joules_per_item: E - P_idle t over the items; None where it is not known, or not to be told from idling.
        u95: half-width of its 95 % interval.
        status: ``ok`` or ``below_idle_noise``; None where idle power is not known.
        reason: why there is no figure.
        idle_w: power of the idle device.
    """

    joules_per_item: float | None = None
    u95: float | None = None
    status: EnergyStatus | None = None
    reason: str = ""
    idle_w: float | None = None


@dataclass(frozen=True)
class PerItem:
    """Energy per item of one case by one meter, or why it is not known.

    Attributes:
        status: ``ok``, ``indicative``, or what most of the refused windows say.
        board: identity of what was metered (its uuid; joined by "+" where a case has several); None: not known, or not
            the same in all processes.
        joules_per_item: mean over the windows.
        u95_scatter: the part of ``u95`` that more windows and processes shrink.
        u95: half-width of the 95 % interval; None with too few windows, and where nothing was measured.
        n_windows: windows that the figure rests on; ``left_out`` counts the others by status.
        least_updates: of the meter, in the window that has fewest.
        mean_w: power over all those windows.
    """

    source: str
    scope: str
    provenance: Provenance | None
    status: EnergyStatus
    reason: str = ""
    remedy: str = ""
    board: str | None = None
    joules_per_item: float | None = None
    u95_scatter: float | None = None
    u95: float | None = None
    n_windows: int = 0
    n_processes: int = 0
    left_out: Mapping[EnergyStatus, int] = field(default_factory=dict)
    least_updates: int | None = None
    least_window_s: float | None = None
    mean_w: float | None = None
    net: Net = field(default_factory=Net)

    @property
    def grade(self) -> str | None:
        """What the figure is good for: ``indicative``, ``publishable``, ``procurement``; None: nothing was measured."""
        if self.joules_per_item is None or self.provenance is not Provenance.MEASURED:
            return None
        if self.u95 is None or (self.least_updates or 0) < ENOUGH_UPDATES:
            return EnergyStatus.INDICATIVE.value
        return "procurement" if (self.least_window_s or 0) >= PROCUREMENT_S else "publishable"

    @property
    def estimate(self) -> Estimate | None:
        """The figure with its interval; of an estimated one the band of a factor of two. None: there is no figure.

        An interval that reaches below 0 is cut off there, since no item gives energy back.
        """
        x = self.joules_per_item
        if x is None:
            return None
        if self.provenance is Provenance.ESTIMATED:
            return Estimate(x, x / BAND, x * BAND, self.n_processes)
        if self.u95 is None:
            return Estimate(x, None, None, self.n_processes)
        return Estimate(x, max(0.0, x - self.u95), x + self.u95, self.n_processes)


@dataclass(frozen=True)
class EnergyRatio:
    """How many times as many items a device handles from the same energy; ``scopes_differ`` must be said beside it."""

    items: Estimate
    scopes_differ: bool


@dataclass(frozen=True)
class _Reading:
    """The windows of one process that can be used."""

    windows: list[EnergyWindow]
    items_per_step: int

    def joules_per_item(self, idle_w: float = 0.0) -> list[float]:
        """Return x_i of each window, above a power that flows anyway."""
        return [
            ((w.joules or 0.0) - idle_w * w.seconds) / (w.steps * self.items_per_step)  # a good one has its joules
            for w in self.windows
        ]

    @property
    def items(self) -> int:
        return sum(w.steps for w in self.windows) * self.items_per_step

    @property
    def seconds(self) -> float:
        return sum(w.seconds for w in self.windows)


def per_item(records: Iterable[Record], idle: Iterable[Record] = ()) -> list[PerItem]:
    """Return the energy per item of one cell, meter by meter, in the order of the records' meters.

    With x_i = E_i / n_i per window, U95 = sqrt((t_.975 s / sqrt R)^2 + (2 * 0.05 x / sqrt 3)^2). The first term is
    taken over the R windows and, where there are two or more processes, over the processes' means: the larger counts,
    since processes differ by more than windows of one process do. The second is the meter's calibration.

    Where at least ``LEAST_WINDOWS`` windows are good, the refused ones are left out and counted. Fewer good ones give
    no figure if any was refused, else one without an uncertainty.

    Args:
        records: of one cell; of each round the one that counts is used.
        idle: records of idle devices of the same run, from before and after; others than this cell's are passed over.
    """
    ok = counted(records)
    if not ok:
        return []
    idle = [r for r in idle if _is_idle_of(r, ok[0].attempt.cell)]
    return [_per_item(meter, readings, idle) for meter, readings in _by_meter(ok).items()]


def best(figures: Iterable[PerItem]) -> PerItem | None:
    """Return the figure to show where there is room for one: known before not known, then the most direct."""
    return min(
        figures,
        key=lambda p: (p.joules_per_item is None, (*DIRECTNESS, None).index(p.provenance), p.u95 is None),
        default=None,
    )


def beats(a: PerItem, b: PerItem) -> bool | None:
    """Say whether ``a`` needs less energy per item than ``b``: x_b - x_a > sqrt(U_a^2 + U_b^2).

    On the same board by the same source the calibration is the same for both and is left out.

    Returns:
        None where they cannot be ranked: not both measured with an uncertainty, or of different scope.
    """
    if not (_is_ranked(a) and _is_ranked(b)) or a.scope != b.scope:
        return None
    assert a.joules_per_item is not None and b.joules_per_item is not None
    return b.joules_per_item - a.joules_per_item > math.hypot(*_uncertainties(a, b))


def energy_ratio(reference: PerItem, other: PerItem) -> EnergyRatio | None:
    """Return how many times as many items ``other`` handles from the same energy: J_ref / J_other.

    The relative U95 of both are added in quadrature to a half-width on the logarithmic scale; on the same board
    the calibration cancels.

    Returns:
        None unless both are measured with an uncertainty and either have the same scope or are both what a vendor's
        own meter takes for a whole device (``DEVICE_SCOPES``). In the second case ``scopes_differ`` is true. A node's
        power against a board's, or memory's against a package's, is no ratio at all.
    """
    if not (_is_ranked(reference) and _is_ranked(other)):
        return None
    differ = reference.scope != other.scope
    if differ and not {reference.scope, other.scope} <= DEVICE_SCOPES:
        return None
    assert reference.joules_per_item is not None and other.joules_per_item is not None
    figures = (reference.joules_per_item, other.joules_per_item)
    half = math.hypot(*(u / x for u, x in zip(_uncertainties(reference, other), figures, strict=True)))
    value, n = figures[0] / figures[1], min(reference.n_processes, other.n_processes)
    return EnergyRatio(Estimate(value, value * math.exp(-half), value * math.exp(half), n), differ)


def _is_ranked(figure: PerItem) -> bool:
    return figure.provenance is Provenance.MEASURED and figure.u95 is not None


def _uncertainties(a: PerItem, b: PerItem) -> tuple[float, float]:
    """Return the U95 of both by which they may be compared."""
    assert a.u95 is not None and b.u95 is not None and a.u95_scatter is not None and b.u95_scatter is not None
    is_same = a.board is not None and (a.board, a.source) == (b.board, b.source)
    return (a.u95_scatter, b.u95_scatter) if is_same else (a.u95, b.u95)


def _is_idle_of(record: Record, cell: Cell) -> bool:
    """Say whether a record of an idle device belongs to the device of a cell."""
    held = record.attempt.cell
    return record.status is Status.OK and (held.device, held.devices) == (cell.device, cell.devices)


def _by_meter(records: Iterable[Record]) -> dict[Meter, list[tuple[Record, Energy]]]:
    """Return what each meter told, process by process; where it told nothing, together with where it did."""
    found: dict[Meter, list[tuple[Record, Energy]]] = {}
    for record in records:
        for energy in _whole(record.energy):
            found.setdefault(_meter(energy), []).append((record, energy))
    for silent in [m for m in found if m[2] is None]:
        told = [m for m in found if m[2] is not None and m[:2] == silent[:2]]
        if len(told) == 1:
            found[told[0]] += found.pop(silent)
    return found


def _meter(energy: Energy) -> Meter:
    return energy.source, energy.scope, energy.provenance


def _whole(energies: Sequence[Energy]) -> list[Energy]:
    """Return what one process's meters told, meters of the same kind added up: they cover parts of one device.

    Such are the packages of two sockets, or the boards of a cell on several. If one of them tells nothing, there is
    no energy of the whole.
    """
    silent = {(e.source, e.scope) for e in energies if e.provenance is None}
    kinds: dict[Meter, list[Energy]] = {}
    for energy in energies:
        if energy.provenance is None or (energy.source, energy.scope) not in silent:
            kinds.setdefault(_meter(energy), []).append(energy)
    return [_sum(parts) if len(parts) > 1 and parts[0].provenance else parts[0] for parts in kinds.values()]


def _sum(parts: Sequence[Energy]) -> Energy:
    """Return the energy of all parts together, whose windows are the same bursts."""
    uuids = [str(p.device["uuid"]) for p in parts if p.device.get("uuid")]
    device = {"uuid": "+".join(sorted(uuids))} if len(uuids) == len(parts) else {}
    windows = [_sum_of_windows(together) for together in zip(*(p.windows for p in parts), strict=False)]
    return dataclasses.replace(parts[0], device=device, windows=windows)


def _sum_of_windows(together: Sequence[EnergyWindow]) -> EnergyWindow:
    """Return one window with the joules of all; the first refused one where there is such."""
    refused = next((w for w in together if _status(w) not in GOOD), None)
    if refused is not None:
        return refused
    updates = [w.n_updates for w in together if w.n_updates is not None]
    errors = [w.u_joules for w in together if w.u_joules is not None]
    return dataclasses.replace(
        together[0],
        status=EnergyStatus.OK if all(w.status is EnergyStatus.OK for w in together) else EnergyStatus.INDICATIVE,
        joules=sum(w.joules or 0.0 for w in together),
        u_joules=math.hypot(*errors) if len(errors) == len(together) else None,
        n_updates=min(updates) if len(updates) == len(together) else None,
        mean_w=None, max_w=None, cross_check_j=None,
    )  # fmt: skip


def _status(window: EnergyWindow) -> EnergyStatus:
    """Return what a window is worth: one that claims to be good and has no joules is not."""
    if window.status in GOOD and not (window.joules is not None and window.joules > 0):
        return EnergyStatus.STALE_COUNTER
    return window.status


def _per_item(meter: Meter, told: Sequence[tuple[Record, Energy]], idle: Sequence[Record]) -> PerItem:
    """Return the figure of one meter over all processes."""
    readings = [_reading(record, energy) for record, energy in told]
    readings = [r for r in readings if r.windows]
    refusals = _refusals(told)
    left_out = Counter(status for status, _, _ in refusals)
    windows = [w for r in readings for w in r.windows]
    bare = PerItem(*meter, EnergyStatus.UNSUPPORTED, board=_board(told), left_out=left_out)
    if not windows or (refusals and len(windows) < LEAST_WINDOWS):
        return _refused(bare, refusals, len(windows))
    updates = [w.n_updates for w in windows]
    is_measured = meter[2] is Provenance.MEASURED
    figure = dataclasses.replace(
        bare,
        status=EnergyStatus.OK if all(w.status is EnergyStatus.OK for w in windows) else EnergyStatus.INDICATIVE,
        joules_per_item=statistics.fmean(x for r in readings for x in r.joules_per_item()),
        n_windows=len(windows),
        n_processes=len(readings),
        least_updates=None if None in updates else min(n for n in updates if n is not None),
        least_window_s=min(w.seconds for w in windows),
        mean_w=sum(w.joules or 0.0 for w in windows) / sum(w.seconds for w in windows),
    )
    if not is_measured:
        return figure
    if len(windows) < LEAST_WINDOWS:
        return dataclasses.replace(
            figure,
            status=EnergyStatus.INDICATIVE,
            reason=f"windows: {len(windows)}; at least {LEAST_WINDOWS} are needed to know the uncertainty",
            remedy="measure with more bursts or in more processes",
        )
    assert figure.joules_per_item is not None
    scatter = _half_width([r.joules_per_item() for r in readings])
    u95 = math.hypot(scatter, _calibration95(figure.joules_per_item))
    return dataclasses.replace(figure, u95_scatter=scatter, u95=u95, net=_net(readings, _idle(meter, bare.board, idle)))


def _reading(record: Record, energy: Energy) -> _Reading:
    """Return the windows of a process that can be used."""
    assert record.items_per_step  # a record that counts has timings
    windows = [w for w in _of_bursts(energy) if _status(w) in GOOD]
    return _Reading(windows if energy.provenance is not None else [], record.items_per_step)


def _of_bursts(energy: Energy) -> list[EnergyWindow]:
    """Return the windows in which steps were counted."""
    return [w for w in energy.windows if w.turn >= 0 and w.steps > 0]


def _board(told: Sequence[tuple[Record, Energy]]) -> str | None:
    """Return the identity of what was metered, where it is known and the same in all processes."""
    uuids = {str(energy.device.get("uuid") or "") for _, energy in told if energy.provenance is not None}
    return next(iter(uuids)) or None if len(uuids) == 1 else None


Refusal = tuple[EnergyStatus, str, str]
"""Status, reason, remedy."""


def _refusals(told: Sequence[tuple[Record, Energy]]) -> list[Refusal]:
    """Return for each burst without energy why it has none."""
    found: list[Refusal] = []
    for record, energy in told:
        windows = _of_bursts(energy)
        if not windows:
            whole = (energy.status, energy.reason, energy.remedy)
            if energy.status in GOOD:
                whole = (EnergyStatus.STALE_COUNTER, "the meter told nothing of any burst", energy.remedy)
            found += [whole] * len(measured_bursts(record))
        found += [(_status(w), w.reason or energy.reason, energy.remedy) for w in windows if _status(w) not in GOOD]
    return found


def _refused(bare: PerItem, refusals: Sequence[Refusal], n_good: int) -> PerItem:
    """Return that there is no figure, and the reason that is given most often."""
    status, _ = Counter(r[0] for r in refusals).most_common(1)[0]
    (_, reason, remedy), _ = Counter(r for r in refusals if r[0] is status).most_common(1)[0]
    if n_good:
        few = f"only {n_good} of {n_good + len(refusals)} windows could be used, and {LEAST_WINDOWS} are needed"
        reason = f"{reason}; {few}" if reason else few
    return dataclasses.replace(bare, status=status, reason=reason, remedy=remedy, n_windows=0)


def _half_width(by_process: Sequence[Sequence[float]]) -> float:
    """Return the half-width of the 95 % interval of a mean: the larger of that over windows and that over processes."""
    halves = [_student95([x for windows in by_process for x in windows])]
    if len(by_process) > 1:
        halves.append(_student95([statistics.fmean(windows) for windows in by_process]))
    return max(halves)


def _student95(values: Sequence[float]) -> float:
    """Return t s / sqrt n."""
    from scipy.special import stdtrit

    n = len(values)
    return float(stdtrit(n - 1, 0.5 + CONFIDENCE / 2)) * statistics.stdev(values) / math.sqrt(n)


def _calibration95(joules: float) -> float:
    """Return twice the standard uncertainty that a scale error within ``CALIBRATION`` makes."""
    return 2 * CALIBRATION * abs(joules) / math.sqrt(3)


@dataclass(frozen=True)
class _Idle:
    """Power of an idle device with its standard uncertainty; None where it is not known."""

    watts: float | None
    u_watts: float
    reason: str = ""


def _idle(meter: Meter, board: str | None, idle: Sequence[Record]) -> _Idle:
    """Return the power of the idle device by the same meter, from before and after.

    Idle power may have been anywhere between the least and the largest of the readings while the case ran: half their
    distance over sqrt 3, in quadrature with the largest uncertainty of a reading.
    """
    if not idle:
        return _Idle(None, 0.0, "idle power was not measured")
    told = [(r, e) for r in idle for e in _whole(r.energy) if _meter(e)[:2] == meter[:2]]
    same = [(r, e) for r, e in told if e.provenance is meter[2] and _board([(r, e)]) == board]
    readings = [p for _, energy in same if (p := _power(energy)) is not None]
    if len(readings) < 2:
        refused = next((w for _, e in told for w in e.windows if _status(w) not in GOOD), None)
        why = f": {refused.reason or refused.status.value}" if refused else ""
        found = "once, and its drift is not known" if readings else f"not read by this meter{why}"
        return _Idle(None, 0.0, f"idle power is needed from before and after; it was {found}")
    watts = [w for w, _ in readings]
    drift = (max(watts) - min(watts)) / 2 / math.sqrt(3)
    return _Idle(statistics.fmean(watts), math.hypot(drift, max(u for _, u in readings)))


def _power(energy: Energy) -> tuple[float, float] | None:
    """Return mean power over the windows of one idle record, and its standard uncertainty; None: none is good."""
    windows = [w for w in energy.windows if _status(w) in GOOD]
    if not windows:
        return None
    seconds = sum(w.seconds for w in windows)
    joules = sum(w.joules or 0.0 for w in windows)
    return joules / seconds, math.hypot(*(w.u_joules or 0.0 for w in windows)) / seconds


def _net(readings: Sequence[_Reading], idle: _Idle) -> Net:
    """Return the energy above idle per item.

    Its uncertainty has the scatter, that of the idle power, and the calibration, which scales both alike.
    """
    if idle.watts is None:
        return Net(reason=idle.reason)
    by_process = [r.joules_per_item(idle.watts) for r in readings]
    net = statistics.fmean(x for windows in by_process for x in windows)
    from_idle = 2 * idle.u_watts * sum(r.seconds for r in readings) / sum(r.items for r in readings)
    u95 = math.hypot(_half_width(by_process), from_idle, _calibration95(net))
    if net <= u95:
        reason = f"the energy above idle ({net:.2g} J per item) is within its uncertainty ({u95:.2g} J)"
        return Net(None, u95, EnergyStatus.BELOW_IDLE_NOISE, reason, idle.watts)
    return Net(net, u95, EnergyStatus.OK, idle_w=idle.watts)
