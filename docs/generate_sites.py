"""Writes the table of the shipped profiles in docs/sites.md.

python docs/generate_sites.py            write it
python docs/generate_sites.py --check    say whether it is up to date
"""

from __future__ import annotations

import sys
from pathlib import Path

from table_in_page import main

from hpc import templates
from hpc.settings import sites

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


if __name__ == "__main__":
    sys.exit(main("sites.md", "generate_sites.py", rows))
