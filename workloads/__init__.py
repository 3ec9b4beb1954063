"""The workloads, by name. Importing this module imports no framework."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Dict, List

from siderostat.workloads.base import Workload

_WHERE: Dict[str, str] = {
    "arithmetic": "siderostat.workloads.arithmetic:Arithmetic",
    "galaxy-images": "siderostat.workloads.galaxy_images:GalaxyImages",
    "galaxy-sampler": "siderostat.workloads.galaxy_sampler:GalaxySampler",
    "galaxy-shape": "siderostat.workloads.galaxy_shape:GalaxyShape",
    "gauge-flow": "siderostat.workloads.gauge_flow:GaugeFlow",
    "null": "siderostat.workloads.null:Null",
}


def names() -> List[str]:
    """Names of the workloads that come with siderostat."""
    return sorted(_WHERE)


def load(name: str) -> Workload:
    """Make the workload called ``name``, or that of a file: ``path/to/file.py:ClassName``.

    Raises:
        LookupError: if there is none; the text says which there are.
    """
    if ".py:" in name:
        return _from_file(name)
    if name not in _WHERE:
        raise LookupError(f"there is no workload {name!r}")
    module, _, attribute = _WHERE[name].partition(":")
    workload: Workload = getattr(importlib.import_module(module), attribute)()
    return workload


def _from_file(name: str) -> Workload:
    path, _, attribute = name.rpartition(":")
    if not Path(path).is_file():
        raise LookupError(f"there is no file {path} to take the workload {attribute!r} from")
    module_name = "siderostat_user_" + Path(path).stem
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise LookupError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.path.append(str(Path(path).resolve().parent))  # for what lies beside it; last, so that it hides nothing
    sys.modules[module_name] = module
    spec.loader.exec_module(module)
    found = getattr(module, attribute, None)
    if not (isinstance(found, type) and issubclass(found, Workload)):
        raise LookupError(f"{path} has no workload class {attribute!r}")
    workload: Workload = found()
    workload.name = f"{Path(path).resolve()}:{attribute}"
    return workload
