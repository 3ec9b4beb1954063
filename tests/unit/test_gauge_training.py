"""Training, and the trained flow that comes along: what it says of the Wilson action agrees with other programs."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from siderostat import workloads
from siderostat.workloads.base import BadInput, Spec, WrongResult
from siderostat.workloads.gauge_flow import checkpoint, ensemble, group, lattice, parameters, table

torch = pytest.importorskip("torch")

from siderostat.workloads.gauge_flow import coupling, quality, spectral, training  # noqa: E402
from siderostat.workloads.gauge_flow import torch as steps  # noqa: E402

WORKLOAD = workloads.load("gauge-flow")
FOUR, TWO = (4, 4, 4, 4), (2, 2, 2, 2)
SMALL = parameters.Width(channels=2, hidden=1, context=4, bins=4)
LN_Z = ensemble.strong_coupling_log_partition(256, 1.0)
PLAQUETTE = table.plaquettes()["4^4", 1.0]


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _untrained(extents, layers, width=SMALL):
    updates, learned = lattice.stack(layers, lattice.PARITY), [False] * layers
    flow = steps.make_flow("real", extents, updates, learned, width)
    rng = np.random.default_rng(0)
    coupling.load_weights(flow, [parameters.initial(is_learned, rng, 0.0, width) for is_learned in learned])
    return flow


def _trained():
    flow = steps.make_flow("real", FOUR, checkpoint.TRAINED.updates(), checkpoint.TRAINED.learned())
    coupling.load_weights(flow, checkpoint.load(checkpoint.TRAINED)[0])
    return flow


@pytest.fixture(scope="module")
def draws():
    """Draws from the flow that comes along."""
    return training.draw(_trained(), FOUR, 1.0, count=384, batch=32, seed=11, dtype=torch.float32)


def test_a_few_steps_of_training_lower_the_loss_and_the_variance_of_log_weights():
    flow = _untrained(TWO, 8)
    before = training.draw(flow, TWO, 3.0, 128, 64, seed=1, dtype=torch.float32)
    losses = training.train(flow, TWO, 3.0, steps=15, batch=8, rate=2e-2, seed=2)
    after = training.draw(flow, TWO, 3.0, 128, 64, seed=1, dtype=torch.float32)
    assert len(losses) == 15 and np.mean(losses[-5:]) < losses[0] - 5
    assert after.log_weights.var() < 0.5 * before.log_weights.var()
    assert after.log_weights.mean() > before.log_weights.mean() + 5


def test_training_repeats_itself_from_the_same_seed_and_leaves_other_random_numbers_alone():
    flows = [_untrained(TWO, 2) for _ in range(3)]
    torch.manual_seed(5)
    losses = [training.train(flow, TWO, 2.0, 3, 4, 1e-2, seed) for flow, seed in zip(flows, (3, 3, 4))]
    after = torch.randn(3)
    torch.manual_seed(5)
    assert losses[0] == losses[1] and losses[0] != losses[2]
    assert torch.equal(after, torch.randn(3))


def test_training_tells_how_far_it_is():
    told = []
    losses = training.train(_untrained(TWO, 1), TWO, 2.0, 3, 2, 1e-2, 0, lambda done, loss: told.append((done, loss)))
    assert told == list(zip((1, 2, 3), losses))


def test_log_weights_of_an_untrained_flow_are_those_of_the_haar_measure():
    beta = 0.1
    found = training.draw(_untrained(FOUR, 1), FOUR, beta, count=400, batch=100, seed=0)
    np.testing.assert_allclose(found.log_weights, beta * 6 * 256 * found.plaquettes, atol=1e-9)
    # Plaquettes are independent in pairs, and <(Re tr)^2> = 1 / 2.
    variance = ensemble.log_weight_variance(found.log_weights)
    assert abs(variance.sigmas_from(beta**2 * 6 * 256 / 18)) < 3
    known = ensemble.strong_coupling_log_partition(256, beta)
    assert abs(ensemble.log_partition(found.log_weights).sigmas_from(known)) < 3


def test_draws_are_measured_as_other_programs_measure_them():
    flow = _untrained(TWO, 4)
    coupling.load_weights(flow, [parameters.initial(False, np.random.default_rng(1), 0.3, SMALL)] * 4)
    found = training.draw(flow, TWO, 1.5, count=5, batch=5, seed=7)
    torch.manual_seed(7)
    fields = steps.haar(torch.randn(5, 4, *TWO, 2, 3, 2, dtype=torch.float64))
    with torch.inference_mode():
        moved, log_determinant = flow.double()(fields)
    expected = group.mean_plaquette(torch.view_as_complex(moved.contiguous()).numpy())
    np.testing.assert_allclose(found.plaquettes, expected, atol=1e-12)
    np.testing.assert_allclose(found.log_weights, log_determinant.numpy() + 1.5 * 6 * 16 * expected, atol=1e-10)


def test_draws_leave_the_flow_in_its_own_precision():
    flow = _untrained(TWO, 1)
    assert training.draw(flow, TWO, 1.0, 7, 3, 0).log_weights.shape == (7,)
    assert next(flow.parameters()).dtype == torch.float32


def test_the_flow_that_comes_along_wastes_less_than_three_quarters_of_its_draws(draws):
    assert ensemble.effective_sample_size(draws.log_weights).value > 0.25
    assert ensemble.log_weight_variance(draws.log_weights).value < 1.8
    assert ensemble.metropolis(draws.log_weights, draws.plaquettes, 0).acceptance > 0.35


def test_its_partition_function_and_reweighted_plaquette_are_those_known_from_elsewhere(draws):
    assert abs(ensemble.log_partition(draws.log_weights).sigmas_from(LN_Z)) < 4
    assert abs(ensemble.mean_weight(draws.log_weights, LN_Z).sigmas_from(1)) < 4
    plaquette = ensemble.reweighted(draws.log_weights, draws.plaquettes)
    assert plaquette.error < 1e-3
    assert abs(plaquette.sigmas_from(PLAQUETTE.mean, PLAQUETTE.error)) < 4
    assert draws.log_weights.mean() < LN_Z  # the divergence is positive


def _outputs(draws):
    return [(draws.log_weights.astype(np.float32), draws.plaquettes.astype(np.float32))]


def test_a_finished_flow_is_judged_by_what_is_known(draws):
    found = quality.judge(FOUR, 1.0, True, _outputs(draws))
    assert {"log_weight_variance", "ess", "acceptance", "ln_z", "plaquette", "plaquette_error"} <= set(found.figures)
    assert abs(found.figures["ln_z_sigmas"]) < 4 and abs(found.figures["plaquette_sigmas"]) < 4
    true, said = found.pairs["log-density"]
    assert np.corrcoef(true, said)[0, 1] > 0.9


def test_the_wrong_beta_is_noticed(draws):
    shifted = draws.log_weights - 0.2 * 6 * 256 * draws.plaquettes  # weights for beta = 0.8
    with pytest.raises(WrongResult, match=r"not trained for beta = 1, or its log-determinants are wrong"):
        quality.judge(FOUR, 1.0, True, _outputs(draws._replace(log_weights=shifted)))
    assert quality.judge(FOUR, 1.0, False, _outputs(draws._replace(log_weights=shifted))).figures["ln_z_sigmas"] < -5


def test_log_determinants_without_the_haar_factor_are_noticed(monkeypatch):
    monkeypatch.setattr(spectral, "log_haar", lambda gaps: torch.zeros_like(gaps[0]))
    wrong = training.draw(_trained(), FOUR, 1.0, 64, 32, seed=11, dtype=torch.float32)
    with pytest.raises(WrongResult, match="log-determinants are wrong"):
        quality.judge(FOUR, 1.0, True, _outputs(wrong))


def test_where_nothing_is_known_nothing_is_said():
    noise = np.random.default_rng(0).standard_normal((2, 64))
    figures = quality.judge((4, 4, 4, 8), 5.9, True, [tuple(noise)]).figures
    assert "ln_z_sigmas" not in figures and "plaquette_sigmas" not in figures


@pytest.mark.parametrize("mode", ["evaluate", "train"])
def test_the_workload_states_what_it_is_judged_by(mode, monkeypatch):
    monkeypatch.setattr(quality, "EXAMINED", 64)
    monkeypatch.setattr(quality, "GLANCED_AT", 32)
    goal = WORKLOAD.goal("real", mode)
    spec = Spec("real", mode, "torch", 2, "tiny", 0, dict(goal.options))
    step = WORKLOAD.build(spec)
    asked = WORKLOAD.exam(spec, step)
    with torch.inference_mode():
        outputs = [[o.numpy() for o in asked.model(*map(torch.from_numpy, batch))] for batch in asked.batches]
    figures = asked.judge(outputs).figures
    is_trained = mode == "evaluate"
    assert (figures[goal.figure] < 2 * goal.target) == is_trained
    assert (goal.budget == 0) == is_trained
    assert WORKLOAD.goal("real", "inverse") is None


def test_the_flow_that_comes_along_knows_how_it_was_made():
    _, provenance = checkpoint.load(checkpoint.TRAINED)
    assert provenance["command"] == "python -m siderostat.workloads.gauge_flow.recipe"
    assert provenance["settings"]["beta"] == 1.0 and provenance["settings"]["seed"] == 0
    assert "torch" in provenance["packages"] and provenance["processor_s"] > 0
    assert provenance["figures"]["log_weight_variance"] < 1.5 and provenance["figures"]["ess"] > 0.25


def test_trained_weights_for_another_stack_are_refused():
    spec = Spec("real", "evaluate", "torch", 1, "tiny", 0, {"weights": "trained"})
    with pytest.raises(BadInput, match="masks=parity loops=fixed layers=24|lacks the weights|instead of"):
        WORKLOAD.build(spec)
    other = dataclasses.replace(spec, options={**checkpoint.TRAINED._asdict(), "weights": "trained", "layers": 12})
    with pytest.raises(BadInput, match="has masks=parity loops=fixed layers=24 and not .* layers=12"):
        WORKLOAD.build(other)


@pytest.mark.parametrize("options", [{"masks": "checkered"}, {"weights": "found"}])
def test_an_option_without_sense_is_refused(options):
    with pytest.raises(BadInput, match="give one of"):
        WORKLOAD.build(Spec("real", "evaluate", "torch", 1, "tiny", 0, options))


def test_weights_survive_being_written_and_read(tmp_path):
    stack = checkpoint.Stack(lattice.DIAGONAL, parameters.LEARNED, 4)
    rng = np.random.default_rng(0)
    weights = [parameters.initial(is_learned, rng, 0.1) for is_learned in stack.learned()]
    checkpoint.save(tmp_path / "flow.npz", stack, weights, {"seed": 3})
    found, provenance = checkpoint.load(stack, str(tmp_path / "flow.npz"))
    assert provenance["seed"] == 3 and [list(layer) for layer in found] == [list(layer) for layer in weights]
    for layer, expected in zip(found, weights):
        assert all(np.abs(layer[name] - expected[name]).max() < 1e-3 for name in expected)
