"""What the k-space renderer looks up: transforms of Sersic profiles, electrons by redshift, GalSim's own limits.

They are computed once with GalSim and kept in ``$SIDEROSTAT_CACHE/galaxy-images/tables-<fingerprint>.npz``.
"""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any, Dict, List, Sequence

import numpy as np

from siderostat.workloads import cache
from siderostat.workloads.archive import Archive, Arrays, singles
from siderostat.workloads.galaxy_images import survey
from siderostat.workloads.galaxy_images.camera import LARGEST_REDSHIFT, LARGEST_TRANSFORM, Camera
from siderostat.workloads.galaxy_images.catalogue import (
    COARSE_STEP,
    CONCENTRATED,
    FINE_STEP,
    SEDS,
    SERSIC_LIMITS,
    Component,
    Galaxy,
)

VERSION = 1
"""Of the tables. Rises with every change of a value in them."""

OCTAVES = (-20, 20)
"""The tables reach from (k r)^2 = 2^-20, where 1 - F is at most 2e-5, to 2^20: r of 50 arcsec at the largest k."""

_PER_OCTAVE = 32  # nodes to each factor of two of (k r)^2, in equal steps
_REDSHIFT_NODES = 3072


def drawable_indices() -> List[float]:
    """The 67 Sersic indices that :func:`catalogue.drawable_index` leaves."""
    fine = np.arange(round(SERSIC_LIMITS[0] / FINE_STEP), round(CONCENTRATED / FINE_STEP)) * FINE_STEP
    coarse = np.arange(round(CONCENTRATED / COARSE_STEP), round(SERSIC_LIMITS[1] / COARSE_STEP) + 1) * COARSE_STEP
    return [round(float(index), 2) for index in (*fine, *coarse)]


def transform_nodes() -> np.ndarray:
    """(k r)^2 at which the transforms are tabulated, shape (1281,); r is the half-light radius."""
    octaves = 2.0 ** np.arange(*OCTAVES)
    nodes = (octaves[:, None] * (1 + np.arange(_PER_OCTAVE) / _PER_OCTAVE)).ravel()
    return np.append(nodes, 2.0 ** OCTAVES[1])


def fingerprint() -> str:
    """Return 16 hex digits for all that the tables depend on."""
    depends_on = {
        "version": VERSION,
        "indices": drawable_indices(),
        "nodes": [*OCTAVES, _PER_OCTAVE],
        "redshifts": [LARGEST_REDSHIFT, _REDSHIFT_NODES],
        "survey": survey.constants(),
    }
    return hashlib.blake2b(json.dumps(depends_on, sort_keys=True).encode(), digest_size=8).hexdigest()


class Tables:
    """The tables, made where they are not in the cache, which takes seconds.

    Attributes:
        transforms: Fourier transform of each Sersic profile of unit flux and half-light radius at
            :func:`transform_nodes`, shape (67, 1281).
        psf_k0: the point spread function's transfer is exp(-(k / psf_k0)^(5/3)); 1/arcsec.

    Raises:
        BadInput: if the cache cannot be written.
    """

    def __init__(self) -> None:
        arrays = archive().obtain(_build)
        self.transforms = arrays["transforms"]
        self.psf_k0 = float(arrays["psf"][0])
        self._psf_step_k, self._psf_largest_k = (float(k) for k in arrays["psf"][1:])
        self._limits = arrays["limits"].tolist()
        self._electrons = arrays["electrons"].astype(np.float64)
        self._rows = {index: row for row, index in enumerate(drawable_indices())}
        self._seds = {sed: number for number, sed in enumerate(SEDS)}
        self._per_log_redshift = (_REDSHIFT_NODES - 1) / math.log1p(LARGEST_REDSHIFT)

    def row(self, sersic_index: float) -> int:
        """Row of a drawable Sersic index in :attr:`transforms`."""
        return self._rows[sersic_index]

    def electrons(self, component: Component, redshift: float) -> np.ndarray:
        """Electrons of a component over all exposures, by band, shape (6,); within 2e-5 of the integrals."""
        at = math.log1p(redshift) * self._per_log_redshift
        node = min(max(int(at), 1), _REDSHIFT_NODES - 3)
        x = at - node
        # Lagrange's cubic through four nodes.
        weights = (
            -x * (x - 1) * (x - 2) / 6,
            (x + 1) * (x - 1) * (x - 2) / 2,
            -(x + 1) * x * (x - 2) / 2,
            (x + 1) * x * (x - 1) / 6,
        )
        brightness = 10 ** (-0.4 * (component.magnitude - survey.HST_ZERO_POINT_MAG))
        near = self._electrons[self._seds[component.sed], node - 1 : node + 3]
        return np.asarray(np.dot(np.multiply(weights, brightness), near))

    def r_magnitude(self, galaxy: Galaxy) -> float:
        """Magnitude of the whole galaxy in r."""
        parts = [self.electrons(c, galaxy.redshift) for c in galaxy.components]
        return survey.r_magnitude(np.sum(parts, axis=0))

    def can_draw(self, galaxy: Galaxy) -> bool:
        """Say whether GalSim's transforms would stay within :data:`LARGEST_TRANSFORM`; see :meth:`Camera.can_draw`."""
        return galaxy.redshift <= LARGEST_REDSHIFT and all(self._transform_fits(c) for c in galaxy.components)

    def _transform_fits(self, component: Component) -> bool:
        step_k, largest_k = self._limits[self._rows[component.sersic_index]]
        stretch = math.sqrt(component.axis_ratio)
        # Shear of constant area makes the major axis longer and the minor one shorter by the same factor.
        step_k *= stretch / component.half_light_radius_arcsec
        largest_k /= stretch * component.half_light_radius_arcsec
        # GalSim adds extents in quadrature, and goes as far as the factor that ends first.
        together = 1 / math.sqrt(step_k**-2 + self._psf_step_k**-2)
        return bool(2 * min(largest_k, self._psf_largest_k) <= LARGEST_TRANSFORM * together)


def archive() -> Archive:
    """Where the tables lie."""
    name = fingerprint()
    shapes = {
        "transforms": (len(drawable_indices()), len(transform_nodes())),
        "limits": (len(drawable_indices()), 2),
        "psf": (3,),
        "electrons": (len(SEDS), _REDSHIFT_NODES, len(survey.BANDS)),
    }
    path = cache.root() / "galaxy-images" / f"tables-{name}.npz"
    return Archive(path, {"version": VERSION, "fingerprint": name}, singles(shapes), "tables of profiles", ("galsim",))


def _build() -> Arrays:
    import galsim

    # Where GalSim's own table of a profile ends, at the looser of the two, it goes on by an expansion no better.
    camera, tight = Camera(), Camera(galsim.GSParams(kvalue_accuracy=1e-6, maxk_threshold=1e-6))
    round_ones = [Component(index, 1.0, 1.0, 0.0, SEDS[0], 0.0) for index in drawable_indices()]
    plain = [camera.profile(component) for component in round_ones]
    made: Dict[str, Any] = {
        "transforms": _transforms([tight.profile(component) for component in round_ones]),
        "limits": [(profile.stepk, profile.maxk) for profile in plain],
        "psf": ((-math.log(camera.psf.kValue(1.0, 0.0).real)) ** (-3 / 5), camera.psf.stepk, camera.psf.maxk),
        "electrons": _electrons(camera),
    }
    return {name: np.asarray(array, np.float32) for name, array in made.items()}


def _transforms(profiles: Sequence[Any]) -> np.ndarray:
    return np.array([[profile.kValue(k, 0.0).real for k in np.sqrt(transform_nodes())] for profile in profiles])


def _electrons(camera: Camera) -> np.ndarray:
    """Electrons of a source as bright as F814W's zero point, by spectrum, redshift and band."""
    redshifts = np.expm1(np.linspace(0, math.log1p(LARGEST_REDSHIFT), _REDSHIFT_NODES))
    sources = [Component(1.0, 1.0, 1.0, 0.0, sed, survey.HST_ZERO_POINT_MAG) for sed in SEDS]
    return np.array([[camera.electrons(source, z) for z in redshifts] for source in sources])
