"""hpc-launch --runtime on local nodes, with small programs in the place of Ray, torchrun and mpiexec.

They speak as the real ones do; tests/schedulers/test_runtimes_for_real.py has those.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpc.core.node.reap import is_running
from runtime.running import eventually

LAUNCH = ["-m", "hpc.cli.launch", "--scheduler=local", "--cpus-per-task=1", "--mem=200M", "--grace=2"]

RAY = """
    import os, subprocess, sys, time
    words = dict(word.partition("=")[::2] for word in sys.argv[1:])
    assert sys.argv[1] == "start" and "--block" in words, sys.argv
    assert os.path.exists(os.environ["RAY_AUTH_TOKEN_PATH"]) and os.environ["RAY_AUTH_MODE"] == "token"
    part = "head" if "--head" in words else "worker"
    child = subprocess.Popen(["sleep", "300"], start_new_session=True)
    with open(os.environ["FAKE_PIDS"], "a") as file:
        file.write(f"{part} {os.getpid()} {child.pid}\\n")
    if os.environ.get("FAKE_FAILS") == part:
        sys.exit(f"this {part} cannot be: no luck")
    if part == "head":
        print("  ray start --address='192.0.2.7:4711'")
    elif words["--address"] != "192.0.2.7:4711":
        sys.exit("a wrong address")
    print("Ray runtime started.", flush=True)
    while True:
        time.sleep(0.05)
        if os.path.exists(f"{os.environ['FAKE_PIDS']}.end-{part}"):
            sys.exit("it broke")
"""

TORCHRUN = """
    import os, sys
    rank = 0 if "is_host=1" in " ".join(sys.argv) else 1
    print("agent", rank, *[word for word in sys.argv[1:] if "endpoint" not in word and "id=" not in word], flush=True)
    print("torchrun", [name for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR") if name in os.environ], flush=True)
    if "--fails" in sys.argv and rank == 1:
        sys.exit("RuntimeError: it fails on purpose")
"""

MPIEXEC = """
    #!{python}
    import sys, time
    if "--version" in sys.argv:
        print("HYDRA build details:")
        sys.exit()
    out = {folder!r}
    count = len(sys.argv[sys.argv.index("-hosts") + 1].split(","))
    for rank in range(count):
        print("HYDRA_LAUNCH:", "/bin/sh", "-c", f"'echo $PPID > {{out}}/started-{{rank}}; exec sleep 600'")
    print("HYDRA_LAUNCH_END", flush=True)
    while len([rank for rank in range(count) if __import__("os").path.exists(f"{{out}}/started-{{rank}}")]) < count:
        time.sleep(0.02)
    print("all started", *sys.argv[-2:])
    sys.exit(7)
"""


class Desk:
    """A folder with scripts and programs that stand for others' runtimes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = sys.executable
        self.pids_file = folder / "pids"
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("SLURM_")}
        self.env |= {"HPC_JOB_DIR": str(folder / "jobs"), "XDG_CONFIG_HOME": str(folder / "config")}
        self.tmp = Path(tempfile.mkdtemp(prefix="r", dir="/tmp"))  # short: Ray's sockets have long names
        self.env["HPC_TMPDIR"] = str(self.tmp)
        self.env |= {"PYTHONPATH": str(folder / "site"), "FAKE_PIDS": str(self.pids_file)}
        self.module("ray.scripts.scripts", RAY)
        self.script("x.py", """
            import os, stat
            mode = stat.S_IMODE(os.stat(os.environ["RAY_AUTH_TOKEN_PATH"]).st_mode)
            print(os.environ["RAY_ADDRESS"], oct(mode), os.environ["HPC_NUM_NODES"], "HPC_SESSION_DIR" in os.environ)
        """)  # fmt: skip
        self.script("waits.py", "import time\nprint('up', flush=True)\nwhile True: time.sleep(0.05)\n")

    def module(self, name: str, body: str) -> None:
        *packages, last = name.split(".")
        path = self.folder / "site"
        for package in packages:
            path = path / package
            path.mkdir(parents=True, exist_ok=True)
            (path / "__init__.py").touch()
        (path / f"{last}.py").write_text(textwrap.dedent(body))

    def script(self, name: str, body: str) -> None:
        (self.folder / name).write_text(textwrap.dedent(body))

    def run(self, *argv: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.python, *LAUNCH, *argv], cwd=self.folder, env={**self.env, **env}, capture_output=True, text=True,
            timeout=60, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def start(self, *argv: str) -> subprocess.Popen[str]:
        """Until the script is up."""
        process = subprocess.Popen(
            [self.python, *LAUNCH, *argv], cwd=self.folder, env=self.env, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        return process

    def pids(self) -> list[int]:
        lines = self.pids_file.read_text().splitlines() if self.pids_file.exists() else []
        return [int(word) for line in lines for word in line.split()[1:]]

    def nothing_left(self) -> None:
        eventually(lambda: not any(is_running(pid) for pid in self.pids()))
        eventually(lambda: not list(self.tmp.glob("*")))


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    for pid in made.pids():
        if is_running(pid):
            os.kill(pid, signal.SIGKILL)
    shutil.rmtree(made.tmp)


def test_the_script_finds_the_cluster_and_nothing_is_left(desk: Desk) -> None:
    done = desk.run("-N2", "--runtime=ray", "x.py")
    assert (done.returncode, done.stdout) == (0, "192.0.2.7:4711 0o600 2 False\n"), done.stderr
    assert [line.split()[0] for line in desk.pids_file.read_text().splitlines()] == ["head", "worker"]
    desk.nothing_left()
    assert not list(desk.folder.glob("jobs/*/keys"))


@pytest.mark.parametrize(("part", "shown"), [("head", "node 1"), ("worker", "node 2")])
def test_a_node_where_the_runtime_does_not_start_is_named_with_its_last_words(
    desk: Desk, part: str, shown: str
) -> None:
    done = desk.run("-N2", "--runtime=ray", "x.py", FAKE_FAILS=part)
    assert done.returncode == 122 and done.stdout == ""
    assert "error[RUNTIME]: Ray did not start" in done.stderr and f"{shown} (" in done.stderr
    assert f"this {part} cannot be: no luck" in done.stderr
    assert ("--min-nodes=1" in done.stderr) == (part == "worker")
    desk.nothing_left()


def test_it_goes_on_with_the_nodes_that_came_where_that_is_enough(desk: Desk) -> None:
    done = desk.run("-N2", "--min-nodes=1", "--runtime=ray", "x.py", FAKE_FAILS="worker")
    assert done.returncode == 0 and done.stdout.startswith("192.0.2.7:4711")
    assert "hpc: Ray goes on without node 2" in done.stderr
    desk.nothing_left()


def test_the_end_of_its_head_is_the_end_of_the_script(desk: Desk) -> None:
    process = desk.start("-N2", "--runtime=ray", "waits.py")
    Path(f"{desk.pids_file}.end-head").touch()
    _, err = process.communicate(timeout=30)
    assert process.returncode == 123 and "Ray has ended on node 1" in err and "it broke" in err
    desk.nothing_left()


def test_the_end_of_another_node_is_told_and_the_script_goes_on(desk: Desk) -> None:
    desk.script("one.py", """
        import os, time
        print("up", flush=True)
        while not os.path.exists("told"):
            time.sleep(0.02)
        print("went on")
    """)  # fmt: skip
    process = desk.start("-N2", "--runtime=ray", "one.py")
    assert process.stderr is not None
    Path(f"{desk.pids_file}.end-worker").touch()
    while "hpc: Ray has ended on node 2" not in process.stderr.readline():
        assert process.poll() is None
    assert "it broke" in "".join(process.stderr.readline() for _ in range(2))
    (desk.folder / "told").touch()
    assert process.communicate(timeout=60)[0] == "went on\n" and process.returncode == 0
    desk.nothing_left()


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_however_the_launch_is_ended(desk: Desk, signum: int) -> None:
    process = desk.start("-N2", "--runtime=ray", "waits.py")
    assert len(desk.pids()) == 4
    process.send_signal(signum)
    process.communicate(timeout=30)
    assert process.returncode == (143 if signum == signal.SIGTERM else -signal.SIGKILL)
    desk.nothing_left()


def test_a_runtime_that_is_not_installed_is_an_error_before_anything_starts(desk: Desk) -> None:
    done = desk.run("-N2", "--runtime=ray", "x.py", PYTHONPATH="")
    assert done.returncode == 2 and "error[NO-RUNTIME]: Ray is not in this Python" in done.stderr
    assert "-m pip install ray" in done.stderr and not desk.pids_file.exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--runtime=ray", "--ranks-per-node=2"], "--runtime torchrun, or mpi"),
        (["--runtime=ray", "--nodes=1-2"], "--nodes=2 --min-nodes=1"),
        (["--runtime-arg=--x"], "--runtime-arg is for another --runtime"),
        (["--runtime=spark"], "there are: hpc, ray, dask, torchrun, mpi"),
    ],
)
def test_options_that_mean_nothing_together_are_refused(desk: Desk, words: list[str], said: str) -> None:
    done = desk.run(*words, "x.py")
    assert done.returncode == 2 and said in done.stderr


@pytest.fixture
def torchrun(desk: Desk) -> Desk:
    desk.module("torch.distributed.run", TORCHRUN)
    return desk


def test_torchrun_has_an_agent_on_each_node_and_no_ranks_of_ours(torchrun: Desk) -> None:
    done = torchrun.run("-N2", "--runtime=torchrun", "--ranks-per-node=3", "--runtime-arg=--tee=3", "x.py", "-a")
    assert done.returncode == 0, done.stderr
    lines = sorted(done.stdout.splitlines())
    assert [line.split()[:2] for line in lines[:2]] == [["agent", "0"], ["agent", "1"]]
    for line in lines[:2]:
        assert line.endswith("--tee=3 x.py -a") and "--nnodes=2 --nproc-per-node=3" in line
        assert "--local-addr=127.0.0.1" in line
    assert lines[2:] == ["torchrun []"] * 2


def test_the_words_of_the_agent_that_failed_first_come_last(torchrun: Desk) -> None:
    done = torchrun.run("-N2", "--runtime=torchrun", "x.py", "--fails")
    assert done.returncode == 1
    assert "rank 1 on node 2" in done.stderr and "| RuntimeError: it fails on purpose" in done.stderr


@pytest.fixture
def mpiexec(desk: Desk) -> Desk:
    """With an mpiexec beside a Python that is this one by another name."""
    path = desk.folder / "bin" / "mpiexec.hydra"
    path.parent.mkdir()
    path.write_text(textwrap.dedent(MPIEXEC).strip().format(python=sys.executable, folder=str(desk.folder)))
    path.chmod(0o755)
    desk.python = str(path.with_name("python"))
    os.symlink(sys.executable, desk.python)
    for name in ("pyvenv.cfg", "lib"):
        if (Path(sys.prefix) / name).exists():
            os.symlink(Path(sys.prefix) / name, desk.folder / name)
    return desk


def test_mpiexec_has_its_processes_started_by_the_supervisors(mpiexec: Desk) -> None:
    done = mpiexec.run("-N3", "--runtime=mpi", "x.py", "-a")
    assert (done.returncode, done.stdout) == (7, "all started x.py -a\n"), done.stderr
    supervisors = {(mpiexec.folder / f"started-{rank}").read_text() for rank in range(3)}
    assert len(supervisors) == 3
    eventually(lambda: not any(is_running(int(pid)) for pid in supervisors))
