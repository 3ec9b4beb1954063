"""Energy of a step: bounds from nameplates, and a centre between them.

The chip draws at least its idle power and at most its thermal design power. The centre is idle + (busy - idle) times
the share of the step in which the chip works. Nameplate power times time is an upper bound, and no measurement.
"""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional

import numpy as np

from siderostat.devices.sim.bands import Draws, band, total
from siderostat.devices.sim.spec import Spec
from siderostat.devices.sim.time import ON_CHIP


def joules(parts: Mapping[str, Any], chip: Spec, draws: Draws, chip_count: int = 1) -> Dict[str, Optional[float]]:
    """Return the energy of a step over all chips, J: ``low``, ``centre``, ``high`` and the band of the centre.

    None is "not known": a file without the chip's idle power gives an upper bound only, and one without its thermal
    design power nothing.

    Args:
        parts: seconds of a step by part.
        chip: what does it.
        draws: of the parameters.
        chip_count: how many chips.
    """
    if chip.get("tdp_w") is None:
        return {"low": None, "centre": None, "high": None}
    step_s = total(parts)
    high = float(np.median(step_s) * chip["tdp_w"] * chip_count)
    if chip.get("idle_w") is None:
        return {"low": None, "centre": None, "high": high}
    idle = draws.of(chip, "idle_w")
    busy = draws.get(chip, "busy_w", chip["tdp_w"])
    works_s = total(parts, [name for name in ON_CHIP if name in parts])
    centre = (idle * step_s + np.maximum(busy - idle, 0.0) * works_s) * chip_count
    found: Dict[str, Optional[float]] = {
        "low": float(np.median(idle * step_s) * chip_count),
        "centre": float(np.median(centre)),
        "high": high,
    }
    found.update({f"centre_{name}": value for name, value in band(centre).items()})
    return found
