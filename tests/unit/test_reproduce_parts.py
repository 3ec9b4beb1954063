"""Reproductions in parts: what is finished is kept, and nothing is made twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from siderostat.errors import RunFolderError
from siderostat.record import Provenance
from siderostat.reports.section import Section
from siderostat.reproduce import page, parts
from siderostat.reproduce.page import Page
from siderostat.reproduce.parts import Part


class Workshop:
    """Makes parts, and knows how often it has made each."""

    def __init__(self, stops_at: str = "", stop: type[BaseException] = KeyboardInterrupt) -> None:
        self.made: list[str] = []
        self.stops_at = stops_at
        self.stop = stop

    def part(self, name: str, **settings: Any) -> Part:
        return Part(name, f"the part {name}", settings or {"seed": 0}, lambda: self._make(name), 1.0)

    def _make(self, name: str) -> dict[str, Any]:
        if name == self.stops_at:
            raise self.stop
        self.made.append(name)
        return {"value": len(name)}


def complete(wanted: list[Part], folder: Path, say: Callable[[str], object] = lambda line: None) -> parts.Found:
    parts.complete(parts.look(wanted, folder), folder, say)
    return parts.look(wanted, folder)


def test_a_part_comes_back_from_its_file_as_it_was_made(tmp_path):
    workshop = Workshop()
    found = complete([workshop.part("a", extents=(4, 4), rate=1e-3)], tmp_path)
    result = found.results["a"]
    assert result.figures == {"value": 1}
    assert result.settings == {"extents": [4, 4], "rate": 1e-3}
    assert result.provenance is Provenance.MEASURED
    assert result.environment["packages"]["numpy"]
    assert not found.missing


def test_a_finished_reproduction_makes_nothing_again(tmp_path):
    workshop = Workshop()
    wanted = [workshop.part("a"), workshop.part("b")]
    complete(wanted, tmp_path)
    said: list[str] = []
    assert list(complete(wanted, tmp_path, said.append).results) == ["a", "b"]
    assert workshop.made == ["a", "b"]
    assert said == []


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_one_that_is_stopped_between_parts_goes_on_where_it_was(tmp_path, stop):
    workshop = Workshop(stops_at="b", stop=stop)
    wanted = [workshop.part(name) for name in "abc"]
    with pytest.raises(stop):
        complete(wanted, tmp_path)
    assert [part.name for part in parts.look(wanted, tmp_path).missing] == ["b", "c"]
    workshop.stops_at = ""
    assert list(complete(wanted, tmp_path).results) == ["a", "b", "c"]
    assert workshop.made == ["a", "b", "c"]


@pytest.mark.parametrize("text", ['{"schema": 1, "settings": {"se', "", '{"schema": 1}', "[]", '"text"'])
def test_a_file_that_cannot_be_read_is_named_and_made_again(tmp_path, text):
    workshop = Workshop()
    wanted = [workshop.part("a"), workshop.part("b")]
    complete(wanted, tmp_path)
    broken = tmp_path / "parts" / "a.json"
    broken.write_text(text)
    said: list[str] = []
    assert complete(wanted, tmp_path, said.append).results["a"].figures == {"value": 1}
    assert said[0].startswith(f"{broken} cannot be read (")
    assert workshop.made == ["a", "b", "a"]


def test_a_part_of_other_settings_is_refused_before_anything_is_made(tmp_path):
    workshop = Workshop()
    complete([workshop.part("b", steps=100, seed=0)], tmp_path)
    before = (tmp_path / "parts" / "b.json").read_bytes()
    with pytest.raises(RunFolderError, match=r"b\.json was made with steps 100 and not 20; choose another folder"):
        complete([workshop.part("a"), workshop.part("b", steps=20, seed=0)], tmp_path)
    assert workshop.made == ["b"]
    assert (tmp_path / "parts" / "b.json").read_bytes() == before


def test_a_part_of_a_newer_schema_is_refused_and_not_made_again(tmp_path):
    workshop = Workshop()
    complete([workshop.part("a")], tmp_path)
    path = tmp_path / "parts" / "a.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": parts.SCHEMA + 1}))
    with pytest.raises(RunFolderError, match="schema 2"):
        parts.look([workshop.part("a")], tmp_path)


def test_figures_that_are_not_numbers_leave_no_file(tmp_path):
    part = Part("a", "diverges", {}, lambda: {"loss": float("nan")}, 1.0)
    with pytest.raises(ValueError, match="Out of range float"):
        complete([part], tmp_path)
    assert not list(tmp_path.rglob("*.json"))


def test_a_folder_that_cannot_be_written_says_what_to_do(tmp_path):
    (tmp_path / "parts").write_text("a file")
    with pytest.raises(RunFolderError, match="choose another folder with -o"):
        complete([Workshop().part("a")], tmp_path)


def test_what_is_left_follows_the_pace_of_this_machine():
    pace = parts.Pace()
    workshop = Workshop()
    pace.add(workshop.part("a"), 3.0)
    assert pace.left_s([workshop.part("b"), workshop.part("c")]) == pytest.approx(6.0)


def test_there_is_a_line_before_the_work_and_one_for_each_part(tmp_path):
    workshop = Workshop()
    said: list[str] = []
    complete([workshop.part(name) for name in "ab"], tmp_path, said.append)
    assert said[0].startswith("2 parts to make: about 2 s of processor time")
    assert [line[:5] for line in said[1:]] == ["[1/2]", "[2/2]"]
    assert "the part a" in said[1]


def test_a_page_says_which_parts_are_missing(tmp_path):
    workshop = Workshop(stops_at="b")
    wanted = [workshop.part("a"), workshop.part("b")]
    with pytest.raises(KeyboardInterrupt):
        complete(wanted, tmp_path)
    found = parts.look(wanted, tmp_path)
    shown = page.accounted(Page(Section("paper", "A paper", []), "", "made"), found)
    assert shown.section.headlines == ["1 of 2 parts missing: b. Give the same command again to go on."]
    written = page.texts(shown)
    assert "| b | the part b | n/a | missing | n/a |" in written["reproduction.md"]
    assert "| measured |" in written["reproduction.md"]
    assert "points.csv" not in written
