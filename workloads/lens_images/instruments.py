"""The two cameras: lenstronomy's figures, copied so that worlds without lenstronomy agree; a test compares them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Dict

from siderostat.workloads.base import BadInput

FIELD_ARCSEC = 6.4
"""Side of the sky that both cameras see, to one pixel. With fields of their own size the gap between the two could
not be closed: a lens would have another size in pixels, and no image processing says so."""


@dataclass(frozen=True)
class Instrument:
    """A camera and how long it looks, after lenstronomy's ``SimulationAPI.ObservationConfig``.

    Attributes:
        name: by which it is asked for.
        lenstronomy_class: name of the class in ``ObservationConfig``.
        band: of that class.
        pixel_arcsec: side of a pixel.
        field_pixels: pixels on a side of the field.
        psf_fwhm_arcsec: of the Gaussian point spread function.
        exposure_s: of one exposure.
        exposures: how many are added.
        read_noise_electrons: standard deviation for one exposure.
        sky_magnitude: of the sky, per square arcsecond.
        zero_point_magnitude: of one electron per second.
    """

    name: str
    lenstronomy_class: str
    band: str
    pixel_arcsec: float
    field_pixels: int
    psf_fwhm_arcsec: float
    exposure_s: float
    exposures: int
    read_noise_electrons: float
    sky_magnitude: float
    zero_point_magnitude: float

    @property
    def title(self) -> str:
        """The name as it is written in text."""
        return self.lenstronomy_class

    @property
    def total_exposure_s(self) -> float:
        """All exposures together."""
        return self.exposure_s * self.exposures

    @property
    def psf_sigma_pixels(self) -> float:
        """Standard deviation of the point spread function."""
        return self.psf_fwhm_arcsec / (2 * math.sqrt(2 * math.log(2))) / self.pixel_arcsec

    @property
    def background_sigma(self) -> float:
        """Standard deviation of sky and read-out in a pixel, in electrons per second."""
        sky_per_s = 10 ** ((self.zero_point_magnitude - self.sky_magnitude) / 2.5) * self.pixel_arcsec**2
        variance = self.exposures * self.read_noise_electrons**2 + sky_per_s * self.total_exposure_s
        return math.sqrt(variance) / self.total_exposure_s


INSTRUMENTS: Dict[str, Instrument] = {
    "hst": Instrument("hst", "HST", "WFC3_F160W", 0.08, 80, 0.08, 5400.0, 1, 4.0, 22.3, 25.96),
    "euclid": Instrument("euclid", "Euclid", "VIS", 0.101, 64, 0.16, 566.0, 4, 4.2, 22.3, 25.72),
}
"""HST's WFC3 in F160W (6.40" with 80 drizzled pixels) and Euclid's VIS (6.46" with 64), as of lenstronomy 1.14.2."""


def instrument(name: str) -> Instrument:
    """Return the instrument called ``name``.

    Raises:
        BadInput: if there is none.
    """
    if name not in INSTRUMENTS:
        raise BadInput(f"instrument must be one of {', '.join(INSTRUMENTS)}, not {name!r}")
    return INSTRUMENTS[name]
