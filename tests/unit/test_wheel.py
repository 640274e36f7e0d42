"""The built wheel: one package, everything in it, nothing of a general name at the top."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from deps.install import holding_to

ROOT = Path(__file__).resolve().parents[2]
SUFFIXES = {".py", ".typed", ".sbatch", ".toml", ".md", ".html", ".css", ".js", ".svg"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), str(ROOT)]
    settings = folder / "setup.cfg"
    # What is made on the way does not lie in the repository's folder.
    settings.write_text(f"[build]\nbuild_base = {folder / 'build'}\n[egg_info]\negg_base = {folder}\n")
    env = {**os.environ, **holding_to(ROOT / "deps" / "constraints.txt"), "DIST_EXTRA_CONFIG": str(settings)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=env)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        if "No matching distribution" in done.stderr or "Could not find a version" in done.stderr:
            pytest.skip(f"no package index to build with: {last}")
        pytest.fail(last)
    return next(folder.glob("*.whl"))


def test_it_is_pure_python(wheel):
    assert wheel.name.endswith("-py3-none-any.whl")


def test_only_hpc_is_at_the_top(wheel):
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"hpc"}


def test_every_module_and_data_file_is_in_it(wheel):
    inside = set(zipfile.ZipFile(wheel).namelist())
    for part in ("hpc", "core", "launchers", "templates"):
        for path in (ROOT / part).rglob("*"):
            if path.suffix in SUFFIXES and "__pycache__" not in path.parts:
                relative = path.relative_to(ROOT).as_posix()
                expected = relative if part == "hpc" else f"hpc/{relative}"
                assert expected in inside, f"{relative} is missing"


def test_a_users_own_modules_of_the_same_names_do_no_harm(wheel, tmp_path):
    """A core.py, launchers.py or head.py beside the script is the script's; ours is found all the same."""
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    for name in ("core", "launchers", "templates", "head", "worker", "session"):
        (tmp_path / f"{name}.py").write_text(f"raise RuntimeError('the user\\'s {name}.py was imported')")
    script = tmp_path / "script.py"
    script.write_text(
        "import hpc\nhpc.init(num_cpus=1, address='local')\nprint(hpc.get(hpc.remote(lambda: hpc.__file__).remote()))\n"
    )
    env = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run([sys.executable, str(script)], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().startswith(str(site))
