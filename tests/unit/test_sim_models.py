"""The models of simulated chips: time, memory, energy, bands."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siderostat.devices.sim import bsp, calibration, chips, energy, frameworks, kernels, memory, partition, time
from siderostat.devices.sim.bands import QUANTILES, Draws, band, share_at_most, total
from siderostat.devices.sim.opgraph import Op, OpGraph, TensorSpec
from siderostat.devices.sim.spec import SpecError

GC2, V100 = chips.load("graphcore-gc2"), chips.load("nvidia-v100-pcie")
OF = {chip.name: calibration.fitting("", chip) for chip in (GC2, V100)}
EAGER, LOOP = frameworks.load("torch-eager"), frameworks.load("poptorch-loop")
ONE = Draws(1)


def tensor(id: int, *shape: int) -> TensorSpec:
    return TensorSpec(id, shape, "float32", 4)


def matmul(m: int, k: int, n: int, id: int = 0) -> Op:
    inputs = (tensor(3 * id, m, k), tensor(3 * id + 1, k, n))
    attributes = {"batch": 1, "m": m, "k": k, "n": n}
    return Op("mm", "matmul", "forward", 2.0 * m * k * n, inputs, (tensor(3 * id + 2, m, n),), attributes)


def graph(*ops: Op, parameter_bytes: int = 0) -> OpGraph:
    storages = {t.id: t.nbytes for op in ops for t in (*op.inputs, *op.outputs)}
    return OpGraph("torch", list(ops), parameter_bytes, 0, 4000, 0, storages=storages)


def update(id: int, size: int) -> Op:
    weight, gradient = tensor(id, size), tensor(id + 1, size)
    return Op("SGD", "optimizer", "update", size, (weight, gradient), (weight,), {"name": "SGD", "state": 0})


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 4000), st.integers(1, 600), st.integers(1, 600), st.sampled_from([1, 9]))
def test_no_plan_is_faster_than_all_matrix_units_at_their_peak(rows, inner, columns, taps):
    tiles = bsp.tiles(GC2, OF[GC2.name], 4)
    found = partition.plan(partition.Product(rows, inner, columns, taps), tiles)
    least = rows * inner * columns * taps / tiles.macs / tiles.count
    assert found.multiply_cycles >= least * 0.999
    assert found.exchanged_bytes > 0


def test_a_large_product_comes_near_the_peak_and_a_small_one_does_not():
    tiles = bsp.tiles(GC2, OF[GC2.name], 4)

    def share(side: int) -> float:
        found = partition.plan(partition.Product(side, side, side), tiles)
        cycles = found.multiply_cycles + found.blocks * 66 + found.exchanged_bytes / 4 + found.add_cycles
        return side**3 / tiles.macs / tiles.count / cycles

    assert share(2048) > 0.45
    assert share(32) < 0.1


def test_the_three_passes_of_a_convolution_multiply_as_often_on_the_chip_as_in_the_trace():
    base = {
        "batch": 8, "in_channels": 32, "out_channels": 64, "groups": 1, "kernel": (3, 3), "stride": (2, 2),
        "in_size": (32, 32), "out_size": (16, 16), "transposed": False,
    }  # fmt: skip
    macs = 8 * 16 * 16 * 32 * 64 * 9
    for what in ("fwd", "dgrad", "wgrad"):
        of = partition.product(Op("conv", "conv", "forward", 2.0 * macs, (), (), {**base, "pass": what}))
        assert of.rows * of.inner * of.columns * of.taps == macs


def test_a_chain_of_element_wise_operations_takes_one_superstep_for_each_tensor_it_writes():
    first = Op("mul", "elementwise", "forward", 10, (tensor(0, 10),), (tensor(1, 10),))
    second = Op("relu", "elementwise", "forward", 10, (tensor(1, 10),), (tensor(2, 10),))
    used_later = Op("add", "elementwise", "backward", 10, (tensor(1, 10),), (tensor(3, 10),))
    tiles = bsp.tiles(GC2, OF[GC2.name], 4)
    alone = OpGraph("torch", [first, second], 0, 0, 0, 0, returned=frozenset({2}))
    kept = OpGraph("torch", [first, second, used_later], 0, 0, 0, 0, returned=frozenset({2, 3}))
    counts = [[w.supersteps for w in bsp.work(bsp_fuse(g), tiles)] for g in (alone, kept)]
    assert counts == [[1], [2, 1]]


def bsp_fuse(of: OpGraph):
    from siderostat.devices.sim.liveness import fuse

    return fuse(of)


def test_where_the_host_launches_slowly_its_time_is_what_counts_and_otherwise_the_chips():
    small, large = graph(*[matmul(8, 8, 8, i) for i in range(100)]), graph(*[matmul(4096, 4096, 4096, 0)] * 4)
    found = kernels.seconds(small, V100, OF[V100.name], EAGER, "fp32", ONE)
    assert found["compute"] + found["launch"] == pytest.approx(100 * EAGER["op_s"], rel=0.05)
    found = kernels.seconds(large, V100, OF[V100.name], EAGER, "fp32", ONE)
    assert found["launch"] == pytest.approx(EAGER["op_s"])
    peak = V100["flops_fp32"] * OF[V100.name]["product_efficiency"]
    assert found["compute"] == pytest.approx(4 * 2 * 4096**3 / peak, rel=0.01)


def test_known_launches_take_the_place_of_those_of_the_trace():
    of = graph(*[matmul(8, 8, 8, i) for i in range(10)])
    few = kernels.seconds(of, V100, OF[V100.name], EAGER, "fp32", ONE, launches=10)
    many = kernels.seconds(of, V100, OF[V100.name], EAGER, "fp32", ONE, launches=500)
    assert many["launch"] + many["compute"] > 40 * (few["launch"] + few["compute"])


def test_gradients_of_several_chips_are_summed_over_the_link():
    size = 1_000_000
    of = graph(matmul(8, 8, 8, 5), update(0, size))
    parts = [time.parts(of, V100, EAGER, OF[V100.name], "fp32", ONE, chip_count=n)["all_reduce"] for n in (1, 2, 4)]
    assert parts[0] == 0
    assert parts[1] == pytest.approx(4 * size / V100["link_bytes_per_s"] + 2 * V100["link_s"])
    assert parts[2] == pytest.approx(6 / 4 * 4 * size / V100["link_bytes_per_s"] + 6 * V100["link_s"])


def test_the_hosts_inputs_count_only_where_they_are_asked_for():
    keras = frameworks.load("tf2.1-keras-ipu")
    ideal = time.parts(graph(matmul(8, 8, 8)), GC2, keras, OF[GC2.name], "fp32", ONE)
    counted = time.parts(graph(matmul(8, 8, 8)), GC2, keras, OF[GC2.name], "fp32", ONE, with_host=True)
    assert ideal["host"] == 0
    assert counted["host"] == pytest.approx(4000 / keras["input_bytes_per_s"])
    with pytest.raises(SpecError, match="input_bytes_per_s"):
        time.parts(graph(matmul(8, 8, 8)), GC2, LOOP, OF[GC2.name], "fp32", ONE, with_host=True)


def test_need_grows_with_parameters_and_is_judged_against_the_chips_memory():
    def need(parameter_bytes: int) -> memory.Need:
        return memory.need(graph(matmul(8, 8, 8), parameter_bytes=parameter_bytes), GC2, OF[GC2.name], "fp32", Draws())

    chances = [need(n).fit_probability for n in (0, 220_000_000, 400_000_000)]
    assert chances[0] == 1.0
    assert chances[2] == 0.0
    assert chances[0] >= chances[1] >= chances[2]
    grown = np.median(need(100_000_000).bytes) - np.median(need(0).bytes)
    assert grown == pytest.approx(100_000_000 * OF[GC2.name]["imbalance"], rel=0.02)


def test_code_is_counted_once_for_operations_that_are_alike():
    alike = [matmul(8, 8, 8, i) for i in range(5)]
    different = [matmul(8, 8, 8 * (i + 1), i) for i in range(5)]
    assert memory.distinct(bsp_fuse(graph(*alike)))[0] == 1
    assert memory.distinct(bsp_fuse(graph(*different)))[0] == 5


def test_energy_lies_between_idle_and_design_power_and_is_not_known_without_idle():
    parts = {"compute": 2.0, "launch": 2.0}
    found = energy.joules(parts, V100, ONE)
    assert (found["low"], found["high"]) == (30 * 4, 250 * 4)
    assert found["centre"] == pytest.approx(30 * 4 + (250 - 30) * 2)
    assert energy.joules(parts, GC2, ONE)["low"] is None
    assert energy.joules(parts, GC2, ONE, chip_count=2)["high"] == pytest.approx(2 * 4 * GC2["tdp_w"])


def test_draws_are_the_same_each_time_have_the_figure_as_median_and_its_spread():
    cycles = Draws(4000).of(OF[GC2.name], "superstep_cycles")
    figure = OF[GC2.name].figures["superstep_cycles"]
    assert np.array_equal(cycles, Draws(4000).of(OF[GC2.name], "superstep_cycles"))
    assert np.median(cycles) == pytest.approx(figure.value, rel=0.01)
    within = share_at_most(cycles, figure.value * figure.spread) - share_at_most(cycles, figure.value / figure.spread)
    assert within == pytest.approx(0.68, abs=0.02)
    assert Draws(1).of(OF[GC2.name], "superstep_cycles") == figure.value


def test_bands_are_in_order_and_parts_add_up():
    draws = Draws(300)
    of = graph(matmul(512, 512, 512), update(9, 1000))
    for chip, framework in ((GC2, LOOP), (V100, EAGER)):
        parts = time.parts(of, chip, framework, OF[chip.name], "fp32", draws)
        found = band(total(parts))
        assert list(found) == list(QUANTILES)
        assert sorted(found.values()) == list(found.values())
        assert np.allclose(total(parts), sum(parts.values()))
        assert found["p2_5"] < found["p50"] < found["p97_5"]
