"""What both formulations of Wilson fermions share: the even-odd solver and the conditional flow, in PyTorch.

Each formulation has its own layout; the algorithms here ask it for hops, sums and products and know no layout.
"""

from __future__ import annotations

from typing import Dict, NamedTuple, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor, nn

from siderostat.workloads.gauge_pseudofermion import conditional
from siderostat.workloads.gauge_pseudofermion.conditional import EVEN, ODD

Pair = Tuple[Tensor, Tensor]
"""What belongs to the even and to the odd sites."""


class WilsonFermions(nn.Module):
    """Quarks in one arithmetic. Tensors that come in and go out of its methods are in its own layout."""

    def taken(self, spinors: Tensor) -> Pair:
        """Return quarks on even and odd sites.

        Args:
            spinors: real and imaginary parts, (batch, L0, L1, L2, L3, 4, 3, 2).
        """
        raise NotImplementedError

    def transporters(self, links: Tensor) -> Pair:
        """Return the links of the hops that end at even and at odd sites, antiperiodic in the last direction.

        Args:
            links: real and imaginary parts, (batch, 4, L0, L1, L2, L3, 3, 3, 2).
        """
        raise NotImplementedError

    def plaquettes(self, links: Tensor) -> Pair:
        """Return Re tr P / 3 of the six plaquettes that start at each even and odd site.

        Args:
            links: as :meth:`transporters` takes them.
        """
        raise NotImplementedError

    def hop(self, transporters: Pair, psi: Tensor, onto: int) -> Tensor:
        """Return H psi on even or odd sites of a field on the others, see ``dirac.hopping``."""
        raise NotImplementedError

    def mixed(self, transporters: Pair, psi: Tensor, onto: int, hops: Tensor) -> Tensor:
        """Return the transported neighbours of even or odd sites, mixed in spin.

        Args:
            transporters: of the gauge field.
            psi: of the other sites.
            onto: which sites.
            hops: real and imaginary parts of the matrices B, (8, 2, 4, 4).
        """
        raise NotImplementedError

    def scaled(self, psi: Tensor, loops: Pair, onto: int, weight: Tensor, bias: Tensor) -> Tuple[Tensor, Tensor]:
        """Return exp(a) psi and the log-determinant, (batch,), with a as ``conditional`` has it.

        Args:
            psi: of even or odd sites.
            loops: plaquettes.
            onto: which sites.
            weight: of each spin and plaquette, (4, 6).
            bias: of each spin, (4,).
        """
        raise NotImplementedError

    def gamma5(self, psi: Tensor) -> Tensor:
        """Return gamma_5 psi."""
        raise NotImplementedError

    def squared(self, psi: Tensor) -> Tensor:
        """Return |psi|^2 of each field, in a shape that multiplies fields."""
        raise NotImplementedError

    def excess_of(self, chi: Tensor, psi: Tensor) -> Tensor:
        """Return |chi|^2 - |psi|^2 of each field, (batch,).

        Differences are added instead of subtracting sums, which are nearly equal.
        """
        raise NotImplementedError

    def action(self, loops: Pair, beta: float) -> Tensor:
        """Return the Wilson action without its constant, -beta sum Re tr P / 3, (batch,)."""
        raise NotImplementedError

    def wilson(self, transporters: Pair, psi: Pair, kappa: float) -> Pair:
        """Return D psi."""
        even, odd = psi
        return even - kappa * self.hop(transporters, odd, EVEN), odd - kappa * self.hop(transporters, even, ODD)

    def even_odd(self, transporters: Pair, psi: Tensor, kappa: float) -> Tensor:
        """Return (1 - kappa^2 H_eo H_oe) psi of a field on even sites."""
        return psi - kappa**2 * self.hop(transporters, self.hop(transporters, psi, ODD), EVEN)

    def solve(self, transporters: Pair, phi: Pair, kappa: float, iterations: int) -> Pair:
        """Return psi with D psi = phi, see ``dirac.solve``: preconditioned, and always as many iterations."""
        even, odd = phi
        of_even = self._normal(transporters, even + kappa * self.hop(transporters, odd, EVEN), kappa, iterations)
        return of_even, odd + kappa * self.hop(transporters, of_even, ODD)

    def _normal(self, transporters: Pair, wanted: Tensor, kappa: float, iterations: int) -> Tensor:
        """Return what conjugate gradients on the normal equations make of the even-odd operator.

        Where a field is solved exactly, sizes of 0 are divided by the smallest number there is: nothing moves any more.
        """
        x, rest = torch.zeros_like(wanted), wanted
        step, before = wanted, self.squared(wanted)
        for iteration in range(iterations):
            gradient = self.gamma5(self.even_odd(transporters, self.gamma5(rest), kappa))
            size = self.squared(gradient)
            step = gradient + size / _not_zero(before) * step if iteration else gradient
            image = self.even_odd(transporters, step, kappa)
            far = size / _not_zero(self.squared(image))
            x, rest, before = x + far * step, rest - far * image, size
        return x

    def residual(self, transporters: Pair, psi: Pair, phi: Pair, kappa: float) -> Tensor:
        """Return |phi - D psi| / |phi| of each field, (batch,)."""
        off = [a - b for a, b in zip(phi, self.wilson(transporters, psi, kappa))]
        return torch.sqrt(self.total(off) / self.total(phi))

    def total(self, psi: Sequence[Tensor]) -> Tensor:
        """Return |psi|^2 over even and odd sites, (batch,)."""
        return (self.squared(psi[EVEN]) + self.squared(psi[ODD])).reshape(-1)

    def excess(self, chi: Pair, psi: Pair) -> Tensor:
        """Return |chi|^2 - |psi|^2 over even and odd sites, (batch,)."""
        return self.excess_of(chi[EVEN], psi[EVEN]) + self.excess_of(chi[ODD], psi[ODD])


def _not_zero(sizes: Tensor) -> Tensor:
    return sizes.clamp_min(torch.finfo(sizes.dtype).tiny)


class ConditionalCoupling(nn.Module):
    """One layer of the conditional flow, see ``conditional``; with parameters of 0 it is the identity."""

    hops: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name, shape in conditional.SHAPES.items():
            self.register_parameter(name, nn.Parameter(torch.zeros(shape)))

    def forward(
        self, fermions: WilsonFermions, transporters: Pair, loops: Pair, fields: Pair, onto: int
    ) -> Tuple[Tensor, Tensor]:
        """Return the new field on even or odd sites and the log-determinant, (batch,)."""
        arrived = fermions.mixed(transporters, fields[1 - onto], onto, self.hops)
        own, log_determinant = fermions.scaled(fields[onto], loops, onto, self.weight, self.bias)
        return own + arrived, log_determinant


class Pseudofermions(NamedTuple):
    """What the conditional flow makes of noise."""

    phi: Pair
    log_determinant: Tensor  # (batch,)


class ConditionalFlow(nn.Module):
    """A linear, gauge-equivariant map phi = A(U) chi.

    Args:
        fermions: in one arithmetic.
        weights: of its layers, in order.
    """

    def __init__(self, fermions: WilsonFermions, weights: Sequence[Dict[str, np.ndarray]]) -> None:
        super().__init__()
        self.fermions = fermions
        self.layers = nn.ModuleList([ConditionalCoupling() for _ in weights])
        for layer, named in zip(self.layers, weights):
            layer.load_state_dict({name: torch.as_tensor(values) for name, values in named.items()})

    def forward(self, transporters: Pair, loops: Pair, chi: Pair) -> Pseudofermions:
        """Return pseudofermions and the log-determinant with respect to real and imaginary parts."""
        fields = chi
        total = torch.zeros((), dtype=loops[EVEN].dtype, device=loops[EVEN].device)
        for number, layer in enumerate(self.layers):
            onto = conditional.active(number)
            moved, log_determinant = layer(self.fermions, transporters, loops, fields, onto)
            fields = (moved, fields[ODD]) if onto == EVEN else (fields[EVEN], moved)
            total = total + log_determinant
        return Pseudofermions(fields, total)
