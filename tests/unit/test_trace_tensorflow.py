"""TensorFlow steps traced through their graphs: against PyTorch's, and what graphs have besides."""

from __future__ import annotations

import os

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")  # as workers have it

import numpy as np
import pytest

from siderostat import workloads
from siderostat.devices.base import Unsupported
from siderostat.devices.sim.liveness import fuse, live_bytes
from siderostat.devices.sim.trace import trace
from siderostat.workloads.base import Feed, Phase, Spec, Step

tf = pytest.importorskip("tensorflow")
keras = pytest.importorskip("tf_keras")


class Calls(tf.Module):
    """A function as a model."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.weight = tf.Variable(tf.ones((4, 4)))

    def __call__(self, x):
        return self.function(x, self.weight)


def step(model, *shape, optimizer=None):
    arrays = [np.random.default_rng(0).normal(size=shape).astype(np.float32)]
    return Step("tensorflow", [Phase(model, Feed(arrays, shape[0], 0), optimizer)], shape[0])


def galaxy_shape(framework, mode, variant="dnn"):
    return trace(workloads.load("galaxy-shape").build(Spec(variant, mode, framework, 2, "paper", 0, {"images": 4})))


def work(graph, kind, stage=None):
    return sum(op.flops for op in graph.ops if op.kind == kind and stage in (None, op.stage))


@pytest.fixture(scope="module", params=["train", "infer"])
def galaxies(request):
    return galaxy_shape("tensorflow", request.param), galaxy_shape("torch", request.param)


def test_a_network_has_the_same_work_in_both_frameworks(galaxies):
    ours, theirs = galaxies
    for stage in ("forward", "backward"):
        assert work(ours, "conv", stage) == work(theirs, "conv", stage)
    dense = [sum(op.flops for op in graph.ops if op.name in ("MatMul", "addmm", "mm")) for graph in galaxies]
    assert dense[0] == dense[1]
    assert ours.flops == pytest.approx(theirs.flops, rel=0.01)
    assert ours.input_bytes == theirs.input_bytes
    assert ours.parameters == pytest.approx(theirs.parameters, rel=1e-3)
    assert ours.state_bytes == pytest.approx(theirs.state_bytes, rel=1e-3)
    assert ours.saved_bytes == pytest.approx(theirs.saved_bytes, rel=0.2)  # Keras keeps slopes with the sign changed
    assert live_bytes(ours, fused=False) == pytest.approx(live_bytes(theirs, fused=False), rel=0.2)


def test_convolutions_say_the_same_in_both_frameworks(galaxies):
    def described(graph):
        names = ("pass", "batch", "in_channels", "out_channels", "groups", "kernel", "stride", "out_size", "transposed")
        return sorted(str([op.attributes[name] for name in names]) for op in graph.ops if op.kind == "conv")

    ours, theirs = map(described, galaxies)
    assert ours == theirs


def test_passes_are_told_apart_and_an_update_is_one_operation_for_each_variable():
    graph = galaxy_shape("tensorflow", "train")
    assert [op.stage for op in graph.ops] == sorted(
        (op.stage for op in graph.ops), key=["forward", "backward", "update"].index
    )
    updates = [op for op in graph.ops if op.kind == "optimizer"]
    assert len(updates) == 28
    for op in updates:
        assert op.attributes["state"] == 2
        assert [t.shape for t in op.outputs] == [op.outputs[0].shape] * 3
        assert sum(t.shape == op.outputs[0].shape for t in op.inputs) == 4
    assert sum(len(group.ops) for group in fuse(graph)) == len(graph.ops)


def test_an_optimiser_of_many_small_operations_is_put_together():
    class Training(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(3)
            self.build((None, 4))

        def call(self, x):
            return (tf.reduce_mean(self.dense(x) ** 2),)

    graph = trace(step(Training(), 5, 4, optimizer=lambda variables: keras.optimizers.Adam(1e-3)))
    updates = [op for op in graph.ops if op.kind == "optimizer"]
    assert sorted(op.outputs[-1].shape for op in updates) == [(3,), (4, 3)]
    for op in updates:
        assert op.attributes["state"] == 2
        assert len(op.outputs) == 3
        assert op.flops == op.attributes["operations"] * op.outputs[-1].numel


def test_the_transposed_convolution_of_a_forward_pass_is_called_that():
    layer = keras.layers.Conv2DTranspose(6, 3, strides=2, padding="same")
    layer.build((None, 5, 5, 4))
    (op,) = (o for o in trace(step(layer, 2, 5, 5, 4)).ops if o.kind == "conv")
    assert (op.attributes["pass"], op.attributes["transposed"]) == ("fwd", True)
    assert (op.attributes["in_channels"], op.attributes["out_channels"]) == (4, 6)
    assert (op.attributes["in_size"], op.attributes["out_size"]) == ((5, 5), (10, 10))
    assert op.flops == 2 * (2 * 5 * 5 * 4) * (3 * 3 * 6)


def test_a_three_dimensional_convolution_is_counted():
    layer = keras.layers.Conv3D(6, (3, 2, 1))
    layer.build((None, 5, 5, 5, 4))
    (op,) = (o for o in trace(step(layer, 2, 5, 5, 5, 4)).ops if o.kind == "conv")
    assert op.flops == 2 * (2 * 3 * 4 * 5 * 6) * (3 * 2 * 4)


def test_functions_that_are_called_are_walked():
    inner = tf.function(lambda x, weight: tf.matmul(x, weight))
    graph = trace(step(Calls(lambda x, weight: inner(inner(x, weight), weight)), 3, 4))
    assert [op.name for op in graph.ops] == ["MatMul", "MatMul"]
    assert graph.flops == 2 * (2 * 3 * 4 * 4)
    assert len({op.inputs[1].id for op in graph.ops} & graph.resident) == 1


def test_a_loop_counts_as_often_as_it_turns():
    def turn(x, weight):
        return tf.while_loop(lambda i, a: i < 7, lambda i, a: (i + 2, tf.matmul(a, weight)), (0, x))[1]

    graph = trace(step(Calls(turn), 3, 4))
    assert [op.name for op in graph.ops if op.kind == "matmul"] == ["MatMul"] * 4
    before, after = graph.ops[0], graph.ops[1]
    assert before.outputs[0].id == after.inputs[0].id


def test_the_backward_pass_of_a_loop_turns_as_often():
    class Training(Calls):
        def __call__(self, x):
            turns = tf.while_loop(lambda i, a: i < 3, lambda i, a: (i + 1, tf.matmul(a, self.weight)), (0, x))
            return (tf.reduce_sum(turns[1]),)

    graph = trace(step(Training(None), 3, 4, optimizer=lambda variables: keras.optimizers.legacy.SGD(0.1)))
    assert sum(op.kind == "matmul" and op.stage == "forward" for op in graph.ops) == 3
    assert sum(op.kind == "matmul" and op.stage == "backward" for op in graph.ops) == 3 + 2  # nobody needs the input's


def test_how_often_a_loop_turns_may_not_depend_on_values():
    def turn(x, weight):
        return tf.while_loop(lambda a: tf.reduce_sum(a) < 7.0, lambda a: (tf.matmul(a, weight),), (x,))[0]

    with pytest.raises(Unsupported, match="how often its loop .* turns depends on values"):
        trace(step(Calls(turn), 3, 4))


def test_which_branch_is_taken_may_not_depend_on_values():
    def branch(x, weight):
        return tf.cond(tf.reduce_sum(x) > 0.0, lambda: tf.matmul(x, weight), lambda: x)

    with pytest.raises(Unsupported, match="which branch .* depends on values"):
        trace(step(Calls(branch), 3, 4))


def test_shapes_may_not_depend_on_values():
    with pytest.raises(Unsupported, match="depends on values|not known before it runs"):
        trace(step(Calls(lambda x, weight: tf.boolean_mask(x, x[:, 0] > 0)), 3, 4))


def test_what_nobody_needs_is_left_out():
    def wasteful(x, weight):
        tf.matmul(x, weight)
        return tf.exp(x)

    assert [op.name for op in trace(step(Calls(wasteful), 3, 4)).ops] == ["Exp"]


def test_a_models_variables_are_left_as_they_were():
    model = Calls(lambda x, weight: (tf.reduce_sum(tf.matmul(x, weight)),))
    trace(step(model, 3, 4, optimizer=lambda variables: keras.optimizers.legacy.Adam(0.1)))
    assert np.array_equal(model.weight.numpy(), np.ones((4, 4)))
