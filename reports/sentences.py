"""What a report says in words: headlines, the harness's own cost, how it was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from siderostat.record import Protocol, Provenance
from siderostat.reports.glossary import STATUS
from siderostat.reports.labels import (
    about,
    count,
    interval,
    percent,
    place,
    seconds,
    seconds_interval,
    series,
    set_title,
    setting,
    spread,
)
from siderostat.reports.rows import Row
from siderostat.reports.run import RunData
from siderostat.words import plural

NOT_MEASURED = "Harness overhead: not measured"


def headlines(table: Sequence[Row]) -> list[str]:
    """Return one sentence for each series of a workload, variant and mode: best throughput, or why it has none."""
    groups: dict[str, list[Row]] = {}
    for name, r in zip(series([_as_measured(r) for r in table]), table, strict=True):
        groups.setdefault(name, []).append(r)
    return [_headline(group, table) for group in groups.values()]


def _as_measured(row: Row) -> Row:
    """Return the row as its series is named where provenance plays no part: failed cells belong to their series."""
    return replace(row, provenance="measured")


def _headline(group: Sequence[Row], table: Sequence[Row]) -> str:
    """Return the sentence of one series."""
    timed = [(rate, r) for r in group if (rate := r.rate) is not None]
    if not timed:
        statuses = ", ".join(sorted({f"{r.status} ({STATUS[r.status]})" for r in group if r.status in STATUS}))
        return f"No figure {place(group[0], table)}: {statuses or 'no timings'}."
    rate, best = max(timed, key=lambda pair: pair[0].value)
    kind = "" if best.provenance == "measured" else f", {best.provenance or 'provenance not known'}"
    flags = f"; flagged {best.flags.replace(',', ', ')}" if best.flags else ""
    unit = f"{plural(best.item or 'item')} per second"
    return f"Best throughput{kind}: {interval(rate)} {unit} at batch {best.batch} {place(best, table)}{flags}."


def notes(run: RunData) -> list[str]:
    """Return what must be known to read any figure of a run."""
    return [note for note in (indicative(run), drifted(run)) if note]


def indicative(run: RunData) -> str | None:
    """Return the note that belongs beside every figure of grade ``quick``; None for other grades."""
    if run.grade != "quick":
        return None
    timed = [(c.provenance, c.seconds_per_item.n) for c in run.cases if c.seconds_per_item is not None]
    n = [n for origin, n in timed if origin is Provenance.MEASURED] or [n for _, n in timed]
    processes = f"{spread(n)} {'process' if set(n) == {1} else 'processes'} per case" if n else "no case has a figure"
    return (
        f"Indicative: {processes}. Good for finding one's way; for a decision or a publication measure again with "
        "--grade ci or --grade publish."
    )


def drifted(run: RunData) -> str | None:
    """Say how much times changed while the run was measured; None where no clear change was seen."""
    found = run.drift
    if found is None or not found.is_clear or found.change.low is None or found.change.high is None:
        return None
    verb = "grew" if found.change.value > 1 else "fell"
    value, *ends = (abs(x - 1) for x in (found.change.value, found.change.low, found.change.high))
    change = f"{about(value)} ({about(min(ends))} to {about(max(ends))})"
    return (
        f"Times {verb} by {change} over the {_span(found.seconds)} of measuring: the machine was not the same "
        "throughout. Cases were measured in turns, so that this widens their intervals rather than favours one; ratios "
        "measured in lock-step are not affected."
    )


def _span(seconds: float) -> str:
    """Return a time in seconds as people say it: "90 s", "14 min", "5.2 h"."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def overhead(run: RunData) -> list[str]:
    """Say what the harness itself adds to a step, and how much that is of the shortest measured step."""
    measured = [c for c in run.overheads if c.seconds_per_item is not None and c.provenance is Provenance.MEASURED]
    if not measured:
        return [_no_overhead(run)]
    texts = []
    for case in measured:
        flags = f"; flagged {', '.join(case.flags)}" if case.flags else ""
        where = f"measured with the null workload, {case.cell.framework} on {case.cell.device}{flags}"
        texts.append(f"The harness adds {seconds_interval(case.seconds_per_item)} per step ({where}).")
    worst, shortest = run.null_seconds_per_step, run.shortest_step
    if worst is not None and shortest is not None:
        cell, step = shortest[0].cell, shortest[1]
        title = set_title((cell.workload, cell.variant, cell.mode))
        texts.append(
            f"That is {percent(worst.value / step)} of the shortest measured step, {seconds(step)} "
            f"({title} at batch {cell.batch} on {cell.device} with {cell.framework})."
        )
    return texts


def _no_overhead(run: RunData) -> str:
    """Say why the harness's own time is not known."""
    if not run.overheads:
        return f"{NOT_MEASURED}; the null workload was not in the run."
    origins = sorted({c.provenance.value for c in run.overheads if c.provenance is not None})
    if origins:
        return f"{NOT_MEASURED}; the null workload's times are {', '.join(origins)} here."
    return f"{NOT_MEASURED}: {', '.join(sorted({r.status.value for c in run.overheads for r in c.records}))}."


def protocol(p: Protocol) -> str:
    """Say how a process measured."""
    memory = "" if p.memory_bytes is None else f" A process may allocate at most {p.memory_bytes / 1e9:.3g} GB."
    return (
        f"{count(p.bursts, 'burst')} of at least {setting(p.burst_s)}, each with at least "
        f"{count(p.burst_samples, 'sample')}; a sample is a block of steps that lasts at least {setting(p.block_s)}. "
        f"Warm-up: at least {count(p.warmup_steps, 'step')} and {setting(p.warmup_s)}, at most "
        f"{setting(p.warmup_limit_s)}; it is stored, and never counted. A process silent for {setting(p.timeout_s)} is "
        f"ended.{memory}"
    )


def protocols(run: RunData) -> list[str]:
    """Say how a run measured, protocol by protocol, and how its estimates are made."""
    starts = sorted({r.attempt.start for r in run.records})
    texts = [protocol(p) for p in run.protocols]
    if starts:
        texts.append(f"Start of the processes: {' and '.join(starts)} (see the glossary).")
    repeats = sum(r.attempt.repeat > 0 for r in run.records)
    if repeats:
        texts.append(f"{count(repeats, 'process')} of these measured again what had been measured under contention.")
    return [
        *texts,
        "Each process gives one figure, the median over its samples of the time per item. A case's figure is the "
        "geometric mean over its processes, with a 95 % interval by Student's t on the logarithms. Throughput is the "
        "inverse, its interval the inverted one. Intervals cover differences between processes on this machine, not "
        "between machines.",
    ]
