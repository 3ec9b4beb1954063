"""Lenses drawn by lenstronomy: as its examples and the public DeepLense code do, and with all kept that can be kept."""

from __future__ import annotations

import functools
import importlib
import math
from typing import Any, Dict, List, Sequence

import numpy as np

from siderostat.workloads.lens_images.catalogue import (
    HUBBLE_KM_S_MPC,
    LENS_REDSHIFT,
    MACRO,
    MATTER_DENSITY,
    SOURCE_REDSHIFT,
    Scene,
)
from siderostat.workloads.lens_images.instruments import Instrument
from siderostat.workloads.lens_images.rendering import Renderer
from siderostat.workloads.lens_images.sources import PIXEL_ARCSEC


class Naive(Renderer):
    """For each image its own cosmology, distances, camera and lens model.

    Args:
        instrument: the camera.
    """

    def __init__(self, instrument: Instrument) -> None:
        self._instrument = instrument

    def draw_all(self, scenes: Sequence[Scene]) -> np.ndarray:
        """See :meth:`Renderer.draw_all`."""
        return np.stack([self._draw(scene) for scene in scenes])

    def _draw(self, scene: Scene) -> np.ndarray:
        cosmology = flat_cosmology()
        model = image_model(self._instrument, len(scene.masses_msun), cosmology)
        return draw(model, scene, einstein_radius_of_the_sun(cosmology))


class Cached(Renderer):
    """One cosmology, and one lenstronomy model of the image for each number of point masses.

    Args:
        instrument: the camera.
    """

    def __init__(self, instrument: Instrument) -> None:
        self._instrument = instrument
        self._cosmology = flat_cosmology()
        self._unit_arcsec = einstein_radius_of_the_sun(self._cosmology)
        self._model = functools.lru_cache(maxsize=None)(self._make_model)

    def draw_all(self, scenes: Sequence[Scene]) -> np.ndarray:
        """See :meth:`Renderer.draw_all`."""
        return np.stack([self._draw(scene) for scene in scenes])

    def _draw(self, scene: Scene) -> np.ndarray:
        model = self._model(len(scene.masses_msun))
        model.SourceModel.delete_interpol_caches()  # it keeps the source that it saw first
        return draw(model, scene, self._unit_arcsec)

    def _make_model(self, masses: int) -> Any:
        return image_model(self._instrument, masses, self._cosmology)


def image_model(instrument: Instrument, masses: int, cosmology: Any) -> Any:
    """Return lenstronomy's model of an image of the lens galaxy and so many point masses."""
    from lenstronomy.SimulationAPI.sim_api import SimAPI

    lenses = ["SIE", "SHEAR", *["POINT_MASS"] * masses]
    model = {"lens_model_list": lenses, "source_light_model_list": ["INTERPOL"], "cosmo": cosmology}
    camera = SimAPI(num_pix=instrument.field_pixels, kwargs_single_band=single_band(instrument), kwargs_model=model)
    return camera.image_model_class({"supersampling_factor": 1})


def single_band(instrument: Instrument) -> Dict[str, Any]:
    """Return the instrument's figures under the names that lenstronomy has for them."""
    return {
        "read_noise": instrument.read_noise_electrons,
        "pixel_scale": instrument.pixel_arcsec,
        "exposure_time": instrument.exposure_s,
        "num_exposures": instrument.exposures,
        "sky_brightness": instrument.sky_magnitude,
        "magnitude_zero_point": instrument.zero_point_magnitude,
        "seeing": instrument.psf_fwhm_arcsec,
        "psf_type": "GAUSSIAN",
    }


def flat_cosmology() -> Any:
    """Return astropy's flat cosmology with the constants of the lenses."""
    cosmology: Any = importlib.import_module("astropy.cosmology")
    return cosmology.FlatLambdaCDM(H0=HUBBLE_KM_S_MPC, Om0=MATTER_DENSITY)


def einstein_radius_of_the_sun(cosmology: Any) -> float:
    """Return the Einstein radius of one solar mass in arcseconds, by astropy."""
    # astropy makes its units and constants when it is imported: type checkers do not see them.
    units: Any = importlib.import_module("astropy.units")
    constants: Any = importlib.import_module("astropy.constants")
    lens, source = (cosmology.angular_diameter_distance(z) for z in (LENS_REDSHIFT, SOURCE_REDSHIFT))
    between = cosmology.angular_diameter_distance(LENS_REDSHIFT, SOURCE_REDSHIFT)
    squared = (4 * constants.G * constants.M_sun / constants.c**2 * between / (lens * source)).to_value(
        units.dimensionless_unscaled
    )
    return float((math.sqrt(squared) * units.rad).to_value(units.arcsec))


def draw(model: Any, scene: Scene, unit_arcsec: float) -> np.ndarray:
    """Return the image of a scene by a model with as many point masses.

    Args:
        model: of :func:`image_model`, with no source remembered.
        scene: what stands in the sky.
        unit_arcsec: Einstein radius of one solar mass.
    """
    source = {
        "image": scene.source,
        "amp": 1.0,
        "center_x": scene.source_x_arcsec,
        "center_y": scene.source_y_arcsec,
        "phi_G": scene.source_angle,
        "scale": PIXEL_ARCSEC,
    }
    return np.asarray(model.image(_lenses(scene, unit_arcsec), [source]))


def _lenses(scene: Scene, unit_arcsec: float) -> List[Dict[str, float]]:
    radii = unit_arcsec * np.sqrt(scene.masses_msun)
    centre = {"center_x": 0.0, "center_y": 0.0}
    galaxy = {"theta_E": unit_arcsec * math.sqrt(MACRO.mass_msun), "e1": MACRO.e1, "e2": MACRO.e2, **centre}
    shear = {"gamma1": MACRO.gamma1, "gamma2": MACRO.gamma2, "ra_0": 0.0, "dec_0": 0.0}
    points = [
        {"theta_E": radius, "center_x": x, "center_y": y}
        for radius, x, y in zip(radii.tolist(), scene.x_arcsec.tolist(), scene.y_arcsec.tolist())
    ]
    return [galaxy, shear, *points]
