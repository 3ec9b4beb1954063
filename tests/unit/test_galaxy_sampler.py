"""The sampler's networks in PyTorch: counts, the flow's mathematics, the two samplers, and what TensorFlow gives."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from siderostat.workloads.galaxy_sampler import checkpoint, layers

torch = pytest.importorskip("torch")
net = pytest.importorskip("siderostat.workloads.galaxy_sampler.torch")

GOLDEN = Path(__file__).parent.parent / "data" / "galaxy_sampler_tensorflow.npz"
PARTS = {"encoder": 2_545_880, "decoder": 3_319_942, "flow": 725_504}


def _weights(part):
    """Weights that leave nothing at 0 or 1, so that each of them matters."""
    rng = np.random.default_rng(5)
    gain = layers.FLOW_GAIN if part == "flow" else 2.0
    weights = layers.initial(getattr(layers, f"{part}_shapes")(), rng, gain)
    return {
        name: a + (rng.uniform(0.01, 0.1, a.shape).astype(np.float32) if a.ndim == 1 else 0)
        for name, a in weights.items()
    }


def _inputs():
    rng = np.random.default_rng(6)
    return rng.random((2, 6, 64, 64), dtype=np.float32) ** 8, rng.standard_normal((4, 32), dtype=np.float32)


def _network(part):
    network = {"encoder": net.Encoder, "decoder": net.Decoder, "flow": net.Flow}[part]()
    net.load_weights(network, _weights(part))
    return network


@pytest.fixture(scope="module")
def trained():
    flow = net.Flow()
    net.load_weights(flow, checkpoint.load().flow)
    return flow


@pytest.mark.parametrize("part", PARTS)
def test_shapes_are_those_of_the_published_network(part):
    network = _network(part)
    state = {n: tuple(t.shape) for n, t in network.state_dict().items() if not n.endswith("num_batches_tracked")}
    assert list(state.items()) == list(getattr(layers, f"{part}_shapes")().items())
    assert sum(map(math.prod, state.values())) == PARTS[part]


def test_a_weight_survives_being_loaded_and_read_back():
    for part in PARTS:
        weights = _weights(part)
        found = net.weights_of(_network(part))
        assert all(np.array_equal(found[name], array) for name, array in weights.items())


def test_operations_of_the_decoder_are_those_published():
    assert layers.decoder_flops() == pytest.approx(450e6, rel=0.01)


def test_operations_of_incremental_sampling_are_the_naive_ones_over_60():
    # 32 passes, and two thirds of the weights masked in the first and last layer, half in the middle one.
    assert 55 < layers.flow_flops("naive") / layers.flow_flops("incremental") < 70


def test_a_parameter_of_a_block_depends_on_earlier_latents_only():
    flow = _network("flow").double()
    block = [(layer.masked(), layer.bias) for layer in flow.blocks[3]]
    x = torch.randn(32, dtype=torch.float64)
    for which in (0, 1):
        jacobian = torch.autograd.functional.jacobian(
            lambda x, which=which: net._shift_and_log_scale(x[None], block)[which][0], x
        )
        assert not jacobian.triu().any()
        assert (jacobian.abs().sum(1)[1:] > 0).all() and (jacobian.abs().sum(0)[:-1] > 0).all()


def test_sampling_and_density_are_inverse_to_each_other():
    flow = _network("flow").double()
    noise = torch.randn(20, 32, dtype=torch.float64)
    latents = net.IncrementalSampler(flow).double()(noise)
    assert (latents - noise).abs().mean() > 0.1
    assert torch.allclose(flow.noise(latents)[0], noise, atol=1e-10)


def test_the_log_determinant_is_that_of_the_numerical_jacobian():
    flow = _network("flow").double()
    latents = torch.randn(3, 32, dtype=torch.float64)
    step = 1e-6
    with torch.no_grad():
        found = flow.noise(latents)[1]
        columns = [
            (flow.noise(latents + step * axis)[0] - flow.noise(latents - step * axis)[0]) / (2 * step)
            for axis in torch.eye(32, dtype=torch.float64)
        ]
    expected = torch.linalg.slogdet(torch.stack(columns, 2))[1]
    assert found.abs().min() > 0.1
    assert torch.allclose(found, expected, atol=1e-5)


def test_a_flow_without_weights_is_the_normal_distribution():
    flow = net.Flow()
    net.load_weights(flow, {name: np.zeros(shape, np.float32) for name, shape in layers.flow_shapes().items()})
    latents = torch.randn(5, 32)
    expected = torch.distributions.Normal(0, 1).log_prob(latents).sum(1)
    assert torch.allclose(flow.log_density(latents), expected, rtol=1e-6)


@pytest.mark.parametrize("count", [1, 100])
def test_naive_and_incremental_sampling_are_equal_with_trained_weights(trained, count):
    noise = torch.randn(count, 32, generator=torch.Generator().manual_seed(count))
    naive, incremental = net.NaiveSampler(trained)(noise), net.IncrementalSampler(trained)(noise)
    assert (naive - noise).abs().mean() > 0.1
    assert (naive - incremental).abs().max() <= 1e-6 * naive.abs().max()


def test_no_sample_runs_away(trained):
    """Without the cut of log-scales about 20 of these are infinite."""
    noise = torch.randn(20_000, 32, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert net.IncrementalSampler(trained)(noise).abs().max() < 100


def test_the_incremental_sampler_follows_its_module_to_another_type(trained):
    noise = torch.randn(4, 32, dtype=torch.float64)
    single = net.IncrementalSampler(trained)
    assert single.double()(noise).dtype == torch.float64


def test_stages_use_every_weight_that_the_masks_leave_once():
    block = [a for mask in layers.masks() for a in (np.where(mask, 1.0, 0.0), np.zeros(mask.shape[0]))]
    stages, _ = layers.stages(block)
    assert [sum(stage[i].sum() for stage in stages) for i in (0, 2, 3)] == [mask.sum() for mask in layers.masks()]
    assert sum(stage[0].shape[0] for stage in stages) == layers.HIDDEN


def test_doubling_pads_like_tensorflow():
    doubling = net.DoublingConv2d(2, 3)
    x = torch.randn(1, 2, 4, 4)
    weight = doubling.weight.detach().numpy()  # (in, out, row, column)
    expected = np.zeros((3, 9, 9)) + doubling.bias.detach().numpy()[:, None, None]
    for row in range(4):
        for column in range(4):
            here = np.einsum("i,ioyx->oyx", x[0, :, row, column].numpy(), weight)
            expected[:, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3] += here
    np.testing.assert_allclose(doubling(x)[0].detach().numpy(), expected[:, :8, :8], atol=1e-5)


def test_the_encoding_of_a_galaxy_does_not_depend_on_its_batch():
    encoder = _network("encoder").train()
    images = torch.rand(4, 6, 64, 64) * torch.tensor([1.0, 0.01, 0.1, 0.5])[:, None, None, None]
    assert torch.allclose(encoder(images)[0][:1], encoder(images[:1])[0], rtol=1e-3, atol=1e-4)


def test_outputs_are_those_that_tensorflow_gave():
    with np.load(GOLDEN) as golden, torch.inference_mode():
        images, latents = map(torch.from_numpy, _inputs())
        mean, scale = _network("encoder")(images)
        decoded = _network("decoder")(latents)[..., ::9, ::9]
        flow = _network("flow")
        found = {
            "mean": mean,
            "scale": scale,
            "decoded": decoded,
            "log_density": flow.log_density(latents),
            "sampled": net.NaiveSampler(flow)(latents),
        }
        for name, value in found.items():
            size = np.abs(golden[name]).max()
            np.testing.assert_allclose(value.numpy(), golden[name], atol=3e-6 * size, err_msg=name)
