"""Two revisions of a repository side by side: a worktree of each, and what installing it gives.

Each revision is checked out into a folder of its own and, where it is a Python project, installed by pip without its
dependencies beside it. So that compiled parts are compiled, a ``src`` folder is where it should be, and neither
revision touches what is installed here. Dependencies are those of this interpreter, the same for both.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from siderostat.errors import BadValue, NothingMeasured
from siderostat.record import Code

_SOURCE = "source"
_INSTALLED = "installed"
_PROJECT_FILES = ("pyproject.toml", "setup.py")
_LAST_WORDS = 3  # lines of what pip said that are passed on


@dataclass(frozen=True)
class Revision:
    """A commit and what its author called it.

    Attributes:
        commit: all digits of it.
        title: first line of its message.
    """

    commit: str
    title: str

    @property
    def short(self) -> str:
        """The first ten digits."""
        return self.commit[:10]


def repository(folder: Path) -> Path:
    """Return the top folder of the repository that a folder belongs to.

    Raises:
        BadValue: if it belongs to none, or there is no git.
    """
    return Path(_git(folder, ["rev-parse", "--show-toplevel"], f"{folder} belongs to no git repository"))


def find(root: Path, name: str) -> Revision:
    """Return the commit that a name means.

    Raises:
        BadValue: if the repository has none of that name.
    """
    missing = (
        f"{root} has no revision {name!r}; a shallow clone must fetch it first, in a workflow with fetch-depth: 0, "
        "elsewhere with git fetch --unshallow"
    )
    commit = _git(root, ["rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}"], missing)
    return Revision(commit, _git(root, ["log", "-1", "--format=%s", commit], missing))


def has_changes(root: Path) -> bool:
    """Say whether files under version control differ from the last commit."""
    return bool(_git(root, ["status", "--porcelain", "--untracked-files=no"], f"cannot look at {root}"))


def lay_out(root: Path, revision: Revision, folder: Path) -> Code:
    """Check a revision out and install it, unless both are done already; say where workers find it.

    Args:
        root: top folder of the repository.
        revision: what to check out.
        folder: of this revision alone.

    Raises:
        BadValue: if it cannot be checked out.
        NothingMeasured: if it cannot be installed.
    """
    folder = folder.absolute()
    source, installed = folder / _SOURCE, folder / _INSTALLED
    if not source.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _git(root, ["worktree", "prune"], f"cannot tidy the worktrees of {root}")
        missing = f"cannot check {revision.short} out into {source}"
        _git(root, ["worktree", "add", "--detach", "--force", str(source), revision.commit], missing)
    if not any((source / name).exists() for name in _PROJECT_FILES):
        return Code(str(source), (str(source),))
    if not installed.exists():
        _install(source, installed, revision)
    return Code(str(source), (str(installed),))


def take_down(root: Path, folder: Path) -> None:
    """Remove what :meth:`lay_out` made; the repository forgets the worktree."""
    source = folder.absolute() / _SOURCE
    if source.exists():
        _git(root, ["worktree", "remove", "--force", str(source)], f"cannot remove the worktree {source}")
    shutil.rmtree(folder / _INSTALLED, ignore_errors=True)


def _install(source: Path, installed: Path, revision: Revision) -> None:
    """Install a project without its dependencies into a folder, whole or not at all."""
    unfinished = installed.with_name(installed.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check",
         "--target", str(unfinished), str(source)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        words = " ".join(done.stderr.strip().splitlines()[-_LAST_WORDS:]) or "it said nothing"
        raise NothingMeasured(f"pip cannot install revision {revision.short} ({revision.title}): {words}")
    unfinished.rename(installed)


def _git(folder: Path, words: list[str], missing: str) -> str:
    """Return what git says.

    Raises:
        BadValue: with ``missing`` and git's own words, if it fails.
    """
    try:
        done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise BadValue("comparing revisions takes git, which is not installed") from None
    if done.returncode:
        because = done.stderr.strip().splitlines()
        raise BadValue(missing + (f" ({because[-1]})" if because else ""))
    return done.stdout.strip()
