"""The arithmetic that hosts are compared by: it shifts images, keeps their energy, and does as much more as it is told."""

from __future__ import annotations

import numpy as np
import pytest

from siderostat.workloads.arithmetic import Arithmetic, _shift
from siderostat.workloads.base import BadInput, Spec, WrongResult

WORKLOAD = Arithmetic()


def spec(**options) -> Spec:
    return Spec("fourier", "infer", "numpy", 4, "small", 0, {"passes": 10, "label": "", **options})


def run(asked: Spec) -> np.ndarray:
    (phase,) = WORKLOAD.build(asked).phases
    return phase.model(*phase.feed.next())


def test_energy_is_kept():
    assert WORKLOAD.check(spec(), [run(spec())])["energy_change"] < 1e-5


def test_ten_passes_of_three_tenths_are_a_shift_by_three_pixels():
    (phase,) = WORKLOAD.build(spec()).phases
    images = phase.feed.next()[0]
    assert np.abs(_shift(10)(images) - np.roll(images, (3, 3), axis=(1, 2))).max() < 1e-4


def test_an_image_that_lost_energy_is_found():
    with pytest.raises(WrongResult, match="changed their sum of squares"):
        WORKLOAD.check(spec(), [run(spec()) * 1.01])


def test_no_passes_are_refused():
    with pytest.raises(BadInput, match="passes is a whole number of at least 1, not 0"):
        WORKLOAD.build(spec(passes=0))
