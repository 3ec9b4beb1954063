"""A part of a report that stands on its own: sentences, tables and charts under a heading."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from siderostat.reports.tables import Table

if TYPE_CHECKING:
    from siderostat.reports.charts import Chart


@dataclass(frozen=True)
class Part:
    """What stands under one heading of a section, in this order."""

    title: str
    sentences: list[str] = field(default_factory=list)
    charts: Callable[[], Iterable[Chart]] = tuple  # called when a page is drawn: altair is slow to import
    table: Table | None = None
    notes: list[str] = field(default_factory=list)
    pictures: dict[str, dict[str, Any]] = field(default_factory=dict)  # title -> as records hold them; first of all


@dataclass(frozen=True)
class Section:
    """A section.

    Attributes:
        name: lower-case word, for ids.
        title: heading.
        headlines: sentences that the report begins with.
        parts: what follows.
    """

    name: str
    title: str
    parts: list[Part]
    headlines: list[str] = field(default_factory=list)
    is_first: bool = False
