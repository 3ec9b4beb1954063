"""How long `siderostat --help` takes, against an interpreter that does nothing, taking turns, in one run."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

ROUNDS = 15
BAR_S = 0.3


def seconds(*words: str) -> float:
    """Return the wall time of one interpreter."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *words], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def main() -> None:
    """Print both times and their ratio."""
    pairs = [(seconds("-m", "siderostat", "--help"), seconds("-c", "pass")) for _ in range(ROUNDS)]
    help_s, nothing_s = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(
        f"siderostat --help: {help_s:.3f} s (bar {BAR_S} s), python -c pass: {nothing_s:.3f} s, median of {ROUNDS} pairs"
    )
    print(f"ratio: {statistics.median(a / b for a, b in pairs):.2f}")


if __name__ == "__main__":
    main()
