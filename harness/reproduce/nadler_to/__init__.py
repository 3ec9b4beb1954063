"""Nadler & To, "Efficient Neural Network Implementation of the UniverseMachine": halos to the stellar mass function.

The halos and galaxies are made here and are not those of the paper, so that it is the ratios of chi^2 that can be
compared. One processor core trains the smallest of the three networks.
"""

from __future__ import annotations

from siderostat.reproduce.nadler_to.scales import SCALES
from siderostat.reproduce.page import Page
from siderostat.reproduce.parts import Found, Part


def plan(scale: str, seeds: int) -> list[Part]:
    """Return the parts, one seed after the other; see :class:`siderostat.reproduce.page.Module`."""
    from siderostat.reproduce.nadler_to import models

    return [part for seed in range(seeds) for part in models.plan(SCALES[scale], seed)]


def show(found: Found) -> Page:
    """Return the page; see :class:`siderostat.reproduce.page.Module`."""
    from siderostat.reproduce.nadler_to import findings, text

    return text.page(findings.find(found))
