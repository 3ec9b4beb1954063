"""Many stored runs in the order of their making: a series for each case and machine, and where its level changed.

Change points are found by an exact search over all segmentations (PELT, Killick, Fearnhead & Eckley 2012, as the
package ruptures does it) of the logarithms of the times, with a penalty that grows with the noise of the series. Each
is then tested like two runs that were measured apart: Welch's interval between the segments on both of its sides.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from siderostat import stats
from siderostat.record import Cell
from siderostat.stats import Estimate

LEAST_RUNS = 3  # on either side of a change
PENALTY = 3.0  # times the variance between neighbours times log n; 2 is the Schwarz criterion of one more level
LEAST_CHANGE = 0.01  # of the time, below which a change is of no interest
_CONFIDENCE = 0.99
_TO_SIGMA = 1.4826  # a normal distribution's standard deviation over its median absolute deviation


@dataclass(frozen=True)
class Point:
    """A case in one run.

    Attributes:
        run: its name.
        made_at: when it was begun, UTC, ISO 8601.
        commit: of the code that was measured; empty where it is not known.
        time: seconds per item.
        provenance: of the time.
    """

    run: str
    made_at: str
    commit: str
    time: Estimate
    provenance: str


@dataclass(frozen=True)
class Change:
    """Where the level of a series changed.

    Attributes:
        at: number of the first point of the new level.
        times: the new time over the old, with its 99 % interval.
    """

    at: int
    times: Estimate


@dataclass(frozen=True)
class Series:
    """One case on one machine.

    Attributes:
        name: of the case, in a few words.
        machine: what the runs say of it.
        cell: the case.
        item: work unit.
        points: in the order of making.
        changes: of the level.
    """

    name: str
    machine: str
    cell: Cell
    item: str
    points: tuple[Point, ...]
    changes: tuple[Change, ...]


def series(held: Iterable[tuple[str, Cell, str, Point]]) -> list[Series]:
    """Return a series for each case and machine.

    Args:
        held: machine, cell, work unit and point of every case of every run, in any order.
    """
    found: dict[tuple[str, str], list[tuple[str, Cell, str, Point]]] = defaultdict(list)
    for one in held:
        found[one[1].key(), one[0]].append(one)
    made = []
    for group in found.values():
        machine, cell, item, _ = group[0]
        points = tuple(sorted((point for *_, point in group), key=lambda p: (p.made_at, p.run)))
        times = [point.time.value for point in points]
        made.append(Series(cell.label(), machine, cell, item, points, tuple(changes(times))))
    return sorted(made, key=lambda one: (one.name, one.machine))


def changes(times: Sequence[float]) -> list[Change]:
    """Return where the level of a series of times changed.

    Args:
        times: seconds per item, in the order of making.
    """
    logs = np.log(np.asarray(times, float))
    if len(logs) < 2 * LEAST_RUNS:
        return []
    edges = [0, *_breaks(logs), len(logs)]
    found = []
    for before, at, after in zip(edges, edges[1:], edges[2:], strict=False):
        old, new = (stats.log_mean(list(logs[i:j])) for i, j in ((before, at), (at, after)))
        change = stats.combined([(1.0, new), (-1.0, old)]).estimate(_CONFIDENCE)
        is_clear = change.low is not None and change.high is not None and not change.low <= 1 <= change.high
        if is_clear and abs(math.log(change.value)) > math.log1p(LEAST_CHANGE):
            found.append(Change(at, change))
    return found


def _breaks(logs: np.ndarray) -> list[int]:
    """Return the first number of each new level."""
    import ruptures

    noise = _noise(logs)
    if noise == 0:
        noise = 1e-6  # modelled times are the same from run to run: any change is one
    search = ruptures.Pelt(model="l2", min_size=LEAST_RUNS, jump=1).fit(logs[:, None])
    return [int(at) for at in search.predict(pen=PENALTY * noise**2 * math.log(len(logs)))[:-1]]


def _noise(logs: np.ndarray) -> float:
    """Return the standard deviation of one point, from differences of neighbours, which few changes hardly move."""
    steps = np.abs(np.diff(logs))
    return float(_TO_SIGMA * statistics.median(steps) / math.sqrt(2))
