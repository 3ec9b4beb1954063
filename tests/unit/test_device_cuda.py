"""The adapter for GPUs, on a machine without one: stand-ins for torch.cuda and NVML (tests/fakes/cuda.py)."""

from __future__ import annotations

import os
import sys
import types

import numpy as np
import pytest

from siderostat import devices
from siderostat.devices.base import Unavailable, Unsupported
from siderostat.devices.cuda import cards
from siderostat.record import Protocol, Reason, Status
from siderostat.workloads.base import Feed, Phase, Step
from tests.fakes import cuda as fakes

torch = pytest.importorskip("torch")
programs = pytest.importorskip("siderostat.devices.cuda.torch")

X = np.random.default_rng(0).normal(size=(32, 4)).astype(np.float32)
CPU = torch.device("cpu")


class Loss(torch.nn.Module):
    """Dropout, a dense layer and a loss; says in ``log`` when it computes."""

    def __init__(self, log):
        super().__init__()
        torch.manual_seed(3)
        self.network = torch.nn.Sequential(torch.nn.BatchNorm1d(4), torch.nn.Dropout(0.5), torch.nn.Linear(4, 4))
        self.log = log
        self.seen = []

    def forward(self, x):
        self.log.append("compute")
        self.seen.append(x.detach().clone().numpy())
        out = self.network(x)
        return out, out.square().mean()


def step(log=None, optimizer=torch.optim.Adam, phases=1):
    log = [] if log is None else log
    return Step("torch", [Phase(Loss(log), Feed([X], 8, i), optimizer) for i in range(phases)], 8)


@pytest.fixture
def cuda(monkeypatch):
    """The stand-in for torch.cuda; switches that a program sets are put back."""
    fake = fakes.Cuda()
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: fake.pinned(tensor))
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: fake.log.append(f"held by {stream.name}"))
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    yield fake
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def program(cuda, made, precision="fp32", is_compiled=False, is_resident=False):
    return programs.CudaProgram(made, precision, is_compiled, is_resident, CPU, cuda)


# --- the program ---


def test_a_block_has_one_synchronisation_and_device_time_beside_the_clock(cuda):
    made = step(cuda.log)
    ran = program(cuda, made)
    made.phases[0].model.register_forward_hook(lambda *_: setattr(cuda, "now_ms", cuda.now_ms + 4.0))
    cuda.log.clear()
    window = ran.run(3)
    assert cuda.log.count("synchronize") == 1
    assert (cuda.log[0], cuda.log[-2:]) == ("event", ["event", "synchronize"])
    assert (window.steps, window.device_s) == (3, pytest.approx(0.012))
    assert window.seconds > 0


def test_an_empty_block_can_be_timed(cuda):
    assert program(cuda, step()).run(0).device_s == 0


@pytest.mark.parametrize("is_resident", [False, True])
@pytest.mark.parametrize("optimizer", [torch.optim.Adam, None])
def test_results_are_those_of_the_processor_bit_for_bit(cuda, is_resident, optimizer):
    here, there = step(optimizer=optimizer, phases=2), step(optimizer=optimizer, phases=2)
    on_cpu = devices.load("cpu").compile(here, "fp32")
    on_gpu = program(cuda, there, is_resident=is_resident)
    for ran in (on_cpu, on_gpu):
        torch.manual_seed(0)
        for _ in range(3):
            ran.run(2)
    assert all(np.array_equal(a, b) for a, b in zip(on_cpu.outputs(), on_gpu.outputs(), strict=True))
    for a, b in zip(here.phases, there.phases, strict=True):
        assert np.array_equal(a.model.seen, b.model.seen)
        states = a.model.state_dict().values(), b.model.state_dict().values()
        assert all(torch.equal(x, y) for x, y in zip(*states, strict=True))


def test_each_batch_is_copied_while_the_step_before_computes(cuda):
    ran = program(cuda, step(cuda.log))
    assert cuda.log == ["pin", "copy on copies", "synchronize"]  # the first batch, before the clock runs
    cuda.log.clear()
    ran.run(2)
    one_step = ["wait", "held by compute", "copy on copies", "compute"]
    assert cuda.log == ["event", *one_step, *one_step, "event", "synchronize"]


def test_resident_inputs_are_copied_before_the_clock_runs_and_never_again(cuda):
    ran = program(cuda, step(cuda.log), is_resident=True)
    cuda.log.clear()
    ran.run(2)
    assert cuda.log == ["event", "compute", "compute", "event", "synchronize"]
    assert ran.effective()["inputs"] == "resident"


@pytest.mark.parametrize(("precision", "is_on"), [("fp32", False), ("tf32", True), ("bf16", False)])
def test_tf32_is_on_where_it_is_asked_for_and_off_elsewhere(cuda, precision, is_on):
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = not is_on
    told = program(cuda, step(), precision).effective()
    assert (told["tf32_matmul"], told["tf32_cudnn"]) == (is_on, is_on)
    assert torch.backends.cuda.matmul.allow_tf32 is torch.backends.cudnn.allow_tf32 is is_on


def test_memory_is_the_allocators_and_is_given_back(cuda):
    made = step(cuda.log)
    ran = program(cuda, made)
    ran.run(1)
    assert (ran.peak_bytes(), ran.effective()["memory_reserved_bytes"]) == (2 << 20, 3 << 20)
    ran.close()
    assert cuda.log[-1] == "empty_cache"
    assert ran.run(1).steps == 1 and cuda.log.count("compute") == 1  # there is nothing left to run


def test_inference_is_that_of_the_processor(cuda):
    here, there = step(), step()
    asked = devices.load("cpu").compile(here, "fp32").infer(here.phases[0].model.network, [X])
    assert np.array_equal(program(cuda, there).infer(there.phases[0].model.network, [X])[0], asked[0])


# --- errors ---


@pytest.mark.parametrize(
    ("error", "need_bytes"),
    [
        (torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total"), 2 << 30),
        (torch.cuda.OutOfMemoryError("HIP out of memory. Tried to allocate 20.50 MiB."), int(20.5 * 2**20)),
        (torch.cuda.OutOfMemoryError("CUDA out of memory."), None),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), None),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), None),
        (RuntimeError("CUDA error: out of memory"), None),
    ],
)
def test_out_of_memory_is_out_of_capacity(error, need_bytes):
    refusal = devices.load("cuda").refusal(error)
    assert (refusal.status, refusal.reason, refusal.need_bytes) == (Status.CAPACITY, Reason.OOM_DEVICE, need_bytes)


def test_out_of_memory_inside_a_compilation_is_out_of_capacity_too():
    from torch._dynamo.exc import BackendCompilerFailed

    inside = torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 KiB.")
    assert devices.load("cuda").refusal(BackendCompilerFailed(len, inside, None)).need_bytes == 1024


def test_other_errors_are_told_apart():
    device = devices.load("cuda")
    assert device.refusal(MemoryError()).reason is Reason.OOM_HOST
    assert device.refusal(RuntimeError("CUDA error: an illegal memory access was encountered")) is None


def test_settings_and_indices_that_cannot_be_are_refused():
    for name, words in (
        ("cuda:execution=fast", "execution is eager or compiled, not 'fast'"),
        ("cuda:inputs=disk", "inputs is host or resident"),
        ("cuda:first", "a GPU is a number"),
    ):
        with pytest.raises(ValueError, match=words):
            devices.load(name)


def test_its_pace_is_made_of_fields_of_the_protocol():
    adapter = devices.adapter("cuda")
    Protocol(**adapter.pace)
    assert adapter.must_start_cold and adapter.pace["burst_s"] >= 20 * 0.1


# --- which GPU ---


@pytest.fixture
def machine(monkeypatch):
    """A machine with two GPUs and a torch built for CUDA: returns what changes it."""
    monkeypatch.delenv(cards.VISIBLE, raising=False)
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)

    def make(build=("2.9", "13.0", None), visible=None, **nvml):
        monkeypatch.setitem(sys.modules, "pynvml", fakes.nvml(**nvml))
        monkeypatch.setattr(cards, "torch_build", lambda: cards.Build(*build))
        if visible is not None:
            monkeypatch.setenv(cards.VISIBLE, visible)

    return make


def test_a_gpu_is_described_without_torch(machine):
    machine()
    about = devices.load("cuda:1").describe()
    assert about == {
        "name": "NVIDIA V9", "uuid": fakes.UUIDS[1], "pci": "00000000:01:00.0", "memory_bytes": 80 << 30,
        "driver": "999.1", "compute_capability": "9.0", "torch": "2.9", "cuda": "13.0",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("visible", "index", "expected"),
    [
        (None, "", 0),
        (None, "1", 1),
        (None, "GPU-aabb", 1),
        ("1", "0", 1),
        ("1,0", "1", 0),
        ("1,0", "", 1),
        (f"{fakes.UUIDS[1]}", "0", 1),
        ("GPU-aabb", "0", 1),
        ("0,7,1", "0", 0),
        ("0,1", "GPU-aabb", 1),
    ],
)
def test_indices_count_as_torch_counts_them(machine, visible, index, expected):
    machine(visible=visible)
    assert cards.find(index).uuid == fakes.UUIDS[expected]


@pytest.mark.parametrize(
    ("visible", "index", "words"),
    [
        (None, "2", "there is no GPU 2; to be had: 0: NVIDIA V9 GPU-aaaa"),
        (None, "GPU-aa", "2 GPUs match 'GPU-aa'"),
        (None, "GPU-b", "there is no GPU GPU-b"),
        ("1", "1", "there is no GPU 1; to be had with CUDA_VISIBLE_DEVICES=1"),
        ("", "", "there is no GPU 0; to be had with CUDA_VISIBLE_DEVICES=: none"),
        ("-1", "", "none"),
        ("0,7,1", "1", "there is no GPU 1"),
    ],
)
def test_a_gpu_that_is_not_there_is_unavailable(machine, visible, index, words):
    machine(visible=visible)
    with pytest.raises(Unavailable, match=words):
        cards.find(index)


def test_gpus_of_several_kinds_are_asked_for_by_name(machine, monkeypatch):
    machine(names=("NVIDIA V9", "NVIDIA T1"))
    with pytest.raises(Unavailable, match="CUDA_DEVICE_ORDER=PCI_BUS_ID, or name one: cuda:GPU-aaaa"):
        cards.find("0")
    assert cards.find("GPU-aabb").name == "NVIDIA T1"
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    assert cards.find("1").name == "NVIDIA T1"


@pytest.mark.parametrize(("mig", "visible"), [((True, False), None), ((False, False), "MIG-1234")])
def test_parts_of_a_divided_gpu_are_refused_with_the_reason(machine, mig, visible):
    machine(mig=mig, visible=visible)
    with pytest.raises(Unsupported, match="clocks and energy of one are not its own; switch that off"):
        devices.load("cuda").describe()


def test_a_torch_that_was_not_built_for_cuda_is_named(machine):
    machine(build=("2.9+cpu", None, None))
    with pytest.raises(
        Unavailable, match=r"torch 2.9\+cpu was not built for CUDA, and cannot use the NVIDIA V9; https"
    ):
        cards.find("")


def broken_nvml(**changes):
    def init():
        raise fakes.NVMLError("Driver Not Loaded")

    return {"nvmlInit": init, **changes}


def test_where_nvml_does_not_answer_torch_is_asked_in_a_process_that_ends(machine, monkeypatch):
    machine(build=("2.9", None, "7.0"), **broken_nvml())
    monkeypatch.setattr(cards, "_ASK_TORCH", 'print(\'[["AMD M3", 1000, "gfx942"], ["AMD M3", 2000, "gfx942"]]\')')
    device = devices.load("cuda:1")
    assert device.describe() == {
        "name": "AMD M3", "memory_bytes": 2000, "compute_capability": "gfx942", "torch": "2.9", "hip": "7.0",
    }  # fmt: skip
    assert device.card.ordinal == 1
    device.configure("torch")
    assert cards.VISIBLE not in os.environ
    assert (device.sensors(), device.is_throttled(), device.other_pids([])) == ({}, False, [])
    assert device.counters()[0].source == "none"


def test_a_torch_that_finds_no_gpu_says_what_it_needs(machine, monkeypatch):
    machine(**broken_nvml())
    monkeypatch.setattr(cards, "_ASK_TORCH", "print([])")
    with pytest.raises(Unavailable, match=r"finds no GPU on this machine \(NVML: Driver Not Loaded\).*NVIDIA's driver"):
        cards.find("")


def test_the_worker_sees_only_the_gpu_it_measures(machine, monkeypatch):
    machine(visible="0,1")
    device = devices.load("cuda:1")
    device.configure("torch")
    assert os.environ[cards.VISIBLE] == fakes.UUIDS[1]
    uuid = types.SimpleNamespace(uuid=fakes.UUIDS[0].replace("GPU-", ""))
    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda ordinal: uuid)
    with pytest.raises(Unavailable, match=f"torch shows the GPU {uuid.uuid} where {fakes.UUIDS[1]} was asked for"):
        device.compile(step(), "fp32")


def test_a_driver_that_torch_cannot_use_is_unavailable(machine, monkeypatch):
    machine()

    def init():
        raise RuntimeError("The NVIDIA driver on your system is too old (found version 1).\nPlease update")

    monkeypatch.setattr(torch.cuda, "init", init)
    with pytest.raises(Unavailable, match=r"cannot use NVIDIA V9: The NVIDIA driver on your system is too old"):
        devices.load("cuda").compile(step(), "fp32")


@pytest.mark.parametrize("framework", ["tensorflow", "numpy"])
def test_other_frameworks_are_refused_in_a_sentence(machine, framework):
    machine()
    with pytest.raises(Unsupported, match=f"{framework} steps do not run on a GPU in this version; use torch"):
        devices.load("cuda").compile(Step(framework, [], 1), "fp32")


def test_tf32_is_refused_where_there_is_none(machine):
    machine(nvmlDeviceGetCudaComputeCapability=lambda i: (7, 0))
    with pytest.raises(Unsupported, match="no tensor cores for tf32"):
        devices.load("cuda").compile(step(), "tf32")


# --- what NVML tells meanwhile ---


@pytest.mark.parametrize(
    ("clock", "reasons", "is_throttled"),
    [(740, 0x20, True), (740, 0x04, True), (740, 0x00, False), (740, 0x02, False), (760, 0x20, False)],
)
def test_throttled_is_a_low_clock_with_a_reason_of_the_gpus_own(machine, clock, reasons, is_throttled):
    machine(
        nvmlDeviceGetClockInfo=lambda i, which: clock,
        nvmlDeviceGetDefaultApplicationsClock=lambda i, which: 1000,
        nvmlDeviceGetCurrentClocksEventReasons=lambda i: reasons,
    )
    assert devices.load("cuda").is_throttled() is is_throttled


def running(pids):
    return {
        "nvmlDeviceGetComputeRunningProcesses": lambda i: [types.SimpleNamespace(pid=p, usedGpuMemory=0) for p in pids]
    }


def test_other_processes_are_all_but_ours(machine):
    machine(**running([os.getpid(), 77, 88]))
    device = devices.load("cuda")
    assert device.other_pids([88]) == [77]


def test_where_pids_are_the_hosts_those_are_others_that_were_there_before(machine, monkeypatch):
    pids = [77]
    machine(**running(pids))
    device = devices.load("cuda")
    monkeypatch.setattr("siderostat.devices.cuda._torch_device", lambda card: 1 / 0)
    with pytest.raises(ZeroDivisionError):  # it has looked before it touches the GPU
        device.compile(step(), "fp32")
    pids.append(4321)  # this process, as the host numbers it
    assert device.other_pids([os.getpid()]) == [77]


def test_energy_comes_from_the_board_by_its_uuid(machine):
    machine()
    device = devices.load("cuda:1")
    assert [counter.source for counter in device.counters()] == ["nvml.total_energy", "nvml.power"]
    assert device.counters()[0]._device == fakes.UUIDS[1]
    assert device.sensors()["sm_clock_mhz"] == 1000
    assert device.effective()["device_memory_used_bytes"] == 1 << 30


# --- this machine ---


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_run_without_a_gpu_ends_in_records_that_say_so(siderostat, tmp_path):
    from siderostat.store import Run

    done = siderostat("run", "-w", "null", "-d", "cuda", "-o", tmp_path / "run")
    assert "Traceback" not in done.stdout + done.stderr
    records = [r for r in Run(tmp_path / "run").records if r.attempt.cell.device == "cuda"]
    assert {r.status for r in records} == {Status.UNAVAILABLE}
    assert {r.reason for r in records} == {Reason.NO_DEVICE}
    assert "GPU" in records[0].detail
