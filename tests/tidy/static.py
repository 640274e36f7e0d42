"""Static checks that need the installed shape of the package: types and import rules.

The folders core/, launchers/ and templates/ are parts of the package `hpc`, so tools are pointed at a tree of symlinks
that has this shape. Pointed at the repository itself, mypy finds two files and nothing wrong: so its count is compared
with the tree's.

    python tests/tidy/static.py types|imports
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TREE = ROOT / "build" / "tree"
PARTS = ("core", "launchers", "templates")


def make_tree() -> Path:
    """build/tree/hpc: real folders (some tools follow no links to folders) with links to every module."""
    package = TREE / "hpc"
    shutil.rmtree(TREE, ignore_errors=True)
    for part in ("hpc", *PARTS):
        for source in [*(ROOT / part).rglob("*.py"), *(ROOT / part).rglob("py.typed")]:
            inside = source.relative_to(ROOT / part) if part == "hpc" else source.relative_to(ROOT)
            link = package / inside
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(source)
    return package


def python_files() -> list[Path]:
    """All modules of the package."""
    return sorted(p for part in ("hpc", *PARTS) for p in (ROOT / part).rglob("*.py"))


def types() -> int:
    """mypy over every file of the package."""
    package = make_tree()
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), str(package)]
    env = {**os.environ, "MYPYPATH": str(TREE)}
    result = subprocess.run(command, cwd=ROOT, env=env, text=True, capture_output=True)
    print(result.stdout + result.stderr, end="")
    if result.returncode:
        return result.returncode
    match = re.search(r"in (\d+) source files", result.stdout)
    seen, there = int(match.group(1)) if match else 0, len(python_files())
    if seen < there:
        print(f"mypy looked at {seen} files, but there are {there}: the tree is not what it should be")
        return 1
    return 0


def imports() -> int:
    """import-linter's contracts (pyproject.toml)."""
    make_tree()
    env = {**os.environ, "PYTHONPATH": str(TREE)}
    command = [
        str(Path(sys.executable).with_name("lint-imports")),
        "--no-cache",
        "--config",
        str(ROOT / "pyproject.toml"),
    ]
    return subprocess.run(command, cwd=TREE, env=env).returncode


if __name__ == "__main__":
    checks = {"types": types, "imports": imports}
    if len(sys.argv) != 2 or sys.argv[1] not in checks:
        sys.exit(f"usage: {sys.argv[0]} {'|'.join(checks)}")
    sys.exit(checks[sys.argv[1]]())
