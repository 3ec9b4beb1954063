"""Precisions, compilation, and whether workloads compute wherever they are put: all that needs torch and no GPU."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from siderostat import devices, workloads
from siderostat.devices.base import CompileFailed, Unsupported
from siderostat.record import Reason, Status
from siderostat.workloads.base import Feed, Phase, Spec, Step
from siderostat.workloads.galaxy_shape import ADAM_EPSILON, LEARNING_RATE

torch = pytest.importorskip("torch")
torch_step = pytest.importorskip("siderostat.devices.torch_step")
shape = pytest.importorskip("siderostat.workloads.galaxy_shape.torch")
sampler = workloads.load("galaxy-sampler")

ROOT = Path(__file__).resolve().parents[2]
FAKES = ROOT / "tests" / "fakes"
BATCH = 4
VARIANTS = ("dnn", "bnn", "bnn-flipout")
CELLS = [
    *[("galaxy-shape", variant, mode) for variant in VARIANTS for mode in ("train", "infer")],
    ("galaxy-sampler", "incremental", "sample"),
    ("galaxy-sampler", "naive", "sample"),
    ("galaxy-sampler", "incremental", "train"),
]


def images(count=2 * BATCH):
    """Made-up electrons: a bright blob on every image, with noise."""
    rng = np.random.default_rng(0)
    axis = np.arange(64) - 31.5
    blob = np.exp(-(axis[:, None] ** 2 + axis**2) / 18)
    flux = rng.lognormal(5, 1, (count, 6, 1, 1))
    return (flux * blob + rng.normal(0, 5, (count, 6, 64, 64))).astype(np.float32)


def build(name, variant, mode):
    """What the workload builds, from made-up images instead of drawn ones: its spec and its step."""
    spec = Spec(variant, mode, "torch", BATCH, "paper", 0)
    if name == "galaxy-sampler":
        made = sampler.build(spec) if mode == "sample" else _training(spec)
        return spec, made
    torch.manual_seed(0)
    network = shape.GalaxyNetwork(variant).train(mode == "train")
    arrays = [images(), np.random.default_rng(1).normal(0, 0.3, (2 * BATCH, 3)).astype(np.float32)]
    if mode == "infer":
        network.normalise(arrays[0].mean((0, 2, 3)), arrays[0].var((0, 2, 3)))
        return spec, Step("torch", [Phase(network, Feed(arrays[:1], BATCH, 0))], BATCH)
    model = (shape.TrainingNetwork if variant == "dnn" else shape.BayesianTrainingNetwork)(network)
    return spec, Step("torch", [Phase(model, Feed(arrays, BATCH, 0), shape.adam(LEARNING_RATE, ADAM_EPSILON))], BATCH)


def _training(spec):
    from siderostat.workloads.galaxy_sampler import training
    from siderostat.workloads.galaxy_sampler.stretch import stretch

    return training(spec, stretch(images()))


@functools.lru_cache(maxsize=None)
def first_step(cell, precision):
    """Run one step on the processor; return what the workload's check says, and the outputs."""
    spec, made = build(*cell)
    torch.manual_seed(1)
    program = devices.load("cpu").compile(made, precision)
    program.run(1)
    return workloads.load(cell[0]).check(spec, program.outputs()), program.outputs()


# --- precision ---


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("cell", CELLS, ids=" ".join)
def test_in_16_bits_a_step_passes_its_check_and_is_near_single_precision(cell, precision):
    try:
        figures, outputs = first_step(cell, precision)
    except Unsupported:
        pytest.skip(f"this torch does not compute in {precision} on a processor")
    expected, _ = first_step(cell, "fp32")
    assert {o.dtype for o in outputs} == {np.dtype(np.float32)}
    # In fp16 the encoder's first update is left out, as its gradients overflow, and the flow's phase comes after it.
    tolerance = 0.5 if (cell[0], cell[2], precision) == ("galaxy-sampler", "train", "fp16") else 0.1
    for name, value in expected.items():
        assert figures[name] == pytest.approx(value, rel=tolerance, abs=0.02), name


def test_the_flow_is_computed_in_single_precision_whatever_is_asked_for():
    latents = [first_step(("galaxy-sampler", "naive", "sample"), p)[1][1] for p in ("fp32", "bf16")]
    assert np.array_equal(*latents)


def test_activations_stay_in_16_bits_between_layers():
    layer = shape.PixelPReLU(2, 4)
    assert layer(torch.ones(1, 2, 4, 4, dtype=torch.bfloat16)).dtype is torch.bfloat16
    assert layer(torch.ones(1, 2, 4, 4, dtype=torch.float64)).dtype is torch.float64


class Line(torch.nn.Module):
    """A dense layer whose loss has a gradient of ``slope`` for every weight."""

    def __init__(self, slope):
        super().__init__()
        self.layer = torch.nn.Linear(4, 1, bias=False)
        self.slope = slope

    def forward(self, x):
        return (self.layer(x).float().mean() * self.slope,)


def trained(precision, slope, steps=3):
    """How far the weights of :class:`Line` went under gradient descent."""
    model = Line(slope)
    before = model.layer.weight.detach().clone()
    feed = Feed([np.ones((8, 4), np.float32)], 8, 0)
    phase = Phase(model, feed, lambda parameters: torch.optim.SGD(parameters, lr=1.0))
    program = devices.load("cpu").compile(Step("torch", [phase], 8), precision)
    program.run(steps)
    return (before - model.layer.weight).abs().max().item()


def test_training_in_fp16_keeps_gradients_that_half_precision_has_no_room_for():
    try:
        assert trained("fp16", 1e-8) == pytest.approx(3e-8, rel=0.01, abs=1e-8)
    except Unsupported:
        pytest.skip("this torch does not compute in fp16 on a processor")


def test_a_step_whose_gradients_overflow_in_fp16_is_left_out_and_the_scale_lowered():
    try:
        assert trained("fp16", 1e3, steps=20) > 0
    except Unsupported:
        pytest.skip("this torch does not compute in fp16 on a processor")
    assert trained("fp16", 1e3, steps=1) == 0


def test_precisions_that_a_processor_or_this_torch_lacks_are_refused(monkeypatch):
    _, made = build("galaxy-shape", "dnn", "infer")
    with pytest.raises(Unsupported, match="a CPU has none; use fp32 or bf16"):
        devices.load("cpu").compile(made, "tf32")
    with pytest.raises(Unsupported, match="fp32, tf32, bf16, fp16, fp64 in this version, not in 'fp8'"):
        devices.load("cpu").compile(made, "fp8")
    monkeypatch.setattr(torch_step, "_computes_in", lambda half, device: False)
    with pytest.raises(Unsupported, match="does not compute in fp16 on cpu; use fp32"):
        devices.load("cpu").compile(made, "fp16")


def test_tensorflow_is_refused_in_other_precisions_before_anything_is_traced():
    with pytest.raises(Unsupported, match="tensorflow steps compute in fp32 only"):
        devices.load("cpu").compile(Step("tensorflow", [], 1), "bf16")


def test_what_is_in_force_is_said():
    _, made = build("galaxy-shape", "dnn", "infer")
    device = devices.load("cpu")
    device.configure("torch")
    device.compile(made, "bf16")
    told = device.effective()
    assert (told["autocast"], told["loss_scaling"], told["execution"]) == ("bfloat16", False, "eager")


# --- compilation ---


class Small(torch.nn.Module):
    """Batch normalisation, noise and a dense layer: buffers and random numbers that a trace could spoil."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(2)
        self.network = torch.nn.Sequential(torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 4))

    def forward(self, x):
        out = self.network(x)
        return out + 0 * torch.rand_like(out), out.square().mean()


def small_step(learns=True):
    feed = Feed([np.random.default_rng(0).normal(size=(32, 4)).astype(np.float32)], 8, 0)
    return Step("torch", [Phase(Small(), feed, torch.optim.Adam if learns else None)], 8)


def has_compiler():
    return subprocess.call("c++ --version || g++ --version", shell=True, stdout=subprocess.DEVNULL) == 0


@pytest.fixture
def subnormal_numbers():
    """Code that torch compiles makes the processor take subnormal numbers for 0; the tests behind this one want them."""
    yield
    torch.set_flush_denormal(False)


@pytest.mark.slow
@pytest.mark.skipif(not has_compiler(), reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize("learns", [True, False])
def test_a_compiled_step_computes_what_the_eager_one_does_and_compiling_changes_nothing(learns, subnormal_numbers):
    eager, made = small_step(learns), small_step(learns)
    device = devices.load("cpu:execution=compiled")
    device.configure("torch")
    model = made.phases[0].model
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    program = device.compile(made, "fp32")
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    folder = Path(os.environ["TORCHINDUCTOR_CACHE_DIR"])
    assert list(folder.rglob("*.so"))
    told = device.effective()
    assert (told["execution"], told["graphs"], told["graph_breaks"]) == ("compiled", 1, 0)
    program.run(6)
    reference = devices.load("cpu").compile(eager, "fp32")
    reference.run(6)
    assert device.effective()["graphs"] == 1  # nothing was compiled in a step
    for a, b in zip(program.outputs(), reference.outputs(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    program.close()
    assert not folder.exists()
    assert os.environ.get("TORCHINDUCTOR_CACHE_DIR") != str(folder)


def test_without_a_compiler_a_compiled_step_is_refused_with_the_remedy(tmp_path):
    code = (
        "from tests.unit.test_device_precision import small_step, devices\n"
        "device = devices.load('cpu:execution=compiled')\n"
        "try: device.compile(small_step(), 'fp32')\n"
        "except Exception as error:\n"
        "    refusal = device.refusal(error)\n"
        "    print(refusal.status.value, refusal.reason.value, refusal)\n"
    )
    environment = {**os.environ, "CXX": str(tmp_path / "none"), "PATH": str(tmp_path), "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout.startswith(f"{Status.UNSUPPORTED.value} {Reason.COMPILE_FAILED.value} torch.compile failed:"), (
        done.stderr
    )
    assert "install a C++ compiler, such as g++ (CXX names another), or use execution=eager" in done.stdout
    assert not list(tmp_path.glob("siderostat-compile-*"))


def test_a_torch_that_cannot_compile_at_all_is_refused(monkeypatch):
    def refuses(model, **options):
        raise RuntimeError("Python 3.11+ not yet supported for torch.compile")

    monkeypatch.setattr(torch, "compile", refuses)
    with pytest.raises(CompileFailed, match="not yet supported for torch.compile; use execution=eager"):
        devices.load("cpu:execution=compiled").compile(small_step(), "fp32")


# --- any device ---


def on(model, make):
    """Give a module parameters and buffers that ``make`` makes from its own."""
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        model._apply(make)
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(False)


@pytest.fixture(scope="module")
def guard(tmp_path_factory):
    """What lets a torch without CUDA handle tensors that only say they are on a GPU: a library."""
    if torch.version.cuda or torch.version.hip:
        return ""
    path = tmp_path_factory.mktemp("guard") / "guard.so"
    home = Path(torch.__file__).parent
    words = ["g++", "-std=c++20", "-shared", "-fPIC", f"-I{home / 'include'}", FAKES / "cuda_guard.cpp", "-o", path]
    if not has_compiler() or subprocess.call([*words, f"-L{home / 'lib'}", "-lc10"]):
        pytest.skip("there is no C++ compiler that takes torch's headers")
    return str(path)


def follow(library, is_half):
    """Follow every cell's step with tensors without data that say they are on a GPU; print where its outputs are.

    Under CUDA's own rules of autocast, where ``is_half``: they differ from the processor's.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    if library:
        torch.ops.load_library(library)
    for cell in CELLS:
        _, made = build(*cell)
        here = mock.patch("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
        has_bf16 = mock.patch("torch.cuda.is_bf16_supported", lambda *_: True)
        with here, has_bf16, FakeTensorMode():
            for phase in made.phases:
                on(phase.model, lambda t: torch.empty(t.shape, dtype=t.dtype, device="cuda"))
            for phase in made.phases:
                batch = [torch.empty(a.shape, device="cuda") for a in phase.feed.next()]
                with torch.autocast("cuda", dtype=torch.bfloat16, enabled=is_half):
                    outputs = phase.model(*batch)
                    product = (batch[0].flatten() @ batch[0].flatten()).dtype
                told = {f"{o.device.type} {o.dtype}" for o in outputs}
                print(*cell, *told, "products in", product, flush=True)


@pytest.mark.parametrize(("is_half", "product"), [(False, "torch.float32"), (True, "torch.bfloat16")])
def test_nothing_is_made_on_the_processor_when_the_model_is_on_a_gpu(guard, is_half, product):
    code = f"from tests.unit.test_device_precision import follow; follow({guard!r}, {is_half})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    expected = [f"{' '.join(cell)} cuda torch.float32 products in {product}" for cell in CELLS]
    assert list(dict.fromkeys(done.stdout.splitlines())) == expected


@pytest.mark.parametrize("cell", [cell for cell in CELLS if cell[2] == "train"], ids=" ".join)
def test_gradients_need_nothing_of_the_processor_either(cell):
    """On torch's device without data: a build without CUDA has no backward pass for tensors that only say cuda."""
    _, made = build(*cell)
    for phase in made.phases:
        on(phase.model, lambda tensor: tensor.to("meta"))
    for phase in made.phases:
        phase.model(*[torch.from_numpy(a).to("meta") for a in phase.feed.next()])[-1].backward()
        gradients = [parameter.grad for parameter in phase.model.parameters()]
        assert {g.device.type for g in gradients} == {"meta"}
        assert {g.dtype for g in gradients} == {torch.float32}
