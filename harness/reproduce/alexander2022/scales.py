"""How much of the paper is computed."""

from __future__ import annotations

from dataclasses import dataclass

FORTH, BACK = ("euclid", "hst"), ("hst", "euclid")
"""Directions: labelled images of the first instrument, images of the second."""


@dataclass(frozen=True)
class Scale:
    """A scale.

    Attributes:
        encoders: by name.
        size: of the encoders.
        pixels: on a side of an image.
        training: images of each class to train on, for each instrument.
        judged: images of each class that epochs of the source training are chosen by, and as many others to test on.
        batch: images of each instrument in a step.
        source_epochs: of the training on the source.
        epochs: of an adaptation.
        needs_gpu: whether it is refused where there is none.
        flop_s: floating-point operations per second of the encoder, from which times are estimated.
    """

    encoders: tuple[str, ...]
    size: str
    pixels: int
    training: int
    judged: int
    batch: int
    source_epochs: int
    epochs: int
    needs_gpu: bool
    flop_s: float


SCALES = {
    "small": Scale(
        encoders=("resnet18",), size="quarter", pixels=64, training=600, judged=200, batch=64, source_epochs=20,
        epochs=6, needs_gpu=False, flop_s=3.4e10,
    ),
    "tiny": Scale(
        encoders=("resnet18",), size="tiny", pixels=64, training=20, judged=10, batch=20, source_epochs=2, epochs=2,
        needs_gpu=False, flop_s=1e10,
    ),
    "paper": Scale(
        encoders=("equivariant", "resnet18", "efficientnet-b0"), size="paper", pixels=150, training=10_000, judged=2000,
        batch=100, source_epochs=20, epochs=20, needs_gpu=True, flop_s=2e13,
    ),
}  # fmt: skip
"""``tiny`` shows in a minute that everything runs; none of its figures says anything about the paper. ``paper`` has
as many images, as large, as the paper, and whole networks; it has never been run, and its epochs are a guess."""
