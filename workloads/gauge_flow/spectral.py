"""The map of eigenvalues: coordinates of the canonical cell, monotone splines, and the Haar measure's factor.

A matrix of SU(3) has eigenvalues exp(i theta_k) with theta_1 <= theta_2 <= theta_3, sum 0 and
theta_3 - theta_1 <= 2 pi: the canonical cell, in which every conjugacy class lies once. Its barycentric coordinates are
the gaps

    a = (theta_2 - theta_1) / 2 pi,   b = (theta_3 - theta_2) / 2 pi,   c = 1 - a - b,

none of them negative, and s = a + b, v = a / s take the cell to the unit square. All arrays are real; phases, gaps and
parameters come first.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

BINS = 8
LEAST_WIDTH = 1e-3  # of a bin of a spline, and its least height
LEAST_SLOPE = 1e-3
_SLOPE_AT_REST = math.log(math.expm1(1 - LEAST_SLOPE))  # softplus of it is a slope of 1


def parameter_count(bins: int) -> int:
    """Return the parameters of the two splines: widths, heights and slopes of each."""
    return 2 * (3 * bins + 1)


class Moved(NamedTuple):
    """Where eigenvalues go."""

    theta: Tensor  # new phases, (3, ...)
    gaps: Tensor  # a and b as they were, (2, ...)
    new_gaps: Tensor
    log_determinant: Tensor  # of the map of the matrix, in the Haar measure, (...)


def move(theta: Tensor, raw: Tensor, is_inverse: bool) -> Moved:
    """Move eigenvalues by two splines, one of s and one of v.

    The log-determinant is log s'/s + log ds'/ds + log dv'/dv + log |Vand'|^2 - log |Vand|^2.

    Args:
        theta: phases in the canonical cell, (3, ...).
        raw: of both splines as :func:`spline` takes them, one after the other, (parameter_count, ...).
        is_inverse: whether to go back instead.
    """
    gaps = torch.stack((theta[1] - theta[0], theta[2] - theta[1])) / (2 * math.pi)
    s = gaps[0] + gaps[1]
    of_s, of_v = raw.chunk(2)
    new_s, log_ds = spline(s, of_s, is_inverse)
    new_v, log_dv = spline(gaps[0] / s, of_v, is_inverse)
    a = new_s * new_v
    new_gaps = torch.stack((a, new_s - a))
    lowest = -2 * math.pi / 3 * (a + new_s)
    new_theta = torch.stack((lowest, lowest + 2 * math.pi * a, lowest + 2 * math.pi * new_s))
    density = log_haar(new_gaps) - log_haar(gaps)
    return Moved(new_theta, gaps, new_gaps, torch.log(new_s / s) + log_ds + log_dv + density)


def log_haar(gaps: Tensor) -> Tensor:
    """Return log |Vand|^2 = log prod_(i<j) |e^(i theta_i) - e^(i theta_j)|^2 without its constant, log 64.

    The Haar measure of the eigenvalues, 64 sin^2(pi a) sin^2(pi b) sin^2(pi c) (Weyl). Shape (2, ...) to (...).
    """
    return 2 * (torch.log(torch.sin(math.pi * gaps)).sum(0) + torch.log(torch.sin(math.pi * (gaps[0] + gaps[1]))))


def spline(x: Tensor, raw: Tensor, is_inverse: bool) -> Tuple[Tensor, Tensor]:
    """Apply a monotone rational-quadratic spline of [0, 1] and return also the logarithm of its slope.

    Durkan et al. (2019), arXiv:1906.04032, equations 4 to 8 and 25 to 29. Where all raw parameters are 0 it is the
    identity.

    Args:
        x: in [0, 1], any shape.
        raw: widths and heights of the bins and slopes at their ends before normalisation, (3 bins + 1, *x.shape).
        is_inverse: whether to apply the inverse.
    """
    bins = (len(raw) - 1) // 3
    widths, heights = (_shares(part) for part in (raw[:bins], raw[bins : 2 * bins]))
    slopes = LEAST_SLOPE + F.softplus(raw[2 * bins :] + _SLOPE_AT_REST)
    left, bottom = (F.pad(part.cumsum(0)[:-1].movedim(0, -1), (1, 0)).movedim(-1, 0) for part in (widths, heights))
    at = (x >= (bottom if is_inverse else left)[1:]).sum(0, keepdim=True)
    width, height, x0, y0 = (part.gather(0, at)[0] for part in (widths, heights, left, bottom))
    d0, d1 = slopes.gather(0, at)[0], slopes.gather(0, at + 1)[0]
    mean = height / width
    bend = d0 + d1 - 2 * mean
    if is_inverse:
        y = x - y0
        p, q, r = height * (mean - d0) + y * bend, height * d0 - y * bend, -mean * y
        xi = 2 * r / (-q - torch.sqrt((q * q - 4 * p * r).clamp_min(0)))
    else:
        xi = (x - x0) / width
    between = xi * (1 - xi)
    denominator = mean + bend * between
    rising = d1 * xi * xi + 2 * mean * between + d0 * (1 - xi) ** 2
    log_slope = 2 * torch.log(mean) + torch.log(rising) - 2 * torch.log(denominator)
    if is_inverse:
        return x0 + xi * width, -log_slope
    return y0 + height * (mean * xi * xi + d0 * between) / denominator, log_slope


def _shares(raw: Tensor) -> Tensor:
    return LEAST_WIDTH + (1 - LEAST_WIDTH * len(raw)) * torch.softmax(raw, 0)
