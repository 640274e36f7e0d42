"""Job scripts that are shipped: listed, printed, and the notebook's server with what it says. Real schedulers run the
scripts in tests/schedulers."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import stat
import subprocess
import sys
import textwrap
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hpc import templates
from hpc.templates import notebook


def hpc(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hpc", "template", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_they_are_listed_and_printed_by_name() -> None:
    listed = hpc()
    assert "hpc template slurm train\n" in listed.stdout and listed.returncode == 0
    for line in listed.stdout.splitlines():
        _, _, scheduler, name = line.split()
        assert hpc(scheduler, name).stdout in {
            templates.read_script(scheduler, f) for f in templates.scripts(scheduler)
        }
    assert "there are some for: " in hpc("sge").stderr and hpc("sge").returncode == 2
    assert "there are: array" in hpc("slurm", "nothing").stderr


@pytest.mark.parametrize("name", [name for name in templates.scripts("slurm") if name.endswith(".sbatch")])
def test_a_job_script_ends_in_our_command_and_is_sound(name: str) -> None:
    text = templates.read_script("slurm", name)
    last = text.strip().splitlines()[-1]
    assert last.startswith("exec hpc-launch "), "exec: the scheduler's signals must reach hpc-launch"
    assert subprocess.run(["bash", "-n"], input=text, text=True, timeout=20, check=False).returncode == 0
    assert re.search(r"^#SBATCH --time=", text, re.MULTILINE) and "--ntasks-per-node=1" in text


OTHERS = [(scheduler, name) for scheduler in ("pbs", "yarn") for name in templates.scripts(scheduler)]


@pytest.mark.parametrize(("scheduler", "name"), [each for each in OTHERS if not each[1].endswith(".md")])
def test_those_of_other_schedulers_are_sound_too(scheduler: str, name: str) -> None:
    text = templates.read_script(scheduler, name)
    command = text.replace("\\\n", " ").strip().splitlines()[-1]
    assert command.startswith("exec hpc-launch "), "exec: the scheduler's signals must reach hpc-launch"
    assert subprocess.run(["bash", "-n"], input=text, text=True, timeout=20, check=False).returncode == 0
    assert "--time=" in command if scheduler == "yarn" else re.search(r"^#PBS -l walltime=", text, re.MULTILINE)


# ---------------------------------------------------------------- the notebook


@contextmanager
def server(folder: Path, *paths: Path) -> Iterator[subprocess.Popen[str]]:
    """The notebook's process, ended with the block."""
    env = {**os.environ, "HPC_NOTEBOOK_DIR": str(folder), "SLURM_SUBMIT_HOST": "login7"}
    env["PYTHONPATH"] = os.pathsep.join([*map(str, paths), env.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "hpc.templates.notebook"]
    with subprocess.Popen(
        command, env=env, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as it:
        try:
            yield it
        finally:
            it.kill()


def said(process: subprocess.Popen[str]) -> tuple[str, Path]:
    """What it says until it names the file with the address, and that file."""
    assert process.stdout is not None
    text = ""
    for line in process.stdout:
        text += line
        found = re.search(r"and open the address in (.*)", line)
        if found:
            return text, Path(found[1])
    raise AssertionError(f"it ended: {text}")


#: Says of itself what a Jupyter server says, and nothing else.
STAND_IN = """
    import json, os, pathlib, signal
    path = pathlib.Path(os.environ["JUPYTER_RUNTIME_DIR"], f"jpserver-{os.getpid()}.json")
    path.write_text(json.dumps({"port": 4711, "token": os.environ["JUPYTER_TOKEN"]}))
    signal.pause()
"""


def test_the_address_is_for_the_user_alone_and_goes_with_the_server(tmp_path: Path) -> None:
    package = tmp_path / "path" / "jupyterlab"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text(textwrap.dedent(STAND_IN))
    before = set(Path(os.environ.get("TMPDIR", "/tmp")).glob("hpc-notebook-*"))
    with server(tmp_path, package.parent) as process:
        text, address = said(process)
        assert f"ssh -N -L 8888:127.0.0.1:4711 -J {notebook.getpass.getuser()}@login7" in text
        assert stat.S_IMODE(address.stat().st_mode) == 0o600
        token = address.read_text().strip().rpartition("token=")[2]
        assert len(token) > 30 and token not in text
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert not address.exists()
    assert set(Path(os.environ.get("TMPDIR", "/tmp")).glob("hpc-notebook-*")) == before


def test_without_jupyterlab_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RuntimeError, match="pip install jupyterlab"):
        notebook.start([], tmp_path)


@pytest.mark.skipif(importlib.util.find_spec("jupyterlab") is None, reason="jupyterlab is not installed")
def test_a_real_server_answers_whoever_has_the_token(tmp_path: Path) -> None:
    with server(tmp_path) as process:
        text, address = said(process)
        port = int(re.search(r"8888:127.0.0.1:(\d+)", text)[1])  # type: ignore[index]
        token = address.read_text().strip().rpartition("token=")[2]
        assert token not in text
        url = f"http://127.0.0.1:{port}/api/kernels"
        with urllib.request.urlopen(f"{url}?token={token}", timeout=20) as answer:
            assert json.loads(answer.read()) == []
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(url, timeout=20)
        assert refused.value.code == 403
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
