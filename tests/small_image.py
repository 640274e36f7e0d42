"""A small image for containers: a folder with the system's own Python, a shell, and what these need."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

VERSION = f"3.{sys.version_info[1]}"
PYTHON = f"/usr/bin/python{VERSION}"
#: Libraries that packages' compiled parts want, beside those that the programs want.
LIBRARIES = (
    "libpthread.so.0",
    "libdl.so.2",
    "librt.so.1",
    "libutil.so.1",
    "libm.so.6",
    "libstdc++.so.6",
    "libgcc_s.so.1",
)


def reason_to_skip() -> str:
    """Why there can be no container here, "" where there can."""
    if shutil.which("ch-run") is None:
        return "Charliecloud (ch-run) is not installed"
    if not os.path.exists(PYTHON):
        return f"the system has no {PYTHON}"
    done = subprocess.run(["unshare", "--user", "--mount", "true"], capture_output=True, text=True, timeout=20)
    return f"there are no user namespaces here: {done.stderr.strip()}" if done.returncode else ""


def make_image(folder: Path, mounts: list[str]) -> Path:
    """Make it there. mounts: folders of the machine that are to be seen inside: they need a place."""
    for name in ("usr/bin", "usr/lib", "dev", "proc", "sys", "tmp", "etc", "root", "home", "var/tmp"):
        (folder / name).mkdir(parents=True)
    for name in ("bin", "lib", "lib64"):
        (folder / name).symlink_to(f"usr/{name}")
    for name in ("passwd", "group", "hosts", "resolv.conf"):
        (folder / "etc" / name).touch()
    library = f"/usr/lib/python{VERSION}"
    skipped = shutil.ignore_patterns("test", "idlelib", "ensurepip", "config-*", "*.a")
    shutil.copytree(library, f"{folder}{library}", ignore=skipped)
    programs = [PYTHON, "/bin/sh", "/bin/bash", "/bin/cat"]
    parts = [*programs, *(str(path) for path in Path(library, "lib-dynload").glob("*.so"))]
    for path in {*programs, *(found for part in parts for found in libraries(part)), *common()}:
        target = Path(f"{folder}{path if path.startswith('/usr') else '/usr' + path}")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(os.path.realpath(path), target)
    (folder / "usr" / "bin" / "python3").symlink_to(f"python{VERSION}")
    for mount in mounts:
        Path(f"{folder}{mount}").mkdir(parents=True, exist_ok=True)
    return folder


def libraries(path: str) -> list[str]:
    out = subprocess.run(["ldd", path], capture_output=True, text=True, timeout=20).stdout
    return re.findall(r"(/\S+) \(0x", out)


def common() -> list[str]:
    folder = next(Path("/lib").glob("*-linux-gnu"))
    return [str(folder / name) for name in LIBRARIES if (folder / name).exists()]
