"""Mean plaquettes of SU(3) in four dimensions that flows and the heat bath are compared with."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Dict, Tuple

from siderostat.workloads.gauge_flow.heatbath import Plaquette

FILE = Path(__file__).with_name("su3_plaquette.csv")


def plaquettes() -> Dict[Tuple[str, float], Plaquette]:
    """Return the mean plaquette by lattice, such as ``4^4``, and beta."""
    with FILE.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(line for line in file if not line.startswith("#"))
        return {
            (row["lattice"], float(row["beta"])): Plaquette(float(row["plaquette"]), float(row["error"]))
            for row in rows
        }
