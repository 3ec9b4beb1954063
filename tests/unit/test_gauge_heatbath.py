"""SU(3) as arrays, and the heat bath against the table of plaquettes."""

from __future__ import annotations

import numpy as np
import pytest

from siderostat.workloads.gauge_flow import group, table
from siderostat.workloads.gauge_flow.heatbath import HeatBath

EXTENTS = (4, 4, 4, 4)


def test_haar_matrices_are_in_the_group_and_have_its_moments():
    links = group.haar(np.random.default_rng(0), (40_000,))
    assert group.distance_from_group(links) < 1e-13
    traces = np.trace(links, axis1=-2, axis2=-1)
    for power, moment in ((2, 1.0), (4, 2.0)):  # numbers of invariants in 3 x 3bar and its square
        values = np.abs(traces) ** power
        assert abs(values.mean() - moment) < 4 * values.std() / np.sqrt(len(values))
    assert abs(traces.mean()) < 4 / np.sqrt(len(traces))


def test_a_gauge_transformation_leaves_every_plaquette_as_it_is():
    rng = np.random.default_rng(1)
    links, g = group.haar(rng, (4, 2, 4, 2, 6)), group.haar(rng, (2, 4, 2, 6))
    moved = group.transformed(links, g)
    assert np.abs(moved - links).max() > 0.1
    np.testing.assert_allclose(group.plaquettes(moved), group.plaquettes(links), atol=1e-13)


def test_links_outside_the_group_are_seen():
    links = group.haar(np.random.default_rng(2), (5,))
    assert group.distance_from_group(links * np.exp(0.01j)) > 0.01
    assert group.distance_from_group(links * 1.01) > 0.01


@pytest.mark.parametrize(("beta", "discarded"), [(1.0, 5), (4.0, 15)])
def test_the_heat_bath_gives_the_plaquette_of_the_table(beta, discarded):
    known = table.plaquettes()["4^4", beta]
    found = HeatBath(EXTENTS, beta, chains=16, seed=3).measure(updates=12, discarded=discarded)
    assert found.error < 0.02 * known.mean
    assert abs(found.mean - known.mean) < 3.5 * np.hypot(found.error, known.error)


def test_at_strong_coupling_the_plaquette_is_that_of_one_plaquette_alone():
    # b/18 + b^2/216 - 5 b^4/93312, by Weyl integration; plaquettes meet first in the cube, at the order of b^5.
    beta = 0.5
    found = HeatBath((2, 4, 4, 4), beta, chains=32, seed=4).measure(updates=12, discarded=4)
    assert abs(found.mean - (beta / 18 + beta**2 / 216)) < 3.5 * found.error
    assert found.error < 0.002


def test_the_heat_bath_stays_in_the_group():
    heat_bath = HeatBath((2, 2, 2, 2), 6.0, chains=2, seed=5)
    heat_bath.run(30)
    assert group.distance_from_group(heat_bath.links) < 1e-12


def test_an_odd_extent_is_refused():
    with pytest.raises(ValueError, match="even extents"):
        HeatBath((3, 4, 4, 4), 1.0, chains=1, seed=0)


def test_the_table_has_two_lattices():
    known = table.plaquettes()
    assert {lattice for lattice, _ in known} == {"4^4", "8^4"}
    assert known["8^4", 6.0] == (0.594015, 0.000065)
