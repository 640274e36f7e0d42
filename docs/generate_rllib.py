"""Writes the table of RLlib's names in docs/rllib.md.

python docs/generate_rllib.py            write it
python docs/generate_rllib.py --check    say whether it is up to date

The names are those that tests/compat/rllib_names.py has recorded, the remarks those of ray_rllib_names.py. Whether a
name is here is found out by importing it.
"""

from __future__ import annotations

import importlib.util
import sys

from names_table import rows_of
from table_in_page import main

from compat.library_names import LibraryNames
from compat.rllib_names import MODULES

MAIN_CLASS = "ray.rllib.algorithms.algorithm.Algorithm"

if __name__ == "__main__":
    missing = [name for name in ("torch", "gymnasium") if importlib.util.find_spec(name) is None]
    if missing:
        print(f"rllib.md is left as it is: {' and '.join(missing)} would be needed", file=sys.stderr)
        sys.exit(0)
    sys.exit(main("rllib.md", "generate_rllib.py", lambda: rows_of(LibraryNames("rllib"), MODULES, MAIN_CLASS)))
