"""The report: from records to tables, charts and pages.

Importing this package loads none of pandas, altair, vl-convert and jinja2; :func:`write` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from siderostat.files import write_atomically
from siderostat.reports.run import RunData

__all__ = ["MOST_CASES", "RunData", "TooManyCases", "write"]

MOST_CASES = 2000
"""More rows than that are no table to read, and no chart."""


class TooManyCases(ValueError):
    """More cases than a report can show."""


def write(runs: Sequence[RunData], folder: Path) -> dict[str, Path]:
    """Write ``report.html``, ``report.md``, ``report.json`` and the tables: ``report.csv``, ``records.csv`` and others.

    Each file is replaced as a whole: whoever reads meanwhile sees the old one or the new one. Nothing is written
    unless all of them could be made.

    Args:
        runs: one run, or several to set side by side.
        folder: where the files go; made where it is missing.

    Returns:
        File name -> path.

    Raises:
        ValueError: if there is no run.
        TooManyCases: if there are more than ``MOST_CASES``.
        ModuleNotFoundError: if altair, vl-convert, jinja2 or Pillow is missing.
        OSError: if the folder cannot be written.
    """
    from siderostat.reports import csv, html, json, markdown
    from siderostat.reports.document import document

    if not runs:
        raise ValueError("a report needs at least one run")
    cases = sum(len(run.cases) for run in runs)
    if cases > MOST_CASES:
        raise TooManyCases(f"{cases:,} cases; a report shows {MOST_CASES:,} at most")
    content = document(runs)
    texts = {
        "report.html": html.text(content),
        "report.md": markdown.text(content),
        "report.csv": csv.cases(runs),
        "records.csv": csv.processes(runs),
        "quality.csv": csv.looks(runs),
        "ratios.csv": csv.ratios(runs),
        "report.json": json.text(runs, content),
    }
    folder.mkdir(parents=True, exist_ok=True)
    return {name: write_atomically(folder / name, text) for name, text in texts.items()}
