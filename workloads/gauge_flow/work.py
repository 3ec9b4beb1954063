"""What a layer computes and moves, per configuration, as ``siderostat trace`` counts it; no framework here.

Everything is proportional to the sites of the lattice. Of the formulations ``real`` and ``fused`` compute the cone of
the active links only, ``complex`` computes whole fields. Numbers have 4 bytes, complex ones twice as many.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Tuple

from siderostat.workloads.gauge_flow.group import COLOURS, DIMENSIONS, PLANES
from siderostat.workloads.gauge_flow.lattice import Direction, Location, Update
from siderostat.workloads.gauge_flow.parameters import (
    AUGMENTED,
    INVARIANTS,
    LIBRARY_PRODUCT_FLOPS,
    MIXING_FLOPS,
    PRODUCT_FLOPS,
    STENCIL,
    WIDTH,
    level_flops,
    trace_flops,
)

SPECTRAL_FLOPS = {"real": 4300, "fused": 4300, "complex": 7450}
"""Of an active link: its invariants and projection, eigenvalues, splines and way back. Of ``real``, 2,368 are Newton's
iteration; of ``complex``, 5,436 singular values, eigenvectors, inverse and determinants, by the tracer's table."""

_MATRIX = 2 * COLOURS**2  # numbers in one
_NUMBER_BYTES = 4
_INDEX_BYTES = 4
_FACTORS = 1 + 3 * (AUGMENTED - 1)  # links that one link's level reads
_REAL_PRODUCT = 27 + 10 * 24
"""Numbers moved by ``pairs.product``: one multiplication that makes all 18 from 9, and of half of them ten sums."""
_COMPLEX_PRODUCT_BYTES = 695
"""Of a product in ``complex`` with its share of shifts, copies and mixing; 216 are its factors and result."""


@dataclass(frozen=True)
class Extent:
    """How much of a lattice a layer needs, per site.

    Attributes:
        active: links that change.
        levels: links that the levels of a learned staple network make.
        plaquettes: frozen ones that are read.
        inner: sites of the first convolution.
        outer: sites of the second.
    """

    active: float
    levels: Tuple[float, ...]
    plaquettes: float
    inner: float
    outer: float


def extent(update: Update) -> Extent:
    """Return how much of a lattice a layer with this update needs, where nothing else is computed."""
    if isinstance(update, Direction):
        return Extent(1 / 4, (4, 5 / 2, 1 / 4), 9 / 2, 1, 1 / 4)
    if isinstance(update, Location):
        return Extent(1 / 4, (), 3, 5 / 16, 1 / 16)
    return Extent(1 / 2, (4, 4, 1 / 2), 3, 1, 1 / 2)


def layer_flops(formulation: str, update: Update, learned: bool) -> Dict[str, float]:
    """Return floating-point operations per site of the parts of a layer.

    A product of two matrices is 198 in ``real`` and ``fused`` and 216 in ``complex``, whose products are a library's;
    there the mixing is of complex numbers too, twice as much work.

    Args:
        formulation: ``complex``, ``real`` or ``fused``.
        update: which links the layer changes.
        learned: whether its active loops are learned.
    """
    needed, is_complex = extent(update), formulation == "complex"
    inner, outer = (1.0, 1.0) if is_complex else (needed.inner, needed.outer)
    traces = len(PLANES) * 3 * LIBRARY_PRODUCT_FLOPS if is_complex else needed.plaquettes * trace_flops(1)
    width = WIDTH.context
    first, second = 2 * STENCIL * 2 * len(PLANES) * width, 2 * STENCIL * width * width
    dense = 2 * (width + INVARIANTS) * 2 * width + 2 * 2 * width * 2 * (3 * WIDTH.bins + 1)
    return {
        "staple network": _learned(needed, is_complex) if learned else _fixed(update, needed, is_complex),
        "context network": traces + inner * first + outer * second + needed.active * dense,
        "spectral map": needed.active * SPECTRAL_FLOPS[formulation],
    }


def _learned(needed: Extent, is_complex: bool) -> float:
    if not is_complex:
        return sum(part * level_flops(1, *channels) for part, channels in zip(needed.levels, _channels()))
    return sum(
        DIMENSIONS * (12 * inside * LIBRARY_PRODUCT_FLOPS + AUGMENTED * inside * outside * 2 * MIXING_FLOPS)
        for inside, outside in _channels()
    )


def _fixed(update: Update, needed: Extent, is_complex: bool) -> float:
    if is_complex:
        return 2.0 * LIBRARY_PRODUCT_FLOPS * (DIMENSIONS if isinstance(update, Location) else 1)
    return needed.active * 2 * PRODUCT_FLOPS


def loop_bytes(formulation: str, update: Update, learned: bool, batch: int) -> float:
    """Return bytes per site and configuration that are read and written to make a layer's active loops.

    Args:
        formulation: ``complex``, ``real`` or ``fused``.
        update: which links the layer changes.
        learned: whether its active loops are learned.
        batch: configurations that share the tables of neighbours.
    """
    needed, is_complex = extent(update), formulation == "complex"
    if learned:
        return _complex_bytes() if is_complex else _learned_bytes(needed, formulation == "fused", batch)
    if is_complex:
        return (DIMENSIONS if isinstance(update, Location) else 1) * 2 * _COMPLEX_PRODUCT_BYTES
    fetched = 3 * (DIMENSIONS + needed.active) * _MATRIX
    return (fetched + 2 * needed.active * _REAL_PRODUCT) * _NUMBER_BYTES


def _complex_bytes() -> float:
    return sum(DIMENSIONS * 12 * inside * _COMPLEX_PRODUCT_BYTES for inside, _ in _channels())


def _learned_bytes(needed: Extent, is_fused: bool, batch: int) -> float:
    made = needed.levels
    numbers, tables = 4.0 * DIMENSIONS * _MATRIX, 0.0  # masked, and laid out in rows
    for read, links, (inside, outside) in zip((DIMENSIONS, *made), made, _channels()):
        tables += links * _FACTORS * _INDEX_BYTES / batch
        if is_fused:
            numbers += (read * inside + links * outside) * _MATRIX
        else:
            numbers += (
                _gathered(read, links, inside) + 12 * links * inside * _REAL_PRODUCT + _mixed(links, inside, outside)
            )
    if is_fused:
        numbers += 2 * made[-1] * _MATRIX  # laid out as matrices again
    return numbers * _NUMBER_BYTES + tables


def _gathered(read: float, links: float, inside: int) -> float:
    """Return numbers moved to fetch what a level reads: by the tracer's rule all of the level before, each time."""
    return _FACTORS * (read + 3 * links) * inside * _MATRIX


def _mixed(links: float, inside: int, outside: int) -> float:
    """Return numbers moved by the mixing, and to lay its result out in rows."""
    parts = AUGMENTED * inside * (3 if inside == 1 else 1)  # of one channel they are joined first
    sums = outside if inside == 1 else (2 * AUGMENTED - 1) * outside
    return links * (parts + sums + 2 * outside) * _MATRIX


def _channels() -> Tuple[Tuple[int, int], ...]:
    levels = WIDTH.channels_of_levels()
    return tuple(zip(levels, levels[1:]))
