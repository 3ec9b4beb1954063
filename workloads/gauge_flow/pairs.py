"""Complex numbers and 3 x 3 matrices as pairs of real tensors: closed forms, no complex dtype, no decomposition.

A number has shape (2, ...), real part first, and a matrix (..., 2, 3, 3, n, batch): its entries come first, so that
each operation works on long rows; n is what the matrices are counted by.
"""

from __future__ import annotations

import math
from typing import List

import torch
from torch import Tensor

from siderostat.workloads.gauge_flow.group import COLOURS

NEWTON_STEPS = 8
"""Of the polar factor: 7 settle nearly all matrices in double precision."""


def times(z: Tensor, w: Tensor) -> Tensor:
    """Return the product of complex numbers, (2, ...)."""
    return torch.stack((z[0] * w[0] - z[1] * w[1], z[0] * w[1] + z[1] * w[0]))


def over(z: Tensor, w: Tensor) -> Tensor:
    """Return the quotient of complex numbers, (2, ...)."""
    return torch.stack((z[0] * w[0] + z[1] * w[1], z[1] * w[0] - z[0] * w[1])) / (w[0] * w[0] + w[1] * w[1])


def turned(phase: Tensor) -> Tensor:
    """Return exp(i phase), (...) to (2, ...)."""
    return torch.stack((torch.cos(phase), torch.sin(phase)))


def product(a: Tensor, b: Tensor, left_adjoint: bool = False, right_adjoint: bool = False) -> Tensor:
    """Return A B, A^dagger B or A B^dagger of matrices; not both are adjoint.

    108 multiplications with addition per matrix. Terms are added in place, so that each costs one pass over memory.
    """
    if left_adjoint:
        a = a.transpose(-4, -3)
    if right_adjoint:
        b = b.transpose(-4, -3)
    sign_a, sign_b = (-1 if is_adjoint else 1 for is_adjoint in (left_adjoint, right_adjoint))
    (a_re, a_im), (b_re, b_im) = a.unbind(-5), b.unbind(-5)
    whole = None
    is_recorded = torch.is_grad_enabled()  # views of one tensor that change in place are dear to differentiate
    if is_recorded:
        re = _term(a_re, b_re, 0)
        im = _term(a_re, b_im, 0) if left_adjoint else _term(a_im, b_re, 0)
    else:
        whole = _term(a_re.unsqueeze(-5), b, 0) if left_adjoint else _term(a, b_re.unsqueeze(-5), 0)
        re, im = whole.unbind(-5)
    for j in range(COLOURS):
        left_re, left_im, right_re, right_im = _column(a_re, j), _column(a_im, j), _row(b_re, j), _row(b_im, j)
        if j:
            re.addcmul_(left_re, right_re)
        re.addcmul_(left_im, right_im, value=-sign_a * sign_b)
        if j or not left_adjoint:
            im.addcmul_(left_re, right_im, value=sign_b)
        if j or left_adjoint:
            im.addcmul_(left_im, right_re, value=sign_a)
    return torch.stack((re, im), -5) if whole is None else whole


def _term(a: Tensor, b: Tensor, j: int) -> Tensor:
    """Return the j-th term of the sums that make a real product."""
    return _column(a, j) * _row(b, j)


def _column(matrices: Tensor, j: int) -> Tensor:
    return matrices.narrow(-3, j, 1)


def _row(matrices: Tensor, j: int) -> Tensor:
    return matrices.narrow(-4, j, 1)


def trace(matrices: Tensor) -> Tensor:
    """Return traces, (2, 3, 3, n, batch) to (2, n, batch)."""
    return matrices.diagonal(dim1=1, dim2=2).sum(-1)


def trace_of_product(a: Tensor, b: Tensor) -> Tensor:
    """Return tr A B^dagger, (2, 3, 3, n, batch) to (2, n, batch)."""
    return torch.stack((a[0] * b[0] + a[1] * b[1], a[1] * b[0] - a[0] * b[1])).sum((1, 2))


def cofactors(matrices: Tensor) -> Tensor:
    """Return the matrix of cofactors C, with M^-1 = C^T / det M; (2, 3, 3, n, batch)."""
    across = [torch.roll(matrices, (-i, -j), (1, 2)) for i, j in ((1, 1), (2, 2), (1, 2), (2, 1))]
    return times(across[0], across[1]) - times(across[2], across[3])


def determinant(matrices: Tensor, their_cofactors: Tensor) -> Tensor:
    """Return determinants by expansion in the first row, (2, n, batch)."""
    return times(matrices[:, 0], their_cofactors[:, 0]).sum(1)


def projected(matrices: Tensor) -> Tensor:
    """Return P_SU(3)(M): the polar factor divided by the cube root of its determinant.

    Newton's iteration X <- (g X + X^-dagger / g) / 2 with g = |det X|^(-1/3) (Higham 1986, scaled by the determinant).
    It can be differentiated where singular values are equal.
    """
    for _ in range(NEWTON_STEPS):
        minors = cofactors(matrices)
        d = determinant(matrices, minors)
        squared = (d * d).sum(0).clamp_min(torch.finfo(d.dtype).tiny)
        g = squared ** (-1 / 6)
        # The inverse's adjoint is conj(C) / conj(d) = conj(C) d / |d|^2.
        conjugate = torch.stack((minors[0], -minors[1]))
        matrices = 0.5 * (g * matrices + times(conjugate, (d / (g * squared))[:, None, None]))
    d = determinant(matrices, cofactors(matrices))
    return times(matrices, turned(-torch.atan2(d[1], d[0]) / COLOURS)[:, None, None])


def invariants(staples: Tensor) -> Tensor:
    """Return five gauge-invariant numbers of staples, (2, 3, 3, n, batch) to (5, n, batch).

    See ``complex.invariants``: the second symmetric function is the sum of the squared minors.
    """
    minors = cofactors(staples)
    d = determinant(staples, minors)
    size = torch.sqrt((d * d).sum(0)).clamp_min(1e-20)
    first, second = ((part * part).sum((0, 1, 2)) for part in (staples, minors))
    logs = torch.log(first + 1e-20), 0.5 * torch.log(second + 1e-20), 2 / 3 * torch.log(size)
    return torch.stack([*logs, *(d / size)])


def phases(traces: Tensor) -> Tensor:
    """Return the eigenvalues' phases in the canonical cell from the traces of SU(3) matrices, (2, ...) to (3, ...).

    Cardano's formula gives them; one step of Newton's method on sin(3 theta / 2) = Im(t e^(i theta / 2)), which is the
    characteristic polynomial on the unit circle, refines them and carries the derivative.
    """
    with torch.no_grad():
        theta = _canonical(_cardano(traces))
    half = 0.5 * theta
    cos, sin = torch.cos(half), torch.sin(half)
    fixed = traces.detach()
    slope = 1.5 * torch.cos(3 * half) - 0.5 * (fixed[0] * cos - fixed[1] * sin)
    value = torch.sin(3 * half) - (traces[1] * cos + traces[0] * sin)
    return theta - value / slope


def _cardano(traces: Tensor) -> List[Tensor]:
    """Solve lambda^3 - t lambda^2 + conj(t) lambda - 1 = 0 on the unit circle; phases in any order, within a turn.

    With m = t / 3 and lambda = m + y: y^3 - 3 p y - 2 q = 0, p = m^2 - conj(m), q = p m + (1 - |m|^2) / 2, and
    q^2 - p^3 is real and not negative.
    """
    m = traces / COLOURS
    p = times(m, m) - torch.stack((m[0], -m[1]))
    shift = 0.5 * (1 - (m * m).sum(0))
    q = times(p, m) + torch.stack((shift, torch.zeros_like(shift)))
    cube = times(times(p, p), p)[0]
    root = torch.sqrt((q[0] * q[0] - q[1] * q[1] - cube).clamp_min(0))
    z_re = q[0] + torch.where(q[0] >= 0, root, -root)  # the larger of the two
    size = torch.sqrt(z_re * z_re + q[1] * q[1]).clamp_min(torch.finfo(root.dtype).tiny) ** (1 / 3)
    third = torch.atan2(q[1], z_re) / COLOURS
    found = []
    for k in range(COLOURS):
        unit = turned(third + 2 * math.pi * k / COLOURS)
        y = size * unit + over(p, size * unit)
        found.append(torch.atan2(m[1] + y[1], m[0] + y[0]))
    return found


def _canonical(found: List[Tensor]) -> Tensor:
    """Sort three phases of sum 0 or +-2 pi and bring them into the canonical cell."""
    x, y, z = found
    low, high = torch.minimum(x, y), torch.maximum(x, y)
    middle = torch.maximum(low, torch.minimum(high, z))
    low, high = torch.minimum(low, z), torch.maximum(high, z)
    turns = torch.round((low + middle + high) / (2 * math.pi))
    up, down = turns > 0, turns < 0
    first = torch.where(up, high - 2 * math.pi, torch.where(down, middle, low))
    second = torch.where(up, low, torch.where(down, high, middle))
    third = torch.where(up, middle, torch.where(down, low + 2 * math.pi, high))
    return torch.stack((first, second, third))


def with_phases(matrices: Tensor, theta: Tensor, gaps: Tensor, new_theta: Tensor, new_gaps: Tensor) -> Tensor:
    """Return f(L) where f takes the eigenvalues exp(i theta_k) of L to exp(i theta'_k); no eigenvector is needed.

    Newton's form of the interpolating polynomial, f_1 + f_12 (L - l_1) + f_123 (L - l_1)(L - l_2). Where eigenvalues
    are close the divided differences of neighbours stay exact as ratios of sines,
    f_12 = e^(i (theta'_1 + theta'_2 - theta_1 - theta_2) / 2) sin(pi a') / sin(pi a).

    Args:
        matrices: L, (2, 3, 3, n, batch).
        theta: its phases, (3, n, batch).
        gaps: a and b, (2, n, batch).
        new_theta: phases of the result.
        new_gaps: its gaps.
    """
    values, first = turned(theta), turned(new_theta[0])
    middle = 0.5 * (new_theta[:2] + new_theta[1:] - theta[:2] - theta[1:])
    steps = turned(middle) * (torch.sin(math.pi * new_gaps) / torch.sin(math.pi * gaps))
    second = over(steps[:, 1] - steps[:, 0], values[:, 2] - values[:, 0])
    one = torch.eye(COLOURS, dtype=matrices.dtype, device=matrices.device)[:, :, None, None]
    below, above = (matrices - one * values[:, k, None, None] for k in (0, 1))
    linear = one * first[:, None, None] + times(below, steps[:, 0, None, None])
    return linear + times(product(below, above), second[:, None, None])
