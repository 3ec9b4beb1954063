"""A catalogue of halos and subhalos made from a seed, as a simulation and its halo finder would give it.

Halos are drawn with the abundance of Tinker et al. (2008). Each is put, in the coordinates matter had in the beginning,
with probability proportional to exp((b - 1) delta), delta being the linear density smoothed over the halo's own
radius and b the bias of Tinker et al. (2010), and then moves with the matter. The response of exp((b - 1) delta) to
long waves of a Gaussian field is b - 1 exactly, and the motion adds 1 (Mo & White 1996): the bias on large scales is b
by construction, which a power of the moved density would not give. Halos do not exclude each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Tuple

import numpy as np

from siderostat.workloads.halo_grids import cosmology, galaxies
from siderostat.workloads.halo_grids.cosmology import Tables
from siderostat.workloads.halo_grids.field import SINGLE, LinearField, cell_of

VERSION = 1
"""Of the maker. Rises with every change that moves a halo or one of its values."""

SUBHALO_NORM, SUBHALO_SLOPE, SUBHALO_CUT, SUBHALO_CUT_POWER = 0.22, -0.91, 6.0, 3.0
"""Subhalos of all orders by peak mass over host mass psi: dN/dln psi = 0.22 psi^-0.91 exp(-6 psi^3), unevolved, Jiang &
van den Bosch (2016), MNRAS 458, 2848, table A1; the values agree with those in its authors' public program."""
SURVIVING = 0.30
"""Share of them that are still there. Our own choice, for a share of subhalos near 0.2 as in simulations."""

CONCENTRATION, CONCENTRATION_SLOPE = 1.025, -0.097
"""log10 c = 1.025 - 0.097 log10(M / (1e12 Msun/h)), virial: Dutton & Maccio (2014), MNRAS 441, 3359, equation 8."""

SPIN, SPIN_SCATTER = 0.035, 0.50
"""Median, and standard deviation of the natural logarithm: Bullock et al. (2001), ApJ 555, 240."""

FORMATION = 0.815 * np.exp(-2 * 0.5**3) / 0.5**0.707
"""alpha of Giocoli, Tormen & Sheth (2012), MNRAS 422, 185, for the time at which half of the mass was there."""

LEAST_BOUND = 0.1
"""Subhalos keep a share of their peak mass, uniform in its logarithm between this and 1. Stands in for stripping."""

_TAIL = 3.5  # standard deviations of scatter in velocity by which lighter halos are drawn too
_BINS_PER_DECADE = 5  # of mass, in which halos share one smoothing and one bias
_COARSER = 2  # cells of the mesh to one of that on which places are chosen
_NODES = 400  # of the table that subhalo masses are drawn from


@dataclass(frozen=True)
class Catalogue:
    """Halos and subhalos in a periodic box at redshift 0. Arrays have one element, or row, per halo.

    Attributes:
        box_mpc_h: side of the box, Mpc/h.
        position: comoving, Mpc/h, (halos, 3), float32, in [0, box).
        peak_mass: largest virial mass a halo ever had, Msun/h.
        mass: virial mass today, Msun/h.
        accretion_mass: at accretion onto the host; that of today for those that are no subhalos, Msun/h.
        peak_velocity: largest circular velocity ever, km/s.
        accretion_velocity: at accretion, km/s.
        spin: dimensionless.
        half_mass_scale: scale factor at which half of the mass of today, of subhalos of the peak mass, was there.
        identifier: of each halo, int64.
        host: identifier of the host, which need not be among the halos here; -1 for those that are no subhalos.
        log_stellar_mass: log10 of Msun; -inf for none.

    What a catalogue does not have is NaN throughout.
    """

    box_mpc_h: float
    position: np.ndarray
    peak_mass: np.ndarray
    mass: np.ndarray
    accretion_mass: np.ndarray
    peak_velocity: np.ndarray
    accretion_velocity: np.ndarray
    spin: np.ndarray
    half_mass_scale: np.ndarray
    identifier: np.ndarray
    host: np.ndarray
    log_stellar_mass: np.ndarray

    def __len__(self) -> int:
        return len(self.position)

    @property
    def is_subhalo(self) -> np.ndarray:
        """Whether each halo has a host, (halos,)."""
        return np.asarray(self.host >= 0)


def constants() -> Dict[str, float]:
    """Return every constant that the halos depend on, by name, as JSON takes them."""
    found = {**cosmology.constants()}
    for module in (globals(), vars(galaxies)):
        found.update({name: float(value) for name, value in module.items() if name.isupper() and name != "SINGLE"})
    return found


def make(seed: int, box_mpc_h: float, mesh: int, vpeak_min: float) -> Catalogue:
    """Return halos with a peak velocity above ``vpeak_min`` (km/s), the same for the same arguments.

    Args:
        seed: of everything that is random.
        box_mpc_h: side of the box, Mpc/h.
        mesh: cells along a side for the density, divisible by 4; 1 Mpc/h to a cell or so.
        vpeak_min: km/s. The abundance is extrapolated below 10^10.5 Msun/h, that is for fewer than about 75 km/s.
    """
    rng = np.random.default_rng(seed)
    least_mass = float(galaxies.mass_at(np.array(vpeak_min))) * cosmology.HUBBLE
    least_mass *= 10 ** (-_TAIL * galaxies.VELOCITY_SCATTER / galaxies.VELOCITY_SLOPE)
    tables = cosmology.tables(least_mass)
    field = LinearField(rng, box_mpc_h, mesh, tables.wave_number, tables.power)
    host_mass = _masses(rng, tables, box_mpc_h)
    host_position = _places(rng, tables, field, host_mass)
    del field
    of_host, sub_mass = _subhalos(rng, host_mass, least_mass)
    sub_position = _around(rng, host_position[of_host], host_mass[of_host], box_mpc_h)
    peak_mass = np.concatenate([host_mass, sub_mass])
    position = np.concatenate([host_position, sub_position])
    host = np.concatenate([np.full(len(host_mass), -1), of_host])
    median = galaxies.peak_velocity(peak_mass / cosmology.HUBBLE)
    velocity = median * 10 ** (galaxies.VELOCITY_SCATTER * rng.standard_normal(len(median)))
    kept = np.flatnonzero(velocity > vpeak_min)
    velocity, peak_mass, host = velocity[kept], peak_mass[kept], host[kept]
    stellar = galaxies.log_stellar_mass(velocity) + galaxies.STELLAR_SCATTER * rng.standard_normal(len(kept))
    bound = np.where(host >= 0, LEAST_BOUND ** rng.random(len(kept)), 1.0)
    return Catalogue(
        box_mpc_h=box_mpc_h,
        position=position[kept],
        peak_mass=peak_mass.astype(SINGLE),
        mass=(peak_mass * bound).astype(SINGLE),
        accretion_mass=peak_mass.astype(SINGLE),
        peak_velocity=velocity.astype(SINGLE),
        accretion_velocity=median[kept].astype(SINGLE),
        spin=(SPIN * np.exp(SPIN_SCATTER * rng.standard_normal(len(kept)))).astype(SINGLE),
        half_mass_scale=_half_mass_scale(rng, tables, peak_mass).astype(SINGLE),
        identifier=kept.astype(np.int64),
        host=host.astype(np.int64),
        log_stellar_mass=stellar.astype(SINGLE),
    )


def _masses(rng: np.random.Generator, tables: Tables, box_mpc_h: float) -> np.ndarray:
    """Draw the masses of all hosts in the box, Msun/h, in rising order."""
    steps = np.diff(tables.log_mass)
    # Within a step the abundance is taken as a power law of mass, which integrates to a logarithmic mean.
    low, high = tables.abundance[:-1], tables.abundance[1:]
    within = steps * (low - high) / np.log(low / high)
    cumulative = np.concatenate([[0.0], np.cumsum(within)])
    halos = rng.poisson(cumulative[-1] * box_mpc_h**3)
    return np.asarray(np.exp(np.interp(np.sort(rng.random(halos)) * cumulative[-1], cumulative, tables.log_mass)))


def _places(rng: np.random.Generator, tables: Tables, field: LinearField, mass: np.ndarray) -> np.ndarray:
    """Return where halos of these rising masses are today, Mpc/h, (halos, 3), float32."""
    mesh, box = field.mesh // _COARSER, field.box_mpc_h
    start = np.empty((len(mass), 3))
    for halos in _mass_bins(mass):
        middle = np.exp(np.mean(np.log(mass[halos])))
        excess = np.interp(np.log(mass[halos]), tables.log_mass, tables.bias).mean() - 1
        # A sphere and a Gaussian of 1 / sqrt(5) of its radius filter long waves alike.
        weight = np.exp(excess * field.smoothed(mesh, float(cosmology.lagrangian_radius(middle)) / 5**0.5).ravel())
        cumulative = np.cumsum(weight, dtype=np.float64)
        cells = np.searchsorted(cumulative, np.sort(rng.random(len(mass[halos]))) * cumulative[-1])
        rng.shuffle(cells)  # they are in the order of the mesh, masses in theirs
        cells = np.minimum(cells, mesh**3 - 1)
        start[halos] = np.stack(np.unravel_index(cells, (mesh,) * 3), 1) + rng.random((len(cells), 3))
    start *= box / mesh
    here = cell_of(start, box, field.mesh)
    for axis in range(3):
        start[:, axis] += field.displacement(axis)[here]
    return _wrapped(start, box)


def _mass_bins(mass: np.ndarray) -> List[slice]:
    """Return the bins of :data:`_BINS_PER_DECADE` that hold any of these rising masses."""
    number = np.floor(_BINS_PER_DECADE * np.log10(mass)).astype(int)
    edges = np.flatnonzero(np.diff(number)) + 1
    return [slice(a, b) for a, b in zip([0, *edges], [*edges, len(mass)]) if b > a]


def _subhalos(rng: np.random.Generator, host_mass: np.ndarray, least_mass: float) -> Tuple[np.ndarray, np.ndarray]:
    """Draw subhalos heavier than ``least_mass``: the index of each one's host, and its peak mass, Msun/h."""
    ratio = np.logspace(np.log10(least_mass / host_mass.max()), 0, _NODES)
    density = SUBHALO_NORM * ratio**SUBHALO_SLOPE * np.exp(-SUBHALO_CUT * ratio**SUBHALO_CUT_POWER)
    steps = np.diff(np.log(ratio)) * (density[1:] + density[:-1]) / 2
    above = SURVIVING * np.concatenate([np.cumsum(steps[::-1])[::-1], [0.0]])  # heavier than ratio, in each host
    expected = np.interp(np.log(least_mass / host_mass), np.log(ratio), above)
    host = np.repeat(np.arange(len(host_mass)), rng.poisson(expected))
    chosen = rng.random(len(host)) * expected[host]
    return host, host_mass[host] * np.exp(np.interp(-chosen, -above, np.log(ratio)))


def _around(rng: np.random.Generator, centre: np.ndarray, host_mass: np.ndarray, box_mpc_h: float) -> np.ndarray:
    """Place subhalos within the virial radius like the matter of their hosts, Navarro, Frenk & White (1997).

    The radius that holds a share of the mass in closed form: Robotham & Howlett (2018), RNAAS 2, 55.
    """
    from scipy.special import lambertw

    concentration = 10 ** (CONCENTRATION + CONCENTRATION_SLOPE * np.log10(host_mass / 1e12))
    inside = rng.random(len(host_mass)) * (np.log1p(concentration) - concentration / (1 + concentration))
    argument: Any = -np.exp(-inside - 1)
    radius = np.asarray(-1 - 1 / lambertw(argument).real)
    radius *= cosmology.lagrangian_radius(host_mass) / cosmology.virial_overdensity() ** (1 / 3) / concentration
    direction = rng.standard_normal((len(host_mass), 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    return _wrapped(centre + radius[:, None] * direction, box_mpc_h)


def _half_mass_scale(rng: np.random.Generator, tables: Tables, mass: np.ndarray) -> np.ndarray:
    """Draw the scale factors at which halos had half of their mass; see :data:`FORMATION`."""
    w = np.sqrt(2 * np.log(1 + FORMATION * (1 / (1 - rng.random(len(mass))) - 1)))
    rise = np.interp(np.log(mass), tables.log_mass, tables.half_variance - tables.variance)
    growth = cosmology.COLLAPSE_THRESHOLD / (cosmology.COLLAPSE_THRESHOLD + w * np.sqrt(rise))
    return np.asarray(np.interp(growth, tables.growth, tables.scale_factor))


def _wrapped(position: np.ndarray, box_mpc_h: float) -> np.ndarray:
    """Bring positions back into the box, as float32, in which the side itself may come out of rounding."""
    wrapped = np.mod(position, box_mpc_h).astype(SINGLE)
    wrapped[wrapped >= SINGLE(box_mpc_h)] = 0
    return np.asarray(wrapped)
