"""The galaxy-shape network against independent statements of what Keras and TensorFlow Probability do."""

from __future__ import annotations

import numpy as np
import pytest

from siderostat.workloads.galaxy_shape.layers import forward_flops

torch = pytest.importorskip("torch")
net = pytest.importorskip("siderostat.workloads.galaxy_shape.torch")


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return net.GalaxyNetwork()


def test_it_has_the_published_number_of_parameters(network):
    trainable = sum(p.numel() for p in network.parameters())
    statistics = sum(b.numel() for name, b in network.named_buffers() if "running" in name)
    assert (trainable, statistics) == (1_517_205, 12)


def test_kernels_are_glorot_uniform_and_everything_else_starts_at_zero(network):
    for layer in (m for m in network.modules() if isinstance(m, (torch.nn.Conv2d, torch.nn.Linear))):
        fans = sum(layer.weight.shape[:2]) * layer.weight[0, 0].numel()
        limit = (6 / fans) ** 0.5
        assert 0.98 * limit < layer.weight.abs().max() <= limit
        assert not layer.bias.any()
    assert not any(m.slope.any() for m in network.modules() if isinstance(m, net.PixelPReLU))


def test_outputs_are_a_mean_and_a_lower_triangle_with_positive_diagonal(network):
    mean, scale = network(torch.randn(2, 6, 64, 64))
    assert mean.shape == (2, 3) and scale.shape == (2, 3, 3)
    assert (torch.triu(scale, 1) == 0).all()
    assert (torch.diagonal(scale, dim1=1, dim2=2) > 0).all()


def test_the_halving_convolution_pads_like_tensorflow():
    torch.manual_seed(1)
    conv = net.HalvingConv2d(2)
    x = torch.randn(1, 2, 6, 6)
    padded = np.zeros((2, 7, 7))  # ((6 / 2 - 1) * 2 + 3 - 6) = 1 row in all, and none of it before the image
    padded[:, :6, :6] = x[0]
    weight = conv.weight.detach().numpy()
    windows = [[padded[:, i : i + 3, j : j + 3] for j in (0, 2, 4)] for i in (0, 2, 4)]
    expected = np.einsum("ijcyx,ocyx->oij", np.array(windows), weight) + conv.bias.detach().numpy()[:, None, None]
    np.testing.assert_allclose(conv(x)[0].detach().numpy(), expected, atol=1e-5)


def test_prelu_has_its_own_slope_everywhere():
    prelu = net.PixelPReLU(2, 3)
    with torch.no_grad():
        prelu.slope.copy_(torch.randn(2, 3, 3))
    x = torch.randn(4, 2, 3, 3, requires_grad=True)
    y = prelu(x)
    assert torch.equal(y, torch.where(x > 0, x, prelu.slope * x))
    y.sum().backward()
    assert torch.equal(x.grad, torch.where(x > 0, torch.ones_like(x), prelu.slope.expand_as(x)))
    assert torch.allclose(prelu.slope.grad, x.detach().clamp(max=0).sum(0))


def test_features_are_flattened_channels_last(network):
    x = torch.randn(2, 6, 64, 64)
    row, column, channel = 1, 2, 200
    with torch.no_grad():
        probe = net.GalaxyNetwork().eval()
        probe.dense.weight.zero_()
        probe.dense.weight[0, (row * 4 + column) * 256 + channel] = 1
        expected = probe.blocks(probe.normalisation(x))[:, channel, row, column]
        assert torch.equal(probe(x)[0][:, 0], expected)


def test_triangle_is_filled_as_tensorflow_probability_does():
    # The example in the documentation of tfp.math.fill_triangular: 1 ... 6 -> [[4, 0, 0], [6, 5, 0], [3, 2, 1]].
    scale = net.lower_triangle(torch.arange(1.0, 7.0)[None])[0]
    assert torch.equal(torch.tril(scale, -1), torch.tensor([[0.0, 0, 0], [6, 0, 0], [3, 2, 0]]))
    expected = torch.nn.functional.softplus(torch.tensor([4.0, 5.0, 1.0])) + 1e-5
    assert torch.allclose(scale.diagonal(), expected)


def test_likelihood_is_that_of_torch_distributions():
    torch.manual_seed(2)
    mean, labels = torch.randn(2, 50, 3, dtype=torch.float64)
    scale = net.lower_triangle(torch.randn(50, 6, dtype=torch.float64))
    expected = -torch.distributions.MultivariateNormal(mean, scale_tril=scale).log_prob(labels)
    torch.testing.assert_close(net.negative_log_likelihood(mean, scale, labels), expected, rtol=1e-12, atol=1e-12)


def test_flops_are_those_that_torch_counts():
    counter = pytest.importorskip("torch.utils.flop_counter")
    training = net.TrainingNetwork(net.GalaxyNetwork())
    with counter.FlopCounterMode(display=False) as forward:
        *_, loss = training(torch.randn(2, 6, 64, 64), torch.randn(2, 3))
    assert forward.get_total_flops() == 2 * forward_flops()
    with counter.FlopCounterMode(display=False) as backward:
        loss.backward()
    assert backward.get_total_flops() == 2 * 2 * forward_flops()


def test_every_parameter_learns_from_a_batch_of_two():
    torch.manual_seed(3)
    training = net.TrainingNetwork(net.GalaxyNetwork())
    training(torch.randn(2, 6, 64, 64), torch.randn(2, 3))[-1].backward()
    idle = [name for name, p in training.named_parameters() if p.grad is None or not p.grad.any()]
    assert idle == []
