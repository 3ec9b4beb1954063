"""How a convolution or a matrix product is spread over the tiles of a chip whose memory is its own.

A search like that of Graphcore's PopLibs, in three numbers: into how many parts the rows (batch and pixels), the sum
and the columns (channels out) are cut. Cost of a part: multiplications in the matrix unit, block by block; the operands
it receives from other tiles; and, where the sum was cut, adding what its parts give.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from siderostat.devices.sim.opgraph import Op

COLUMNS = 8  # of a block of weights that the matrix unit holds
CUTS = np.array([1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536])
ADD_CYCLES = 0.75  # to add one partial sum of four bytes


@dataclass(frozen=True)
class Product:
    """A product of matrices, with what makes a convolution one.

    Attributes:
        rows: batch times pixels.
        inner: length of the sum at one position of the kernel.
        columns: channels out.
        taps: positions of the kernel.
        side: of the kernel, which a part of an image overlaps its neighbours by.
        dimensions: of the image.
        sources: elements the rows are made of; with a stride they are more than the rows.
        copies: independent products of this shape.
        rearranged: elements that must be laid out anew before.
    """

    rows: int
    inner: int
    columns: int
    taps: int = 1
    side: int = 1
    dimensions: int = 2
    sources: int = 0
    copies: int = 1
    rearranged: int = 0


@dataclass(frozen=True)
class Tiles:
    """What of a chip decides how work is spread.

    ``macs`` and ``inner`` are multiplications per cycle and the length of the sum in a block, for the precision.
    """

    count: int
    memory_bytes: int
    macs: int
    inner: int
    itemsize: int
    exchange_bytes_per_cycle: float
    block_cycles: float
    most_temporary: float  # share of a tile's memory


@dataclass(frozen=True)
class Plan:
    """Work of the busiest tile."""

    multiply_cycles: float
    blocks: float
    exchanged_bytes: float
    add_cycles: float
    temporary_bytes: float


def product(op: Op) -> Product:
    """Return the product that a convolution or a matrix product is."""
    a = op.attributes
    if op.kind == "matmul":
        turned = a["k"] * min(a["m"], a["n"]) * a["batch"] if op.stage == "backward" else 0
        return Product(a["m"] * a["batch"], a["k"], a["n"], rearranged=turned)
    taps, inside, outside = math.prod(a["kernel"]), math.prod(a["in_size"]), math.prod(a["out_size"])
    groups, batch = a["groups"], a["batch"]
    channels_in, channels_out = a["in_channels"] // groups, a["out_channels"] // groups
    weights = taps * channels_in * a["out_channels"]
    shape = {"side": max(a["kernel"]), "dimensions": len(a["kernel"]), "copies": groups}
    what = a["pass"]
    # A transposed convolution is the gradient of a plain one, and the other way round.
    small, large = (inside, outside) if a["transposed"] else (outside, inside)
    if a["transposed"]:
        what = {"fwd": "dgrad", "dgrad": "fwd"}.get(what, what)
        channels_in, channels_out = channels_out, channels_in
    if what == "wgrad":
        moved = batch * groups * (large * channels_in + small * channels_out)
        return Product(channels_in * taps, batch * small, channels_out, copies=groups, rearranged=moved)
    if what == "dgrad":
        sources = batch * small * channels_out
        return Product(batch * small, channels_out, channels_in, taps, sources=sources, rearranged=weights, **shape)
    return Product(batch * small, channels_in, channels_out, taps, sources=batch * large * channels_in, **shape)


@lru_cache(maxsize=65536)
def plan(of: Product, tiles: Tiles) -> Plan:
    """Return the cheapest way of spreading a product that leaves room in each tile's memory."""
    rows = of.rows * of.copies
    blocks_inner, blocks_columns = -(-of.inner // tiles.inner), -(-of.columns // COLUMNS)
    cut_columns = np.unique(np.minimum(CUTS, blocks_columns))[None, :]
    cut_inner = np.unique(np.minimum(CUTS, blocks_inner))[:, None]
    cut_rows = np.minimum(tiles.count // (cut_columns * cut_inner), rows)
    fits = cut_rows > 0
    m = np.ceil(rows / np.maximum(cut_rows, 1))
    r, n = np.ceil(blocks_inner / cut_inner), np.ceil(blocks_columns / cut_columns)
    blocks = of.taps * r * n
    multiply = blocks * m * tiles.inner * COLUMNS / tiles.macs
    length = m ** (1 / of.dimensions)
    halo = (length + of.side - 1) ** of.dimensions / m * of.sources / (of.rows * of.inner) if of.side > 1 else 1.0
    received = (m * halo * r + blocks * COLUMNS) * tiles.inner * tiles.itemsize
    partial = m * n * COLUMNS
    is_cut = cut_inner > 1
    exchanged = received + np.where(is_cut, partial * 4, 0)
    adding = np.where(is_cut, partial * ADD_CYCLES, 0.0)
    temporary = received + partial * 4
    cycles = multiply + tiles.block_cycles * blocks + exchanged / tiles.exchange_bytes_per_cycle + adding
    cycles = np.where(fits, cycles, np.inf) + np.where(temporary > tiles.most_temporary * tiles.memory_bytes, 1e12, 0.0)
    best = np.unravel_index(np.argmin(cycles), cycles.shape)
    return Plan(
        *(float(np.broadcast_to(x, cycles.shape)[best]) for x in (multiply, blocks, exchanged, adding, temporary))
    )
