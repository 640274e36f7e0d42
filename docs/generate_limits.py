"""Writes the table of the runtime's options in docs/limits.md.

python docs/generate_limits.py            write it
python docs/generate_limits.py --check    say whether it is up to date
"""

from __future__ import annotations

import sys
from pathlib import Path

from hpc.cli.manual import runtime_rows

TARGET = Path(__file__).with_name("limits.md")
BEGIN, END = "<!-- begin: written by docs/generate_limits.py -->", "<!-- end -->"


def page(old: str) -> str:
    """docs/limits.md with the table as it is now."""
    before, _, rest = old.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise SystemExit(f"docs/limits.md has no place for the table: {BEGIN} ... {END}")
    return "\n".join([before + BEGIN, "", *runtime_rows(), "", END]) + after


def main() -> int:
    old = TARGET.read_text()
    new = page(old)
    if "--check" in sys.argv:
        return int(old != new)
    TARGET.write_text(new)
    return 0


if __name__ == "__main__":
    sys.exit(main())
