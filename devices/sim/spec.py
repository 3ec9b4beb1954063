"""Specifications in TOML files: what every figure is, where it comes from, and how well it is known.

Chips, frameworks and calibrations are such files, the user's own as well as those that come along::

    title = "Graphcore GC2"
    kind = "bsp-sram"

    [figures]
    tiles = { value = 1216, source = "Jia et al. 2019, arXiv:1912.03413" }
    idle_w = { value = 40, spread = 1.5, checked = false, source = "from memory" }
    clock_hz = 1.6e9  # short for { value = 1.6e9 }: no source is given, and reports say so
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence

HERE = Path(__file__).parent


class SpecError(ValueError):
    """A specification that cannot be used. The text says file and key, and what is allowed."""


@dataclass(frozen=True)
class Key:
    """A figure that a kind of file may hold; ``least`` is the smallest value that can be."""

    help: str
    is_required: bool = True
    least: float = 0.0


@dataclass(frozen=True)
class Figure:
    """A figure and what is known of it.

    Attributes:
        value: in the unit that its key ends in.
        spread: factor, 1 or more: with 68 % probability the truth is within a factor of this. 1: exact.
        source: data sheet, paper or data that it was fitted on; empty: none was given.
        is_checked: whether the figure was compared with its source, or fitted here.
        is_fitted: whether ``siderostat calibrate`` finds it.
    """

    value: float
    spread: float = 1.0
    source: str = ""
    is_checked: bool = True
    is_fitted: bool = False


@dataclass(frozen=True)
class Spec:
    """A specification as read.

    Attributes:
        name: by which it was asked for.
        title: for people.
        kind: of chip that it is, or is for.
        figures: by key.
        hash: eight hex digits of the file's content.
        words: further texts of the file.
    """

    name: str
    title: str
    kind: str
    figures: Mapping[str, Figure]
    hash: str
    words: Mapping[str, str] = field(default_factory=dict)

    def __getitem__(self, key: str) -> float:
        return self.figures[key].value

    def get(self, key: str) -> Optional[float]:
        """Return a figure that may be missing."""
        return self.figures[key].value if key in self.figures else None

    def changed(self, values: Mapping[str, float]) -> Spec:
        """Return the same specification with other values of some figures."""
        figures = {key: replace(self.figures[key], value=value) for key, value in values.items()}
        return replace(self, figures={**self.figures, **figures})

    def unchecked(self) -> List[str]:
        """Return the keys of figures that nobody compared with a source."""
        return [key for key, figure in self.figures.items() if not (figure.is_checked and figure.source)]


def names(folder: str) -> List[str]:
    """Return the names of the specifications that come along."""
    return sorted(path.stem for path in (HERE / folder).glob("*.toml"))


def find(folder: str, name: str) -> Path:
    """Return the file of a specification: one that comes along by its name, any other by its path.

    Raises:
        SpecError: if there is none.
    """
    path = Path(name) if name.endswith(".toml") else HERE / folder / f"{name}.toml"
    if path.is_file():
        return path
    if name.endswith(".toml"):
        raise SpecError(f"{name}: there is no such file")
    known = names(folder)
    close = difflib.get_close_matches(name, known, 1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    raise SpecError(
        f"no {folder.rstrip('s')} is called {name!r}{hint}; there are {', '.join(known)}; or name a .toml file"
    )


def read(folder: str, name: str, keys: Mapping[str, Mapping[str, Key]], words: Sequence[str] = ()) -> Spec:
    """Read a specification.

    Args:
        folder: in which those that come along lie.
        name: of one of them, or a path.
        keys: kind -> key -> what may stand there.
        words: texts that may stand beside the title.

    Raises:
        SpecError: if there is no such file, or it cannot be used.
    """
    path = find(folder, name)
    raw = path.read_bytes()
    data = _parse(path, raw)
    kind = str(data.get("kind", ""))
    if kind not in keys:
        raise SpecError(f"{path}: kind is {kind!r}; allowed are {', '.join(map(repr, keys))}")
    for key in data:
        if key not in ("title", "kind", "figures", *words):
            raise SpecError(
                f"{path}: {key}: there is no such key; allowed are title, kind, figures, {', '.join(words)}"
            )
    figures = data.get("figures", {})
    if not isinstance(figures, dict):
        raise SpecError(f"{path}: figures: must be a table, [figures]")
    return Spec(
        name=path.stem,
        title=str(data.get("title", path.stem)),
        kind=kind,
        figures=_figures(path, figures, keys[kind]),
        hash=hashlib.blake2b(raw, digest_size=4).hexdigest(),
        words={word: str(data[word]) for word in words if word in data},
    )


def _parse(path: Path, raw: bytes) -> Dict[str, Any]:
    toml = _toml()
    if toml is None:
        raise SpecError(
            f"{path} cannot be read: this Python is older than 3.11 and has no package tomli; "
            "install it with: pip install tomli"
        )
    try:
        data: Dict[str, Any] = toml.loads(raw.decode("utf-8"))
    except (toml.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SpecError(f"{path} is not a TOML file: {error}") from None
    return data


def _toml() -> Any:
    """Return what reads TOML: part of Python from 3.11 on, a package before; None where it is missing."""
    for name in ("tomllib", "tomli"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None


def _figures(path: Path, data: Mapping[str, Any], keys: Mapping[str, Key]) -> Dict[str, Figure]:
    for key in data:
        if key not in keys:
            close = difflib.get_close_matches(key, list(keys), 1)
            hint = f"did you mean {close[0]}?" if close else f"allowed are {', '.join(keys)}"
            raise SpecError(f"{path}: figures.{key}: there is no such figure; {hint}")
    for key, allowed in keys.items():
        if allowed.is_required and key not in data:
            raise SpecError(f"{path}: figures.{key} is missing: {allowed.help}")
    return {key: _figure(f"{path}: figures.{key}", value, keys[key]) for key, value in data.items()}


def _figure(where: str, data: Any, key: Key) -> Figure:
    held = data if isinstance(data, dict) else {"value": data}
    allowed = {"value", "spread", "source", "checked", "fitted"}
    if set(held) - allowed:
        raise SpecError(
            f"{where}: allowed are {', '.join(sorted(allowed))}, not {', '.join(sorted(set(held) - allowed))}"
        )
    value: Any = held.get("value")
    spread: Any = held.get("spread", 1.0)
    if not _is_number(value) or value < key.least:
        raise SpecError(f"{where}: value must be a number of at least {key.least:g}, not {value!r} ({key.help})")
    if not _is_number(spread) or spread < 1:
        raise SpecError(f"{where}: spread must be a factor of at least 1, not {spread!r}")
    return Figure(
        float(value),
        float(spread),
        str(held.get("source", "")),
        bool(held.get("checked", True)),
        bool(held.get("fitted", False)),
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
