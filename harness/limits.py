"""What keeps a worker from harming others: it dies with its parent and allocates no more than its share.

Worker side: Python 3.8. Linux offers all of it, other systems part of it; what is missing is left out
silently, because the driver closes the socket and kills the process group in any case.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Optional

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_parent(parent: int) -> None:
    """Ask the kernel to kill this process when process ``parent`` ends; leave at once if it has ended already."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)


def offer_to_oom_killer() -> None:
    """Make this process, not the driver, the one that the kernel ends when memory runs out."""
    try:
        Path("/proc/self/oom_score_adj").write_text("1000")
    except OSError:
        return


def limit_memory(limit_bytes: Optional[int]) -> None:
    """Let allocations beyond ``limit_bytes`` fail here, with an error that can be reported."""
    if limit_bytes is not None and sys.platform.startswith("linux"):
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        soft = limit_bytes if hard == resource.RLIM_INFINITY else min(limit_bytes, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def peak_resident_bytes() -> int:
    """Return the most memory that was resident in this process, in bytes."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
