"""Errors of PopTorch and of Graphcore's TensorFlow in the words of a record. Imports neither."""

from __future__ import annotations

import re
from typing import Iterator, Optional

from siderostat.devices.base import CompileFailed, DeviceRefusal, OutOfCapacity, Unavailable, Unsupported
from siderostat.record import Reason

_UNSUPPORTED = re.compile(
    r"[Uu]nsupported|[Nn]ot (yet )?(supported|implemented)|[Cc]omplex|dynamic shape|inputs passed at runtime"
    r"|Could not run 'aten::|backward\(\) cannot be called"
)
_NO_DEVICE = re.compile(r"Failed to acquire|No device found|[Nn]o IPU|Could not find any device")
_PLACE = re.compile(r"^In \S+: ?")  # PopTorch begins with the line of its own source


def poptorch(error: BaseException) -> Optional[DeviceRefusal]:
    """Return the refusal behind an error of PopTorch's; None if it is another, or of no known kind.

    PopTorch keeps type and message as attributes of the exception's class: they are those of the newest error, so they
    are read at once.
    """
    kinds = [cls.__name__ for cls in type(error).__mro__ if cls.__module__.split(".")[0] == "poptorch"]
    if not kinds:
        return _not_lowered(error)
    text, kind = str(error), str(getattr(error, "type", ""))
    if "RecoverableError" in kinds or "UnrecoverableError" in kinds:
        action = str(getattr(error, "recovery_action", "")) if "RecoverableError" in kinds else ""
        remedy = f"it asks for {action}" if action else "the maker says to take it out of service"
        return Unavailable(f"the IPU failed: {first_line(text)}; {remedy}")
    if "ut of memory" in text or "memory_allocation" in kind:
        return OutOfCapacity(first_line(text, "ut of memory"), Reason.OOM_DEVICE, _needed_bytes(text))
    if "bad_alloc" in text:
        return OutOfCapacity(f"PopTorch used up the host's memory: {first_line(text)}", Reason.OOM_HOST)
    if _NO_DEVICE.search(text):
        return Unavailable(f"PopTorch could not attach to an IPU: {first_line(text)}; see gc-monitor for who uses them")
    return Unsupported(f"PopTorch refuses the step: {first_line(text)}") if _UNSUPPORTED.search(text) else None


def compilation(error: BaseException) -> DeviceRefusal:
    """Return the refusal behind an error that was raised while PopTorch compiled, whatever it is."""
    return poptorch(error) or CompileFailed(f"PopTorch could not compile the step: {first_line(str(error))}")


def tensorflow(error: BaseException) -> Optional[DeviceRefusal]:
    """Return the refusal behind an error of TensorFlow's, in which those of Poplar are told by their text only."""
    if not any(cls.__module__.startswith("tensorflow.") for cls in type(error).__mro__):
        return None
    text = str(error)
    if "ut of memory" in text or "memory_allocation" in text:
        return OutOfCapacity(first_line(text, "ut of memory"), Reason.OOM_DEVICE, _needed_bytes(text))
    if _NO_DEVICE.search(text):
        return Unavailable(f"TensorFlow could not attach to an IPU: {first_line(text)}")
    if "nsupported operations" in text or type(error).__name__ == "UnimplementedError":
        return Unsupported(f"TensorFlow's compiler for IPUs refuses the step: {first_line(text, 'nsupported')}")
    return None


def first_line(text: str, containing: str = "") -> str:
    """Return the first line of an error's text, or the first that has some words, without its place in the source."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["it gives no reason"]
    line = next((line for line in lines if containing in line), lines[0])
    return _PLACE.sub("", line)


def _not_lowered(error: BaseException) -> Optional[DeviceRefusal]:
    """Return the refusal behind torch's own error about an operation that PopTorch does not bring for IPUs."""
    for one in _chain(error):
        text = str(one)
        if isinstance(one, NotImplementedError) and "aten::" in text and "'IPU'" in text:
            return Unsupported(f"PopTorch refuses the step: {first_line(text)}")
    return None


def _chain(error: Optional[BaseException]) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _needed_bytes(text: str) -> Optional[int]:
    """Return what did not fit, if the text gives it; not the bytes of the fullest tile, a thousandth of the whole."""
    if "on tile" in text:
        return None
    found = re.search(r"(?:stream of length|needs|requires|requested) (\d+)(?: bytes)?", text)
    return None if found is None else int(found[1])
