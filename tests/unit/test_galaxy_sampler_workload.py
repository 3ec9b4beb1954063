"""The galaxy sampler as the harness uses it: checkpoint, steps, checks, and what sampled galaxies are like."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest

from siderostat.workloads import load
from siderostat.workloads.base import BadInput, Spec, WrongResult
from siderostat.workloads.galaxy_images.survey import BANDS, sky_electrons
from siderostat.workloads.galaxy_sampler import checkpoint, layers, statistics
from siderostat.workloads.galaxy_sampler.stretch import stretch, unstretch

WORKLOAD = load("galaxy-sampler")
torch = pytest.importorskip("torch")


def _spec(mode="sample", variant="incremental", batch=4, seed=0, **options):
    return Spec(variant, mode, "torch", batch, "paper", seed, options)


def _call(phase):
    with torch.inference_mode():
        return [o.numpy() for o in phase.model(*map(torch.from_numpy, phase.feed.next()))]


def _gaussians(sigmas_arcsec, angle=0.0, electrons=1e5, x=0.0, y=0.0):
    """Elliptical Gaussians of these widths along two axes, (1, 6, 64, 64)."""
    axis = (np.arange(64) - 31.5) * 0.2
    dx, dy = np.meshgrid(axis - x, axis - y)
    along, across = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
    image = np.exp(-0.5 * ((along / sigmas_arcsec[0]) ** 2 + (across / sigmas_arcsec[1]) ** 2))
    return np.broadcast_to(electrons * image / image.sum(), (1, 6, 64, 64)).astype(np.float32)


def test_importing_it_imports_no_framework():
    code = (
        "import siderostat.workloads.galaxy_sampler, sys; print({'torch', 'tensorflow', 'galsim'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"


def test_it_lists_its_parts():
    for sizes in WORKLOAD.variants.values():
        assert sizes["paper"].parts == {"encoder": 2_545_880, "decoder": 3_319_942, "flow": 725_504}
        assert sizes["paper"].parameters == 3_319_942 + 725_504


def test_the_stretch_is_inverted_and_stays_between_0_and_1():
    sigma = np.sqrt(sky_electrons())[:, None, None]
    electrons = (np.array([0, 0.01, 1, 30, 4999])[:, None, None, None] * sigma * np.ones((6, 64, 64))).astype(
        np.float32
    )
    stretched = stretch(electrons)
    assert stretched.dtype == np.float32 and stretched.min() == 0 and 0.999 < stretched.max() < 1
    np.testing.assert_allclose(unstretch(stretched), electrons, rtol=1e-4)
    assert stretch(np.full((1, 6, 64, 64), 1e9)).max() == 1


def test_each_step_samples_other_galaxies_and_a_seed_gives_the_same_again():
    step = WORKLOAD.build(_spec())
    images, first = _call(step.phases[0])
    _, second = _call(step.phases[0])
    again = _call(WORKLOAD.build(_spec()).phases[0])
    assert images.shape == (4, 6, 64, 64)
    assert np.abs(first - second).max() > 0.1
    np.testing.assert_array_equal(again[1], first)


def test_both_variants_sample_the_same():
    images = [_call(WORKLOAD.build(_spec(variant=variant)).phases[0])[0] for variant in WORKLOAD.variants]
    np.testing.assert_allclose(images[0], images[1], atol=1e-4)


def test_check_describes_galaxies():
    figures = WORKLOAD.check(_spec(batch=16), _call(WORKLOAD.build(_spec(batch=16)).phases[0]))
    assert figures["centred"] > 0.9
    assert 1e4 < figures["flux_mean"] < 1e7


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda i, z: (np.full_like(i, np.nan), z), "not finite"),
        (lambda i, z: (i, z * np.inf), "not finite"),
        (lambda i, z: (i + 1, z), "between 0 and 1"),
        (lambda i, z: (i * 0 + 0.5, z), "everywhere the same"),
        (lambda i, z: (i[:, :5], z), "shape"),
        (lambda i, z: (i,), "1 outputs"),
    ],
)
def test_check_finds_wrong_outputs(spoil, words):
    images = np.random.default_rng(0).random((4, 6, 64, 64), np.float32)
    with pytest.raises(WrongResult, match=words):
        WORKLOAD.check(_spec(), spoil(images, np.ones((4, 32), np.float32)))


def test_training_lowers_both_losses_and_the_flow_leaves_the_encoder_alone(monkeypatch):
    pytest.importorskip("galsim")
    step = WORKLOAD.build(_spec("train", batch=8, images=64))
    autoencoder, flow = step.phases
    losses = {0: [], 1: []}
    optimizers = [phase.optimizer(phase.model.parameters()) for phase in step.phases]
    for _ in range(12):
        for which, (phase, optimizer) in enumerate(zip(step.phases, optimizers, strict=True)):
            before = autoencoder.model.encoder.mean.weight.detach().clone()
            optimizer.zero_grad()
            outputs = phase.model(*map(torch.from_numpy, phase.feed.next()))
            outputs[-1].backward()
            optimizer.step()
            moved = not torch.equal(before, autoencoder.model.encoder.mean.weight)
            assert moved == (which == 0)
            losses[which].append(float(outputs[-1].detach()))
    assert np.mean(losses[0][-3:]) < 0.95 * np.mean(losses[0][:3])
    # The flow's target moves while the encoder learns, so that it is judged on latents that do not.
    frozen = [torch.randn(64, 32), torch.full((64, 32), 0.1)]
    alone = type(flow.model)(flow.model.flow, lambda: frozen)
    optimizer = flow.optimizer(alone.parameters())
    found = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = alone()[-1]
        loss.backward()
        optimizer.step()
        found.append(float(loss.detach()))
    assert np.mean(found[-3:]) < np.mean(found[:3]) - 1
    assert set(WORKLOAD.check(_spec("train", batch=8), [o.detach().numpy() for o in outputs])) == {"latent_rms", "loss"}


def test_training_needs_parts_and_sampling_none():
    assert WORKLOAD.parts(_spec("train", images=65)) == 2
    assert WORKLOAD.parts(_spec()) == 0


# --- statistics ---


def test_moments_are_those_of_a_weighted_gaussian():
    for angle in (0.0, 0.7):
        measured = statistics.measure(_gaussians((0.6, 0.4), angle))
        squares = [1 / (1 / s**2 + 1 / statistics.WEIGHT_SIGMA_ARCSEC**2) for s in (0.6, 0.4)]
        assert measured["size"][0] == pytest.approx(np.sqrt(np.mean(squares)), rel=1e-3)
        assert measured["ellipticity"][0] == pytest.approx((squares[0] - squares[1]) / sum(squares), rel=2e-3)
        assert measured["flux"][0] == pytest.approx(1e5, rel=1e-3)
        assert measured["offset"][0] < 1e-3


def test_the_weight_follows_the_centroid():
    measured = statistics.measure(_gaussians((0.4, 0.4), x=0.3, y=-0.4))
    assert measured["offset"][0] == pytest.approx(0.5, rel=0.02)
    assert measured["ellipticity"][0] < 0.01


def test_the_distance_of_two_samples_is_that_of_kolmogorov_and_smirnov():
    scipy_stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=200), np.round(rng.normal(0.3, size=150), 1)
    assert statistics.ks_distance(a, b) == pytest.approx(scipy_stats.ks_2samp(a, b).statistic)


def test_quantiles_stand_for_a_sample():
    rng = np.random.default_rng(0)
    real, sampled = ({n: rng.lognormal(m, 1, 2000) for n in statistics.COMPARED} for m in (0, 0.5))
    short, whole = (statistics.compare(sampled, r) for r in (statistics.quantiles(real), real))
    assert whole["flux_ks"] > 0.15
    for name, value in whole.items():
        assert short[name] == pytest.approx(value, abs=0.012)


def test_thumbnails_show_colour():
    red, blue = (_gaussians((0.5, 0.5)).copy() for _ in range(2))
    red[:, BANDS.index("g")] *= 0.05
    blue[:, BANDS.index("i")] *= 0.2
    pictures = statistics.thumbnails(np.concatenate([red, blue]))
    assert pictures.shape == (2, 32, 32, 3) and pictures.dtype == np.uint8
    centres = pictures[:, 16, 16].astype(int)
    assert centres[0, 0] > centres[0, 2] and centres[1, 2] > centres[1, 0]
    assert pictures[:, 0, 0].max() < 20


# --- the checkpoint ---


@pytest.fixture(scope="module")
def shipped():
    return checkpoint.load()


def test_the_shipped_checkpoint_says_where_it_comes_from(shipped):
    known = shipped.provenance
    assert known["packages"].keys() >= {"siderostat", "python", "torch", "numpy"}
    assert known["images"]["noise"] == "none" and known["images"]["fingerprint"]
    assert known["losses"]["together"] and known["date"] and known["command"]
    assert checkpoint.SHIPPED.stat().st_size <= 8e6


def test_shipped_galaxies_are_like_drawn_ones():
    spec = _spec(batch=128)
    step = WORKLOAD.build(spec)
    exam = WORKLOAD.exam(spec, step)
    found = exam.judge([_call(step.phases[0]) for _ in exam.batches[:4]])
    goal = WORKLOAD.goal("incremental", "sample")
    assert found.figures[goal.figure] <= goal.target + 0.05  # 512 galaxies instead of 1024
    for name in statistics.COMPARED:
        assert found.figures[f"{name}_median_ratio"] == pytest.approx(1, abs=0.25)
    assert {name: p.shape[1:] for name, p in found.pictures.items()} == dict.fromkeys(
        ("drawn galaxies", "sampled galaxies"), (32, 32, 3)
    )


def test_a_checkpoint_survives_being_saved(tmp_path, shipped):
    checkpoint.save(tmp_path / "c.npz", shipped)
    again = checkpoint.load(str(tmp_path / "c.npz"))
    assert all(np.array_equal(again.flow[name], shipped.flow[name]) for name in layers.flow_shapes())
    assert all(np.array_equal(again.decoder[name], shipped.decoder[name]) for name in layers.decoder_shapes())
    assert again.provenance == shipped.provenance


def _spoilt(arrays, how):
    if how == "lacking":
        del arrays["decoder.last.bias"]
    elif how == "shape":
        arrays["flow.blocks.0.1.weight"] = np.zeros((3, 3), np.float16)
    elif how == "nan":
        arrays["decoder.first.weight"] = np.full_like(arrays["decoder.first.weight"], np.nan)
    elif how == "type":
        arrays["decoder.first.bias"] = arrays["decoder.first.bias"].astype(np.int32)
    elif how == "thumbnails":
        del arrays["thumbnails"]
    else:
        said = json.loads(str(arrays["provenance"]))
        if how == "version":
            said["version"] = 0
        else:
            del said["real"]["flux"]
        arrays["provenance"] = np.array(json.dumps(said))
    return arrays


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("lacking", "lacks the weights decoder.last.bias"),
        ("shape", r"flow.blocks.0.1.weight .* shape \(3, 3\)"),
        ("nan", "decoder.first.weight .* not all finite"),
        ("type", "decoder.first.bias .* int32"),
        ("thumbnails", "pictures"),
        ("version", "version 0 and this is version 1"),
        ("real", "what drawn galaxies are like"),
    ],
)
def test_a_spoilt_checkpoint_is_refused_in_one_sentence(tmp_path, how, words):
    path = tmp_path / "spoilt.npz"
    with np.load(checkpoint.SHIPPED) as whole:
        np.savez(path, **_spoilt(dict(whole), how))
    with pytest.raises(BadInput, match=words) as refusal:
        WORKLOAD.build(_spec(checkpoint=str(path)))
    assert str(path) in str(refusal.value) and "\n" not in str(refusal.value)


@pytest.mark.parametrize("content", [None, b"", b"not an archive", "half"])
def test_what_is_no_checkpoint_is_refused(tmp_path, content):
    path = tmp_path / "other.npz"
    if content is not None:
        whole = checkpoint.SHIPPED.read_bytes()
        path.write_bytes(whole[: len(whole) // 2] if content == "half" else content)
    with pytest.raises(BadInput, match=str(path)) as refusal:
        checkpoint.load(str(path))
    assert "recipe" in str(refusal.value) and "\n" not in str(refusal.value)


def test_a_checkpoint_with_pickles_is_refused(tmp_path):
    path = tmp_path / "pickled.npz"
    np.savez(path, provenance=np.array({"version": 1}, object))
    with pytest.raises(BadInput, match="not a checkpoint"):
        checkpoint.load(str(path))


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(tmp_path, shipped, monkeypatch):
    path = tmp_path / "c.npz"
    path.write_bytes(b"old")
    monkeypatch.setattr("pathlib.Path.write_bytes", lambda *a: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(BadInput, match="No space left"):
        checkpoint.save(path, dataclasses.replace(shipped))
    assert path.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1
