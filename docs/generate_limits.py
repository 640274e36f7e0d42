"""Writes the table of the runtime's options in docs/limits.md.

python docs/generate_limits.py            write it
python docs/generate_limits.py --check    say whether it is up to date
"""

from __future__ import annotations

import sys

from table_in_page import main

from hpc.cli.manual import runtime_rows

if __name__ == "__main__":
    sys.exit(main("limits.md", "generate_limits.py", runtime_rows))
