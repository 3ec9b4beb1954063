"""Where and with what a run was made, and how to go on with it: whatever its manifest says, generically."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from siderostat.reports.labels import NOT_KNOWN, bytes_, count, setting
from siderostat.reports.run import RunData

Facts = list[tuple[str, str]]
SHORT_COMMIT = 10


def text(name: str, value: Any) -> str:
    """Return any JSON value in words; the name's ending tells the unit."""
    if value is None or value == "":
        return NOT_KNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{heading(k)} {text(k, v)}" for k, v in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(text(name, v) for v in value) or "none"
    if isinstance(value, (int, float)):
        return bytes_(value) if name.endswith("_bytes") else setting(value) if name.endswith("_s") else f"{value}"
    return str(value)


def heading(name: str) -> str:
    """Return a key without its unit: ``memory_bytes`` becomes "memory"; a variable's name stays as it is."""
    if name.isupper():
        return name
    return name.removesuffix("_bytes").removesuffix("_s").replace("_", " ")


def _minute(stamp: Any) -> str:
    """Return "2026-11-22 03:50 UTC" for an ISO 8601 time in UTC; anything else as it stands."""
    held = str(stamp)
    return f"{held[:10]} {held[11:16]} UTC" if len(held) >= 16 and held.endswith("Z") and held[10] == "T" else held


def _sessions(run: RunData) -> list[Mapping[str, Any]]:
    return [s for s in run.manifest.get("sessions") or [] if isinstance(s, Mapping)]


def _environments(run: RunData) -> dict[str, Mapping[str, Any]]:
    held = run.manifest.get("environments") or {}
    return {str(k): v for k, v in held.items() if isinstance(v, Mapping)} if isinstance(held, Mapping) else {}


def summary(run: RunData) -> str:
    """Return one line: what was run, when, on what."""
    parts = [count(len(run.cases), "case"), count(len(run.records), "measurement")]
    parts += [f"grade {run.grade}"] if run.grade else []
    sessions = _sessions(run)
    if sessions and sessions[0].get("started_at"):
        parts.append(f"begun {_minute(sessions[0]['started_at'])}")
    for environment in list(_environments(run).values())[:1]:
        parts += [str(environment["cpu"])] if environment.get("cpu") else []
        parts += [count(cores, "core")] if isinstance(cores := environment.get("cores"), int) else []
        parts += (
            [f"siderostat {environment['siderostat']}{_commit(environment)}"] if environment.get("siderostat") else []
        )
    return ", ".join(parts)


def _commit(environment: Mapping[str, Any]) -> str:
    """Return " (abc1234, with changes)"; empty without a commit."""
    commit = environment.get("commit")
    if not commit:
        return ""
    return f" ({str(commit)[:SHORT_COMMIT]}{', with uncommitted changes' if environment.get('dirty') else ''})"


def facts(run: RunData) -> list[tuple[str, Facts]]:
    """Return everything that is known about where and with what a run was made, under headings."""
    manifest = {k: v for k, v in run.manifest.items() if k not in ("sessions", "environments")}
    parts = [("Run", [(heading(k), text(k, v)) for k, v in manifest.items()])]
    sessions = [(_minute(s.get("started_at", NOT_KNOWN)), _command(s)) for s in _sessions(run)]
    parts.append(("Commands", sessions))
    for key, environment in _environments(run).items():
        parts.append((f"Environment {key}", [(heading(k), text(k, v)) for k, v in environment.items()]))
    parts.append(("Devices", _distinct((r.attempt.cell.device, r.device) for r in run.records if r.device)))
    effective = (
        (f"{r.attempt.cell.framework} on {r.attempt.cell.device}", r.effective) for r in run.records if r.effective
    )
    parts.append(("In force", _distinct(effective)))
    return [(title, found) for title, found in parts if found]


def _distinct(pairs: Iterable[tuple[str, Mapping[str, Any]]]) -> Facts:
    """Return each different pair once, in words."""
    return list(dict.fromkeys((name, text(name, values)) for name, values in pairs))


def _command(session: Mapping[str, Any]) -> str:
    """Return a session's command line as a shell takes it."""
    argv = session.get("argv")
    return shlex.join(map(str, argv)) if isinstance(argv, list) and argv else NOT_KNOWN


def commands(run: RunData) -> Facts:
    """Return what to type to go on with a run, to make this report again, and to measure anew."""
    folder = shlex.quote(str(run.folder))
    found = [
        ("Go on with this run: measures only what is missing", f"siderostat run --resume {folder}"),
        ("Make this report again", f"siderostat report {folder}"),
    ]
    sessions = _sessions(run)
    if sessions and (command := _command(sessions[0])) != NOT_KNOWN:
        found.append(("The command that began it; into another folder, it measures everything anew", command))
    return found
