"""Journals that were cut off, are of another schema, or were written to do harm: a sentence or correct output."""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

import siderostat
from siderostat import capacity, plan, reports, schemas, stats, store
from siderostat.cli import main
from siderostat.plan import GRADES
from siderostat.record import Cell, Protocol, Reason, Record, Status
from siderostat.reports.exporters import FORMATS
from tests.records import cell, failed, judged, lockstep, metered, ok

HTML = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'`[/bold]&|${x}"
MANIFEST = {
    "schema": 1, "run": "hostile", "name": "tour", "grade": "quick", "created_at": "2026-11-22T08:00:00Z",
    "sessions": [{"started_at": "2026-11-22T08:00:00Z", "argv": ["siderostat", "run"], "environment": "e"}],
    "environments": {"e": {"siderostat": "0.1.0", "cpu": "AMD", "cores": 2, "host": "h", "packages": {"torch": "2"}}},
}  # fmt: skip
FIXED = {
    "key", "reference", "status", "reason", "provenance", "clock", "start", "measure", "zlib_base64", "started_at",
}  # fmt: skip
"""Fields whose texts are of a fixed form; others would be refused with the line, or be no time of day."""
COMMANDS = (["show"], ["show", "--json"], ["report"], *(["export", n, "-o", "out"] for n in FORMATS if n != "asv"))


def line(record: Record, **changes: Any) -> str:
    return json.dumps({**json.loads(record.to_json()), **changes})


def folder_of(place: Path, lines: list[str], manifest: dict[str, Any] = MANIFEST) -> Path:
    folder = place / "run"
    store.create(folder, plan.make([[cell()]], "test", GRADES["quick"], 0, Protocol()), manifest)
    (folder / store.JOURNAL).write_text("".join(f"{text}\n" for text in lines))
    return folder


def good(n: int = 3, of: Cell | None = None) -> list[Record]:
    process = {"started_at": "2026-11-22T08:34:50.215Z", "seconds": 2.0, "maxrss_bytes": 10**8}
    return [ok([0.1 + 0.01 * i], round=i, of=of, process=process, environment="e") for i in range(n)]


class Page(HTMLParser):
    """The tags and attributes of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.handlers: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.handlers += [name for name, value in attrs if name.startswith("on") or "javascript:" in (value or "")]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    """Run a command in this process: whatever it raises would be a traceback."""
    monkeypatch.chdir(tmp_path)

    def run(words: list[str], folder: Path) -> tuple[int, str, str]:
        code = main([words[0], *words[1:2], str(folder), *words[2:]] if words[0] == "export" else [*words, str(folder)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def hostile(value: Any, name: str = "") -> Any:
    """Return JSON data with HTML in every text and in every name that a record is free to choose."""
    if isinstance(value, str):
        return value if name in FIXED else HTML + value
    if isinstance(value, list):
        return [hostile(one, name) for one in value]
    if isinstance(value, dict):
        free = name in ("options", "packages", "effective", "device", "check", "load", "sensors")
        free = free and all(isinstance(key, str) for key in value)
        return {HTML + key if free else key: hostile(one, key) for key, one in value.items()}
    return value


def everything() -> list[Record]:
    """Records of every kind, so that every part of a report has something to show."""
    sides = [(cell(device="cpu:threads=1"), [0.1, 0.11]), (cell(device="cpu:threads=2"), [0.05, 0.06])]
    paired = [r for n in range(3) for r in lockstep(sides, n, effective={"threads": "1"})]
    trained = [judged(round=n, check={"first": {"loss": 1.0}}) for n in range(2)]
    energy = [metered([5.0] * 6, n, cell(batch=32)) for n in range(3)]
    bad = [
        failed(Status.CRASH, Reason.KILLED, of=cell(batch=64), process={"log": "logs/x.log"}),
        failed(Status.CAPACITY, Reason.OOM_HOST, of=cell(batch=128)),
    ]
    options = good(3, cell(batch=16, options={"noise": "poisson"}))
    return [*good(), *paired, *trained, *energy, *bad, *options]


@pytest.fixture
def poisoned(tmp_path: Path) -> Path:
    lines = []
    for record in everything():
        data = hostile(json.loads(record.to_json()))
        of = Cell(**data["attempt"]["cell"])
        data["environment"] = "e"
        data["key"] = f"{of.key()}-{data['attempt']['round']}"
        data["attempt"]["reference"] = None
        if data["quality"]:  # the names of figures are keys; the one that decides must stay one of them
            data["quality"]["figure"] = data["quality"]["figure"].removeprefix(HTML)
        lines.append(json.dumps(data))
    return folder_of(tmp_path, lines, {**hostile(MANIFEST), "schema": 1})


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_html_in_every_text_is_shown_as_text(poisoned, call, words):
    code, out, err = call(words, poisoned)
    assert "left out, not a record" not in err
    assert code == 0, err
    assert out


def test_no_page_has_a_script_whatever_the_texts_are(poisoned, call):
    assert call(["report"], poisoned)[0] == 0
    text = (poisoned / "report" / "report.html").read_text()
    page = Page(text)
    assert "alert(1)" in text  # it is there, as text
    assert not page.tags & {"script", "img"} - ({"img"} if "<img" in text and "data:image/png" in text else set())
    assert not page.handlers
    markdown = (poisoned / "report" / "report.md").read_text()
    assert not re.search(r"^(?!    ).*(?<!\\)<", markdown, re.M)  # escaped, or in a block of code


def test_html_in_every_text_reaches_the_reader_of_junit_as_text(poisoned, call, tmp_path):
    assert call(["export", "junit", "-o", "junit.xml"], poisoned)[0] == 0
    root = ElementTree.parse(tmp_path / "junit.xml").getroot()
    assert {element.tag for element in root.iter()} <= {
        "testsuites", "testsuite", "testcase", "failure", "skipped", "system-out",
    }  # fmt: skip
    assert any("<script>" in case.get("name", "") for case in root.iter("testcase"))


@pytest.mark.parametrize("text", ["\x1b]0;title\x07", "a\nb\r\n", "\x00", "\N{LINE SEPARATOR}x", "[/red]"])
@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_control_characters_do_nothing(tmp_path, call, words, text):
    of = cell(workload=f"w{text}", device=f"d{text}")
    folder = folder_of(tmp_path, [r.to_json() for r in [*good(3, of), *good(3, cell(workload="w", device="d"))]])
    code, out, err = call(words, folder)
    assert code == 0, err
    assert "\x1b]0;" not in out + err


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_newer_schema_is_refused_in_a_sentence(tmp_path, call, words):
    folder = folder_of(tmp_path, [line(ok(), schema=99)])
    code, out, err = call(words, folder)
    assert code == 2
    assert "schema 99 is newer than 1" in err
    assert not out


def test_a_manifest_of_a_newer_schema_is_refused_in_a_sentence(tmp_path, call):
    code, _, err = call(["show"], folder_of(tmp_path, [], {**MANIFEST, "schema": 2}))
    assert code == 2
    assert "has schema 2; this siderostat reads up to 1" in err


@pytest.mark.parametrize("schema", [0, -1, "1", None, 1.5, [], {}])
def test_a_schema_that_never_was_costs_its_line_alone(tmp_path, call, schema):
    folder = folder_of(tmp_path, [*(r.to_json() for r in good()), line(ok(round=7), schema=schema)])
    code, out, err = call(["show", "--json"], folder)
    assert code == 0
    assert "records.jsonl:4: left out, not a record (schema: must be" in err
    assert json.loads(out)["cases"][0]["seconds_per_item"]["n"] == 3


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("where", ["the middle", "the end"])
def test_a_line_that_was_cut_off_costs_itself_alone(tmp_path, call, words, where):
    lines = [r.to_json() for r in good(4)]
    cut = 1 if where == "the middle" else 3
    lines[cut] = lines[cut][:200]
    code, _, err = call(words, folder_of(tmp_path, lines))
    assert code == 0, err
    assert f"records.jsonl:{cut + 1}: left out, not a record" in err
    assert len(err.splitlines()[0]) < 600


@pytest.mark.parametrize(
    ("number", "words"),
    [
        ("NaN", "NaN is no number"),
        ("Infinity", "Infinity is no number"),
        ("-Infinity", "-Infinity is no number"),
        ("1e999", "1e999 is no number"),
        ("1" + 400 * "0", "is no number"),
        ("-0.5", "seconds/0: must be bigger than or equal to 0"),
        ("0", "not times of blocks"),
        ("1e-320", "not times of blocks"),
        ("1e300", "not times of blocks"),
    ],
)
def test_a_time_that_is_none_is_refused(tmp_path, call, number, words):
    bad = ok([0.125], round=9).to_json().replace('"seconds":[0.125]', f'"seconds":[{number}]')
    code, out, err = call(["show", "--json"], folder_of(tmp_path, [*(r.to_json() for r in good()), bad]))
    assert code == 0
    assert "records.jsonl:4: left out, not a record" in err
    assert words in err
    assert json.loads(out)["cases"][0]["seconds_per_item"]["n"] == 3


@pytest.mark.parametrize("changes", [{"items_per_step": 0}, {"items_per_step": None}, {"items_per_step": 10**30}])
def test_times_of_no_items_are_refused(tmp_path, call, changes):
    code, _, err = call(["show"], folder_of(tmp_path, [*(r.to_json() for r in good()), line(ok(round=9), **changes)]))
    assert code == 0
    assert "left out, not a record (items_per_step:" in err


SHAPE = {"shape": [1, 2, 2, 3], "zlib_base64": base64.b64encode(zlib.compress(bytes(12))).decode()}
BAND = {"p2_5": 0.1, "p50": 0.2, "p97_5": 0.3}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": {"seconds_per_step": "fast"}}, "model/seconds_per_step: must be object"),
        ({"model": {"seconds_per_step": {"p50": 1.0}}}, "must contain"),
        ({"model": {"seconds_per_step": {**BAND, "p50": None}}}, "p50: must be number"),
        ({"model": {"seconds_per_step": {**BAND, "p2_5": 1e-320}}}, "not times of a step"),
        ({"model": {"seconds_per_step": BAND}, "items_per_step": None}, "items_per_step"),
        ({"quality": {"pictures": {"a": {**SHAPE, "shape": [1, 2, 2]}}}}, "not the bytes of pictures"),
        ({"quality": {"pictures": {"a": {**SHAPE, "shape": [1, 2, 2, 4]}}}}, "not the bytes of pictures"),
        ({"quality": {"pictures": {"a": {**SHAPE, "shape": [2**20, 2**20, 2**20, 3]}}}}, "not the bytes of pictures"),
        ({"quality": {"pictures": {"a": {**SHAPE, "shape": [0, 2, 2, 3]}}}}, "not the bytes of pictures"),
        ({"quality": {"pictures": {"a": {**SHAPE, "zlib_base64": "AAAA"}}}}, "not the bytes of pictures"),
        ({"quality": {"pairs": {"a": [[1.0], [1.0, 2.0]]}}}, "1 true values and 2 predicted ones"),
    ],
)
def test_a_model_or_a_quality_that_cannot_be_shown_costs_its_line_alone(tmp_path, call, changes, words):
    if "quality" in changes:
        changes = {
            "quality": {"figure": "loss", "target": 1.0, "looks": [], "pairs": {}, "pictures": {}, **changes["quality"]}
        }
    folder = folder_of(tmp_path, [*(r.to_json() for r in good()), line(ok(round=9), **changes)])
    code, _, err = call(["report"], folder)
    assert code == 0
    assert "records.jsonl:4: left out, not a record" in err
    assert words in err


def test_pictures_that_are_some_are_read():
    quality = {"figure": "loss", "target": 1.0, "looks": [], "pairs": {}, "pictures": {"a": SHAPE}}
    assert store.parse(line(ok(), quality=quality)).quality.pictures["a"] == SHAPE


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("plan.json", lambda data: [data]),
        ("plan.json", lambda data: {**data, "groups": None}),
        ("plan.json", lambda data: {**data, "groups": [[]]}),
        ("plan.json", lambda data: {**data, "groups": [[{**data["groups"][0][0], "round": "first"}]]}),
        ("plan.json", lambda data: {**data, "budget_s": "5m"}),
        ("plan.json", lambda data: {**data, "codes": {"base": {"folder": 3, "path": [], "python": ""}}}),
        ("plan.json", lambda data: {**data, "grade": "superb"}),
        ("manifest.json", lambda data: [data]),
        ("manifest.json", lambda data: {**data, "sessions": 1.5}),
        ("manifest.json", lambda data: {**data, "environments": "e"}),
    ],
)
@pytest.mark.parametrize("words", [["show"], ["run", "--resume"]], ids=" ".join)
def test_a_damaged_plan_or_manifest_is_refused_in_a_sentence(tmp_path, call, words, name, change):
    folder = folder_of(tmp_path, [r.to_json() for r in good()])
    journal = (folder / store.JOURNAL).read_text()
    (folder / name).write_text(json.dumps(change(json.loads((folder / name).read_text()))))
    code, _, err = call(words, folder)
    assert code == 2
    assert "is damaged (" in err
    assert (folder / store.JOURNAL).read_text() == journal


@pytest.mark.parametrize("text", ["[" * 100_000, '{"schema":1,"x":"\\ud800"}', "\x00" * 50, '"text"', "1" * 5000])
def test_what_is_no_json_object_is_refused(tmp_path, call, text):
    code, _, err = call(["show"], folder_of(tmp_path, [*(r.to_json() for r in good()), text]))
    assert code == 0
    assert "records.jsonl:4: left out, not a record" in err


def test_half_a_character_costs_its_line_alone(tmp_path, call):
    bad = ok(round=9).to_json().replace("galaxy image", "\\ud83d")
    code, _, err = call(["export", "lines"], folder_of(tmp_path, [*(r.to_json() for r in good()), bad]))
    assert code == 0
    assert "a text with half a character in it" in err


def test_many_lines_that_are_no_records_are_counted_and_not_listed(tmp_path, call):
    folder = folder_of(tmp_path, [*(r.to_json() for r in good()), *(500 * ["{}"])])
    code, _, err = call(["show"], folder)
    assert code == 0
    assert err.count("left out, not a record") == 20
    assert "480 further lines left out" in err


def test_what_is_quoted_of_a_line_is_short(tmp_path, call):
    folder = folder_of(tmp_path, [line(ok(), **{"x" * 100_000: 1})])
    assert len(call(["show"], folder)[2]) < 1000


def test_more_cases_than_a_report_can_show_are_refused_in_a_sentence(tmp_path, call, monkeypatch):
    monkeypatch.setattr(reports, "MOST_CASES", 10)
    folder = folder_of(tmp_path, [r.to_json() for b in range(1, 12) for r in good(1, cell(batch=b))])
    code, out, err = call(["report"], folder)
    assert code == 2
    assert re.search(r"no report was written: there are 11 cases; a report shows 10 at most.*export lines", err)
    assert not (folder / "report").exists()
    assert not out


def test_show_ends_long_tables_with_a_sentence(tmp_path, call):
    folder = folder_of(tmp_path, [r.to_json() for b in range(1, 1203) for r in good(1, cell(batch=b))])
    code, out, _ = call(["show"], folder)
    assert code == 0
    assert "The first 1,000 of 1,202 are shown" in out


def test_records_of_a_cell_share_what_they_have_in_common(tmp_path):
    records = [r for n in range(50) for r in good(1, cell(batch=1 + n % 2))]
    folder = folder_of(tmp_path, [line(r) for r in records])
    read = store.Run(folder).records
    assert read == records
    assert len({id(r.attempt.cell) for r in read}) == 2
    assert len({id(r.attempt.protocol) for r in read}) <= 2


def test_a_drift_takes_time_in_proportion_to_its_figures(monkeypatch):
    """Each figure is looked at a fixed number of times, however many there are."""
    taken = []
    fmean = stats.statistics.fmean
    monkeypatch.setattr(stats.statistics, "fmean", lambda xs: taken.append(1) or fmean(xs))
    stats.trend([[(float(i), 0.01 * (i % 3)) for i in range(200)]])
    assert len(taken) == 2


def test_an_edge_asks_for_the_series_of_a_cell_once(monkeypatch):
    asked = []
    series = capacity.series
    monkeypatch.setattr(capacity, "series", lambda of: asked.append(of) or series(of))
    capacity.edges(good(100))
    assert len(asked) == 1


SCHEMA = json.loads((Path(siderostat.__file__).parent / "schema" / "record-1.json").read_text())
SLOW = Draft202012Validator(SCHEMA)
VALUES = st.one_of(
    st.none(), st.integers(-3, 3), st.floats(allow_nan=False), st.text(max_size=3), st.just([]), st.just({})
)


@given(st.randoms(use_true_random=False), VALUES)
@settings(max_examples=150, deadline=None)
def test_the_fast_validation_says_what_the_schema_says(random, value):
    """One value anywhere in a record is replaced, left out or added: both accept it, or neither does."""
    data = json.loads(random.choice(everything()).to_json())
    at = data
    while True:
        place = random.choice([*at] if isinstance(at, dict) else range(len(at)))
        if isinstance(at[place], (dict, list)) and at[place] and random.random() < 0.8:
            at = at[place]
            continue
        if isinstance(at, dict) and random.random() < 0.2:
            del at[place]
        elif isinstance(at, dict) and random.random() < 0.2:
            at["more"] = value
        else:
            at[place] = value
        break
    try:
        schemas.check(data, schemas.RECORD)
        accepted = True
    except ValueError:
        accepted = False
    assert accepted == SLOW.is_valid(data)
