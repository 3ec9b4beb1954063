"""The galaxy-shape workload as the harness uses it."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from siderostat.workloads import load
from siderostat.workloads.base import BadInput, Spec, WrongResult

WORKLOAD = load("galaxy-shape")
torch = pytest.importorskip("torch")
pytest.importorskip("galsim")


def _spec(mode="train", batch=16, seed=0, **options):
    return Spec("dnn", mode, "torch", batch, "paper", seed, {"images": 128, **options})


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIDEROSTAT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def _train(phase, steps):
    """Train, and yield each step's outputs."""
    optimizer = phase.optimizer(phase.model.parameters())
    for _ in range(steps):
        optimizer.zero_grad()
        outputs = phase.model(*map(torch.from_numpy, phase.feed.next()))
        outputs[-1].backward()
        optimizer.step()
        yield [o.detach().numpy().copy() for o in outputs]


@pytest.fixture(scope="module")
def trained():
    """Losses of 40 steps at batch 16 on 128 images, the last outputs, and the step."""
    step = WORKLOAD.build(_spec())
    outputs = list(_train(step.phases[0], 40))
    return [float(o[-1]) for o in outputs], outputs[-1], step


def test_importing_it_imports_no_framework():
    code = (
        "import siderostat.workloads.galaxy_shape as g, sys; print({'torch', 'galsim', 'astropy'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"


@pytest.mark.parametrize(("images", "parts"), [(1, 1), (64, 1), (65, 2), (512, 8)])
def test_parts_hold_64_images(images, parts):
    assert WORKLOAD.parts(_spec(images=images)) == parts


@pytest.mark.parametrize(
    ("variant", "parameters"), [("dnn", 1_517_217), ("bnn", 2_726_241), ("bnn-flipout", 2_726_241)]
)
def test_size_is_that_of_the_network(variant, parameters):
    model = WORKLOAD.build(dataclasses.replace(_spec("infer", 2), variant=variant)).phases[0].model
    size = WORKLOAD.variants[variant]["paper"]
    assert size.parameters == parameters
    trainable = sum(p.numel() for p in model.parameters())
    statistics = sum(b.numel() for b in model.buffers() if b.is_floating_point())
    assert (size.trainable, size.parameters) == (trainable, trainable + statistics)


def test_flops_are_203_million_forward_and_three_times_that_in_training():
    assert WORKLOAD.flops_per_item(_spec("infer")) == pytest.approx(203e6, rel=1e-3)
    assert WORKLOAD.flops_per_item(_spec("train")) == 3 * WORKLOAD.flops_per_item(_spec("infer"))


def test_the_loss_falls(trained):
    losses, *_ = trained
    assert np.mean(losses[-8:]) < np.mean(losses[:8]) - 1.0


@pytest.mark.parametrize("variant", ["bnn", "bnn-flipout"])
def test_the_bayesian_network_learns_images_and_its_check_tells_likelihood_from_divergence(variant):
    spec = dataclasses.replace(_spec(), variant=variant)
    figures = [WORKLOAD.check(spec, outputs) for outputs in _train(WORKLOAD.build(spec).phases[0], 25)]
    likelihoods = [f["nll"] for f in figures]
    assert np.mean(likelihoods[-5:]) < np.mean(likelihoods[:5]) - 0.5
    assert figures[-1]["divergence"] < figures[0]["divergence"]


def test_flipout_does_every_layer_twice():
    plain, flipout = (WORKLOAD.flops_per_item(dataclasses.replace(_spec(), variant=v)) for v in ("bnn", "bnn-flipout"))
    assert plain == WORKLOAD.flops_per_item(_spec())
    assert flipout == 2 * plain


def test_check_of_a_training_step(trained):
    losses, outputs, step = trained
    figures = WORKLOAD.check(_spec(), outputs)
    assert figures["nll"] == pytest.approx(losses[-1])
    assert figures["loc_rms"] == pytest.approx(np.sqrt((outputs[0] ** 2).mean()), rel=1e-5)
    assert (step.items, step.framework) == (16, "torch")


def test_inference_gives_the_same_in_every_process_and_needs_no_labels():
    def outputs(seed):
        phase = WORKLOAD.build(_spec("infer", 4, seed)).phases[0]
        with torch.no_grad():
            result = [o.numpy() for o in phase.model(*map(torch.from_numpy, phase.feed.next()))]
        return phase, result

    phase, first = outputs(1)
    assert phase.optimizer is None
    assert set(WORKLOAD.check(_spec("infer", 4), first)) == {"loc_rms"}
    assert all(np.array_equal(a, b) for a, b in zip(first, outputs(1)[1]))
    assert not np.array_equal(first[0], outputs(2)[1][0])


def test_inference_with_drawn_weights_sees_normalised_bands():
    phase = WORKLOAD.build(dataclasses.replace(_spec("infer", 128), variant="bnn")).phases[0]
    with torch.no_grad():
        bands = phase.model.normalisation(torch.from_numpy(phase.feed.next()[0])).transpose(0, 1).flatten(1)
    assert torch.allclose(bands.mean(1), torch.zeros(6), atol=1e-3)
    assert torch.allclose(bands.std(1), torch.ones(6), atol=1e-3)


def _outputs():
    return [np.zeros((2, 3), np.float32), np.stack([np.eye(3, dtype=np.float32)] * 2), np.array(1.5, np.float32)]


@pytest.mark.parametrize(
    ("which", "value", "message"),
    [
        (0, np.zeros((2, 4), np.float32), r"the mean has shape \(2, 4\)"),
        (0, np.full((2, 3), np.nan, np.float32), "6 of 6 values of the mean are not finite"),
        (1, np.stack([-np.eye(3, dtype=np.float32)] * 2), "diagonal element is -1"),
        (2, np.array(np.inf), "1 of 1 values of the loss"),
        (2, np.zeros(2), "the loss has shape"),
    ],
)
def test_wrong_outputs_are_found_out(which, value, message):
    outputs = _outputs()
    assert WORKLOAD.check(_spec(batch=2), outputs)["nll"] == 1.5
    outputs[which] = value
    with pytest.raises(WrongResult, match=message):
        WORKLOAD.check(_spec(batch=2), outputs)


def test_a_missing_output_is_found_out():
    with pytest.raises(WrongResult, match="2 outputs instead of 3"):
        WORKLOAD.check(_spec(batch=2), _outputs()[:2])


@pytest.mark.parametrize("options", [{"images": 0}, {"images": -5}, {"images": 1.5}, {"images": True}])
def test_images_must_be_a_positive_whole_number(options):
    for use in (WORKLOAD.parts, WORKLOAD.build):
        with pytest.raises(BadInput, match="images must be a whole number of at least 1"):
            use(_spec(**options))


def test_a_negative_image_seed_is_refused():
    with pytest.raises(BadInput, match="image_seed must be"):
        WORKLOAD.build(_spec(image_seed=-1))


def test_a_missing_catalogue_is_refused(tmp_path):
    with pytest.raises(BadInput, match="cannot be read"):
        WORKLOAD.make_part(_spec(catalogue=str(tmp_path / "none.fits")), 0)


@pytest.mark.parametrize(("name", "value"), [("clip", -1.0), ("clip", float("inf")), ("warm_up", -1)])
def test_an_impossible_clip_or_warm_up_is_refused(name, value):
    with pytest.raises(BadInput, match=f"{name} must be 0 or more, not {value}"):
        WORKLOAD.build(_spec(**{name: value}))
