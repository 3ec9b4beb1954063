"""``siderostat doctor``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict

from siderostat import doctor
from siderostat.errors import DONE, USAGE


def main(arguments: argparse.Namespace, words: Sequence[str]) -> int:
    """Print the findings; exit code 2 if the main job cannot run."""
    findings = doctor.examine()
    if arguments.json:
        print(json.dumps([asdict(f) for f in findings], indent=1))
    else:
        for finding in findings:
            print(f"{finding.level:7} {finding.what}")
            if finding.fix:
                print(f"        -> {finding.fix}")
    return USAGE if any(f.level == "missing" for f in findings) else DONE
