"""Published figures that reports set beside what was measured, each with its source.

They carry the provenance ``published``, which no record has: nothing of them was run here.
"""

from __future__ import annotations

from siderostat.reports.published.arcelin2021 import curves
from siderostat.reports.published.curve import PROVENANCE, Curve

__all__ = ["PROVENANCE", "Curve", "curves"]
