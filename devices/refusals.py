"""Errors of PyTorch in the words of a record. Imports no framework: errors are told by names and texts."""

from __future__ import annotations

import re
from typing import Iterator, Optional

from siderostat.devices.base import CompileFailed, DeviceRefusal, OutOfCapacity
from siderostat.record import Reason

_UNITS = {"bytes": 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_DEVICE_MEMORY = re.compile(
    r"(CUDNN|CUBLAS|CUSPARSE|CUSOLVER|HIPBLAS|MIOPEN|ROCBLAS)_STATUS_ALLOC_FAILED|(CUDA|HIP) error: out of memory"
)
_COMPILERS = ("torch._dynamo.exc", "torch._inductor.exc", "torch._inductor.runtime", "triton.")
_REMEDIES = (  # what a failed compilation says, and what to do about it
    ("InvalidCxxCompiler", "install a C++ compiler, such as g++ (CXX names another)"),
    ("No working C++ compiler", "install a C++ compiler, such as g++ (CXX names another)"),
    ("Python.h", "install the headers of this Python, such as python3-dev"),
    ("TritonMissing", "install triton"),
    ("Cannot find a working triton", "install triton"),
)


def device_memory(error: BaseException) -> Optional[DeviceRefusal]:
    """Return the refusal behind an error for want of a GPU's memory; None if it is another."""
    for one in _chain(error):
        module, text = type(one).__module__, str(one)
        if type(one).__name__ == "OutOfMemoryError" and module.startswith("torch"):
            return OutOfCapacity(_words(text), Reason.OOM_DEVICE, _tried_to_allocate(text))
        if isinstance(one, RuntimeError) and _DEVICE_MEMORY.search(text):
            return OutOfCapacity(_words(text), Reason.OOM_DEVICE)
    return None


def host_memory(error: BaseException) -> Optional[DeviceRefusal]:
    """Return the refusal behind an error of PyTorch's for want of the host's memory; None if it is another."""
    for one in _chain(error):
        text = str(one)
        if isinstance(one, RuntimeError) and "can't allocate memory" in text:
            words = text.rpartition("you tried to allocate ")[2].split()
            need = int(words[0]) if words and words[0].isdigit() else None
            return OutOfCapacity("the host's memory, or the worker's share of it, is used up", Reason.OOM_HOST, need)
        # oneDNN says no more where its scratch memory cannot be had; what it cannot do it calls a primitive descriptor.
        if isinstance(one, RuntimeError) and text.strip() == "could not create a primitive":
            text = "oneDNN could not create a primitive, as when the host's memory, or the worker's share, is used up"
            return OutOfCapacity(text, Reason.OOM_HOST)
    return None


def compilation(error: BaseException) -> Optional[DeviceRefusal]:
    """Return the refusal behind an error of torch.compile's; None if it is another."""
    if not any(type(one).__module__.startswith(_COMPILERS) for one in _chain(error)):
        return None
    told = " ".join(f"{type(one).__name__}: {one}" for one in _chain(error))
    remedy = next((remedy for words, remedy in _REMEDIES if words in told), "")
    because = str(error).strip().splitlines() or [type(error).__name__]
    return CompileFailed(f"torch.compile failed: {because[0]}; {remedy + ', or ' if remedy else ''}use execution=eager")


def _chain(error: Optional[BaseException]) -> Iterator[BaseException]:
    """Yield an error and what it was raised from, as Python and as torch.compile keep that."""
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = getattr(error, "inner_exception", None) or error.__cause__ or error.__context__


def _tried_to_allocate(text: str) -> Optional[int]:
    found = re.search(r"[Tt]ried to allocate ([\d.]+) (\w+)", text)
    return int(float(found[1]) * _UNITS[found[2]]) if found and found[2] in _UNITS else None


def _words(text: str) -> str:
    """Return the first sentences of torch's text: those behind them advise on its allocator."""
    return " ".join(text.split(" See documentation")[0].split(" If reserved")[0].split())
