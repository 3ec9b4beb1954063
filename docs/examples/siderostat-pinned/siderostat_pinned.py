"""The device ``pinned:cores=0+2``: the host's processor, with all threads kept on given cores."""

import os
from pathlib import Path
from typing import Any, ClassVar, Dict, Mapping

from siderostat.devices.base import Unavailable
from siderostat.devices.cpu import Cpu


class Pinned(Cpu):
    """All that is not about cores is the CPU's own: frameworks, precisions, clock, energy, errors."""

    kind = "pinned"
    title = "the host's processor, its threads kept on given cores"
    settings_help: ClassVar[Mapping[str, str]] = {**Cpu.settings_help, "cores": "which, joined by +; default: 0"}

    def __init__(self, index: str, settings: Mapping[str, str]) -> None:
        numbers = settings.get("cores", "0").split("+")
        if not all(number.isdigit() for number in numbers):
            raise ValueError(f"cores are numbers joined by +, such as 0+2, not {settings['cores']!r}")
        self.cores = {int(number) for number in numbers}
        super().__init__(index, {"threads": str(len(self.cores)), **settings})

    def describe(self) -> Dict[str, Any]:
        """Say what the device is, or why it is not here."""
        missing = self.cores - os.sched_getaffinity(0)
        if missing:
            raise Unavailable(f"this process may not run on core {min(missing)}; name others by cores=")
        return super().describe()

    def configure(self, framework: str) -> None:
        """Move the threads that are there; those to come stay with the thread that makes them."""
        for thread in Path("/proc/self/task").iterdir():
            os.sched_setaffinity(int(thread.name), self.cores)
        super().configure(framework)

    def effective(self) -> Dict[str, Any]:
        """Say what is in force."""
        return {**super().effective(), "affinity": sorted(os.sched_getaffinity(0))}
