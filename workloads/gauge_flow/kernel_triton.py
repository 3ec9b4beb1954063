"""A level of the staple network as a kernel in Triton, for GPUs.

One lane makes all channels of one link of one configuration: staples stay in its registers, and nothing but the links
of the next level is written. Rows are [link][channel][18][batch] as in kernel.cpp.
"""

# Triton takes annotations other than its own for variables of the kernel.
# ruff: noqa: ANN001, ANN202
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator, assignment"

from __future__ import annotations

from typing import Tuple

import triton
import triton.language as tl
from torch import Tensor

from siderostat.workloads.gauge_flow.group import COLOURS

LANES = 128  # of a program, one thread each
_LANES_INTERPRETED = 16384  # Triton's interpreter takes as long for one lane as for thousands
WARPS = 4
CHANNELS = 4  # made at once: eight, of 18 numbers each, are more than a thread has registers for


@triton.jit
def _loaded(rows, numbers, row, within, stride, mask):
    """Return the 18 components of the matrices of some links, one link for each lane, real parts first."""
    at = rows + tl.load(numbers, mask=mask, other=0).to(tl.int64) * row + within
    found = ()
    for e in tl.static_range(18):
        found = found + (tl.load(at + e * stride, mask=mask, other=0.0),)  # noqa: RUF005
    return found


@triton.jit
def _adjoint(m):
    return (
        m[0], m[3], m[6], m[1], m[4], m[7], m[2], m[5], m[8],
        -m[9], -m[12], -m[15], -m[10], -m[13], -m[16], -m[11], -m[14], -m[17],
    )  # fmt: skip


@triton.jit
def _product(a, b):
    re = ()
    im = ()
    for i in tl.static_range(3):
        for j in tl.static_range(3):
            x = a[3 * i] * b[j] - a[9 + 3 * i] * b[9 + j]
            y = a[3 * i] * b[9 + j] + a[9 + 3 * i] * b[j]
            for k in tl.static_range(1, 3):
                x += a[3 * i + k] * b[3 * k + j] - a[9 + 3 * i + k] * b[9 + 3 * k + j]
                y += a[3 * i + k] * b[9 + 3 * k + j] + a[9 + 3 * i + k] * b[3 * k + j]
            re = re + (x,)  # noqa: RUF005
            im = im + (y,)  # noqa: RUF005
    return re + im


@triton.jit
def _mixed(sums, mixing, m, inputs, channels: tl.constexpr):
    """Return sums of some channels with one more matrix in them."""
    found = ()
    for n in tl.static_range(channels):
        weight = tl.load(mixing + n * inputs)
        for e in tl.static_range(18):
            found = found + (sums[18 * n + e] + weight * m[e],)  # noqa: RUF005
    return found


@triton.jit
def _level(
    s, out, own, upper, lower, mixing, links, outside, batch,
    inside: tl.constexpr, channels: tl.constexpr, lanes: tl.constexpr,
):  # fmt: skip
    lane = tl.program_id(0).to(tl.int64) * lanes + tl.arange(0, lanes)
    mask = lane < links * batch
    q, b = lane // batch, lane % batch
    first = tl.program_id(1) * channels
    mixing += first * 7 * inside
    row = inside * 18 * batch
    sums = ()
    for _ in tl.static_range(18 * channels):
        sums = sums + (tl.zeros((lanes,), dtype=s.dtype.element_ty),)  # noqa: RUF005
    for c in range(inside):
        within = c * 18 * batch + b
        m = _loaded(s, own + q, row, within, batch, mask)
        sums = _mixed(sums, mixing + c, m, 7 * inside, channels)
        for r in range(3):
            at = upper + 3 * r * links + q
            x = _loaded(s, at, row, within, batch, mask)
            y = _loaded(s, at + links, row, within, batch, mask)
            z = _loaded(s, at + 2 * links, row, within, batch, mask)
            m = _product(_product(x, y), _adjoint(z))
            sums = _mixed(sums, mixing + (1 + r) * inside + c, m, 7 * inside, channels)
            at = lower + 3 * r * links + q
            x = _loaded(s, at, row, within, batch, mask)
            y = _loaded(s, at + links, row, within, batch, mask)
            z = _loaded(s, at + 2 * links, row, within, batch, mask)
            m = _product(_adjoint(x), _product(y, z))
            sums = _mixed(sums, mixing + (4 + r) * inside + c, m, 7 * inside, channels)
    for n in tl.static_range(channels):
        to = out + (q * outside + first + n) * 18 * batch + b
        for e in tl.static_range(18):
            tl.store(to + e * batch, sums[18 * n + e], mask=mask)


def level(s: Tensor, mixing: Tensor, own: Tensor, upper: Tensor, lower: Tensor) -> Tensor:
    """Return one level of the staple network as rows, (n, outside, 2, 3, 3, batch).

    Args:
        s: the level before, contiguous of shape (m, inside, 2, 3, 3, batch).
        mixing: coefficients, (outside, 7 inside).
        own: see :class:`lattice.StapleTable`; int32, (n,).
        upper: likewise, (3, 3, n).
        lower: likewise.
    """
    links, inside, outside, batch = len(own), s.shape[1], len(mixing), s.shape[-1]
    out = s.new_empty((links, outside, 2, COLOURS, COLOURS, batch))
    channels = next(number for number in range(CHANNELS, 0, -1) if outside % number == 0)
    lanes = LANES if s.is_cuda else _LANES_INTERPRETED
    grid: Tuple[int, int] = (triton.cdiv(links * batch, lanes), outside // channels)
    _level[grid](
        s, out, own, upper, lower, mixing, links, outside, batch,
        inside=inside, channels=channels, lanes=lanes, num_warps=WARPS,
    )  # fmt: skip
    return out
