"""The kernel of the staple network, compiled on first use for the processor that it runs on."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any, Callable

from siderostat.workloads import cache
from siderostat.workloads.base import BadInput

SOURCE = Path(__file__).with_name("kernel.cpp")
# Of -ffast-math what lets sums be reordered, and not the whole: a library linked with it makes the processor take
# subnormal numbers for 0 in all of the process.
FLAGS = (
    "-O3", "-march=native", "-fno-math-errno", "-fno-signed-zeros", "-fno-trapping-math", "-fassociative-math",
    "-freciprocal-math", "-fopenmp", "-std=c++17", "-shared", "-fPIC",
)  # fmt: skip
_REMEDY = "install g++ or name a compiler by CXX, or use the variant real"


@functools.lru_cache(maxsize=None)
def library() -> ctypes.CDLL:
    """Return the compiled kernel.

    Raises:
        BadInput: if there is no compiler, it fails, or the cache cannot be written.
    """
    compiler = shutil.which(os.environ.get("CXX", "")) or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        raise BadInput(f"the variant fused of gauge-flow needs a C++ compiler; {_REMEDY}")
    # The processor is part of the name: a home folder may be shared by machines that differ.
    told = "\n".join((SOURCE.read_text(encoding="utf-8"), compiler, *FLAGS, platform.machine(), _instructions()))
    place = cache.root() / "gauge-flow" / f"kernel-{hashlib.sha256(told.encode()).hexdigest()[:16]}.so"
    if not place.is_file():
        _compile(compiler, place)
    return ctypes.CDLL(str(place))


# Pointers, then counts, of each function; the number of threads comes last.
_ARGUMENTS = {"level": (6, 4), "traces": (3, 3), "project": (2, 3)}


@functools.lru_cache(maxsize=None)
def function(name: str, kind: str, width: int) -> Callable[..., None]:
    """Return a function of the kernel.

    Args:
        name: ``level``, ``traces`` or ``project``.
        kind: of its numbers, ``float`` or ``double``.
        width: configurations side by side.
    """
    found: Any = getattr(library(), f"{name}_{kind}_{width}")
    pointers, counts = _ARGUMENTS[name]
    found.restype = None
    found.argtypes = [ctypes.c_void_p] * pointers + [ctypes.c_int64] * counts + [ctypes.c_int]
    return found  # type: ignore[no-any-return]


def _compile(compiler: str, place: Path) -> None:
    """Compile next to the place and move there, so that no process loads half a file."""
    temporary = place.with_name(f"{place.name}.{os.getpid()}.tmp")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            [compiler, *FLAGS, str(SOURCE), "-o", str(temporary)], check=True, capture_output=True, text=True
        )
        temporary.replace(place)
    except OSError as error:
        raise BadInput(f"the kernel of gauge-flow cannot be written to {place.parent}: {error.strerror}") from error
    except subprocess.CalledProcessError as error:
        last = error.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        raise BadInput(f"{compiler} does not compile the kernel of gauge-flow: {last[0]}; {_REMEDY}") from error


def _instructions() -> str:
    """Return what the processor can do, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")
