"""Each container runtime's command line, word by word, as its documentation has it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hpc.launch.container import binds, enclose, outside, script_command
from hpc.launchers.containers import RUNTIMES, Enclosed, Inside, guarded, prelude
from hpc.launchers.node_group import HERE, node_command
from hpc.launchers.registry import find_place
from hpc.launchers.scheduler import Allocation
from hpc.launchers.slurm.group import SlurmGroup
from hpc.settings.errors import CliError
from hpc.settings.options import load

WANTED = Inside("i.sif", ("/dev/shm", "/home/u", "/tmp"), "/home/u/w", "nvidia", ("A", "B"))


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("apptainer", "apptainer exec --bind /dev/shm,/home/u,/tmp --pwd /home/u/w --nv i.sif"),
        ("singularity", "singularity exec --bind /dev/shm,/home/u,/tmp --pwd /home/u/w --nv i.sif"),
        ("shifter", "shifter --image=i.sif --volume=/home/u:/home/u --workdir=/home/u/w --module=gpu"),
        ("podman-hpc", "podman-hpc run --rm --network=host --ipc=host --pid=host --env-host --volume=/dev/shm:/dev/shm "
                       "--volume=/home/u:/home/u --volume=/tmp:/tmp --workdir=/home/u/w --gpu i.sif"),
        ("enroot", "enroot start --rw --mount=/dev/shm:/dev/shm --mount=/home/u:/home/u --mount=/tmp:/tmp --env=A "
                   "--env=B i.sif"),
        ("charliecloud", "ch-run --private-tmp --bind /tmp:/tmp --bind /home/u:/home/u --cd /home/u/w i.sif --"),
    ],
)  # fmt: skip
def test_words_ahead_of_the_program(name: str, line: str) -> None:
    made = RUNTIMES[name](WANTED)
    assert " ".join(made.wrap) == line and made.step == () and made.program == made.wrap[0]


def test_pyxis_is_asked_for_by_options_of_the_step() -> None:
    assert RUNTIMES["pyxis"](WANTED) == Enclosed(step=(
        "--container-image=i.sif", "--container-mounts=/dev/shm:/dev/shm,/home/u:/home/u,/tmp:/tmp",
        "--container-workdir=/home/u/w", "--no-container-entrypoint",
    ))  # fmt: skip


def test_gpus_of_amd_and_none_at_all() -> None:
    assert "--rocm" in RUNTIMES["apptainer"](Inside("i", gpus="amd")).wrap
    assert RUNTIMES["apptainer"](Inside("i")).wrap == ("apptainer", "exec", "i")


def test_a_runtime_that_is_not_there_says_what_to_do() -> None:
    done = subprocess.run([*guarded(["nosuchtainer", "exec"]), "x"], capture_output=True, text=True, timeout=20)
    assert done.returncode == 127
    assert (
        "there is no nosuchtainer on" in done.stderr
        and "--module=" in done.stderr
        and "--container-runtime" in done.stderr
    )


def test_the_images_python_must_be_of_the_same_version_and_has_its_own_packages_first(tmp_path: Path) -> None:
    (tmp_path / "mine.py").touch()
    here = sys.version_info[:2]
    code = prelude(here, [str(tmp_path)]) + "import mine; print(sys.path[-1])"
    said = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, timeout=20)
    assert said.stdout.strip() == str(tmp_path), said.stderr
    other = subprocess.run(
        [sys.executable, "-c", prelude((here[0], here[1] - 1), [])], capture_output=True, text=True, timeout=20
    )
    assert other.returncode == 1 and "they must be the same" in other.stderr


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("HPC_TMPDIR", "HPC_JOB_DIR", "TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "x.py").touch()
    return tmp_path


def test_what_nodes_need_is_seen_inside_and_no_folder_twice(folder: Path) -> None:
    more = folder.parent / "data"
    more.mkdir(exist_ok=True)
    (folder / "jobs").mkdir()
    found = binds(load([f"--container-bind={more}", f"--job-dir={folder}/jobs", "--container=i", "x.py"]))
    for path in (more, folder, folder / "jobs", "/dev/shm", "/tmp", os.path.dirname(os.path.dirname(__file__))):
        assert any(Path(path).is_relative_to(bound) for bound in found), path
    assert not any(a != b and Path(a).is_relative_to(b) for a in found for b in found)
    assert not any(path.endswith("lib-dynload") for path in found)  # the image's Python has its own


def test_the_folder_of_the_launchers_own_program_is_not_seen_inside(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = folder.parent / "programs"
    programs.mkdir(exist_ok=True)
    monkeypatch.setattr(sys, "argv", [str(programs / "hpc-launch")])
    monkeypatch.setattr(sys, "path", [str(programs), *sys.path])
    assert (
        str(programs) not in binds(load(["--container=i", "--tmpdir=/dev/shm", "x.py"]))
        and str(programs) not in outside()
    )


def test_nodes_and_script_go_in_by_the_same_way(folder: Path) -> None:
    settings = load(["--container=i.sif", "--container-runtime=apptainer", "--scheduler=local", "x.py", "a"])
    around = enclose(settings, find_place(wanted="local"))
    assert around is not None and not around.usual and HERE.usual
    command = node_command(around)
    way = list(around.wrap)
    assert way[3:5] == ["apptainer", "exec"] and command[: len(way)] == way
    assert command[len(way) : len(way) + 2] == ["python3", "-c"] and "site.addsitedir" in command[len(way) + 2]
    assert script_command(around, [sys.executable, "x.py", "a"], module=False)[-2:] == ["x.py", "a"]
    assert script_command(around, [sys.executable, "-m", "x", "a"], module=True)[-2:] == ["x", "a"]
    assert script_command(around, ["/bin/tool", "a"], module=False) == ["/bin/tool", "a"]


def test_a_step_has_the_options_ahead_of_the_users(folder: Path) -> None:
    settings = load(["--container=i.sif", "--container-runtime=pyxis", "x.py"])
    around = enclose(settings, find_place({"SLURM_JOB_ID": "1", "SLURM_JOB_NODELIST": "n1"}, "slurm"))
    group = SlurmGroup(Allocation("1", ("n1",), "n1"), around=around, step_args=["--mine"], env={})
    argv = group._sruns[0].argv
    assert argv.index("--container-image=i.sif") < argv.index("--mine") < argv.index("python3")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--container=i", "--stage"], "do not go together"),
        (["--container=i", "--container-runtime=pyxis"], "an option of the command that starts the nodes"),
        (["--container=i"], "no container runtime was named"),
    ],
)
def test_what_cannot_be_is_refused(folder: Path, words: list[str], why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(CliError, match=why):
        enclose(load([*words, "x.py"]), find_place(wanted="local"))


def test_an_unknown_runtime_is_named_with_those_there_are(folder: Path) -> None:
    with pytest.raises(CliError, match=r"no such container runtime: 'docker'.*apptainer"):
        load(["--container=i", "--container-runtime=docker", "x.py"])
