"""JUnit XML as Jenkins, GitLab and GitHub's actions read it: ``testsuites``, ``testsuite``, ``testcase``.

A run is a suite and each of its cells a case: one whose newest process crashed, timed out, failed or gave wrong
numbers is a ``failure``; what does not fit, is not supported, not available or was not tried is ``skipped``. A gate is
a suite and each of its series a case: FAIL is a ``failure``, INCONCLUSIVE ``skipped`` with what could have been found,
NOT COMPARABLE an ``error``. Figures stand in ``system-out``, in the form of :mod:`siderostat.reports.exporters.lines`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from siderostat.gate import Verdict
from siderostat.record import Record, Status
from siderostat.reports.exporters import Export
from siderostat.reports.exporters.gates import GateSeries, Verdicts
from siderostat.reports.exporters.lines import lines
from siderostat.reports.exporters.series import Series

FAILURE, ERROR, SKIPPED = "failure", "error", "skipped"
_BAD = (Status.CRASH, Status.TIMEOUT, Status.ERROR, Status.INVALID)


@dataclass(frozen=True)
class _Case:
    """A test case: its outcome (None: passed), the kind and text of it, its duration in seconds, and its output."""

    group: str
    name: str
    outcome: str | None = None
    kind: str = ""
    text: str = ""
    seconds: float | None = None
    output: str = ""


def export(found: Sequence[Series]) -> Export:
    """Return ``junit.xml`` with a suite for each run."""
    suites: dict[str, list[Series]] = {}
    for one in found:
        suites.setdefault(one.run.label, []).append(one)
    return _file((name, [_cell(one) for one in held], _at(held)) for name, held in suites.items())


def export_gates(gates: Sequence[Verdicts]) -> Export:
    """Return ``junit.xml`` with a suite for each gate."""
    return _file((gate.name, [_verdict(gate, one) for one in gate.series], None) for gate in gates)


def _file(suites: Iterable[tuple[str, list[_Case], str | None]]) -> Export:
    root = ElementTree.Element("testsuites")
    for name, cases, at in suites:
        root.append(_suite(name, cases, at))
    text = ElementTree.tostring(root, encoding="unicode")
    return Export({"junit.xml": ['<?xml version="1.0" encoding="UTF-8"?>\n', text, "\n"]} if len(root) else {})


def _suite(name: str, cases: Sequence[_Case], at: str | None) -> ElementTree.Element:
    counts = {kind: sum(one.outcome == kind for one in cases) for kind in (FAILURE, ERROR, SKIPPED)}
    suite = ElementTree.Element(
        "testsuite", name=_allowed(name), tests=str(len(cases)), failures=str(counts[FAILURE]),
        errors=str(counts[ERROR]), skipped=str(counts[SKIPPED]),
    )  # fmt: skip
    if at is not None:
        suite.set("timestamp", at)
    known = [one.seconds for one in cases if one.seconds is not None]
    if known:
        suite.set("time", f"{sum(known):.3f}")
    suite.extend(_element(one) for one in cases)
    return suite


def _element(one: _Case) -> ElementTree.Element:
    case = ElementTree.Element("testcase", classname=_allowed(one.group), name=_allowed(one.name))
    if one.seconds is not None:
        case.set("time", f"{one.seconds:.3f}")
    if one.outcome is not None:
        outcome = ElementTree.SubElement(case, one.outcome, message=_allowed(one.text), type=_allowed(one.kind))
        outcome.text = _allowed(one.text)
    if one.output:
        ElementTree.SubElement(case, "system-out").text = _allowed(one.output)
    return case


def _cell(one: Series) -> _Case:
    group = ".".join((one.row.workload, one.row.variant, one.row.mode))
    record = _telling(one.row.case.records)
    outcome = None
    if record.status in _BAD:
        outcome = FAILURE
    elif record.status is not Status.OK:
        outcome = SKIPPED
    lives = [r.process.get("seconds") for r in one.row.case.records]
    known = [float(s) for s in lives if isinstance(s, (int, float)) and s >= 0]
    reason = record.reason.value if record.reason else record.status.value
    text = f"{record.status.value} ({reason}), round {record.attempt.round}: {record.detail}" if outcome else ""
    return _Case(group, one.title, outcome, reason, text, sum(known) if known else None, "\n".join(lines(one)))


def _telling(records: Sequence[Record]) -> Record:
    """Return the newest record of the round that went worst: one bad process is a failure among many good ones."""
    newest = {r.attempt.round: r for r in records}
    return min(newest.values(), key=lambda r: (r.status not in _BAD, r.status is not Status.OK, r.attempt.round))


def _verdict(gate: Verdicts, one: GateSeries) -> _Case:
    outcome = {
        Verdict.PASS: None,
        Verdict.FAIL: FAILURE,
        Verdict.INCONCLUSIVE: SKIPPED,
        Verdict.NOT_COMPARABLE: ERROR,
    }[one.verdict]
    text = ": ".join(part for part in (one.word, one.sentence) if part)
    return _Case("siderostat.gate", one.title, outcome, one.verdict.value, text if outcome else "", None, text)


def _at(held: Sequence[Series]) -> str | None:
    known = [at for one in held if (at := one.started_at) is not None]
    return min(known).strftime("%Y-%m-%dT%H:%M:%S") if known else None


def _allowed(text: str) -> str:
    """Return a text with what XML 1.0 has no place for replaced."""
    return "".join(
        c if c in "\t\n\r" or (c >= " " and c not in "\ufffe\uffff") else "\N{REPLACEMENT CHARACTER}" for c in text
    )
