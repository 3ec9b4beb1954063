"""The page and the Markdown file: what stands in them, and that nothing from a record can break them."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from siderostat import reports
from siderostat.record import Protocol, Provenance, Reason, Status
from siderostat.reports import RunData, markdown, sentences
from siderostat.reports.document import document
from tests.records import cell, failed, ok

HOSTILE = "<script>alert(1)</script> | <b>x</b>"
NULL = cell(workload="null", variant="nothing", mode="infer", framework="numpy", batch=1, size="empty")
MANIFEST = {
    "schema": 1, "run": "2026-11-22T03-50-00", "name": "tour", "grade": "quick", "seed": 0,
    "sessions": [{"started_at": "2026-11-22T03:50:00Z", "argv": ["siderostat", "run", "-b", "2 4"], "environment": "e"}],
    "environments": {"e": {
        "siderostat": "0.1.0", "commit": "abc1234", "dirty": None, "cpu": "AMD EPYC", "cores": 2,
        "memory_bytes": 8_200_000_000, "packages": {"torch": "2.13.0+cpu"}, "governor": None,
    }},
}  # fmt: skip


def timed(rate: float = 80.0, of=None, n: int = 3, **changes):
    of = of or cell(batch=8)
    return [ok([of.batch / rate * (1 + i / 100)], round=i, of=of, items_per_step=of.batch, **changes) for i in range(n)]


def run(*records, **manifest) -> RunData:
    return RunData(Path("runs/one"), {**MANIFEST, **manifest}, list(records), ["records.jsonl:4: torn line left out"])


def whole_run() -> RunData:
    overhead = [ok([1.9e-6], round=i, of=NULL, items_per_step=1, item="step") for i in range(3)]
    modelled = timed(3000, cell(batch=8, device="sim:graphcore-gc2"), 1, provenance=Provenance.MODELLED, clock="model")
    bad = failed(Status.CAPACITY, Reason.OOM_HOST, of=cell(batch=64), process={"log": "logs/x.log"})
    return run(*overhead, *timed(flags=["contended"], peak_bytes=640_000_000), *modelled, bad)


class Page(HTMLParser):
    """Collects tables, visible text and whatever could fetch something."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.words: list[str] = []
        self.tags: set[str] = set()
        self.references: list[str] = []
        self.cell: list[str] | None = None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.references += [v or "" for k, v in attrs if k in ("src", "href", "xlink:href", "srcset", "data", "action")]
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.cell = []

    def handle_endtag(self, tag):
        if tag in ("td", "th") and self.cell is not None:
            self.tables[-1][-1].append("".join(self.cell))
            self.cell = None

    def handle_data(self, data):
        self.words.append(data)
        if self.cell is not None:
            self.cell.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def column(self, heading: str) -> list[str]:
        """Return a column of the first table of cases."""
        head, *body = next(table for table in self.tables if "Processes" in table[0])
        return [row[head.index(heading)] for row in body]


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> dict[str, str]:
    paths = reports.write([whole_run()], tmp_path_factory.mktemp("report"))
    return {name: path.read_text() for name, path in paths.items()}


@pytest.fixture(scope="module")
def page(written) -> Page:
    return Page(written["report.html"])


def test_all_files_are_written_and_nothing_else(written, tmp_path):
    tables = {"report.csv", "records.csv", "quality.csv", "ratios.csv"}
    assert set(written) == {"report.html", "report.md", "report.json"} | tables
    reports.write([whole_run()], tmp_path / "new" / "folder")
    assert {p.name for p in (tmp_path / "new" / "folder").iterdir()} == set(written)


def test_a_failed_write_leaves_the_old_report(tmp_path, monkeypatch):
    reports.write([whole_run()], tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        reports.write([run(*timed())], tmp_path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_the_page_needs_no_network_and_no_script(written, page):
    assert not {"script", "link", "iframe", "img", "object"} & page.tags
    assert all(reference.startswith("#") for reference in page.references)
    assert "http" not in written["report.html"]
    assert "@import" not in written["report.html"]
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", written["report.html"]))
    assert written["report.html"].count("<svg") == 4  # throughput, published times, memory, the edge


def test_ids_in_the_page_are_unique(written):
    ids = re.findall(r'\bid="([^"]*)"', written["report.html"])
    assert len(ids) == len(set(ids))


def test_the_page_says_what_it_must_in_order(page):
    parts = [
        "siderostat: tour, 2026-11-22T03-50-00", "Indicative: 3 processes per case", "torn line left out",
        "Best throughput: 79.2", "Charts", "Cases", "Harness overhead", "The harness adds 1.90", "What did not end well",
        "Protocol", "8 bursts of at least 200 ms", "Environment", "8.20 GB", "torch 2.13.0+cpu", "How to go on",
        "siderostat run --resume runs/one", "siderostat report runs/one", "Published sources", "Arcelin (2021)", "Glossary",
    ]  # fmt: skip
    places = [page.text.find(part) for part in parts]
    assert -1 not in places, parts[places.index(-1)]
    assert places == sorted(places)
    assert page.text.count("siderostat run -b '2 4'") == 2  # among the sessions, and as what to type


def test_the_headline_has_its_interval_unit_and_place(page):
    assert re.search(
        r"Best throughput: 79\.2 \(77\.\d to 81\.\d\) galaxy images per second at batch 8 on cpu with torch; flagged noisy\.",
        page.text,
    )
    assert "Best throughput, modelled: 3,000 (no interval: 1 process)" in page.text


def test_cases_have_provenance_and_notes(page):
    assert page.column("Device") == ["cpu", "cpu", "sim:graphcore-gc2"]
    assert page.column("Provenance") == ["measured, host clock", "n/a", "modelled"]
    assert page.column("Peak memory") == ["640 MB", "n/a", "n/a"]
    assert page.column("Processes") == ["3", "0", "1"]
    notes = page.column("Notes")
    assert notes[0] == "noisy; 3 of 3 processes contended"
    assert notes[1] == "capacity (oom_host): does not fit in memory; a result, not a fault"
    assert notes[2] == "one process: no interval; peak memory not reported"
    assert "noisy: more than 30 % of the case's processes were contended" in page.text


def test_every_table_of_figures_has_provenance(page):
    for head, *_ in page.tables:
        assert "Provenance" in head or all("(" in h for h in head[1:]), head


def test_modelled_rows_are_set_apart(written):
    kinds = re.findall(r'<tr class="(\w+)"><td>([\w:-]+)</td>', written["report.html"])
    assert ("open", "sim:graphcore-gc2") in kinds
    assert ("failed", "cpu") in kinds


def test_failures_have_status_reason_sentence_and_log(page, written):
    failures = next(t for t in page.tables if t[0][0] == "Case")
    assert failures[1][1:6] == ["0", "capacity", "oom_host", "it went wrong", "logs/x.log"]
    assert "| capacity | oom_host | it went wrong | logs/x.log |" in written["report.md"]


def test_the_null_workload_is_overhead_and_no_case(page, written):
    assert "null" not in written["report.csv"]
    assert "null" in written["records.csv"]
    assert "That is 0.00188 % of the shortest measured step, 101 ms" in page.text


def test_caveats_stand_beside_published_times(page):
    assert "The published network has 1,517,217 parameters; size here: paper." in page.text
    assert "Compile time is not in them." in page.text
    assert "TensorFlow 2.1" in page.text


def test_hostile_texts_are_shown_and_not_obeyed(tmp_path):
    bad = failed(of=cell(variant=HOSTILE, device=HOSTILE))
    odd = RunData(Path("x"), {"name": HOSTILE, "environments": {"e": {HOSTILE: HOSTILE}}}, [bad, *timed()], [HOSTILE])
    bad.process["log"] = HOSTILE
    paths = reports.write([odd], tmp_path)
    page = Page(paths["report.html"].read_text())
    assert "script" not in page.tags
    assert "<script" not in paths["report.html"].read_text()
    assert HOSTILE in page.text
    table = [line for line in paths["report.md"].read_text().splitlines() if "script" in line and line.startswith("|")]
    assert table
    for line in table:
        assert len(re.findall(r"(?<!\\)\|", line)) in (8, 9)
        assert not re.search(r"(?<!\\)<", line)


def test_a_run_with_failures_only_still_has_a_report(tmp_path):
    paths = reports.write([run(failed(), failed(Status.TIMEOUT, Reason.TIMEOUT, of=cell(batch=8)))], tmp_path)
    page = Page(paths["report.html"].read_text())
    assert "No figure on cpu with torch: crash (the process ended without a word), timeout" in page.text
    assert "Indicative: no case has a figure" in page.text
    assert "svg" not in page.tags
    assert "Compile time is not in them." in page.text


def test_a_run_of_nothing_still_has_a_report(tmp_path):
    text = reports.write([RunData(Path("runs/x"), {}, [])], tmp_path)["report.html"].read_text()
    assert "No case was tried." in text
    assert "siderostat: x" in text


def test_a_manifest_of_the_wrong_shape_does_not_stop_a_report(tmp_path):
    manifest = {
        "sessions": [None, {}],
        "environments": {"a": None, "b": {"cores": "two", "packages": None}},
        "x": [1, None],
    }
    paths = reports.write([RunData(Path("x"), manifest, timed())], tmp_path)
    assert "two" in paths["report.html"].read_text()


def test_overhead_that_was_not_measured_is_said_to_be():
    assert sentences.overhead(run(*timed())) == [
        "Harness overhead: not measured; the null workload was not in the run."
    ]
    assert sentences.overhead(run(failed(of=NULL))) == ["Harness overhead: not measured: crash."]
    modelled = ok([1e-3], of=NULL, items_per_step=1, provenance=Provenance.MODELLED)
    assert "null workload's times are modelled here" in sentences.overhead(run(modelled))[0]
    assert run(modelled).null_seconds_per_step is None


def test_one_process_is_said_to_have_no_interval():
    content = document([run(*timed(n=1), grade="ci")])
    assert content.notes == []
    assert content.sets[0].headlines[0].startswith("Best throughput: 80.0 (no interval: 1 process) galaxy images")
    assert "one process: no interval" in content.sets[0].cases.rows[0].cells[-1]


def test_partial_failures_are_noted():
    content = document([run(*timed(), failed(round=3, of=cell(batch=8)))])
    assert "1 process failed, see below" in content.sets[0].cases.rows[0].cells[-1]


def test_several_runs_stand_side_by_side_and_are_not_pooled(tmp_path):
    paths = reports.write([run(*timed(80)), run(*timed(120))], tmp_path)
    page = Page(paths["report.html"].read_text())
    assert page.column("Run") == ["2026-11-22T03-50-00", "2026-11-22T03-50-00 (2)"]
    assert page.column("Processes") == ["3", "3"]
    for name in ("report.csv", "records.csv"):
        assert paths[name].read_text().startswith("run,")


def test_no_run_is_a_mistake(tmp_path):
    with pytest.raises(ValueError, match="at least one run"):
        reports.write([], tmp_path)


def test_markdown_holds_the_same(written):
    text = written["report.md"]
    assert "| cpu | 8 | 12.6 (12." in text
    assert "| sim:graphcore-gc2 | 8 | 333 µs |" in text
    assert "    siderostat run --resume runs/one" in text
    assert markdown.escaped("a|b <c>\nd*") == r"a\|b \<c\> d\*"


def test_the_protocol_says_its_limits():
    assert "A process may allocate at most 4 GB." in sentences.protocol(Protocol(memory_bytes=4_000_000_000))
