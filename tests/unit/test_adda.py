"""ADDA's step: the naive formulation, that which reuses the target's features, and that of one phase."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import numpy as np
import pytest

from siderostat import devices, workloads
from siderostat.devices.base import Unsupported
from siderostat.workloads.base import BadInput, Spec, WrongResult
from siderostat.workloads.lens_adaptation import steps
from siderostat.workloads.lens_images import data
from tests.fakes import cuda as cuda_fakes

torch = pytest.importorskip("torch")

from siderostat.devices.cuda.torch import CudaProgram  # noqa: E402
from siderostat.devices.sim.trace import trace  # noqa: E402
from siderostat.workloads.lens_adaptation import adda  # noqa: E402
from siderostat.workloads.lens_adaptation.architecture import ENCODERS  # noqa: E402
from siderostat.workloads.lens_adaptation.encoders import make_encoder  # noqa: E402
from siderostat.workloads.lens_adaptation.heads import Discriminator  # noqa: E402
from siderostat.workloads.lens_adaptation.parts import AIMS, SOURCE, TARGET  # noqa: E402

WORKLOAD = workloads.load("adda-step")
FAKES = Path(__file__).resolve().parents[1] / "fakes"
BATCH, PIXELS = 4, 32


def spec(variant="reused", size="resnet18-tiny", **options):
    return Spec(variant, "train", "torch", BATCH, size, 0, {"images": 8, **options})


@pytest.fixture(autouse=True)
def noise(monkeypatch):
    """Images that cost nothing: noise, brighter with the class and smoother for Euclid."""

    def images(instrument, count, pixels, seed, source="synthetic", path=""):
        rng = np.random.default_rng([seed, instrument == "hst"])
        labels = rng.permutation(np.arange(count) % 3)
        pixels = 0.1 * rng.random((count, 1, pixels, pixels)) + 0.3 * labels[:, None, None, None]
        return (pixels * (0.8 if instrument == "euclid" else 1.0)).astype(np.float32), labels.astype(np.int64)

    monkeypatch.setattr(data, "images", images)
    monkeypatch.setattr(torch, "manual_seed", torch.manual_seed)
    torch.set_num_threads(1)


def networks(encoder="resnet18"):
    torch.manual_seed(1)
    network = make_encoder(encoder, "tiny", PIXELS).double()
    with torch.no_grad():  # statistics that are those of no batch
        for module in network.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.running_mean.normal_(0, 0.1)
    return network, Discriminator().double()


def batches(count):
    rng = torch.Generator().manual_seed(2)
    images = [torch.randn(2, BATCH, 1, PIXELS, PIXELS, generator=rng, dtype=torch.float64) for _ in range(count)]
    return [{SOURCE: a, TARGET: 1.5 * b + 0.5, AIMS: torch.zeros(BATCH, dtype=torch.long)} for a, b in images]


def trained(formulation, encoder, discriminator, given):
    """Train copies; return them and the losses of the last phase."""
    encoder, discriminator = copy.deepcopy(encoder), copy.deepcopy(discriminator)
    made = adda.parts(formulation, encoder, discriminator)
    optimizers = [part.optimizer(part.model.parameters()) for part in made]
    losses = []
    for batch in given:
        for part, optimizer in zip(made, optimizers, strict=True):
            optimizer.zero_grad()
            loss = part.model(*(batch[name] for name in part.takes))[-1]
            loss.backward()
            optimizer.step()
        losses.append(float(loss.detach()))
    return encoder, discriminator, losses


def distance(one, other):
    """Largest difference of parameters and statistics."""
    pairs = zip(one.state_dict().items(), other.state_dict().values(), strict=True)
    return max(float((a - b).abs().max()) for (name, a), b in pairs if not name.endswith("num_batches_tracked"))


@pytest.mark.parametrize("encoder", ENCODERS)
def test_reusing_the_features_changes_no_parameter_and_no_statistic(encoder):
    given = batches(3)
    start, discriminator = networks(encoder)
    naive, reused = (trained(formulation, start, discriminator, given) for formulation in ("naive", "reused"))
    assert distance(naive[0], start) > 1e-5 and distance(naive[1], discriminator) > 1e-4
    assert distance(naive[0], reused[0]) < 1e-12
    assert distance(naive[1], reused[1]) < 1e-12
    np.testing.assert_allclose(naive[2], reused[2], rtol=1e-12)


def test_one_forward_pass_counts_twice_in_the_statistics_or_they_lag_behind(monkeypatch):
    given = batches(2)
    start, discriminator = networks()
    naive = trained("naive", start, discriminator, given)[0]
    monkeypatch.setattr(adda, "count_twice", lambda encoder: None)
    lagging = trained("reused", start, discriminator, given)[0]
    weights = [(a - b).abs().max() for a, b in zip(naive.parameters(), lagging.parameters(), strict=True)]
    assert max(weights) < 1e-12 and distance(naive, lagging) > 1e-2


def test_the_encoders_gradient_passes_through_the_updated_discriminator():
    """By hand, without phases: one update of each network."""
    (given,) = batches(1)
    start, discriminator = networks()
    ours = trained("reused", start, discriminator, [given])[0]
    target, source, judge = copy.deepcopy(start).train(), start.eval(), copy.deepcopy(discriminator)
    features = torch.cat([source(given[SOURCE]), target(given[TARGET])]).detach()
    labels = torch.arange(2 * BATCH) // BATCH
    for network, rate, loss in (
        (judge, 1e-4, lambda: torch.nn.functional.cross_entropy(judge(features), labels)),
        (target, 1e-5, lambda: -judge(target(given[TARGET])).log_softmax(1)[:, 0].mean()),
    ):
        optimizer = torch.optim.Adam(network.parameters(), lr=rate, weight_decay=5e-5)
        loss().backward()
        optimizer.step()
        judge.zero_grad()
    moved = [(a - b).abs().max() for a, b in zip(ours.parameters(), target.parameters(), strict=True)]
    assert max(moved) < 1e-12


def test_one_phase_differs_by_the_discriminators_update_alone():
    """Where the discriminator does not learn, there is no before and after."""
    given = batches(3)
    start, discriminator = networks()
    apart = distance(*(trained(f, start, discriminator, given)[0] for f in ("reused", "summed")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adda, "DISCRIMINATOR_RATE", 0.0)
        same = distance(*(trained(f, start, discriminator, given)[0] for f in ("reused", "summed")))
    assert same < 1e-12 < apart


def test_one_phase_updates_the_discriminator_as_two_do():
    given = batches(1)
    judges = [trained(formulation, *networks(), given)[1] for formulation in ("reused", "summed")]
    assert distance(*judges) < 1e-12


@pytest.mark.parametrize("formulation", adda.FORMULATIONS)
def test_the_sources_encoder_stays_as_it_is_and_in_inference(formulation):
    start, discriminator = networks()
    made = adda.parts(formulation, start, discriminator)
    frozen = made[0].model.source
    before = copy.deepcopy(frozen.state_dict())
    optimizers = [part.optimizer(part.model.parameters()) for part in made]
    for batch in batches(2):
        for part, optimizer in zip(made, optimizers, strict=True):
            part.model.train()  # as some compilers do
            optimizer.zero_grad()
            part.model(*(batch[name] for name in part.takes))[-1].backward()
            optimizer.step()
    assert all(torch.equal(before[name], value) for name, value in frozen.state_dict().items())
    assert not any(module.training for module in frozen.modules()) and start.training
    assert all(p.grad is None and not p.requires_grad for p in frozen.parameters())


def test_each_network_learns_against_the_other():
    """The discriminator alone tells the domains apart; the encoder alone is then taken for the source."""
    start, discriminator = networks()
    (given,) = batches(1)
    first, second = adda.parts("naive", start, discriminator)
    for part, rate in ((first, 3e-3), (second, 1e-3)):
        trains = part.optimizer(part.model.parameters())
        losses = []
        for group in trains.param_groups:
            group["lr"] = rate
        for _ in range(15):
            trains.zero_grad()
            loss = part.model(*(given[name] for name in part.takes))[-1]
            loss.backward()
            trains.step()
            losses.append(float(loss.detach()))
        assert losses[-1] < 0.5 * losses[0]


def test_features_are_taken_once():
    start, discriminator = networks()
    _, second = adda.parts("reused", start, discriminator)
    with pytest.raises(RuntimeError, match="run the discriminator's phase before it"):
        second.model(torch.zeros(BATCH, dtype=torch.long))
    with pytest.raises(LookupError, match="there are naive, reused, summed"):
        adda.parts("public", start, discriminator)


# --- as a workload ---


@pytest.mark.parametrize("size", ["resnet18-quarter", "equivariant-paper"])
def test_sizes_are_those_of_the_networks(size):
    listed = WORKLOAD.variants["naive"][size]
    encoder = make_encoder(*steps.split(size), steps.PIXELS[steps.split(size)[1]])
    assert listed.parts["discriminator"] == sum(p.numel() for p in Discriminator().parameters()) == 132_098
    assert listed.parts["target encoder"] == sum(p.numel() for p in encoder.parameters())
    assert listed.trainable == listed.parts["target encoder"] + 132_098
    assert listed.parameters == listed.trainable + listed.parts["source encoder"]


@pytest.mark.parametrize("variant", adda.FORMULATIONS)
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16", "fp64"])
def test_every_formulation_runs_on_the_processor_in_every_precision(variant, precision):
    device = devices.load("cpu:threads=1")
    device.configure("torch")
    device.require(WORKLOAD.needs(spec(variant)), "torch")
    program = device.compile(WORKLOAD.build(spec(variant)), precision)
    program.run(2)
    figures = WORKLOAD.check(spec(variant), program.outputs())
    assert 0 < figures["loss"] < 3 and 0 <= figures["taken_for_source"] <= 1
    assert ("discriminator_loss" in figures) == (variant == "summed")


def test_two_formulations_on_a_device_end_with_the_same_weights():
    found = []
    for variant in ("naive", "reused"):
        step = WORKLOAD.build(spec(variant))
        device = devices.load("cpu:threads=1")
        device.configure("torch")
        device.compile(step, "fp64").run(5)
        found.append(step.phases[1].model.target)
    assert distance(*found) < 1e-12


def test_the_gpus_program_keeps_the_phases_in_step():
    """With a stand-in for torch.cuda. Each phase has batches of its own: other images would part the two formulations."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    found = []
    for variant in ("naive", "reused"):
        step = WORKLOAD.build(spec(variant))
        CudaProgram(step, "fp64", False, True, torch.device("cpu"), cuda_fakes.Cuda()).run(4)
        found.append(step.phases[1].model.target)
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
    assert distance(*found) < 1e-12


def test_a_trace_knows_what_is_reused():
    graphs = {variant: trace(WORKLOAD.build(spec(variant))) for variant in adda.FORMULATIONS}
    buffers = make_encoder("resnet18", "tiny").buffers()
    statistics = sum(buffer.numel() for buffer in buffers if buffer.is_floating_point())
    listed = WORKLOAD.variants["naive"]["resnet18-tiny"].parameters
    assert {graph.parameters for graph in graphs.values()} == {listed + 2 * statistics}
    products = {
        variant: sum(op.flops for op in graph.ops if op.kind in ("conv", "matmul")) / BATCH
        for variant, graph in graphs.items()
    }
    assert 1.6 < products["naive"] / products["reused"] < 1.8
    assert products["summed"] == pytest.approx(products["reused"], rel=0.02)
    for variant, found in products.items():  # the first layer hands no gradient back; heads are left out
        assert found == pytest.approx(WORKLOAD.flops_per_item(spec(variant)), rel=0.15)


@pytest.mark.parametrize("variant", adda.FORMULATIONS)
def test_a_simulated_chip_runs_both_phases(variant):
    device = devices.load("sim:nvidia-a100")
    program = device.compile(WORKLOAD.build(spec(variant)), "fp32")
    assert program.run(3).seconds > 0
    assert WORKLOAD.check(spec(variant), program.outputs())["loss"] > 0


def test_an_ipu_takes_the_formulation_of_one_phase_and_says_why_no_other(monkeypatch):
    monkeypatch.syspath_prepend(FAKES)
    for name in ("poptorch", "gcipuinfo", "siderostat.devices.ipu.poptorch", "siderostat.devices.ipu.executable"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    device = devices.load("ipu")
    for variant in ("naive", "reused"):
        with pytest.raises(Unsupported, match="weights shared between phases.*use one phase with a summed loss"):
            device.require(WORKLOAD.needs(spec(variant)), "torch")
    device.require(WORKLOAD.needs(spec("summed")), "torch")
    step = WORKLOAD.build(spec("summed"))
    before = copy.deepcopy(step.phases[0].model)
    program = device.compile(step, "fp32")
    try:
        program.run(3)
        figures = WORKLOAD.check(spec("summed"), program.outputs())
    finally:
        program.close()
    assert figures["loss"] > 0
    assert distance(before.source, step.phases[0].model.source) == 0
    assert distance(before.target, step.phases[0].model.target) > 0


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda logits, loss: (logits * np.nan, loss), "not finite"),
        (lambda logits, loss: (logits[:1], loss), "shape"),
        (lambda logits, loss: (logits,), "1 outputs"),
    ],
)
def test_check_finds_wrong_outputs(spoil, words):
    with pytest.raises(WrongResult, match=words):
        WORKLOAD.check(spec(), spoil(np.zeros((BATCH, 2), np.float32), np.float32(1)))


def test_an_option_that_cannot_be_is_refused():
    assert WORKLOAD.parts(spec()) == 2
    with pytest.raises(BadInput, match="images must be 1 or more, not 0"):
        WORKLOAD.parts(spec(images=0))
