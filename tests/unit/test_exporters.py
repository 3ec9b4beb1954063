"""Exports are read by the tools that they are for, or held against these tools' own descriptions."""

from __future__ import annotations

import dataclasses
import importlib
import io
import json
import math
import re
import statistics
from pathlib import Path
from typing import Any

import junitparser
import pyperf
import pytest
from jsonschema import Draft7Validator
from lxml import etree
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from siderostat import plan, store
from siderostat.cli import main
from siderostat.cli import parser as command_line
from siderostat.gate import Verdict
from siderostat.plan import GRADES
from siderostat.record import Cell, Protocol, Provenance, Reason, Record, Status
from siderostat.reports import RunData
from siderostat.reports.exporters import FORMATS
from siderostat.reports.exporters.gates import verdicts
from siderostat.reports.exporters.series import Series, series
from tests.records import cell, failed, idle, metered, ok

DATA = Path(__file__).parents[1] / "data"
MANIFEST = {
    "schema": 1, "run": "night", "name": "tour", "grade": "ci",
    "environments": {"e": {
        "siderostat": "0.1.0", "cpu": "AMD EPYC", "cores": 2, "memory_bytes": 8_000_000_000, "host": "h1",
        "platform": "Linux", "governor": None,
    }},
}  # fmt: skip
PROCESS = {
    "started_at": "2026-11-22T08:34:50.215Z", "seconds": 2.5, "maxrss_bytes": 384_802_816, "python": "3.11.7",
    "packages": {"torch": "2.13.0"},
}  # fmt: skip
TIMES = (0.4, 0.5, 0.45)  # of a step of four items, process by process
MEASURED = "galaxy-shape dnn train torch cpu batch 4 size paper"


def timed(of: Cell | None = None, **changes: Any) -> list[Record]:
    common: dict[str, Any] = {"process": PROCESS, "environment": "e"}
    return [ok([s, s, 3 * s], round=i, of=of, **{**common, **changes}) for i, s in enumerate(TIMES)]


def simulated() -> Record:
    band = {"p2_5": 0.01, "p50": 0.02, "p97_5": 0.04}
    return ok(
        [0.02], of=cell(device="sim:graphcore-gc2"), provenance=Provenance.MODELLED, clock="model",
        model={"seconds_per_step": band}, process=PROCESS, environment="e",
    )  # fmt: skip


def crashed(**changes: Any) -> Record:
    return failed(Status.CRASH, Reason.KILLED, of=cell(batch=64), process=PROCESS, **changes)


def run(*records: Record, **manifest: Any) -> RunData:
    return RunData(Path("runs/night"), {**MANIFEST, **manifest}, list(records))


def night() -> list[Series]:
    """Three processes that were measured, one that was modelled, and one that crashed."""
    return series([run(*timed(peak_bytes=10**9), simulated(), crashed())])


def exported(name: str, found: list[Series]) -> dict[str, str]:
    module = importlib.import_module(f"siderostat.reports.exporters.{FORMATS[name].module}")
    return {file: "".join(parts) for file, parts in module.export(found).files.items()}


def only(name: str, found: list[Series] | None = None) -> str:
    (text,) = exported(name, night() if found is None else found).values()
    return text


def notes(name: str, found: list[Series]) -> list[str]:
    module = importlib.import_module(f"siderostat.reports.exporters.{FORMATS[name].module}")
    held: list[str] = module.export(found).notes
    return held


def geometric_mean() -> float:
    return math.exp(statistics.fmean(math.log(s / 4) for s in TIMES))


# What every format has in common.


FIGURES_ONLY = ("pyperf", "github-action-benchmark", "bencher", "mllog", "hyperfine")


@pytest.mark.parametrize("name", FIGURES_ONLY)
def test_what_a_format_cannot_say_is_said_in_a_sentence(name):
    (note,) = notes(name, night())
    assert re.match(r"1 case has no figure, which .* cannot say", note)


@pytest.mark.parametrize("name", FIGURES_ONLY)
def test_without_a_figure_there_is_no_file(name):
    assert exported(name, series([run(crashed())])) == {}


@pytest.mark.parametrize("name", [n for n in FORMATS if n != "asv"])
def test_a_modelled_figure_says_so(name):
    texts = exported(name, series([run(simulated())]))
    assert texts
    assert all("modelled" in text for text in texts.values())


@pytest.mark.parametrize("name", [n for n in FORMATS if n != "asv"])
def test_what_is_not_known_is_neither_0_nor_nan(name):
    """One process: no interval. No memory, no energy, no grade."""
    text = "".join(exported(name, series([run(timed()[0], grade="")])).values())
    assert "NaN" not in text
    assert not re.search(r"(low|high|lower_value|upper_value|joules\w*|peak\w*|range|stddev)\"?[=:] ?0", text)


def test_names_hold_the_options_that_differ_and_no_others():
    def named(**options: Any) -> str:
        other = timed(cell(options={"noise": "none", **options}))
        return series([run(*timed(cell(options={"noise": "poisson", **options})), *other)])[0].name

    assert named() == f"{MEASURED} noise=poisson"
    assert named(images=512) == named()


def test_the_names_of_several_runs_say_which():
    names = [one.name for one in series([run(*timed()), run(*timed(), run="day")])]
    assert names == [f"{MEASURED} run night", f"{MEASURED} run day"]


def test_names_that_would_be_the_same_are_told_apart():
    one, two = series([run(*timed(cell(workload="a\nb")), *timed(cell(workload="a b")))])
    assert one.name != two.name


def test_a_name_has_an_end():
    assert len(series([run(*timed(cell(workload="w" * 10_000)))])[0].name) < 1024


# Each format.


def test_pyperf_loads_its_file_with_one_run_for_each_process(tmp_path):
    path = tmp_path / "pyperf.json"
    path.write_text(only("pyperf"))
    suite = pyperf.BenchmarkSuite.load(str(path))
    assert suite.get_benchmark_names() == [MEASURED, f"{MEASURED.replace('cpu', 'sim:graphcore-gc2')} (modelled)"]
    benchmark = suite.get_benchmark(MEASURED)
    assert benchmark.get_values() == tuple(s / 4 for s in TIMES)
    assert benchmark.get_nrun() == 3
    assert benchmark.get_unit() == "second"
    assert benchmark.get_total_duration() == 7.5
    assert benchmark.get_dates()[0].isoformat() == "2026-11-22T08:34:50.215000"
    held = benchmark.get_metadata()
    assert held["siderostat_provenance"] == "measured"
    assert held["mem_max_rss"] == 384_802_816
    assert held["siderostat_seconds_per_item"] == pytest.approx(geometric_mean())


def test_pyperf_compares_two_exports(tmp_path, capsys, monkeypatch):
    for name, factor in (("base.json", 1.0), ("head.json", 2.0)):
        records = [ok([factor * s], round=i, process=PROCESS) for i, s in enumerate((0.40, 0.41, 0.42))]
        (tmp_path / name).write_text(only("pyperf", series([run(*records)])))
    from pyperf.__main__ import main as pyperf_main

    monkeypatch.setattr("sys.argv", ["pyperf", "compare_to", str(tmp_path / "base.json"), str(tmp_path / "head.json")])
    pyperf_main()
    assert "2.00x slower" in capsys.readouterr().out


def test_github_action_benchmark_gets_one_file_for_each_direction():
    texts = exported("github-action-benchmark", series([run(*timed(peak_bytes=10**9))]))
    assert set(texts) == {"smaller-is-better.json", "bigger-is-better.json"}
    smaller, bigger = (json.loads(texts[f"{way}-is-better.json"]) for way in ("smaller", "bigger"))
    assert [e["name"] for e in smaller] == [f"{MEASURED}: time", f"{MEASURED}: peak memory"]
    assert [e["name"] for e in bigger] == [f"{MEASURED}: throughput"]
    assert [e["unit"] for e in smaller + bigger] == ["s/galaxy image", "B", "galaxy image/s"]
    for entry in smaller + bigger:
        assert set(entry) <= {"name", "unit", "value", "range", "extra"}
        assert {type(entry[k]) for k in entry if k != "value"} == {str}
    assert smaller[0]["value"] * bigger[0]["value"] == pytest.approx(1)
    assert smaller[0]["value"] == pytest.approx(geometric_mean())
    assert "3 processes\nprovenance: measured\n95 % interval: " in smaller[0]["extra"]
    assert "range" not in smaller[1]


BMF = {
    "type": "object",
    "patternProperties": {".+": {"type": "object", "patternProperties": {".+": {
        "type": "object", "required": ["value"], "additionalProperties": False,
        "properties": {name: {"type": "number"} for name in ("value", "lower_value", "upper_value")},
    }}}},
}  # fmt: skip
"""https://bencher.dev/bmf.json, without leave for further keys."""


def test_bencher_metric_format_conforms_to_its_schema():
    data = json.loads(only("bencher"))
    Draft7Validator(BMF).validate(data)
    measures = data[MEASURED]
    assert set(measures) == {"latency", "throughput", "peak-memory-bytes"}
    assert measures["latency"]["value"] == pytest.approx(1e9 * geometric_mean())  # Bencher's unit: nanoseconds
    assert measures["throughput"]["lower_value"] == pytest.approx(1e9 / measures["latency"]["upper_value"])


def test_conbench_results_have_the_fields_that_its_server_takes(monkeypatch):
    for variable, value in (("REPOSITORY", "https://github.com/a/b"), ("COMMIT", "abc"), ("PR_NUMBER", "12")):
        monkeypatch.setenv(f"CONBENCH_PROJECT_{variable}", value)
    measured, modelled, bad = map(json.loads, only("conbench").splitlines())
    required = {"run_id", "batch_id", "timestamp", "tags", "context", "github"}
    optional = {"run_tags", "stats", "error", "info", "cluster_info"}
    for result in (measured, modelled, bad):
        assert required <= set(result) <= required | optional
        assert ("stats" in result) != ("error" in result)
        assert set(result["cluster_info"]) == {"name", "info", "optional_info"}
        assert {type(tag) for tag in result["tags"].values()} == {str}
    assert measured["github"] == {"repository": "https://github.com/a/b", "commit": "abc", "pr_number": 12}
    assert measured["stats"]["data"] == pytest.approx([4 / s for s in TIMES])
    assert measured["stats"]["times"] == pytest.approx([s / 4 for s in TIMES])
    assert (measured["stats"]["unit"], measured["stats"]["time_unit"]) == ("i/s", "s")
    assert measured["tags"]["name"] == "galaxy-shape dnn train"
    assert modelled["tags"]["provenance"] == "modelled"
    assert bad["error"] == {"status": "crash", "reason": "killed", "detail": "it went wrong"}
    assert measured["cluster_info"]["info"]["cpu"] == "AMD EPYC"
    assert measured["context"]["package_torch"] == "2.13.0"


def test_conbench_results_without_a_commit_say_what_is_missing(monkeypatch):
    monkeypatch.delenv("CONBENCH_PROJECT_COMMIT", raising=False)
    assert "github" not in json.loads(only("conbench").splitlines()[0])
    assert any(
        "set CONBENCH_PROJECT_REPOSITORY and CONBENCH_PROJECT_COMMIT" in note for note in notes("conbench", night())
    )


def test_mllog_lines_have_the_keys_of_mlperf_logging():
    lines = only("mllog").splitlines()
    events = [json.loads(line.removeprefix(":::MLLOG ")) for line in lines if line.startswith(":::MLLOG ")]
    assert len(events) == len(lines) == 5
    for event in events:
        assert list(event) == ["namespace", "time_ms", "event_type", "key", "value", "metadata"]
        assert event["event_type"] == "POINT_IN_TIME"
        assert event["time_ms"] == 1795336490215
        assert {"file", "lineno", "provenance"} <= set(event["metadata"])
    rate = next(e for e in events if e["key"] == "items_per_s")
    assert rate["metadata"]["low"] < rate["value"] < rate["metadata"]["high"]


def test_prometheus_parses_openmetrics():
    families = {f.name: f for f in text_string_to_metric_families(only("openmetrics"))}
    seconds = families["siderostat_item_seconds"]
    assert (seconds.type, seconds.unit) == ("gauge", "seconds")
    assert seconds.documentation == "Time per item, geometric mean over processes."
    measured, modelled = seconds.samples
    assert measured.value == pytest.approx(geometric_mean())
    assert measured.labels["series"] == MEASURED
    assert [s.labels["provenance"] for s in (measured, modelled)] == ["measured", "modelled"]
    assert families["siderostat_throughput_items_per_second"].unit == "items_per_second"
    assert len(families["siderostat_peak_memory_bytes"].samples) == 1  # of the one that knows it
    processes = {s.labels["batch"]: s.value for s in families["siderostat_processes"].samples if "sim" not in str(s)}
    assert processes == {"4": 3, "64": 0}
    assert only("openmetrics").endswith("# EOF\n")


def test_openmetrics_labels_come_back_as_they_were():
    odd = 'w"\\\n{},=#'
    families = text_string_to_metric_families(only("openmetrics", series([run(*timed(cell(workload=odd)))])))
    assert {s.labels["workload"] for f in families for s in f.samples} == {odd}


def valid(text: str) -> Any:
    root = etree.fromstring(text.encode())
    etree.XMLSchema(etree.parse(str(DATA / "junit.xsd"))).assertValid(root)
    return root


def test_a_run_is_valid_junit():
    refused = failed(Status.CAPACITY, Reason.OOM_HOST, of=cell(batch=128))
    text = only("junit", series([run(*timed(), crashed(), refused)]))
    valid(text)
    (suite,) = junitparser.JUnitXml.fromstring(text.encode())
    assert (suite.tests, suite.failures, suite.errors, suite.skipped) == (3, 1, 0, 1)
    passed, crash, skipped = suite
    assert passed.is_passed
    assert passed.time == 7.5
    assert "name=items_per_s value=" in passed.system_out
    assert crash.result[0].message == "crash (killed), round 0: it went wrong"
    assert skipped.result[0].message.startswith("capacity (oom_host)")


def test_one_crash_among_good_processes_is_a_failure_until_it_was_measured_again():
    broken = [*timed(), failed(Status.CRASH, Reason.KILLED, round=3)]
    assert valid(only("junit", series([run(*broken)])))[0].get("failures") == "1"
    mended = [*broken, ok(round=3, process=PROCESS)]
    assert valid(only("junit", series([run(*mended)])))[0].get("failures") == "0"


def test_hyperfine_results_have_its_fields_and_its_arithmetic():
    result, modelled = json.loads(only("hyperfine"))["results"]
    fields = ["command", "mean", "stddev", "median", "user", "system", "min", "max", "times", "exit_codes"]
    assert set(result) == {*fields, "memory_usage_byte", "parameters"}
    times = [s / 4 for s in TIMES]
    assert result["times"] == pytest.approx(times)
    assert result["mean"] == pytest.approx(statistics.fmean(times))
    assert result["stddev"] == pytest.approx(statistics.stdev(times))
    assert result["user"] is None
    assert result["exit_codes"] == [0, 0, 0]
    assert {type(value) for value in result["parameters"].values()} == {str}
    assert modelled["stddev"] is None
    assert modelled["command"].endswith("(modelled)")


LINE = (
    r'^figure: series="(?P<series>(?:[^"\\]|\\.)*)" name=(?P<name>\w+) value=(?P<value>\S+)'
    r'(?: low=(?P<low>\S+) high=(?P<high>\S+))? unit="(?P<unit>(?:[^"\\]|\\.)*)" processes=(?P<processes>\d+)'
    r" provenance=(?P<provenance>\w+)"
)


def test_lines_are_read_by_one_regular_expression():
    *figures, none = only("lines").splitlines()
    found = [re.match(LINE, line) for line in figures]
    assert all(found)
    rate = next(m for m in found if m and m["name"] == "items_per_s" and m["series"] == MEASURED)
    assert float(rate["value"]) == pytest.approx(1 / geometric_mean(), rel=1e-8)
    assert float(rate["low"]) < float(rate["value"]) < float(rate["high"])
    assert rate["unit"] == "galaxy image/s"
    crash = "galaxy-shape dnn train torch cpu batch 64 size paper"
    assert none == f'nofigure: series="{crash}" status=crash reason=killed'


def test_the_regular_expressions_of_the_documentation_find_their_figures():
    page = (Path(__file__).parents[2] / "docs" / "exports.md").read_text()
    output = only("lines")
    quoted = [one or other for one, other in re.findall(r"""\br(?:'(.*?)'|"(.*?)")""", page)]
    patterns = [p.replace("{SERIES}", re.escape(MEASURED)) for p in quoted]
    failures = [p for p in patterns if "status" in p]
    values = [p for p in patterns if "(?P<value>" in p]
    contexts = [p for p in patterns if "(?P<series>" in p]
    assert (len(failures), len(values), len(contexts)) == (1, 2, 1)
    assert re.search(failures[0], output, re.M)
    assert not re.search(failures[0], only("lines", series([run(*timed())])), re.M)
    for pattern in values:
        found = re.search(pattern, output, re.M)
        assert found and float(found["value"]) == pytest.approx(1 / geometric_mean(), rel=1e-8)
    assert {found["series"] for found in re.finditer(contexts[0], output, re.M)} == {
        MEASURED, MEASURED.replace("cpu", "sim:graphcore-gc2"),
    }  # fmt: skip


def test_energy_travels_where_it_is_known():
    records = [dataclasses.replace(metered([5.0 + 0.1 * i] * 6, i), process=PROCESS) for i in range(3)]
    found = series([run(*records, idle(1.0))])
    assert "name=joules_per_item value=" in only("lines", found)
    joules = found[0].row.joules_per_item
    assert json.loads(only("bencher", found))[MEASURED]["joules-per-item"]["value"] == joules
    smaller = json.loads(exported("github-action-benchmark", found)["smaller-is-better.json"])
    assert [e["value"] for e in smaller if e["unit"].startswith("J/")] == [joules]
    families = {f.name: f for f in text_string_to_metric_families(only("openmetrics", found))}
    assert families["siderostat_item_joules"].samples[0].value == joules


def test_an_estimate_of_energy_beside_a_measured_time_says_so():
    meters = {"provenance": Provenance.ESTIMATED, "source": "cpu_time_x_nameplate", "scope": "cpu_package"}
    found = series([run(*(metered([5.0] * 6, i, meters=meters) for i in range(3)))])
    smaller = json.loads(exported("github-action-benchmark", found)["smaller-is-better.json"])
    assert [e["name"] for e in smaller] == [f"{MEASURED}: time", f"{MEASURED}: energy (estimated)"]
    assert "joules-per-item-estimated" in json.loads(only("bencher", found))[MEASURED]
    line = next(text for text in only("lines", found).splitlines() if "joules_per_item" in text)
    assert "provenance=estimated" in line
    assert "low=" in line  # the band of a factor of two


# Gates.


def gate_series(verdict: Verdict, **changes: Any) -> dict[str, Any]:
    values = {
        "series": f"w {verdict.value}", "verdict": verdict.value, "reason": "", "basis": "cpu", "slowdown": 0.08,
        "slowdown_low": 0.06, "slowdown_high": 0.1, "detectable": 0.03, "head_seconds_per_item": 1e-4, "exact": [],
    }  # fmt: skip
    return {**values, **changes}


GATE = {
    "schema": 1, "base": "base abc", "head": "head def",
    "series": [
        gate_series(Verdict.PASS),
        gate_series(Verdict.FAIL, exact=[{"name": "parameters", "base": 1, "head": 2, "verdict": "fail"}]),
        gate_series(Verdict.INCONCLUSIVE),
        gate_series(
            Verdict.NOT_COMPARABLE, reason="threads differ", slowdown=None, slowdown_low=None, slowdown_high=None,
            head_seconds_per_item=None,
        ),
    ],
}  # fmt: skip


def gate_text(name: str) -> dict[str, str]:
    module = importlib.import_module(f"siderostat.reports.exporters.{FORMATS[name].module}")
    return {file: "".join(parts) for file, parts in module.export_gates([verdicts("gate", GATE)]).files.items()}


def test_a_gate_is_valid_junit():
    text = gate_text("junit")["junit.xml"]
    valid(text)
    (suite,) = junitparser.JUnitXml.fromstring(text.encode())
    assert (suite.tests, suite.failures, suite.errors, suite.skipped) == (4, 1, 1, 1)
    passed, bad, unclear, apart = suite
    assert passed.is_passed
    assert bad.result[0].message == "FAIL: time of the head +8.0 % (+6.0 % to +10.0 %); parameters rose"
    assert unclear.result[0].message.endswith("slowdowns from +3.0 % on could have been found")
    assert apart.result[0].message == "NOT COMPARABLE: threads differ"


def test_a_gate_gives_github_action_benchmark_the_heads_figures():
    smaller, bigger = (json.loads(text) for text in gate_text("github-action-benchmark").values())
    assert [e["value"] for e in smaller] == [1e-4] * 3
    assert [e["value"] for e in bigger] == [1e4] * 3
    assert "verdict: FAIL" in smaller[1]["extra"]


# The command.


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = plan.make([[cell()]], "test", GRADES["quick"], 0, Protocol())
    store.create(tmp_path / "run", made, MANIFEST)
    with store.OpenRun(tmp_path / "run") as opened:
        opened.append(*timed())
    return tmp_path / "run"


def test_a_single_file_goes_to_standard_output(folder, capsys):
    assert main(["export", "lines", str(folder)]) == 0
    assert len(re.findall(LINE, capsys.readouterr().out, re.M)) == 2


def test_a_file_or_a_folder_can_be_named(folder, tmp_path, capsys):
    assert main(["export", "bencher", str(folder), "-o", str(tmp_path / "new" / "bmf.json")]) == 0
    assert MEASURED in json.loads((tmp_path / "new" / "bmf.json").read_text())
    assert main(["export", "bencher", str(folder), "-o", str(tmp_path)]) == 0
    assert (tmp_path / "bencher.json").exists()
    assert capsys.readouterr().out.split() == [str(tmp_path / "new" / "bmf.json"), str(tmp_path / "bencher.json")]


def refusal(words: list[str], capsys: pytest.CaptureFixture[str], code: int = 2) -> str:
    assert main(["export", *words]) == code
    captured = capsys.readouterr()
    assert not captured.out
    return captured.err


def test_two_files_need_a_folder(folder, tmp_path, capsys):
    err = refusal(["github-action-benchmark", str(folder)], capsys)
    assert "is 2 files (smaller-is-better.json, bigger-is-better.json); say where with -o DIR" in err
    (tmp_path / "file").write_text("")
    err = refusal(["github-action-benchmark", str(folder), "-o", str(tmp_path / "file")], capsys)
    assert "name a folder with -o" in err


def test_an_unknown_format_is_answered_with_the_nearest(folder, capsys):
    assert "did you mean 'pyperf'?" in refusal(["pypref", str(folder)], capsys)


def test_a_run_without_figures_is_answered_with_a_sentence(tmp_path, capsys):
    made = plan.make([[cell()]], "test", GRADES["quick"], 0, Protocol())
    store.create(tmp_path / "empty", made, MANIFEST)
    assert "nothing there can be written as pyperf" in refusal(["pyperf", str(tmp_path / "empty")], capsys, 4)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "give a folder that 'siderostat gate' wrote"),
        ("[]", "it is not what 'siderostat gate' writes"),
        ('{"schema": 2}', "schema 2 is newer than 1"),
        ('{"schema": 1, "series": [{}]}', "it is damaged"),
        ('{"schema": 1, "series": 5}', "it is damaged"),
        (json.dumps(GATE).replace("0.08", "NaN"), "NaN is no number"),
        (json.dumps(GATE).replace('"pass"', '"<script>"'), "is not a valid Verdict"),
        (json.dumps(GATE).replace("0.08", '"<b>"'), "a number is expected"),
    ],
)
def test_a_damaged_gate_is_answered_with_a_sentence(tmp_path, capsys, text, words):
    (tmp_path / "gate.json").write_text(text)
    assert words in refusal(["junit", str(tmp_path)], capsys)


def test_a_gate_is_taken_where_the_format_has_a_place_for_verdicts(folder, tmp_path, capsys):
    (tmp_path / "gate.json").write_text(json.dumps(GATE))
    assert main(["export", "junit", str(tmp_path)]) == 0
    valid(capsys.readouterr().out)
    assert "takes runs only" in refusal(["pyperf", str(tmp_path)], capsys)
    assert "cannot stand in one export" in refusal(["junit", str(tmp_path), str(folder)], capsys)


def test_the_help_names_every_format():
    text = io.StringIO()
    export = next(
        action.choices["export"] for action in command_line.make()._actions if "export" in (action.choices or ())
    )
    export.print_help(text)
    assert all(name in text.getvalue() for name in FORMATS)
