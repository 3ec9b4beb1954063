"""Published results made anew, and how far what was published is missed.

Each paper has a module of its own with two functions, see :class:`siderostat.reproduce.page.Module`: one plans the
parts of the work (:mod:`siderostat.reproduce.parts`), the other makes the page from those parts that there are. A paper
comes in by a line in :data:`PAPERS`. Nothing heavy is imported here: the command line reads this table for its help.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Paper:
    """A paper that can be reproduced.

    Attributes:
        text: what is made anew, for the help.
        module: full name.
        scales: how much is computed, the default first; empty where there is nothing to choose.
        seeds: how many times each training is repeated where ``--seeds`` does not say; 0 where nothing is.
    """

    text: str
    module: str
    scales: tuple[str, ...] = ()
    seeds: int = 0


PAPERS = {
    "arcelin2021": Paper(
        "times of a V100 and a GC2, published and by the chip models", "siderostat.reproduce.arcelin2021"
    ),
    "abbott2024": Paper(
        "learned against fixed active loops, and a derivative from correlated ensembles, trained and measured here",
        "siderostat.reproduce.abbott2024",
        scales=("small", "tiny"),
        seeds=3,
    ),
    "alexander2022": Paper(
        "lens classifiers carried from one instrument to another by ADDA and others, trained and judged here",
        "siderostat.reproduce.alexander2022",
        scales=("small", "tiny", "paper"),
        seeds=3,
    ),
    "nadler-to": Paper(
        "stellar mass functions from halos, by a forest and a three-dimensional network fitted and judged here",
        "siderostat.reproduce.nadler_to",
        scales=("small", "tiny", "paper"),
        seeds=3,
    ),
}
