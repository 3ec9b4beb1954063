"""The workloads, by name. Importing this module imports no framework."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Dict, List

from siderostat.workloads.base import Workload
from siderostat.workloads.entry_points import offers

_WHERE: Dict[str, str] = {
    "adamatch-step": "siderostat.workloads.lens_adaptation.steps:AdaMatchStep",
    "adda-step": "siderostat.workloads.lens_adaptation.steps:AddaStep",
    "arithmetic": "siderostat.workloads.arithmetic:Arithmetic",
    "cgdm-step": "siderostat.workloads.lens_adaptation.steps:CgdmStep",
    "galaxy-images": "siderostat.workloads.galaxy_images:GalaxyImages",
    "galaxy-sampler": "siderostat.workloads.galaxy_sampler:GalaxySampler",
    "galaxy-shape": "siderostat.workloads.galaxy_shape:GalaxyShape",
    "gauge-flow": "siderostat.workloads.gauge_flow:GaugeFlow",
    "gauge-heatbath": "siderostat.workloads.gauge_flow.heatbath_workload:GaugeHeatBath",
    "gauge-pseudofermion": "siderostat.workloads.gauge_pseudofermion:GaugePseudofermion",
    "halo-forest": "siderostat.workloads.halo_smf.forest_workload:HaloForest",
    "halo-grids": "siderostat.workloads.halo_grids:HaloGrids",
    "halo-smf": "siderostat.workloads.halo_smf:HaloSmf",
    "lens-images": "siderostat.workloads.lens_images:LensImages",
    "null": "siderostat.workloads.null:Null",
    "self-ensemble-step": "siderostat.workloads.lens_adaptation.steps:SelfEnsembleStep",
    "supervised-step": "siderostat.workloads.lens_adaptation.steps:SupervisedStep",
}


GROUP = "siderostat.workloads"
"""Entry points by which other packages bring workloads: NAME = module:Class."""


def names() -> List[str]:
    """Names of the workloads that come with siderostat, and of those that other packages bring."""
    return sorted({*_WHERE, *offers(GROUP)})


def is_bundled(name: str) -> bool:
    """Say whether a workload comes with siderostat."""
    return name in _WHERE


def load(name: str) -> Workload:
    """Make the workload called ``name``, or that of a file: ``path/to/file.py:ClassName``.

    Raises:
        LookupError: if there is none, or the package that brings it cannot be used; the text says why.
    """
    if ".py:" in name:
        return _from_file(name)
    if name not in _WHERE:
        return _from_package(name)
    module, _, attribute = _WHERE[name].partition(":")
    workload: Workload = getattr(importlib.import_module(module), attribute)()
    return workload


def _from_package(name: str) -> Workload:
    """Make the workload that another package brings; one of siderostat's own goes before it."""
    offered = offers(GROUP).get(name, [])
    if not offered:
        raise LookupError(f"there is no workload {name!r}")
    if len(offered) > 1:
        packages = " and ".join(package for package, _ in offered)
        raise LookupError(f"the packages {packages} both bring a workload {name!r}; uninstall one")
    package, entry = offered[0]
    try:
        found = entry.load()
    except Exception as error:  # noqa: BLE001 - another package's code, which may raise anything when it is imported
        reason = f"{type(error).__name__}: {error}"
        raise LookupError(f"the workload {name!r} of the package {package} cannot be imported ({reason})") from None
    if not (isinstance(found, type) and issubclass(found, Workload)):
        text = f"{entry.value} is no subclass of siderostat.workloads.base.Workload"
        raise LookupError(f"the workload {name!r} of the package {package} cannot be used: {text}")
    workload: Workload = found()
    workload.name = name
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
