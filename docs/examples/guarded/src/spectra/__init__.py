"""Power spectra of square maps."""

import numpy as np


def power_spectrum(maps, bins=16):
    """Return the mean power in rings of equal width in k, (maps, bins), of maps (maps, side, side)."""
    side = maps.shape[-1]
    power = np.abs(np.fft.fft2(maps)) ** 2 / side**2
    k = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side)))
    ring = np.minimum((k / 0.5 * bins).astype(int), bins - 1).ravel()
    cells = np.bincount(ring, minlength=bins)
    return np.stack([np.bincount(ring, one.ravel(), bins) for one in power]) / cells
