"""Steps with pseudofermions in PyTorch: evaluate and reweight, in both formulations."""

from __future__ import annotations

import importlib
from typing import Tuple

from torch import Tensor, nn

from siderostat.workloads.gauge_flow.coupling import Flow
from siderostat.workloads.gauge_flow.lattice import Extents
from siderostat.workloads.gauge_pseudofermion.wilson import ConditionalFlow, WilsonFermions

Weighed = Tuple[Tensor, Tensor, Tensor]
"""Log-weights, pseudofermion actions and residuals of the solver, each (batch,)."""


def make_fermions(formulation: str, extents: Extents) -> WilsonFermions:
    """Return quarks in one formulation.

    Args:
        formulation: ``complex`` or ``real``.
        extents: of the lattice.

    Raises:
        ValueError: if an extent is odd.
    """
    module = importlib.import_module(f"siderostat.workloads.gauge_pseudofermion.{formulation}")
    fermions: WilsonFermions = module.fermions(extents)
    return fermions


class JointEvaluation(nn.Module):
    """Takes a gauge field and noise through both flows and weighs what comes out.

    With the gauge field U' = f(U), U uniform in the Haar measure, and phi = A(U') chi, chi of the density
    exp(-|chi|^2) / pi^n,

        ln w = -S_g(U') - |D(U')^-1 phi|^2 + |chi|^2 + ln det f + ln det A,

    so that the mean of w is the integral of exp(-S_g) det(D D^dagger), two flavours of quarks.

    Args:
        marginal: the flow of the gauge field.
        conditional: that of the pseudofermion.
        beta: of the Wilson action S_g.
        kappa: the hopping parameter.
        iterations: of the solver.
    """

    def __init__(
        self, marginal: Flow, conditional: ConditionalFlow, beta: float, kappa: float, iterations: int
    ) -> None:
        super().__init__()
        self.marginal, self.conditional = marginal, conditional
        self.beta, self.kappa, self.iterations = beta, kappa, iterations

    def forward(self, links: Tensor, noise: Tensor) -> Weighed:
        """Return log-weights, pseudofermion actions |D^-1 phi|^2 and residuals.

        Args:
            links: real and imaginary parts, (batch, 4, L0, L1, L2, L3, 3, 3, 2).
            noise: chi, real and imaginary parts, (batch, L0, L1, L2, L3, 4, 3, 2).
        """
        fermions = self.conditional.fermions
        moved, log_determinant = self.marginal(links)
        transporters, loops, chi = fermions.transporters(moved), fermions.plaquettes(moved), fermions.taken(noise)
        made = self.conditional(transporters, loops, chi)
        psi = fermions.solve(transporters, made.phi, self.kappa, self.iterations)
        log_weights = (
            log_determinant + made.log_determinant + fermions.excess(chi, psi) - fermions.action(loops, self.beta)
        )
        return log_weights, fermions.total(psi), fermions.residual(transporters, psi, made.phi, self.kappa)


class Reweighting(nn.Module):
    """Estimates a ratio of determinants on given gauge fields: one operator and one solve.

    With phi = D chi, chi of the density exp(-|chi|^2) / pi^n, and D' that of another hopping parameter, the mean of
    exp(|chi|^2 - |D'^-1 phi|^2) is det(D' D'^dagger) / det(D D^dagger) (Hasenfratz, Hoffmann and Schaefer 2008).

    Args:
        fermions: in one formulation.
        kappa: of D.
        onto: kappa of D'.
        iterations: of the solver.
    """

    def __init__(self, fermions: WilsonFermions, kappa: float, onto: float, iterations: int) -> None:
        super().__init__()
        self.fermions, self.kappa, self.onto, self.iterations = fermions, kappa, onto, iterations

    def forward(self, links: Tensor, noise: Tensor) -> Weighed:
        """Return log-weights, actions |D'^-1 phi|^2 and residuals; arguments as of :class:`JointEvaluation`."""
        fermions = self.fermions
        transporters, chi = fermions.transporters(links), fermions.taken(noise)
        phi = fermions.wilson(transporters, chi, self.kappa)
        psi = fermions.solve(transporters, phi, self.onto, self.iterations)
        residuals = fermions.residual(transporters, psi, phi, self.onto)
        return fermions.excess(chi, psi), fermions.total(psi), residuals
