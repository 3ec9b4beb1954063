"""Alexander et al. (2022), arXiv:2112.12121: a lens classifier carried from one instrument to another.

The images are made here, by the same recipe and not the published ones. At the scale of one processor core they are
fewer and smaller, and the encoder is; the scale of the paper needs a GPU.
"""

from __future__ import annotations

from siderostat.reproduce.alexander2022.scales import SCALES
from siderostat.reproduce.page import Page
from siderostat.reproduce.parts import Found, Part


def plan(scale: str, seeds: int) -> list[Part]:
    """Return the parts, one seed after the other; see :class:`siderostat.reproduce.page.Module`."""
    from siderostat.reproduce.alexander2022 import lenses, trainings

    chosen = SCALES[scale]
    parts = [
        part for seed in range(seeds) for encoder in chosen.encoders for part in trainings.plan(chosen, encoder, seed)
    ]
    return [lenses.plan(chosen), *parts]


def show(found: Found) -> Page:
    """Return the page; see :class:`siderostat.reproduce.page.Module`."""
    from siderostat.reproduce.alexander2022 import findings, text

    return text.page(findings.find(found))
