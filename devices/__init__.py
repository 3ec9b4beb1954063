"""The devices, by kind: siderostat's own, and those of other packages. Importing this module imports no framework.

A device is named ``KIND[:INDEX][:KEY=VALUE,...]``: ``cpu``, ``cpu:threads=2``, ``cuda:1``.
"""

from __future__ import annotations

import importlib
from typing import Dict, List, Tuple, Type

from siderostat.devices import plugins
from siderostat.devices.base import DeviceAdapter

_WHERE: Dict[str, str] = {
    "cpu": "siderostat.devices.cpu:Cpu",
    "cuda": "siderostat.devices.cuda:Cuda",
    "ipu": "siderostat.devices.ipu:Ipu",
    "mock": "siderostat.devices.mock:Mock",
    "sim": "siderostat.devices.sim:Sim",
}


def kinds() -> List[str]:
    """Kinds of device that this version knows, and those that installed packages bring."""
    return sorted([*_WHERE, *plugins.kinds(_WHERE)])


def adapter(kind: str) -> Type[DeviceAdapter]:
    """Import the class of one kind of device.

    Raises:
        LookupError: if there is no such kind.
    """
    if kind not in _WHERE:
        return plugins.adapter(kind)
    module, _, attribute = _WHERE[kind].partition(":")
    found: Type[DeviceAdapter] = getattr(importlib.import_module(module), attribute)
    return found


def split(device: str) -> Tuple[str, str, Dict[str, str]]:
    """Take ``kind:index:key=value,...`` apart.

    Returns:
        Kind, index (``""`` where none is given) and settings.
    """
    kind, *rest = device.split(":")
    index = ""
    settings: Dict[str, str] = {}
    for part in rest:
        for item in part.split(","):
            key, equals, value = item.partition("=")
            if equals:
                settings[key] = value
            else:
                index = key
    return kind, index, settings


def is_single_threaded(device: str) -> bool:
    """Say whether a device, by its name, is one thread of this host."""
    kind, _, settings = split(device)
    return adapter(kind).computes_on_host and settings.get("threads") == "1"


def load(device: str) -> DeviceAdapter:
    """Make the adapter for a device's name.

    Raises:
        LookupError: if there is no such kind, or it has no such setting.
        ValueError: if a setting has a value that cannot be.
    """
    kind, index, settings = split(device)
    found = adapter(kind)
    for key in settings:
        if key not in found.settings_help:
            raise LookupError(f"device {kind!r} has no setting {key!r}")
    return found(index, settings)
