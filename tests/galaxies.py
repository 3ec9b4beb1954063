"""The k-space renderer's tables, made once for all tests of a session, since they take seconds."""

from __future__ import annotations

import shutil
from pathlib import Path

from siderostat.workloads.galaxy_images import tables


def put_tables(cache: Path) -> Path:
    """Copy the tables from the cache in force into another one, so that what is drawn there need not wait for them."""
    tables.Tables()
    folder = cache / "galaxy-images"
    folder.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy(tables.archive().path, folder))
