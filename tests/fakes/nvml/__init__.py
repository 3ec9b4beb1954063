"""A library ``libnvidia-ml.so.1`` that stands for a driver and a board; ``nvml.c`` says how to steer it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

UUID = "GPU-01234567-89ab-cdef-0123-456789abcdef"
PCI = "00000000:65:00.0"


def build(folder: Path) -> Path:
    """Compile the library into a folder, to be named in LD_LIBRARY_PATH; skip the test where there is no compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("the fake of NVML is written in C, and there is no C compiler (cc, gcc) here")
    source = Path(__file__).with_name("nvml.c")
    library = folder / "libnvidia-ml.so.1"
    command = [compiler, "-Wall", "-Wextra", "-Werror", "-O1", "-shared", "-fPIC", "-o", library, source, "-lm"]
    subprocess.run(list(map(str, command)), check=True, timeout=120)
    return folder
