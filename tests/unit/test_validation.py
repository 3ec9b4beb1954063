"""A simulated device against a measured run, and this machine's processor as a chip."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import statistics
import sys

import pytest

from siderostat import cli, rooflines, store, validation
from siderostat.devices.sim import calibration as calibrations
from siderostat.devices.sim import chips, energy, frameworks, kernels, liveness, measured
from siderostat.devices.sim.bands import Draws, total
from siderostat.devices.sim.opgraph import Op, OpGraph, TensorSpec
from siderostat.errors import BadValue, NothingMeasured, UnknownName
from siderostat.plan import Plan
from siderostat.record import CAPACITY, Attempt, Burst, Cell, Provenance, Record, Status
from siderostat.reports import validation as page
from siderostat.stats import Estimate

CHIP = """
title = "A chip for tests"
kind = "kernel-hbm"
[figures]
flops_fp32 = 1e12
memory_bytes = 1e10
memory_bytes_per_s = { value = 1e11, spread = 1.3 }
host_bytes_per_s = 1e10
"""
BAND = {"p2_5": 0.5, "p16": 0.8, "p50": 1.0, "p84": 1.25, "p97_5": 2.0}
ONE = Draws(1)


@pytest.fixture
def chip(tmp_path):
    (tmp_path / "chip.toml").write_text(CHIP)
    return f"sim:{tmp_path}/chip.toml"


def cell(workload: str = "net", mode: str = "infer", batch: int = 4, device: str = "cpu", **more: str) -> Cell:
    return Cell(workload, "plain", mode, more.pop("framework", "torch"), device, batch, "tiny", **more)


def record(of: Cell, step_s: float = 1e-3, round: int = 0, **more: object) -> Record:
    held = {
        "status": Status.OK, "provenance": Provenance.MEASURED, "clock": "host", "item": "vector",
        "items_per_step": of.batch, "bursts": [Burst(0, 1, [step_s] * 3, [step_s] * 3)], "device": {"name": "A chip"},
    }  # fmt: skip
    return Record(Attempt(of, round, 0), **{**held, **more})


def point(measured_s: float, workload: str = "net", batch: int = 4) -> validation.Point:
    of = cell(workload, batch=batch)
    return validation.Point(of, "vector", Estimate(measured_s, None, None, 1), (), BAND, {"compute": 1.0})


def found(*points: validation.Point, left_out: tuple[validation.LeftOut, ...] = ()) -> validation.Validation:
    return validation.Validation(
        "sim:chip", "Chip", {"chip": "01234567"}, ["idle_w"], "RUN", "cuda", "A GPU", points, left_out
    )


def run_folder(path, *records: Record) -> str:
    store.create(path, Plan("test", "quick", 0, []), {"run": path.name})
    (path / "records.jsonl").write_text("".join(f"{r.to_json()}\n" for r in records))
    return str(path)


def test_an_error_is_modelled_over_measured_time_and_a_band_holds_what_was_measured_or_not():
    close, far, outside = point(1.25), point(0.6), point(4.0)
    assert [p.error for p in (close, far, outside)] == pytest.approx([-0.2, 2 / 3, -0.75])
    assert [(p.is_in_68, p.is_in_95) for p in (close, far, outside)] == [(True, True), (False, True), (False, False)]


def test_a_summary_is_the_median_without_sign_and_says_where_the_model_leans():
    of = validation.summary("all", [point(1.25), point(1.0), point(4.0)])
    assert (of.n, of.median_abs_error, of.median_error) == (3, pytest.approx(0.2), pytest.approx(-0.2))
    assert (of.share_68, of.share_95) == (pytest.approx(2 / 3), pytest.approx(2 / 3))
    assert not of.reaches_aim  # its error is small enough, its coverage is not
    assert validation.summary("all", [point(1.25)] * 9).reaches_aim


def test_each_workload_is_summed_up_alone():
    of = found(point(1.0, "a"), point(2.0, "b"), point(2.0, "b"))
    assert [(s.name, s.n, s.median_abs_error) for s in of.by_workload()] == [("a", 1, 0.0), ("b", 2, 0.5)]
    table = page.summary_table(of)
    assert [row.cells[0] for row in table.rows] == ["A", "B", "All"]


def test_the_device_is_the_only_one_or_the_one_that_is_named():
    two = [validation.cases([record(cell(device=name))])[0] for name in ("cpu:threads=1", "cuda:0")]
    assert validation.measured_device(two[:1], None) == "cpu:threads=1"
    assert validation.measured_device(two, "cuda") == "cuda:0"
    assert validation.measured_device(two, "cpu:threads=1") == "cpu:threads=1"
    with pytest.raises(BadValue, match="cpu:threads=1, cuda:0; name one"):
        validation.measured_device(two, None)
    with pytest.raises(UnknownName, match="unknown device 'ipu'"):
        validation.measured_device(two, "ipu")


def test_what_was_modelled_is_not_taken_for_measured():
    simulated = validation.cases([record(cell(device="sim:x"), provenance=Provenance.MODELLED)])
    with pytest.raises(NothingMeasured, match="no measured throughput"):
        validation.measured_device(simulated, None)


def test_only_a_simulated_chip_can_be_validated(chip):
    with pytest.raises(BadValue, match="no simulated device"):
        validation.machine("cpu")
    with pytest.raises(BadValue, match="leave chips out"):
        validation.machine("sim:nvidia-h200:chips=2")
    assert validation.machine(chip).chip.title == "A chip for tests"


def test_measured_cases_are_set_beside_the_model_and_the_others_say_why_not(net, chip):
    large = dataclasses.replace(cell(net), batch=8)
    records = [
        record(cell(net), 1e-3),
        record(large, 1e-3),
        record(cell(net, mode="guess")),
        record(cell(net, framework="numpy")),
        record(cell(net, precision="bf16")),
        record(cell(net, batch=16), status=Status.CRASH, provenance=None, bursts=[], detail="it ended"),
        record(cell(net, measure=CAPACITY)),
        record(cell("null")),
    ]
    had_torch = "torch" in sys.modules
    of = validation.validate(chip, records, "RUN")
    assert ("torch" in sys.modules) == had_torch
    assert [(p.cell.batch, p.measured.value) for p in of.points] == [(4, 1e-3 / 4), (8, 1e-3 / 8)]
    small, twice = of.points
    assert small.band["p2_5"] < small.modelled_s < small.band["p97_5"]
    assert twice.modelled_s == pytest.approx(small.modelled_s / 2, rel=0.05)  # launching is all of it
    assert sum(small.parts.values()) == pytest.approx(small.modelled_s, rel=0.3)
    why = {(one.cell.mode, one.cell.framework, one.cell.precision, one.cell.batch): one.reason for one in of.left_out}
    assert "depends on values" in why["guess", "torch", "fp32", 4]
    assert "numpy" in why["infer", "numpy", "fp32", 4]
    assert "no peak in bf16" in why["infer", "torch", "bf16", 4]
    assert why["infer", "torch", "fp32", 16] == "not measured: crash (it ended)"
    assert len(why) == 4
    assert not any("log is" in reason for reason in why.values())


def test_a_case_that_would_not_fit_is_left_out_with_the_reason(net, tmp_path):
    (tmp_path / "tiny.toml").write_text(CHIP.replace("1e10", "1e6", 1))
    with pytest.raises(NothingMeasured, match="does not fit"):
        validation.validate(f"sim:{tmp_path}/tiny.toml", [record(cell(net))], "RUN")


def test_a_page_its_text_and_every_case_are_written():
    left = validation.LeftOut(cell("other", batch=2), "because")
    texts = page.texts(found(point(1.25), point(4.0, batch=8), left_out=(left,)))
    assert set(texts) == {"validation.html", "validation.md", "validation.csv"}
    assert "<svg" in texts["validation.html"]
    assert "median error 47.5 %" in texts["validation.md"]
    assert "50 % of the cases lie in the model's 95 % band" in texts["validation.md"]
    assert "because" in texts["validation.md"]
    rows = list(csv.DictReader(io.StringIO(texts["validation.csv"])))
    assert [(r["batch"], r["is_in_95"], r["left_out"]) for r in rows] == [
        ("4", "True", ""),
        ("8", "False", ""),
        ("2", "", "because"),
    ]
    assert float(rows[0]["error"]) == pytest.approx(-0.2)


def test_options_stand_in_a_table_where_they_tell_cases_apart():
    one, other = point(1.0), point(1.0)
    one = dataclasses.replace(one, cell=dataclasses.replace(one.cell, options={"noise": "poisson", "clip": 0.0}))
    other = dataclasses.replace(other, cell=dataclasses.replace(other.cell, options={"noise": "poisson", "clip": 1.0}))
    shown = [row.cells[0] for row in page.case_table(found(one, other)).rows]
    assert shown == ["Net, plain, infer, size tiny, clip=0.0", "Net, plain, infer, size tiny, clip=1.0"]


def test_the_command_prints_writes_and_ends_well(net, chip, tmp_path, capsys):
    run = run_folder(tmp_path / "run", record(cell(net)), record(cell(net), round=1))
    assert cli.main(["validate", chip, "--against", run, "-o", str(tmp_path / "out")]) == 0
    assert "1 case: median error" in capsys.readouterr().out
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "validation.csv",
        "validation.html",
        "validation.md",
    ]
    assert cli.main(["validate", chip, "--against", run, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["cases"][0]["n_processes"] == 2
    assert told["overall"]["n"] == 1


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["cpu", "--against", "RUN"], 2, "no simulated device"),
        (["sim:nvidia-h20", "--against", "RUN"], 2, "did you mean"),
        (["CHIP", "--against", "."], 2, "not a run folder"),
        (["CHIP", "--against", "RUN", "--device", "cuda"], 2, "unknown device 'cuda'"),
        (["CHIP", "--against", "RUN"], 4, "depends on values"),
    ],
)
def test_what_cannot_be_compared_is_said_in_a_sentence(net, chip, tmp_path, capsys, words, code, text):
    run = run_folder(tmp_path / "run", record(cell(net, mode="guess")))
    names = {"RUN": run, "CHIP": chip}
    assert cli.main(["validate", *(names.get(word, word) for word in words)]) == code
    told = capsys.readouterr().err
    assert text in told
    assert told.count("\n") == 1


# This machine's processor as a chip.


def answer(slower: float = 1.0, page: float = 4.0) -> dict:
    """What a process tells that measures: rates as below, those of the second repeat a tenth lower."""
    rates = {
        ("fp32", "256"): 8e10, ("fp32", "512"): 1e11, ("bf16", "512"): 2e11, ("conv", "32"): 5e10,
        ("near", "near"): 8e10, ("far", "far"): 2e10, ("span", "4194304"): 8e10, ("span", "8388608"): 5e10,
        ("span", "16777216"): 3e10, ("random", "normal"): 2e8, ("function", "exp"): 1e9, ("tiny", "add"): 5e5,
        ("new", "new"): 2e10 / page, ("old", "old"): 2e10,
    }  # fmt: skip
    probes = [
        {"kind": kind, "name": name, "work": 1.0, "seconds": [slower / rate, slower / rate / 0.9]}
        for (kind, name), rate in rates.items()
    ]
    load = {"foreign_cpu": 0.3, "pressure": 0.0}
    about = {"processor": 'A "CPU"', "memory_bytes": 8_000_000_000, "threads": 2, "torch": "2.0"}
    return {"probes": probes, "load": load, **about}


def test_figures_are_medians_over_processes_and_spreads_those_of_the_repeats():
    of = rooflines.evaluate([answer(), answer(1.1)], "2026-01-01T00:00:00Z")
    figures = {figure.key: figure for figure in of.figures}
    repeats = [1e11, 0.9e11, 1e11 / 1.1, 0.9e11 / 1.1]
    assert figures["flops_fp32"].value == pytest.approx(statistics.median(repeats))
    assert 1.05 < figures["flops_fp32"].spread < 1.2
    assert figures["product_efficiency"].value == pytest.approx((0.8 * 1.0 * 0.5) ** (1 / 3))
    assert figures["product_efficiency"].spread > figures["flops_fp32"].spread
    assert figures["cache_bytes"].value == 8388608  # 50 GB/s is above 40, half-way between 20 and 80 by logarithm
    assert figures["op_s"].value == pytest.approx(statistics.median([2e-6, 2e-6 / 0.9, 2.2e-6, 2.2e-6 / 0.9]))
    assert of.disturbances == ["Other work took 30% of all processors' time meanwhile."]


def test_new_memory_has_a_rate_only_where_it_costs_something():
    costly = {f.key: f.value for f in rooflines.evaluate([answer()], "").figures}
    assert costly["page_bytes_per_s"] == pytest.approx(1 / (4 / 2e10 - 1 / 2e10), rel=0.15)
    assert "page_bytes_per_s" not in {f.key for f in rooflines.evaluate([answer(page=1.0)], "").figures}


def test_the_file_of_a_measured_processor_can_be_simulated(tmp_path):
    of = rooflines.evaluate([answer(), answer(1.1)], "2026-01-01T00:00:00Z")
    path = tmp_path / "cpu.toml"
    path.write_text(of.to_toml())
    loaded = chips.load(str(path))
    assert loaded.title == 'A "CPU", 2 threads'
    assert {f.key: pytest.approx(f.value, rel=1e-3) for f in of.figures} == {
        key: figure.value for key, figure in loaded.figures.items()
    }
    assert loaded.unchecked() == []
    assert "2026-01-01" in path.read_text() and "Other work took 30%" in path.read_text()
    assert energy.joules({"compute": 1.0}, loaded, ONE)["high"] is None  # nobody told its power
    assert chips.peak_flops(loaded, "bf16") == pytest.approx(1.8e11, rel=0.1)
    assert chips.peak_flops(loaded, "fp16") is None


def test_a_process_that_fails_is_said_in_a_sentence(monkeypatch):
    monkeypatch.setattr(rooflines, "_WORKER", "siderostat.devices.sim.no_such_module")
    with pytest.raises(NothingMeasured, match="No module named siderostat"):
        rooflines.measure(1)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["cpu", "-o", "cpu.txt"], "ends in .toml"),
        (["cpu", "-o", "no/such/folder/cpu.toml"], "a folder that is there"),
        (["cpu", "--threads", "0"], "at least 1"),
        (["--threads", "2"], "belongs to 'siderostat calibrate cpu'"),
    ],
)
def test_flags_that_make_no_sense_are_refused_before_anything_is_measured(capsys, words, text):
    assert cli.main(["calibrate", *words]) == 2
    assert text in capsys.readouterr().err


def test_every_kind_of_figure_has_a_probe():
    kinds = {key[0] for key in ((p["kind"], p["name"]) for p in answer()["probes"])}
    small = [p for p in measured.probes() if p.kind in kinds]
    assert {p.kind for p in small} == kinds
    for probe in (p for p in small if p.kind in ("tiny", "random", "function")):
        assert measured.burst(probe.call, 2) > 0
        assert probe.work > 0


# The model of a chip that is its own host.


def tensor(id: int, *shape: int) -> TensorSpec:
    return TensorSpec(id, shape, "float32", 4)


def graph(*ops: Op) -> OpGraph:
    storages = {t.id: t.nbytes for op in ops for t in (*op.inputs, *op.outputs)}
    return OpGraph("torch", list(ops), 0, 0, 4000, 0, storages=storages)


def relus(count: int, elements: int) -> OpGraph:
    """A chain of which no two links take the same memory."""
    each = [
        Op("relu", "elementwise", "forward", elements, (tensor(i, elements),), (tensor(i + 1, elements),))
        for i in range(count)
    ]
    return graph(*each)


@pytest.fixture
def processor(tmp_path):
    path = tmp_path / "cpu.toml"
    path.write_text(rooflines.evaluate([answer()], "").to_toml())
    return chips.load(str(path))


def seconds(of: OpGraph, processor) -> dict:
    parameters, eager = calibrations.fitting("", processor), frameworks.load("torch-eager")
    return kernels.seconds(of, processor, parameters, eager, "fp32", ONE)


def test_a_processor_launches_what_it_computes_so_that_both_take_time(processor):
    one, many = (seconds(relus(n, 4), processor) for n in (1, 100))
    assert one["launch"] == many["launch"] == 0
    assert many["compute"] == pytest.approx(100 * processor["op_s"], rel=0.01)


def test_what_fits_the_cache_moves_at_its_bandwidth(processor):
    near, far = (seconds(relus(1, n), processor)["compute"] - processor["op_s"] for n in (1 << 20, 1 << 22))
    assert near == pytest.approx(8 * (1 << 20) / processor["cache_bytes_per_s"])
    assert far == pytest.approx(8 * (1 << 22) / processor["memory_bytes_per_s"])


def test_random_numbers_and_functions_have_rates_of_their_own(processor):
    size = 1 << 18
    draw = graph(Op("normal_", "random", "forward", size, (), (tensor(0, size),)))
    exp = graph(Op("exp", "elementwise", "forward", size, (tensor(0, size),), (tensor(1, size),)))
    assert seconds(draw, processor)["compute"] == pytest.approx(
        size / processor["randoms_per_s"] + processor["op_s"], rel=1e-6
    )
    assert seconds(exp, processor)["compute"] == pytest.approx(
        size / processor["functions_per_s"] + processor["op_s"], rel=1e-6
    )


def test_an_update_is_as_many_operations_as_it_is_made_of(processor):
    weight = tensor(0, 16)
    update = Op("Adam", "optimizer", "update", 16, (weight,), (weight,), {"operations": 7})
    assert seconds(graph(update), processor)["compute"] == pytest.approx(7 * processor["op_s"], rel=0.01)


def test_memory_that_is_freed_and_taken_again_costs_new_pages():
    kib = 1 << 10
    assert liveness.new_page_bytes(relus(50, 64 * kib)) == 0  # 256 KiB each: the heap keeps two of them
    assert liveness.new_page_bytes(relus(1, 16 << 20)) == 2 * (64 << 20)  # mapped on their own, both
    ops = relus(8, 1 << 20).ops  # 4 MiB each
    all_needed = Op("cat", "copy", "forward", 0, tuple(op.outputs[0] for op in ops), (tensor(99, 1),))
    held = graph(*ops, all_needed)
    assert liveness.new_page_bytes(held) > 8 * (4 << 20) / 2  # all there at once, and given back at the end


def test_pages_are_a_part_of_the_time_where_their_rate_is_known(processor):
    of = relus(1, 16 << 20)
    found = seconds(of, processor)
    assert found["pages"] == pytest.approx(liveness.new_page_bytes(of) / processor["page_bytes_per_s"])
    assert total(found) > found["compute"]
    h200 = chips.load("nvidia-h200")
    eager, parameters = frameworks.load("torch-eager"), calibrations.fitting("", h200)
    assert "pages" not in kernels.seconds(of, h200, parameters, eager, "fp32", ONE)
