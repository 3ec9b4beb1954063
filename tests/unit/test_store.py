"""The run folder: nothing that was measured is lost, whatever happens to the disk or the process."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from siderostat import files, plan, store
from siderostat.errors import NewerSchema, RunFolderBusy, RunFolderError, StorageFull
from siderostat.plan import GRADES
from siderostat.record import Attempt, Protocol, Reason, Status
from siderostat.store import OpenRun, Run
from tests.records import cell, failed, ok


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = plan.make([[cell()]], "test", GRADES["quick"], 0, Protocol())
    store.create(tmp_path / "run", made, {"run": "run"})
    return tmp_path / "run"


def journal(folder: Path) -> Path:
    return folder / store.JOURNAL


def fill(folder: Path, records: int) -> None:
    with OpenRun(folder) as run:
        for number in range(records):
            run.append(ok(round=number))


def test_what_was_appended_is_there(folder):
    fill(folder, 3)
    assert Run(folder).records == [ok(round=0), ok(round=1), ok(round=2)]


@pytest.mark.parametrize("cut", [1, 10, 100])
def test_a_line_cut_off_in_the_middle_costs_itself_alone(folder, cut):
    fill(folder, 3)
    whole = journal(folder).read_bytes()
    journal(folder).write_bytes(whole[: -cut - 1])
    with OpenRun(folder) as run:
        assert len(run.records) == 2
        run.append(ok(round=2))
    assert journal(folder).read_bytes() == whole


def test_every_possible_cut_leaves_the_lines_before_it_whole(folder):
    fill(folder, 2)
    whole = journal(folder).read_bytes()
    first = whole.index(b"\n") + 1
    for end in range(first, len(whole), 37):
        journal(folder).write_bytes(whole[:end])
        with OpenRun(folder) as run:
            assert [r.attempt.round for r in run.records] == [0]
            assert not run.warnings


def test_a_whole_line_that_lacks_only_its_end_is_kept(folder):
    fill(folder, 2)
    journal(folder).write_bytes(journal(folder).read_bytes()[:-1])
    fill(folder, 1)
    assert len(Run(folder).records) == 3


@pytest.mark.parametrize("garbage", [b"\x00\xff\xfe garbage\n", b'{"schema":1}\n', b"[]\n", b"{]\n"])
def test_a_corrupt_line_is_left_out_with_a_sentence(folder, garbage):
    fill(folder, 2)
    with journal(folder).open("ab") as file:
        file.write(garbage)
    fill(folder, 1)
    run = Run(folder)
    assert len(run.records) == 3
    assert len(run.warnings) == 1
    assert "records.jsonl:3: left out, not a record" in run.warnings[0]


def test_reading_changes_nothing(folder):
    fill(folder, 2)
    torn = journal(folder).read_bytes()[:-5]
    journal(folder).write_bytes(torn)
    assert len(Run(folder).records) == 1
    assert journal(folder).read_bytes() == torn


def test_a_record_of_a_newer_siderostat_is_refused(folder):
    fill(folder, 1)
    with journal(folder).open("a") as file:
        file.write(ok().to_json().replace('"schema":1', '"schema":2') + "\n")
    with pytest.raises(NewerSchema, match=r"records.jsonl:2: schema 2 is newer than 1.*upgrade"):
        Run(folder)


@pytest.mark.parametrize("partial", [0, 40])
def test_a_full_disk_leaves_the_journal_as_it_was(folder, monkeypatch, partial):
    fill(folder, 2)
    before = journal(folder).read_bytes()
    write = os.write

    def full(descriptor, data):
        if partial:
            return write(descriptor, data[:partial])
        raise OSError(errno.ENOSPC, "No space left on device")

    with OpenRun(folder) as run:
        monkeypatch.setattr(os, "write", full)
        with pytest.raises(
            StorageFull,
            match=r"No space left on device\); the 2 records before it are safe: free some space, then .*--resume",
        ):
            run.append(ok(round=2))
        monkeypatch.undo()
    assert journal(folder).read_bytes() == before


def test_two_processes_never_write_one_run(folder):
    with OpenRun(folder), pytest.raises(RunFolderBusy, match="another siderostat is measuring into"):
        OpenRun(folder)
    OpenRun(folder).__exit__(None, None, None)


def test_what_is_settled(folder):
    crash = failed(Status.CRASH, round=1)
    skipped = failed(Status.SKIPPED, Reason.BUDGET, round=2)
    capacity = failed(Status.CAPACITY, Reason.OOM_HOST, round=3)
    with OpenRun(folder) as run:
        for record in (ok(), crash, skipped, capacity):
            run.append(record)
        assert run.settled(ok().attempt)
        assert run.settled(crash.attempt)
        assert not run.settled(crash.attempt, retry=True)
        assert not run.settled(skipped.attempt)
        assert run.settled(capacity.attempt, retry=True)
        assert not run.settled(Attempt(cell(batch=64), 0, 0))


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(RunFolderError, match="is not a run folder: it has no plan.json"):
        Run(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[1]"])
@pytest.mark.parametrize("name", ["plan.json", "manifest.json"])
def test_a_damaged_plan_or_manifest_ends_in_a_sentence(folder, name, text):
    (folder / name).write_text(text)
    with pytest.raises(RunFolderError, match="damaged.*the records are in .*records.jsonl"):
        Run(folder)


def test_sessions_and_environments_are_noted(folder):
    with OpenRun(folder) as run:
        run.add_session({"started_at": "now"}, {"cpu": "x"}, "abc")
        run.add_session({"started_at": "later"}, {"cpu": "y"}, "def")
    manifest = Run(folder).manifest
    assert [s["environment"] for s in manifest["sessions"]] == ["abc", "def"]
    assert manifest["environments"]["def"] == {"cpu": "y"}


def test_an_atomic_write_leaves_the_old_file_when_the_disk_is_full(tmp_path, monkeypatch):
    path = tmp_path / "manifest.json"
    path.write_text("old")

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        files.write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["manifest.json"]
