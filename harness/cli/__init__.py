"""The command line: parses, calls one command, and turns what goes wrong into a sentence and an exit code.

Importing it is quick: commands import what they need when they are called.
"""

from __future__ import annotations

import sys
from typing import List, Optional


def main(argv: Optional[List[str]] = None) -> int:
    """Run one command and return its exit code."""
    if sys.version_info < (3, 11):
        version = ".".join(map(str, sys.version_info[:2]))
        print(f"siderostat: the command line needs Python 3.11 or newer, and this is {version}", file=sys.stderr)
        return 2
    from siderostat.cli import parser

    words = sys.argv[1:] if argv is None else argv
    arguments = parser.make().parse_args(words)
    return parser.call(arguments, words)
