"""Devices that other packages bring, as entry points of the group ``siderostat.devices``: KIND = module:Class."""

from __future__ import annotations

import warnings
from typing import Any, Collection, Dict, Iterator, List, Mapping, Type

from siderostat.devices.base import DeviceAdapter, Program, Unavailable
from siderostat.workloads.base import Step
from siderostat.workloads.entry_points import offers

GROUP = "siderostat.devices"


def kinds(built_in: Collection[str]) -> List[str]:
    """Return the kinds of device that packages bring, those aside that siderostat has itself."""
    found = offers(GROUP)
    for kind in sorted(set(found) & set(built_in)):
        packages = " and ".join(package for package, _ in found[kind])
        warnings.warn(
            f"the package {packages} brings a device {kind!r}, which siderostat has itself: siderostat's is used; the "
            "package must call its own otherwise",
            RuntimeWarning,
            stacklevel=3,
        )
    return [kind for kind in found if kind not in built_in]


def adapter(kind: str) -> Type[DeviceAdapter]:
    """Import the class of a kind of device.

    Where that fails, the class returned stands for it and says why when it is asked for anything: so the rest can be
    measured, and a worker with an interpreter of its own may still have what this one lacks.

    Raises:
        LookupError: if no package brings that kind.
    """
    offered = offers(GROUP).get(kind, [])
    if not offered:
        raise LookupError(f"there is no device {kind!r}")
    if len(offered) > 1:
        packages = " and ".join(package for package, _ in offered)
        return _unusable(kind, f"the packages {packages} both bring a device {kind!r}; uninstall one")
    package, entry = offered[0]
    try:
        found = entry.load()
    except Exception as error:  # noqa: BLE001 - another package's code, which may raise anything when it is imported
        reason = f"{type(error).__name__}: {error}"
        return _unusable(kind, f"the device {kind!r} of the package {package} cannot be imported ({reason})")
    if not (isinstance(found, type) and issubclass(found, DeviceAdapter)):
        reason = f"{entry.value} is no subclass of siderostat.devices.base.DeviceAdapter"
        return _unusable(kind, f"the device {kind!r} of the package {package} cannot be used: {reason}")
    return found


class _Any(Mapping[str, str]):
    """Settings of a device that cannot say which it has: all may be given."""

    def __contains__(self, key: object) -> bool:
        return True

    def __getitem__(self, key: str) -> str:
        return ""

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def _unusable(name: str, sentence: str) -> Type[DeviceAdapter]:
    class Unusable(DeviceAdapter):
        kind = name
        title = "a device of another package that cannot be used"
        settings_help = _Any()

        def describe(self) -> Dict[str, Any]:
            raise Unavailable(sentence)

        def compile(self, step: Step, precision: str) -> Program:
            raise Unavailable(sentence)

    return Unusable
