"""JSON that others may have written: read, and records and plans checked against their schemas."""

from __future__ import annotations

import functools
import importlib.resources
import json
import math
import re
from collections.abc import Callable
from typing import Any, NoReturn

from siderostat.record import SCHEMA

RECORD, PLAN = f"record-{SCHEMA}.json", "plan-1.json"
_HUGE = re.compile(r"[eE]\+?\d{3}|\d{300}")  # what may be a number that no float holds
_HALF = re.compile(r"\\u[dD][89a-fA-F]")  # what may be half a character


def decode(text: str) -> Any:
    """Read JSON that others may have written.

    Raises:
        ValueError: if it is none, or holds a number that is none or a text that is none; NaN is no JSON.
    """
    try:
        data = _JSON.decode(text)
        if _HUGE.search(text):
            _FINITE_JSON.decode(text)
        if _HALF.search(text):
            json.dumps(data, ensure_ascii=False).encode()  # half a character cannot be written
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except UnicodeEncodeError:
        raise ValueError("a text with half a character in it") from None
    return data


def check(data: Any, schema: str) -> None:
    """Check data against a schema.

    Args:
        data: from JSON.
        schema: ``RECORD`` or ``PLAN``.

    Raises:
        ValueError: if it does not conform; the text says where.
    """
    from fastjsonschema import JsonSchemaValueException

    try:
        _checker(schema)(data)
    except JsonSchemaValueException as error:
        place = "/".join(map(str, error.path[1:])) or "the whole"
        raise ValueError(f"{place}: {error.message.removeprefix(error.name or '').strip()}") from None


@functools.cache
def _checker(schema: str) -> Callable[[Any], Any]:
    import fastjsonschema

    checker: Callable[[Any], Any] = fastjsonschema.compile(_read(schema), use_default=False, handlers={"": _read})
    return checker


def _read(name: str) -> Any:
    """Return a schema by the name of its file, as one refers to another."""
    return json.loads(importlib.resources.files("siderostat").joinpath("schema", name).read_text())


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number")


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _no_number(text[:20])


def _whole(text: str) -> int:
    return int(text) if len(text) < 300 else _no_number(f"a number of {len(text):,} digits")


_JSON = json.JSONDecoder(parse_constant=_no_number)
_FINITE_JSON = json.JSONDecoder(parse_constant=_no_number, parse_float=_finite, parse_int=_whole)
