"""The real COSMOS catalogue of parametric galaxies, by path, read through GalSim."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Tuple

import numpy as np

from siderostat.workloads.base import BadInput
from siderostat.workloads.digest import size_and_sha256
from siderostat.workloads.galaxy_images.catalogue import (
    SYNTHETIC,
    Catalogue,
    Component,
    Galaxy,
    SyntheticCatalogue,
    drawable_index,
    sed_of,
    share_magnitude,
)

# Each column, and how many numbers it holds per galaxy.
COLUMNS: Dict[str, int] = {
    "mag_auto": 1,
    "zphot": 1,
    "use_bulgefit": 1,
    "viable_sersic": 1,
    "flux": 3,
    "hlr": 3,
    "fit_status": 5,
    "sersicfit": 8,
    "bulgefit": 16,
}
# Places in "sersicfit", and in each half of "bulgefit": the disc, then the bulge.
_INDEX, _RATIO, _ANGLE, _BULGE = 2, 3, 7, 8


def open_catalogue(path: str) -> Catalogue:
    """Return the catalogue at ``path``, or the made-up one where ``path`` is empty.

    Raises:
        BadInput: if the file is missing, is not a FITS table, lacks columns or has no usable galaxy.
    """
    return CosmosCatalogue(Path(path)) if path else SyntheticCatalogue()


def identity(path: str) -> str:
    """Return what tells one catalogue from another: for a file its size and SHA-256, wherever it lies.

    Raises:
        BadInput: if the file cannot be read.
    """
    if not path:
        return SYNTHETIC
    try:
        size, digest = size_and_sha256(Path(path), *_selection_file(Path(path)))
    except OSError as error:
        raise BadInput(f"the catalogue {path} cannot be read: {error.strerror or error}") from error
    return f"COSMOS catalogue, {size} bytes, sha256 {digest}"


class CosmosCatalogue(Catalogue):
    """Parametric fits to COSMOS galaxies (Mandelbaum et al. 2012), drawn with equal probability.

    GalSim's "marginal" quality cuts are applied where the selection file lies beside the catalogue, else
    those on the fits alone. The ellipticity label is that of the single-Sersic fit, which describes the
    whole galaxy; where that fit failed, that of the disc.

    Args:
        path: the parametric table, ``real_galaxy_catalog_25.2_fits.fits`` in the public release.

    Raises:
        BadInput: if the file is missing, is not a FITS table, lacks columns or has no usable galaxy.
    """

    def __init__(self, path: Path) -> None:
        import galsim

        _check_columns(path)
        level = "marginal" if _selection_file(path) else "bad_fits"
        try:
            catalogue = galsim.COSMOSCatalog(str(path), use_real=False, exclusion_level=level)
        except (OSError, KeyError, TypeError, ValueError) as error:  # a table cut short raises any of them
            raise BadInput(f"GalSim cannot read {path}, or the selection file beside it: {error}") from error
        rows = catalogue.param_cat[catalogue.orig_index]
        self.rows = rows[_usable(rows)]
        if len(self.rows) == 0:
            raise BadInput(f"the catalogue {path} has no galaxy with a usable fit, radius and redshift")

    def draw(self, rng: np.random.Generator) -> Galaxy:
        """Return one galaxy, at the angle it has in the sky."""
        return galaxy_of(self.rows[rng.integers(len(self.rows))])


def galaxy_of(row: Any) -> Galaxy:
    """Translate one row of the table, as GalSim's ``COSMOSCatalog`` does, to a galaxy."""
    magnitude = float(row["mag_auto"])
    whole = row["sersicfit"] if row["viable_sersic"] else row["bulgefit"]
    if row["use_bulgefit"]:
        components = _bulge_and_disc(row, magnitude)
    else:
        index = drawable_index(float(row["sersicfit"][_INDEX]))
        components = (_component(row["sersicfit"], index, row["hlr"][0], sed_of(index), magnitude),)
    return Galaxy(float(row["zphot"]), magnitude, float(whole[_RATIO]), float(whole[_ANGLE]), components)


def _bulge_and_disc(row: Any, magnitude: float) -> Tuple[Component, ...]:
    fits, radii, light = row["bulgefit"], row["hlr"], row["flux"]
    bulge_share = float(light[1] / (light[1] + light[2]))
    bulge = (fits[_BULGE:], 4.0, radii[1], "E", bulge_share)
    disc = (fits[:_BULGE], 1.0, radii[2], "Scd", 1 - bulge_share)
    # A part without light has no magnitude.
    return tuple(
        _component(fit, index, radius, sed, share_magnitude(magnitude, share))
        for fit, index, radius, sed, share in (bulge, disc)
        if share > 0
    )


def _component(fit: Any, index: float, radius: Any, sed: str, magnitude: float) -> Component:
    return Component(index, float(radius), float(fit[_RATIO]), float(fit[_ANGLE]), sed, magnitude)


def _usable(rows: np.ndarray) -> np.ndarray:
    """Say of each row whether all numbers that an image and its labels need are there and in range."""
    disc, bulge, radius = rows["bulgefit"][:, :_BULGE], rows["bulgefit"][:, _BULGE:], rows["hlr"]
    light = rows["flux"][:, 1:3]
    two_parts = _drawable(bulge, radius[:, 1]) & _drawable(disc, radius[:, 2])
    two_parts &= (light >= 0).all(1) & (light.sum(1) > 0)
    viable = rows["viable_sersic"].astype(bool)
    whole = viable & _drawable(rows["sersicfit"], radius[:, 0])
    shape = np.where(rows["use_bulgefit"].astype(bool), two_parts & (whole | ~viable), whole)
    known = np.isfinite(rows["mag_auto"]) & np.isfinite(rows["zphot"]) & (rows["zphot"] >= 0)
    return np.asarray(shape & known)


def _drawable(fits: np.ndarray, radii_arcsec: np.ndarray) -> np.ndarray:
    ratios = fits[:, _RATIO]
    finite = np.isfinite(fits[:, [_INDEX, _ANGLE]]).all(1) & np.isfinite(radii_arcsec)
    return np.asarray(finite & (ratios > 0) & (ratios <= 1) & (radii_arcsec > 0))


def _selection_file(path: Path) -> Tuple[Path, ...]:
    """Return the file of quality flags that the public release has beside the table, or nothing."""
    beside = path.with_name(path.name.replace("_fits", "_selection"))
    return (beside,) if beside != path and beside.is_file() else ()


def _check_columns(path: Path) -> None:
    from astropy.io import fits

    try:
        with fits.open(path) as file:
            table: Any = file[1]
            types = table.columns.dtype
            widths = {name: int(np.prod(types[name].shape)) for name in types.names}
    except (OSError, IndexError, AttributeError) as error:
        raise BadInput(f"{path} is not a FITS file with a table of galaxies: {error}") from error
    missing = [name for name, width in COLUMNS.items() if widths.get(name, 0) < width]
    if missing:
        raise BadInput(
            f"the catalogue {path} lacks the columns {', '.join(missing)}; found: {', '.join(sorted(widths))}. "
            "The COSMOS table of parametric fits is the file whose name ends in _fits.fits"
        )
