"""Specifications of chips, frameworks and calibrations: what is read, and what is refused."""

from __future__ import annotations

import pytest

from siderostat.devices.sim import calibration, chips, frameworks, spec
from siderostat.devices.sim.spec import SpecError

SMALL = """
title = "A small chip"
kind = "bsp-sram"
[figures]
tiles = 4
clock_hz = { value = 1e9, source = "data sheet", spread = 1.1 }
tile_bytes = 1000
macs_fp32 = 1
exchange_bytes_per_cycle = 4
host_bytes_per_s = 1e9
tdp_w = 5
"""


@pytest.fixture
def write(tmp_path):
    def written(text: str) -> str:
        path = tmp_path / "chip.toml"
        path.write_text(text)
        return str(path)

    return written


@pytest.mark.parametrize("name", chips.names())
def test_a_chip_that_comes_along_is_read_and_every_figure_has_a_source(name):
    chip = chips.load(name)
    assert all(figure.source for figure in chip.figures.values())
    assert chips.DEFAULT_FRAMEWORK[chip.kind] in frameworks.names()
    assert calibration.fitting("", chip).kind == chip.kind


@pytest.mark.parametrize(
    ("name", "precision", "published"),
    [
        ("graphcore-gc2", "fp32", 31.1e12), ("graphcore-gc2", "fp16", 124.5e12), ("graphcore-gc200", "fp16", 250e12),
        ("graphcore-bow", "fp16", 350e12), ("nvidia-h200", "bf16", 989e12),
    ],
)  # fmt: skip
def test_peaks_follow_from_tiles_clock_and_multipliers(name, precision, published):
    assert chips.peak_flops(chips.load(name), precision) == pytest.approx(published, rel=0.01)


def test_a_users_own_file_is_read_and_tells_which_figures_nobody_checked(write):
    chip = chips.load(write(SMALL))
    assert chip.title == "A small chip"
    assert chips.memory_bytes(chip) == 4000
    assert "tiles" in chip.unchecked()
    assert "clock_hz" not in chip.unchecked()


def test_an_unknown_chip_is_refused_with_the_nearest_name():
    with pytest.raises(SpecError, match=r"did you mean graphcore-gc200\?"):
        chips.load("graphcore-gc20")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("tiles = 4", "tile = 4"), r"figures\.tile: there is no such figure; did you mean tiles\?"),
        (("tiles = 4\n", ""), r"figures\.tiles is missing: cores"),
        (("tiles = 4", "tiles = 0"), r"figures\.tiles: value must be a number of at least 1, not 0"),
        (("tiles = 4", 'tiles = "many"'), r"figures\.tiles: value must be a number"),
        (("spread = 1.1", "spread = 0.5"), r"figures\.clock_hz: spread must be a factor of at least 1"),
        (("spread = 1.1", "sprd = 2"), r"figures\.clock_hz: allowed are checked, fitted, source, spread, value"),
        (('"bsp-sram"', '"tpu"'), r"kind is 'tpu'; allowed are 'bsp-sram', 'kernel-hbm'"),
        (("tdp_w = 5", "tdp_w = "), r"is not a TOML file"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_by_file_and_key(write, change, message):
    path = write(SMALL.replace(*change))
    with pytest.raises(SpecError, match=message) as caught:
        chips.load(path)
    assert path in str(caught.value)


def test_a_framework_for_another_kind_of_chip_is_refused():
    with pytest.raises(SpecError, match="poptorch-loop"):
        frameworks.fitting("torch-eager", chips.load("graphcore-gc2"))


def test_the_hash_changes_with_the_file(write):
    first = chips.load(write(SMALL)).hash
    assert chips.load(write(SMALL.replace("= 5", "= 6"))).hash != first


def test_python_without_a_toml_reader_says_what_to_install(monkeypatch, write):
    monkeypatch.setattr(spec, "_toml", lambda: None)
    with pytest.raises(SpecError, match="pip install tomli"):
        chips.load(write(SMALL))
