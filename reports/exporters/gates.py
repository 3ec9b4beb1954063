"""What a gate's folder says, read from its ``gate.json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from siderostat.gate import Verdict
from siderostat.reports.gate import SCHEMA, change, word
from siderostat.verdicts import MODEL


@dataclass(frozen=True)
class GateSeries:
    """What the gate says of one series; changes of the time as 0.03 for 3 %, times in seconds per item."""

    name: str
    verdict: Verdict
    reason: str
    basis: str
    slowdown: float | None
    slowdown_low: float | None
    slowdown_high: float | None
    detectable: float | None
    head_seconds_per_item: float | None
    worse: tuple[str, ...]
    """Figures that are compared as they are and rose."""

    @property
    def word(self) -> str:
        """The verdict as it is printed."""
        return word(self.verdict)

    @property
    def title(self) -> str:
        """The name; where the time is a model's, with that."""
        return f"{self.name} (modelled)" if self.basis == MODEL else self.name

    @property
    def sentence(self) -> str:
        """What was found, and what could have been found; empty where nothing is known."""
        parts = [self.reason] if self.reason else []
        if self.slowdown is not None:
            ends = ""
            if self.slowdown_low is not None and self.slowdown_high is not None:
                ends = f" ({change(1 + self.slowdown_low)} to {change(1 + self.slowdown_high)})"
            parts.append(f"time of the head {change(1 + self.slowdown)}{ends}")
        parts += [f"{name} rose" for name in self.worse]
        if self.verdict is Verdict.INCONCLUSIVE and self.detectable is not None:
            parts.append(f"slowdowns from {change(1 + self.detectable)} on could have been found")
        return "; ".join(parts)


@dataclass(frozen=True)
class Verdicts:
    """What a gate says.

    Attributes:
        name: of its folder.
        base: what the base is, in words.
        head: what the head is, in words.
        series: one for each cell.
    """

    name: str
    base: str
    head: str
    series: tuple[GateSeries, ...]


def verdicts(name: str, data: Any) -> Verdicts:
    """Return what ``gate.json`` says.

    Args:
        name: of the gate.
        data: the file's JSON.

    Raises:
        ValueError: if it is no gate's, or a newer siderostat's; the text says so.
    """
    schema = data.get("schema") if isinstance(data, dict) else None
    if isinstance(schema, int) and schema > SCHEMA:
        raise ValueError(
            f"schema {schema} is newer than {SCHEMA}, the newest this siderostat reads; upgrade siderostat"
        )
    if schema != SCHEMA:
        raise ValueError("it is not what 'siderostat gate' writes")
    try:
        found = tuple(_series(one) for one in data["series"])
        return Verdicts(name, str(data["base"]), str(data["head"]), found)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"it is damaged ({type(error).__name__}: {error})") from None


def _series(data: Mapping[str, Any]) -> GateSeries:
    head = _number(data["head_seconds_per_item"])
    return GateSeries(
        str(data["series"]),
        Verdict(data["verdict"]),
        str(data["reason"]),
        str(data["basis"]),
        _number(data["slowdown"]),
        _number(data["slowdown_low"]),
        _number(data["slowdown_high"]),
        _number(data["detectable"]),
        head if head is None or head > 0 else None,
        tuple(str(figure["name"]) for figure in data["exact"] if figure["verdict"] == Verdict.FAIL.value),
    )


def _number(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"a number is expected, not {type(value).__name__}")
    return float(value)
