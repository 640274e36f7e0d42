"""Writes the table of the runtime's metrics in docs/metrics.md.

python docs/generate_metrics.py            write it
python docs/generate_metrics.py --check    say whether it is up to date
"""

from __future__ import annotations

import sys

from table_in_page import main

from hpc.core.metrics.table import TABLE


def rows() -> list[str]:
    """A row for each metric."""
    found = ["| metric | kind | unit | labels | what |", "|---|---|---|---|---|"]
    for metric in TABLE:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        found.append(f"| `{metric.name}` | {metric.kind} | {metric.unit} | {labels} | {metric.text} |")
    return found


if __name__ == "__main__":
    sys.exit(main("metrics.md", "generate_metrics.py", rows))
