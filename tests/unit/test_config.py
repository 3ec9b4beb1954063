"""From flags and files to cells; what is wrong is said with place, allowed values and the nearest match."""

from __future__ import annotations

from pathlib import Path

import pytest

from siderostat import config
from siderostat.config import Sweep, load_workload
from siderostat.errors import BadValue, SiderostatError, UnknownName
from siderostat.record import Cell


def _cells(sweep: Sweep) -> list[Cell]:
    return [c for group in config.groups(sweep) for c in group]


def write(folder: Path, text: str) -> Path:
    path = folder / "sweep.toml"
    path.write_text(text)
    return path


def batches_of(table: dict) -> list[int]:
    return [c.batch for c in _cells(Sweep(tables=[table])) if c.workload != "null"]


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("1,8,64", [1, 8, 64]),
        ("1..256x4", [1, 4, 16, 64, 256]),
        ("2..9x2,5", [2, 4, 8, 5]),
        (3, [3]),
        ([2, 2, 4], [2, 4]),
    ],
)
def test_batch_sizes(text, sizes):
    assert config.parse_batches(text) == sizes


@pytest.mark.parametrize(
    "text", ["", "0", "a", "1..8", "8..1x2", "1..8x1", [], [0], [1.5], [True], True, "-1", "0..8x2"]
)
def test_what_is_no_batch_size_is_refused(text):
    with pytest.raises(BadValue, match="batch size"):
        config.parse_batches(text)


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("1.5m", 90), ("2h", 7200)])
def test_durations(text, seconds):
    assert config.parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "-3s", "3 days", "s"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(BadValue, match="no duration"):
        config.parse_duration(text)


def test_the_tour_times_every_workload_and_judges_two_models():
    cells = _cells(Sweep())
    assert {c.workload for c in cells} == {"galaxy-shape", "galaxy-sampler", "galaxy-images", "null"}
    assert {(c.workload, c.mode) for c in cells if c.measure == "quality"} == {
        ("galaxy-shape", "infer"),
        ("galaxy-sampler", "sample"),
    }
    assert [c.measure for c in cells if c.workload == "null"] == ["throughput"]


def test_a_workload_named_alone_is_timed_at_the_papers_batches():
    assert [c.batch for c in _cells(Sweep(tables=[{"workload": "galaxy-shape"}]))] == [2, 4, 8, 10, 12, 14, 1]
    bnn = _cells(Sweep(tables=[{"workload": "galaxy-shape", "variants": ["bnn"]}]))
    assert [c.batch for c in bnn] == [2, 4, 6, 8, 1]


def test_a_fixed_budget_means_one_batch_size_and_the_goals_images():
    goal = load_workload("galaxy-shape").goal("dnn", "train")
    (cell,) = _cells(Sweep(tables=[{"batches": [2, 4], "measures": ["quality"]}]))
    assert (cell.measure, cell.batch) == ("quality", goal.batch)
    assert cell.options["images"] == goal.options["images"]
    (cell,) = _cells(Sweep(tables=[{"measures": ["quality"], "options": {"images": "1024"}}]))
    assert cell.options["images"] == 1024


def test_the_time_to_quality_depends_on_the_batch_size_that_is_asked_for():
    cells = _cells(Sweep(tables=[{"batches": [2, 4], "measures": ["time-to-quality"]}]))
    assert [(c.measure, c.batch) for c in cells] == [("time-to-quality", 2), ("time-to-quality", 4)]


@pytest.mark.parametrize("table", [{"workload": "null"}, {"modes": ["infer"]}])
def test_what_has_no_goal_cannot_be_trained_to_it(table):
    with pytest.raises(BadValue, match="none of these steps has a goal"):
        _cells(Sweep(tables=[{**table, "measures": ["time-to-quality"]}]))


def test_axes_multiply_and_each_device_gets_its_null():
    cells = _cells(
        Sweep(tables=[{"modes": ["train", "infer"], "devices": ["cpu:threads=1", "cpu:threads=2"], "batches": [2, 4]}])
    )
    assert len([c for c in cells if c.workload == "galaxy-shape"]) == 8
    assert {c.device for c in cells if c.workload == "null"} == {"cpu:threads=1", "cpu:threads=2"}


def test_options_take_the_type_of_their_default():
    cell = _cells(Sweep(tables=[{"options": {"images": "128"}}]))[0]
    assert cell.options["images"] == 128


def test_a_path_option_is_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cell = _cells(Sweep(tables=[{"options": {"catalogue": "cosmos.fits"}}]))[0]
    assert cell.options["catalogue"] == str(tmp_path / "cosmos.fits")


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        (
            {"workload": "galaxy-shap"},
            r"unknown workload 'galaxy-shap'; did you mean 'galaxy-shape'\? Allowed: adamatch-step, ",
        ),
        ({"devices": ["cpi"]}, r"unknown device 'cpi'; did you mean 'cpu'\? Allowed: cpu"),
        ({"devices": ["cpu:thread=2"]}, r"unknown setting 'thread' of device 'cpu'; did you mean 'threads'"),
        ({"devices": ["cpu:threads=none"]}, "threads is a whole number of at least 1, not 'none'"),
        ({"modes": ["trian"]}, r"galaxy-shape: unknown mode 'trian'; did you mean 'train'\? Allowed: train, infer"),
        ({"frameworks": "tensorflaw"}, "unknown framework 'tensorflaw'.*Allowed: torch"),
        ({"options": {"image": 3}}, "unknown option 'image'; did you mean 'images'"),
        ({"options": {"images": "many"}}, "option 'images': 'many' is not of the kind int"),
        ({"batches": "2,x"}, "'x' is no batch size"),
        ({"workload": "nowhere.py:Thing"}, "there is no file nowhere.py"),
    ],
)
def test_wrong_names_and_values(table, sentence):
    with pytest.raises(SiderostatError, match=sentence):
        _cells(Sweep(tables=[table]))


def test_a_sweep_file(tmp_path):
    path = write(
        tmp_path,
        'name = "two"\ngrade = "ci"\nseed = 3\nbudget = "10m"\n[[sweep]]\nworkload = "galaxy-shape"\nbatches = "2..8x2"\n'
        'devices = ["cpu"]\noptions = { images = 64 }\n[devices.cpu]\npython = "/opt/py/bin/python"\n',
    )
    sweep = config.read(path)
    assert (sweep.name, sweep.grade, sweep.seed, sweep.budget_s) == ("two", "ci", 3, 600)
    assert sweep.pythons == {"cpu": "/opt/py/bin/python"}
    assert batches_of(sweep.tables[0]) == [2, 4, 8]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "[[sweep]]\nworkload='null'\n\n[[sweep]]\nbacthes = [1]\n",
            r"sweep.toml:5: unknown key 'bacthes' in \[\[sweep\]\]; did you mean 'batches'",
        ),
        ("grad = 'ci'\n", r"sweep.toml:1: unknown key 'grad'; did you mean 'grade'"),
        ("name = \n", "not valid TOML"),
        ("budget = 'soon'\n", "budget: 'soon' is no duration"),
        ("seed = 'x'\n", "seed is a whole number"),
        ("sweep = 3\n", r"write \[\[sweep\]\]"),
        ("[devices.cpuu]\npython='x'\n", r"sweep.toml:1: unknown device 'cpuu'; did you mean 'cpu'"),
        ("[devices.cpu]\npyton='x'\n", r"sweep.toml:2: unknown key 'pyton' in \[devices.cpu\]"),
    ],
)
def test_wrong_sweep_files(tmp_path, text, sentence):
    with pytest.raises(SiderostatError, match=sentence):
        config.read(write(tmp_path, text))


def test_a_missing_sweep_file(tmp_path):
    with pytest.raises(BadValue, match="cannot read the sweep file .*nothing.toml: No such file"):
        config.read(tmp_path / "nothing.toml")


def test_an_unknown_grade():
    with pytest.raises(UnknownName, match="unknown grade 'publsh'; did you mean 'publish'"):
        config.grade_name("publsh")


class TestCompare:
    def sides(self, *sides: str, **table):
        return [
            group
            for group in config.groups(Sweep(tables=[{"compare": list(sides), "batches": [2, 4], **table}]))
            if group[0].workload != "null"
        ]

    def test_each_cell_stands_beside_its_like_the_first_side_the_reference(self):
        groups = self.sides("cpu:threads=1", "cpu:threads=2")
        assert [[c.device for c in group] for group in groups] == [["cpu:threads=1", "cpu:threads=2"]] * 2
        assert [{c.batch for c in group} for group in groups] == [{2}, {4}]

    def test_a_side_may_be_a_framework_a_precision_a_variant_or_a_setting_and_several_are_joined(self):
        (group, _) = self.sides("torch", "tensorflow+cpu:threads=1", "bnn+threads=2", devices=["cpu"])
        assert [(c.framework, c.variant, c.device) for c in group] == [
            ("torch", "dnn", "cpu"), ("tensorflow", "dnn", "cpu:threads=1"), ("torch", "bnn", "cpu:threads=2"),
        ]  # fmt: skip

    def test_a_setting_joins_those_that_the_device_has(self):
        (group, _) = self.sides("sample_noise=0", "sample_noise=1", devices=["mock:step_s=1"])
        assert [c.device for c in group] == ["mock:step_s=1,sample_noise=0", "mock:step_s=1,sample_noise=1"]

    def test_what_learns_is_not_compared(self):
        groups = self.sides("cpu:threads=1", "cpu:threads=2", measures=["throughput", "quality"])
        assert sorted(len(g) for g in groups) == [1, 2, 2]

    def test_two_tables_with_one_reference_make_one_group(self):
        tables = [{"compare": ["cpu", side], "batches": [2]} for side in ("cpu:threads=1", "cpu:threads=2")]
        groups = [g for g in config.groups(Sweep(tables=tables)) if g[0].workload != "null"]
        assert [[c.device for c in g] for g in groups] == [["cpu", "cpu:threads=1", "cpu:threads=2"]]

    def test_a_cell_that_is_measured_alone_too_is_measured_once(self):
        tables = [{"batches": [2]}, {"compare": ["cpu", "cpu:threads=1"], "batches": [2]}]
        assert [len(g) for g in config.groups(Sweep(tables=tables)) if g[0].workload != "null"] == [2]

    @pytest.mark.parametrize(
        ("sides", "words"),
        [
            (["cpu"], "has at least two sides"),
            (["cpu", "cpu"], "are the same thing"),
            (["cpu", "torhc"], "unknown side 'torhc'.*did you mean 'torch'"),
            (["cpu", "cpu:theads=1"], "unknown setting 'theads'.*did you mean 'threads'"),
            ("cpu", "has at least two sides"),
        ],
    )
    def test_what_is_wrong_is_said(self, sides, words):
        with pytest.raises(SiderostatError, match=words):
            config.groups(Sweep(tables=[{"compare": sides}]))

    def test_two_references_for_one_cell_are_refused(self):
        tables = [{"compare": [side, "cpu"], "batches": [2]} for side in ("cpu:threads=1", "cpu:threads=2")]
        with pytest.raises(BadValue, match="would be compared with two references"):
            config.groups(Sweep(tables=tables))


def test_the_search_for_capacity_begins_with_the_largest_batch():
    cells = _cells(Sweep(tables=[{"batches": [2, 16, 4], "measures": ["throughput", "capacity"]}]))
    assert [c.batch for c in cells if c.measure == "capacity"] == [16]


@pytest.mark.parametrize(("text", "size"), [("2GB", 2 * 10**9), ("1.5GiB", 3 * 2**29), ("100 MB", 10**8)])
def test_amounts_of_memory(text, size):
    assert config.parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "2", "0GB", "2gb", "-1GB", "GB"])
def test_no_amount_of_memory(text):
    with pytest.raises(BadValue, match="no amount of memory; write"):
        config.parse_bytes(text, "--memory: ")


@pytest.mark.parametrize("text", ["", "0", "0W", "-5W", "5kW"])
def test_no_power(text):
    with pytest.raises(BadValue, match="no power; write 120W"):
        config.parse_watts(text)


def test_the_path_of_a_chip_is_made_absolute(tmp_path, monkeypatch):
    source = Path(config.__file__).parents[1] / "devices" / "sim" / "chips" / "graphcore-gc2.toml"
    (tmp_path / "mine.toml").write_text(source.read_text())
    monkeypatch.chdir(tmp_path)
    assert config.check_devices("sim:mine.toml:chips=2") == [f"sim:{tmp_path}/mine.toml:chips=2"]
