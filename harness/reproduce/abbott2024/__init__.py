"""Abbott et al. (2024/25), arXiv:2502.00263, at the scale of one core: learned loops and correlated ensembles.

What is published needs GPUs for days; what is made here is the same comparison with fewer layers and updates, and says
how far that reaches.
"""

from __future__ import annotations

from siderostat.reproduce.abbott2024.scales import SCALES
from siderostat.reproduce.page import Page
from siderostat.reproduce.parts import Found, Part


def plan(scale: str, seeds: int) -> list[Part]:
    """Return the parts, one seed after the other; see :class:`siderostat.reproduce.page.Module`."""
    from siderostat.reproduce.abbott2024 import loops, transport

    chosen = SCALES[scale]
    return [part for seed in range(seeds) for module in (loops, transport) for part in module.plan(chosen, seed)]


def show(found: Found) -> Page:
    """Return the page; see :class:`siderostat.reproduce.page.Module`."""
    from siderostat.reproduce.abbott2024 import findings, text

    return text.page(findings.find(found))
