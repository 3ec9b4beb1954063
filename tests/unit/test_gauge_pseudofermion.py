"""Wilson quarks, their solver and the conditional flow in double precision, and the workload made of them."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest

from siderostat import devices, workloads
from siderostat.devices.base import Unsupported
from siderostat.workloads.base import COMPLEX, DECOMPOSITIONS, BadInput, Spec, WrongResult
from siderostat.workloads.gauge_flow import group
from siderostat.workloads.gauge_pseudofermion import conditional, dirac

torch = pytest.importorskip("torch")

from siderostat.devices.cpu.torch import program  # noqa: E402
from siderostat.devices.sim.trace import trace  # noqa: E402
from siderostat.workloads.gauge_flow import torch as gauge_steps  # noqa: E402
from siderostat.workloads.gauge_pseudofermion import torch as steps  # noqa: E402
from siderostat.workloads.gauge_pseudofermion.wilson import ConditionalFlow  # noqa: E402

FORMULATIONS = ("real", "complex")
TWO = (2, 2, 2, 2)
UNEVEN = (2, 4, 2, 6)
KAPPA = 0.12
SAMPLES = 2048
WORKLOAD = workloads.load("gauge-pseudofermion")
SPEC = Spec("real", "evaluate", "torch", 3, "tiny", 5, {"layers": 1})


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _links(extents, count=1, seed=1):
    return group.haar(np.random.default_rng(seed), (count, 4, *extents))


def _noise(extents, count=1, seed=2):
    re, im = np.random.default_rng(seed).normal(0, math.sqrt(0.5), (2, count, *extents, 4, 3))
    return re + 1j * im


def _tensor(numbers):
    return torch.view_as_real(torch.from_numpy(np.ascontiguousarray(numbers))).contiguous()


def _array(fermions, psi, extents):
    """Quarks of a formulation as complex numbers on the whole lattice: where it takes each number tells where it is."""
    if psi[0].is_complex():
        return (psi[0] + psi[1]).numpy()
    shape = (psi[0].shape[-1], *extents, 4, 3, 2)
    whole = torch.empty(math.prod(shape), dtype=torch.float64)
    for values, numbers in zip(psi, fermions.taken(torch.arange(math.prod(shape)).view(shape)), strict=True):
        whole[numbers.flatten()] = values.flatten()
    return torch.view_as_complex(whole.view(shape)).numpy()


def _fermions(name, extents):
    return steps.make_fermions(name, extents).double()


# The operator


def test_gamma_matrices_anticommute_and_are_hermitian_and_gamma_5_is_diagonal():
    for mu, nu in itertools.product(range(4), repeat=2):
        a, b = dirac.GAMMA[mu], dirac.GAMMA[nu]
        np.testing.assert_array_equal(a @ b + b @ a, 2 * (mu == nu) * np.eye(4))
        np.testing.assert_array_equal(a, a.conj().T)
        np.testing.assert_array_equal(dirac.GAMMA5 @ a, -a @ dirac.GAMMA5)
    np.testing.assert_array_equal(dirac.GAMMA5, np.diag([1, 1, -1, -1]))


@pytest.mark.parametrize("operator", [dirac.wilson, dirac.even_odd])
def test_operators_are_hermitian_with_gamma_5(operator):
    links = _links(UNEVEN)
    a, b = _noise(UNEVEN), _noise(UNEVEN, seed=3)
    left = np.vdot(a, dirac.gamma5(operator(links, b, KAPPA)))
    right = np.vdot(dirac.gamma5(operator(links, a, KAPPA)), b)
    assert abs(left - right) < 1e-12 * np.vdot(a, a).real
    assert abs(np.vdot(a, operator(links, b, KAPPA)) - np.vdot(operator(links, a, KAPPA), b)) > 1e-3


def test_free_quarks_have_the_known_spectrum():
    extents = (2, 4, 2, 2)
    links = np.broadcast_to(np.eye(3), (4, *extents, 3, 3))
    found = np.linalg.eigvals(dirac.dense(lambda psi: dirac.wilson(links, psi, KAPPA), extents))
    momenta = [2 * np.pi * np.arange(n) / n for n in extents[:3]]
    momenta.append(2 * np.pi * (np.arange(extents[3]) + 0.5) / extents[3])  # antiperiodic in time
    p = np.stack(np.meshgrid(*momenta, indexing="ij"), -1).reshape(-1, 4)
    scalar, vector = 1 - 2 * KAPPA * np.cos(p).sum(-1), 2 * KAPPA * np.sqrt((np.sin(p) ** 2).sum(-1))
    expected = np.repeat(np.concatenate([scalar + 1j * vector, scalar - 1j * vector]), 6)
    np.testing.assert_allclose(_ordered(found), _ordered(expected), atol=1e-10)


def _ordered(values):
    return np.array(sorted(values, key=lambda z: (round(z.real, 6), round(z.imag, 6))))


def test_a_plane_wave_keeps_its_momentum():
    extents, spin = (2, 4, 2, 4), np.array([1, 2j, -0.5, 0.3])
    p = 2 * np.pi * np.array([1 / 2, 1 / 4, 0, 1.5 / 4])
    wave = np.exp(1j * np.tensordot(p, np.indices(extents), 1))[..., None, None] * spin[:, None] * np.array([1, 0, 1j])
    links = np.broadcast_to(np.eye(3), (4, *extents, 3, 3))
    matrix = np.eye(4) * (1 - 2 * KAPPA * np.cos(p).sum()) + 2j * KAPPA * np.tensordot(np.sin(p), dirac.GAMMA, 1)
    expected = np.einsum("st,...tc->...sc", matrix, wave)
    np.testing.assert_allclose(dirac.wilson(links, wave, KAPPA), expected, atol=1e-13)


def test_the_operator_is_covariant_under_gauge_transformations():
    links, psi, g = _links(UNEVEN), _noise(UNEVEN), group.haar(np.random.default_rng(4), UNEVEN)
    moved = dirac.wilson(group.transformed(links, g), dirac.transformed(psi, g), KAPPA)
    np.testing.assert_allclose(moved, dirac.transformed(dirac.wilson(links, psi, KAPPA), g), atol=1e-12)


def test_the_even_odd_operator_has_the_determinant_of_the_whole():
    links = _links(TWO)[0]
    whole = dirac.dense(lambda psi: dirac.wilson(links, psi, KAPPA), TWO)
    even = np.broadcast_to(dirac.is_even(TWO), (*TWO, 4, 3)).ravel()
    half = dirac.dense(lambda psi: dirac.even_odd(links, psi, KAPPA), TWO)[np.ix_(even, even)]
    sign, log_det = np.linalg.slogdet(whole)
    its_sign, its_log_det = np.linalg.slogdet(half)
    assert abs(log_det) > 0.01
    assert its_log_det == pytest.approx(log_det, abs=1e-11)
    assert its_sign == pytest.approx(sign, abs=1e-11)
    assert sign == pytest.approx(1, abs=1e-11) or sign == pytest.approx(-1, abs=1e-11)  # real, by gamma_5


def test_the_preconditioned_solve_is_that_of_the_whole_in_fewer_iterations():
    links, phi = _links(UNEVEN, 2), _noise(UNEVEN, 2)
    half, whole = (dirac.solve(links, phi, KAPPA, is_preconditioned=way) for way in (True, False))
    assert max(half.residual, whole.residual) < 1e-11
    assert half.iterations < whole.iterations
    np.testing.assert_allclose(half.psi, whole.psi, atol=1e-10)


def test_a_solve_that_does_not_end_is_an_error():
    with pytest.raises(ArithmeticError, match="after 3 iterations"):
        dirac.solve(_links(TWO), _noise(TWO), KAPPA, limit=3)


def test_odd_extents_have_no_even_and_odd_sites():
    with pytest.raises(ValueError, match="even extents"):
        steps.make_fermions("real", (2, 3, 2, 2))


# Formulations against the reference


@pytest.mark.parametrize("name", FORMULATIONS)
def test_a_formulation_hops_and_solves_as_the_reference(name):
    links, chi, fermions = _links(UNEVEN, 2), _noise(UNEVEN, 2), _fermions(name, UNEVEN)
    transporters, taken = fermions.transporters(_tensor(links)), fermions.taken(_tensor(chi))
    applied = fermions.wilson(transporters, taken, KAPPA)
    np.testing.assert_allclose(_array(fermions, taken, UNEVEN), chi)
    np.testing.assert_allclose(_array(fermions, applied, UNEVEN), dirac.wilson(links, chi, KAPPA), atol=1e-13)
    psi = fermions.solve(transporters, taken, KAPPA, 40)
    np.testing.assert_allclose(_array(fermions, psi, UNEVEN), dirac.solve(links, chi, KAPPA).psi, atol=1e-10)
    assert fermions.residual(transporters, psi, taken, KAPPA).max() < 1e-12


@pytest.mark.parametrize("name", FORMULATIONS)
def test_the_residual_tells_of_a_solve_that_ended_early(name):
    links, chi, fermions = _links(UNEVEN, 2), _noise(UNEVEN, 2), _fermions(name, UNEVEN)
    transporters, taken = fermions.transporters(_tensor(links)), fermions.taken(_tensor(chi))
    psi = fermions.solve(transporters, taken, KAPPA, 3)
    off = chi - dirac.wilson(links, _array(fermions, psi, UNEVEN), KAPPA)
    expected = [np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(off, chi, strict=True)]
    assert min(expected) > 1e-3
    np.testing.assert_allclose(fermions.residual(transporters, psi, taken, KAPPA), expected, rtol=1e-10)


@pytest.mark.parametrize("name", FORMULATIONS)
def test_a_solve_may_go_on_after_it_has_ended(name):
    links, chi, fermions = _links(TWO, 2), _noise(TWO, 2), _fermions(name, TWO)
    expected = dirac.solve(links, chi, 0.05).psi
    chi[1], expected[1] = 0, 0
    transporters, taken = fermions.transporters(_tensor(links)), fermions.taken(_tensor(chi))
    psi = _array(fermions, fermions.solve(transporters, taken, 0.05, 300), TWO)
    np.testing.assert_allclose(psi, expected, atol=1e-11)


@pytest.mark.parametrize("name", FORMULATIONS)
def test_the_action_is_that_of_the_plaquettes(name):
    links, fermions = _links(UNEVEN, 2), _fermions(name, UNEVEN)
    expected = -2.5 * group.plaquettes(links).sum((1, 2, 3, 4, 5))
    np.testing.assert_allclose(fermions.action(fermions.plaquettes(_tensor(links)), 2.5), expected, rtol=1e-12)


def test_formulations_agree_in_every_part_of_the_evaluation():
    extents = (4, 4, 4, 4)
    links, chi = _tensor(_links(extents, 2)), _tensor(_noise(extents, 2))
    found = []
    for name in FORMULATIONS:
        flow = ConditionalFlow(_fermions(name, extents), _weights(4, 0.05))
        marginal = gauge_steps.make_flow(name, extents, [], [])
        with torch.inference_mode():
            found.append(steps.JointEvaluation(marginal, flow.double(), 1.7, KAPPA, 12)(links, chi))
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9)


def test_real_arithmetic_uses_no_complex_tensor():
    from torch.overrides import TorchFunctionMode

    class Watch(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            assert not (torch.is_tensor(out) and out.is_complex()), function
            return out

    for mode in WORKLOAD.modes:
        model, inputs = _ready(dataclasses.replace(SPEC, mode=mode, batch=1))
        with torch.inference_mode(), Watch():
            model(*inputs)
    model, inputs = _ready(dataclasses.replace(SPEC, variant="complex", mode="reweight", batch=1))
    with pytest.raises(AssertionError), torch.inference_mode(), Watch():
        model(*inputs)


# The conditional flow


def _weights(layers, spread, kappa=KAPPA, seed=6):
    return conditional.drawn(layers, kappa, np.random.default_rng(seed), spread)


def _pushed(name, weights, links, chi, extents):
    """Pseudofermions, complex on the whole lattice, and the log-determinants."""
    fermions = _fermions(name, extents)
    flow = ConditionalFlow(fermions, weights).double()
    links = _tensor(links)
    with torch.inference_mode():
        made = flow(fermions.transporters(links), fermions.plaquettes(links), fermions.taken(_tensor(chi)))
    return _array(fermions, made.phi, extents), made.log_determinant.numpy()


@pytest.mark.parametrize("name", FORMULATIONS)
def test_the_log_determinant_of_the_conditional_flow_is_that_of_its_jacobian(name):
    """The flow is linear in real and imaginary parts, so what it makes of the unit vectors is its Jacobian."""
    n = 16 * 24
    links = np.broadcast_to(_links(TWO), (n, 4, *TWO, 3, 3))
    units = np.eye(n).reshape(n, *TWO, 4, 3, 2)
    phi, log_det = _pushed(name, _weights(3, 0.1), links, units[..., 0] + 1j * units[..., 1], TWO)
    jacobian = np.stack([phi.real, phi.imag], -1).reshape(n, n)
    assert abs(log_det[0]) > 0.1
    assert log_det[0] == pytest.approx(np.linalg.slogdet(jacobian)[1], abs=1e-9)


@pytest.mark.parametrize("name", FORMULATIONS)
def test_the_conditional_flow_is_gauge_equivariant(name):
    links, chi, g = _links(UNEVEN), _noise(UNEVEN), group.haar(np.random.default_rng(4), UNEVEN)
    weights = _weights(4, 0.1)
    phi, log_det = _pushed(name, weights, links, chi, UNEVEN)
    moved, its_log_det = _pushed(name, weights, group.transformed(links, g), dirac.transformed(chi, g), UNEVEN)
    assert np.abs(phi - chi).max() > 0.1
    np.testing.assert_allclose(moved, dirac.transformed(phi, g), atol=1e-12)
    np.testing.assert_allclose(its_log_det, log_det, atol=1e-11)


@pytest.mark.parametrize("name", FORMULATIONS)
def test_parameters_of_zero_are_the_identity_and_the_log_weight_has_the_actions_alone(name):
    extents = (4, 4, 4, 4)
    links, chi = _links(extents), _noise(extents)
    weights = [{key: np.zeros(shape) for key, shape in conditional.SHAPES.items()} for _ in range(2)]
    flow = ConditionalFlow(_fermions(name, extents), weights).double()
    marginal = gauge_steps.make_flow(name, extents, [], [])
    with torch.inference_mode():
        evaluation = steps.JointEvaluation(marginal, flow, 1.5, KAPPA, 40)
        log_weight, action, _ = (float(t) for t in evaluation(_tensor(links), _tensor(chi)))
    of_quarks = (np.abs(dirac.solve(links, chi, KAPPA).psi) ** 2).sum()
    of_gauge_field = -1.5 * group.plaquettes(links).sum()
    assert action == pytest.approx(of_quarks, rel=1e-11)
    assert log_weight == pytest.approx(-of_gauge_field - of_quarks + (np.abs(chi) ** 2).sum(), abs=1e-8)


def test_the_hopping_expansion_makes_the_operator_up_to_second_order():
    links, chi = _links(UNEVEN), _noise(UNEVEN)
    off = []
    for kappa in (0.02, 0.01):
        phi, log_det = _pushed("real", _weights(4, 0, kappa), links, chi, UNEVEN)
        off.append(np.abs(phi - dirac.wilson(links, chi, kappa)).max())
        assert log_det == 0
    assert off[0] / off[1] == pytest.approx(4, rel=1e-4)


# Determinants against stochastic estimates


def _smooth_links(count):
    """Near the unit matrix, where determinants are far from 1; the same field some times over."""
    rng = np.random.default_rng(8)
    re, im = 0.2 * rng.standard_normal((2, 2, 4, *TWO, 3))
    links = group.completed(*(np.eye(3)[:2].reshape(2, 1, 1, 1, 1, 1, 3) + re + 1j * im))
    return np.broadcast_to(links, (count, *links.shape))


def _log_det(links, kappa):
    return np.linalg.slogdet(dirac.dense(lambda psi: dirac.wilson(links, psi, kappa), TWO))[1]


def _within_four_errors(log_weights, log_expected):
    weights = np.exp(np.asarray(log_weights) - log_expected)
    error = weights.std(ddof=1) / math.sqrt(len(weights))
    assert error < 0.03
    return abs(weights.mean() - 1) < 4 * error


def test_reweighting_estimates_the_exact_ratio_of_determinants():
    links = _smooth_links(SAMPLES)
    with torch.inference_mode():
        model = steps.Reweighting(_fermions("real", TWO), 0.08, 0.084, 10)
        log_weights = model(_tensor(links), _tensor(_noise(TWO, SAMPLES)))[0]
    expected = 2 * (_log_det(links[0], 0.084) - _log_det(links[0], 0.08))
    assert _within_four_errors(log_weights, expected)
    assert not _within_four_errors(log_weights, expected / 2)  # of one flavour


@pytest.mark.parametrize("spread", [0, 0.001])
def test_the_mean_weight_of_the_conditional_flow_is_the_exact_determinant(spread):
    links = _smooth_links(SAMPLES)
    expected = 2 * _log_det(links[0], 0.05)
    log_weights = _log_weights(_weights(4, spread, 0.05), links, 0.05)
    assert _within_four_errors(log_weights, expected)
    assert not _within_four_errors(log_weights, expected / 2)


def test_the_hopping_expansion_lowers_the_variance_of_the_weights():
    links = _smooth_links(256)
    as_noise, expanded = (_log_weights(weights, links, 0.07) for weights in ([], _weights(2, 0, 0.07)))
    assert expanded.var() < as_noise.var() / 4


def _log_weights(weights, links, kappa):
    """Of noise through the conditional flow, at beta = 0."""
    flow = ConditionalFlow(_fermions("real", TWO), weights).double()
    marginal = gauge_steps.make_flow("real", TWO, [], [])
    with torch.inference_mode():
        evaluation = steps.JointEvaluation(marginal, flow, 0.0, kappa, 10)
        return evaluation(_tensor(links), _tensor(_noise(TWO, len(links), seed=10)))[0].numpy()


# The workload


def _ready(spec):
    (phase,) = WORKLOAD.build(spec).phases
    return phase.model, [torch.from_numpy(a) for a in phase.feed.next()]


def _outputs(spec, precision="fp32"):
    made = program(WORKLOAD.build(spec), precision, False)
    made.run(1)
    return made.outputs()


@pytest.mark.parametrize("mode", WORKLOAD.modes)
def test_variants_pass_their_check_and_give_the_same_figures(mode):
    found = []
    for variant in WORKLOAD.variants:
        spec = dataclasses.replace(SPEC, variant=variant, mode=mode)
        found.append(_outputs(spec))
        figures = WORKLOAD.check(spec, found[-1])
        assert figures["residual"] < 1e-6
        assert set(figures) >= {"log_weight", "log_weight_spread", "pseudofermion_action"}
    np.testing.assert_allclose(found[0][0], found[1][0], atol=5e-3)
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-5)


def test_single_precision_gives_what_double_gives():
    ours, theirs = _outputs(SPEC), _outputs(SPEC, "fp64")
    assert theirs[0].dtype == np.float64
    np.testing.assert_allclose(ours[0], theirs[0], atol=5e-3)


def test_too_few_iterations_are_a_wrong_result_with_its_remedy():
    spec = dataclasses.replace(SPEC, mode="reweight", options={"iterations": 2})
    with pytest.raises(WrongResult, match="raise the option iterations"):
        WORKLOAD.check(spec, _outputs(spec))


def test_weights_that_depend_on_the_gauge_or_are_not_finite_are_a_wrong_result():
    log_weights, actions, residuals = _outputs(SPEC)
    with pytest.raises(WrongResult, match="gauge transforms of one field"):
        WORKLOAD.check(SPEC, [log_weights + np.arange(3), actions, residuals])
    with pytest.raises(WrongResult, match="log-weights are not finite"):
        WORKLOAD.check(SPEC, [log_weights * np.nan, actions, residuals])


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"kappa": 0.25}, "kappa .* below 0.25"),
        ({"reweight_to": -0.1}, "reweight_to"),
        ({"iterations": 0}, "iterations .* at least 1"),
        ({"couplings": -1}, "couplings .* at least 0"),
        ({"layers": -2}, "layers .* at least -1"),
    ],
)
def test_an_option_without_sense_is_refused(options, match):
    with pytest.raises(BadInput, match=match):
        WORKLOAD.build(dataclasses.replace(SPEC, options=options))


def test_sizes_say_their_parameters():
    model, _ = _ready(dataclasses.replace(SPEC, options={}))
    size = WORKLOAD.variants["real"]["tiny"]
    assert sum(p.numel() for p in model.parameters()) == size.parameters
    assert sum(p.numel() for p in model.conditional.parameters()) == size.parts["conditional flow"] == 4 * 284


def test_only_the_complex_variant_needs_complex_numbers():
    assert WORKLOAD.needs(SPEC) == ()
    whole = dataclasses.replace(SPEC, variant="complex")
    assert WORKLOAD.needs(whole) == (COMPLEX, DECOMPOSITIONS)
    assert WORKLOAD.needs(dataclasses.replace(whole, mode="reweight")) == (COMPLEX,)
    with pytest.raises(Unsupported, match="complex numbers"):
        devices.load("ipu").require(WORKLOAD.needs(whole), "torch")


@pytest.mark.parametrize("mode", WORKLOAD.modes)
def test_a_step_can_be_traced_without_computing(mode):
    def work(iterations):
        options = {"layers": 0, "iterations": iterations}
        return trace(WORKLOAD.build(dataclasses.replace(SPEC, mode=mode, batch=2, options=options)))

    four, six, eight = work(4), work(6), work(8)
    assert eight.flops - six.flops == six.flops - four.flops > 0  # every iteration costs the same
    assert four.items == 2
