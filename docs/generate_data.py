"""Writes the table of Ray Data's names in docs/data.md.

python docs/generate_data.py            write it
python docs/generate_data.py --check    say whether it is up to date

The names are those that tests/compat/data_names.py has recorded, the remarks those of ray_data_names.py. Whether a name
is here is found out by importing it.
"""

from __future__ import annotations

import sys

from names_table import rows_of
from table_in_page import main

from compat.data_names import MODULES
from compat.test_data_names import NAMES

if __name__ == "__main__":
    sys.exit(main("data.md", "generate_data.py", lambda: rows_of(NAMES, MODULES, "ray.data.Dataset")))
