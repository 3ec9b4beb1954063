"""The galaxy-shape networks in TensorFlow against those in PyTorch: with the same weights they do the same.

``tests/data/galaxy_shape_tensorflow.npz`` holds what TensorFlow computes from weights and images that a NumPy seed makes
(``python -m tests.unit.test_galaxy_tensorflow`` wrote it), so that PyTorch is held to it where there is no TensorFlow.
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import numpy as np
import pytest

from siderostat import devices
from siderostat.workloads import load
from siderostat.workloads.base import Feed, Phase, Spec, Step

GOLDEN = Path(__file__).parents[1] / "data" / "galaxy_shape_tensorflow.npz"
BATCH = 4
QUIET = -80.0  # untransformed scale: softplus of it is 0, and a kernel's samples are its mean within 1.2e-7


@pytest.fixture(scope="module")
def net():
    pytest.importorskip("torch")
    return pytest.importorskip("siderostat.workloads.galaxy_shape.torch")


@pytest.fixture(scope="module")
def tfnet():
    pytest.importorskip("tensorflow")
    pytest.importorskip("tensorflow_probability")
    return pytest.importorskip("siderostat.workloads.galaxy_shape.tensorflow")


def made_up(shapes):
    """Weights under PyTorch's names and in its layout, from a seed: nothing is zero, so that everything matters.

    Slopes are near 1: of a million activations some lie within rounding of the kink at 0, on either side of it.
    """
    rng = np.random.default_rng(20211)
    state = {}
    for name in sorted(shapes):
        noise = rng.standard_normal(shapes[name])
        if name.endswith("running_var"):
            value = 4 + noise**2
        elif name.endswith("untransformed_scale"):
            value = -9 + 0.1 * noise
        elif len(shapes[name]) in (2, 4):
            value = noise * (1 if name.startswith("blocks") else 0.3) / np.prod(shapes[name][1:]) ** 0.5
        elif name.endswith("slope"):
            value = 0.8 + 0.1 * noise
        else:
            value = 0.1 * noise + (1 if name == "normalisation.weight" else 0)
        state[name] = value.astype(np.float32)
    return state


def images_and_labels(batch=BATCH):
    """Noise of another mean and width in each band, shapes (batch, 6, 64, 64) and (batch, 3)."""
    rng = np.random.default_rng(64)
    bands = np.arange(6)[:, None, None]
    images = bands + (2 + bands) * rng.standard_normal((batch, 6, 64, 64))
    return images.astype(np.float32), rng.normal(0, 0.5, (batch, 3)).astype(np.float32)


def channels_last(images):
    return np.ascontiguousarray(images.transpose(0, 2, 3, 1))


def quiet(state):
    return {n: np.full_like(v, QUIET) if n.endswith("untransformed_scale") else v for n, v in state.items()}


def in_torch(net, variant, change=lambda state: state):
    import torch

    network = net.GalaxyNetwork(variant)
    shapes = {n: v.shape for n, v in network.state_dict().items() if v.is_floating_point()}
    state = change(made_up(shapes))
    network.load_state_dict({n: torch.from_numpy(v.copy()) for n, v in state.items()}, strict=False)
    training = (net.TrainingNetwork if variant == "dnn" else net.BayesianTrainingNetwork)(network)
    return network, training, state


@functools.lru_cache(maxsize=None)  # to make one takes a second
def networks_in_tensorflow(variant):
    from siderostat.workloads.galaxy_shape import tensorflow as tfnet

    network = tfnet.GalaxyNetwork(variant)
    return network, (tfnet.TrainingNetwork if variant == "dnn" else tfnet.BayesianTrainingNetwork)(network)


def in_tensorflow(tfnet, variant, change=lambda state: state):
    """A network that all tests share, with weights, statistics included, as if it were new."""
    network, training = networks_in_tensorflow(variant)
    state = change(made_up({n: v.shape for n, v in tfnet.state(network).items()}))
    tfnet.load_state(network, state)
    return network, training, state


def torch_step(training, images, labels):
    """Outputs of a training step and the gradients by name, as arrays."""
    import torch

    outputs = training(torch.from_numpy(images), torch.from_numpy(labels))
    outputs[-1].backward()
    gradients = {n: p.grad.numpy() for n, p in training.network.named_parameters()}
    return [o.detach().numpy() for o in outputs], gradients


def tensorflow_step(tfnet, training, images, labels):
    """The same of TensorFlow, its gradients under PyTorch's names and in its layout."""
    import tensorflow as tf

    variables = [(n, v, axes) for n, v, axes in tfnet._weights(training.network) if v.trainable]

    @tf.function
    def step(images, labels):
        with tf.GradientTape() as tape:
            outputs = training(images, labels)
        return outputs, tape.gradient(outputs[-1], [v for _, v, _ in variables])

    outputs, gradients = step(channels_last(images), labels)
    named = {n: np.transpose(g.numpy(), axes) for (n, _, axes), g in zip(variables, gradients)}
    return [o.numpy() for o in outputs], named


def assert_same(ours, theirs, tolerance):
    """Compare arrays, each relative to its largest value."""
    for a, b in zip(ours, theirs):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max())


def assert_same_step(one, other):
    assert_same(one[0], other[0], 3e-5)
    assert one[1].keys() == other[1].keys()
    for name, gradient in other[1].items():
        assert np.abs(gradient).max() > 0, name
        error = np.linalg.norm(one[1][name] - gradient) / np.linalg.norm(gradient)
        assert error < 2e-3, (name, error)  # 1e-5, but for activations that rounding takes across the kink


@pytest.mark.parametrize("variant", ["dnn", "bnn", "bnn-flipout"])
def test_it_has_the_published_number_of_parameters(tfnet, variant):
    network, _ = networks_in_tensorflow(variant)
    size = load("galaxy-shape").variants[variant]["paper"]
    assert network.count_params() == size.parameters == (1_517_217 if variant == "dnn" else 2_726_241)
    assert sum(int(np.prod(v.shape)) for v in network.trainable_variables) == size.trainable == size.parameters - 12


def test_weights_start_as_published_from_the_seed_alone(tfnet):
    state = tfnet.state(tfnet.GalaxyNetwork("dnn", seed=3))
    for name, value in state.items():
        if value.ndim in (2, 4):
            limit = (6 / (sum(value.shape[:2]) * value[0, 0].size)) ** 0.5
            assert 0.98 * limit < np.abs(value).max() <= limit
        else:
            assert not value.any() or name in ("normalisation.weight", "normalisation.running_var")
    assert all(np.array_equal(v, state[n]) for n, v in tfnet.state(tfnet.GalaxyNetwork("dnn", seed=3)).items())
    assert not np.array_equal(tfnet.state(tfnet.GalaxyNetwork("dnn", seed=4))["dense.weight"], state["dense.weight"])


def test_kernels_of_the_bayesian_network_start_narrow_and_its_biases_at_zero(tfnet):
    state = tfnet.state(tfnet.GalaxyNetwork("bnn"))
    for name, value in state.items():
        if name.endswith("untransformed_scale"):
            assert abs(value.mean() + 9) < 0.01 and abs(value.std() - 0.1) < 0.01
        elif name.endswith("kernel.loc"):
            assert value.std() == pytest.approx((2 / np.prod(value.shape[1:])) ** 0.5, rel=0.05)
        elif name.endswith("bias"):
            assert not value.any()


def test_weights_pass_to_tensorflow_and_back_unchanged(net, tfnet):
    for variant in ("dnn", "bnn"):
        _, training, state = in_torch(net, variant)
        network, _ = networks_in_tensorflow(variant)
        tfnet.load_state(network, {n: v.numpy() for n, v in training.network.state_dict().items()})
        back = tfnet.state(network)
        assert back.keys() == state.keys()
        assert all(np.array_equal(back[name], value) for name, value in state.items())


def test_outputs_and_all_gradients_are_those_of_torch(net, tfnet):
    one, other = in_torch(net, "dnn")[1], in_tensorflow(tfnet, "dnn")[1]
    assert_same_step(torch_step(one, *images_and_labels()), tensorflow_step(tfnet, other, *images_and_labels()))


def pattern(*shape):
    """Numbers like those of a normal distribution, made from the shape, in PyTorch's layout."""
    return np.random.default_rng(shape).standard_normal(shape).astype(np.float32)


def signs(items, channels):
    return np.where(np.random.default_rng((items, channels)).random((items, channels)) < 0.5, -1, 1).astype(np.float32)


@pytest.fixture
def same_noise(net, tfnet, monkeypatch):
    """Make both frameworks draw the same numbers, larger scales, and the same signs for Flipout."""
    import tensorflow as tf
    import torch
    from tensorflow_probability.python import random as tfp_random

    from siderostat.workloads.galaxy_shape import bayesian

    def drawn(kernel):
        return kernel.scale() * torch.from_numpy(pattern(*kernel.loc.shape))

    monkeypatch.setattr(bayesian.GaussianKernel, "perturbation", drawn)
    monkeypatch.setattr(
        bayesian, "_signs", lambda x, channels: torch.from_numpy(signs(x.shape[0], channels))[:, :, None, None]
    )

    def rademacher(shape, dtype, seed):
        return tf.reshape(tf.numpy_function(lambda items_channels: signs(*items_channels), [shape], dtype), shape)

    def inject(network):
        monkeypatch.setattr(tfp_random, "rademacher", rademacher)

        def sample(distribution):
            normal = getattr(distribution, "distribution", distribution)
            axes = np.argsort(tfnet._AXES[len(normal.loc.shape)])
            shape = np.array(normal.loc.shape)[np.argsort(axes)]
            return normal.loc + normal.scale * np.transpose(pattern(*shape), axes)

        for layer in [*network.blocks.layers[::2], network.dense]:
            monkeypatch.setattr(layer, "kernel_posterior_tensor_fn", sample)

    return inject


@pytest.mark.parametrize("variant", ["bnn", "bnn-flipout"])
def test_with_the_same_draws_the_bayesian_networks_are_the_same(net, tfnet, same_noise, variant):
    def wider(state):
        return {n: v + 5 if n.endswith("untransformed_scale") else v for n, v in state.items()}

    _, ours, _ = in_torch(net, variant, wider)
    network, theirs, _ = in_tensorflow(tfnet, variant, wider)
    same_noise(network)
    one, other = (
        torch_step(ours, *images_and_labels()),
        tensorflow_step(tfnet, theirs, *images_and_labels()),
    )
    assert_same_step(one, other)
    without = torch_step(in_torch(net, variant, quiet)[1], *images_and_labels())[0]
    assert np.abs(one[0][0] - without[0]).max() > 0.01 * np.abs(without[0]).max()  # the draws do matter


def test_the_divergence_of_kernels_as_they_start_is_that_of_torch(net, tfnet):
    ours, theirs = divergence_in_torch(net), divergence_in_tensorflow(tfnet)
    assert ours == pytest.approx(theirs, rel=1e-6)
    # Of each of 1,209,024 weights -log softplus(-9) - 1/2 = 8.5 nats, and half the square of its mean; all over 8000.
    squares = sum(np.square(v).sum() for n, v in in_tensorflow(tfnet, "bnn")[2].items() if n.endswith("loc"))
    assert ours == pytest.approx((1_209_024 * 8.5 + squares / 2) / 8000, rel=1e-3)


def divergence_in_torch(net):
    import torch

    images, labels = map(torch.from_numpy, images_and_labels(1))
    return in_torch(net, "bnn")[1](images, labels)[3].item()


def divergence_in_tensorflow(tfnet):
    import tensorflow as tf

    images, labels = images_and_labels(1)
    return float(in_tensorflow(tfnet, "bnn")[1](tf.constant(channels_last(images)), tf.constant(labels))[3])


def programs(net, tfnet, variant, change=lambda state: state):
    """The two networks with the workload's Adam, as the device makes them ready."""
    from siderostat.workloads.galaxy_shape import ADAM_EPSILON, LEARNING_RATE

    images, labels = images_and_labels(16)
    _, ours, _ = in_torch(net, variant, change)
    _, theirs, _ = in_tensorflow(tfnet, variant, change)
    adams = (
        net.adam(LEARNING_RATE, ADAM_EPSILON),
        tfnet.adam(LEARNING_RATE, ADAM_EPSILON),
    )
    feeds = Feed((images, labels), BATCH, 0), Feed((channels_last(images), labels), BATCH, 0)
    steps = [
        Step(framework, [Phase(model, feed, adam)], BATCH)
        for framework, model, feed, adam in zip(("torch", "tensorflow"), (ours, theirs), feeds, adams)
    ]
    device = devices.load("cpu")
    return ours.network, theirs.network, [device.compile(step, "fp32") for step in steps]


def test_adam_moves_the_weights_to_the_same_places_and_normalisation_sees_the_same_statistics(net, tfnet):
    ours, theirs, (torch_program, tensorflow_program) = programs(net, tfnet, "dnn")
    start = {n: v.detach().numpy().copy() for n, v in ours.state_dict().items()}
    torch_program.run(1)
    tensorflow_program.run(1)
    gradients = {n: p.grad.numpy() for n, p in ours.named_parameters()}
    after, reached = {n: v.numpy().copy() for n, v in ours.state_dict().items()}, tfnet.state(theirs)
    for name, gradient in gradients.items():
        told = np.abs(gradient) > 1e-2 * np.abs(gradient).max()
        moved, expected = (reached[name] - start[name])[told], (after[name] - start[name])[told]
        assert told.any()
        # The frameworks add epsilon in different places: 3.2e-6 beside the gradient in the first step, against 1e-7.
        apart = 3.2e-6 / np.abs(gradient[told])
        error = np.abs(moved - expected) / 1e-3
        assert (error < apart + 2e-3).all(), (name, error.max())
    assert np.allclose(np.abs(expected), 1e-3, rtol=0.01)
    torch_program.run(4)
    tensorflow_program.run(4)
    for name in ("running_mean", "running_var"):
        ours_now = ours.normalisation.state_dict()[name].numpy()
        np.testing.assert_allclose(tfnet.state(theirs)[f"normalisation.{name}"], ours_now, rtol=2e-5)
        assert not np.allclose(ours_now, start[f"normalisation.{name}"], rtol=1e-3)


def test_both_optimisers_see_no_gradient_longer_than_the_clip(net, tfnet):
    import tensorflow as tf
    import torch

    weight = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    optimizer = net.adam(1e-3, 1e-7, clip=0.5)([weight])
    weight.grad = torch.tensor([30.0, 40.0])
    optimizer.step()
    assert weight.grad.tolist() == pytest.approx([0.3, 0.4])
    variable = tf.Variable([3.0, 4.0])
    theirs = tfnet.adam(1e-3, 1e-7, clip=0.5)([variable])
    theirs.apply_gradients([(tf.constant([30.0, 40.0]), variable)])
    moments = next(v for v in theirs.variables() if "/m" in v.name)
    assert moments.numpy().tolist() == pytest.approx([0.03, 0.04])  # a tenth of the gradient, after the first step
    weight.grad = torch.tensor([0.03, 0.04])
    optimizer.step()
    assert weight.grad.tolist() == pytest.approx([0.03, 0.04])


@pytest.mark.parametrize("large", [1e25, float("inf"), float("nan")])
def test_a_gradient_too_large_for_its_norm_moves_nothing(net, tfnet, large):
    import tensorflow as tf
    import torch

    weight = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    optimizer = net.adam(1e-3, 1e-7, clip=0.5)([weight])
    weight.grad = torch.tensor([large, 40.0])
    optimizer.step()
    assert weight.tolist() == [3.0, 4.0]
    variable = tf.Variable([3.0, 4.0])
    tfnet.adam(1e-3, 1e-7, clip=0.5)([variable]).apply_gradients([(tf.constant([large, 40.0]), variable)])
    assert variable.numpy().tolist() == [3.0, 4.0]


def test_the_learning_rate_rises_alike_in_both_frameworks(net, tfnet):
    import tensorflow as tf
    import torch

    weight = torch.nn.Parameter(torch.tensor([0.0]))
    optimizer = net.adam(0.1, 1e-7, warm_up=4)([weight])
    variable = tf.Variable([0.0])
    theirs = tfnet.adam(0.1, 1e-7, warm_up=4)([variable])
    ours, others = [], []
    for _ in range(6):
        weight.grad = torch.tensor([1.0])
        optimizer.step()
        theirs.apply_gradients([(tf.constant([1.0]), variable)])
        ours.append(-weight.item())
        others.append(-float(variable.numpy()[0]))
    # Under a constant gradient each step of Adam is as long as the learning rate.
    assert np.diff([0, *ours]) == pytest.approx([0.025, 0.04375, 0.0625, 0.08125, 0.1, 0.1], rel=1e-4)
    assert others == pytest.approx(ours, rel=1e-4)


def test_inference_normalises_with_the_statistics_it_was_given(net, tfnet):
    import tensorflow as tf
    import torch

    images, _ = images_and_labels()
    ours, theirs = in_torch(net, "dnn")[0].eval(), in_tensorflow(tfnet, "dnn")[0]
    mean, variance = np.arange(6.0), np.arange(4.0, 10.0)
    ours.normalise(mean, variance)
    theirs.normalise(mean, variance)
    with torch.inference_mode():
        expected = [o.numpy() for o in ours(torch.from_numpy(images))]
    assert_same([o.numpy() for o in theirs(tf.constant(channels_last(images)))], expected, 1e-5)


def test_the_mean_over_draws_of_flipout_is_the_plain_layer(tfnet):
    import tensorflow as tf

    x = np.random.default_rng(0).standard_normal((1, 6, 6, 3)).astype(np.float32)
    for kind, shape in (
        ("Convolution2D", {"filters": 4, "kernel_size": 3, "padding": "same"}),
        ("Dense", {"units": 4}),
    ):
        layer = tfnet._layer("bnn-flipout", kind, np.random.default_rng(1), **shape)
        inputs = tf.constant(x if kind == "Convolution2D" else x.reshape(1, -1))
        layer(inputs)
        loc, untransformed, bias = layer.trainable_variables
        untransformed.assign(tf.fill(untransformed.shape, -1.0))
        bias.assign([1.0, 2.0, 3.0, 4.0])
        many = tf.repeat(inputs, 500, 0)  # each with signs of its own
        draws = tf.concat([layer(many) for _ in range(8)], 0).numpy()
        plain = (tf.nn.conv2d(inputs, loc, 1, "SAME") if kind == "Convolution2D" else inputs @ loc) + bias
        error = draws.std(0) / len(draws) ** 0.5
        assert (error > 0).all()
        # Five sigma, and a little more, as the 500 of one call share a sample but for its signs.
        assert (np.abs(draws.mean(0) - plain.numpy()[0]) < 7 * error).all()


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    pytest.importorskip("galsim")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIDEROSTAT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield Spec("dnn", "train", "tensorflow", 8, "paper", 5, {"images": 64})


def test_the_workload_learns_in_tensorflow(tfnet, spec):
    workload = load("galaxy-shape")
    program = devices.load("cpu").compile(workload.build(spec), "fp32")
    losses = []
    for _ in range(24):
        program.run(1)
        losses.append(workload.check(spec, program.outputs())["nll"])
    assert np.mean(losses[-8:]) < np.mean(losses[:8]) - 0.5


def test_the_bayesian_workload_repeats_itself_with_one_seed_and_not_with_another(tfnet, spec):
    workload = load("galaxy-shape")

    def outputs(seed):
        bayesian = dataclasses.replace(spec, variant="bnn", mode="infer", seed=seed)
        model = workload.build(bayesian).phases[0].model
        return [model(channels_last(images_and_labels(2)[0]))[0].numpy() for _ in range(2)]  # kernels drawn anew

    first, later = outputs(1)
    assert not np.array_equal(first, later)
    assert all(np.array_equal(a, b) for a, b in zip((first, later), outputs(1)))
    assert not np.array_equal(first, outputs(2)[0])


def test_inference_sees_the_images_that_torch_sees(net, tfnet, spec):
    workload = load("galaxy-shape")
    phases = [
        workload.build(dataclasses.replace(spec, variant="bnn", mode="infer", framework=framework)).phases[0]
        for framework in ("torch", "tensorflow")
    ]
    (ours,), (theirs,) = (phase.feed.next() for phase in phases)
    assert theirs.flags["C_CONTIGUOUS"]
    assert np.array_equal(theirs.transpose(0, 3, 1, 2), ours)
    ours, theirs = (phase.model.normalisation for phase in phases)
    np.testing.assert_allclose(theirs.moving_mean.numpy(), ours.running_mean.numpy(), rtol=1e-6)
    np.testing.assert_allclose(theirs.moving_variance.numpy(), ours.running_var.numpy(), rtol=1e-6)


def golden_of(variant, step, infer):
    """What is kept of a step: outputs, norms of the gradients, and some of their values."""
    outputs, gradients = step
    kept = {"mean": outputs[0], "scale": outputs[1], "likelihood": outputs[2]}
    kept.update({"infer_mean": infer[0], "infer_scale": infer[1]})
    locs = [n for n in sorted(gradients) if not n.endswith("untransformed_scale")]
    kept["gradient_norms"] = np.array([np.linalg.norm(gradients[n]) for n in locs])
    kept["gradient_values"] = np.concatenate([gradients[n].ravel()[:: max(1, gradients[n].size // 16)] for n in locs])
    return {f"{variant}.{name}": np.asarray(value, np.float32) for name, value in kept.items()}


def from_tensorflow(tfnet):
    import tensorflow as tf

    found = {}
    for variant in ("dnn", "bnn"):
        network, training, _ = in_tensorflow(tfnet, variant, quiet)
        infer = [o.numpy() for o in network(tf.constant(channels_last(images_and_labels()[0])))]
        step = tensorflow_step(tfnet, training, *images_and_labels())
        found.update(golden_of(variant, step, infer))
    return {**found, "bnn.divergence": np.float32(divergence_in_tensorflow(tfnet))}


def from_torch(net):
    import torch

    found = {}
    for variant in ("dnn", "bnn"):
        network, training, _ = in_torch(net, variant, quiet)
        with torch.inference_mode():
            infer = [o.numpy() for o in network.eval()(torch.from_numpy(images_and_labels()[0]))]
        network.train()
        step = torch_step(training, *images_and_labels())
        found.update(golden_of(variant, step, infer))
    return {**found, "bnn.divergence": np.float32(divergence_in_torch(net))}


TOLERANCES = {"dnn": 3e-5, "bnn": 3e-4}  # of outputs; kernels keep a spread of 1.2e-7


def assert_golden(found):
    with np.load(GOLDEN) as golden:
        assert set(golden.files) == {*found, "made_by"}
        for name, value in found.items():
            assert_same([value], [golden[name]], 2e-3 if "gradient" in name else TOLERANCES[name[:3]])


def test_torch_computes_what_tensorflow_once_did(net):
    assert_golden(from_torch(net))


def test_tensorflow_computes_what_it_once_did(tfnet):
    assert_golden(from_tensorflow(tfnet))


def main() -> None:
    """Write the golden file."""
    import tensorflow as tf
    import tensorflow_probability as tfp

    from siderostat.workloads.galaxy_shape import tensorflow as tfnet

    made_by = f"python -m tests.unit.test_galaxy_tensorflow: TensorFlow {tf.__version__}, Probability {tfp.__version__}"
    np.savez_compressed(GOLDEN, made_by=np.array(made_by), **from_tensorflow(tfnet))
    print(f"{GOLDEN}: {GOLDEN.stat().st_size} bytes")


if __name__ == "__main__":
    main()
