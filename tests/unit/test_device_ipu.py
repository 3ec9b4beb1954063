"""IPUs through PyTorch. No test here runs on an IPU: ``poptorch`` and ``gcipuinfo`` are the stand-ins of tests/fakes."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from siderostat import devices, workloads
from siderostat.devices.base import CompileFailed, OutOfCapacity, Unavailable, Unsupported
from siderostat.devices.energy import Refused
from siderostat.devices.ipu import power, refusals
from siderostat.record import EnergyStatus, Provenance, Reason, Status
from siderostat.store import Run
from siderostat.workloads.base import FEATURES, LOOSE_TENSORS, SHARED_WEIGHTS, UPDATE_HOOKS, Feed, Phase, Spec, Step

torch = pytest.importorskip("torch")

IMPORTED_ANEW = ("poptorch", "gcipuinfo", "siderostat.devices.ipu.poptorch", "siderostat.devices.ipu.executable")
FAKES = Path(__file__).resolve().parents[1] / "fakes"
X = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)


@pytest.fixture
def poptorch(monkeypatch):
    """The stand-in, imported anew, with no executable attached."""
    monkeypatch.syspath_prepend(FAKES)
    for name in IMPORTED_ANEW:
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(torch, "manual_seed", torch.manual_seed)
    yield importlib.import_module("poptorch")
    for name in IMPORTED_ANEW:
        monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.fixture
def boards(poptorch):
    """The IPUs that the stand-in for gcipuinfo lists; a test fills the list."""
    listed = importlib.import_module("gcipuinfo").devices
    listed.clear()
    yield listed
    listed.clear()


class Regression(torch.nn.Module):
    """Batch normalisation and a dense layer, and the mean square of what comes out."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.network = torch.nn.Sequential(torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 3))

    def forward(self, x):
        out = self.network(x)
        return out, out.square().mean()


class Plain(Regression):
    """Without the normalisation, which has nothing to normalise by in a batch of one."""

    def __init__(self):
        super().__init__()
        self.network = torch.nn.Linear(4, 3)


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


def training(optimizer=sgd, model=None, batch=8):
    return Step("torch", [Phase(model or Regression(), Feed([X], batch, 0), optimizer)], batch)


def inference(model, *arrays, batch=8):
    return Step("torch", [Phase(model, Feed(arrays or [X], batch, 0))], batch)


class Of(torch.nn.Module):
    """Applies a function."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.scale = torch.nn.Parameter(torch.ones(1))

    def forward(self, *inputs):
        return self.function(*inputs) * self.scale


def compiled(step, name="ipu", precision="fp32"):
    return devices.load(name).compile(step, precision)


def on_cpu(step):
    device = devices.load("cpu")
    return device.compile(step, "fp32")


def test_without_poptorch_the_sentence_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "poptorch", None)
    with pytest.raises(Unavailable, match=r"\[devices.ipu\] python = .* -d sim:graphcore-gc2"):
        devices.load("ipu").describe()


def test_without_an_ipu_the_sentence_says_what_to_do(poptorch, monkeypatch):
    monkeypatch.setenv("POPTORCH_STAND_IN_IPUS", "1")
    with pytest.raises(Unavailable, match=r"finds no device of 2 IPU\(s\).* emulator=yes.* -d sim:graphcore-gc2"):
        devices.load("ipu:replicas=2").describe()


def test_a_poptorch_that_cannot_be_imported_is_not_taken_for_none(monkeypatch, tmp_path):
    (tmp_path / "poptorch.py").write_text("raise ImportError('libpoplar.so: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "poptorch", raising=False)
    with pytest.raises(Unavailable, match=r"libpoplar.so.* source enable.sh"):
        devices.load("ipu").describe()


@pytest.mark.parametrize(("version", "name"), [("1", "Mk1"), ("2", "Mk2"), ("21", "C600"), ("-1", "generation -1")])
def test_the_device_says_its_generation_and_that_it_is_a_stand_in(poptorch, monkeypatch, version, name):
    monkeypatch.setenv("POPTORCH_STAND_IN_VERSION", version)
    about = devices.load("ipu").describe()
    assert name in about["name"] and "stand-in" in about["name"] and "stand-in" in about["poptorch"]


def test_boards_are_named_where_gcipuinfo_lists_them(boards):
    boards += [{"id": "0", "board type": "M2000"}, {"id": "1", "board type": "C600", "driver version": "1.3.0"}]
    about = devices.load("ipu:1").describe()
    assert (about["board"], about["ipus"], about["driver"]) == ("C600", 2, "1.3.0")


def test_the_emulator_is_marked_emulated_and_needs_no_ipu(poptorch, monkeypatch):
    monkeypatch.setenv("POPTORCH_STAND_IN_IPUS", "0")
    device = devices.load("ipu:emulator=yes")
    assert device.provenance is Provenance.EMULATED and devices.load("ipu").provenance is Provenance.MEASURED
    assert device.describe()["emulator"] is True
    program = device.compile(training(), "fp32")
    assert program.run(1).device_s is None  # the emulator counts no cycles
    assert device.effective()["emulator"] is True


@pytest.mark.parametrize(
    "name",
    ["ipu:iterations=0", "ipu:replicas=two", "ipu:synthetic=maybe", "ipu:cache=here", "ipu:clock_mhz=0", "ipu:x"],
)
def test_a_setting_that_cannot_be_is_refused(name):
    with pytest.raises(ValueError, match=r"whole number|is no or yes|absolute path|MHz|gc-info"):
        devices.load(name)


def test_training_gives_what_the_processor_gives(poptorch):
    ours, theirs = compiled(training()), on_cpu(training())
    for _ in range(3):
        assert ours.run(2).steps == theirs.run(2).steps == 2
    for here, there in zip(ours.outputs(), theirs.outputs()):
        np.testing.assert_allclose(here, there, rtol=1e-5, atol=1e-6)


def test_inference_gives_what_the_processor_gives(poptorch):
    network = Regression().eval()
    ours, theirs = compiled(inference(network)), on_cpu(inference(network))
    ours.run(3), theirs.run(3)
    np.testing.assert_allclose(ours.outputs()[0], theirs.outputs()[0], rtol=1e-6)


def test_steps_are_rounded_up_to_whole_calls_and_said_so(poptorch):
    program = compiled(training(), "ipu:iterations=4")
    calls = []
    executor = program._executables[0].executor
    program._executables[0].executor = lambda *inputs: calls.append(len(inputs[0])) or executor(*inputs)
    program._executables[0].executor.cycleCount = executor.cycleCount
    assert [program.run(steps).steps for steps in (0, 1, 4, 5)] == [0, 4, 4, 8]
    assert calls == [32] * 4  # four batches of eight a call


def test_device_iterations_end_where_single_steps_end(poptorch):
    ours, theirs = compiled(training(), "ipu:iterations=4"), on_cpu(training())
    ours.run(12), theirs.run(12)  # past the end of the 64 items: batches come round in the same order
    for here, there in zip(ours.outputs(), theirs.outputs()):
        assert here.shape == there.shape
        np.testing.assert_allclose(here, there, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["ipu:replicas=2", "ipu:iterations=2,replicas=2,accumulation=2", "ipu:outputs=all"])
@pytest.mark.parametrize("batch", [1, 8])
def test_outputs_are_those_of_one_batch_whatever_a_call_returns(poptorch, monkeypatch, name, batch):
    monkeypatch.setenv("POPTORCH_STAND_IN_IPUS", "2")
    program = compiled(training(model=Plain(), batch=batch), name)
    program.run(1)
    out, loss = program.outputs()
    assert out.shape == (batch, 3) and loss.size == 1


def test_the_newest_batch_is_the_last_one_of_a_call(poptorch):
    program = compiled(inference(Of(lambda x: x)), "ipu:iterations=4")
    program.run(4)
    feed = Feed([X], 8, 0)
    batches = [feed.next()[0] for _ in range(4)]
    np.testing.assert_array_equal(program.outputs()[0], batches[-1])


def test_accumulation_updates_once_for_several_batches(poptorch):
    model = Plain()
    before = model.network.weight.detach().clone()
    program = compiled(training(lambda p: torch.optim.SGD(p, lr=0.1), model), "ipu:accumulation=8")
    program.run(8)  # all 64 items
    program.close()
    whole = Plain()
    _, loss = whole(torch.from_numpy(X))
    loss.backward()
    np.testing.assert_allclose(model.network.weight.detach(), before - 0.1 * whole.network.weight.grad, rtol=1e-4)


def test_accumulation_without_training_is_refused(poptorch):
    with pytest.raises(Unsupported, match="accumulation adds up gradients"):
        compiled(inference(Of(lambda x: x)), "ipu:accumulation=2")


def test_cycles_become_seconds_by_the_clock_that_is_known(poptorch, boards):
    boards.append({"id": "0", "clock": "1330MHz"})
    program = compiled(training(), "ipu:iterations=4")
    window = program.run(8)
    assert window.device_s == pytest.approx(8 * poptorch.CYCLES_PER_BATCH / 1330e6)
    assert window.device_s <= window.seconds
    assert program.effective()["clock_hz"] == pytest.approx(1330e6)
    program.close()
    program = compiled(training(), "ipu:clock_mhz=1000")
    assert program.run(2).device_s == pytest.approx(2e-6)


def test_without_a_clock_that_can_be_right_the_chips_time_is_not_known(poptorch, boards):
    assert compiled(training()).run(1).device_s is None
    poptorch._attached.clear()
    boards.append({"id": "0", "clock": "20kHz"})
    assert compiled(training()).run(1).device_s is None
    poptorch._attached.clear()
    assert compiled(training(), "ipu:clock_mhz=0.0001").run(1).device_s is None  # would be longer than it took in all
    poptorch._attached.clear()
    assert compiled(training(), "ipu:cycles=no,clock_mhz=1000").run(1).device_s is None


def test_the_settings_in_force_have_casts_and_latencies(poptorch):
    program = compiled(inference(Of(lambda x, y: x[:, 0] * y), X.astype(np.float64), np.arange(64)), "ipu:iterations=2")
    program.run(2)
    told = program.effective()
    assert told["batches_per_call"] == 2
    [phase] = told["executables"]
    assert phase["cast"] == {"input 0": "float64 to float32", "input 1": "int64 to int32"}
    assert phase["kind"] == "inference" and phase["outputs"] == "all"
    assert 0 < phase["compute_s"] < phase["round_trip_s"]
    assert json.loads(json.dumps(told)) == told


def test_half_precision_makes_weights_and_inputs_half(poptorch):
    model = Regression()
    program = compiled(training(model=model), precision="fp16")
    program.run(1)
    assert {p.dtype for p in model.parameters()} == {torch.float16}
    assert program.effective()["executables"][0]["cast"] == {"input 0": "float32 to float16"}
    assert program.outputs()[0].dtype == np.float32
    with pytest.raises(Unsupported, match="use fp32 or fp16"):
        compiled(training(), precision="bf16")


def test_synthetic_data_leaves_outputs_to_the_host(poptorch):
    program = compiled(training(), "ipu:synthetic=yes")
    program.run(1)
    feed = Feed([X], 8, 0)
    expected, _ = Regression()(torch.from_numpy(feed.next()[0]))
    np.testing.assert_allclose(program.outputs()[0], expected.detach(), rtol=1e-5)
    assert program.effective()["synthetic_data"] is True
    with pytest.raises(Unsupported, match="synthetic"):
        program.infer(torch.nn.Linear(4, 3), [X])


def test_an_executable_from_the_cache_is_told_from_a_compiled_one(poptorch, tmp_path):
    told = []
    for _ in range(2):
        program = compiled(training(), f"ipu:cache={tmp_path}")
        told.append(program.effective()["executables"][0]["executable"])
        program.close()
    assert told == ["compiled", "from the cache"]


def test_options_hidden_in_the_environment_are_overruled(poptorch):
    settings = devices.load("ipu")._settings
    module = importlib.import_module("siderostat.devices.ipu.executable")
    options = module.options_of(settings, is_training=True)
    assert options.cache is None and options.use_model is False and options.output_mode is poptorch.OutputMode.Final


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x: torch.linalg.svd(x)[1], "svd"),
        (lambda x: torch.linalg.qr(x)[0], "qr"),
        (lambda x: torch.linalg.eigh(x.T @ x)[0], "eigh"),
        (lambda x: torch.linalg.cholesky(x.T @ x + torch.eye(4)), "cholesky"),
        (lambda x: torch.linalg.solve(x.T @ x + torch.eye(4), x.T), "solve"),
        (lambda x: torch.fft.rfft(x).abs(), "fft"),
        (lambda x: x[x > 0], "output shape depends"),
        (lambda x: torch.complex(x, x).abs(), "ComplexFloat|complex"),
    ],
)
def test_operations_that_ipus_lack_are_unsupported(poptorch, function, words):
    with pytest.raises(Unsupported, match=rf"PopTorch refuses the step: .*({words})"):
        compiled(inference(Of(function)))


def test_complex_inputs_are_unsupported(poptorch):
    with pytest.raises(Unsupported, match="real and imaginary"):
        compiled(inference(Of(lambda x: x), X.astype(np.complex64)))


def test_other_shapes_than_were_compiled_are_unsupported(poptorch):
    device = devices.load("ipu")
    program = device.compile(training(), "fp32")
    with pytest.raises(poptorch.Error) as caught:
        program._executables[0].executor(torch.ones(3, 4))
    assert isinstance(device.refusal(caught.value), Unsupported)


def test_a_step_that_does_not_fit_is_found_when_it_is_compiled(poptorch, monkeypatch):
    monkeypatch.setenv("POPTORCH_STAND_IN_BYTES", "3000")
    compiled(training(batch=2))
    poptorch._attached.clear()
    with pytest.raises(OutOfCapacity, match="Out of memory") as caught:
        compiled(training(batch=32))
    assert caught.value.reason is Reason.OOM_DEVICE
    assert caught.value.need_bytes > 3000


def test_a_step_that_fails_leaves_the_ipu_free(poptorch):
    with pytest.raises(Unsupported):
        compiled(Step("torch", [training().phases[0], inference(Of(lambda x: torch.linalg.qr(x)[0])).phases[0]], 8))
    compiled(training()).close()
    compiled(training(batch=16))


def test_a_busy_ipu_is_unavailable(poptorch):
    held = compiled(training())
    with pytest.raises(Unavailable, match="Failed to acquire 1 IPU"):
        compiled(training())
    held.close()
    compiled(training())


def test_two_phases_need_two_ipus_and_are_two_executables(poptorch, monkeypatch):
    step = Step("torch", [*training().phases, *training().phases], 8)
    with pytest.raises(Unavailable):
        compiled(step)
    monkeypatch.setenv("POPTORCH_STAND_IN_IPUS", "2")
    program = compiled(Step("torch", [*training().phases, *training().phases], 8))
    program.run(2)
    assert len(program.effective()["executables"]) == 2


def test_phases_that_share_weights_are_unsupported(poptorch):
    model = Regression()
    with pytest.raises(Unsupported, match="share weights"):
        compiled(Step("torch", [*training(model=model).phases, *training(model=model).phases], 8))


def test_an_optimiser_whose_update_would_be_left_out_is_unsupported(poptorch):
    def hooked(parameters):
        optimizer = sgd(parameters)
        optimizer.register_step_pre_hook(lambda *_: None)
        return optimizer

    with pytest.raises(Unsupported, match="hooks"):
        compiled(training(hooked))
    with pytest.raises(Unsupported, match="no optimiser Adagrad; it has SGD"):
        compiled(training(lambda p: torch.optim.Adagrad(p)))


def test_a_frozen_part_stays_frozen(poptorch):
    model = Regression()
    model.network[0].eval()
    compiled(training(model=model)).run(4)
    assert torch.equal(model.network[0].running_mean, torch.zeros(4))


def test_inference_between_steps_leaves_training_as_it_was(poptorch):
    def after(looks):
        model = Regression()
        program = compiled(training(model=model))
        program.run(3)
        for _ in range(looks):
            found = program.infer(model.network, [X])
            assert [m.training for m in model.network] == [True, True]
        program.run(3)
        program.close()
        return found if looks else None, {name: value.clone() for name, value in model.state_dict().items()}

    _, without = after(0)
    looked, seen = after(2)
    assert looked[0].shape == (64, 3)
    for name, value in without.items():
        torch.testing.assert_close(value, seen[name])


def test_inference_sees_what_training_has_learned(poptorch):
    model, twin = Regression(), Regression()
    ours, theirs = compiled(training(model=model)), on_cpu(training(model=twin))
    for _ in range(2):
        ours.run(4), theirs.run(4)
        np.testing.assert_allclose(
            ours.infer(model.network, [X])[0], theirs.infer(twin.network, [X])[0], rtol=1e-4, atol=1e-5
        )


def poptorch_error(kind, message, cls="Error"):
    made = type(cls, (Exception,), {"__module__": "poptorch.poptorch_core", "type": kind, "message": message})
    return made(f"In include/poptorch_err/ExceptionHandling.hpp:76: '{kind}': {message}")


def test_poptorchs_words_for_want_of_memory_are_understood():
    tile = "Out of memory on tile 12: 700000 bytes used but tiles only have 638976 bytes of memory\nError raised in:"
    refusal = refusals.poptorch(poptorch_error("popart_exception", tile))
    assert isinstance(refusal, OutOfCapacity) and refusal.need_bytes is None  # one tile's bytes are not the step's
    assert str(refusal).endswith("638976 bytes of memory") and "ExceptionHandling" not in str(refusal)
    stream = "irlowering.cpp:3516 Out of memory. Single stream of length 149766584 in bufferIndex 1"
    assert refusals.poptorch(poptorch_error("poplar_stream_memory_allocation_error", stream)).need_bytes == 149766584
    assert isinstance(refusals.poptorch(poptorch_error("poplar_graph_memory_allocation_error", "?")), OutOfCapacity)
    assert refusals.poptorch(poptorch_error("poptorch_cpp_error", "std::bad_alloc")).reason is Reason.OOM_HOST


def test_errors_of_the_chip_itself_are_told_from_those_of_the_step():
    recoverable = poptorch_error("poplar_recoverable_runtime_error", "link down", "RecoverableError")
    type(recoverable).recovery_action = "IPU_RESET"
    assert isinstance(refusals.poptorch(recoverable), Unavailable)
    assert "IPU_RESET" in str(refusals.poptorch(recoverable))
    assert refusals.poptorch(poptorch_error("poptorch_py_error", "something else")) is None
    assert isinstance(refusals.compilation(poptorch_error("popart_exception", "something else")), CompileFailed)
    assert isinstance(refusals.compilation(RuntimeError("of torch itself")), CompileFailed)
    lowered = NotImplementedError("Could not run 'aten::foo' with arguments from the 'IPU' backend.")
    assert isinstance(refusals.poptorch(lowered), Unsupported)
    assert refusals.poptorch(NotImplementedError("of a workload")) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("103.2W", 103.2),
        ("92.3 W", 92.3),
        ("1330MHz", 1330),
        ("1.85 GHz", 1850),
        ("17.8 C", 17.8),
        ("N/A", None),
        ("", None),
    ],
)
def test_the_texts_of_gcipuinfo_become_numbers(text, value):
    assert power.amount(text) == (value if value is None else pytest.approx(value))


def test_the_power_of_an_ipu_is_integrated(boards, monkeypatch):
    clock = iter([10.0, 12.0, 15.0])
    monkeypatch.setattr(power.time, "perf_counter", lambda: next(clock))
    boards += [{"id": "0", "ipu power": "N/A"}, {"id": "1", "ipu power": "100.0W", "board type": "C600"}]
    counter = power.IpuPower(1)
    counter.open()
    boards[1]["ipu power"] = "120W"
    assert counter.joules() == pytest.approx(220)
    assert counter.joules() == pytest.approx(220 + 360)
    assert counter.updates == 1 and counter.watts() == 120
    assert counter.device() == {"ipus": ["1"], "name": "C600"}


def test_an_ipu_that_tells_no_power_does_not_take_the_next_ones(boards):
    boards += [{"id": "0", "ipu power": "N/A"}, {"id": "1", "ipu power": "100.0W"}]
    with pytest.raises(Refused, match="'N/A' for the power of IPU 0") as refused:
        power.IpuPower(0).open()
    assert refused.value.status is EnergyStatus.UNSUPPORTED


def test_the_power_is_that_of_the_ipus_that_this_process_uses(boards):
    ours = str(os.getpid())
    boards += [{"id": "0", "ipu power": "50W"}] + [
        {"id": str(i), "ipu power": "60W", "user process id": ours} for i in (1, 2)
    ]
    counter = power.IpuPower(None)
    counter.open()
    assert counter.watts() == 120
    for board in boards:
        board.pop("user process id", None)
    with pytest.raises(Refused, match="which of the 3 IPUs") as refused:
        power.IpuPower(None).open()
    assert "ipu:0" in refused.value.remedy


def test_an_emulator_has_no_energy_and_a_machine_without_gcipuinfo_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "gcipuinfo", None)
    [counter] = devices.load("ipu").counters()
    with pytest.raises(Refused, match="gcipuinfo, which reads the sensors"):
        counter.open()
    [counter] = devices.load("ipu:emulator=yes").counters()
    with pytest.raises(Refused) as refused:
        counter.open()
    assert refused.value.status is EnergyStatus.NOT_MEASURABLE
    assert devices.load("ipu").sensors() == {}


def test_sensors_have_their_units_and_leave_out_what_is_not_told(boards):
    boards.append({"id": "0", "clock": "1330MHz", "average die temp": "20.0 C", "ipu power": "N/A"})
    assert devices.load("ipu").sensors() == {"ipu_clock_mhz": 1330.0, "die_temperature_c": 20.0}


def spec_of(workload, variant, mode, framework="torch", **options):
    return Spec(variant, mode, framework, 2, "paper", 0, options)


def test_workloads_say_what_they_need_in_words_that_devices_know():
    shape, sampler = workloads.load("galaxy-shape"), workloads.load("galaxy-sampler")
    assert shape.needs(spec_of(shape, "dnn", "train")) == ()
    assert shape.needs(spec_of(shape, "dnn", "train", clip=1.0)) == (UPDATE_HOOKS,)
    assert shape.needs(spec_of(shape, "dnn", "train", "tensorflow", clip=1.0)) == ()
    assert sampler.needs(spec_of(sampler, "naive", "sample")) == ()
    assert sampler.needs(spec_of(sampler, "incremental", "sample")) == (LOOSE_TENSORS,)
    assert sampler.needs(spec_of(sampler, "naive", "train")) == (SHARED_WEIGHTS,)
    ipu = devices.load("ipu")
    assert set(ipu.lacks("torch")) | set(ipu.lacks("tensorflow")) <= set(FEATURES)
    ipu.require((), "torch")
    ipu.require((SHARED_WEIGHTS,), "tensorflow")
    with pytest.raises(Unsupported, match="needs weights shared between phases"):
        ipu.require((SHARED_WEIGHTS,), "torch")
    devices.load("cpu").require(FEATURES, "torch")


def run_with_the_stand_in(folder, *words, **variables):
    """Run the command as a user would whose environment has PopTorch: here, the stand-in."""
    environment = {**os.environ, "PYTHONPATH": str(FAKES), "OMP_NUM_THREADS": "1", **variables}
    command = [sys.executable, "-m", "siderostat", "run", "-d", "ipu", "-o", str(folder), *words]
    done = subprocess.run(command, cwd=folder.parent, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [r for r in Run(folder).records if r.attempt.cell.workload != "null"]


@pytest.mark.slow
def test_records_made_with_the_stand_in_say_so(tmp_path):
    words = ("-w", "galaxy-shape", "-b", "2,64", "--set", "images=128")
    records = run_with_the_stand_in(tmp_path / "run", *words, POPTORCH_STAND_IN_BYTES="100000000")
    assert {r.attempt.cell.batch: r.status for r in records} == {2: Status.OK, 64: Status.CAPACITY}
    for record in records:
        if record.status is Status.OK:
            assert "stand-in" in record.device["name"] and "stand-in" in record.device["poptorch"]
            assert record.compile_s > 0 and record.process["start"] == "cold"
            assert record.effective["executables"][0]["kind"] == "training"
            assert record.check["last"]["nll"] < 1e6
        else:
            assert record.reason is Reason.OOM_DEVICE and record.need_bytes > 100000000
            assert "stand-in" in record.detail


@pytest.mark.slow
def test_what_the_chip_lacks_ends_as_an_unsupported_record_before_anything_is_built(tmp_path):
    words = ("-w", "galaxy-sampler", "--variant", "incremental", "-b", "2")
    records = run_with_the_stand_in(tmp_path / "run", *words)
    assert {r.status for r in records} == {Status.UNSUPPORTED}
    assert {r.reason for r in records} == {Reason.FEATURE}
    assert all("neither parameters nor buffers" in r.detail and r.build_s is None for r in records)
