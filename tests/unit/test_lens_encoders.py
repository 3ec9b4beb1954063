"""The encoders of lens adaptation: sizes, symmetry, and equality with independent statements of what they compute."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest

from siderostat.workloads.lens_adaptation import architecture, counts
from siderostat.workloads.lens_adaptation.architecture import ENCODERS, SIZES

torch = pytest.importorskip("torch")
F = torch.nn.functional

from siderostat.devices.torch_step import Arithmetic  # noqa: E402
from siderostat.workloads.lens_adaptation import equivariant  # noqa: E402
from siderostat.workloads.lens_adaptation.encoders import make_encoder  # noqa: E402
from siderostat.workloads.lens_adaptation.heads import Classifier, Discriminator  # noqa: E402

ELEMENTS = (0, 1, 2, 3)


def made(name: str, size: str = "tiny", pixels: int = 64, seed: int = 0):
    torch.manual_seed(seed)
    return make_encoder(name, size, pixels)


def images(count: int, pixels: int = 64, dtype=torch.float32):
    return torch.rand(count, 1, pixels, pixels, generator=torch.Generator().manual_seed(1)).to(dtype)


def mirrored(x, element: int):
    """Act on an image, or on the map of a maximum over the group."""
    return x.flip([axis for axis, bit in ((-1, 1), (-2, 2)) if element & bit])


def acted(x, element: int):
    """Act on a map of regular fields."""
    order = [4 * field + (element ^ h) for field in range(x.shape[1] // 4) for h in ELEMENTS]
    return mirrored(x, element)[:, order]


def distance(a, b) -> float:
    return float(((a - b).norm() / b.norm()).detach())


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# Sizes


@pytest.mark.parametrize(
    ("name", "expected"),
    [("resnet18", 11_301_568), ("efficientnet-b0", 4_334_908), ("efficientnet-b2", 8_061_122)],
)
def test_the_paper_sizes_have_the_stated_number_of_parameters(name: str, expected: int):
    assert sum(p.numel() for p in make_encoder(name, "paper").parameters()) == expected


def test_the_equivariant_network_flattens_to_the_published_61504_numbers_at_150_pixels():
    with torch.device("meta"):
        network = make_encoder("equivariant", "paper", 150)
    assert network.dense[0].in_features == 61_504
    assert sum(p.numel() for p in network.parameters()) == 18_155_912


@pytest.mark.parametrize(("name", "size"), list(itertools.product(ENCODERS, SIZES)))
def test_parameters_counted_without_torch_are_those_torch_counts(name: str, size: str):
    with torch.device("meta"):
        network = make_encoder(name, size, 65)
    parts = {part: sum(p.numel() for p in module.parameters()) for part, module in network.named_children()}
    assert counts.parameter_counts(name, size, 65) == parts
    assert sum(parts.values()) == sum(p.numel() for p in network.parameters())


def test_a_quarter_of_the_width_has_these_parameters():
    assert {name: sum(counts.parameter_counts(name, "quarter").values()) for name in ENCODERS} == {
        "resnet18": 733_552,
        "efficientnet-b0": 407_778,
        "efficientnet-b2": 700_996,
        "equivariant": 545_218,
    }


@pytest.mark.parametrize(
    ("name", "size", "pixels"),
    [*itertools.product(ENCODERS, ("quarter", "tiny"), (64, 65)), ("resnet18", "paper", 150)],
)
def test_operations_counted_without_torch_are_those_torch_counts(name: str, size: str, pixels: int):
    flop_counter = pytest.importorskip("torch.utils.flop_counter")
    with torch.device("meta"):
        network, batch = make_encoder(name, size, pixels).eval(), torch.zeros(1, 1, pixels, pixels)
        with flop_counter.FlopCounterMode(display=False) as counter:
            network(batch)
    assert counts.forward_flops(name, size, pixels) == counter.get_total_flops()


def test_the_equivariant_network_at_paper_size_takes_65_gflop_per_image():
    assert counts.forward_flops("equivariant", "paper", 150) == 65_548_453_248


def test_the_heads_have_the_published_number_of_parameters():
    heads = {
        Classifier(): (771, counts.classifier_parameters()),
        Discriminator(): (132_098, counts.discriminator_parameters()),
    }
    for head, sizes in heads.items():
        assert {sum(p.numel() for p in head.parameters())} == set(sizes)
    features = torch.randn(5, 256)
    assert [tuple(head(features).shape) for head in heads] == [(5, 3), (5, 2)]


@pytest.mark.parametrize("what", [counts.parameter_counts, make_encoder])
def test_an_encoder_or_size_that_does_not_exist_is_refused_with_those_that_do(what):
    with pytest.raises(LookupError, match="no encoder 'resnet19'; there are resnet18, efficientnet-b0"):
        what("resnet19", "quarter")
    with pytest.raises(LookupError, match="no size 'half' of an encoder; there are paper, quarter"):
        what("resnet18", "half")


@pytest.mark.parametrize("what", [counts.parameter_counts, make_encoder])
def test_images_too_small_for_the_equivariant_network_are_refused(what):
    what("equivariant", "tiny", 29)
    with pytest.raises(ValueError, match="at least 29 pixels on a side, not 28"):
        what("equivariant", "tiny", 28)


# What all encoders have in common


@pytest.mark.parametrize("name", ENCODERS)
def test_weights_follow_from_the_seed(name: str):
    one, same, other = (made(name, seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("name", ENCODERS)
def test_every_parameter_gets_a_gradient(name: str):
    network = made(name).train()
    (network(images(4)) * torch.randn(4, 256)).sum().backward()
    assert not [key for key, p in network.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert all(p.grad.abs().sum() > 0 for p in network.parameters())


@pytest.mark.parametrize("name", ENCODERS)
def test_in_inference_an_image_does_not_see_its_batch_and_in_training_it_does(name: str):
    network = made(name, "quarter").double()
    batch = images(4, dtype=torch.float64)
    network.train()
    assert distance(network(batch)[:2], network(batch[:2])) > 1e-3
    network.eval()
    before = copy.deepcopy(network.state_dict())
    assert distance(network(batch)[:2], network(batch[:2])) < 1e-12
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


@pytest.mark.parametrize("name", ENCODERS)
def test_two_forward_passes_in_training_give_the_same_features(name: str):
    # With dropout or stochastic depth they would not, and ADDA could not use one forward pass for both its updates.
    network, batch = made(name).train(), images(4)
    assert torch.equal(network(batch), network(batch))


@pytest.mark.parametrize("is_training", [True, False])
@pytest.mark.parametrize("name", ENCODERS)
def test_the_gradient_of_a_gradient_is_that_of_finite_differences(name: str, is_training: bool):
    # As in CGDM, whose loss is a function of the gradients of two losses with respect to the parameters.
    network, batch = made(name, pixels=33).double().train(is_training), images(3, 33, torch.float64)
    _shake_statistics(network)  # away from the exact zeros of a ReLU that masked pixels would otherwise meet
    parameters = list(network.parameters())
    direction = [torch.randn_like(p) for p in parameters]
    weights = torch.randn(3, 256, dtype=torch.float64)

    def squared_gradient():
        loss = (network(batch) * weights).square().mean()
        return sum(g.square().sum() for g in torch.autograd.grad(loss, parameters, create_graph=True))

    second = torch.autograd.grad(squared_gradient(), parameters)
    exact = float(sum((s * d).sum() for s, d in zip(second, direction)))
    values, step = [], 1e-8  # so short that no ReLU changes its side
    for sign in (1, -2):
        with torch.no_grad():
            for p, d in zip(parameters, direction):
                p += sign * step * d
        values.append(float(squared_gradient().detach()))
    assert (values[0] - values[1]) / (2 * step) == pytest.approx(exact, rel=1e-4)


@pytest.mark.parametrize("name", ENCODERS)
def test_channels_last_in_memory_changes_nothing_but_the_layout(name: str):
    network, batch = made(name).double().train(), images(4, dtype=torch.float64)
    expected = network(batch)
    network = network.to(memory_format=torch.channels_last)
    features = network(batch.contiguous(memory_format=torch.channels_last))
    assert distance(features, expected) < 1e-12
    features.square().mean().backward()


@pytest.mark.parametrize("name", ENCODERS)
def test_bf16_under_autocast_computes_in_16_bits_and_stays_near(name: str):
    network, batch = made(name, "quarter").eval(), images(4)
    expected = network(batch)
    with Arithmetic("bf16", torch.device("cpu")).autocast:
        features = network(batch)
    assert features.dtype is torch.bfloat16
    assert 0 < distance(features.float(), expected) < 0.05
    features.float().square().mean().backward()
    assert all(p.grad.dtype is torch.float32 and p.grad.isfinite().all() for p in network.parameters())


# ResNet18 and EfficientNet against the public code


def test_resnet18_is_torchvisions():
    try:
        from torchvision.models import resnet18
    except (ImportError, RuntimeError) as error:  # the latter where it was built for another torch
        pytest.skip(f"torchvision cannot be imported: {error}")
    theirs = resnet18(num_classes=256)
    theirs.conv1 = torch.nn.Conv2d(1, 64, 7, 2, 3, bias=False)
    _agree(make_encoder("resnet18", "paper"), theirs)


def test_a_residual_block_adds_its_input_to_two_normalised_convolutions():
    network = made("resnet18").double().eval()
    _shake_statistics(network)
    for block, inside in ((network.blocks[1], 8), (network.blocks[2], 8)):  # the second of them halves the map
        x = torch.randn(2, inside, 9, 9, dtype=torch.float64)
        stride = block.first.stride[0]
        y = _normalised(block.first_normalisation, F.conv2d(x, block.first.weight, stride=stride, padding=1)).clamp(
            min=0
        )
        y = _normalised(block.second_normalisation, F.conv2d(y, block.second.weight, padding=1))
        beside = x
        if stride == 2:
            beside = _normalised(
                block.shortcut[1], torch.einsum("oi,bihw->bohw", block.shortcut[0].weight[:, :, 0, 0], x[..., ::2, ::2])
            )
        assert distance(block(x), (y + beside).clamp(min=0)) < 1e-12


@pytest.mark.parametrize("name", ["efficientnet-b0", "efficientnet-b2"])
def test_the_efficientnets_are_geffnets(name: str):
    geffnet = pytest.importorskip("geffnet", reason="geffnet is not installed")
    _agree(make_encoder(name, "paper"), geffnet.create_model(name.replace("-", "_"), in_chans=1, num_classes=256))


def test_squeeze_and_excitation_scales_each_channel_by_what_the_means_say():
    block = made("efficientnet-b0", "quarter").double().blocks[1]
    scaling = next(m for m in block.modules() if type(m).__name__ == "SqueezeExcitation")
    x = np.random.default_rng(0).normal(size=(3, scaling.squeeze.in_channels, 5, 5))
    weights = {key: value.numpy() for key, value in scaling.state_dict().items()}
    inner = x.mean((2, 3)) @ weights["squeeze.weight"][:, :, 0, 0].T + weights["squeeze.bias"]
    inner = inner / (1 + np.exp(-inner))
    gate = 1 / (1 + np.exp(-(inner @ weights["excite.weight"][:, :, 0, 0].T + weights["excite.bias"])))
    np.testing.assert_allclose(scaling(torch.from_numpy(x)).detach().numpy(), x * gate[:, :, None, None], rtol=1e-12)


def _shake_statistics(network) -> None:
    """Give batch normalisation values by which an error in their place is seen."""
    for module in network.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            torch.nn.init.normal_(module.running_mean, std=0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
            torch.nn.init.uniform_(module.weight, 0.5, 2.0)
            torch.nn.init.normal_(module.bias, std=0.1)


def _normalised(layer, x):
    over = (None, slice(None), None, None)
    scale = layer.weight[over] / (layer.running_var[over] + 1e-5).sqrt()
    return (x - layer.running_mean[over]) * scale + layer.bias[over]


def _agree(ours, theirs) -> None:
    """Copy weights in order, and compare features, gradients and what training does to running statistics."""
    assert [v.shape for v in ours.state_dict().values()] == [v.shape for v in theirs.state_dict().values()]
    ours, theirs = ours.double(), theirs.double()
    _shake_statistics(theirs)
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values())))
    batch = images(3, 65, torch.float64)
    assert distance(ours.eval()(batch), theirs.eval()(batch)) < 1e-12
    features = [network.train()(batch) for network in (ours, theirs)]
    assert distance(*features) < 1e-10
    for output in features:
        output.square().mean().backward()
    gradients = [torch.cat([p.grad.flatten() for p in network.parameters()]) for network in (ours, theirs)]
    assert distance(*gradients) < 1e-8
    for mine, their in zip(ours.buffers(), theirs.buffers()):
        assert torch.allclose(mine, their, rtol=1e-10, atol=1e-12)


# The equivariant network


@pytest.mark.parametrize("inside", [None, 2])
def test_dense_kernels_are_those_of_a_loop_over_every_number(inside):
    layer = equivariant.GroupConvolution(inside, fields=3, kernel=5, padding=2)
    weight, side = layer.weight.detach().numpy(), 5
    channels = 1 if inside is None else 4 * inside
    expected = np.empty((12, channels, side, side), np.float32)
    for o, g, c, row, column in itertools.product(range(3), ELEMENTS, range(channels), range(side), range(side)):
        there = (side - 1 - row if g & 2 else row, side - 1 - column if g & 1 else column)
        field, h = divmod(c, 4)
        # The two axes of the group are the bits of the element that leads from the input's channel to the output's.
        place = (0,) if inside is None else (field, (g ^ h) >> 1, (g ^ h) & 1)
        expected[4 * o + g, c, row, column] = weight[(o, *place, *there)]
    np.testing.assert_array_equal(layer.expanded().detach().numpy(), expected)


@pytest.mark.parametrize("element", ELEMENTS)
@pytest.mark.parametrize("side", [16, 17])
@pytest.mark.parametrize("inside", [None, 3])
def test_a_group_convolution_is_equivariant_on_any_map(inside, side: int, element: int):
    layer = equivariant.GroupConvolution(inside, fields=5, kernel=5, padding=1).double()
    x = torch.randn(2, 1 if inside is None else 4 * inside, side, side, dtype=torch.float64)
    before = mirrored(x, element) if inside is None else acted(x, element)
    assert distance(layer(before), acted(layer(x), element)) < 1e-13


def test_a_convolution_of_the_same_shape_that_is_none_of_the_group_is_not_equivariant():
    x, kernels = torch.randn(2, 8, 17, 17), torch.randn(20, 8, 5, 5)
    y = F.conv2d(x, kernels)
    assert all(distance(F.conv2d(acted(x, u), kernels), acted(y, u)) > 0.5 for u in (1, 2, 3))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("element", ELEMENTS)
@pytest.mark.parametrize("is_training", [True, False])
def test_every_layer_and_their_chain_are_equivariant_at_65_pixels(is_training, element, dtype, tolerance):
    network = made("equivariant", "quarter", 65).to(dtype).train(is_training)
    _shake_statistics(network)
    x = images(2, 65, dtype) * network.mask
    ours = mirrored(x, element)
    assert torch.equal(ours, mirrored(images(2, 65, dtype), element) * network.mask)
    is_fields = False
    for layer in itertools.chain.from_iterable(network.blocks):
        alone = layer(acted(x, element) if is_fields else mirrored(x, element))
        x, ours, is_fields = layer(x), layer(ours), True
        assert distance(alone, acted(x, element)) < tolerance, layer
        assert distance(ours, acted(x, element)) < tolerance, layer


@pytest.mark.parametrize("pixels", [65, 149])
@pytest.mark.parametrize("element", ELEMENTS)
def test_from_end_to_end_the_pooled_map_of_a_mirrored_image_is_the_mirrored_map(element: int, pixels: int):
    network, batch = made("equivariant", "tiny", pixels).eval(), images(2, pixels)
    with torch.no_grad():
        assert (
            distance(network.pooled_map(mirrored(batch, element)), mirrored(network.pooled_map(batch), element)) < 1e-5
        )


@pytest.mark.parametrize("pixels", [63, 64, 66, 67, 150, 151])
def test_at_other_sizes_the_pooling_breaks_the_symmetry_by_several_per_cent(pixels: int):
    network, batch = made("equivariant", "tiny", pixels).eval(), images(2, pixels)
    with torch.no_grad():
        y = network.pooled_map(batch)
        errors = [distance(network.pooled_map(mirrored(batch, u)), mirrored(y, u)) for u in (1, 2, 3)]
    assert not architecture.is_equivariant_at(pixels)
    assert all(0.02 < error < 0.6 for error in errors)


def test_sizes_that_keep_the_symmetry_are_one_more_than_a_multiple_of_four():
    assert [p for p in range(60, 80) if architecture.is_equivariant_at(p)] == [61, 65, 69, 73, 77]
    assert architecture.is_equivariant_at(149)


def test_the_features_are_not_invariant_because_the_dense_layers_see_the_map_pixel_by_pixel():
    network, batch = made("equivariant", "tiny", 65).eval(), images(2, 65)
    with torch.no_grad():
        assert distance(network(mirrored(batch, 1)), network(batch)) > 0.01


def test_normalisation_takes_its_statistics_over_the_group_too():
    layer = equivariant.InnerBatchNorm(2).train()
    x = 3 + 2 * torch.randn(5, 8, 7, 7)
    y = layer(x).view(5, 2, 4, 7, 7)
    assert torch.allclose(y.mean((0, 2, 3, 4)), torch.zeros(2), atol=1e-5)
    assert not torch.allclose(y.mean((0, 3, 4)), torch.zeros(2, 4), atol=1e-3)  # each channel alone is not
    variance = x.view(5, 2, 4, 7, 7).transpose(0, 1).flatten(1).var(1)
    assert torch.allclose(layer.running_var, 0.9 + 0.1 * variance, rtol=1e-5)


def test_the_pooling_blurs_by_a_gaussian_and_leaves_a_constant_as_it_is():
    pooling = equivariant.AntialiasedPooling(architecture.Pooling(stride=2, padding=0)).double()
    spike = torch.zeros(1, 1, 9, 9, dtype=torch.float64)
    spike[0, 0, 4, 4] = 1
    y = pooling(spike)[0, 0]
    assert y.shape == (3, 3)
    assert float(y[1, 0] / y[1, 1]) == pytest.approx(np.exp(-(2**2) / (2 * 0.66**2)), rel=1e-6)
    assert torch.allclose(
        pooling(torch.ones(1, 3, 9, 9, dtype=torch.float64)), torch.ones(1, 3, 3, 3, dtype=torch.float64)
    )


@pytest.mark.parametrize("pixels", [64, 65])
def test_the_mask_is_round_and_symmetric_and_one_but_for_the_rim(pixels: int):
    mask = equivariant.round_mask(pixels)
    assert all(torch.equal(mask, mirrored(mask, u)) for u in ELEMENTS)
    assert torch.equal(mask, mask.T)
    centre = (pixels - 1) / 2
    radius = 0.99 * centre
    for row, column in ((0, 0), (0, pixels // 2), (1, pixels // 2), (pixels // 2, pixels // 2), (10, 12), (9, 10)):
        square = (row - centre) ** 2 + (column - centre) ** 2
        expected = 1.0 if square <= radius**2 else np.exp((radius**2 - square) / 4)
        assert float(mask[row, column]) == pytest.approx(expected, rel=1e-4, abs=1e-30)


@pytest.mark.skipif(int(np.__version__.split(".")[0]) > 1, reason="e2cnn does not run with NumPy 2")
def test_with_its_kernels_the_network_is_e2cnns():
    gspaces = pytest.importorskip("e2cnn.gspaces", reason="e2cnn is not installed")
    e2 = pytest.importorskip("e2cnn.nn")
    plane = gspaces.FlipRot2dOnR2(N=2)
    image = before = e2.FieldType(plane, [plane.trivial_repr])
    layers = [e2.MaskModule(image, 65, margin=1)]
    for shape in architecture.group_blocks(1 / 8):
        after = e2.FieldType(plane, shape.fields * [plane.regular_repr])
        layers.append(e2.R2Conv(before, after, kernel_size=shape.kernel, padding=shape.padding, bias=False))
        layers += [e2.InnerBatchNorm(after), e2.ReLU(after)]
        if shape.pooling is not None:
            layers.append(e2.PointwiseAvgPoolAntialiased(after, architecture.BLUR_SIGMA, *shape.pooling))
        before = after
    theirs = e2.SequentialModule(*layers, e2.GroupPooling(before))
    ours = made("equivariant", pixels=65)
    _shake_statistics(theirs)
    convolutions = [m for m in ours.modules() if isinstance(m, equivariant.GroupConvolution)]
    for their, mine in zip((m for m in theirs.modules() if isinstance(m, e2.R2Conv)), convolutions):
        kernels = _in_our_order(their.expand_parameters()[0].detach(), mine)
        mine.weight.data.copy_(kernels.unflatten(0, (-1, 4))[:, 0].view_as(mine.weight))
        assert torch.allclose(mine.expanded(), kernels, atol=1e-6)
    normalisations = [m for m in ours.modules() if isinstance(m, equivariant.InnerBatchNorm)]
    for their, mine in zip((m for m in theirs.modules() if isinstance(m, torch.nn.BatchNorm3d)), normalisations):
        mine.load_state_dict(their.state_dict())
    for is_training in (True, False):
        expected = theirs.train(is_training)(e2.GeometricTensor(images(2, 65), image)).tensor
        assert distance(ours.train(is_training).pooled_map(images(2, 65)), expected) < 1e-5


def _in_our_order(kernels, convolution):
    """Sort the channels of e2cnn's kernels: within a field it has the identity, the rotation and the mirrorings."""
    order = (0, 2, 3, 1)
    kernels = kernels.unflatten(0, (-1, 4))[:, order].flatten(0, 1)
    return kernels if convolution.weight.dim() == 4 else kernels.unflatten(1, (-1, 4))[:, :, order].flatten(1, 2)
