"""The host's processor as a device, with NumPy and with PyTorch."""

from __future__ import annotations

import platform
import subprocess
import sys

import numpy as np
import pytest

from siderostat import devices
from siderostat.devices.base import Program, Unsupported, Window
from siderostat.devices.cpu import cgroup, usable_cores
from siderostat.devices.cpu.loop import Loop
from siderostat.record import Reason
from siderostat.workloads.base import Feed, Phase, Step


def numpy_step(model):
    return Step("numpy", [Phase(model, Feed([np.arange(12.0)], 4, 0))], 4)


@pytest.mark.parametrize("threads", ["0", "-1", "two", "1.5", ""])
def test_a_number_of_threads_that_cannot_be_is_refused(threads):
    with pytest.raises(ValueError, match="threads is a whole number of at least 1"):
        devices.load(f"cpu:threads={threads}")


@pytest.mark.parametrize("name", ["cpu:execution=fast", "cpu:heap=large"])
def test_settings_with_other_values_are_refused(name):
    with pytest.raises(ValueError, match=" is .* or .*, not "):
        devices.load(name)


def test_what_only_torch_can_do_is_refused_elsewhere():
    device = devices.load("cpu")
    with pytest.raises(Unsupported, match="compute in fp32 .*on the CPU, not in bf16; use fp32"):
        device.compile(numpy_step(len), "bf16")
    with pytest.raises(Unsupported, match="tensorflow steps compute in fp32 only"):
        device.compile(Step("tensorflow", [], 1), "fp16")
    with pytest.raises(Unsupported, match="execution=compiled is torch.compile, which numpy steps"):
        devices.load("cpu:execution=compiled").compile(numpy_step(len), "fp32")
    with pytest.raises(Unsupported, match="framework 'jax'"):
        device.compile(Step("jax", [], 1), "fp32")


def test_numpy_steps_run_in_order_and_have_few_settings():
    device = devices.load("cpu")
    device.configure("numpy")
    program = device.compile(numpy_step(lambda x: (x, x.sum())), "fp32")
    assert program.run(3).steps == 3
    batch, total = program.outputs()
    assert total == batch.sum()
    assert device.effective() == {"heap": "returned"}


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
    assert device.refusal(RuntimeError("could not create a primitive")).reason is Reason.OOM_HOST
    assert device.refusal(RuntimeError("could not create a primitive descriptor for a convolution")) is None
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
        mock.compile(Step("torch", numpy_step(len).phases, 4), "fp32").infer(None, [])


# --- what the system lets a process have ---


def tree(folder, groups, **files):
    """A mounted tree of control groups, and the file that says which ones this process is in; returns both."""
    for name, text in files.items():
        path = folder / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "own").write_text(groups)
    return folder / "own", folder / "tree"


def test_the_smallest_quota_from_ones_own_group_to_the_root_holds(tmp_path):
    places = tree(
        tmp_path,
        "0::/slice/job\n",
        **{"cpu.max": "max 100000", "slice/cpu.max": "150000 100000", "slice/job/cpu.max": "400000 100000"},
    )
    assert cgroup.cpu_quota(*places) == 1.5
    (tmp_path / "tree/slice/job/cpu.max").write_text("50000 100000")
    assert cgroup.cpu_quota(*places) == 0.5


def test_quotas_of_version_1_are_found_under_each_name_of_the_controller(tmp_path):
    for controllers in ("cpu", "cpu,cpuacct"):
        folder = f"{controllers}/box"
        places = tree(
            tmp_path / controllers,
            f"4:memory:/box\n2:{controllers}:/box\n",
            **{f"{folder}/cpu.cfs_quota_us": "300000", f"{folder}/cpu.cfs_period_us": "100000"},
        )
        assert cgroup.cpu_quota(*places) == 3
        (tmp_path / controllers / "tree" / folder / "cpu.cfs_quota_us").write_text("-1")
        assert cgroup.cpu_quota(*places) is None


def test_a_container_that_sees_its_group_as_the_root_has_the_roots_limits(tmp_path):
    places = tree(
        tmp_path,
        "0::/docker/0123\n",
        **{
            "cpu.max": "200000 100000",
            "memory.max": "1000",
            "memory.current": "300",
            "memory.stat": "inactive_file 50",
        },
    )
    assert cgroup.cpu_quota(*places) == 2
    assert cgroup.memory_left_bytes(*places) == 750


def test_groups_outside_the_namespace_do_not_lead_out_of_the_tree(tmp_path):
    places = tree(tmp_path, "0::/../../job\n", **{"job/cpu.max": "100000 100000"})
    assert cgroup.cpu_quota(*places) == 1


def test_memory_left_is_the_least_of_all_levels(tmp_path):
    places = tree(
        tmp_path,
        "7:memory:/a/b\n0::/\n",
        **{
            "memory/a/memory.limit_in_bytes": "5000",
            "memory/a/memory.usage_in_bytes": "4000",
            "memory/a/b/memory.limit_in_bytes": "9223372036854771712",  # none, in version 1
            "memory/a/b/memory.usage_in_bytes": "900",
            "memory/a/memory.stat": "total_inactive_file 200\ninactive_file 7",
        },
    )
    assert cgroup.memory_left_bytes(*places) == 1200


def test_without_control_groups_there_is_no_limit(tmp_path):
    places = tmp_path / "none", tmp_path
    assert cgroup.cpu_quota(*places) is cgroup.memory_left_bytes(*places) is None


@pytest.mark.parametrize(("quota", "cores"), [(None, 4), (2.5, 2), (0.5, 1), (64.0, 4)])
def test_usable_cores_are_whole_and_at_least_one(monkeypatch, quota, cores):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(cgroup, "cpu_quota", lambda: quota)
    assert usable_cores() == cores


KEEPS = """
import resource, sys, torch
from siderostat import devices
device = devices.load(f"cpu:threads=1,heap={sys.argv[1]}")
device.configure("torch")
for _ in range(3):
    torch.ones(16 << 20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(8):
    torch.ones(16 << 20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before, device.effective()["heap"])
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of glibc's malloc")
def test_a_heap_that_is_kept_has_its_pages_at_once(torch):
    def faults(heap):
        words = subprocess.check_output([sys.executable, "-c", KEEPS, heap], text=True).split()
        assert words[1] == heap
        return int(words[0])

    # 64 MB are 16,384 pages; where the kernel hands out large pages there are fewer faults.
    assert faults("kept") < 0.1 * faults("returned")


def test_a_heap_is_kept_with_glibc_only(monkeypatch):
    monkeypatch.setattr("siderostat.devices.cpu.heap.platform.libc_ver", lambda: ("", ""))
    with pytest.raises(Unsupported, match="heap=kept is a setting of glibc's malloc"):
        devices.load("cpu:heap=kept").configure("numpy")


# --- torch ---


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
