"""English words for figures."""

from __future__ import annotations


def plural(noun: str) -> str:
    """Return the plural of an English work unit: images, processes, galaxies."""
    if noun.endswith(("s", "x", "ch", "sh")):
        return noun + "es"
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"
