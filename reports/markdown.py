"""A report as GitHub-flavoured Markdown: the page's content without its charts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from siderostat.reports.document import CaseSet, Document, RunPart
from siderostat.reports.labels import capital
from siderostat.reports.section import Section
from siderostat.reports.tables import Table


def escaped(text: str) -> str:
    """Return text that Markdown shows as it is, on one line."""
    return re.sub(r"([\\`*\[\]<>|#~])", r"\\\1", " ".join(text.split()))


def text(document: Document) -> str:
    """Return the report as Markdown."""
    return "\n".join(_lines(document)) + "\n"


def _lines(document: Document) -> Iterator[str]:
    """Yield the report line by line."""
    yield f"# {escaped(document.title)}"
    yield ""
    for run in document.runs:
        yield from (f"{_bold(run.name)}: {escaped(run.summary)}.", "")
    for note in [*document.notes, *document.warnings]:
        yield from (f"> {escaped(note)}", "")
    for section in (s for s in document.sections if s.is_first):
        yield from _section(section)
    for case_set in document.sets:
        yield from _case_set(case_set)
    for section in (s for s in document.sections if not s.is_first):
        yield from _section(section)
    for part in document.learned:
        prefix = f"{escaped(part.learned.run)}: " if part.learned.run else ""
        yield from (f"## {prefix}{escaped(part.learned.title)}", "", escaped(part.headline), "")
        yield from (*_table(part.table), "")
    for run in document.runs:
        yield from _run(run, several=len(document.runs) > 1)
    if document.sources:
        yield from ("## Published sources", "", *_items(document.sources), "")
    yield from ("## Glossary", "")
    for title, entries in document.glossary:
        yield from (f"{_bold(title)}", "", *(f"- {_bold(term)}: {escaped(words)}" for term, words in entries), "")
    yield f"Made {document.generated_at} by siderostat. Charts are in report.html, all figures in report.csv."


def section_text(section: Section, made: str) -> str:
    """Return a section as a text of its own, with ``made`` as its last line."""
    lines = [*_section(section), escaped(made)]
    return "\n".join(line[1:] if line.startswith("##") else line for line in lines) + "\n"


def _section(section: Section) -> Iterator[str]:
    """Yield a section."""
    yield from (f"## {escaped(section.title)}", "")
    for part in section.parts:
        yield from (f"### {escaped(part.title)}", "")
        if part.sentences:
            yield from (*_items(part.sentences), "")
        if part.table is not None:
            yield from (*_table(part.table), "")
        if part.notes:
            yield from (*_items(part.notes), "")


def _case_set(case_set: CaseSet) -> Iterator[str]:
    """Yield one workload, variant and mode."""
    yield from (f"## {escaped(case_set.title)}", "", *_items(case_set.headlines), "")
    yield from (*_table(case_set.cases), "")
    if case_set.flags:
        yield from (*_items(case_set.flags), "")
    if case_set.start_up is not None:
        yield from ("### Before the first timed step, medians over the processes", "", *_table(case_set.start_up), "")
    if case_set.beside is not None:
        yield from ("### Beside published times", "", *_table(case_set.beside), "", *_items(case_set.caveats), "")


def _run(run: RunPart, several: bool) -> Iterator[str]:
    """Yield what belongs to one run."""
    prefix = f"{escaped(run.name)}: " if several else ""
    yield from (f"## {prefix}harness overhead", "", *_items(run.overhead), "")
    yield from (f"## {prefix}what did not end well", "")
    yield from (*(["Every process ended ok."] if run.failures is None else _table(run.failures)), "")
    yield from (f"## {prefix}protocol", "", *_items(run.protocol), "")
    yield from (f"## {prefix}environment", "")
    for title, entries in run.facts:
        yield from (_bold(title), "", *(f"- {escaped(name)}: {escaped(value)}" for name, value in entries), "")
    yield from (f"## {prefix}how to go on", "")
    for words, command in run.commands:
        yield from (f"{escaped(words)}:", "", f"    {' '.join(command.split())}", "")


def _bold(text: str) -> str:
    return f"**{escaped(text)}**"


def _items(texts: Iterable[str]) -> list[str]:
    return [f"- {escaped(t)}" for t in texts]


def _table(table: Table) -> Iterator[str]:
    """Yield a table; its caption goes before it."""
    if table.caption:
        yield from (f"{escaped(capital(table.caption))}.", "")
    yield "| " + " | ".join(map(escaped, table.head)) + " |"
    yield "|" + "|".join("---:" if i in table.figures else "---" for i in range(len(table.head))) + "|"
    for row in table.rows:
        yield "| " + " | ".join(map(escaped, row.cells)) + " |"
