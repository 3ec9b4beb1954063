"""The heat bath as a workload: its state, its check, its options, and a run through the device."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from siderostat import devices, workloads
from siderostat.workloads.base import BadInput, Spec, WrongResult
from siderostat.workloads.gauge_flow import group, table
from siderostat.workloads.gauge_flow.heatbath import HeatBath
from siderostat.workloads.gauge_flow.heatbath_workload import plaquette_range

WORKLOAD = workloads.load("gauge-heatbath")
SPEC = Spec("cabibbo-marinari", "sample", "numpy", 2, "4^4", 3, {"beta": 1.0, "thermalisation": 3})


def _options(**changed):
    return dataclasses.replace(SPEC, options={**SPEC.options, **changed})


def _run(spec, steps=1):
    (phase,) = WORKLOAD.build(spec).phases
    return [phase.model(*phase.feed.next()) for _ in range(steps)]


@pytest.fixture(scope="module")
def links():
    return _run(SPEC)[0]


def test_importing_it_imports_no_framework():
    code = (
        "from siderostat import workloads; workloads.load('gauge-heatbath')\nimport sys; print('torch' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False\n"


def test_a_step_updates_every_chain_and_passes_its_check(links):
    figures = WORKLOAD.check(SPEC, [links])
    assert links.shape == (2, 4, 4, 4, 4, 4, 3, 3) and figures["off_group"] < 1e-12
    assert figures["plaquette"] == pytest.approx(group.mean_plaquette(links).mean())


def test_the_state_carries_on_from_step_to_step():
    once, again = _run(SPEC, 2)
    assert np.abs(again - once).max(axis=(-1, -2)).min() > 0.01  # no link stays as it was
    chains = HeatBath((4, 4, 4, 4), 1.0, chains=2, seed=3)
    for updates in (3, 1, 1):
        chains.run(updates)
    np.testing.assert_array_equal(again, chains.links)


def test_chains_are_independent(links):
    assert np.abs(links[0] - links[1]).max() > 0.5


@pytest.mark.parametrize("sweeps", [0, 3])
def test_sweeps_of_over_relaxation_are_an_option_and_work_rises_with_them(sweeps):
    spec = _options(over_relaxation=sweeps, thermalisation=8, beta=4.0)
    WORKLOAD.check(spec, _run(spec))
    assert WORKLOAD.flops_per_item(spec) == (1 + sweeps) / 2 * WORKLOAD.flops_per_item(SPEC)


def test_at_the_strongest_correlations_what_is_left_of_the_start_is_within_the_range():
    spec = Spec("cabibbo-marinari", "sample", "numpy", 1, "4^4", 0, {})
    assert 0.3 < WORKLOAD.check(spec, _run(spec))["plaquette"] < 0.66


def test_every_range_of_the_table_leaves_out_the_neighbouring_betas():
    for lattice, beta in table.plaquettes():
        low, high = plaquette_range(lattice, beta)
        assert 0 < low < high < 0.7
    assert plaquette_range("4^4", 1.0)[1] < table.plaquettes()["4^4", 2.0].mean
    assert plaquette_range("8^4", 5.7)[1] < table.plaquettes()["8^4", 6.0].mean
    assert plaquette_range("8^4", 2.5) == (-0.5, 1.0)


def test_links_outside_the_group_are_a_wrong_result(links):
    with pytest.raises(WrongResult, match="off SU"):
        WORKLOAD.check(SPEC, [links * 1.001])


def test_a_plaquette_of_another_beta_is_a_wrong_result(links):
    with pytest.raises(WrongResult, match="the mean plaquette is 0.0"):
        WORKLOAD.check(_options(beta=2.0), [links])


@pytest.mark.parametrize("broken", [lambda links: links[:1], lambda links: np.where(np.eye(3), np.nan, links)])
def test_a_wrong_shape_and_what_is_not_finite_are_wrong_results(links, broken):
    with pytest.raises(WrongResult, match="shape|not finite"):
        WORKLOAD.check(SPEC, [broken(links)])


@pytest.mark.parametrize(
    ("option", "value"), [("beta", -1.0), ("beta", float("nan")), ("over_relaxation", -1), ("thermalisation", -1)]
)
def test_an_option_without_sense_is_refused(option, value):
    with pytest.raises(BadInput, match=f"the option {option} of gauge-heatbath"):
        WORKLOAD.build(_options(**{option: value}))


def test_it_runs_on_a_processor_in_double_precision():
    device = devices.load("cpu:threads=1")
    device.configure("numpy")
    program = device.compile(WORKLOAD.build(SPEC), "fp64")
    assert program.run(2).steps == 2
    assert program.outputs()[0].dtype == np.complex128
    WORKLOAD.check(SPEC, program.outputs())
