"""The gauge flow as a workload: what it builds, what its check sees, and what it refuses."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from siderostat import devices, workloads
from siderostat.devices.base import Unsupported
from siderostat.workloads.base import COMPLEX, BadInput, Spec, WrongResult
from siderostat.workloads.gauge_flow import coupling, group, lattice, native

torch = pytest.importorskip("torch")

from siderostat.workloads.gauge_flow import torch as steps  # noqa: E402

WORKLOAD = workloads.load("gauge-flow")
SPEC = Spec("real", "evaluate", "torch", 3, "tiny", 5, {})


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _outputs(spec):
    phase = WORKLOAD.build(spec).phases[0]
    inputs = [torch.from_numpy(a) for a in phase.feed.next()]
    if phase.optimizer is not None:
        return [t.detach().numpy() for t in phase.model(*inputs)]
    with torch.inference_mode():
        return [t.numpy() for t in phase.model(*inputs)]


def test_every_variant_and_mode_passes_its_check():
    for variant in WORKLOAD.variants:
        for mode in WORKLOAD.modes:
            spec = dataclasses.replace(SPEC, variant=variant, mode=mode)
            figures = WORKLOAD.check(spec, _outputs(spec))
            assert all(np.isfinite(list(figures.values())))


@pytest.mark.parametrize("mode", ["evaluate", "inverse"])
def test_variants_give_the_same_figures(mode):
    found = [_outputs(dataclasses.replace(SPEC, variant=v, mode=mode)) for v in WORKLOAD.variants]
    for links, log_determinant in found[1:]:
        np.testing.assert_allclose(links, found[0][0], atol=2e-5)
        np.testing.assert_allclose(log_determinant, found[0][1], atol=2e-3)


def test_the_loops_are_an_option_and_change_the_flow():
    fixed = dataclasses.replace(SPEC, options={"loops": "fixed"})
    assert np.abs(_outputs(fixed)[1] - _outputs(SPEC)[1]).max() > 0.1
    flow = WORKLOAD.build(fixed).phases[0].model.flow
    assert not any(layer.learned for layer in flow.layers)


def test_the_number_of_layers_is_an_option():
    flow = WORKLOAD.build(dataclasses.replace(SPEC, options={"layers": 12})).phases[0].model.flow
    assert len(flow.layers) == 12


def test_links_outside_the_group_are_a_wrong_result():
    links, log_determinant = _outputs(SPEC)
    with pytest.raises(WrongResult, match="off SU"):
        WORKLOAD.check(SPEC, [links * 1.01, log_determinant])


def test_results_that_depend_on_the_gauge_are_a_wrong_result():
    links, log_determinant = _outputs(SPEC)
    with pytest.raises(WrongResult, match="gauge transforms"):
        WORKLOAD.check(SPEC, [links, log_determinant + np.arange(3, dtype=np.float32)])
    other = group.haar(np.random.default_rng(0), links.shape[1:-3])
    links = np.array(links)
    links[1] = np.stack([other.real, other.imag], -1)
    with pytest.raises(WrongResult, match="gauge transforms"):
        WORKLOAD.check(SPEC, [links, log_determinant])


def test_a_log_determinant_that_is_not_finite_is_a_wrong_result():
    links, log_determinant = _outputs(SPEC)
    log_determinant = np.array(log_determinant)
    log_determinant[1] = np.nan
    with pytest.raises(WrongResult, match="log-determinants are not finite"):
        WORKLOAD.check(SPEC, [links, log_determinant])


@pytest.mark.parametrize(
    ("options", "match"), [({"loops": "both"}, "learned, fixed"), ({"layers": -1}, "positive number")]
)
def test_an_option_without_sense_is_refused(options, match):
    with pytest.raises(BadInput, match=match):
        WORKLOAD.build(dataclasses.replace(SPEC, options=options))


def test_only_the_complex_variant_needs_complex_numbers():
    assert COMPLEX in WORKLOAD.needs(dataclasses.replace(SPEC, variant="complex"))
    assert WORKLOAD.needs(SPEC) == ()


def test_sizes_say_their_parameters():
    size = WORKLOAD.variants["real"]["4^4"]
    assert size.parts["staple networks"] == 144 * 560
    flow = WORKLOAD.build(SPEC).phases[0].model.flow
    assert sum(p.numel() for p in flow.parameters()) == WORKLOAD.variants["real"]["tiny"].parameters


def test_operations_are_those_of_the_tables():
    mask = lattice.active(lattice.Direction(0, 1, 0), (4, 4, 4, 4))
    tables = lattice.cone(lattice.Neighbours((4, 4, 4, 4)), mask.ravel().nonzero()[0], 3)
    levels = coupling.WIDTH.channels_of_levels()
    expected = sum(
        len(t.own) * (12 * a * coupling.PRODUCT_FLOPS + 7 * a * b * coupling.MIXING_FLOPS)
        for t, a, b in zip(tables, levels, levels[1:])
    )
    assert coupling.staple_flops(256, learned=True, is_pruned=True) == expected
    assert WORKLOAD.flops_per_item(SPEC) == 6 * expected + 2 * coupling.staple_flops(256, False, True)


def test_training_starts_from_the_identity_and_gives_every_last_layer_a_gradient():
    phase = WORKLOAD.build(dataclasses.replace(SPEC, mode="train")).phases[0]
    log_weights, loss = phase.model(torch.zeros(3))
    loss.backward()
    assert loss.item() == pytest.approx(-log_weights.mean().item())
    assert all(layer.last.weight.grad.abs().max() > 0 for layer in phase.model.flow.layers)


def test_a_missing_compiler_is_told_with_its_remedy(monkeypatch):
    monkeypatch.setattr(native.shutil, "which", lambda name: None)
    native.library.cache_clear()
    with pytest.raises(BadInput, match=r"needs a C\+\+ compiler; install"):
        WORKLOAD.build(dataclasses.replace(SPEC, variant="fused"))


def test_the_kernel_is_compiled_once_and_what_fails_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("SIDEROSTAT_CACHE", str(tmp_path))
    native.library.cache_clear()
    native.library()
    (made,) = (tmp_path / "gauge-flow").iterdir()
    assert made.name.startswith("kernel-") and made.suffix == ".so"
    broken = tmp_path / "kernel.cpp"
    broken.write_text("this is not C++")
    monkeypatch.setattr(native, "SOURCE", broken)
    native.library.cache_clear()
    with pytest.raises(BadInput, match="does not compile"):
        native.library()
    native.library.cache_clear()


def test_a_batch_of_any_size_fits_the_kernel():
    updates = lattice.stack(1)
    weights = [coupling.initial(True, np.random.default_rng(0), 0.3)]
    for batch in (1, 4, 5, 16, 18):
        links = group.haar(np.random.default_rng(batch), (batch, 4, 4, 4, 4, 4))
        inputs = torch.view_as_real(torch.from_numpy(links)).contiguous()
        found = []
        for name in ("real", "fused"):
            flow = steps.make_flow(name, (4, 4, 4, 4), updates, [True]).double()
            coupling.load_weights(flow, weights)
            with torch.inference_mode():
                found.append(flow(inputs))
        assert (found[0][0] - found[1][0]).abs().max() < 1e-12
        assert (found[0][1] - found[1][1]).abs().max() < 1e-10


@pytest.mark.parametrize("variant", ["real", "fused"])
def test_in_double_precision_a_formulation_gives_what_the_reference_gives(variant):
    from siderostat.devices.cpu.torch import program

    found = []
    for name in (variant, "complex"):
        made = program(WORKLOAD.build(dataclasses.replace(SPEC, variant=name)), "fp64", False)
        made.run(1)
        found.append(made.outputs())
    for ours, theirs in zip(*found, strict=True):
        assert ours.dtype == theirs.dtype == np.float64
        assert np.abs(ours - theirs).max() < 1e-6 * max(1.0, np.abs(theirs).max())


@pytest.mark.parametrize("device", ["sim:graphcore-gc2", "ipu"])
def test_a_device_that_cannot_run_the_kernel_refuses_in_a_sentence(device):
    needs = WORKLOAD.needs(dataclasses.replace(SPEC, variant="fused"))
    with pytest.raises(Unsupported, match="a kernel for the host's processor"):
        devices.load(device).require(needs, "torch")


def test_the_kernel_leaves_subnormal_numbers_as_they_are():
    made = WORKLOAD.build(dataclasses.replace(SPEC, variant="fused"))
    (phase,) = made.phases
    phase.model(*map(torch.from_numpy, phase.feed.next()))
    assert np.float64(5e-324) / 1.0 > 0 and np.float64(1e-308) * 0.1 > 0
