"""What Abbott et al. published, as read from the file that comes along with the reports."""

from __future__ import annotations

import csv
from functools import cache

from siderostat.reports.published.arcelin2021 import DATA

FLOW_LAYERS = 192


@cache
def figures() -> dict[str, float]:
    """Return the published figures by name: effective sample sizes as shares, costs in GPU hours."""
    with (DATA / "abbott2024_gauge.csv").open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(line for line in file if not line.startswith("#"))
        return {row["quantity"]: float(row["value"]) for row in rows}
