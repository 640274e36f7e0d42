"""`python -m hpc` is the same as `hpc`."""

import sys

from hpc.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
