"""Mean plaquettes of SU(3) in four dimensions that flows and the heat bath are compared with."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Dict, List, Tuple

from siderostat.workloads.gauge_flow.heatbath import Plaquette

FILE = Path(__file__).with_name("su3_plaquette.csv")


def plaquettes() -> Dict[Tuple[str, float], Plaquette]:
    """Return the mean plaquette by lattice, such as ``4^4``, and beta."""
    return {_key(row): Plaquette(float(row["plaquette"]), float(row["error"])) for row in _rows()}


def deviations() -> Dict[Tuple[str, float], float]:
    """Return the standard deviation of the plaquette of one configuration by lattice and beta.

    The error of a mean over n configurations is that deviation times sqrt(2 tau / n), tau the autocorrelation time.
    """
    return {
        _key(row): float(row["error"]) * math.sqrt(int(row["configurations"]) / (2 * float(row["tau_int"])))
        for row in _rows()
    }


def _rows() -> List[Dict[str, str]]:
    with FILE.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


def _key(row: Dict[str, str]) -> Tuple[str, float]:
    return row["lattice"], float(row["beta"])
