"""Worktrees and installed copies of two revisions."""

from __future__ import annotations

import subprocess

import pytest

from siderostat import revisions
from siderostat.errors import BadValue, NothingMeasured


def git(folder, *words):
    names = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    return subprocess.run(
        ["git", *names, *words], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def repository(tmp_path):
    """Two commits of a folder with one module."""
    root = tmp_path / "repository"
    root.mkdir()
    git(root, "init", "-q", "-b", "trunk")
    for value in (1, 2):
        (root / "thing.py").write_text(f"VALUE = {value}\n")
        git(root, "add", "-A")
        git(root, "commit", "-q", "-m", f"value {value} <b>")
    return root


def test_each_revision_has_its_own_files(repository, tmp_path):
    old, new = revisions.find(repository, "HEAD~1"), revisions.find(repository, "trunk")
    codes = [revisions.lay_out(repository, one, tmp_path / name) for one, name in ((old, "a"), (new, "b"))]
    texts = [(tmp_path / name / "source" / "thing.py").read_text() for name in "ab"]
    assert texts == ["VALUE = 1\n", "VALUE = 2\n"]
    assert codes[0].folder == codes[0].path[0] == str(tmp_path / "a" / "source")
    assert old.title == "value 1 <b>"


def test_nothing_stays_in_the_repository(repository, tmp_path):
    revisions.lay_out(repository, revisions.find(repository, "HEAD"), tmp_path / "a")
    revisions.take_down(repository, tmp_path / "a")
    assert len(git(repository, "worktree", "list").splitlines()) == 1
    assert not (tmp_path / "a" / "source").exists()


def test_what_is_laid_out_is_found_again_after_an_interruption(repository, tmp_path):
    head = revisions.find(repository, "HEAD")
    first = revisions.lay_out(repository, head, tmp_path / "a")
    (tmp_path / "a" / "source" / "mark").write_text("")
    assert revisions.lay_out(repository, head, tmp_path / "a") == first
    assert (tmp_path / "a" / "source" / "mark").exists()


def test_changes_that_are_not_committed_are_noticed(repository):
    assert not revisions.has_changes(repository)
    (repository / "thing.py").write_text("VALUE = 3\n")
    assert revisions.has_changes(repository)


def test_an_unknown_revision_is_refused_with_the_way_to_fetch_it(repository):
    with pytest.raises(BadValue, match=r"no revision 'v9'; a shallow clone must fetch it first.*fetch-depth: 0"):
        revisions.find(repository, "v9")
    with pytest.raises(BadValue, match="no revision '--help'"):
        revisions.find(repository, "--help")


def test_a_folder_outside_any_repository_is_refused(tmp_path):
    with pytest.raises(BadValue, match="belongs to no git repository"):
        revisions.repository(tmp_path)


def test_a_project_that_cannot_be_installed_is_named_with_the_words_of_pip(repository, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_BUILD_ISOLATION", "0")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    (repository / "pyproject.toml").write_text("[project\n")
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", "broken")
    with pytest.raises(NothingMeasured, match=r"pip cannot install revision \w{10} \(broken\)"):
        revisions.lay_out(repository, revisions.find(repository, "HEAD"), tmp_path / "a")
    assert not (tmp_path / "a" / "installed").exists()
