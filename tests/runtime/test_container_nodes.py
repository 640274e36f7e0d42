"""Nodes, workers and the script run inside an image, by a real container runtime (Charliecloud)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import small_image

from hpc.core.runenv.interpreters import sites
from hpc.launch.container import binds, packages
from hpc.settings.options import load

SCRIPT = """
import os, sys
import hpc

hpc.init()

@hpc.remote
class Counter:
    def where(self):
        return os.path.exists("/usr/games"), sys.version.split()[0], sys.executable

print("script", os.path.exists("/usr/games"), sys.version.split()[0], sys.argv[1:], __name__)
print("worker", *hpc.get(Counter.remote().where.remote()))
print("value", len(hpc.get(hpc.put(bytes(10_000_000)))), flush=True)
sys.exit(7)
"""


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    why = small_image.reason_to_skip()
    if why:
        pytest.skip(why)
    folder = tmp_path_factory.mktemp("image") / "image"
    return small_image.make_image(folder, [*binds(load(["--container=x"])), *sites(), *packages()])


def launch(folder: Path, image: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hpc.cli.launch", "--scheduler=local", "-N2", "-c1", f"--container={image}"]
    env = {**os.environ, "HPC_JOB_DIR": str(folder / "jobs")}
    return subprocess.run(
        [*command, "--container-runtime=charliecloud", *words], cwd=folder, env=env, capture_output=True, text=True,
        timeout=90,
    )  # fmt: skip


def test_nodes_workers_and_the_script_are_inside_the_image(tmp_path: Path, image: Path) -> None:
    (tmp_path / "x.py").write_text(SCRIPT)
    done = launch(tmp_path, image, "x.py", "a")
    assert done.returncode == 7, done.stderr
    version = subprocess.run([small_image.PYTHON, "--version"], capture_output=True, text=True).stdout.split()[1]
    assert done.stdout.splitlines() == [
        f"script False {version} ['a'] __main__", f"worker False {version} /usr/bin/python3", "value 10000000",
    ]  # fmt: skip


def test_an_image_that_is_not_there_is_said_to_be(tmp_path: Path, image: Path) -> None:
    (tmp_path / "x.py").write_text(SCRIPT)
    done = launch(tmp_path, Path("/nowhere/image"), "x.py")
    assert done.returncode == 122 and "/nowhere/image" in done.stderr, done.stderr
