"""Self-ensembling, AdaMatch, CGDM and the supervised stage: formulas against loops, steps on devices, whole trainings."""

from __future__ import annotations

import copy
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from siderostat import devices, workloads
from siderostat.devices.base import Unsupported
from siderostat.workloads.base import SHARED_WEIGHTS, UPDATE_HOOKS, Spec, WrongResult
from siderostat.workloads.lens_images import data

torch = pytest.importorskip("torch")

from siderostat.devices.sim.trace import trace  # noqa: E402
from siderostat.workloads.lens_adaptation import (  # noqa: E402
    adamatch,
    adaptation,
    augment,
    cgdm,
    parts,
    self_ensemble,
    supervised,
)
from siderostat.workloads.lens_adaptation.heads import Classifier  # noqa: E402
from siderostat.workloads.lens_adaptation.pseudo_labels import spherical_k_means  # noqa: E402

FAKES = Path(__file__).resolve().parents[1] / "fakes"
ONE_PHASE = ["supervised-step", "self-ensemble-step", "adamatch-step"]
NAMES = [*ONE_PHASE, "cgdm-step"]
BATCH = 6
GAP = -1.0  # in background between source and target, where whole trainings are tested


def spec(name, **options):
    return Spec("published", "train", "torch", BATCH, "resnet18-tiny", 0, {"images": 12, **options})


def pictures(count, seed, offset=0.0, side=16):
    """Images of three classes, a cross, a spot and a frame, with noise and a background."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    images = 0.15 * rng.normal(size=(count, 1, side, side)) + offset
    middle, inner, outer = (slice(side // 2 - half, side // 2 + half) for half in (2, 4, 6))
    images[labels == 0, :, middle, :] += 0.5
    images[labels == 0, :, :, middle] += 0.5
    images[labels == 1, :, middle, middle] += 1.0
    images[labels == 2, :, outer, outer] += 0.7
    images[labels == 2, :, inner, inner] -= 0.7
    return images.astype(np.float32), labels.astype(np.int64)


@pytest.fixture(autouse=True)
def made(monkeypatch):
    monkeypatch.setattr(data, "images", lambda instrument, count, pixels, seed, *_: pictures(count, seed, 0.3, pixels))
    monkeypatch.setattr(torch, "manual_seed", torch.manual_seed)
    torch.set_num_threads(1)


class Small(torch.nn.Module):
    """Features of small images: two convolutions with batch normalisation."""

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Conv2d(1, 8, 5, stride=2, padding=2), torch.nn.BatchNorm2d(8), torch.nn.ReLU(),
            torch.nn.Conv2d(8, 8, 3, stride=2, padding=1), torch.nn.BatchNorm2d(8), torch.nn.ReLU(),
            torch.nn.Flatten(), torch.nn.LazyLinear(256),
        )  # fmt: skip

    def forward(self, images):
        return self.layers(images)


def network(seed=0):
    torch.manual_seed(seed)
    made = torch.nn.Sequential(Small(), Classifier())
    made(torch.zeros(2, 1, 16, 16))
    return made


def probabilities(rows, seed, sharpness=1.0):
    rng = torch.Generator().manual_seed(seed)
    return (sharpness * torch.randn(rows, 3, generator=rng, dtype=torch.float64)).softmax(1)


def trained(part, batches):
    """Train one part; return its losses."""
    optimizer, losses = part.optimizer(part.model.parameters()), []
    for batch in batches:
        optimizer.zero_grad()
        loss = part.model(*(batch[name] for name in part.takes))[-1]
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def batch_of(count=24, seed=0):
    source, labels = pictures(count, seed)
    target, truth = pictures(count, seed + 1, 0.3)
    arrays = {parts.SOURCE: source, parts.LABELS: labels, parts.TARGET: target, parts.PSEUDO: truth}
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def test_importing_the_steps_imports_no_framework():
    code = "import siderostat.workloads.lens_adaptation.steps, sys; print({'torch', 'sklearn', 'numba'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"


# --- self-ensembling ---


def test_the_teacher_is_the_average_of_the_students_weights():
    training = self_ensemble.parts(network())[0]
    start = [p.detach().clone() for p in training.model.teacher.parameters()]
    optimizer = training.optimizer(training.model.parameters())
    seen = []
    for seed in range(3):
        optimizer.zero_grad()
        batch = batch_of(seed=seed)
        training.model(*(batch[name] for name in training.takes))[-1].backward()
        optimizer.step()
        seen.append([p.detach().clone() for p in training.model.student.parameters()])
    for which, average in enumerate(start):
        for weights in seen:
            average = 0.999 * average + 0.001 * weights[which]
        found = list(training.model.settled().parameters())[which]
        torch.testing.assert_close(found, average, rtol=1e-6, atol=1e-7)
    assert not any(p.requires_grad for p in training.model.teacher.parameters())
    assert any((p - q).abs().max() > 1e-5 for p, q in zip(start, seen[-1], strict=True))


def test_looking_at_the_teacher_does_not_move_it():
    model = self_ensemble.parts(network())[0].model
    with torch.no_grad():
        for p in model.student.parameters():
            p.add_(1.0)
    for _ in range(2):
        moved = [(a - b).mean() for a, b in zip(model.settled().parameters(), model.teacher.parameters(), strict=True)]
        assert all(float(m.detach()) == pytest.approx(1e-3, rel=1e-2) for m in moved)


def test_disagreement_is_the_published_formula():
    students, teachers = probabilities(40, 1), probabilities(40, 2, sharpness=6.0)
    counted, apart = 0, 0.0
    for s, t in zip(students.tolist(), teachers.tolist(), strict=True):
        if max(t) > 0.96837722:
            counted += 1
            apart += sum((a - b) ** 2 for a, b in zip(s, t, strict=True)) / 3
    assert 5 < counted < 35
    balance = 0.0
    for mean in students.mean(0).tolist():
        balance -= math.log(mean + 1e-6) / 3 + 2 * math.log(1 - mean + 1e-6) / 3
    expected = apart / 40 + 0.005 * balance * counted / 40
    assert float(self_ensemble.disagreement(students, teachers)) == pytest.approx(expected, rel=1e-12)


def test_the_class_balance_pulls_towards_equal_classes():
    """Its gradient is nought only where classes are equal; with the public code's order of arguments it always is."""
    logits = torch.tensor([[1.0, 0.0, 0.0]] * 4, requires_grad=True)
    teachers = torch.tensor([[1.0, 0.0, 0.0]] * 4)
    students = logits.softmax(1)
    balance = self_ensemble.disagreement(students, teachers) - (students - teachers).square().mean(1).mean()
    balance.backward()
    assert float(logits.grad[0, 0]) > 1e-5 and float(logits.grad[0, 1]) < -1e-5


# --- AdaMatch ---


def test_alignment_is_a_ratio_for_each_class():
    targets, sources = probabilities(30, 3), probabilities(20, 4, sharpness=3.0)
    expected = []
    for row in targets.tolist():
        moved = []
        for k, p in enumerate(row):
            of_sources = sum(s[k] for s in sources.tolist()) / 20
            of_targets = sum(t[k] for t in targets.tolist()) / 30
            moved.append(p * (of_sources + 1e-6) / (of_targets + 1e-6))
        expected.append([m / sum(moved) for m in moved])
    aligned = adamatch.align(targets, sources)
    np.testing.assert_allclose(aligned.numpy(), expected, rtol=1e-12)
    before, after = ((p.mean(0) - sources.mean(0)).abs().max() for p in (targets, aligned))
    assert after < 0.5 * before


def test_one_ratio_for_all_classes_does_nothing():
    """What the public code computes: mean over images and classes alike."""
    targets, sources = probabilities(30, 3), probabilities(20, 4, sharpness=3.0)
    assert float((sources.mean() + 1e-6) / (targets.mean() + 1e-6)) == pytest.approx(1, abs=1e-12)


def test_the_targets_weight_rises_to_1_in_half_of_the_steps():
    done = torch.tensor([0.0, 0.125, 0.25, 0.5, 0.75, 1.0], dtype=torch.float64)
    expected = [0, 0.5 - math.cos(math.pi / 4) / 2, 0.5, 1, 1, 1]
    np.testing.assert_allclose(adamatch.rising(done).numpy(), expected, atol=1e-12)
    model = adamatch.parts(network(), total_steps=4)[0].model
    assert [float(model._weight()) for _ in range(4)] == pytest.approx([0, 0.5, 1, 1])
    assert float(adamatch.parts(network())[0].model._weight()) == 1


def test_the_second_pass_moves_no_statistic_and_still_normalises_by_its_batch():
    net = network().train()
    images = torch.from_numpy(pictures(8, 0)[0])
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with adamatch.untracked(net):
        inside = net(images)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    torch.testing.assert_close(net(images), inside)
    assert any(not torch.equal(value, before[name]) for name, value in net.state_dict().items())


# --- CGDM ---


def gradient_inputs():
    rng = torch.Generator().manual_seed(5)
    features = torch.randn(2, 7, 5, generator=rng, dtype=torch.float64)
    weights = [
        (torch.randn(3, 5, generator=rng, dtype=torch.float64), torch.randn(3, generator=rng, dtype=torch.float64))
        for _ in range(2)
    ]
    return features, torch.arange(7) % 3, (torch.arange(7) // 2) % 3, weights


def discrepancy_of(features, labels, pseudo, weights):
    own = [(w.clone().requires_grad_(), b.clone().requires_grad_()) for w, b in weights]
    return cgdm.gradient_discrepancy(features[0], labels, features[1], pseudo, own)


def test_the_gradient_discrepancy_is_one_less_the_cosine():
    """The gradient of a cross-entropy by a linear classifier's weights, written out."""
    features, labels, pseudo, weights = gradient_inputs()

    def asked(images, wanted, weight, bias, is_target):
        logits = images @ weight.T + bias
        p = logits.softmax(1)
        if not is_target:
            by_logits = (p - torch.eye(3)[wanted]) / len(images)
            return by_logits.T @ images, by_logits.sum(0)
        logits = logits.detach().requires_grad_()
        cgdm.sure_cross_entropy(logits, wanted).backward()
        return logits.grad.T @ images, logits.grad.sum(0)

    expected = 0.0
    for weight, bias in weights:
        of_source = asked(features[0], labels, weight, bias, False)
        of_target = asked(features[1], pseudo, weight, bias, True)
        rows = [float(a @ b / (a.norm() * b.norm())) for a, b in zip(of_source[0], of_target[0], strict=True)]
        cosine = float(of_source[1] @ of_target[1] / (of_source[1].norm() * of_target[1].norm()))
        expected += (1 - (np.mean(rows) + cosine) / 2) / 2
    assert float(discrepancy_of(features, labels, pseudo, weights).detach()) == pytest.approx(expected, rel=1e-9)


def test_the_gradient_of_the_gradients_is_that_of_finite_differences():
    features, labels, pseudo, weights = gradient_inputs()
    moving = features.clone().requires_grad_()
    discrepancy_of(moving, labels, pseudo, weights).backward()
    step = 1e-6
    for place in [(0, 0, 0), (0, 3, 2), (1, 1, 4), (1, 6, 1)]:
        found = []
        for sign in (1, -1):
            moved = features.clone()
            moved[place] += sign * step
            found.append(float(discrepancy_of(moved, labels, pseudo, weights).detach()))
        assert float(moving.grad[place]) == pytest.approx((found[0] - found[1]) / (2 * step), rel=1e-5, abs=1e-8)


def test_each_phase_of_cgdm_moves_what_it_trains_and_one_optimiser_serves_all():
    net = network()
    networks = cgdm.Networks(net[0], net[1], Classifier())
    phases = cgdm.parts(networks)
    assert len(phases) == 2 + 4
    optimizers = [part.optimizer(part.model.parameters()) for part in phases]
    assert len(set(map(id, optimizers))) == 1
    batch, moved = batch_of(), []
    for part in phases:
        before = copy.deepcopy([[p.detach() for p in m.parameters()] for m in (networks.encoder, networks.classifiers)])
        optimizers[0].zero_grad()
        part.model(*(batch[name] for name in part.takes))[-1].backward()
        optimizers[0].step()
        now = [list(m.parameters()) for m in (networks.encoder, networks.classifiers)]
        moved.append(
            tuple(
                any(not torch.equal(a, b) for a, b in zip(x, y, strict=True)) for x, y in zip(before, now, strict=True)
            )
        )
    assert moved == [(True, True), (False, True), *[(True, False)] * 4]


def test_the_classifiers_part_and_the_encoder_brings_them_together():
    networks = cgdm.Networks(network()[0], Classifier(), Classifier())
    phases, batch = cgdm.parts(networks), batch_of()

    def apart():
        with torch.no_grad():
            return float(cgdm.discrepancy(networks.logits(networks.encoder(batch[parts.TARGET]))))

    start = apart()
    trained(phases[1], [batch] * 10)
    wide = apart()
    trained(phases[2], [batch] * 10)
    assert wide > 1.02 * start and apart() < wide


def test_k_means_finds_separable_clusters_that_a_classifier_only_suspects():
    rng = np.random.default_rng(0)
    truth = rng.integers(3, size=300)
    features = torch.from_numpy(4.0 * np.eye(3, 8)[truth] + 0.5 * rng.normal(size=(300, 8)))
    unsure = torch.from_numpy(0.2 * np.eye(3)[truth] + rng.normal(scale=0.5, size=(300, 3))).softmax(1)
    assert 0.35 < float((unsure.argmax(1).numpy() == truth).mean()) < 0.7
    assert float((spherical_k_means(features, unsure).numpy() == truth).mean()) > 0.99


def test_pseudo_labels_leave_the_networks_as_they_are():
    networks = cgdm.Networks(network()[0], Classifier(), Classifier()).train()
    before = copy.deepcopy(networks.state_dict())
    labels = cgdm.pseudo_labels(networks, torch.from_numpy(pictures(30, 0)[0]))
    assert labels.shape == (30,) and labels.dtype == torch.int64 and networks.encoder.training
    assert all(torch.equal(before[name], value) for name, value in networks.state_dict().items())


# --- supervised, and what all have in common ---


def test_the_learning_rate_goes_through_one_cycle_and_stays_at_its_end():
    part = supervised.parts(network(), cycle_steps=20)[0]
    optimizer, rates = part.optimizer(part.model.parameters()), []
    batch = batch_of()
    for _ in range(24):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.zero_grad()
        part.model(*(batch[name] for name in part.takes))[-1].backward()
        optimizer.step()
    assert rates[0] == pytest.approx(1e-3 / 25) and max(rates) == pytest.approx(1e-3)
    assert 4 <= int(np.argmax(rates)) <= 6 and rates[-1] == rates[19] == pytest.approx(1e-3 / 25 / 1e4)
    assert optimizer.param_groups[0]["weight_decay"] == 5e-5


@pytest.mark.parametrize("algorithm", [supervised, self_ensemble, adamatch])
def test_losses_fall(algorithm):
    part = algorithm.parts(network())[0]
    torch.manual_seed(0)
    losses = trained(part, [batch_of()] * 40)
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])


def test_weak_images_are_mirrored_and_strong_ones_changed_more():
    torch.manual_seed(0)
    images = torch.arange(64 * 9, dtype=torch.float32).view(64, 1, 3, 3)
    ways = set()
    for old, new in zip(images, augment.weak(images), strict=True):
        for way in ((), (-1,), (-2,), (-1, -2)):
            if torch.equal(old.flip(way), new):
                ways.add(way)
    assert len(ways) == 4
    spots = torch.zeros(200, 1, 17, 17)
    spots[:, :, 8, 8] = 100.0
    changed = augment.strong(spots)
    place = changed.view(200, -1).argmax(1)
    rows, columns = place // 17 - 8, place % 17 - 8
    assert set(rows.tolist()) == set(columns.tolist()) == {-2, -1, 0, 1, 2}
    assert 80 < float(changed.amax()) < 121 and float(changed.amin()) > -0.5


# --- as workloads ---


@pytest.mark.parametrize("name", NAMES)
def test_a_step_runs_on_the_processor_and_is_checked(name):
    workload, of = workloads.load(name), spec(name)
    for precision in ("fp32", "bf16"):
        device = devices.load("cpu:threads=1")
        device.configure("torch")
        step = workload.build(of)
        program = device.compile(step, precision)
        program.run(1)
        figures = workload.check(of, program.outputs())
        assert math.isfinite(figures["loss"])
    with pytest.raises(WrongResult, match="not finite"):
        workload.check(of, [*program.outputs()[:-1], np.float32(np.nan)])


@pytest.mark.parametrize("name", NAMES)
def test_sizes_and_traces_agree(name):
    workload, of = workloads.load(name), spec(name)
    step = workload.build(of)
    graph = trace(step)
    size = workload.variants["published"]["resnet18-tiny"]
    held = {id(t): t for phase in step.phases for t in [*phase.model.parameters(), *phase.model.buffers()]}.values()
    assert size.parameters == sum(t.numel() for t in held if isinstance(t, torch.nn.Parameter))
    assert size.trainable == sum(t.numel() for t in held if t.requires_grad)
    assert graph.parameters == sum(t.numel() for t in held if t.is_floating_point())
    work = sum(op.flops for op in graph.ops if op.kind in ("conv", "matmul")) / BATCH
    assert work == pytest.approx(workload.flops_per_item(of), rel=0.15)


@pytest.mark.parametrize("name", ["self-ensemble-step", "cgdm-step"])
def test_a_simulated_chip_runs_a_step(name):
    device = devices.load("sim:nvidia-a100")
    program = device.compile(workloads.load(name).build(spec(name)), "fp32")
    assert program.run(2).seconds > 0
    assert math.isfinite(workloads.load(name).check(spec(name), program.outputs())["loss"])


@pytest.fixture
def ipu(monkeypatch):
    monkeypatch.syspath_prepend(FAKES)
    for name in ("poptorch", "gcipuinfo", "siderostat.devices.ipu.poptorch", "siderostat.devices.ipu.executable"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return devices.load("ipu")


@pytest.mark.parametrize("name", ONE_PHASE)
def test_an_ipu_runs_steps_of_one_phase(name, ipu):
    workload = workloads.load(name)
    ipu.require(workload.needs(spec(name)), "torch")
    program = ipu.compile(workload.build(spec(name)), "fp32")
    try:
        program.run(2)
        assert math.isfinite(workload.check(spec(name), program.outputs())["loss"])
    finally:
        program.close()


def test_an_ipu_refuses_what_shares_weights_or_hooks_an_update(ipu):
    assert workloads.load("cgdm-step").needs(spec("cgdm-step")) == (SHARED_WEIGHTS,)
    with pytest.raises(Unsupported, match="weights shared between phases"):
        ipu.require((SHARED_WEIGHTS,), "torch")
    with pytest.raises(Unsupported):
        ipu.compile(workloads.load("cgdm-step").build(spec("cgdm-step")), "fp32")
    assert workloads.load("supervised-step").needs(spec("supervised-step", cycle=100)) == (UPDATE_HOOKS,)


# --- whole trainings ---


def images_of(count, seed, offset):
    pixels, labels = pictures(count, seed, offset)
    return adaptation.Images(torch.from_numpy(pixels), torch.from_numpy(labels))


@pytest.fixture(scope="module")
def source_network():
    pytest.importorskip("sklearn")
    net = network(1)
    history = adaptation.train_source(net, images_of(240, 1, 0.0), images_of(60, 2, 0.0), epochs=4, seed=0, batch=24)
    return net, history


def test_the_best_epoch_on_the_source_is_kept(source_network):
    net, history = source_network
    assert len(history.scores) == len(history.losses) == 4
    assert history.selected.accuracy > 0.9 and history.selected.auc > 0.95
    assert adaptation.score(net, images_of(60, 2, 0.0)) == history.selected


def test_statistics_of_the_target_alone_help_where_only_the_background_differs(source_network):
    net, _ = source_network
    test = images_of(90, 3, GAP)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    adapted = adaptation.adapt_statistics(net, images_of(120, 4, GAP).pixels)
    assert adaptation.score(adapted, test).accuracy > adaptation.score(net, test).accuracy + 0.1
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), adapted.parameters(), strict=True))


@pytest.mark.parametrize("algorithm", adaptation.ALGORITHMS)
def test_adaptation_tells_final_and_selected_scores_and_leaves_the_source_alone(algorithm, source_network):
    net, _ = source_network
    before = {name: value.clone() for name, value in net.state_dict().items()}
    target, test = images_of(120, 4, GAP), images_of(90, 3, GAP)
    found = [
        adaptation.adapt(algorithm, net, images_of(120, 1, 0.0), target, test, epochs=6, seed=3, batch=24)
        for _ in range(2)
    ]
    (adapted, history), (_, again) = found
    assert history == again and len(history.scores) == 6
    assert history.selected.accuracy >= history.final.accuracy == adaptation.score(adapted, test).accuracy
    assert history.final.accuracy > adaptation.score(net, test).accuracy
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_an_unknown_algorithm_is_refused(source_network):
    some = images_of(24, 1, 0.0)
    with pytest.raises(LookupError, match="there are adda, self-ensemble, adamatch, cgdm"):
        adaptation.adapt("dann", source_network[0], some, some, some, epochs=1, seed=0)
