"""Energy of processors and memory: a tree of powercap files in a temporary folder."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siderostat import devices
from siderostat.devices.energy import Meters, Refused, powercap
from siderostat.devices.energy.powercap import PowercapCounter, powercap_counters
from siderostat.record import EnergyStatus

RANGE_UJ = 262_143_328_850


class Tree:
    """Zones as the kernel lays them out: nested in devices, side by side in the class."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def add(self, zone: str, name: str, energy_uj: int = 10_000_000) -> Path:
        kind, *numbers = zone.split(":")
        folder = self.root / kind
        for i in range(len(numbers)):
            folder /= ":".join([kind, *numbers[: i + 1]])
        folder.mkdir(parents=True)
        for file, value in (("name", name), ("energy_uj", energy_uj), ("max_energy_range_uj", RANGE_UJ)):
            (folder / file).write_text(f"{value}\n")
        return folder

    def link_flat(self) -> Path:
        flat = self.root / "class"
        flat.mkdir()
        for path in [p.parent for p in self.root.glob("*/*/energy_uj")] + [
            p.parent for p in self.root.glob("*/*/*/energy_uj")
        ]:
            (flat / path.name).symlink_to(path)
        return flat


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    monkeypatch.setenv("SIDEROSTAT_POWERCAP", str(tmp_path))
    return Tree(tmp_path)


@pytest.fixture
def server(tree: Tree) -> Tree:
    """Two packages with their parts, and the first package once more through mmio."""
    for package in "01":
        tree.add(f"intel-rapl:{package}", f"package-{package}")
        tree.add(f"intel-rapl:{package}:0", "core")
        tree.add(f"intel-rapl:{package}:1", "dram", 2_000_000)
    tree.add("intel-rapl:2", "psys", 50_000_000)
    tree.add("intel-rapl-mmio:0", "package-0")
    return tree


def totals() -> dict[str, float]:
    counters = powercap_counters()
    for counter in counters:
        counter.open()
    return {counter.scope: counter.joules() for counter in counters}


def write(zone: Path, energy_uj: int) -> None:
    (zone / "energy_uj").write_text(f"{energy_uj}\n")


def test_packages_add_up_and_their_parts_and_second_views_do_not_count(server):
    assert totals() == {"cpu_package": pytest.approx(20.0), "dram": pytest.approx(4.0), "platform": pytest.approx(50.0)}


def test_the_flat_folder_of_the_kernel_tells_the_same(server, monkeypatch):
    nested = totals()
    monkeypatch.setenv("SIDEROSTAT_POWERCAP", str(server.link_flat()))
    assert totals() == nested


def test_a_zone_that_only_mmio_shows_is_read_there(tree):
    tree.add("intel-rapl-mmio:0", "package-0")
    assert totals() == {"cpu_package": pytest.approx(10.0)}


def test_the_head_names_the_zones(server):
    meters = Meters(powercap_counters())
    heads = {head["scope"]: head for head in meters.open()}
    meters.close()
    assert heads["cpu_package"]["source"] == "powercap"
    assert heads["cpu_package"]["device"] == {"name": "package-0, package-1", "zones": ["intel-rapl:0", "intel-rapl:1"]}


def test_platform_zones_of_which_it_is_not_known_whether_they_add_up_are_refused(tree):
    tree.add("intel-rapl:0", "psys")
    tree.add("intel-rapl:1", "psys-1")
    with pytest.raises(Refused, match="2 platform zones"):
        totals()


@settings(deadline=None)
@given(steps_uj=st.lists(st.integers(0, 400_000_000), max_size=30))
def test_wraps_do_not_matter(tmp_path_factory, steps_uj):
    zone = Tree(tmp_path_factory.mktemp("wraps")).add("intel-rapl:0", "package-0", 0)
    (zone / "max_energy_range_uj").write_text("1000000000")
    counter = PowercapCounter("cpu_package", [zone], clock=lambda: 0.0)
    counter.open()
    total_uj = 0
    for step_uj in steps_uj:
        total_uj += step_uj
        write(zone, total_uj % 1_000_000_000)
        assert counter.joules() == pytest.approx(total_uj * 1e-6)
    assert counter.wraps == total_uj // 1_000_000_000


def test_a_counter_that_was_set_back_is_not_taken_for_one_that_wrapped(tree):
    zone = tree.add("intel-rapl:0", "package-0", 100_000_000_000)
    now_s = iter([0.0, 0.05, 0.10])
    counter = PowercapCounter("cpu_package", [zone], clock=lambda: next(now_s))
    counter.open()
    before_j = counter.joules()
    write(zone, 1_000_000)
    assert counter.joules() < before_j
    assert counter.wraps == 0


def test_a_reset_within_a_window_leaves_no_joules(tree):
    zone = tree.add("intel-rapl:0", "package-0", 100_000_000_000)
    meters = Meters(powercap_counters())
    meters.open()
    meters.begin()
    write(zone, 1_000_000)
    (window,) = meters.end(1, 0.1, [], 0.0)
    meters.close()
    assert (window["status"], window["joules"]) == ("counter_reset", None)


def test_without_permission_the_remedy_is_the_administrators(server, monkeypatch):
    def refuse(path, *further, **more):
        if str(path).endswith("energy_uj"):
            raise PermissionError(13, "Permission denied", str(path))
        return honest(path, *further, **more)

    honest = os.open
    monkeypatch.setattr(os, "open", refuse)
    meters = Meters(powercap_counters())
    heads = meters.open()
    assert [head["scope"] for head in heads] == ["cpu_package", "dram", "platform"]
    assert {head["status"] for head in heads} == {"no_permission"}
    assert "CVE-2020-8694" in heads[0]["reason"]
    assert "chmod g+r /sys/class/powercap/*/energy_uj" in heads[0]["remedy"]


@pytest.mark.parametrize("content", ["", "garbage"])
def test_a_file_that_holds_no_number_is_refused(tree, content):
    (tree.add("intel-rapl:0", "package-0") / "energy_uj").write_text(content)
    with pytest.raises(Refused, match="cannot be read") as caught:
        totals()
    assert caught.value.status == EnergyStatus.UNSUPPORTED


@pytest.mark.parametrize(
    ("is_virtual", "reason", "remedy"),
    [(True, "virtual machine", "wall meter"), (False, "no RAPL zones", "intel_rapl_msr.*SIDEROSTAT_POWERCAP")],
)
def test_where_there_is_nothing_a_virtual_machine_is_told_from_a_bare_kernel(
    tree, monkeypatch, is_virtual, reason, remedy
):
    monkeypatch.setattr(powercap, "_is_virtual", lambda: is_virtual)
    (counter,) = powercap_counters()
    with pytest.raises(Refused, match=reason) as caught:
        counter.open()
    assert caught.value.status == EnergyStatus.UNSUPPORTED
    assert re.search(remedy, caught.value.remedy)


def test_the_cpu_is_metered_by_these_counters(server):
    assert [counter.scope for counter in devices.load("cpu").counters()] == ["cpu_package", "dram", "platform"]
