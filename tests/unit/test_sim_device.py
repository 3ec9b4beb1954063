"""Simulated devices as the harness sees them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from siderostat import devices
from siderostat.devices.base import OutOfCapacity, Unsupported
from siderostat.record import EnergyStatus, Provenance
from siderostat.workloads.base import Feed, Phase, Step


class Regression(torch.nn.Module):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(16, width), torch.nn.ReLU(), torch.nn.Linear(width, 1))

    def forward(self, x, y):
        out = self.layers(x)
        return out, (out - y).square().mean()


def step(batch: int = 8, width: int = 16) -> Step:
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    arrays = (random.normal(size=(32, 16)).astype(np.float32), np.zeros((32, 1), np.float32))
    feed = Feed(arrays, batch, seed=0)
    return Step("torch", (Phase(Regression(width), feed, lambda p: torch.optim.Adam(p, 1e-3)),), batch)


def program(name: str, of: Step | None = None, precision: str = "fp32"):
    device = devices.load(name)
    device.configure("torch")
    return device.compile(of or step(), precision)


def test_it_is_marked_as_modelled_and_keeps_the_models_clock():
    device = devices.load("sim:nvidia-h200")
    assert (device.provenance, device.clock) == (Provenance.MODELLED, "model")
    assert device.describe()["memory_bytes"] == int(150.1e9)
    assert "idle_w" in device.describe()["unchecked"]
    with pytest.raises(Exception, match="uses no energy") as caught:
        device.counters()[0].open()
    assert caught.value.status is EnergyStatus.NOT_MEASURABLE


def test_time_is_the_models_and_outputs_are_those_of_one_step_on_the_cpu():
    simulated, real = program("sim:graphcore-gc2"), program("cpu:threads=1")
    window = simulated.run(1000)
    assert window.seconds == pytest.approx(1000 * simulated.modelled()["seconds_per_step"]["p50"])
    real.run(1)
    for one, other in zip(simulated.outputs(), real.outputs(), strict=True):
        assert np.allclose(one, other, rtol=1e-5)
    assert simulated.run(0).seconds == 0
    assert simulated.peak_bytes() == int(simulated.modelled()["memory"]["need_bytes"]["p50"])


def test_what_is_modelled_says_what_it_was_computed_from():
    told = program("sim:nvidia-a100:framework=cuda-graph").modelled()
    assert set(told["hashes"]) == {"nvidia-a100", "cuda-graph", "kernel-hbm"}
    assert set(told["parts_s"]) == {"compute", "launch", "framework", "all_reduce", "host"}
    assert sum(told["parts_s"].values()) == pytest.approx(told["seconds_per_step"]["p50"], rel=0.2)
    joules = told["joules_per_step"]
    assert joules["low"] < joules["centre"] < joules["high"]
    assert told["memory"]["fit_probability"] == 1.0


def test_a_framework_decides_where_kernels_are_small():
    eager, captured = (
        program(f"sim:nvidia-h200:framework={f}").modelled()["seconds_per_step"]["p50"]
        for f in ("torch-eager", "cuda-graph")
    )
    assert captured < 0.5 * eager


def test_what_does_not_fit_is_refused_with_its_probability_and_its_need(tmp_path):
    path = tmp_path / "small.toml"
    gc2 = (devices.sim.spec.HERE / "chips" / "graphcore-gc2.toml").read_text()
    path.write_text(gc2.replace("tile_bytes = { value = 262144", "tile_bytes = { value = 16384"))
    with pytest.raises(OutOfCapacity, match="does not fit with a probability of 100 %") as caught:
        program(f"sim:{path}")
    assert caught.value.need_bytes > 1216 * 16384


def test_several_chips_share_the_batch_evenly_or_not_at_all():
    halved, half = program("sim:graphcore-gc200:chips=2", step(8)), program("sim:graphcore-gc200", step(4))
    on_chip = [sum(p.modelled()["parts_s"][k] for k in ("compute", "exchange", "sync")) for p in (halved, half)]
    assert on_chip[0] == pytest.approx(on_chip[1])
    assert halved.modelled()["parts_s"]["all_reduce"] > 0
    with pytest.raises(Unsupported, match="a batch of 5 cannot be shared out evenly over 2 chips"):
        program("sim:graphcore-gc200:chips=2", step(5))


def test_the_measured_host_stands_apart_and_is_never_added():
    ideal, measured = program("sim:graphcore-gc2"), program("sim:graphcore-gc2:host=measured")
    assert measured.modelled()["seconds_per_step"] == ideal.modelled()["seconds_per_step"]
    assert measured.modelled()["host_clock"]["provenance"] == "measured"
    assert measured.modelled()["host_clock"]["prepare_s"] > 0
    assert ideal.modelled()["host_clock"] is None


def test_complex_numbers_are_refused_where_the_chip_has_none():
    class Complex(torch.nn.Module):
        def forward(self, x):
            return (torch.complex(x, x) * 1j).abs()

    of = Step("torch", (Phase(Complex(), Feed((np.ones((4, 3), np.float32),), 2, seed=0)),), 2)
    with pytest.raises(Unsupported, match="no complex numbers; use a formulation in real ones"):
        program("sim:graphcore-gc2", of)
    assert program("sim:nvidia-h200", of).modelled()["seconds_per_step"]["p50"] > 0


def test_a_precision_that_the_chips_file_does_not_tell_is_refused():
    with pytest.raises(Unsupported, match="no peak in tf32"):
        program("sim:nvidia-v100-pcie", precision="tf32")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sim:graphcore-gc3", "did you mean graphcore-gc2"),
        ("sim:graphcore-gc2:framework=torch-eager", "is for chips of the kind kernel-hbm"),
        ("sim:graphcore-gc2:chips=3", "chips is 1 or 2 or 4"),
        ("sim:graphcore-gc2:host=published", "needs a framework that tells input_bytes_per_s"),
        ("sim:missing.toml", "there is no such file"),
    ],
)
def test_a_name_that_cannot_be_is_refused_before_anything_runs(name, message):
    with pytest.raises(ValueError, match=message):
        devices.load(name)
