"""Six-band images of galaxies as LSST would see them, drawn with GalSim.

The point spread function is the same in all bands, and every component is one profile times one spectrum.
A single drawing per component, scaled by its six band fluxes, is therefore exact; :meth:`Camera.draw_chromatic`
is the plain way, six drawings of a chromatic object. Both are what the faster renderer of ``kspace.py`` is tested and
timed against.
"""

from __future__ import annotations

from typing import Any, Optional, Sequence

import numpy as np

from siderostat.workloads.galaxy_images.catalogue import SEDS, Component, Galaxy
from siderostat.workloads.galaxy_images.making import Renderer
from siderostat.workloads.galaxy_images.survey import (
    BANDS,
    HST_ZERO_POINT_MAG,
    PIXEL_SCALE_ARCSEC,
    PIXELS,
    PSF_FWHM_ARCSEC,
    brightness_factors,
    r_magnitude,
)

LARGEST_TRANSFORM = 4096  # pixels on a side: 0.4 GB, and a second for one galaxy
LARGEST_REDSHIFT = 10.0  # at which the spectra are tabulated for the k-space renderer


class Camera(Renderer):
    """GalSim's objects that all images share: bandpasses, spectra, point spread function.

    Args:
        gsparams: GalSim's accuracy; None for its default.
    """

    def __init__(self, gsparams: Optional[Any] = None) -> None:
        import galsim

        self._galsim: Any = galsim
        self._gsparams = gsparams
        self.psf = galsim.Kolmogorov(fwhm=PSF_FWHM_ARCSEC, gsparams=gsparams)
        self.bandpasses = [galsim.Bandpass(f"LSST_{band}.dat", wave_type="nm") for band in BANDS]
        self._reference = galsim.Bandpass("ACS_wfc_F814W.dat", wave_type="nm").withZeropoint(HST_ZERO_POINT_MAG)
        self._seds = {s: galsim.SED(f"CWW_{s}_ext_more.sed", wave_type="Ang", flux_type="flambda") for s in SEDS}
        self._factors = brightness_factors()

    def electrons(self, component: Component, redshift: float) -> np.ndarray:
        """Electrons of a component over all exposures, by band, shape (6,)."""
        sed = self._observed_sed(component, redshift)
        in_hst_units = np.array([sed.calculateFlux(bandpass) for bandpass in self.bandpasses], np.float64)
        return np.asarray(in_hst_units * self._factors)

    def r_magnitude(self, galaxy: Galaxy) -> float:
        """Magnitude of the whole galaxy in r."""
        return r_magnitude(sum((self.electrons(c, galaxy.redshift) for c in galaxy.components), np.zeros(len(BANDS))))

    def can_draw(self, galaxy: Galaxy) -> bool:
        """Say whether GalSim's transforms stay within :data:`LARGEST_TRANSFORM`, and z within :data:`LARGEST_REDSHIFT`.

        Galaxies tens of arcseconds across do not, nor very thin ones with bright wings. The made-up catalogue has
        none in 20,000; in a real one they come from fits that went astray.
        """
        convolved = (self._galsim.Convolve([self.profile(c), self.psf]) for c in galaxy.components)
        return galaxy.redshift <= LARGEST_REDSHIFT and all(2 * c.maxk <= LARGEST_TRANSFORM * c.stepk for c in convolved)

    def draw(self, galaxy: Galaxy) -> np.ndarray:
        """Return the noise-free image in electrons, float32 of shape (6, 64, 64)."""
        image = np.zeros((len(BANDS), PIXELS, PIXELS), np.float32)
        for component in galaxy.components:
            convolved = self._galsim.Convolve([self.profile(component), self.psf])
            electrons = self.electrons(component, galaxy.redshift).astype(np.float32)
            image += electrons[:, None, None] * self._drawn(convolved)
        return image

    def draw_chromatic(self, galaxy: Galaxy) -> np.ndarray:
        """Return what :meth:`draw` does, by six drawings of one chromatic object."""
        components = [self.profile(c) * self._observed_sed(c, galaxy.redshift) for c in galaxy.components]
        convolved = self._galsim.Convolve([self._galsim.Add(components), self.psf])
        images = [self._drawn(convolved * factor, bandpass) for factor, bandpass in zip(self._factors, self.bandpasses)]
        return np.stack(images)

    def draw_all(self, galaxies: Sequence[Galaxy]) -> np.ndarray:
        """See :meth:`Renderer.draw_all`."""
        return np.stack([self.draw(galaxy) for galaxy in galaxies])

    def _drawn(self, profile: Any, *bandpass: Any) -> np.ndarray:
        image = self._galsim.ImageF(PIXELS, PIXELS, scale=PIXEL_SCALE_ARCSEC)
        profile.drawImage(*bandpass, image=image)
        array: np.ndarray = image.array
        return array

    def profile(self, component: Component) -> Any:
        """Profile of unit flux, sheared at constant area."""
        radius = component.half_light_radius_arcsec
        if component.sersic_index == 1.0:
            round_one = self._galsim.Exponential(half_light_radius=radius, gsparams=self._gsparams)
        else:
            round_one = self._galsim.Sersic(component.sersic_index, half_light_radius=radius, gsparams=self._gsparams)
        return round_one.shear(q=component.axis_ratio, beta=component.angle_rad * self._galsim.radians)

    def _observed_sed(self, component: Component, redshift: float) -> Any:
        return self._seds[component.sed].atRedshift(redshift).withMagnitude(component.magnitude, self._reference)
