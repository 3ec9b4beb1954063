"""Where and with what a run was made: the environment fingerprint, and the manifest that holds it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import inspect
import json
import os
import platform
import socket
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import siderostat
from siderostat import workloads
from siderostat.devices.cpu import cgroup, memory_bytes, model_name, usable_cores

_PACKAGES = (
    "torch", "tensorflow", "tf-keras", "tensorflow-probability", "numpy", "scipy", "galsim", "pandas", "altair",
)  # fmt: skip
_WORKERS_SHARE = 0.9  # of the free memory
_VARIABLES = (
    "OMP_",
    "MKL_",
    "OPENBLAS_",
    "KMP_",
    "GOMP_",
    "TORCH_",
    "TF_ENABLE_",
    "TF_NUM_",
    "TF_USE_",
    "TF_XLA_",
    "CUDA_",
    "MALLOC_",
    "LD_PRELOAD",
    "PYTHONHASHSEED",
)


def environment(identify: bool = False) -> dict[str, Any]:
    """Return what of this machine and its software a figure may depend on; None where the system does not tell.

    Args:
        identify: write the host's name in clear instead of a hash of it.
    """
    host = socket.gethostname()
    return {
        "siderostat": siderostat.__version__,
        **_commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": model_name(),
        "cores": os.cpu_count(),
        "usable_cores": usable_cores(),
        "memory_bytes": memory_bytes(),
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "turbo": _read("/sys/devices/system/cpu/cpufreq/boost"),
        "smt": _read("/sys/devices/system/cpu/smt/control"),
        "virtualised": _hypervisor(),
        "cgroup_cpus": cgroup.cpu_quota(),
        "host": host if identify else hashlib.blake2b(host.encode(), digest_size=6).hexdigest(),
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
        "variables": {k: v for k, v in sorted(os.environ.items()) if k.startswith(_VARIABLES)},
    }


def key(environment: Mapping[str, Any]) -> str:
    """Return twelve hex digits that are equal exactly where the environments are."""
    text = json.dumps(environment, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def session(argv: Sequence[str]) -> dict[str, Any]:
    """Return what the manifest keeps of one command that works on a run."""
    return {"started_at": utc_now(), "argv": ["siderostat", *argv]}


def utc_now() -> str:
    """Return the time, UTC, ISO 8601."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")


def code(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return by workload the commit of its code and a hash of what is not committed, as :func:`environment` does.

    Workloads that come with siderostat are left out. Where a workload's file lies in no repository, as an installed
    copy does, it is taken for code of the repository that the current folder belongs to.

    Args:
        names: of workloads, in any order.
    """
    found = {}
    for name in sorted(set(names)):
        if not workloads.is_bundled(name):
            state = _state(_folder(name))
            found[name] = state if state["commit"] else _state(Path.cwd())
    return found


def _folder(name: str) -> Path:
    """Return the folder that a workload's code lies in; the current one where it cannot be loaded."""
    try:
        return Path(inspect.getfile(type(workloads.load(name)))).resolve().parent
    except Exception:  # noqa: BLE001 - somebody else's code, which may raise anything when it is imported
        return Path.cwd()


def _commit() -> dict[str, Any]:
    """Return the commit that siderostat runs from, and a hash of what is not committed, False where nothing is.

    Both are None where it runs from an installed copy.
    """
    root = Path(siderostat.__file__).resolve().parent.parent
    return _state(root) if (root / ".git").exists() else {"commit": None, "dirty": None}


def _state(folder: Path) -> dict[str, Any]:
    """Return the commit of the repository that a folder belongs to, and a hash of what is not committed."""
    commit = _git(folder, "rev-parse", "HEAD")
    if not commit:
        return {"commit": None, "dirty": None}
    diff = _git(folder, "diff", "HEAD")
    return {"commit": commit, "dirty": hashlib.blake2b(diff.encode(), digest_size=6).hexdigest() if diff else False}


def _git(root: Path, *words: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _hypervisor() -> str | None:
    """Return the hypervisor's vendor, None on bare metal or where the system does not tell."""
    flags = next((line for line in (_read("/proc/cpuinfo") or "").splitlines() if line.startswith("flags")), "")
    if "hypervisor" not in flags:
        return None
    return _read("/sys/class/dmi/id/sys_vendor") or "unknown hypervisor"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None


def worker_memory_bytes() -> int:
    """Return what the workers that are alive together may allocate, so that the system and the driver live on."""
    return int(_WORKERS_SHARE * available_memory_bytes())


def available_memory_bytes() -> int:
    """Return the memory that a worker can have: what is free, within the cgroup's limit where there is one."""
    import psutil

    left = cgroup.memory_left_bytes()
    free = int(psutil.virtual_memory().available)
    return free if left is None else min(free, left)
