"""The Bayesian layers: distributions over kernels, against what they say they are."""

from __future__ import annotations

import pytest

from siderostat.workloads.galaxy_shape.layers import forward_flops

torch = pytest.importorskip("torch")
bayesian = pytest.importorskip("siderostat.workloads.galaxy_shape.bayesian")
net = pytest.importorskip("siderostat.workloads.galaxy_shape.torch")

VARIANTS = ["bnn", "bnn-flipout"]


@pytest.fixture(scope="module", params=VARIANTS)
def training(request):
    torch.manual_seed(0)
    return net.BayesianTrainingNetwork(net.GalaxyNetwork(request.param))


def test_every_kernel_weight_has_a_mean_and_a_scale_and_nothing_else_is_doubled(training):
    kernels = [m for m in training.modules() if isinstance(m, bayesian.GaussianKernel)]
    assert sum(k.loc.numel() for k in kernels) == 1_209_024
    assert sum(p.numel() for p in training.parameters()) == 1_517_205 + 1_209_024


def test_kernels_start_as_published(training):
    kernels = [m for m in training.modules() if isinstance(m, bayesian.GaussianKernel)]
    assert len(kernels) == 9
    for kernel in kernels:
        fan_in = kernel.loc[0].numel()
        assert kernel.loc.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.1)
    raw = torch.cat([k.untransformed_scale.flatten() for k in kernels])
    assert raw.mean().item() == pytest.approx(-9, abs=1e-3)
    assert raw.std().item() == pytest.approx(0.1, rel=0.01)


def test_the_divergence_is_that_of_torch_distributions():
    torch.manual_seed(1)
    kernel = bayesian.GaussianKernel(5, 4, 3, 3).double()
    with torch.no_grad():
        kernel.untransformed_scale.normal_()
    posterior = torch.distributions.Normal(kernel.loc, kernel.scale())
    expected = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0)).sum()
    torch.testing.assert_close(kernel.divergence(), expected, rtol=1e-12, atol=0)


def test_the_divergence_per_image_at_the_start_is_that_of_the_published_network(training):
    # 1284.56 for another draw of the weights; it varies by a few hundredths between draws.
    assert bayesian.divergence(training).item() / net.TRAINING_IMAGES == pytest.approx(1284.56, abs=0.2)


def test_the_loss_is_likelihood_plus_divergence_over_8000(training):
    *_, likelihood, share, loss = training(torch.randn(2, 6, 64, 64), torch.randn(2, 3))
    torch.testing.assert_close(share, bayesian.divergence(training) / 8000)
    torch.testing.assert_close(loss, likelihood + share)


def test_every_parameter_learns(training):
    training.zero_grad()
    training(torch.randn(2, 6, 64, 64), torch.randn(2, 3))[-1].backward()
    assert [name for name, p in training.named_parameters() if p.grad is None or not p.grad.any()] == []


def wide_convolution(flipout: bool, halving: bool = False):
    conv = bayesian.BayesianConv2d(3, 4, halving, flipout).double()
    with torch.no_grad():
        conv.kernel.untransformed_scale.fill_(-1.0)
        conv.bias.normal_()
    return conv


@pytest.mark.parametrize("flipout", [False, True])
@pytest.mark.parametrize("halving", [False, True])
def test_a_convolution_without_spread_is_the_plain_one(flipout, halving):
    torch.manual_seed(2)
    conv = wide_convolution(flipout, halving)
    plain = net.HalvingConv2d(4) if halving else torch.nn.Conv2d(3, 4, 3, padding=1)
    if halving:
        plain = torch.nn.Sequential(torch.nn.ZeroPad2d((0, 1, 0, 1)), torch.nn.Conv2d(3, 4, 3, stride=2))
    layer = plain[1] if halving else plain
    plain.double()
    with torch.no_grad():
        conv.kernel.untransformed_scale.fill_(-80.0)
        layer.weight.copy_(conv.kernel.loc)
        layer.bias.copy_(conv.bias)
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(conv(x), plain(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("flipout", [False, True])
def test_mean_and_variance_of_the_outputs_are_those_of_the_posterior(flipout):
    torch.manual_seed(3)
    conv = wide_convolution(flipout)
    x = torch.randn(1, 3, 4, 4, dtype=torch.float64)
    with torch.no_grad():
        draws = torch.stack([conv(x)[0] for _ in range(4000)])
        mean = torch.nn.functional.conv2d(x, conv.kernel.loc, conv.bias, padding=1)[0]
        variance = torch.nn.functional.conv2d(x**2, conv.kernel.scale() ** 2, padding=1)[0]
    error = (variance / len(draws)).sqrt()
    assert ((draws.mean(0) - mean).abs() < 5 * error).all()
    assert ((draws.var(0) / variance - 1).abs() < 6 * (2 / len(draws)) ** 0.5).all()


def correlation_between_items(flipout: bool) -> float:
    """Of the fluctuations of two items with the same content in one batch."""
    torch.manual_seed(4)
    layer = bayesian.BayesianLinear(8, 16, flipout).double()
    with torch.no_grad():
        layer.kernel.untransformed_scale.fill_(-1.0)
        x = torch.randn(1, 8, dtype=torch.float64).expand(2, 8)
        mean = torch.nn.functional.linear(x, layer.kernel.loc, layer.bias)
        draws = torch.stack([layer(x) - mean for _ in range(2000)])
    first, second = draws[:, 0].flatten(), draws[:, 1].flatten()
    return float((first * second).mean() / (first.std() * second.std()))


def test_reparameterisation_gives_a_batch_one_sample_and_flipout_decorrelates_its_items():
    assert correlation_between_items(flipout=False) == pytest.approx(1.0, rel=1e-3)
    assert abs(correlation_between_items(flipout=True)) < 0.05


def test_flops_are_those_that_torch_counts():
    counter = pytest.importorskip("torch.utils.flop_counter")
    for variant, layers in (("bnn", 1), ("bnn-flipout", 2)):
        with counter.FlopCounterMode(display=False) as counted:
            net.GalaxyNetwork(variant)(torch.randn(2, 6, 64, 64))
        assert counted.get_total_flops() == 2 * layers * forward_flops()
