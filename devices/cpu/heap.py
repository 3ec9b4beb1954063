"""Whether freed memory stays with the process: glibc's malloc gives large pieces back to the system at once.

A tensor of more than 32 MB is mapped anew each time it is made, and each of its pages faults on first use. The setting
``heap=kept`` keeps the pages, as jemalloc and tcmalloc do in large part.
"""

from __future__ import annotations

import ctypes
import platform
import sys

from siderostat.devices.base import Unsupported

_OPTIONS = (  # glibc's malloc.h
    (-4, 0),  # M_MMAP_MAX: nothing is mapped on its own
    (-1, -1),  # M_TRIM_THRESHOLD: the heap's end is never given back
    (-2, 64 << 20),  # M_TOP_PAD: the heap grows by at least this many bytes
)


def keep() -> None:
    """Have this process keep all memory it frees, from now on.

    Raises:
        Unsupported: where the C library is not glibc, or refuses.
    """
    if not sys.platform.startswith("linux") or platform.libc_ver()[0] != "glibc":
        raise Unsupported("heap=kept is a setting of glibc's malloc, and this system has another; use heap=returned")
    mallopt = ctypes.CDLL(None).mallopt
    if not all(mallopt(option, value) for option, value in _OPTIONS):
        raise Unsupported("glibc's malloc refuses to keep what is freed; use heap=returned")
