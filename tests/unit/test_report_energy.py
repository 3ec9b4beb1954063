"""What the report says of energy: figures with their uncertainty, and words where there is none."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from siderostat import reports
from siderostat.record import EnergyStatus, Provenance, Reason, Status
from siderostat.reports import RunData
from siderostat.reports.document import headlines
from siderostat.reports.energy import band, energy_table, lines, missing, section, sentences
from siderostat.reports.rows import rows
from tests.records import cell, failed, idle, judged, meter, metered, no_meter, ok, window

STEADY = (80.0, 82.0, 78.0, 81.0, 79.0, 80.0)  # 2 J per item
ESTIMATE = {"source": "cpu_time_x_nameplate", "scope": "cpu_package", "provenance": Provenance.ESTIMATED}


def run(*records, **manifest) -> RunData:
    return RunData(Path("runs/one"), {"run": "r", "grade": "quick", **manifest}, list(records))


def processes(joules: float, batch: int = 4, device: str = "cuda", n: int = 3, **changes):
    return [metered([x * joules / 2 for x in STEADY], i, cell(device=device, batch=batch), **changes) for i in range(n)]


def found(*records):
    return lines(rows([run(*records)]))


def column(table, heading: str) -> list[str]:
    return [row.cells[table.head.index(heading)] for row in table.rows]


def test_a_run_that_says_nothing_of_energy_has_no_section():
    assert section([run(ok(), failed())]) is None
    assert section([run()]) is None


def test_the_table_has_the_figure_its_uncertainty_and_where_it_comes_from():
    records = [*processes(2.0), idle(10.0, on="cuda"), idle(10.0, 1, on="cuda")]
    table = energy_table(found(*records))
    assert column(table, "Energy per galaxy image") == ["2.00 (1.88 to 2.12) J"]
    assert column(table, "Net of idle")[0].startswith("1.50 (1.41")
    assert column(table, "Mean power") == ["40.0 W"]
    assert column(table, "Windows") == ["18"]
    assert column(table, "Meter") == ["nvml.total_energy, scope gpu_board"]
    assert column(table, "Provenance") + column(table, "Grade") == ["measured", "publishable"]
    assert column(table, "Notes") == [""]


def test_the_headline_says_who_needs_least_and_what_it_beats():
    (sentence,) = sentences(found(*processes(2.0), *processes(6.0, device="cuda:1")))
    assert sentence.startswith(
        "Least energy (gpu_board, publishable): 2.00 (1.88 to 2.12) J per galaxy image at batch 4"
    )
    assert "on cuda with torch; 3.00 (" in sentence
    assert "times as many galaxy images from the same energy as on cuda:1 with torch at batch 4." in sentence


def test_a_difference_within_the_uncertainty_is_said_to_be():
    other = {"meters": {"device": {"uuid": "GPU-2"}}}
    (sentence,) = sentences(found(*processes(2.0), *processes(2.05, device="cuda:1", **other)))
    assert "the difference to what is needed on cuda:1 with torch at batch 4 is within the uncertainty" in sentence


def test_without_an_uncertainty_nothing_is_called_less():
    few = [metered(STEADY[:3], 0, cell(device="cuda:1"))]
    (sentence,) = sentences(found(*processes(1.0), *few))
    assert "cannot be said, for want of an uncertainty" in sentence


def test_the_batch_that_needs_least_is_named():
    (sentence,) = sentences(found(*processes(4.0, batch=2), *processes(2.0, batch=8), *processes(3.0, batch=16)))
    assert "2.00 (1.88 to 2.12) J per galaxy image at batch 8 on cuda with torch." in sentence


def test_board_and_package_are_no_ranking_but_a_ratio_with_its_caveat():
    package = {"source": "powercap", "scope": "cpu_package", "device": {}}
    of = found(*processes(2.0), *processes(8.0, device="cpu", meters=package))
    assert len(sentences(of)) == 2
    assert not any("times as many" in s for s in sentences(of))
    (part,) = section([run(*processes(2.0), *processes(8.0, device="cpu", meters=package))]).parts
    assert re.search(
        r"From the same energy 4\.00 \(3\.\d+ to 4\.\d+\) times as many galaxy images on cuda with torch at batch 4 as on cpu "
        r"with torch at batch 4\. The scopes differ \(gpu_board and cpu_package\)",
        part.sentences[-1],
    )


def test_where_nothing_was_measured_one_sentence_says_why_and_what_to_do():
    records = [ok(of=cell(batch=b), energy=[no_meter()], round=i) for b in (2, 4, 8) for i in range(3)]
    of = section([run(*records)])
    assert of.headlines == [
        "No energy was measured on cpu: there is no powercap folder, as in most virtual machines; measure on the bare machine."
    ]
    (part,) = of.parts
    assert part.sentences == of.headlines
    assert column(part.table, "Batches") == ["2, 4, 8"]
    assert column(part.table, "Status") == ["unsupported"]
    assert "virtual machines; measure on the bare machine" in column(part.table, "What happened")[0]
    assert list(part.charts()) == []


def test_reasons_that_differ_in_their_numbers_alone_are_said_once():
    short = [
        metered([None] * 6, 0, cell(batch=b, device="cuda"), reason=f"{n} updates in 2 s, 20 are needed")
        for b, n in ((2, 3), (4, 5), (8, 5))
    ]
    gone = ok(of=cell(device="sim:gc2"), energy=[no_meter(EnergyStatus.NOT_MEASURABLE, reason="simulated", remedy="")])
    (text,) = missing(rows([run(*short, gone)]))
    assert text == "No energy was measured on cuda: 5 updates in 2 s, 20 are needed; on sim:gc2: simulated."


def test_measured_on_one_device_and_not_on_the_other():
    records = [*processes(2.0), ok(of=cell(device="cpu"), energy=[no_meter()])]
    of = section([run(*records)])
    assert of.headlines[0].startswith("Galaxy shape, dnn, train: Least energy")
    assert of.headlines[1].startswith("No energy was measured on cpu: there is no powercap folder")


def test_an_estimate_is_a_range_without_decimals_and_is_ranked_by_nobody():
    records = processes(2.0, device="cpu", meters=ESTIMATE)
    records = [r for r in records if r.energy]
    of = found(*records)
    assert sentences(of) == []
    table = energy_table(of)
    assert column(table, "Energy per galaxy image") == ["1 to 4 J"]
    assert column(table, "Mean power") == ["20 to 80 W"]
    assert table.rows[0].kind == "open"
    assert "within a factor of two" in column(table, "Notes")[0]
    assert "right within a factor of two" in missing(rows([run(*records)]))[0]


@pytest.mark.parametrize(
    ("joules", "text"), [(0.00274, "1 to 5 mJ"), (3.2e-7, "200 to 600 nJ"), (45.0, "20 to 90 J"), (2.0, "1 to 4 J")]
)
def test_the_range_of_an_estimate_has_one_digit(joules, text):
    assert band(joules) == text


def test_each_meter_has_its_row_and_its_series():
    also = [meter([window(8.0, t) for t in range(6)], source="powercap", scope="dram", device={})]
    of = found(*processes(2.0, also=also))
    assert [text.split()[-1] for text in column(energy_table(of), "Meter")] == ["gpu_board", "dram"]
    (part,) = section([run(*processes(2.0, also=also))]).parts
    (chart,) = part.charts()
    assert {p["series"] for p in points(chart)} == {
        "torch on cuda, gpu_board by nvml.total_energy", "torch on cuda, dram by powercap",
    }  # fmt: skip


def points(chart):
    return next(iter(chart.spec["datasets"].values())) if "datasets" in chart.spec else chart.spec["data"]["values"]


def test_the_chart_has_measured_points_filled_and_estimates_open_with_their_band():
    records = [*processes(2.0), *processes(0.5, device="cpu", meters=ESTIMATE)]
    part, _ = section([run(*records)]).parts
    (chart,) = part.charts()
    by_origin = {p["provenance"]: p for p in points(chart)}
    assert by_origin["measured"]["low"] == pytest.approx(2.0 - 0.1164, rel=0.01)
    assert (by_origin["estimated"]["low"], by_origin["estimated"]["high"]) == pytest.approx((0.25, 1.0))
    marks = next(layer for layer in chart.spec["layer"] if layer["mark"]["type"] == "point")
    fill = dict(zip(*(marks["encoding"]["fill"]["scale"][k] for k in ("domain", "range")), strict=True))
    assert fill["torch on cpu, cpu_package by cpu_time_x_nameplate (estimated)"] == "white"
    assert fill["torch on cuda, gpu_board by nvml.total_energy"] != "white"


def test_notes_say_what_was_left_out_and_the_statuses_are_explained():
    records = [metered([*STEADY, None, None], i, cell(device="cuda")) for i in range(2)]
    (part,) = section([run(*records)]).parts
    assert "4 windows left out (too_short 4); idle power was not measured" in column(part.table, "Notes")[0]
    assert part.notes == ["too_short: the meter was updated too rarely in the window to tell its energy"]


def test_energy_that_cannot_be_told_from_idling_is_said_to_be():
    records = [*processes(2.0), idle(38.0, on="cuda"), idle(42.0, 1, on="cuda")]
    table = energy_table(found(*records))
    assert column(table, "Net of idle") == ["below idle noise"]
    assert "is within its uncertainty" in column(table, "Notes")[0]


def test_cases_that_failed_and_old_ones_have_their_row():
    bad = failed(Status.CAPACITY, Reason.OOM_DEVICE, of=cell(device="cuda", batch=64))
    old = ok(of=cell(device="cuda", batch=32), items_per_step=32)
    table = energy_table(found(*processes(2.0), bad, old))
    assert column(table, "Batch") == ["4", "32", "64"]
    assert column(table, "Energy per galaxy image")[1:] == ["n/a", "n/a"]
    assert column(table, "Notes")[1:] == [
        "no meter was read",
        "capacity: does not fit in memory; a result, not a fault",
    ]


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> dict[str, str]:
    records = [
        *processes(2.0), *processes(3.0, batch=8), ok(of=cell(device="cpu"), energy=[no_meter()]),
        *[metered([None] * 6, i, cell(device="cuda", batch=1)) for i in range(2)],
        idle(10.0, on="cuda"), idle(10.0, 1, on="cuda"), judged(), failed(of=cell(batch=64)),
    ]  # fmt: skip
    paths = reports.write([run(*records)], tmp_path_factory.mktemp("report"))
    return {name: path.read_text() for name, path in paths.items()}


def test_the_pages_hold_figures_statuses_and_reasons(written):
    for name in ("report.html", "report.md"):
        text = written[name].replace("\\", "")
        assert "Least energy (gpu_board, publishable): 2.00 (1.88 to 2.12) J per galaxy image" in text
        assert "no figure: too short" in text
        assert "no figure: unsupported" in text
        assert "No energy was measured on cpu: there is no powercap folder" in text


def test_the_files_hold_the_columns_and_no_nan(written):
    data = json.loads(written["report.json"], parse_constant=lambda name: pytest.fail(name))
    cases = {(c["device"], c["batch"]): c for c in data["cases"]}
    best = cases["cuda", 4]
    assert best["joules_per_item"] == pytest.approx(2.0)
    assert best["joules_per_item_u95"] == pytest.approx(0.118, rel=0.03)
    assert best["net_joules_per_item"] == pytest.approx(1.5)
    assert (best["energy_status"], best["energy_reason"], best["n_energy_windows"]) == ("ok", None, 18)
    assert [best[f"energy_{k}"] for k in ("source", "scope", "provenance")] == [
        "nvml.total_energy", "gpu_board", "measured",
    ]  # fmt: skip
    nothing = cases["cpu", 4]
    assert (nothing["joules_per_item"], nothing["n_energy_windows"], nothing["energy_provenance"]) == (None,) * 3
    assert nothing["energy_status"] == "unsupported"
    assert cases["cpu", 64]["energy_status"] is None
    short = cases["cuda", 1]
    assert (short["energy_status"], short["energy_provenance"], short["energy_scope"]) == (
        "too_short",
        None,
        "gpu_board",
    )
    assert "joules_per_item,joules_per_item_u95,net_joules_per_item" in written["report.csv"]


def test_idle_devices_are_no_cases_no_overhead_and_no_models():
    of = run(*processes(2.0), idle(10.0), judged())
    assert [c.cell.device for c in of.cases] == ["cuda"]
    assert of.overheads == []
    assert [c.measure for c, _ in of.trained] == ["quality"]
    assert len(of.idle) == 1


def test_runs_are_not_pooled_and_each_says_what_it_lacks():
    one, other = run(*processes(2.0)), run(ok(of=cell(device="cuda"), energy=[no_meter()]), run="s")
    of = section([one, other])
    assert of.headlines[-1].startswith("s: No energy was measured on cuda")
    assert len(of.parts[0].table.rows) == 2
    assert any("Least energy" in line for line in headlines(one))


def test_reading_records_for_energy_draws_nothing():
    code = (
        "import sys; from siderostat.reports import energy, document; from siderostat.reports.energy import section; "
        "sys.exit(any(m in sys.modules for m in ('altair', 'pandas', 'vl_convert', 'jinja2')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
