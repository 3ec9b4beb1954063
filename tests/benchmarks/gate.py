"""Does the gate cry wolf, and does it find what is there? The example of the docs against itself and against slower commits.

``python tests/benchmarks/gate.py [TIMES]``: HEAD against HEAD so many times (20), then a commit that does a tenth more, one
that does 3 % more. Fails if equal things FAIL, if the tenth is passed or not found, or if the 3 % are passed: where pairs
scatter by 6 % chance passes them in about one of four cases, where they scatter by 2 % hardly ever.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "guarded"
PASSES = 100
LOOP = "    for _ in range({}):\n        spectrum = one_pass(maps, bins)\n    return spectrum\n"


def git(root: Path, *words: str) -> None:
    names = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    subprocess.run(["git", *names, *words], cwd=root, check=True, capture_output=True)


def repository(root: Path) -> None:
    """Commit the example so that a step is a hundred passes, and commits with ten and with three more."""
    shutil.copytree(EXAMPLE, root)
    git(root, "init", "-q")
    module = root / "src" / "spectra" / "__init__.py"
    text = module.read_text().replace("def power_spectrum(", "def one_pass(")
    for name, passes in (("head", PASSES), ("tenth", PASSES * 110 // 100), ("three", PASSES * 103 // 100)):
        module.write_text(text + "\n\ndef power_spectrum(maps, bins=16):\n" + LOOP.format(passes))
        git(root, "add", "-A")
        git(root, "commit", "-q", "-m", name)
        git(root, "tag", name)


def gate(root: Path, folder: Path, head: str) -> dict:
    words = ["--base", "head", "--head", head, "gate.toml", "-b", "1", "-o", str(folder), "--json"]
    environment = {**os.environ, "PIP_NO_BUILD_ISOLATION": "0"}
    done = subprocess.run(
        [sys.executable, "-m", "siderostat", "gate", *words],
        cwd=root, capture_output=True, text=True, check=False, env=environment,
    )  # fmt: skip
    if not done.stdout:
        sys.exit(done.stderr)
    (series,) = json.loads(done.stdout)["series"]
    return series


def main() -> None:
    times = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    with tempfile.TemporaryDirectory() as held:
        root = Path(held) / "spectra"
        repository(root)
        found = []
        for i in range(times):
            found.append(gate(root, Path(held) / f"equal-{i}", "head"))
            one = found[-1]
            print(
                f"equal {i + 1}: {one['verdict']}, {one['slowdown']:+.2%}, could see {one['detectable']:.1%}",
                flush=True,
            )
        counts = Counter(one["verdict"] for one in found)
        print("HEAD against HEAD:", ", ".join(f"{n} {verdict}" for verdict, n in counts.items()))
        planted = {}
        for name in ("tenth", "three"):
            one = planted[name] = gate(root, Path(held) / name, name)
            ends = f"{one['slowdown_low']:+.2%} to {one['slowdown_high']:+.2%}"
            print(
                f"{name}: {one['verdict']}, {one['slowdown']:+.2%} ({ends}), could see {one['detectable']:.1%}",
                flush=True,
            )
    if counts["fail"] or planted["tenth"]["verdict"] != "fail" or planted["three"]["verdict"] == "pass":
        sys.exit("the gate cried wolf, or did not see what was planted")


if __name__ == "__main__":
    main()
