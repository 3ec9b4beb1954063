"""What a device's name asks of an IPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional


@dataclass(frozen=True)
class Settings:
    """Taken from a name such as ``ipu:0:iterations=16,replicas=2``; :attr:`Ipu.settings_help` explains each."""

    index: Optional[int] = None  # None: any that is free
    iterations: int = 1
    replicas: int = 1
    accumulation: int = 1
    is_synthetic: bool = False
    outputs: str = "default"  # or "final", "all"; the default differs between training and inference
    counts_cycles: bool = True
    clock_hz: Optional[float] = None
    cache: str = ""
    is_emulator: bool = False

    def batches_per_call(self) -> int:
        """Return how many batches, each of them a step, one call of an executable works through."""
        return self.iterations * self.replicas * self.accumulation
