"""The flow in complex arithmetic: the readable reference that the other formulations are compared with.

Links are U_mu(x), complex of shape (batch, 4, L0, L1, L2, L3, 3, 3); everything that transforms like a link from x + mu
to x is kept in the same shape. Equations are those of Abbott et al., "Progress in Normalizing Flows for 4d Gauge
Theories" (arXiv:2502.00263); where the text has a misprint the docstring says so. Decompositions are LAPACK's.
"""

from __future__ import annotations

import math
from typing import Any, Sequence, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from siderostat.workloads.gauge_flow import lattice, spectral
from siderostat.workloads.gauge_flow.coupling import WIDTH, Coupling, Flow, Width
from siderostat.workloads.gauge_flow.group import COLOURS, DIMENSIONS, PLANES
from siderostat.workloads.gauge_flow.lattice import Extents, Update


def shifted(field: Tensor, mu: int, steps: int = 1) -> Tensor:
    """Return M(x + steps mu) for a field of matrices, (..., L0, L1, L2, L3, 3, 3)."""
    return torch.roll(field, -steps, mu - 2 - DIMENSIONS)


def trace(matrices: Tensor) -> Tensor:
    """Return traces."""
    return matrices.diagonal(dim1=-2, dim2=-1).sum(-1)


def plaquettes(links: Tensor) -> Tensor:
    """Return tr P of all plaquettes, P = U_mu(x) U_nu(x + mu) U_mu(x + nu)^dagger U_nu(x)^dagger.

    Complex of shape (batch, 6, L0, L1, L2, L3), planes in the order of ``group.PLANES``.
    """
    found = []
    for mu, nu in PLANES:
        a, b = links[:, mu], links[:, nu]
        found.append(trace(a @ shifted(b, mu) @ (b @ shifted(a, nu)).mH))
    return torch.stack(found, 1)


def action(links: Tensor, beta: float) -> Tensor:
    """Return the Wilson action without its constant, S = -(beta / 3) sum Re tr P, shape (batch,)."""
    return -beta / COLOURS * plaquettes(links).real.flatten(1).sum(1)


def upper_staple(of_mu: Tensor, of_nu: Tensor, mu: int, nu: int) -> Tensor:
    """Return R_mu(x) = S_nu(x) S_mu(x + nu) S_nu(x + mu)^dagger (eq. 6).

    Staples of eq. 6 as printed transform like U_mu^dagger; these are their conjugates and transform like U_mu, so that
    they can be added to it.
    """
    return of_nu @ shifted(of_mu, nu) @ shifted(of_nu, mu).mH


def lower_staple(of_mu: Tensor, of_nu: Tensor, mu: int, nu: int) -> Tensor:
    """Return L_mu(x) = S_nu(x - nu)^dagger S_mu(x - nu) S_nu(x - nu + mu) (eq. 6, see :func:`upper_staple`)."""
    return shifted(of_nu.mH @ of_mu @ shifted(of_nu, mu), nu, -1)


def polar(matrices: Tensor) -> Tensor:
    """Return the unitary polar factor M (M^dagger M)^(-1/2) = V W^dagger of M = V Sigma W^dagger.

    Eq. 9 as printed, (M^dagger M)^(-1/2) M, is not unitary.
    """
    factor: Tensor = _Polar.apply(matrices)  # type: ignore[no-untyped-call]
    return factor


class _Polar(torch.autograd.Function):
    """The polar factor with a derivative that stays finite where singular values meet, as that of the SVD does not.

    With Q the factor and P = Q^dagger M: dQ = Q X, X P + P X = Q^dagger dM - dM^dagger Q.
    """

    @staticmethod
    def forward(ctx: Any, matrices: Tensor) -> Tensor:
        left, values, right = torch.linalg.svd(matrices)
        factor: Tensor = left @ right
        ctx.save_for_backward(factor, values, right)
        return factor

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        factor, values, right = ctx.saved_tensors
        inner = factor.mH @ gradient
        solved = right @ (inner - inner.mH) @ right.mH / (values[..., :, None] + values[..., None, :])
        return factor @ right.mH @ solved @ right  # type: ignore[no-any-return]


def projected(matrices: Tensor) -> Tensor:
    """Return P_SU(3)(M): the polar factor divided by the cube root of its determinant (eqs 9 and 10)."""
    factor = polar(matrices)
    third = torch.angle(torch.linalg.det(factor)) / COLOURS
    return factor * torch.polar(torch.ones_like(third), -third)[..., None, None]


def invariants(staples: Tensor) -> Tensor:
    """Return five gauge-invariant numbers of staples, (..., 3, 3) to (..., 5).

    Logarithms of the three elementary symmetric functions of the squared singular values, each to the power that makes
    it linear in them, and cosine and sine of the phase of the determinant.
    """
    squared = staples.mH @ staples
    first = trace(squared).real
    second = 0.5 * (first * first - (squared.abs() ** 2).sum((-2, -1)))
    determinant = torch.linalg.det(staples)
    size = determinant.abs().clamp_min(1e-20)
    logs = torch.log(first + 1e-20), 0.5 * torch.log(second.clamp_min(0) + 1e-20), 2 / 3 * torch.log(size)
    return torch.stack([*logs, determinant.real / size, determinant.imag / size], -1)


def canonical(phases: Tensor) -> Tuple[Tensor, Tensor]:
    """Return phases in the canonical cell and where each was before, both (3, ...).

    Args:
        phases: of the eigenvalues of SU(3) matrices between -pi and pi, (3, ...): their sum is 0 or +-2 pi.
    """
    phases, order = phases.sort(0)
    turns = torch.round(phases.sum(0) / (2 * math.pi)).long()
    steps = (torch.arange(COLOURS, device=phases.device).view(-1, *[1] * turns.dim()) - turns) % COLOURS
    down, up = (2 * math.pi * is_off.to(phases.dtype) for is_off in (turns < 0, turns > 0))
    wrapped = torch.stack((phases[0] + down, phases[1], phases[2] - up))
    return wrapped.gather(0, steps), order.gather(0, steps)


class ComplexCoupling(Coupling):
    """One layer, L = U W^dagger -> L' by its eigenvalues, U' = L' W, where W is made of frozen links only."""

    frozen: Tensor  # (4, L0, L1, L2, L3, 1, 1)
    frozen_plaquettes: Tensor  # (6, L0, L1, L2, L3)

    def __init__(self, extents: Extents, update: Update, learned: bool, width: Width = WIDTH) -> None:
        super().__init__(extents, update, learned, width)
        mask = lattice.active(update, extents)
        self.register_buffer("frozen", torch.from_numpy(~mask)[..., None, None], persistent=False)
        whole = torch.from_numpy(lattice.frozen_plaquettes(mask))
        self.register_buffer("frozen_plaquettes", whole, persistent=False)
        for mu in lattice.directions_of(update):
            self.register_buffer(f"active_{mu}", torch.from_numpy(mask[mu].ravel().nonzero()[0]), persistent=False)

    def forward(self, links: Tensor, is_inverse: bool) -> Tuple[Tensor, Tensor]:
        """See :class:`Coupling`."""
        staples = self.active_staples(links * self.frozen)
        context = self.context(links).flatten(1, DIMENSIONS)
        flat = links.flatten(2, 1 + DIMENSIONS)
        total = torch.zeros(len(links), dtype=context.dtype, device=links.device)
        for mu in lattice.directions_of(self.update):
            active = getattr(self, f"active_{mu}")
            staple = staples[:, mu].flatten(1, DIMENSIONS)[:, active]
            features = torch.cat([context[:, active], invariants(staple)], -1)
            raw = self.last(F.silu(self.hidden(features)))
            moved, log_determinant = _moved(flat[:, mu, active], projected(staple), raw.movedim(-1, 0), is_inverse)
            whole = flat[:, mu].index_copy(1, active, moved)
            flat = torch.stack([whole if d == mu else flat[:, d] for d in range(DIMENSIONS)], 1)
            total = total + log_determinant
        return flat.view(links.shape), total

    def active_staples(self, frozen: Tensor) -> Tensor:
        """Return what takes the place of the staples, made of links of which the active ones are 0 (eqs 3 to 8)."""
        return self._learned(frozen) if self.learned else self._fixed(frozen)

    def _learned(self, frozen: Tensor) -> Tensor:
        """Mix, level by level, each link with its six staples by real coefficients that all directions share.

        S'_k = sum_l c_kl A_l, where A are the channels of S_mu, then of R for nu = mu + 1, mu + 2, mu + 3, then of L.
        """
        s = frozen[:, None]  # (batch, channels, 4, L0, L1, L2, L3, 3, 3)
        for coefficients in self.mixing:
            made = []
            for mu in range(DIMENSIONS):
                others = [(mu + step) % DIMENSIONS for step in (1, 2, 3)]
                upper = [upper_staple(s[:, :, mu], s[:, :, nu], mu, nu) for nu in others]
                lower = [lower_staple(s[:, :, mu], s[:, :, nu], mu, nu) for nu in others]
                augmented = torch.cat([s[:, :, mu], *upper, *lower], 1)
                made.append(torch.einsum("kl,bl...->bk...", coefficients.to(s.dtype), augmented))
            s = torch.stack(made, 2)
        return s[:, 0]

    def _fixed(self, frozen: Tensor) -> Tensor:
        staples = []
        for mu in range(DIMENSIONS):
            nu, is_upper = lattice.fixed_loop(self.update, mu)
            if mu not in lattice.directions_of(self.update):
                staples.append(torch.zeros_like(frozen[:, mu]))
            else:
                staples.append((upper_staple if is_upper else lower_staple)(frozen[:, mu], frozen[:, nu], mu, nu))
        return torch.stack(staples, 1)

    def context(self, links: Tensor) -> Tensor:
        """Return features of every site made of frozen plaquettes, (batch, L0, L1, L2, L3, channels).

        Two convolutions with the stencil of a site and its eight neighbours.
        """
        traces = (plaquettes(links) * self.frozen_plaquettes).movedim(1, -1)
        h = torch.cat([traces.real, traces.imag], -1)
        for dense in (self.first, self.second):
            around = [h, *(torch.roll(h, step, 1 + mu) for mu in range(DIMENSIONS) for step in (1, -1))]
            h = F.silu(dense(torch.cat(around, -1)))
        return h


def _moved(active: Tensor, w: Tensor, raw: Tensor, is_inverse: bool) -> Tuple[Tensor, Tensor]:
    """Move the eigenvalues of L = U W^dagger and return U' = L' W and the log-determinant of each field."""
    values, vectors = torch.linalg.eig(active @ w.mH)
    theta, order = canonical(torch.angle(values).movedim(-1, 0))
    vectors = vectors.gather(-1, order.movedim(0, -1)[..., None, :].expand(vectors.shape))
    moved = spectral.move(theta, raw, is_inverse)
    phases = moved.theta.movedim(0, -1)
    new = vectors * torch.polar(torch.ones_like(phases), phases)[..., None, :] @ torch.linalg.inv(vectors)
    return new @ w, moved.log_determinant.sum(-1)


class ComplexFlow(Flow):
    """The reference."""

    def taken(self, links: Tensor) -> Tensor:
        """See :class:`Flow`."""
        return torch.view_as_complex(links)

    def given(self, links: Tensor, extents: Extents) -> Tensor:
        """See :class:`Flow`."""
        return torch.view_as_real(links)

    def action(self, links: Tensor, beta: float) -> Tensor:
        """See :class:`Flow`."""
        return action(torch.view_as_complex(links), beta)


def flow(extents: Extents, updates: Sequence[Update], learned: Sequence[bool], width: Width = WIDTH) -> ComplexFlow:
    """Return a flow with parameters of 0."""
    return ComplexFlow([ComplexCoupling(extents, *how, width) for how in zip(updates, learned)])
