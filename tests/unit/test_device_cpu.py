"""The host's processor as a device, with NumPy and with PyTorch."""

from __future__ import annotations

import numpy as np
import pytest

from siderostat import devices
from siderostat.devices.base import Program, Unsupported, Window
from siderostat.devices.cpu.loop import Loop
from siderostat.record import Reason
from siderostat.workloads.base import Feed, Phase, Step


def numpy_step(model):
    return Step("numpy", [Phase(model, Feed([np.arange(12.0)], 4, 0))], 4)


@pytest.mark.parametrize("threads", ["0", "-1", "two", "1.5", ""])
def test_a_number_of_threads_that_cannot_be_is_refused(threads):
    with pytest.raises(ValueError, match="threads is a whole number of at least 1"):
        devices.load(f"cpu:threads={threads}")


def test_other_precisions_and_frameworks_are_refused():
    device = devices.load("cpu")
    with pytest.raises(Unsupported, match="use fp32"):
        device.compile(numpy_step(len), "bf16")
    with pytest.raises(Unsupported, match="framework 'jax'"):
        device.compile(Step("jax", [], 1), "fp32")


def test_numpy_steps_run_in_order_and_have_no_settings():
    device = devices.load("cpu")
    device.configure("numpy")
    program = device.compile(numpy_step(lambda x: (x, x.sum())), "fp32")
    assert program.run(3).steps == 3
    batch, total = program.outputs()
    assert total == batch.sum()
    assert device.effective() == {}


def test_numpy_inference_takes_what_it_is_given():
    program = devices.load("cpu").compile(numpy_step(lambda x: x), "fp32")
    assert [a.tolist() for a in program.infer(lambda x, y: (x + y, x), [np.ones(2), np.ones(2)])] == [[2, 2], [1, 1]]


def test_a_program_that_waits_does_so_inside_its_clock(monkeypatch):
    clock = iter(range(0, 10**9, 10**6))
    monkeypatch.setattr("siderostat.devices.cpu.loop.time.perf_counter_ns", lambda: next(clock))

    class Waits(Loop):
        def _wait(self, last):
            self.waited_for = last
            for _ in range(500):
                next(clock)

    program = Waits([lambda: "newest"])
    assert program.run(2).seconds == pytest.approx(0.501)
    assert program.waited_for == "newest"


def test_out_of_memory_is_told_from_other_errors():
    device = devices.load("cpu")
    torch_words = (
        "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 4096 bytes. Error 12"
    )
    refusal = device.refusal(RuntimeError(torch_words))
    assert (refusal.reason, refusal.need_bytes) == (Reason.OOM_HOST, 4096)
    assert device.refusal(MemoryError()).reason is Reason.OOM_HOST
    assert device.refusal(RuntimeError("shapes do not match")) is None

    class ResourceExhaustedError(Exception):
        """Of somebody else."""

    assert device.refusal(ResourceExhaustedError("quota")) is None


def test_a_device_need_not_be_able_to_infer():
    class Least(Program):
        def run(self, steps):
            return Window(steps, 0.0, 0.0)

        def outputs(self):
            return []

    with pytest.raises(Unsupported, match="inference"):
        Least().infer(None, [])


def test_the_mock_device_infers_with_numpy_only():
    mock = devices.load("mock")
    program = mock.compile(numpy_step(len), "fp32")
    assert program.infer(lambda x: 2 * x, [np.ones(2)])[0].tolist() == [2, 2]
    with pytest.raises(Unsupported):
        mock.compile(Step("torch", [], 1), "fp32").infer(None, [])


@pytest.fixture
def torch():
    module = pytest.importorskip("torch")
    threads = module.get_num_threads()
    yield module
    module.set_num_threads(threads)


def network_and_step(torch):
    """A network with a frozen part, in a step that trains it."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.BatchNorm1d(4), torch.nn.Dropout(0.5), torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4)
    )
    network[3].eval()

    class Loss(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = network

        def forward(self, x):
            return (self.network(x).square().mean(),)

    x = np.random.default_rng(0).normal(size=(32, 4)).astype(np.float32)
    adam = torch.optim.Adam
    return network, x, Step("torch", [Phase(Loss(), Feed([x], 8, 0), adam)], 8)


def test_threads_of_torch_are_those_asked_for(torch):
    for threads in (3, 1):
        device = devices.load(f"cpu:threads={threads}")
        device.configure("torch")
        assert torch.get_num_threads() == device.effective()["threads"] == threads


def test_inference_in_torch_leaves_training_as_it_was(torch):
    network, x, step = network_and_step(torch)
    program = devices.load("cpu").compile(step, "fp32")
    program.run(2)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    first, second = program.infer(network, [x]), program.infer(network, [x])
    assert isinstance(first[0], np.ndarray)
    assert np.array_equal(first[0], second[0])  # no dropout
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert [module.training for module in network] == [True, True, True, False]
    program.run(1)
    assert any(not torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_inference_that_fails_leaves_training_as_it_was_too(torch):
    network, x, step = network_and_step(torch)
    program = devices.load("cpu").compile(step, "fp32")
    with pytest.raises(RuntimeError):
        program.infer(network, [x[:, :3]])
    assert [module.training for module in network] == [True, True, True, False]
