"""The page of a reproduction, and the files that it is written to."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from siderostat.reports.labels import count
from siderostat.reports.section import Part, Section
from siderostat.reports.tables import Table, TableRow
from siderostat.reproduce import parts
from siderostat.reproduce.parts import Found


@dataclass(frozen=True)
class Page:
    """What a reproduction found.

    Attributes:
        section: sentences, charts and tables.
        points: every figure, as comma-separated values; empty where nothing is there yet.
        made: last line, which says what is measured and what is not.
    """

    section: Section
    points: str
    made: str


class Module(Protocol):
    """What the module of a paper has to offer."""

    def plan(self, scale: str, seeds: int) -> list[parts.Part]:
        """Return the parts of the work, those first that say most when the others are missing.

        Args:
            scale: one of those in the table of papers; empty where that has none.
            seeds: repetitions of each training.
        """
        ...

    def show(self, found: Found) -> Page:
        """Return the page made from the parts that there are, however few."""
        ...


def texts(page: Page) -> dict[str, str]:
    """Return the files of a reproduction by name."""
    from siderostat.reports import html, markdown

    written = {
        "reproduction.html": html.section_text(page.section, page.made),
        "reproduction.md": markdown.section_text(page.section, page.made),
    }
    return {**written, "points.csv": page.points} if page.points else written


def accounted(page: Page, found: Found) -> Page:
    """Return a page that says which parts it is made of, and which are missing; one without parts as it is."""
    if not found.results and not found.missing:
        return page
    missing = _missing(found)
    account = Part("Parts", missing, table=_account(found), notes=_machines(found))
    section = dataclasses.replace(
        page.section, headlines=[*page.section.headlines, *missing], parts=[*page.section.parts, account]
    )
    return dataclasses.replace(page, section=section)


def to_csv(rows: Sequence[Mapping[str, object]]) -> str:
    """Return rows with the same columns as comma-separated values; empty where there are none."""
    if not rows:
        return ""
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def _missing(found: Found) -> list[str]:
    if not found.missing:
        return []
    total = len(found.results) + len(found.missing)
    names = ", ".join(part.name for part in found.missing)
    return [f"{len(found.missing)} of {count(total, 'part')} missing: {names}. Give the same command again to go on."]


def _account(found: Found) -> Table:
    made = [
        TableRow([name, r.title, f"{r.cpu_s:.0f} s", r.provenance.value, r.made_at])
        for name, r in found.results.items()
    ]
    missing = [TableRow([p.name, p.title, "n/a", "missing", "n/a"], "failed") for p in found.missing]
    head = ["Part", "What", "Processor time", "Provenance", "Made at (UTC)"]
    return Table(head, made + missing, "each part is a file in the folder parts", frozenset({2}))


def _machines(found: Found) -> list[str]:
    """Say where the parts were made; more than one line where that was not one machine with one set of software."""
    seen = []
    for result in found.results.values():
        held = result.environment
        packages = ", ".join(f"{name} {version}" for name, version in held.get("packages", {}).items())
        seen.append(f"Made on {held.get('cpu') or 'an unknown processor'}, Python {held.get('python')}, {packages}.")
    return list(dict.fromkeys(seen))
