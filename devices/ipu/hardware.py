"""Whether there is an IPU here, and what it says of itself."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any, Dict, List

from siderostat.devices.base import Unavailable
from siderostat.devices.ipu import power
from siderostat.devices.ipu.settings import Settings

_GENERATIONS = {  # poptorch.ipuHardwareVersion()
    1: "Mk1 (GC2)",
    2: "Mk2 (GC200 or Bow)",
    21: "Mk2 (C600)",
}
_MEMORY_BYTES = {
    1: 1216 * 256 * 1024,
    2: 1472 * 624 * 1024,
    21: 1472 * 624 * 1024,
}  # tiles x memory of one; data sheets
_INSTEAD = "or model the chip: -d sim:graphcore-gc2"
_SDK = f'name the interpreter of a Poplar SDK: [devices.ipu] python = "..." in the sweep file, {_INSTEAD}'


def describe(settings: Settings) -> Dict[str, Any]:
    """Return name, generation, memory and software of the IPUs that are asked for.

    Raises:
        Unavailable: if there is no software for IPUs here, or no IPU.
    """
    try:
        poptorch = importlib.import_module("poptorch")
    except ModuleNotFoundError as error:
        if error.name != "poptorch":  # what PopTorch itself needs is missing
            raise _not_enabled(error) from error
    except ImportError as error:
        raise _not_enabled(error) from error
    else:
        return _by_poptorch(poptorch, settings)
    if not _has_tensorflow_for_ipus():
        raise Unavailable(f"PopTorch is not installed for {sys.executable}; {_SDK}")
    return _by_tensorflow(settings)


def _not_enabled(error: ImportError) -> Unavailable:
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return Unavailable(f"PopTorch cannot be imported ({first}); source enable.sh of the Poplar SDK first, {_INSTEAD}")


def _by_poptorch(poptorch: Any, settings: Settings) -> Dict[str, Any]:
    software = f"PopTorch {poptorch.__version__}"
    about = {"poptorch": str(poptorch.__version__)}
    if settings.is_emulator:
        return {"name": f"Graphcore's IPU Model on the host, {software}", **about, "emulator": True}
    if not poptorch.ipuHardwareIsAvailable(settings.replicas):
        raise Unavailable(
            f"{software} finds no device of {settings.replicas} IPU(s); see gc-info -l, take emulator=yes, {_INSTEAD}"
        )
    version = int(poptorch.ipuHardwareVersion())
    generation = _GENERATIONS.get(version, f"generation {version}")
    name = {"name": f"Graphcore {generation}, {software}", **about, "hardware_version": version}
    memory = {"memory_bytes": _MEMORY_BYTES[version]} if version in _MEMORY_BYTES else {}
    return {**name, **memory, **_boards(settings)}


def _by_tensorflow(settings: Settings) -> Dict[str, Any]:
    """Describe the IPUs of an environment that has Graphcore's TensorFlow only, which need not be imported for it."""
    if settings.is_emulator:
        return {"name": "Graphcore's IPU Model on the host, TensorFlow", "emulator": True}
    boards = _boards(settings)
    if not boards:
        raise Unavailable(f"gcipuinfo finds no IPU that could be used; see gc-info -l, {_INSTEAD}")
    return {"name": f"Graphcore {boards['board']}, TensorFlow", **boards}


def _has_tensorflow_for_ipus() -> bool:
    spec = importlib.util.find_spec("tensorflow")
    places: List[str] = list(spec.submodule_search_locations or []) if spec is not None else []
    return any((Path(place) / "python" / "ipu").is_dir() for place in places)


def _boards(settings: Settings) -> Dict[str, Any]:
    """Return what gcipuinfo says of the boards; empty where it is not installed or lists none."""
    boards = power.Boards.find()
    devices = boards.devices() if boards is not None else []
    if not devices:
        return {}
    places = power.chosen(devices, settings.index) or [0]
    first = devices[places[0]]
    told = {"board": first.get("board type", "IPU"), "ipus": len(devices), "driver": first.get("driver version")}
    return {name: value for name, value in told.items() if value is not None}
