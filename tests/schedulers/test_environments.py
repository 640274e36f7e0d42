"""What the processes of a job find around them on a real Slurm: modules, an environment on each disk, an image."""

from __future__ import annotations

import ctypes
import os
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import slurm_bed
import small_image
from desk import SlurmDesk
from netbed import process_name, wait_for

from hpc.core.runenv.interpreters import sites
from hpc.launch.container import binds, packages
from hpc.launchers.staging import pack
from hpc.settings.options import load

pytestmark = pytest.mark.scheduler


@pytest.mark.skipif(not Path("/etc/profile.d/modules.sh").exists(), reason="Environment Modules are not installed")
def test_modules_reach_the_script_and_the_nodes_and_one_that_is_not_there_ends_the_job(desk: SlurmDesk) -> None:
    files = desk.folder / "files"
    files.mkdir()
    for name in ("tool", "more"):
        (files / name).write_text(f"#%Module1.0\nsetenv {name.upper()} {name}\nprepend-path ORDER {name}\n")
    desk.script("env.py", """
        import os
        import hpc
        hpc.init()
        @hpc.remote(scheduling_strategy="SPREAD", num_cpus=2)
        def seen():
            return os.environ["TOOL"], os.environ["ORDER"]
        print(os.environ["MORE"], set(hpc.get([seen.remote() for _ in range(2)])))
    """)  # fmt: skip
    env = {"MODULEPATH": str(files)}
    done = desk.launch("-N2", "-c2", "-t5", "--module=tool", "--module=more", "env.py", env=env)
    assert done.stdout == "more {('tool', 'more:tool')}\n", done.stderr
    inside = desk.salloc(1, "hpc-launch", "-Q", "--module=tool", "--module=more", "env.py", env=env)
    assert inside.stdout == done.stdout, inside.stderr
    for refused in (
        desk.launch("-N2", "-t5", "--module=tolo", "env.py", env=env),
        desk.salloc(1, "hpc-launch", "--module=tolo", "env.py", env=env),
    ):
        said = refused.stdout + refused.stderr
        assert "error[SETUP]" in said and "Unable to locate a modulefile for 'tolo'" in said, said
        assert "more {" not in refused.stdout and refused.returncode == 125


# ---------------------------------------------------------------- inside of an image


def test_nodes_of_a_job_run_inside_an_image(desk: SlurmDesk) -> None:
    why = small_image.reason_to_skip()
    if why:
        pytest.skip(why)
    shared = desk.bed.scratch / "work"
    image = small_image.make_image(
        desk.folder / "image", [*binds(load(["--container=x"])), *sites(), *packages(), str(shared)]
    )
    desk.script("inside.py", """
        import os, socket
        import hpc
        hpc.init()
        @hpc.remote(scheduling_strategy="SPREAD", num_cpus=2)
        def seen():
            return socket.gethostname(), os.path.exists("/usr/games")
        print(os.path.exists("/usr/games"), sorted({hpc.get(seen.remote()) for _ in range(8)}))
    """)  # fmt: skip
    words = ["-N2", "-c2", "-t5", f"--container={image}", "inside.py"]
    done = desk.launch("--container-runtime=charliecloud", *words)
    nodes = desk.bed.hosts[:2]
    assert done.stdout == f"False {[(host, False) for host in nodes]}\n", done.stderr + done.stdout
    missing = desk.launch("--container-runtime=enroot", *words)
    assert missing.returncode == 122 and f"there is no enroot on {nodes[0]}" in missing.stdout, missing.stdout


# ---------------------------------------------------------------- on the nodes' own disks


@dataclass
class StageDesk:
    """A desk with a virtual environment that its jobs take along."""

    desk: SlurmDesk
    venv: Path
    module: Path  # one of its files, which jobs import
    archive: Path
    local: str  # the folder that each node has for itself

    def launch(self, *words: str, stage_dir: str = "") -> tuple[int, str]:
        """A submitted job from the environment: its exit code, and what it said."""
        command = [
            str(self.venv / "bin" / "hpc-launch"),
            "-c2",
            "-t5",
            "--stage",
            f"--stage-dir={stage_dir or self.local}",
        ]
        done = self.desk.run(*command, *words, timeout_s=120, env=self.env)
        return done.returncode, done.stdout + done.stderr

    @property
    def env(self) -> dict[str, str]:
        return {"VIRTUAL_ENV": str(self.venv), "PATH": f"{self.venv}/bin:{self.desk.bed.env['PATH']}"}

    def on_disks(self) -> dict[str, list[str]]:
        """What is on each node's disk, as its slurmd sees it."""
        found = {}
        for host in self.desk.bed.hosts:
            daemon = next(pid for pid in self.desk.bed.pids(host) if process_name(pid) == "slurmd")
            found[host] = os.listdir(f"/proc/{daemon}/root{self.local}")
        return {host: names for host, names in found.items() if names}

    def nothing_stays(self) -> None:
        wait_for("the disks to be empty", lambda: self.on_disks() == {}, 90.0, 0.2)


SHOWS = """
    import os, signal, socket, sys, time
    import hpc
    import staged_module
    hpc.init()
    @hpc.remote(num_cpus=2)
    def seen(barrier):
        import staged_module
        open(f"{barrier}-{socket.gethostname()}", "w").close()
        end = time.monotonic() + 20
        while len([n for n in os.listdir(".") if n.startswith(barrier)]) < N and time.monotonic() < end:
            time.sleep(0.02)
        return socket.gethostname(), sys.executable, staged_module.__file__, os.__file__
    N = int(sys.argv[1])
    print("driver", sys.executable, os.environ.get("VIRTUAL_ENV"))
    for row in sorted(hpc.get([seen.remote(sys.argv[2]) for _ in range(N)])):
        print("node", *row, flush=True)
    if sys.argv[3:] == ["die"]:
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)
    if sys.argv[3:] == ["wait"]:
        print("waits", flush=True)
        time.sleep(300)
"""


@pytest.fixture(scope="module")
def stage_desk() -> Iterator[StageDesk]:
    """Four nodes, each with a disk of its own."""
    from small_venv import make_venv

    why = slurm_bed.reason_to_skip()
    if why:
        pytest.skip(why)
    with slurm_bed.SlurmBed(nodes=4, unshared=("local",), prefix="stg") as bed:
        desk = SlurmDesk.at(bed, "stage")
        venv = desk.folder / "venv"
        make_venv(venv)
        (site,) = (venv / "lib").glob("python3.*/site-packages")
        (site / "staged_module.py").write_text("x = 1\n")
        desk.script("shows.py", SHOWS)
        archive = pack.pack([str(venv)], desk.jobs).path
        yield StageDesk(desk, venv, site / "staged_module.py", archive, str(bed.scratch / "local"))


class Opens:
    """Counts how often files are opened, by any process of this machine, on whatever node of the bed."""

    def __init__(self, *paths: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self.fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        self.names = {libc.inotify_add_watch(self.fd, os.fsencode(path), 0x20): path.name for path in paths}
        assert -1 not in self.names

    def count(self) -> dict[str, int]:
        found: Counter[str] = Counter(dict.fromkeys(self.names.values(), 0))
        event = struct.Struct("iIII")
        try:
            while data := os.read(self.fd, 1 << 16):
                at = 0
                while at < len(data):
                    watch, _mask, _cookie, length = event.unpack_from(data, at)
                    at += event.size + length
                    found[self.names[watch]] += 1
        except BlockingIOError:
            pass
        os.close(self.fd)
        return dict(found)


def check_shown(stage: StageDesk, out: str, hosts: list[str]) -> None:
    rows = [line.split()[1:] for line in out.splitlines() if line.startswith("node ")]
    assert [row[0] for row in rows] == hosts, out
    driver = next(line.split() for line in out.splitlines() if line.startswith("driver"))
    for path in (*driver[1:2], *(path for row in rows for path in row[1:])):
        assert path.startswith(f"{stage.local}/hpc-") and ".stage/" in path, out


def test_every_node_imports_from_its_own_disk_and_the_archive_is_read_once(stage_desk: StageDesk) -> None:
    """By sbcast. Of the environment on the shared file system no node opens a module, and it is not packed again."""
    opens = Opens(stage_desk.archive, stage_desk.module)
    code, out = stage_desk.launch("-N4", "shows.py", "4", "all")
    assert code == 0, out
    check_shown(stage_desk, out, stage_desk.desk.bed.hosts)
    assert opens.count() == {stage_desk.archive.name: 1, "staged_module.py": 0}
    assert "packing" not in out and ".stage/env\n" in out  # VIRTUAL_ENV leads to the new place
    stage_desk.nothing_stays()


def test_a_part_of_an_allocation_gets_it_by_a_tree_of_copies(stage_desk: StageDesk) -> None:
    opens = Opens(stage_desk.archive, stage_desk.module)
    command = [str(stage_desk.venv / "bin" / "hpc-launch"), "-N3", "--stage", f"--stage-dir={stage_desk.local}"]
    words = [*command, "shows.py", "3", "part"]
    code, out = stage_desk.desk.own(4, "env", *(f"{n}={v}" for n, v in stage_desk.env.items()), *words)
    assert code == 0, out
    check_shown(stage_desk, out, stage_desk.desk.bed.hosts[:3])
    assert opens.count() == {stage_desk.archive.name: 1, "staged_module.py": 0}
    stage_desk.nothing_stays()


def test_nothing_stays_on_a_disk_however_the_job_ends(stage_desk: StageDesk) -> None:
    code, out = stage_desk.launch("-N2", "shows.py", "2", "killed", "die")  # hpc-launch itself
    assert code != 0 and out.count("node stg") == 2, out
    stage_desk.nothing_stays()
    desk = stage_desk.desk
    command = [
        str(stage_desk.venv / "bin" / "hpc-launch"),
        "-N2",
        "-c2",
        "-t5",
        "--stage",
        f"--stage-dir={stage_desk.local}",
    ]
    followed = desk.start(*command, "shows.py", "2", "cancelled", "wait", env=stage_desk.env)
    assert followed.stdout is not None
    while followed.stdout.readline() not in ("waits\n", ""):
        pass
    assert len(stage_desk.on_disks()) == 2
    (job,) = desk.bed.jobs()
    desk.bed.end(job)
    assert followed.wait(60) != 0
    stage_desk.nothing_stays()


def test_a_disk_that_will_not_do_is_an_error_before_anything_runs(stage_desk: StageDesk) -> None:
    for folder, why in (
        ("/nowhere", "there is no folder /nowhere on this node"),
        (str(stage_desk.desk.folder), "do nodes share"),
    ):
        code, out = stage_desk.launch("-N4", "shows.py", "4", "never", stage_dir=folder)
        assert code == 125 and "error[STAGE]" in out and why in out and "stg[000" in out, out
    assert not [path for path in stage_desk.desk.folder.iterdir() if ".stage" in path.name]
