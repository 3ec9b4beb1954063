"""NVIDIA boards: the real nvidia-ml-py over a fake driver library."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import nvml

METER = """
import json, sys, time
from siderostat.devices.energy import Meters
from siderostat.devices.energy.nvml import nvml_counters

meters = Meters(nvml_counters(sys.argv[1]))
heads = meters.open()
meters.begin()
time.sleep(float(sys.argv[2]))
windows = meters.end(1, 0.0, [], None)
meters.close()
print(json.dumps([heads, windows]))
"""
ASK = """
import json, sys
from siderostat.devices.energy import nvml

handle = nvml.find(sys.argv[1])
print(json.dumps({name: getattr(nvml, name)(handle) for name in sys.argv[2:]}))
"""
FUNCTIONS = ("sensors", "throttle_reasons", "compute_pids", "is_mig", "default_sm_clock_mhz")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return nvml.build(tmp_path_factory.mktemp("nvml"))


def run(library: Path, code: str, *words: Any, **variables: Any) -> Any:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("FAKE_NVML")} | {
        "LD_LIBRARY_PATH": str(library), **{f"FAKE_NVML_{name.upper()}": str(v) for name, v in variables.items()},
    }  # fmt: skip
    command = [sys.executable, "-c", code, *map(str, words)]
    return json.loads(subprocess.check_output(command, env=environment, text=True, timeout=60))


def metered(library: Path, seconds: float = 0.4, device: str = nvml.UUID, **variables: Any) -> tuple[Any, Any]:
    heads, windows = run(library, METER, device, seconds, **{"update_s": 0.01, **variables})
    assert len(heads) == len(windows) == 1
    return heads[0], windows[0]


def test_the_counter_of_energy_is_read_first_and_the_board_is_named(library):
    head, window = metered(library)
    assert (head["source"], head["scope"], head["provenance"], head["status"]) == (
        "nvml.total_energy", "gpu_board", "measured", "ok",
    )  # fmt: skip
    assert head["device"] == {
        "uuid": nvml.UUID, "pci": nvml.PCI, "name": "NVIDIA Fake H100", "driver": "550.54.15", "power_limit_w": 700.0,
    }  # fmt: skip
    assert head["update_period_s"] == pytest.approx(0.01, rel=0.5)
    assert window["status"] == "indicative"
    assert window["joules"] == pytest.approx(300 * window["seconds"], abs=2 * 300 * 0.01)
    assert window["cross_check_j"] == pytest.approx(window["joules"], rel=0.1)
    assert window["max_w"] == pytest.approx(300, abs=0.02)


def test_a_counter_updated_every_100_ms_is_right_within_its_bound_and_counts_its_updates(library):
    head, window = metered(library, 2.8, update_s=0.1)
    assert head["update_period_s"] == pytest.approx(0.1, rel=0.2)
    assert window["status"] == "indicative", window["reason"]
    assert 20 <= window["n_updates"] <= window["seconds"] / 0.1 + 1
    assert window["joules"] == pytest.approx(300 * window["seconds"], rel=1.5 / window["n_updates"])


def test_without_a_counter_of_energy_power_is_integrated_and_the_head_says_so(library):
    head, window = metered(library, 2.4, no="e", update_s=0.06)
    assert head["source"] == "nvml.power"
    assert "nvml.total_energy" in head["reason"]
    assert "Not Supported" in head["reason"]
    assert window["joules"] == pytest.approx(300 * window["seconds"], rel=1e-3)
    assert window["cross_check_j"] is None
    assert window["max_w"] == pytest.approx(300, abs=0.02)


def test_power_comes_from_the_older_function_where_the_board_lacks_that_of_the_moment(library):
    head, window = metered(library, 2.4, no="ei", update_s=0.06)
    assert (head["source"], window["status"]) == ("nvml.power", "indicative"), window["reason"]


@pytest.mark.parametrize(
    ("variables", "status", "reason"),
    [
        ({"no": "ep"}, "unsupported", "Not Supported"),
        ({"no": "fp"}, "no_permission", "Insufficient Permissions"),
        ({"mig": "b"}, "unsupported", "MIG"),
        ({"mig": "h"}, "unsupported", "MIG"),
        ({"device": "GPU-ffffffff-89ab-cdef-0123-456789abcdef"}, "unsupported", "does not give the board GPU-ffffffff"),
    ],
)
def test_a_board_without_energy_says_why_and_has_no_window(library, variables, status, reason):
    head, window = metered(library, 0.0, **variables)
    assert (head["status"], head["provenance"]) == (status, None)
    assert reason in head["reason"]
    assert window is None


def test_where_there_is_no_driver_the_remedy_is_to_install_one(tmp_path):
    head, window = metered(tmp_path, 0.0)
    assert head["status"] == "unsupported"
    assert "install NVIDIA's driver" in head["remedy"]
    assert window is None


def test_without_the_package_the_remedy_is_to_install_it(library):
    missing = "import sys\nsys.modules['pynvml'] = None\n"
    heads, _ = run(library, missing + METER, nvml.UUID, 0)
    assert heads[0]["status"] == "unsupported"
    assert heads[0]["remedy"] == "pip install nvidia-ml-py"


@pytest.mark.parametrize(
    ("variables", "status"),
    [
        ({"reset_s": 0.9}, "counter_reset"),
        ({"lost_s": 0.9}, "stale_counter"),
        ({"sensor_w": 200}, "inconsistent"),
        ({"limit_w": 200}, "implausible"),
    ],
)
def test_what_goes_wrong_in_a_window_leaves_no_joules(library, variables, status):
    _, window = metered(library, 1.4, **variables)
    assert window["status"] == status
    assert window["joules"] is None
    assert window["mean_w"] is None
    assert window["seconds"] >= 1.4


def test_a_lost_board_is_quoted(library):
    assert "GPU is lost" in metered(library, 1.4, lost_s=0.9)[1]["reason"]


def test_a_sensor_that_looks_back_a_second_does_not_speak_against_a_short_window(library):
    _, window = metered(library, sensor_w=200, no="i")
    assert window["status"] == "indicative"


@pytest.mark.parametrize("device", [nvml.UUID, nvml.UUID.removeprefix("GPU-"), nvml.PCI])
def test_a_board_is_found_by_uuid_or_pci_address(library, device):
    assert run(library, ASK, device, "is_mig") == {"is_mig": False}


def test_what_an_adapter_asks_besides(library):
    told = run(library, ASK, nvml.UUID, *FUNCTIONS, pids=2, reasons=0x41, update_s=1e9)
    assert told == {
        "sensors": {
            "sm_clock_mhz": 1980.0, "memory_clock_mhz": 2619.0, "temperature_c": 50.0, "power_w": 300.0,
            "power_limit_w": 700.0,
        },
        "throttle_reasons": ["hw_thermal_slowdown"],
        "compute_pids": [1000, 1001],
        "is_mig": False,
        "default_sm_clock_mhz": 1830.0,
    }  # fmt: skip


def test_what_a_board_does_not_tell_is_left_out(library):
    assert run(library, ASK, nvml.UUID, *FUNCTIONS, no="sp") == {
        "sensors": {"power_limit_w": 700.0}, "throttle_reasons": [], "compute_pids": [], "is_mig": False,
        "default_sm_clock_mhz": None,
    }  # fmt: skip


def test_an_older_driver_tells_its_reasons_by_their_older_name(library):
    told = run(library, ASK, nvml.UUID, "throttle_reasons", no="o", reasons=4)
    assert told == {"throttle_reasons": ["sw_power_cap"]}


def test_a_divided_board_is_told_from_a_whole_one(library):
    assert run(library, ASK, nvml.UUID, "is_mig", mig="b") == {"is_mig": True}
    assert run(library, ASK, nvml.UUID, "is_mig", mig="h") == {"is_mig": True}
