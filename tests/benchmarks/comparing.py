"""Equal things compared with each other, and with one that does a tenth more, live on this machine, again and again.

Prints how often the rule found a difference between the equal ones (nominal: 5 %), and how often it found the tenth. Each
comparison is ten pairs in lock-step; it takes about a minute. An argument says how many comparisons: python comparing.py 20
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from siderostat import campaign, selftest, store
from siderostat.record import Protocol
from siderostat.stats import Estimate
from siderostat.store import OpenRun

COMPARISONS = 8
QUICK = Protocol(burst_s=0.06, warmup_s=0.1, warmup_limit_s=1.0)


class Silent:
    """Shows nothing."""

    def inputs(self, workload, done, total):
        pass

    def started(self, group):
        pass

    def finished(self, record):
        pass


def compare(seed: int) -> selftest.Verdict:
    with tempfile.TemporaryDirectory() as folder:
        store.create(Path(folder), selftest.make_plan(seed, "cpu", QUICK), {})
        with OpenRun(Path(folder)) as run:
            campaign.work(run, "", Silent())
            verdict = selftest.judge(run.records)
    assert verdict is not None
    return verdict


def excludes_one(ratio: Estimate) -> bool:
    return ratio.low is not None and ratio.high is not None and not ratio.low <= 1 <= ratio.high


def main() -> None:
    number = int(sys.argv[1]) if len(sys.argv) > 1 else COMPARISONS
    alarms = found = contended = 0
    for seed in range(number):
        verdict = compare(seed)
        alarms += excludes_one(verdict.same)
        found += excludes_one(verdict.slower) and verdict.slower.value > 1
        contended += verdict.n_contended
        print(
            f"{seed + 1:3d}: equal {verdict.same.value:.4f} ({verdict.same.low:.4f} to {verdict.same.high:.4f}), "
            f"slower {verdict.slower.value:.4f} ({verdict.slower.low:.4f} to {verdict.slower.high:.4f}), "
            f"visible {verdict.detectable:.1%}",
            flush=True,
        )
    print(f"a difference between equal things was found in {alarms} of {number} comparisons (5 % is nominal)")
    print(f"a planted tenth was found in {found} of {number}")
    print(f"{contended} of {10 * number} pairs were disturbed by other work")


if __name__ == "__main__":
    main()
