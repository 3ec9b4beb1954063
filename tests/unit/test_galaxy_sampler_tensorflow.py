"""The sampler's networks in TensorFlow against those in PyTorch, with the same weights.

Run as a script, it writes what TensorFlow gives to the file that PyTorch is compared with where there is no TensorFlow.
"""

from __future__ import annotations

import numpy as np
import pytest

from siderostat.workloads.base import Spec
from siderostat.workloads.galaxy_sampler import GalaxySampler, checkpoint, layers
from tests.unit.test_galaxy_sampler import GOLDEN, PARTS, _inputs, _network, _weights

tf = pytest.importorskip("tensorflow")
pytest.importorskip("tensorflow_probability")
torch = pytest.importorskip("torch")
net = pytest.importorskip("siderostat.workloads.galaxy_sampler.tensorflow")
torch_net = pytest.importorskip("siderostat.workloads.galaxy_sampler.torch")


def _in_tensorflow(part):
    network = {"encoder": net.Encoder, "decoder": net.Decoder, "flow": net.Flow}[part]()
    net.load_weights(network, _weights(part))
    return network


def _outputs():
    """What TensorFlow makes of a few inputs, as PyTorch has it."""
    images, latents = _inputs()
    mean, scale = _in_tensorflow("encoder")(images.transpose(0, 2, 3, 1))
    flow = _in_tensorflow("flow")
    found = {
        "mean": mean,
        "scale": scale,
        "decoded": np.transpose(_in_tensorflow("decoder")(latents), (0, 3, 1, 2))[..., ::9, ::9],
        "log_density": flow.log_density(latents),
        "sampled": net.NaiveSampler(flow)(latents),
    }
    return {name: np.asarray(value) for name, value in found.items()}


def test_the_file_that_pytorch_is_compared_with_holds_what_tensorflow_gives():
    with np.load(GOLDEN) as golden:
        for name, value in _outputs().items():
            np.testing.assert_allclose(value, golden[name], atol=3e-6 * np.abs(golden[name]).max(), err_msg=name)


@pytest.mark.parametrize("part", PARTS)
def test_it_has_the_published_number_of_parameters(part):
    network = _in_tensorflow(part)
    assert sum(int(np.prod(v.shape)) for v in net._variables(network)) == PARTS[part]
    trainable = sum(int(np.prod(v.shape)) for v in network.trainable_variables)
    assert PARTS[part] - trainable == (12 if part == "encoder" else 0)


@pytest.fixture(scope="module")
def trained():
    weights = checkpoint.load().flow
    flows = net.Flow(), torch_net.Flow()
    net.load_weights(flows[0], weights)
    torch_net.load_weights(flows[1], weights)
    return flows


def test_samplers_are_equal_to_each_other_and_to_pytorch_with_trained_weights(trained):
    noise = np.random.default_rng(0).standard_normal((100, 32), dtype=np.float32)
    naive = tf.function(net.NaiveSampler(trained[0]))(tf.constant(noise)).numpy()
    incremental = tf.function(net.IncrementalSampler(trained[0]))(tf.constant(noise)).numpy()
    expected = torch_net.NaiveSampler(trained[1])(torch.from_numpy(noise)).detach().numpy()
    limit = 1e-6 * np.abs(expected).max()
    assert np.abs(naive - incremental).max() <= limit
    assert np.abs(naive - expected).max() <= limit
    assert np.abs(incremental - expected).max() <= limit


def test_losses_and_gradients_are_those_of_pytorch(monkeypatch):
    monkeypatch.setattr(tf.random, "normal", tf.zeros)  # the frameworks draw differently
    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)
    images, _ = _inputs()
    encoders, decoders = ([f(part) for f in (_in_tensorflow, _network)] for part in ("encoder", "decoder"))
    with tf.GradientTape() as tape:
        found = net.AutoencoderTraining(encoders[0], decoders[0], 0.01)(images.transpose(0, 2, 3, 1))
    gradients = tape.gradient(found[-1], [encoders[0].mean.kernel, decoders[0].layers[0].kernel])
    expected = torch_net.AutoencoderTraining(encoders[1], decoders[1], 0.01)(torch.from_numpy(images))
    expected[-1].backward()
    np.testing.assert_allclose([float(f) for f in found], [float(e.detach()) for e in expected], rtol=1e-5)
    for gradient, weight in zip(gradients, (encoders[1].mean.weight, decoders[1].first.weight), strict=True):
        reference = weight.grad.numpy().T
        np.testing.assert_allclose(gradient, reference, atol=1e-4 * np.abs(reference).max())


def test_the_loss_of_the_flow_is_that_of_pytorch(monkeypatch):
    monkeypatch.setattr(tf.random, "normal", tf.ones)
    monkeypatch.setattr(torch, "randn_like", torch.ones_like)
    _, latents = _inputs()
    flows = _in_tensorflow("flow"), _network("flow")
    with tf.GradientTape() as tape:
        found = net.FlowTraining(flows[0], lambda mean: (mean, 0.1 * tf.ones_like(mean)))(tf.constant(latents))
    gradient = tape.gradient(found[-1], flows[0].weights[2])
    expected = torch_net.FlowTraining(flows[1], lambda mean: (mean, 0.1 * torch.ones(())))(torch.from_numpy(latents))
    expected[-1].backward()
    assert float(found[-1]) == pytest.approx(float(expected[-1].detach()), rel=1e-5)
    reference = flows[1].blocks[0][1].weight.grad.numpy().T
    np.testing.assert_allclose(gradient, reference, atol=1e-4 * np.abs(reference).max())


def test_a_step_of_training_changes_what_its_phase_trains(monkeypatch):
    images = np.random.default_rng(0).random((4, 6, 64, 64), dtype=np.float32) ** 8
    monkeypatch.setattr("siderostat.workloads.galaxy_images.data.ImageSet.load", lambda self, n: (images * 1e3, None))
    step = GalaxySampler().build(Spec("incremental", "train", "tensorflow", 4, "paper", 0, {"images": 4}))
    autoencoder, flow = step.phases
    assert sum(int(np.prod(v.shape)) for v in autoencoder.model.trainable_variables) == 2_545_868 + PARTS["decoder"]
    assert sum(int(np.prod(v.shape)) for v in flow.model.trainable_variables) == PARTS["flow"]
    losses = []
    for phase in step.phases:
        variables = phase.model.trainable_variables
        optimizer = phase.optimizer(variables)
        for _ in range(3):
            with tf.GradientTape() as tape:
                out = phase.model(*phase.feed.next())
            gradients = tape.gradient(out[-1], variables)
            assert not any(g is None for g in gradients)
            optimizer.apply_gradients(zip(gradients, variables, strict=True))
            losses.append(float(out[-1]))
    assert losses[2] < losses[0] and losses[5] < losses[3]


def test_each_call_samples_other_galaxies():
    step = GalaxySampler().build(Spec("incremental", "sample", "tensorflow", 2, "paper", 0))
    call = tf.function(lambda *batch: step.phases[0].model(*batch))
    first, second = (call(*map(tf.constant, step.phases[0].feed.next())) for _ in range(2))
    assert first[0].shape == (2, 64, 64, 6) and first[1].shape == (2, layers.LATENTS)
    assert np.abs(first[1].numpy() - second[1].numpy()).max() > 0.1


if __name__ == "__main__":
    np.savez_compressed(GOLDEN, **_outputs())
