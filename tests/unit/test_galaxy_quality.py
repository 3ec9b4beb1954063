"""How predictions are judged: against SciPy, and on predictions whose quality is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from siderostat.workloads import load
from siderostat.workloads.base import Spec
from siderostat.workloads.galaxy_shape.quality import judge, stacked
from tests.galaxies import put_tables

RNG = np.random.default_rng(7)
SCALE = np.array([[0.2, 0, 0], [0.05, 0.15, 0], [-0.1, 0.02, 0.3]])
KNOWN = RNG.normal(size=(500, 3)) * [0.2, 0.2, 0.5]


def predicted(images: int, draws: int = 1, honest: float = 1.0):
    """Means and scales, and labels drawn from them with ``honest`` times the scale."""
    means = RNG.normal(size=(1, images, 3)).repeat(draws, 0)
    scales = np.broadcast_to(SCALE, (draws, images, 3, 3))
    labels = means[0] + np.einsum("ij,nj->ni", honest * SCALE, RNG.normal(size=(images, 3)))
    return means, scales, labels


def test_the_likelihood_is_that_of_scipy():
    means, scales, labels = predicted(50)
    each = [multivariate_normal(m, SCALE @ SCALE.T).logpdf(x) for m, x in zip(means[0], labels)]
    assert judge(means, scales, labels, KNOWN).figures["nll"] == pytest.approx(-np.mean(each), rel=1e-12)


def test_several_draws_are_an_equal_mixture():
    means, scales, labels = predicted(20, draws=4)
    means = means + RNG.normal(size=means.shape)
    densities = [
        np.mean([multivariate_normal(means[d, i], SCALE @ SCALE.T).pdf(labels[i]) for d in range(4)]) for i in range(20)
    ]
    assert judge(means, scales, labels, KNOWN).figures["nll"] == pytest.approx(-np.mean(np.log(densities)), rel=1e-9)


def test_intervals_of_an_honest_model_cover_what_they_should():
    figures = judge(*predicted(20000), KNOWN).figures
    assert figures["coverage_68"] == pytest.approx(0.6827, abs=0.01)
    assert figures["coverage_95"] == pytest.approx(0.9545, abs=0.005)


def test_intervals_of_a_model_that_thinks_too_well_of_itself_do_not():
    assert judge(*predicted(20000, honest=2.0), KNOWN).figures["coverage_68"] == pytest.approx(0.383, abs=0.01)


def test_the_spread_between_draws_widens_the_intervals():
    means, scales, labels = predicted(5000, draws=16)
    apart = means + 0.5 * RNG.normal(size=(16, 1, 1))
    one, many = judge(means, scales, labels, KNOWN).figures, judge(apart, scales, labels, KNOWN).figures
    assert many["coverage_68"] > one["coverage_68"] + 0.1


def test_the_label_mean_is_what_one_says_without_looking():
    means, scales, _ = predicted(4000)
    labels = RNG.normal(size=(4000, 3)) * [0.2, 0.2, 0.5]
    figures = judge(means, scales, labels, KNOWN).figures
    assert figures["label_mean_ellipticity_rmse"] == pytest.approx(0.2, rel=0.03)
    assert figures["label_mean_redshift_rmse"] == pytest.approx(0.5, rel=0.04)
    whole = multivariate_normal(KNOWN.mean(0), np.cov(KNOWN.T))
    assert figures["label_mean_nll"] == pytest.approx(-whole.logpdf(labels).mean(), rel=1e-9)


def test_calls_are_put_together_by_draw_and_image():
    calls = [[np.full((2, 3), 10 * d + b), np.full((2, 3, 3), 10 * d + b)] for d in range(3) for b in range(2)]
    means, scales = stacked(calls, draws=3)
    assert means[:, :, 0].tolist() == [[0, 0, 1, 1], [10, 10, 11, 11], [20, 20, 21, 21]]
    assert scales.shape == (3, 4, 3, 3)


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    put_tables(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIDEROSTAT_CACHE", str(folder))
        yield


def exam(framework: str, variant: str, mode: str = "train"):
    pytest.importorskip(framework)
    workload = load("galaxy-shape")
    spec = Spec(variant, mode, framework, 4, "paper", 0, {"images": 64})
    step = workload.build(spec)
    return workload.exam(spec, step), step


@pytest.mark.parametrize("framework", ["torch", "tensorflow"])
@pytest.mark.parametrize(("variant", "draws"), [("dnn", 1), ("bnn", 16)])
def test_an_exam_asks_about_images_that_were_not_trained_on(framework, variant, draws):
    asked, step = exam(framework, variant)
    pixels = np.concatenate([batch[0] for batch in asked.batches])
    assert len(pixels) == 512 * draws
    trained = {image.tobytes() for _ in range(16) for image in step.phases[0].feed.next()[0]}
    assert len(trained) == 64
    assert not trained & {np.ascontiguousarray(image).tobytes() for image in pixels[:512]}


def test_the_draws_of_a_bayesian_network_differ_and_all_count():
    from siderostat import devices

    asked, step = exam("torch", "bnn")
    program = devices.load("cpu:threads=1").compile(step, "fp32")
    some = [program.infer(asked.model, asked.batches[0]) for _ in range(2)]
    assert not np.array_equal(some[0][0], some[1][0])
    findings = asked.judge([[o.copy() for o in some[i % 2]] for i in range(8 * 16)])
    assert findings.figures["ellipticity_rmse"] > 0
    assert {name: len(pair[0]) for name, pair in findings.pairs.items()} == {"e1": 512, "e2": 512, "redshift": 512}
