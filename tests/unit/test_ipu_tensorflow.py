"""IPUs through TensorFlow. No test here runs on an IPU: ``tensorflow.python.ipu`` is the stand-in of tests/fakes."""

from __future__ import annotations

import importlib
import sys

import numpy as np
import pytest

from siderostat import devices
from siderostat.devices.base import OutOfCapacity, Unavailable, Unsupported
from siderostat.devices.ipu import hardware, refusals
from siderostat.record import Reason
from siderostat.workloads.base import Feed, Phase, Step

tf = pytest.importorskip("tensorflow")
pytest.importorskip("tensorflow_probability")
keras = pytest.importorskip("siderostat.workloads.galaxy_shape.tensorflow").keras

X = np.random.default_rng(0).normal(size=(32, 4)).astype(np.float32)


@pytest.fixture
def ipu(monkeypatch):
    """The stand-in, in the place of the module that the fork has."""
    module = importlib.import_module("tests.fakes.tensorflow_ipu")
    module.said.clear()
    module.memory_bytes = None
    monkeypatch.setitem(sys.modules, "tensorflow.python.ipu", module)
    monkeypatch.delenv("TF_POPLAR_FLAGS", raising=False)
    return module


class Loss(keras.Model):
    """Batch normalisation and a dense layer, and the mean square of what comes out."""

    def __init__(self):
        super().__init__()
        glorot = keras.initializers.GlorotUniform(seed=1)
        self.network = keras.Sequential(
            [keras.layers.BatchNormalization(), keras.layers.Dense(3, kernel_initializer=glorot)]
        )
        self.network.build((None, 4))

    def call(self, x):
        out = self.network(x, training=True)
        return out, tf.reduce_mean(out**2)


def adam(variables):
    return getattr(keras.optimizers, "legacy", keras.optimizers).Adam(0.01)


def configured(name="ipu"):
    device = devices.load(name)
    device.configure("tensorflow")
    return device


def training(optimizer=adam):
    model = Loss()
    return model, Step("tensorflow", [Phase(model, Feed([X], 8, 0), optimizer)], 8)


def test_the_loop_trains_as_single_steps_on_a_processor_do(ipu):
    device = configured("ipu:iterations=3")
    model, step = training()
    program = device.compile(step, "fp32")
    twin, twin_step = training()
    other = devices.load("cpu").compile(twin_step, "fp32")
    assert [program.run(steps).steps for steps in (0, 1, 4)] == [0, 3, 6]
    other.run(9)  # past the end of the 32 items
    for ours, theirs in zip(program.outputs(), other.outputs()):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    for ours, theirs in zip(model.network.variables, twin.network.variables):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-4, atol=1e-5)
    assert device.effective()["batches_per_call"] == 3
    program.close()


def test_inference_runs_the_same_loop_without_an_update(ipu):
    device = configured("ipu:iterations=2")
    program = device.compile(Step("tensorflow", [Phase(lambda x: x * 2, Feed([X], 8, 0))], 8), "fp32")
    program.run(2)
    feed = Feed([X], 8, 0)
    feed.next()
    np.testing.assert_allclose(program.outputs()[0], feed.next()[0] * 2)
    assert program.infer(lambda x: x + 1, [X])[0].tolist() == (X + 1).tolist()
    program.close()


def test_the_ipu_is_chosen_before_any_model_is_made(ipu):
    device = configured("ipu")
    assert ipu.said == [{"auto_select_ipus": 1, "select_ipus": []}]
    assert ipu._scopes == 1
    device.compile(training()[1], "fp32").close()
    assert ipu._scopes == 0
    configured("ipu:2")._strategy.close()
    assert ipu.said[-1] == {"auto_select_ipus": [], "select_ipus": 2}


def test_the_galaxy_network_trains_as_on_a_processor(ipu):
    networks = importlib.import_module("siderostat.workloads.galaxy_shape.tensorflow")
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(4, 64, 64, 6)).astype(np.float32), rng.normal(size=(4, 3)).astype(np.float32)]

    def step():
        phase = Phase(networks.TrainingNetwork(networks.GalaxyNetwork()), Feed(arrays, 2, 0), networks.adam(1e-3, 1e-7))
        return Step("tensorflow", [phase], 2)

    ours, theirs = configured("ipu:iterations=2").compile(step(), "fp32"), devices.load("cpu").compile(step(), "fp32")
    ours.run(2), theirs.run(2)
    for here, there in zip(ours.outputs(), theirs.outputs()):
        np.testing.assert_allclose(here, there, rtol=2e-3, atol=2e-4)
    ours.close()


def test_what_there_is_only_through_poptorch_is_refused(ipu):
    with pytest.raises(Unsupported, match="replicas, cache: settings of PopTorch"):
        configured("ipu:replicas=2,cache=/tmp/cache")
    device = configured()
    with pytest.raises(Unsupported, match="use fp32"):
        device.compile(training()[1], "fp16")
    device._strategy.close()


def test_the_emulator_is_asked_for_in_both_places_or_in_neither(ipu, monkeypatch):
    with pytest.raises(Unsupported, match="TF_POPLAR_FLAGS=--use_ipu_model"):
        configured("ipu:emulator=yes")
    monkeypatch.setenv("TF_POPLAR_FLAGS", "--use_ipu_model")
    configured("ipu:emulator=yes")._strategy.close()
    with pytest.raises(Unsupported, match="both or neither"):
        configured("ipu")


def test_another_tensorflow_than_graphcores_is_unavailable():
    with pytest.raises(Unavailable, match="not Graphcore's; install the wheel of the Poplar SDK"):
        configured()


def test_graphcores_tensorflow_is_seen_without_importing_it(monkeypatch, tmp_path):
    assert not hardware._has_tensorflow_for_ipus()
    (tmp_path / "tensorflow" / "python" / "ipu").mkdir(parents=True)
    (tmp_path / "tensorflow" / "__init__.py").write_text("raise AssertionError('imported')")
    monkeypatch.delitem(sys.modules, "tensorflow")
    monkeypatch.syspath_prepend(tmp_path)
    assert hardware._has_tensorflow_for_ipus()


def test_poplars_errors_are_told_by_their_text(ipu):
    device = configured()
    program = device.compile(training()[1], "fp32")
    ipu.memory_bytes = 10
    with pytest.raises(tf.errors.InternalError) as caught:
        program.run(1)
    refusal = device.refusal(caught.value)
    assert isinstance(refusal, OutOfCapacity) and refusal.reason is Reason.OOM_DEVICE and refusal.need_bytes > 10
    program.close()
    other = tf.errors.InternalError(None, None, "something else")
    assert refusals.tensorflow(other) is None and refusals.tensorflow(RuntimeError("Out of memory")) is None


def test_operations_that_poplar_lacks_are_unsupported(ipu):
    device = configured()
    model = Phase(lambda x: tf.linalg.svd(x, compute_uv=False), Feed([X], 8, 0))
    program = device.compile(Step("tensorflow", [model], 8), "fp32")
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        program.run(1)
    assert isinstance(device.refusal(caught.value), Unsupported)
    assert "Svd" in str(device.refusal(caught.value))
    program.close()
