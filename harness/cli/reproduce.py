"""``siderostat reproduce``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from siderostat.errors import DONE, BadValue, RunFolderError


def main(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    """Draw published figures anew, and say how far the model misses them."""
    folder = Path(arguments.output or f"siderostat-reproduce/{arguments.what}")
    try:
        from siderostat.reports import html, markdown
        from siderostat.reproduce import arcelin2021, page

        found = arcelin2021.reproduce()
        section = page.section(found)
        made = "Made by siderostat. Everything that is not grey is modelled; every point is in points.csv."
        texts = {
            "reproduction.html": html.section_text(section, made),
            "reproduction.md": markdown.section_text(section, made),
            "points.csv": arcelin2021.to_csv(found),
        }
    except ModuleNotFoundError as error:
        raise BadValue(
            f"this needs the package {error.name}; install what it takes with: pip install 'siderostat[standard]'"
        ) from None
    _write(folder, texts)
    for sentence in section.headlines:
        print(sentence)
    for name in texts:
        print(folder / name)
    return DONE


def _write(folder: Path, texts: dict[str, str]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise RunFolderError(f"cannot write to {folder}: {error.strerror}; choose another folder with -o") from error
