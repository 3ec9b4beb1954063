"""``siderostat reproduce``."""

from __future__ import annotations

import argparse
import functools
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from siderostat.errors import DONE, BadValue, RunFolderError, UnknownName
from siderostat.files import write_atomically
from siderostat.reproduce import PAPERS, Paper


def main(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    """Make published results anew, and say how far what was published is missed."""
    paper = PAPERS[arguments.what]
    scale, seeds = _asked(arguments, paper)
    folder = Path(arguments.output or f"siderostat-reproduce/{arguments.what}")
    try:
        return _reproduce(paper, scale, seeds, folder)
    except ModuleNotFoundError as error:
        raise BadValue(
            f"this needs the package {error.name}; install what it takes with: pip install 'siderostat[standard]'"
        ) from None


def _asked(arguments: argparse.Namespace, paper: Paper) -> tuple[str, int]:
    """Return the scale and the number of seeds.

    Raises:
        UnknownName: if the paper has no such scale.
        BadValue: if there is nothing to choose, or not one seed.
    """
    if not paper.scales and (arguments.scale or arguments.seeds is not None):
        raise BadValue(f"{arguments.what} is computed, not trained: it takes neither --scale nor --seeds")
    if arguments.scale and arguments.scale not in paper.scales:
        raise UnknownName("scale", arguments.scale, paper.scales, inside=f" of {arguments.what}")
    seeds = paper.seeds if arguments.seeds is None else arguments.seeds
    if paper.scales and seeds < 1:
        raise BadValue(f"--seeds is {seeds}; give 1 or more")
    return arguments.scale or (paper.scales[0] if paper.scales else ""), seeds


def _reproduce(paper: Paper, scale: str, seeds: int, folder: Path) -> int:
    from siderostat.reproduce import page, parts

    importlib.import_module("siderostat.reports.html")  # what pages need is missed now, not after the work
    module = cast(page.Module, importlib.import_module(paper.module))
    wanted = module.plan(scale, seeds)
    found = parts.look(wanted, folder)
    try:
        parts.complete(found, folder, functools.partial(print, flush=True))
    finally:  # interrupted too: the page shows the parts that are finished
        found = parts.look(wanted, folder)
        shown = page.accounted(module.show(found), found)
        paths = _written(folder, page.texts(shown))
        print(*shown.section.headlines, *paths, sep="\n")
    return DONE


def _written(folder: Path, texts: dict[str, str]) -> list[Path]:
    """Write files and return their paths."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return [write_atomically(folder / name, text) for name, text in texts.items()]
    except OSError as error:
        raise RunFolderError(f"cannot write to {folder}: {error.strerror}; choose another folder with -o") from error
