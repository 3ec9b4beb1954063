"""What a layer computes and moves: the stated counts against the tracer's, formulation by formulation."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from siderostat.devices.sim.opgraph import OpGraph  # noqa: E402
from siderostat.devices.sim.trace import trace  # noqa: E402
from siderostat.workloads.base import Feed, Phase, Step  # noqa: E402
from siderostat.workloads.gauge_flow import lattice, work  # noqa: E402
from siderostat.workloads.gauge_flow import torch as steps  # noqa: E402
from siderostat.workloads.gauge_flow.real import Tables  # noqa: E402

BATCH = 4
FOUR, LARGER = (4, 4, 4, 4), (4, 4, 4, 8)
UPDATES = {
    "direction": lattice.Direction(0, 1, 0),
    "location": lattice.Location((0, 0, 0, 0)),
    "parity": lattice.Parity(0, 1, 0),
}


def _step(formulation, extents, update, learned, batch=BATCH) -> Step:
    flow = steps.make_flow(formulation, extents, [update], [learned])
    feed = Feed((np.zeros((batch, 4, *extents, 3, 3, 2), np.float32),), batch, 0)
    return Step("torch", (Phase(steps.FlowEvaluation(flow, False), feed),), batch)


def _traced(*args) -> OpGraph:
    return trace(_step(*args))


@pytest.mark.parametrize("extents", [FOUR, LARGER])
@pytest.mark.parametrize("kind", list(UPDATES))
def test_what_a_layer_needs_of_a_lattice_is_what_its_tables_hold(kind, extents):
    update, volume = UPDATES[kind], math.prod(extents)
    needed = work.extent(update)
    tables = Tables(extents, update, len(needed.levels))
    assert len(tables.active) == needed.active * volume
    assert [len(tables.level(i)[0]) for i in range(tables.levels)] == [part * volume for part in needed.levels]
    assert tables.corners.shape[1] == needed.plaquettes * volume
    assert tables.around.numel() == 6 * 9 * needed.inner * volume
    assert tables.second.numel() == 9 * needed.outer * volume


@pytest.mark.parametrize("extents", [FOUR, LARGER])
@pytest.mark.parametrize(
    ("kind", "learned"), [("direction", True), ("direction", False), ("location", False), ("parity", True)]
)
@pytest.mark.parametrize("formulation", ["real", "complex", "fused"])
def test_the_tracer_counts_the_stated_operations_within_one_percent(formulation, kind, learned, extents):
    if formulation == "fused":
        pytest.importorskip("torch.utils.flop_counter")
    graph = _traced(formulation, extents, UPDATES[kind], learned)
    stated = work.layer_flops(formulation, UPDATES[kind], learned)
    assert graph.flops / BATCH / math.prod(extents) == pytest.approx(sum(stated.values()), rel=0.01)


@pytest.mark.parametrize("extents", [FOUR, LARGER])
@pytest.mark.parametrize("formulation", ["real", "complex", "fused"])
def test_the_tracer_counts_the_stated_bytes_of_active_loops_within_five_percent(formulation, extents):
    update = UPDATES["direction"]
    learned, fixed = (_traced(formulation, extents, update, is_learned).bytes_moved for is_learned in (True, False))
    stated = [work.loop_bytes(formulation, update, is_learned, BATCH) for is_learned in (True, False)]
    assert (learned - fixed) / BATCH / math.prod(extents) == pytest.approx(stated[0] - stated[1], rel=0.05)


@pytest.mark.parametrize("formulation", ["real", "complex", "fused"])
def test_bytes_of_fixed_loops_are_proportional_to_the_sites(formulation):
    small, large = (_traced(formulation, extents, UPDATES["location"], False) for extents in (FOUR, LARGER))
    assert large.bytes_moved / math.prod(LARGER) == pytest.approx(small.bytes_moved / math.prod(FOUR), rel=0.01)


def test_the_kernels_move_less_and_compute_as_much():
    real, fused = (_traced(formulation, FOUR, UPDATES["direction"], True) for formulation in ("real", "fused"))
    assert fused.flops == pytest.approx(real.flops, rel=0.001)
    assert fused.bytes_moved < real.bytes_moved / 30
    assert [op.name for op in fused.ops if op.name in ("level", "traces", "projected")].count("level") == 3


def test_training_is_traced_through_the_kernels():
    step = _step("fused", FOUR, UPDATES["direction"], True)
    flow = step.phases[0].model.flow
    training = Phase(
        steps.FlowTraining(flow, FOUR, 1.0), Feed((np.zeros(BATCH, np.float32),), BATCH, 0), torch.optim.Adam
    )
    graph = trace(Step("torch", (training,), BATCH))
    assert {op.stage for op in graph.ops if op.kind == "matmul"} == {"forward", "backward"}


def test_torchs_own_counter_sees_the_kernels_too():
    flop_counter = pytest.importorskip("torch.utils.flop_counter")
    step = _step("fused", FOUR, UPDATES["direction"], True)
    (phase,) = step.phases
    inputs = [torch.from_numpy(a) for a in copy.copy(phase.feed).next()]
    with flop_counter.FlopCounterMode(display=False) as counter, torch.no_grad():
        phase.model(*inputs)
    products = sum(op.flops for op in trace(step).ops if op.kind == "matmul")
    assert counter.get_total_flops() == products
