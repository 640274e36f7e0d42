"""Writes the table of kinds in docs/events.md.

python docs/generate_events.py            write it
python docs/generate_events.py --check    say whether it is up to date
"""

from __future__ import annotations

import sys

from table_in_page import main

from hpc.core.events.kinds import KINDS


def rows() -> list[str]:
    """A row for each kind."""
    found = ["| kind | severity | who tells it | what to do |", "|---|---|---|---|"]
    for kind, about in KINDS.items():
        found.append(f"| `{kind}` | {about.severity} | {about.source} | {about.advice} |")
    return found


if __name__ == "__main__":
    sys.exit(main("events.md", "generate_events.py", rows))
