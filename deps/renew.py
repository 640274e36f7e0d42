"""Write deps/constraints.txt anew: the newest versions that pyproject.toml allows, for each Python that hpc runs on.

``make constraints`` runs it. Commit the file when ``.ci/run`` has passed with it.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = ("demo", "test", "dev", "bench", "iceberg", "delta", "lance", "media", "browser", "otlp")
HEAD = """\
# The versions that the commands of the Makefile install: CI has passed with them. `make constraints` writes this file.
"""


def main() -> int:
    """Write the file; returns the exit status of the resolver."""
    project = (ROOT / "pyproject.toml").read_text()
    oldest = re.search(r'requires-python = ">=([0-9.]+)"', project)
    builds = re.search(r"requires = \[(.*)\]", project)
    assert oldest and builds, "pyproject.toml is not as it was"
    command = [
        sys.executable,
        "-m",
        "uv",
        "pip",
        "compile",
        "-q",
        "--universal",
        "--python-version",
        oldest[1],
        "--upgrade",
    ]
    command += ["--no-header", "--no-annotate", *(f"--extra={name}" for name in EXTRAS), "pyproject.toml", "-"]
    needed = "\n".join(re.findall(r'"([^"]+)"', builds[1]))
    found = subprocess.run(command, cwd=ROOT, input=needed, stdout=subprocess.PIPE, text=True)
    if found.returncode == 0:
        (ROOT / "deps" / "constraints.txt").write_text(HEAD + found.stdout)
    return found.returncode


if __name__ == "__main__":
    sys.exit(main())
