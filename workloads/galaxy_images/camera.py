"""Six-band images of galaxies as LSST would see them, drawn with GalSim.

The point spread function is the same in all bands, and every component is one profile times one spectrum.
A single drawing per component, scaled by its six band fluxes, is therefore exact; :meth:`Camera.draw_chromatic`
is the plain way, six drawings of a chromatic object, that it is tested and timed against.
"""

from __future__ import annotations

import math
from typing import Any, Tuple

import numpy as np

from siderostat.workloads.base import BadInput
from siderostat.workloads.galaxy_images.catalogue import Catalogue, Component, Galaxy
from siderostat.workloads.galaxy_images.survey import (
    BANDS,
    FAINTEST_R_MAG,
    HST_ZERO_POINT_MAG,
    PIXEL_SCALE_ARCSEC,
    PIXELS,
    PSF_FWHM_ARCSEC,
    brightness_factors,
    r_magnitude,
    sky_electrons,
)

SEDS = ("E", "Sbc", "Scd")
MOST_DRAWS = 1000  # of galaxies for one image, until one can be used
LARGEST_TRANSFORM = 4096  # pixels on a side: 0.4 GB, and a second for one galaxy


class Camera:
    """GalSim's objects that all images share: bandpasses, spectra, point spread function."""

    def __init__(self) -> None:
        import galsim

        self._galsim: Any = galsim
        self.psf = galsim.Kolmogorov(fwhm=PSF_FWHM_ARCSEC)
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
        """Say whether GalSim's transforms stay within :data:`LARGEST_TRANSFORM`.

        Galaxies tens of arcseconds across do not, nor very thin ones with bright wings. The made-up catalogue has
        none in 20,000; in a real one they come from fits that went astray.
        """
        convolved = (self._galsim.Convolve([self._profile(c), self.psf]) for c in galaxy.components)
        return all(2 * c.maxk <= LARGEST_TRANSFORM * c.stepk for c in convolved)

    def draw(self, galaxy: Galaxy) -> np.ndarray:
        """Return the noise-free image in electrons, float32 of shape (6, 64, 64)."""
        image = np.zeros((len(BANDS), PIXELS, PIXELS), np.float32)
        for component in galaxy.components:
            convolved = self._galsim.Convolve([self._profile(component), self.psf])
            electrons = self.electrons(component, galaxy.redshift).astype(np.float32)
            image += electrons[:, None, None] * self._drawn(convolved)
        return image

    def draw_chromatic(self, galaxy: Galaxy) -> np.ndarray:
        """Return what :meth:`draw` does, by six drawings of one chromatic object."""
        components = [self._profile(c) * self._observed_sed(c, galaxy.redshift) for c in galaxy.components]
        convolved = self._galsim.Convolve([self._galsim.Add(components), self.psf])
        images = [self._drawn(convolved * factor, bandpass) for factor, bandpass in zip(self._factors, self.bandpasses)]
        return np.stack(images)

    def _drawn(self, profile: Any, *bandpass: Any) -> np.ndarray:
        image = self._galsim.ImageF(PIXELS, PIXELS, scale=PIXEL_SCALE_ARCSEC)
        profile.drawImage(*bandpass, image=image)
        array: np.ndarray = image.array
        return array

    def _profile(self, component: Component) -> Any:
        """Profile of unit flux, sheared at constant area."""
        radius = component.half_light_radius_arcsec
        if component.sersic_index == 1.0:
            round_one = self._galsim.Exponential(half_light_radius=radius)
        else:
            round_one = self._galsim.Sersic(component.sersic_index, half_light_radius=radius)
        return round_one.shear(q=component.axis_ratio, beta=component.angle_rad * self._galsim.radians)

    def _observed_sed(self, component: Component, redshift: float) -> Any:
        return self._seds[component.sed].atRedshift(redshift).withMagnitude(component.magnitude, self._reference)


def draw_galaxy(camera: Camera, catalogue: Catalogue, rng: np.random.Generator) -> Galaxy:
    """Draw galaxies, each turned by a random angle, until one is bright enough in r and not too large to draw.

    Raises:
        BadInput: if none of a thousand is.
    """
    for _ in range(MOST_DRAWS):
        galaxy = catalogue.draw(rng).rotated(rng.uniform(0, math.pi))
        if camera.r_magnitude(galaxy) < FAINTEST_R_MAG and camera.can_draw(galaxy):
            return galaxy
    raise BadInput(
        f"none of {MOST_DRAWS} galaxies drawn from the catalogue is brighter than r = {FAINTEST_R_MAG} "
        "and small enough to draw"
    )


def add_noise(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return what is left of one exposure of galaxy and sky when the mean sky is subtracted.

    Args:
        image: noise-free electrons, shape (6, 64, 64).
        rng: the source of the Poisson noise.
    """
    sky = sky_electrons()[:, None, None]
    # The transform leaves ripples of a few 1e-6 of the peak, which must not make a mean negative.
    return np.asarray(rng.poisson(np.maximum(image + sky, 0)) - sky, np.float32)


def make_image(camera: Camera, catalogue: Catalogue, seed: int, index: int) -> Tuple[np.ndarray, np.ndarray]:
    """Make image ``index`` of the set with this seed, whatever else has been made before.

    Returns:
        The image, float32 of shape (6, 64, 64), and its labels e1, e2 and redshift, float32 of shape (3,).

    Raises:
        BadInput: if the catalogue has no galaxy that is bright enough.
    """
    rng = np.random.default_rng([seed, index])
    galaxy = draw_galaxy(camera, catalogue, rng)
    labels = np.array([*galaxy.ellipticity(), galaxy.redshift], np.float32)
    return add_noise(camera.draw(galaxy), rng), labels
