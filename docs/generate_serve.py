"""Writes the table of Ray Serve's names in docs/serve.md.

python docs/generate_serve.py            write it
python docs/generate_serve.py --check    say whether it is up to date

The names are those that tests/compat/serve_names.py has recorded, the remarks those of ray_serve_names.py. Whether a
name is here is found out by importing it.
"""

from __future__ import annotations

import sys

from names_table import rows_of
from table_in_page import main

from compat.serve_names import MODULES
from compat.test_serve_names import NAMES

if __name__ == "__main__":
    sys.exit(
        main("serve.md", "generate_serve.py", lambda: rows_of(NAMES, MODULES, "ray.serve.handle.DeploymentHandle"))
    )
