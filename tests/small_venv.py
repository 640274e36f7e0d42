"""A small virtual environment with this package and what it needs, as if installed there: to be packed and moved."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NEEDED = ("msgspec", "pyzmq", "cloudpickle", "numpy")


def make_venv(folder: Path, more: tuple[str, ...] = ()) -> Path:
    """Make it there; returns the path of its Python. more: further distributions of this Python's."""
    base = Path(sys.base_prefix, "bin", f"python3.{sys.version_info[1]}")
    subprocess.run([base, "-m", "venv", "--without-pip", folder], check=True, timeout=60)
    (site,) = (folder / "lib").glob("python3.*/site-packages")
    for name in (*NEEDED, *more):
        for file in importlib.metadata.files(name) or []:
            source = Path(str(file.locate()))
            if ".." not in file.parts and source.is_file():
                target = site / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target)
    for source, target in (("hpc", "hpc"), ("core", "hpc/core"), ("launchers", "hpc/launchers"),
                           ("templates", "hpc/templates")):  # fmt: skip
        shutil.copytree(ROOT / source, site / target, dirs_exist_ok=True)
    script = folder / "bin" / "hpc-launch"
    script.write_text(f"#!{folder}/bin/python\nimport sys\nfrom hpc.cli.launch import main\nsys.exit(main())\n")
    script.chmod(0o755)
    return folder / "bin" / "python"
