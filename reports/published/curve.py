"""The type of a published curve."""

from __future__ import annotations

from dataclasses import dataclass

PROVENANCE = "published"


@dataclass(frozen=True)
class Curve:
    """Times over batch size as a paper gives them.

    Attributes:
        label: who ran it, marked as published.
        batches: batch sizes, ascending.
        seconds: time in seconds for the task, one for each batch size.
        task: what the seconds are for.
        items: work units of the task; None: those of one step, as many as the batch size says.
        parameters: of the published network.
        source: citation in words.
        provenance: always ``published``.
    """

    label: str
    batches: tuple[int, ...]
    seconds: tuple[float, ...]
    task: str
    items: int | None
    parameters: int
    source: str
    provenance: str = PROVENANCE

    def items_at(self, batch: int) -> int:
        """Return how many work units the task has at a batch size."""
        return self.items or batch
