"""What tells one file from another, wherever it lies."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Tuple

_BLOCK = 1 << 20


def size_and_sha256(*paths: Path) -> Tuple[int, str]:
    """Return bytes and SHA-256 of files, one after the other, read block by block.

    Raises:
        OSError: if one cannot be read.
    """
    digest, size = hashlib.sha256(), 0
    for path in paths:
        with path.open("rb") as file:
            for block in iter(lambda: file.read(_BLOCK), b""):
                digest.update(block)
                size += len(block)
    return size, digest.hexdigest()
