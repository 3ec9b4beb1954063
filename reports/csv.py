"""Rows as comma-separated values: what :mod:`siderostat.reports.frame` holds, at full precision, without pandas."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from siderostat.reports.comparisons import COLUMNS as RATIO_COLUMNS
from siderostat.reports.comparisons import flat_rows as flat_ratios
from siderostat.reports.processes import COLUMNS, all_process_rows
from siderostat.reports.quality import COLUMNS as LOOK_COLUMNS
from siderostat.reports.quality import flat_rows as flat_looks
from siderostat.reports.rows import flat_rows, rows
from siderostat.reports.run import RunData


def cases(runs: Sequence[RunData]) -> str:
    """Return ``report.csv``: one row for each case. What is not known is an empty field."""
    return _text(flat_rows(rows(runs), with_run=len(runs) > 1))


def processes(runs: Sequence[RunData]) -> str:
    """Return ``records.csv``: one row for each process, the null workload's too."""
    return _text(all_process_rows(runs), COLUMNS)


def looks(runs: Sequence[RunData]) -> str:
    """Return ``quality.csv``: one row for each figure of each look at a model."""
    return _text(flat_looks(runs), LOOK_COLUMNS)


def ratios(runs: Sequence[RunData]) -> str:
    """Return ``ratios.csv``: one row for each speed ratio and for each mean over tasks."""
    return _text(flat_ratios(runs), RATIO_COLUMNS)


def _text(table: Iterable[Mapping[str, Any]], columns: Sequence[str] = ()) -> str:
    """Return rows of equal keys as text; Python writes floats so that reading gives the same float again."""
    rest = iter(table)
    first = next(rest, None)
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, columns if first is None else list(first), lineterminator="\n")
    writer.writeheader()
    writer.writerows([] if first is None else itertools.chain([first], rest))
    return file.getvalue()
