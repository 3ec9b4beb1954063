"""Does the gate cry wolf, and does it find what is there? The example of the docs against itself and against slower commits.

``python tests/benchmarks/gate.py [TIMES [PLANTED]]``: HEAD against HEAD so many times (20), then a commit that does a tenth
more and one that does 3 % more, each so many times (1). Fails if equal things FAIL, if a tenth is passed or never found, or
if 3 % are passed, which chance does in one or two of a hundred cases.
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


def judged(root: Path, held: Path, head: str, times: int) -> Counter[str]:
    """Gate a commit so many times against the first, print what came of it, and count the verdicts."""
    counts: Counter[str] = Counter()
    for i in range(times):
        one = gate(root, held / f"{head}-{i}", head)
        counts[one["verdict"]] += 1
        change, low, high = (f"{one[name]:+.2%}" for name in ("slowdown", "slowdown_low", "slowdown_high"))
        said = f"{one['verdict']}, {change} ({low} to {high}), {one['pairs']} pairs, could see {one['detectable']:.1%}"
        print(f"{head} {i + 1}: {said}", flush=True)
    print(f"{head} against head:", ", ".join(f"{n} {verdict}" for verdict, n in counts.items()), flush=True)
    return counts


def main() -> None:
    times, planted = (int(word) for word in [*sys.argv[1:], *("20", "1")[len(sys.argv) - 1 :]])
    with tempfile.TemporaryDirectory() as folder:
        held = Path(folder)
        root = held / "spectra"
        repository(root)
        equal = judged(root, held, "head", times)
        tenth, three = (judged(root, held, name, planted) for name in ("tenth", "three"))
    if equal["fail"] or tenth["pass"] or not tenth["fail"] or three["pass"]:
        sys.exit("the gate cried wolf, or did not see what was planted")


if __name__ == "__main__":
    main()
