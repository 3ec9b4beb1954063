"""The host's processor as a device, with TensorFlow: graphs, threads, memory, and workers that run it."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from siderostat import devices
from siderostat.child import Lost
from siderostat.record import Attempt, Protocol, Reason, Status
from siderostat.workloads.base import Feed, Phase, Step
from siderostat.workshop import Workshop
from tests.records import cell

tf = pytest.importorskip("tensorflow")
pytest.importorskip("tensorflow_probability")
programs = pytest.importorskip("siderostat.devices.cpu.tensorflow")
keras = pytest.importorskip("siderostat.workloads.galaxy_shape.tensorflow").keras

X = np.random.default_rng(0).normal(size=(32, 4)).astype(np.float32)


class Loss(keras.Model):
    """Batch normalisation and a dense layer, and the mean square of what comes out."""

    def __init__(self):
        super().__init__()
        self.network = keras.Sequential(
            [
                keras.layers.BatchNormalization(),
                keras.layers.Dense(3, kernel_initializer=keras.initializers.GlorotUniform(seed=1)),
            ]
        )
        self.network.build((None, 4))

    def call(self, x):
        out = self.network(x, training=True)
        return out, tf.reduce_mean(out**2)


def training_program():
    model = Loss()
    phase = Phase(model, Feed([X], 8, 0), lambda variables: keras.optimizers.SGD(0.1))
    return model.network, devices.load("cpu").compile(Step("tensorflow", [phase], 8), "fp32")


def weights(network):
    return [v.numpy().copy() for v in network.variables]


def test_a_training_step_is_that_of_gradient_descent():
    network, program = training_program()
    kernel = network.layers[1].kernel.numpy().copy()
    batch = Feed([X], 8, 0).next()[0].astype(np.float64)
    assert program.run(1).steps == 1
    normal = (batch - batch.mean(0)) / np.sqrt(batch.var(0) + 1e-3)
    out = normal @ kernel
    np.testing.assert_allclose(program.outputs()[0], out, rtol=1e-4, atol=1e-5)
    slope = normal.T @ (2 * out / out.size)
    np.testing.assert_allclose(network.layers[1].kernel.numpy(), kernel - 0.1 * slope, rtol=1e-4, atol=1e-6)


def test_python_runs_once_and_the_graph_ever_after():
    traced = []

    def model(x):
        traced.append(x.shape.as_list())
        return x * 2

    program = devices.load("cpu").compile(Step("tensorflow", [Phase(model, Feed([X], 8, 0))], 8), "fp32")
    program.run(3)
    assert traced == [[8, 4]]


def test_compiling_takes_no_batch_away():
    program = devices.load("cpu").compile(Step("tensorflow", [Phase(lambda x: x, Feed([X], 8, 0))], 8), "fp32")
    program.run(1)
    assert np.array_equal(program.outputs()[0], Feed([X], 8, 0).next()[0])


class Late:
    """An output that is there a while after the function has returned."""

    def __array__(self, dtype=None, copy=None):
        time.sleep(0.05)
        return np.zeros(1)


@pytest.mark.parametrize("output", [Late(), (np.zeros(1), Late())])
def test_the_window_ends_when_the_newest_output_is_there(output):
    program = object.__new__(programs.TensorFlowProgram)
    super(programs.TensorFlowProgram, program).__init__([lambda: output])
    assert program.run(0).seconds < 0.05
    assert program.run(3).seconds >= 0.05


def test_inference_leaves_training_as_it_was():
    network, program = training_program()
    asked_network, asked = training_program()
    for _ in range(3):
        program.run(1)
        asked.run(1)
        before = weights(asked_network)
        outputs = asked.infer(asked_network, [X])
        assert all(np.array_equal(a, b) for a, b in zip(before, weights(asked_network)))
    assert all(np.array_equal(a, b) for a, b in zip(weights(network), weights(asked_network)))
    scale, shift, mean, variance = (v.numpy() for v in network.layers[0].variables)
    expected = ((X - mean) / np.sqrt(variance + 1e-3) * scale + shift) @ network.layers[1].kernel.numpy()
    np.testing.assert_allclose(outputs[0], expected + network.layers[1].bias.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("words", "need_bytes"),
    [
        ("OOM when allocating tensor with shape[6,1000,32] and type float on /job:localhost", 6 * 1000 * 32 * 4),
        ("OOM when allocating tensor with shape[] and type double on /job:localhost", 8),
        ("Out of memory while trying to allocate", None),
    ],
)
def test_out_of_memory_is_out_of_capacity(words, need_bytes):
    refusal = devices.load("cpu").refusal(tf.errors.ResourceExhaustedError(None, None, words))
    assert (refusal.status, refusal.reason) == (Status.CAPACITY, Reason.OOM_HOST)
    assert refusal.need_bytes == need_bytes


def test_other_errors_are_no_refusal():
    assert devices.load("cpu").refusal(tf.errors.InvalidArgumentError(None, None, "shapes")) is None


CONFIGURES = """
import os, tensorflow as tf, tensorflow_probability
from siderostat import devices
device = devices.load("cpu:threads=3")
if os.fork() == 0:  # as a worker of the fork server
    device.configure("tensorflow")
    before = len(os.listdir("/proc/self/task"))
    tf.matmul(tf.ones((256, 256)), tf.ones((256, 256))).numpy()
    print(before, device.effective()["threads"], device.effective()["inter_op_threads"], flush=True)
    try:
        devices.load("cpu:threads=2").configure("tensorflow")
    except RuntimeError:
        print("too late", device.effective()["threads"], flush=True)
    os._exit(0)
assert os.wait()[1] == 0
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_threads_are_set_before_the_first_operation_also_after_a_fork():
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    out = subprocess.check_output([sys.executable, "-c", CONFIGURES], text=True, env=environment)
    assert out.splitlines() == ["1 3 1", "too late 3"]


WORKLOAD = """
import sys, numpy as np
from siderostat.workloads.base import Feed, Phase, Size, Step, Workload

class Doubles(Workload):
    title, item, modes, frameworks, batches = "doubles", "thing", ("infer",), ("tensorflow",), (1,)
    variants = {"fits": {"small": Size(0, 0)}, "huge": {"small": Size(0, 0)}}

    def build(self, spec):
        import tensorflow as tf
        side = 1 << 16 if spec.variant == "huge" else 64
        self.keras = 2 if tf.keras.__name__.startswith("tf_keras") and "keras" not in sys.modules else 3
        def model(x):
            return tf.reduce_sum(tf.random.uniform((side, side)) * 0 + 2 * x),
        return Step("tensorflow", [Phase(model, Feed([np.ones(4, np.float32)], 1, 0))], 1)

    def check(self, spec, outputs):
        return {"sum": float(outputs[0]), "keras": float(self.keras)}
"""


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workshop")
    (folder / "doubles.py").write_text(WORKLOAD)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("TF_USE_LEGACY_KERAS", raising=False)
        with Workshop(folder, {}) as made:
            yield made, f"{folder / 'doubles.py'}:Doubles"


def prepare(workshop, start, variant):
    made, name = workshop
    protocol = Protocol(memory_bytes=4 << 30, warmup_s=0.01, warmup_steps=1, warmup_limit_s=1.0)
    case = cell(
        workload=name, variant=variant, mode="infer", framework="tensorflow", device="cpu:threads=2", batch=1,
        size="small", options={},
    )  # fmt: skip
    attempt = Attempt(case, 0, 0, start=start, protocol=protocol)
    child = made.start(attempt)
    try:
        request = {"do": "prepare", "attempt": json.loads(json.dumps(dataclasses.asdict(attempt)))}
        return child.ask(request, 100)
    finally:
        child.end()


@pytest.mark.parametrize("start", ["warm", "cold"])
def test_a_worker_runs_under_its_memory_limit_with_its_threads_and_keras_2(workshop, start):
    answer = prepare(workshop, start, "fits")
    assert answer["check"] == {"sum": 2 * 64 * 64, "keras": 2}
    assert (answer["effective"]["threads"], answer["effective"]["inter_op_threads"]) == (2, 1)
    assert isinstance(answer["effective"]["onednn"], bool)
    assert answer["effective"]["xla"] is False


def test_a_step_that_needs_more_than_the_worker_may_have_is_out_of_capacity(workshop):
    with pytest.raises(Lost) as lost:
        prepare(workshop, "warm", "huge")
    assert (lost.value.status, lost.value.reason) == (Status.CAPACITY, Reason.OOM_HOST)
    assert lost.value.need_bytes == 4 << 32
