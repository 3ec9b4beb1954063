"""PyTorch steps traced without computing: against torch's own counter, by hand, and what must stay as it was."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from siderostat import workloads
from siderostat.devices.base import Unsupported
from siderostat.devices.sim.liveness import alone, fuse, live_bytes
from siderostat.devices.sim.opgraph import OpGraph
from siderostat.devices.sim.trace import cache_key, trace
from siderostat.workloads.base import Feed, Phase, Spec, Step

PRODUCTS = ("conv", "matmul")


class Training(nn.Module):
    """A network whose loss is the mean square of what it makes of its input."""

    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        return (self.layers(x).square().mean(),)


def adam(parameters):
    return torch.optim.Adam(parameters)


def step(model, *shape, optimizer=None, dtype=np.float32):
    arrays = [np.random.default_rng(0).normal(size=shape).astype(dtype)]
    return Step("torch", [Phase(model, Feed(arrays, shape[0], 0), optimizer)], shape[0])


def counted(work):
    """What torch's counter sees when the step really runs, updates aside."""
    with FlopCounterMode(display=False) as counter:
        for phase in work.phases:
            batch = [torch.from_numpy(a) for a in copy.copy(phase.feed).next()]
            with torch.set_grad_enabled(phase.optimizer is not None):
                out = phase.model(*batch)
            if phase.optimizer is not None:
                out[-1].backward()
    return counter.get_total_flops()


def products(graph):
    return sum(op.flops for op in graph.ops if op.kind in PRODUCTS)


def cases():
    for name in ("galaxy-shape", "galaxy-sampler"):
        workload = workloads.load(name)
        yield from ((name, variant, mode) for variant in workload.variants for mode in workload.modes)


@pytest.mark.parametrize(("name", "variant", "mode"), list(cases()))
def test_a_workload_has_the_work_that_torchs_own_counter_sees(name, variant, mode):
    workload = workloads.load(name)
    size = next(iter(workload.variants[variant]))
    work = workload.build(Spec(variant, mode, "torch", 2, size, 0, {"images": 4}))
    graph = trace(work)
    assert products(graph) == counted(work)
    assert graph.items == 2
    assert OpGraph.from_dict(json.loads(json.dumps(graph.to_dict()))) == graph


LAYERS = {
    "strided": lambda: nn.Conv2d(4, 6, 3, stride=2, padding=1),
    "dilated": lambda: nn.Conv2d(4, 6, 3, dilation=2),
    "in one dimension": lambda: nn.Conv1d(4, 6, 5, stride=3),
    "in three dimensions": lambda: nn.Conv3d(4, 6, (3, 2, 1), padding=1),
    "transposed": lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, output_padding=1),
    "transposed in three dimensions": lambda: nn.ConvTranspose3d(4, 6, 2, stride=2),
    "dense": lambda: nn.Linear(8, 5),
    "attention": lambda: nn.MultiheadAttention(8, 2, batch_first=True),
}
SHAPES = {
    "in one dimension": (2, 4, 17),
    "in three dimensions": (2, 4, 5, 6, 7),
    "transposed in three dimensions": (2, 4, 3, 4, 5),
    "attention": (2, 5, 8),
}


class First(nn.Module):
    """A layer, called with its input as often as it has arguments, of whose results the first counts."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        out = self.layer(x, x, x) if isinstance(self.layer, nn.MultiheadAttention) else self.layer(x)
        return out if isinstance(out, torch.Tensor) else out[0]


@pytest.mark.parametrize("mode", ["train", "infer"])
@pytest.mark.parametrize("kind", LAYERS)
def test_a_layer_has_the_work_that_torchs_own_counter_sees(kind, mode):
    torch.manual_seed(0)
    model = Training(First(LAYERS[kind]()), nn.Tanh(), First(nn.Identity()))
    work = step(model, *SHAPES.get(kind, (2, 4, 8, 8)), optimizer=adam if mode == "train" else None)
    assert products(trace(work)) == counted(work) > 0


def test_the_kernels_gradient_of_a_grouped_convolution_multiplies_as_often_as_its_forward_pass():
    """torch's counter says as often as without groups."""
    work = step(Training(nn.Conv2d(8, 12, 3, groups=4)), 2, 8, 9, 9, optimizer=adam)
    graph = trace(work)
    forward = 2 * (2 * 12 * 7 * 7) * (2 * 3 * 3)
    assert {op.name: op.flops for op in graph.ops if op.kind == "conv"} == {
        "convolution": forward,
        "convolution_wgrad": forward,
    }
    assert counted(work) == forward + 4 * forward
    inference = step(nn.Conv2d(8, 12, 3, groups=4), 2, 8, 9, 9)
    assert products(trace(inference)) == counted(inference) == forward


def test_a_recurrent_layer_is_seen_product_by_product():
    """On a processor torch runs it as one operation, in which its counter sees nothing."""
    work = step(Training(First(nn.LSTM(8, 3, batch_first=True))), 2, 5, 8)
    assert products(trace(work)) == 5 * (2 * 2 * (8 + 3) * 4 * 3)
    assert counted(work) == 0


def test_a_convolution_says_what_a_chip_model_needs():
    graph = trace(step(Training(nn.Conv2d(4, 6, 3, stride=2)), 5, 4, 9, 11, optimizer=adam))
    forward, gradient = (op for op in graph.ops if op.kind == "conv")
    expected = {
        "pass": "fwd", "batch": 5, "in_channels": 4, "out_channels": 6, "groups": 1, "kernel": (3, 3), "stride": (2, 2),
        "in_size": (9, 11), "out_size": (4, 5), "transposed": False,
    }  # fmt: skip
    assert dict(forward.attributes) == expected
    assert dict(gradient.attributes) == {**expected, "pass": "wgrad"}  # nobody needs the gradient of the input
    assert (forward.stage, gradient.stage) == ("forward", "backward")


def test_bytes_are_those_of_tensors_and_repeated_elements_are_read_once():
    graph = trace(step(nn.Linear(8, 5), 3, 8))
    (product,) = graph.ops
    assert (product.kind, product.bytes_read, product.bytes_written) == ("matmul", 4 * (3 * 8 + 8 * 5 + 5), 4 * 3 * 5)
    assert (graph.parameters, graph.parameter_bytes, graph.input_bytes) == (45, 180, 96)

    class Repeats(nn.Module):
        def forward(self, x):
            return x[:, :1].expand(-1, 1000) * 2, x * x

    repeated, square = trace(step(Repeats(), 3, 8)).ops
    assert (repeated.bytes_read, repeated.bytes_written, repeated.flops) == (4 * 3, 4 * 3000, 3000)
    assert square.bytes_read == 4 * 24


def test_views_are_no_operations_and_share_their_storage():
    class Views(nn.Module):
        def forward(self, x):
            y = x + 1
            y.view(-1)[:4].mul_(2)
            return y.t()

    add, multiply = trace(step(Views(), 4, 4)).ops
    assert (multiply.name, multiply.flops) == ("mul_", 4)
    assert multiply.inputs[0].id == multiply.outputs[0].id == add.outputs[0].id


def test_a_model_and_random_numbers_are_left_as_they_were():
    torch.manual_seed(1)
    model = Training(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.Flatten(), nn.LazyLinear(3))
    work = step(model, 2, 4, 6, 6, optimizer=adam)
    model(torch.from_numpy(copy.copy(work.phases[0].feed).next()[0]))  # a lazy layer learns its shape
    tensors = {name: (t, t.clone()) for name, t in model.state_dict(keep_vars=True).items()}
    random, batch = torch.get_rng_state(), copy.copy(work.phases[0].feed).next()[0]
    trace(work)
    after = model.state_dict(keep_vars=True)
    assert list(after) == list(tensors)
    for name, (tensor, value) in tensors.items():
        assert after[name] is tensor
        assert torch.equal(tensor, value)
        assert tensor.grad is None
    assert torch.equal(torch.get_rng_state(), random)
    assert np.array_equal(work.phases[0].feed.next()[0], batch)


def test_a_model_is_left_as_it_was_when_it_cannot_be_traced():
    class Branches(nn.Linear):
        def forward(self, input):
            return super().forward(input) if input.sum() > 0 else input

    model = Branches(4, 4)
    weight = model.weight
    with pytest.raises(Unsupported, match="depends on values"):
        trace(step(model, 2, 4))
    assert model.weight is weight
    assert model(torch.ones(1, 4)).shape == (1, 4)


@pytest.mark.parametrize(
    "take",
    [
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: x * x.numpy().max(),
        lambda x: x * x.max().item(),
        torch.unique,
    ],
    ids=["mask", "nonzero", "numpy", "item", "unique"],
)
def test_what_depends_on_values_is_refused(take):
    class Takes(nn.Module):
        def forward(self, x):
            return take(x)

    with pytest.raises(Unsupported, match="cannot be traced"):
        trace(step(Takes(), 2, 4))


def test_errors_of_the_model_itself_are_not_disguised():
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied|size mismatch|reduction dim"):
        trace(step(nn.Linear(3, 2), 2, 4))


@pytest.mark.parametrize(
    ("optimizer", "state"),
    [
        (adam, 2),
        (lambda p: torch.optim.AdamW(p, foreach=True), 2),
        (lambda p: torch.optim.SGD(p, 0.1), 0),
        (lambda p: torch.optim.SGD(p, 0.1, momentum=0.9), 1),
        (lambda p: torch.optim.RMSprop(p), 1),
    ],
    ids=["Adam", "AdamW", "SGD", "momentum", "RMSprop"],
)
def test_an_update_is_one_operation_for_each_parameter(optimizer, state):
    graph = trace(step(Training(nn.Linear(8, 5), nn.ReLU(), nn.Linear(5, 2)), 3, 8, optimizer=optimizer))
    updates = [op for op in graph.ops if op.kind == "optimizer"]
    assert [op.outputs[0].shape for op in updates] == [(5, 8), (5,), (2, 5), (2,)]
    assert graph.ops[-4:] == updates
    for op in updates:
        assert op.attributes["state"] == state
        each = op.flops / op.outputs[0].numel
        assert 0 <= each - op.attributes["operations"] <= 2  # addcmul and addcdiv count twice
        assert (len(op.inputs), len(op.outputs)) == (2 + state, 1 + state)
    assert graph.state_bytes == state * graph.parameter_bytes


def test_clipping_is_written_down_before_the_update():
    def clipped(parameters):
        held = list(parameters)
        optimizer = torch.optim.SGD(held, 0.1)

        def clip(*_):
            nn.utils.clip_grad_norm_(held, 1.0)

        optimizer.register_step_pre_hook(clip)
        return optimizer

    update = [op for op in trace(step(Training(nn.Linear(8, 5)), 3, 8, optimizer=clipped)).ops if op.stage == "update"]
    assert [op.kind for op in update[-2:]] == ["optimizer", "optimizer"]
    assert [op.kind for op in update].count("reduce") == 3  # a norm for each gradient, and that of these
    assert sum(op.name == "mul_" for op in update) == 2


def test_an_optimiser_that_looks_at_values_is_taken_by_its_name_or_refused():
    class Adam(torch.optim.Optimizer):
        def __init__(self, parameters):
            super().__init__(parameters, {})

        def step(self, closure=None):
            for group in self.param_groups:
                assert all(p.grad.norm().item() < 1e9 for p in group["params"])

    graph = trace(step(Training(nn.Linear(8, 5)), 3, 8, optimizer=Adam))
    assert [(op.kind, op.attributes["state"]) for op in graph.ops if op.stage == "update"] == [("optimizer", 2)] * 2
    assert graph.state_bytes == 2 * graph.parameter_bytes
    unknown = type("Mine", (Adam,), {})
    with pytest.raises(Unsupported, match="Mine cannot be traced"):
        trace(step(Training(nn.Linear(8, 5)), 3, 8, optimizer=unknown))


def test_phases_share_what_they_share():
    first, second = nn.Linear(8, 8), nn.Linear(8, 8)
    feed = Feed([np.zeros((4, 8), np.float32)], 4, 0)
    both = Training(first, second)

    class Frozen(nn.Module):
        def __init__(self):
            super().__init__()
            self.own = nn.Linear(8, 1)
            self._encode = (first,)

        def forward(self, x):
            with torch.no_grad():
                x = self._encode[0](x)
            return (self.own(x).mean(),)

    graph = trace(Step("torch", [Phase(both, feed, adam), Phase(Frozen(), feed, adam)], 4))
    assert graph.parameters == 72 + 72 + 9
    assert graph.input_bytes == 2 * 4 * 8 * 4
    read = [
        {t.id for op in graph.ops if op.name == "addmm" and op.phase == phase for t in op.inputs} for phase in (0, 1)
    ]
    assert len(read[0] & read[1] & graph.resident) == 2  # weight and bias of the layer that both use


def test_tensors_that_are_no_parameters_count_as_held():
    class Holds(nn.Module):
        def __init__(self):
            super().__init__()
            self.pieces = [torch.ones(8, 3), torch.ones(3, 2)]

        def forward(self, x):
            for piece in self.pieces:
                x = x @ piece
            return x

    graph = trace(step(Holds(), 5, 8))
    assert graph.parameter_bytes == 4 * (24 + 6)
    assert all(op.inputs[1].id in graph.resident for op in graph.ops)


def test_saved_bytes_are_what_autograd_keeps():
    class Powers(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, x):
            return ((x * self.scale).exp().sum(),)

    graph = trace(step(Powers(), 10, 10, optimizer=adam))
    assert graph.saved_bytes == 2 * 400  # the input and the exponential


def test_norms_pools_and_reductions_count_as_documented():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm2d(4)

        def forward(self, x):
            x = F.max_pool2d(self.norm(x), 2)
            return F.softmax(x.flatten(1), 1), F.avg_pool2d(x, 3), x.sum()

    elements, pooled = 2 * 4 * 64, 2 * 4 * 16
    found = {op.name: op for op in trace(step(Mixed().eval(), 2, 4, 8, 8)).ops}
    assert found["native_batch_norm"].flops == 4 * elements
    assert found["native_batch_norm"].attributes["statistics"] == "given"
    assert found["max_pool2d_with_indices"].flops == pooled * 4
    assert found["_softmax"].flops == 5 * pooled
    assert found["avg_pool2d"].flops == 2 * 4 * 9
    assert found["sum"].flops == pooled
    trained = {op.name: op for op in trace(step(Mixed(), 2, 4, 8, 8)).ops}
    assert trained["native_batch_norm"].flops == 8 * elements


def test_linear_algebra_and_fourier_transforms_count_as_documented():
    class Algebra(nn.Module):
        def forward(self, x):
            symmetric = x @ x.transpose(-1, -2)
            return torch.linalg.cholesky(symmetric), torch.linalg.svd(x), torch.fft.fft2(x)

    found = {op.name: op.flops for op in trace(step(Algebra(), 3, 8, 8)).ops}
    assert found["linalg_cholesky_ex"] == pytest.approx(3 * 8**3 / 3)
    assert found["_linalg_svd"] == 3 * 22 * 8**3
    assert sum(found.get(n, 0) for n in ("_fft_c2c", "_fft_r2c")) in (2.5 * 3 * 64 * 6, 5 * 3 * 64 * 6)


class Chain(nn.Module):
    """A product, four element-wise operations of which the last is returned, and one that comes back to the product."""

    def forward(self, x):
        product = x @ x
        return (product.exp() + 1).sin() * product, product.sum()


def test_chains_of_element_wise_operations_are_joined_and_what_they_pass_on_is_never_there():
    graph = trace(step(Chain(), 10, 10))
    groups = fuse(graph)
    assert [[op.name for op in group.ops] for group in groups] == [["mm"], ["exp", "add", "sin", "mul"], ["sum"]]
    chain = groups[1]
    assert (chain.bytes_read, chain.bytes_written, chain.flops) == (400, 400, 400)
    assert [group.ops for group in alone(graph)] == [(op,) for op in graph.ops]
    assert live_bytes(graph, fused=False) == 3 * 400  # the product and what an operation reads and writes
    assert live_bytes(graph) == 2 * 400 + 4  # the product, what is returned, and the sum


def test_a_chain_does_not_wait_beyond_who_needs_it():
    class Needed(nn.Module):
        def forward(self, x):
            y = x.exp()
            total = y.sum()
            return y * 2, total

    groups = fuse(trace(step(Needed(), 4, 4)))
    assert [[op.name for op in group.ops] for group in groups] == [["exp"], ["sum"], ["mul"]]


def test_a_chain_does_not_wait_until_what_it_reads_is_overwritten():
    class Overwritten(nn.Module):
        def forward(self, x):
            buffer = x @ x
            y = buffer.exp()
            buffer.zero_()
            return y + 1, buffer

    groups = fuse(trace(step(Overwritten(), 4, 4)))
    assert [[op.name for op in group.ops] for group in groups] == [["mm"], ["exp"], ["zero_"], ["add"]]


def test_a_cache_key_stands_for_all_that_a_trace_depends_on():
    spec = Spec("dnn", "train", "torch", 8, "paper", 0, {"clip": 0.0})
    key = cache_key("galaxy-shape", spec, {"torch": "2.0"})
    assert key == cache_key(
        "galaxy-shape", Spec("dnn", "train", "torch", 8, "paper", 5, {"clip": 0.0}), {"torch": "2.0"}
    )
    others = [
        cache_key("galaxy-shape", Spec("dnn", "train", "torch", 4, "paper", 0, {"clip": 0.0}), {"torch": "2.0"}),
        cache_key("galaxy-shape", Spec("dnn", "train", "torch", 8, "paper", 0, {"clip": 1.0}), {"torch": "2.0"}),
        cache_key("galaxy-shape", spec, {"torch": "2.1"}),
        cache_key("galaxy-sampler", spec, {"torch": "2.0"}),
    ]
    assert len({key, *others}) == 5


def test_other_frameworks_are_refused():
    with pytest.raises(Unsupported, match="a step of numpy cannot be traced"):
        trace(Step("numpy", [], 1))


class Products(nn.Module):
    """Products and a sum of products, of real or of complex numbers."""

    def forward(self, x):
        z = torch.complex(x, x)
        return x @ x, z @ z, torch.addcmul(x, x, x)


def test_a_multiply_add_counts_twice_and_of_complex_matrices_eight_times():
    x = np.ones((1, 5, 5), np.float32)
    graph = trace(Step("torch", (Phase(Products(), Feed((x,), 1, 0)),), 1))
    assert [op.flops for op in graph.ops if op.kind == "matmul"] == [2 * 125, 8 * 125]
    assert [op.flops for op in graph.ops if op.name == "addcmul"] == [2 * 25]
