"""How much of the paper is computed."""

from __future__ import annotations

from dataclasses import dataclass

PLAN = ((1e-1, 10), (1e-3, 5))


@dataclass(frozen=True)
class Scale:
    """A scale.

    Attributes:
        box: which box is made, by name.
        boxes: sub-boxes in it.
        channels: of the networks, N.
        plan: learning rates and epochs.
        batch: sub-boxes in a step.
        trees: of a forest.
        halos: that a forest is fitted to at most.
        draws: of stellar masses, from whose mean the expected labels are taken.
    """

    box: str
    boxes: int
    channels: tuple[int, ...]
    plan: tuple[tuple[float, int], ...]
    batch: int
    trees: int
    halos: int
    draws: int


SCALES = {
    "small": Scale("paper", 1000, (20,), PLAN, 32, 500, 20_000, 200),
    "tiny": Scale("tiny", 64, (4,), ((1e-1, 2), (1e-3, 1)), 8, 20, 1000, 20),
    "paper": Scale("paper", 1000, (20, 100, 200), PLAN, 32, 500, 20_000, 200),
}
"""``tiny`` shows in a minute that everything runs; none of its figures says anything about the paper. ``paper`` trains
all three networks of the paper; its two large ones have never been trained, and how long they take is a guess."""

DEPTHS = (10, 5)
"""Of the forests; the paper has 5 or 10."""
