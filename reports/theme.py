"""How charts look: colours that colour-blind readers can tell apart (Okabe and Ito), type, ticks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
PUBLISHED_GREYS = ("#4A4A4A", "#8A8A8A")
INK, MUTED, GRID = "#1C2126", "#5B6470", "#E4E7EB"
FONT = "Helvetica Neue, Helvetica, Arial, Liberation Sans, sans-serif"
WIDTH, HEIGHT = 430, 270  # of the plotting area, pixels; two charts stand side by side on a page 1100 wide
LOG_BATCH = 32  # ratio of largest to smallest batch size from which the axis is logarithmic
LOG_VALUE = 30  # the same for throughput and memory
EVEN_RATIO = 4  # ratio of largest to smallest speed ratio up to which ticks are at equal distances

CONFIG: dict[str, Any] = {
    "background": "white",
    "font": FONT,
    "view": {"stroke": None},
    "axis": {
        "labelFontSize": 12,
        "titleFontSize": 12.5,
        "titleFontWeight": "normal",
        "labelColor": MUTED,
        "titleColor": INK,
        "titlePadding": 8,
        "domainColor": MUTED,
        "tickColor": MUTED,
        "gridColor": GRID,
    },
    "axisX": {"grid": False},
    "axisY": {"domain": False, "ticks": False},
    "legend": {
        "orient": "top",
        "direction": "vertical",
        "labelFontSize": 12,
        "labelColor": INK,
        "labelLimit": WIDTH,
        "symbolSize": 70,
        "symbolOpacity": 1,  # else that of the lines
        "symbolStrokeWidth": 1.8,
        "rowPadding": 3,
        "offset": 12,
    },
}


def is_log(values: Iterable[float], ratio: float) -> bool:
    """Say whether positive values span so much that a logarithmic axis reads better."""
    held = list(values)
    return min(held) > 0 and max(held) / min(held) >= ratio


def ticks_125(low: float, high: float) -> list[float]:
    """Return 1, 2, 5, 10, 20, ... from the last below ``low`` to the first above ``high``, two at least."""
    first, last = math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1
    ladder = [float(f"{m}e{e}") for e in range(first, last + 1) for m in (1, 2, 5)]
    start = max(x for x in ladder if x < low)
    end = min(x for x in ladder if x > high)
    return [x for x in ladder if start <= x <= end]


def ratio_ticks(low: float, high: float) -> list[float]:
    """Return ticks from below ``low`` to above ``high`` with 1 among them, for a logarithmic axis of ratios.

    At equal distances where the ratios span less than a factor of four, at 1, 2, 5 where they span more.
    """
    low, high = min(low, 1.0), max(high, 1.0)
    if high / low >= EVEN_RATIO:
        return ticks_125(low, high)
    step = next(s for s in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if (high - low) / s <= 8)
    first, last = math.floor(low / step - 1e-9), math.ceil(high / step + 1e-9)
    return [round(i * step, 2) for i in range(first, last + 1)]


def batch_scale(batches: Sequence[int]) -> dict[str, Any]:
    """Return the scale of the batch axis: with room at both ends, to base 2 where the sizes span much."""
    if is_log(batches, LOG_BATCH):
        return {"type": "log", "base": 2, "nice": False, "padding": 14}
    return {"type": "linear", "zero": False, "nice": False, "padding": 14}
