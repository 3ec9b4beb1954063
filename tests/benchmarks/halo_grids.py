"""Halo grids: the sorting way against NumPy's histograms per sub-box, in one run on one thread, and what a full box costs.

Rounds take turns; seconds are CPU seconds of this process. Ends with 1 where the 250 Mpc/h box takes more than 20 CPU
seconds or 2 GB, or gridding it is not at least 10 times as fast as the plain way.
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import resource
import statistics
import sys
import time
from collections.abc import Callable

from siderostat.workloads.halo_grids import gridded, grids, halos

ROUNDS = 5
SMALL, FULL = (100.0, 100), (250.0, 256)
VPEAK_MIN = 150.0
MOST_S, MOST_BYTES, LEAST_RATIO = 20.0, 2e9, 10.0


def seconds(work: Callable[[], object]) -> float:
    """Return CPU seconds."""
    start = time.process_time()
    work()
    return time.process_time() - start


def compared(name: str, found: halos.Catalogue, before_s: float) -> float:
    """Print and return how many times as fast the fast way is; ``before_s`` is spent by both."""
    boxes = round(found.box_mpc_h / grids.SIDE) ** 3
    pairs = []
    for _ in range(ROUNDS):
        fast_s, naive_s = (
            before_s + seconds(lambda way=way: gridded(way, found, grids.OVER_CELLS)) for way in ("fast", "naive")
        )
        pairs.append((fast_s, naive_s))
    ratios = sorted(naive / fast for fast, naive in pairs)
    fast_s, naive_s = (statistics.median(pair[i] for pair in pairs) for i in (0, 1))
    print(
        f"fast / naive, {name}, {boxes} sub-boxes: {statistics.median(ratios):.1f}   ({boxes / fast_s:.0f} against "
        f"{boxes / naive_s:.0f} sub-boxes/s), {ROUNDS} pairs from {ratios[0]:.1f} to {ratios[-1]:.1f}"
    )
    return statistics.median(ratios)


def main() -> int:
    """Print the cost of a full box and the ratios, each with its bar."""
    halos.make(0, 50.0, 32, VPEAK_MIN)  # imports
    start = time.process_time()
    full = halos.make(0, *FULL, VPEAK_MIN)
    made_s = time.process_time() - start
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"a box of 250 Mpc/h, {len(full)} halos: {made_s:.1f} CPU s (bar {MOST_S:.0f})")
    print(f"    peak memory of the process {peak_bytes / 1e9:.2f} GB (bar {MOST_BYTES / 1e9:.0f})")
    start = time.process_time()
    small = halos.make(0, *SMALL, VPEAK_MIN)
    small_s = time.process_time() - start
    compared("gridding and labels", small, 0.0)
    compared("halos too", small, small_s)
    ratio = compared("gridding and labels", full, 0.0)
    compared("halos too", full, made_s)
    print(f"ratio of gridding the full box {ratio:.1f} (bar {LEAST_RATIO:.0f})")
    return int(made_s > MOST_S or peak_bytes > MOST_BYTES or ratio < LEAST_RATIO)


if __name__ == "__main__":
    sys.exit(main())
