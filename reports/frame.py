"""Tidy tables for those who go on in Python: one row for each cell, or one for each process. SI units in the names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pandas as pd

from siderostat.reports.processes import COLUMNS, process_rows
from siderostat.reports.rows import flat_rows, ordered, row

if TYPE_CHECKING:
    from siderostat.record import Record
    from siderostat.stats import Case

# pandas would turn a whole number beside a missing one into a float: 1.5e9 bytes, process 4711.0.
WHOLE = ("peak_bytes", "need_bytes", "pid", "items_per_step", "n_energy_windows")


def frame(cases: Iterable[Case], grade: str = "", run: str = "") -> pd.DataFrame:
    """Return one row for each case, sorted as tables are; columns: :class:`siderostat.reports.rows.Row`.

    Args:
        cases: cells with their records and estimates.
        grade: ``quick``, ``ci`` or ``publish``, as the run says.
        run: the run's name; where it is given, column ``run`` comes first.
    """
    return _typed(pd.DataFrame(flat_rows(ordered(row(c, grade, run) for c in cases), with_run=bool(run))))


def records_frame(records: Iterable[Record]) -> pd.DataFrame:
    """Return one row for each record of one run: median seconds per item, status, processor share, flags."""
    return _typed(pd.DataFrame(list(process_rows(records)), columns=list(COLUMNS)))


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with floats for times (missing: NaN) and nullable integers for whole numbers."""
    for name in table.columns:
        if name in WHOLE:
            table[name] = table[name].astype("Int64")
        elif name.endswith(("_s", "_low", "_high", "_per_item", "_per_s", "_u95")):
            table[name] = table[name].astype("float64")
    return table
