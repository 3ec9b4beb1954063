"""The flow's gates in double precision: equivariance, inverse, log-determinant, unitarity, for every formulation."""

from __future__ import annotations

import math
import shutil

import numpy as np
import pytest

from siderostat.workloads.gauge_flow import coupling, group, lattice
from siderostat.workloads.gauge_flow.lattice import Direction, Location, Parity

torch = pytest.importorskip("torch")

from siderostat.workloads.gauge_flow import pairs, spectral  # noqa: E402
from siderostat.workloads.gauge_flow import torch as steps  # noqa: E402

FORMULATIONS = ("complex", "real", *(["fused"] if shutil.which("g++") or shutil.which("clang++") else []))
SMALL = coupling.Width(channels=2, hidden=1, context=4, bins=4)
FOUR = (4, 4, 4, 4)

KINDS = {
    "direction": ((2, 4, 2, 2), Direction(mu=0, nu=1, offset=2)),
    "location": ((2, 2, 2, 2), Location((0, 1, 0, 1))),
    "parity": ((2, 2, 2, 2), Parity(mu=1, nu=3, parity=0)),
}
LAYERS = [(kind, loops) for kind in KINDS for loops in coupling.LOOPS]
STACK = [Direction(0, 1, 0), Location((1, 1, 0, 0)), Direction(2, 1, 3), Direction(3, 1, 1)]


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _flow(formulation, extents, updates, learned, width=coupling.WIDTH, seed=7, last=0.3):
    rng = np.random.default_rng(seed)
    flow = steps.make_flow(formulation, extents, updates, learned, width).double()
    coupling.load_weights(flow, [coupling.initial(is_learned, rng, last, width) for is_learned in learned])
    return flow


def _layer(formulation, kind, loops, width=coupling.WIDTH):
    extents, update = KINDS[kind]
    return _flow(formulation, extents, [update], [loops == coupling.LEARNED], width), extents


def _stack(formulation, layers=8, loops=coupling.LEARNED):
    updates = lattice.stack(layers)
    return _flow(formulation, FOUR, updates, [coupling.is_learned(u, loops) for u in updates])


def _field(extents, batch=2, seed=1):
    return group.haar(np.random.default_rng(seed), (batch, 4, *extents))


def _tensor(links):
    return torch.view_as_real(torch.from_numpy(links)).contiguous()


def _array(links):
    return torch.view_as_complex(links.contiguous()).numpy()


def _assert_equivariant(flow, extents):
    links, g = _field(extents), group.haar(np.random.default_rng(2), extents)
    with torch.inference_mode():
        (moved, log_det), (of_moved, its_log_det) = (flow(_tensor(u)) for u in (links, group.transformed(links, g)))
    assert np.abs(_array(moved) - links).max() > 0.05
    np.testing.assert_allclose(_array(of_moved), group.transformed(_array(moved), g), atol=1e-11)
    np.testing.assert_allclose(its_log_det, log_det, atol=1e-10)


def _assert_invertible(flow, extents):
    links = _tensor(_field(extents))
    with torch.inference_mode():
        moved, log_det = flow(links)
        back, its_log_det = flow(moved, is_inverse=True)
    assert log_det.abs().min() > 0.01
    assert (back - links).abs().max() < 1e-9
    assert (log_det + its_log_det).abs().max() < 1e-9
    assert group.distance_from_group(_array(moved)) < 1e-12


@pytest.mark.parametrize("formulation", FORMULATIONS)
@pytest.mark.parametrize(("kind", "loops"), LAYERS)
def test_a_layer_is_gauge_equivariant(formulation, kind, loops):
    _assert_equivariant(*_layer(formulation, kind, loops))


@pytest.mark.parametrize("formulation", FORMULATIONS)
@pytest.mark.parametrize(("kind", "loops"), LAYERS)
def test_a_layer_has_an_inverse_and_stays_in_the_group(formulation, kind, loops):
    _assert_invertible(*_layer(formulation, kind, loops))


@pytest.mark.parametrize("formulation", FORMULATIONS)
@pytest.mark.parametrize("loops", coupling.LOOPS)
def test_a_stack_passes_the_same_gates(formulation, loops):
    flow = _stack(formulation, loops=loops)
    _assert_equivariant(flow, FOUR)
    _assert_invertible(flow, FOUR)


@pytest.mark.parametrize("formulation", FORMULATIONS)
@pytest.mark.parametrize(("kind", "loops"), LAYERS)
def test_the_log_determinant_of_a_layer_is_that_of_its_jacobian(formulation, kind, loops):
    flow, extents = _layer(formulation, kind, loops, SMALL)
    expected, found = _log_determinants(flow, _field(extents, batch=1))
    assert abs(found) > 0.01
    assert found == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_the_log_determinant_of_a_stack_is_that_of_its_jacobian(formulation):
    extents = (2, 4, 2, 2)
    flow = _flow(formulation, extents, STACK, [True, True, False, True], SMALL)
    expected, found = _log_determinants(flow, _field(extents, batch=1))
    assert found == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_without_the_haar_factor_the_log_determinant_fails_its_gate(formulation, monkeypatch):
    monkeypatch.setattr(spectral, "log_haar", lambda gaps: torch.zeros_like(gaps[0]))
    flow, extents = _layer(formulation, "location", coupling.FIXED, SMALL)
    expected, found = _log_determinants(flow, _field(extents, batch=1))
    assert abs(found - expected) > 0.01


def _log_determinants(flow, links):
    """That of the Jacobian by automatic differentiation, and what the flow says.

    Links that stay as they are have rows of the identity, so the determinant is that of the block of those that move.
    """
    with torch.no_grad():
        moved, found = flow(_tensor(links))
    image = torch.view_as_complex(moved).flatten(1, 5)
    changed = (image != torch.from_numpy(links).flatten(1, 5)).flatten(2).any(2)[0].nonzero()[:, 0]
    generators = _generators()
    rows = []
    for some in torch.arange(8 * len(changed)).split(256):
        w = torch.zeros(len(some), len(changed), 8, dtype=torch.float64, requires_grad=True)
        near = torch.eye(3) + 1j * torch.einsum("bna,aij->bnij", w.to(generators.dtype), generators)
        start = torch.from_numpy(links).flatten(1, 5).expand(len(some), -1, 3, 3)
        start = start.index_copy(1, changed, start[:, changed] @ near).view(len(some), *links.shape[1:])
        out = torch.view_as_complex(flow(torch.view_as_real(start))[0]).flatten(1, 5)[:, changed]
        where = torch.einsum("aij,bnji->bna", generators, image[:, changed].mH @ out).imag.flatten(1) / 2
        rows.append(torch.autograd.grad(where[torch.arange(len(some)), some].sum(), w)[0].flatten(1))
    sign, expected = torch.linalg.slogdet(torch.cat(rows))
    assert sign == 1
    return expected.item(), found.item()


def _generators():
    """The Gell-Mann matrices, tr(l_a l_b) = 2 delta_ab."""
    found = torch.zeros(8, 3, 3, dtype=torch.complex128)
    for k, (i, j) in enumerate(((0, 1), (0, 2), (1, 2))):
        found[2 * k, i, j] = found[2 * k, j, i] = 1
        found[2 * k + 1, i, j], found[2 * k + 1, j, i] = -1j, 1j
    found[6] = torch.diag(torch.tensor([1.0, -1.0, 0.0]))
    found[7] = torch.diag(torch.tensor([1.0, 1.0, -2.0], dtype=torch.float64)) / math.sqrt(3)
    return found


@pytest.mark.parametrize("loops", coupling.LOOPS)
def test_formulations_give_the_same_numbers(loops):
    links = _tensor(_field(FOUR))
    for is_inverse in (False, True):
        with torch.inference_mode():
            expected, *others = (_stack(name, loops=loops)(links, is_inverse) for name in FORMULATIONS)
        for moved, log_det in others:
            assert (moved - expected[0]).abs().max() < 1e-11
            assert (log_det - expected[1]).abs().max() < 1e-9


def test_formulations_give_the_same_loss_and_gradients():
    extents = (2, 4, 2, 2)
    gradients = []
    for name in FORMULATIONS:
        torch.manual_seed(0)
        flow = _flow(name, extents, STACK, [True, True, False, True], SMALL)
        loss = steps.FlowTraining(flow, extents, beta=2.0)(torch.zeros(3, dtype=torch.float64))[-1]
        loss.backward()
        gradients.append([loss.detach(), *(p.grad for p in flow.parameters())])
    for expected, *others in zip(*gradients):
        assert all(torch.allclose(expected, other, rtol=1e-7, atol=1e-9) for other in others)
    assert all(g.abs().max() > 0 for g in gradients[0])


def test_single_precision_stays_close_to_double_over_a_round():
    updates = lattice.stack(64)
    learned = [coupling.is_learned(u, coupling.LEARNED) for u in updates]
    flow = _flow("real", FOUR, updates, learned, last=0.1)
    links = _tensor(_field(FOUR, batch=1))
    with torch.inference_mode():
        moved, log_det = flow(links)
        roughly, its_log_det = flow.float()(links.float())
    assert (roughly - moved).abs().max() < 1e-4
    assert (its_log_det - log_det).abs().max() < 1e-2


@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_a_flow_whose_last_layers_are_zero_is_the_identity_and_perfect_at_beta_0(formulation):
    updates = lattice.stack(4)
    flow = _flow(formulation, FOUR, updates, [coupling.is_learned(u, coupling.LEARNED) for u in updates], last=0)
    links = _tensor(_field(FOUR))
    with torch.inference_mode():
        moved, log_det = flow(links)
        log_weights, _ = steps.FlowTraining(flow, FOUR, beta=0.0)(torch.zeros(4, dtype=torch.float64))
    assert (moved - links).abs().max() < 1e-12
    assert log_det.abs().max() < 1e-10
    assert log_weights.abs().max() < 1e-9


@pytest.mark.parametrize("formulation", FORMULATIONS)
@pytest.mark.parametrize(
    ("update", "shift"),
    [(Direction(0, 1, 2), (1, 0, 0, 0)), (Direction(0, 1, 2), (0, 0, 2, 2)), (Location((0, 1, 0, 1)), (2, 0, 2, 0))],
)
def test_a_layer_commutes_with_translations_by_its_period(formulation, update, shift):
    flow = _flow(formulation, FOUR, [update], [True], SMALL)
    links = _tensor(_field(FOUR, batch=1))
    with torch.inference_mode():
        moved, _ = flow(links)
        of_shifted, _ = flow(torch.roll(links, shift, (2, 3, 4, 5)))
    assert (of_shifted - torch.roll(moved, shift, (2, 3, 4, 5))).abs().max() < 1e-13


# ---- the spectral map under the Haar measure


def _weighted_moments(seed=3, count=100_000):
    """What reweighting makes of moments of the trace, and by how many standard errors they are off."""
    links = group.haar(np.random.default_rng(seed), (count,))
    matrices = torch.view_as_real(torch.from_numpy(links)).permute(3, 1, 2, 0)[..., None].contiguous()
    raw = 0.5 * torch.randn(spectral.parameter_count(8), 1, 1, generator=torch.Generator().manual_seed(1)).double()
    moved = spectral.move(pairs.phases(pairs.trace(matrices)), raw.expand(-1, count, 1), is_inverse=False)
    trace = pairs.turned(moved.theta).sum(1)[..., 0].numpy()
    weight = np.exp(moved.log_determinant[..., 0].numpy())
    squared = trace[0] ** 2 + trace[1] ** 2
    found = {
        "1": (weight, 1),
        "|tr|^2": (weight * squared, 1),
        "Re tr": (weight * trace[0], 0),
        "|tr|^4": (weight * squared**2, 2),
    }
    ess = weight.sum() ** 2 / (weight**2).sum() / count
    return {name: abs(v.mean() - exact) / (v.std() / math.sqrt(count)) for name, (v, exact) in found.items()}, ess


def test_reweighting_gives_the_moments_of_the_haar_measure():
    deviations, ess = _weighted_moments()
    assert max(deviations.values()) < 4
    assert ess < 0.9


def test_without_the_haar_factor_the_moments_fail_although_the_effective_sample_is_larger(monkeypatch):
    _, right = _weighted_moments()
    monkeypatch.setattr(spectral, "log_haar", lambda gaps: torch.zeros_like(gaps[0]))
    deviations, wrong = _weighted_moments()
    assert max(deviations.values()) > 20
    assert wrong > right


def test_phases_from_the_trace_are_those_of_the_eigenvalues():
    links = group.haar(np.random.default_rng(4), (2000,))
    found = pairs.phases(pairs.trace(_tensor(links).permute(3, 1, 2, 0)[..., None]))[..., 0]
    assert (found.sum(0).abs() < 1e-12).all() and (found[2] - found[0] <= 2 * math.pi).all()
    turned = np.sort(np.angle(np.exp(1j * found.numpy())), 0)
    np.testing.assert_allclose(turned, np.sort(np.angle(np.linalg.eigvals(links)), 1).T, atol=1e-8)


def test_the_projection_without_decompositions_is_that_by_singular_values():
    from siderostat.workloads.gauge_flow import complex as reference

    rng = np.random.default_rng(5)
    matrices = torch.from_numpy(rng.standard_normal((500, 3, 3)) + 1j * rng.standard_normal((500, 3, 3)))
    expected = torch.view_as_real(reference.projected(matrices))
    found = pairs.projected(torch.view_as_real(matrices).permute(3, 1, 2, 0)[..., None])
    assert (found[..., 0].permute(3, 1, 2, 0) - expected).abs().max() < 1e-11
    assert group.distance_from_group(_array(expected)) < 1e-13


@pytest.mark.parametrize("matrix", [np.eye(3), np.diag([2.0, 2.0, 0.5]), np.diag([1.0, 2.0, 3.0])])
def test_the_gradient_of_the_polar_factor_is_finite_where_singular_values_are_equal(matrix):
    from siderostat.workloads.gauge_flow import complex as reference

    gradients = []
    target = torch.from_numpy(group.haar(np.random.default_rng(6), ()))
    for project in (
        lambda m: torch.view_as_real(reference.polar(torch.view_as_complex(m)[None]))[0],
        lambda m: pairs.projected(m.permute(2, 0, 1)[..., None, None])[..., 0, 0].permute(1, 2, 0),
    ):
        m = _tensor(matrix.astype(complex)).requires_grad_()
        (project(m) * torch.view_as_real(target)).sum().backward()
        gradients.append(m.grad)
    assert torch.isfinite(gradients[0]).all() and torch.isfinite(gradients[1]).all()
    # The projection to SU(3) also turns the phase, so only what leaves the determinant's phase alone agrees.
    real_part = [g[..., 0] - g[..., 0].T for g in gradients]
    assert torch.allclose(*real_part, atol=1e-10)


@pytest.mark.parametrize("is_inverse", [False, True])
def test_a_spline_is_monotone_and_says_its_slope(is_inverse):
    raw = torch.randn(25, 1, generator=torch.Generator().manual_seed(2)).double().expand(-1, 1001)
    x = torch.linspace(1e-6, 1 - 1e-6, 1001, dtype=torch.float64, requires_grad=True)
    y, log_slope = spectral.spline(x, raw, is_inverse)
    slope = torch.autograd.grad(y.sum(), x)[0]
    assert (y.diff() > 0).all() and y.min() > 0 and y.max() < 1
    assert torch.allclose(slope.log(), log_slope, atol=1e-9)
    assert torch.allclose(spectral.spline(y, raw, not is_inverse)[0], x, atol=1e-12)


# ---- masks, tables, counts


def test_a_round_changes_every_link_three_times_by_direction_and_once_by_location():
    updates = lattice.stack(64)
    assert [isinstance(u, Direction) for u in updates] == [True] * 48 + [False] * 16
    directions, locations = (
        sum(lattice.active(u, FOUR).astype(int) for u in some) for some in (updates[:48], updates[48:])
    )
    assert (directions == 3).all() and (locations == 1).all()
    assert all(lattice.active(u, FOUR).mean() == 1 / 16 for u in updates)
    assert len(lattice.stack(192)) == 192 and lattice.stack(192)[64:128] == updates


def test_a_round_of_parity_updates_changes_every_link_three_times():
    updates = lattice.stack(24, lattice.PARITY)
    masks = np.array([lattice.active(update, FOUR) for update in updates])
    assert (masks.sum(0) == 3).all() and all(mask.mean() == 1 / 8 for mask in masks)
    assert all((masks[i : i + 8].sum(0) == 1).all() for i in (0, 8, 16))
    assert lattice.stack(29, lattice.PARITY)[24:] == updates[:5]


@pytest.mark.parametrize(
    "update", [Direction(0, 1, 1), Direction(2, 3, 1), Direction(3, 0, 1), Parity(0, 1, 1), Parity(2, 0, 0)]
)
def test_all_six_staples_of_a_direction_or_parity_update_are_frozen(update):
    mask = lattice.active(update, FOUR).ravel()
    table = lattice.staple_table(lattice.Neighbours(FOUR), mask.nonzero()[0])
    assert not mask[table.upper].any() and not mask[table.lower].any()


@pytest.mark.parametrize("update", [Direction(1, 3, 0), Location((1, 0, 0, 1)), Parity(3, 1, 0)])
def test_fixed_loops_are_frozen(update):
    mask = lattice.active(update, FOUR).ravel()
    assert not mask[lattice.fixed_loops(lattice.Neighbours(FOUR), update, mask.nonzero()[0])].any()


def test_only_the_cone_of_the_active_links_is_computed():
    mask = lattice.active(Direction(0, 1, 0), FOUR)
    tables = lattice.cone(lattice.Neighbours(FOUR), mask.ravel().nonzero()[0], 3)
    assert [len(table.own) for table in tables] == [1024, 640, 64]


def test_a_pattern_that_does_not_close_is_refused():
    with pytest.raises(ValueError, match="multiple of 4"):
        lattice.active(Direction(0, 1, 0), (4, 6, 4, 4))
    with pytest.raises(ValueError, match="even extents"):
        lattice.active(Location((0, 0, 0, 0)), (4, 3, 4, 4))
    with pytest.raises(ValueError, match="even extents"):
        lattice.active(Parity(0, 1, 0), (4, 4, 4, 3))
    with pytest.raises(ValueError, match="at least one layer"):
        lattice.stack(0)


def test_parameters_are_those_counted():
    updates = lattice.stack(8)
    learned = [coupling.is_learned(u, coupling.LEARNED) for u in updates]
    counted = coupling.count(updates, coupling.LEARNED)
    for formulation in FORMULATIONS:
        flow = steps.make_flow(formulation, FOUR, updates, learned)
        assert sum(p.numel() for p in flow.parameters()) == sum(counted.values())
    assert counted["staple networks"] == 560 * 6


def test_weights_survive_being_loaded_and_read_back():
    flow = _stack("real", layers=4).float()
    again = steps.make_flow("complex", FOUR, lattice.stack(4), [True, True, True, False])
    coupling.load_weights(again, coupling.weights_of(flow))
    assert all(torch.equal(a, b) for a, b in zip(flow.parameters(), again.parameters()))


def test_draws_from_the_haar_measure_are_in_the_group():
    generator = torch.Generator().manual_seed(0)
    links = steps.haar(torch.randn(20_000, 2, 3, 2, dtype=torch.float64, generator=generator))
    assert group.distance_from_group(_array(links)) < 1e-13
    squared = np.abs(np.trace(_array(links), axis1=-2, axis2=-1)) ** 2
    assert abs(squared.mean() - 1) < 4 * squared.std() / math.sqrt(len(squared))


@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_the_action_is_that_of_the_plaquettes(formulation):
    links = _field((2, 4, 2, 6))
    flow = steps.make_flow(formulation, FOUR, [], [])
    expected = -2.5 * group.plaquettes(links).sum((1, 2, 3, 4, 5))
    np.testing.assert_allclose(flow.action(_tensor(links), 2.5), expected, rtol=1e-12)


def test_training_lowers_the_loss():
    updates = lattice.round_of_updates()[48:56]
    extents = (2, 2, 2, 2)
    flow = _flow("real", extents, updates, [False] * 8, last=0)
    training = steps.FlowTraining(flow, extents, beta=3.0)
    optimizer = steps.adam(2e-2, training.parameters())
    losses = []
    for step in range(8):
        torch.manual_seed(0 if step in (0, 7) else step)
        optimizer.zero_grad()
        loss = training(torch.zeros(16, dtype=torch.float64))[-1]
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0] - 1


def test_real_arithmetic_uses_no_complex_tensor_and_no_decomposition():
    from torch.overrides import TorchFunctionMode

    class Watch(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            assert not (torch.is_tensor(out) and out.is_complex()), function
            assert "linalg" not in str(function), function
            return out

    links = _tensor(_field(FOUR, batch=1))
    flow = _stack("real", layers=4)
    with torch.inference_mode(), Watch():
        flow(links)
    with pytest.raises(AssertionError), torch.inference_mode(), Watch():
        _stack("complex", layers=1)(links)
