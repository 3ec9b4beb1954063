"""What asv gets to see: its files, as asv itself reads them, and the same names from its own discovery."""

from __future__ import annotations

import gc
import json
import math
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from siderostat import asv_names
from siderostat.config import Sweep, groups
from siderostat.devices.base import Unavailable
from siderostat.errors import BadValue
from siderostat.record import Cell, Reason, Status
from siderostat.reports import RunData
from siderostat.reports.exporters import asv as exporter
from siderostat.reports.exporters.series import series
from tests.records import cell, failed, ok

SUITE = Path(__file__).parents[1] / "asv_suite"
HOST = {"host": "ab12", "python": "3.11.7", "platform": "Linux-6.1.0-13-amd64-x86_64-with-glibc2.36", "cpu": "Opteron"}


def git(*words: str) -> str:
    who = ["-c", "user.name=Anne", "-c", "user.email=anne@example.org"]
    return subprocess.run(["git", *who, *words], capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def commits(tmp_path, monkeypatch) -> list[str]:
    """A repository of two commits, which is the current folder."""
    monkeypatch.chdir(tmp_path)
    git("init", "-q")
    for text in ("one", "two"):
        Path("file").write_text(text)
        git("add", "file")
        git("commit", "-qm", text)
    return git("rev-list", "--reverse", "HEAD").split()


def run(records, folder: str = "run", **environment) -> RunData:
    return RunData(Path(folder), {"environments": {"": {**HOST, **environment}}}, records)


def processes(times, of: Cell | None = None, **changes):
    """A process for each time per item in seconds, with a step of four items."""
    return [ok([4 * t] * 3, round=i, of=of, **changes) for i, t in enumerate(times)]


def written(runs, folder: Path = Path("results"), **asked) -> dict[str, object]:
    export = exporter.export(series(runs), folder, **asked)
    for name, parts in export.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("".join(parts))
    return {name: json.loads((folder / name).read_text()) for name in export.files}


def loaded(path: Path):
    from asv.results import Results

    return Results.load(str(path), machine_name="ab12")


def test_names_parameters_and_version_are_those_that_asv_discovers(tmp_path, commits):
    script = (
        f"import sys; from asv_runner.discovery import list_benchmarks; list_benchmarks({str(SUITE)!r}, sys.stdout)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path)
    discovered = {about["name"]: about for about in json.loads(done.stdout)}
    shape = {"workload": "galaxy-shape", "modes": ["train"], "batches": [8], "devices": ["cpu:threads=1"]}
    tables = [{"workload": "arithmetic"}, shape]
    cells = [one for group in groups(Sweep(tables=tables)) for one in group if one.device == "cpu" or one.batch == 8]
    exported = written([run([ok(of=one) for one in cells], commit=commits[0])])["benchmarks.json"]
    assert exported.pop("version") == 2
    assert set(exported) == set(discovered) and len(exported) == 3
    for name, about in exported.items():
        for key in ("param_names", "params", "version", "type", "unit", "number"):
            assert about[key] == discovered[name][key], (name, key)
        assert discovered[name]["warmup_time"] >= 2 and discovered[name]["rounds"] >= 7


def test_a_variant_and_a_file_have_names_that_a_module_and_a_class_can_have():
    assert asv_names.benchmark(cell(variant="bnn-flipout")) == "galaxy_shape.BnnFlipout.time_train"
    assert (
        asv_names.benchmark(cell(workload="/there/my-steps.py:Sum", variant="plain")) == "my_steps.SumPlain.time_train"
    )


def test_asv_reads_medians_of_processes_as_samples_and_their_interval(commits):
    times = [0.010, 0.011, 0.012, 0.0105, 0.0115]
    written([run(processes(times), commit=commits[0])])
    results = loaded(Path(f"results/ab12/{commits[0][:8]}-siderostat.json"))
    (name,) = results.get_all_result_keys()
    params = results.get_result_params(name)
    assert results.get_result_samples(name, params)[0] == pytest.approx(times)
    assert results.get_result_value(name, params)[0] == pytest.approx(statistics.geometric_mean(times))
    (stats,) = results.get_result_stats(name, params)
    logs = [math.log(t) for t in times]
    half = 4.604095 * statistics.stdev(logs) / math.sqrt(5)  # Student's t of 4 degrees of freedom at 99 %
    assert stats["ci_99_a"] == pytest.approx(math.exp(statistics.fmean(logs) - half), rel=1e-6)
    assert stats["ci_99_b"] == pytest.approx(math.exp(statistics.fmean(logs) + half), rel=1e-6)
    assert stats["repeat"] == 5 and stats["number"] == 1
    assert results.commit_hash == commits[0] and results.env_name == "siderostat"
    assert results.date == 1000 * int(git("log", "-1", "--format=%at", commits[0]))


def test_a_machine_is_described_in_asvs_own_words(commits):
    machine = written([run(processes([0.01]), commit=commits[0], cores=2, memory_bytes=2048)])["ab12/machine.json"]
    assert machine == {
        "version": 1, "machine": "ab12", "os": "Linux 6.1.0-13-amd64", "arch": "x86_64", "cpu": "Opteron",
        "num_cpu": "2", "ram": "2048",
    }  # fmt: skip


def test_a_machine_that_asv_knows_keeps_its_description_so_that_its_lines_go_on(commits):
    written([run(processes([0.01]), commit=commits[0])], machine="bench")
    files = written(
        [run(processes([0.01]), commit=commits[1], platform="Linux-6.9-x86_64-with-glibc2.36")], machine="bench"
    )
    assert files[f"bench/{commits[1][:8]}-siderostat.json"]["params"]["os"] == "Linux 6.1.0-13-amd64"


def test_what_does_not_fit_is_not_applicable_what_crashed_failed_and_what_was_not_asked_for_is_neither(commits):
    records = [
        *processes([0.01], cell(batch=4)),
        failed(Status.CAPACITY, Reason.OOM_HOST, of=cell(batch=16)),
        failed(of=cell(batch=8)),
        *processes([0.02], cell(batch=4, device="cpu:threads=1")),
    ]
    data = written([run(records, commit=commits[0])])[f"ab12/{commits[0][:8]}-siderostat.json"]
    (row,) = data["results"].values()
    assert row[1][1] == ["'cpu'", "'cpu:threads=1'"] and row[1][-1] == ["4", "8", "16"]
    assert row[0][0] == pytest.approx(0.01) and row[0][1] is None and math.isnan(row[0][2])
    assert row[0][3] == pytest.approx(0.02) and all(map(math.isnan, row[0][4:]))


def test_a_modelled_time_has_neither_samples_nor_an_interval(commits):
    band = {"seconds_per_step": {"p50": 0.04, "p2_5": 0.03, "p97_5": 0.05}}
    written([run(processes([0.01], cell(device="sim:nvidia-a100"), model=band), commit=commits[0])])
    results = loaded(Path(f"results/ab12/{commits[0][:8]}-siderostat.json"))
    (name,) = results.get_all_result_keys()
    params = results.get_result_params(name)
    assert results.get_result_value(name, params) == [pytest.approx(0.01)]
    assert results.get_result_stats(name, params) == [None] and results.get_result_samples(name, params) == [None]


def test_a_second_export_adds_to_what_is_there(commits):
    written([run(processes([0.01], cell(batch=8)), commit=commits[0])])
    written([run(processes([0.02], cell(batch=8)) + processes([0.03], cell(batch=2)), commit=commits[0])])
    written([run(processes([0.04], cell(mode="infer")), commit=commits[0])])
    results = loaded(Path(f"results/ab12/{commits[0][:8]}-siderostat.json"))
    name = "galaxy_shape.Dnn.time_train"
    params = results.get_result_params(name)
    assert params[-1] == ["2", "8"]
    assert results.get_result_value(name, params) == pytest.approx([0.03, 0.02])
    listed = json.loads(Path("results/benchmarks.json").read_text())
    assert listed[name]["params"] == params and "galaxy_shape.Dnn.time_infer" in listed


def test_benchmarks_of_asvs_own_stay_as_it_discovered_them(commits):
    Path("results").mkdir()
    theirs = {"name": "other.time_x", "params": [], "param_names": [], "version": "7"}
    Path("results/benchmarks.json").write_text(json.dumps({"other.time_x": theirs, "version": 2}))
    assert written([run(processes([0.01]), commit=commits[0])])["benchmarks.json"]["other.time_x"] == theirs


def test_two_runs_of_two_commits_are_two_files(commits):
    runs = [run(processes([0.01 * (i + 1)]), str(i), commit=commit) for i, commit in enumerate(commits)]
    assert {name for name in written(runs) if name.endswith("-siderostat.json")} == {
        f"ab12/{commit[:8]}-siderostat.json" for commit in commits
    }


@pytest.mark.parametrize(
    ("environment", "asked", "words"),
    [
        ({}, [], "does not say which commit it measured; say so: --commit HASH"),
        ({"commit": "c" * 40}, [], "commit cccccccccc, which the repository of .* does not have"),
        ({"commit": "HEAD", "dirty": "ab"}, [], "code that was not committed"),
        ({"commit": "HEAD"}, ["=abc"], "names no commit"),
    ],
)
def test_a_run_whose_commit_cannot_be_told_is_refused_with_a_sentence(commits, environment, asked, words):
    with pytest.raises(BadValue, match=words):
        written([run(processes([0.01]), **environment)], commits=asked)


def test_the_commit_may_be_said_instead(commits):
    assert f"ab12/{commits[0][:8]}-siderostat.json" in written([run(processes([0.01]))], commits=["HEAD~1"])


def test_the_sides_of_a_gate_go_to_their_commits(commits):
    records = processes([0.01], cell(code="base")) + processes([0.02], cell(code="head"))
    with pytest.raises(BadValue, match="--commit base=HASH"):
        written([run(records, "gate/first")])
    said = {f"ab12/{commit[:8]}-siderostat.json" for commit in commits}
    named = [f"base={commits[0]}", f"head={commits[1]}"]
    assert said < set(written([run(records, "gate/first")], commits=named))
    Path("gate/first").mkdir(parents=True)
    gate = {"base": f"base {commits[0][:10]} (one)", "head": f"head {commits[1][:10]} (two)"}
    Path("gate/gate.json").write_text(json.dumps(gate))
    assert said < set(written([run(records, "gate/first")]))


def test_a_damaged_file_of_asv_is_named(commits):
    Path("results").mkdir()
    Path("results/benchmarks.json").write_text("{")
    with pytest.raises(BadValue, match=r"benchmarks\.json is there and cannot be read"):
        written([run(processes([0.01]), commit=commits[0])])


@pytest.fixture
def collecting():
    """Put the collector back to work, which a measured process switches off."""
    yield
    gc.unfreeze()
    gc.enable()


def suite_class(name: str, table: dict[str, object], **members):
    from siderostat.asv_suite import Throughput

    return type(name, (Throughput,), {"__module__": "suite.arithmetic", "table": table, **members})


def time_infer(self, *point):
    self.run_bursts()


def test_a_sample_of_asvs_is_the_time_per_item_of_a_process_by_the_devices_own_clock(collecting):
    table = {"workload": "arithmetic", "devices": ["mock:step_s=0.008"], "batches": [2, 4]}
    fourier = suite_class("Fourier", table, time_infer=time_infer)
    assert fourier.params[-1] == [2, 4]
    for point in fourier.cells:
        benchmark = fourier()
        benchmark.setup(*point)
        before = benchmark.timer()
        benchmark.setup(*point)  # asv calls it before each sample
        benchmark.time_infer(*point)
        assert benchmark.timer() - before == pytest.approx(0.008 / point[-1])


def test_a_class_that_asv_would_know_by_another_name_is_refused():
    with pytest.raises(BadValue, match=r"asv knows as arithmetic\.Fourier\.time_infer"):
        suite_class("Shift", {"workload": "arithmetic"}, time_infer=time_infer)
    with pytest.raises(BadValue, match=r"asv knows as arithmetic\.Fourier\.time_infer"):
        suite_class("Fourier", {"workload": "arithmetic"})


@pytest.mark.parametrize(
    ("error", "words"),
    [(ModuleNotFoundError("no", name="torch"), "package torch is not installed"), (Unavailable("no GPU"), "no GPU")],
)
def test_what_cannot_be_measured_here_is_skipped(monkeypatch, error, words):
    def refuse(self):
        raise error

    monkeypatch.setattr("siderostat.worker.Bench.prepare", refuse)
    fourier = suite_class("Fourier", {"workload": "arithmetic"}, time_infer=time_infer)
    (point,) = fourier.cells
    with pytest.raises(NotImplementedError, match=words):
        fourier().setup(*point)


def test_the_repositorys_own_configuration_is_one_that_asv_takes(monkeypatch):
    from asv.config import Config

    monkeypatch.chdir(SUITE.parents[1])
    conf = Config.load()
    assert Path(conf.benchmark_dir, "__init__.py").is_file()
    assert conf.branches == ["HEAD"] and conf.environment_type == "virtualenv"
    assert all("--no-deps" in command for command in [*conf.build_command, *conf.install_command])
    assert Path(conf.benchmark_dir).name not in ("siderostat", "benchmarks", "tests")
