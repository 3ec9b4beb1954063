"""Where inputs that can be made again are kept."""

from __future__ import annotations

import os
from pathlib import Path


def root() -> Path:
    """Return ``$SIDEROSTAT_CACHE``, else ``siderostat`` in the user's cache folder by the XDG rules."""
    chosen = os.environ.get("SIDEROSTAT_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "siderostat"
