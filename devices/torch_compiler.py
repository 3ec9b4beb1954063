"""torch.compile from a cold start, so that what it costs is what a first user pays."""

from __future__ import annotations

import importlib
import os
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Tuple

_SETTINGS: List[Tuple[str, str, Any]] = [  # module, name, value; names that a version does not know are left out
    ("torch._inductor.config", "compile_threads", 1),  # no helper processes beside the measured one
    ("torch._inductor.config", "fx_graph_cache", False),
    ("torch._inductor.config", "fx_graph_remote_cache", False),
    ("torch._inductor.config", "autotune_local_cache", False),
    ("torch._functorch.config", "enable_autograd_cache", False),
]


class ColdCompiler:
    """Keeps what torch.compile writes in a folder of its own, and caches between processes switched off.

    From when it is made until :meth:`close`: code compiled late, for a shape not seen before, is kept there too.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="siderostat-compile-")
        folder = Path(self._folder.name)
        self._environment = {name: os.environ.get(name) for name in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")}
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder)
        os.environ["TRITON_CACHE_DIR"] = str(folder / "triton")
        self._settings: List[Tuple[Any, str, Any]] = []
        for module_name, name, value in _SETTINGS:
            module = importlib.import_module(module_name)
            if hasattr(module, name):
                self._settings.append((module, name, getattr(module, name)))
                setattr(module, name, value)
        self._made_before = _made()

    def effective(self) -> Dict[str, Any]:
        """Return what compiled, how many graphs it made so far, and how often Python had to step in between."""
        graphs, breaks = (now - before for now, before in zip(_made(), self._made_before))
        return {
            "execution": "compiled",
            "compiler": "inductor",
            "compile_threads": 1,
            "graphs": graphs,
            "graph_breaks": breaks,
        }

    def close(self) -> None:
        """Put everything back and remove the folder; may be called twice."""
        for module, name, value in self._settings:
            setattr(module, name, value)
        for name, was in self._environment.items():
            if was is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = was
        self._settings, self._environment = [], {}
        self._folder.cleanup()


def _made() -> Tuple[int, int]:
    """Return how many graphs this process has compiled, and how often Python had to step in between two."""
    from torch._dynamo.utils import counters

    return int(counters["stats"]["unique_graphs"]), int(sum(counters["graph_break"].values()))
