"""Writes the table of the shipped profiles in docs/sites.md.

python docs/generate_sites.py            write it
python docs/generate_sites.py --check    say whether it is up to date
"""

from __future__ import annotations

import sys
from pathlib import Path

from hpc import templates
from hpc.settings import sites

TARGET = Path(__file__).with_name("sites.md")
BEGIN, END = "<!-- begin: written by docs/generate_sites.py -->", "<!-- end -->"
NOWHERE = Path("/nonexistent")


def rows() -> list[str]:
    """The table: a row for each machine."""
    lines = ["| profile | machine | scheduler | kinds | found by | queues |", "|---|---|---|---|---|---|"]
    for name in templates.sites():
        site = sites.read(NOWHERE, name)
        signs = ", ".join(f"`{sign}`" for sign in site.detect)
        kinds = ", ".join(site.kinds)
        lines.append(f"| {name} | {site.title} | {site.scheduler} | {kinds} | {signs} | {site.facts['queues']} |")
    return lines


def page(old: str) -> str:
    """docs/sites.md with the table as it is now."""
    before, _, rest = old.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise SystemExit(f"docs/sites.md has no place for the table: {BEGIN} ... {END}")
    return "\n".join([before + BEGIN, "", *rows(), "", END]) + after


def main() -> int:
    old = TARGET.read_text()
    new = page(old)
    if "--check" in sys.argv:
        return int(old != new)
    TARGET.write_text(new)
    return 0


if __name__ == "__main__":
    sys.exit(main())
