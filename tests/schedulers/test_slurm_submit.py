"""hpc-launch at the login node of a real Slurm: submit, follow, leave, come back, cancel, and be refused."""

from __future__ import annotations

import json
import os
import pwd
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from desk import Desk, launcher
from netbed import wait_for
from slurm_bed import SlurmBed, reason_to_skip

pytestmark = pytest.mark.slurm

PLAIN = """
    import os, sys
    print("ran on", os.uname().nodename, sys.argv[1:], flush=True)
    sys.exit(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
"""
WAITS = """
    import signal, sys, time
    try:
        print("driver waits", flush=True)
        while True:
            time.sleep(0.05)
    except KeyboardInterrupt:
        print("script got KeyboardInterrupt", flush=True)
        sys.exit(5)
"""


@pytest.fixture
def plain(desk: Desk) -> Desk:
    desk.script("plain.py", PLAIN)
    desk.script("waits.py", WAITS)
    return desk


@contextmanager
def full(desk: Desk) -> Iterator[str]:
    """All nodes taken by somebody else's job."""
    blocker = desk.run("sbatch", "--parsable", "-N4", "--exclusive", "-t5", "-o", "/dev/null", "--wrap", "sleep 300")
    job = blocker.stdout.strip()
    desk.bed.wait_job(job, ["RUNNING"])
    try:
        yield job
    finally:
        desk.run("scancel", job)
        desk.bed.wait_job(job, ["CANCELLED"])


class Terminal:
    """A command at a terminal of its own."""

    def __init__(self, desk: Desk, *argv: str) -> None:
        self.master, slave = os.openpty()
        self.process = subprocess.Popen(
            list(argv), cwd=desk.folder, env={**desk.bed.env, **desk.env, "TERM": "xterm"}, start_new_session=True,
            stdin=slave, stdout=slave, stderr=slave,
        )  # fmt: skip
        os.close(slave)
        os.set_blocking(self.master, False)
        self.text = ""

    def see(self, wanted: str, timeout_s: float = 20.0) -> None:
        def look() -> bool:
            self._read()
            return re.search(wanted, self.text) is not None

        try:
            wait_for(f"{wanted!r} at the terminal", look, timeout_s)
        except Exception as error:
            raise AssertionError(f"{error}:\n{self.text}") from None

    def _read(self) -> None:
        try:
            while data := os.read(self.master, 65536):
                self.text += data.decode()
        except OSError:
            return

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def end(self, timeout_s: float = 20.0) -> int:
        def over() -> bool:
            self._read()
            return self.process.poll() is not None

        wait_for("the end of the command", over, timeout_s)
        self._read()
        os.close(self.master)
        return self.process.returncode


def test_output_state_and_exit_code_come_back(plain: Desk) -> None:
    done = plain.launch("-N2", "-t", "5m", "plain.py", "7", "--nodes")
    assert done.returncode == 7
    assert done.stdout == "ran on nid0001 ['7', '--nodes']\n"
    assert re.search(r"^queued +\d+", done.stderr, re.M) and "ended     exit code 7" in done.stderr
    files = sorted(p.name for p in (plain.jobs / "1").iterdir())
    assert files == ["driver.log", "events.jsonl", "job.json", "job.sbatch", "status.json"]


def test_detach_prints_the_id_and_attach_brings_the_exit_code(plain: Desk) -> None:
    done = plain.launch("-N1", "-t5", "--detach", "plain.py", "9")
    assert done.returncode == 0 and re.fullmatch(r"\d+\n", done.stdout)
    job_id = done.stdout.strip()
    back = plain.hpc("attach", "last")
    assert back.returncode == 9 and "ran on nid0001" in back.stdout
    rows = json.loads(plain.hpc("ps", "--json").stdout)
    assert [(r["scheduler_id"], r["state"], r["exit_code"]) for r in rows] == [(job_id, "ended", 9)]
    assert plain.hpc("logs", "1").stdout == "ran on nid0001 ['9']\n"
    assert plain.hpc("logs", f"slurm:{job_id}").stdout == "ran on nid0001 ['9']\n"


def test_detach_as_json(plain: Desk) -> None:
    done = plain.launch("-t5", "--detach", "--json", "plain.py")
    said = json.loads(done.stdout)
    assert said["job"] == 1 and said["folder"] == str(plain.jobs / "1")
    plain.bed.wait_job(said["scheduler_id"], ["COMPLETED"])


def test_output_goes_where_it_was_asked_to(plain: Desk) -> None:
    done = plain.launch("-t5", "-J", "mine", "-o", "out-%x-%j.txt", "plain.py")
    assert done.returncode == 0 and done.stdout.startswith("ran on")
    (out,) = plain.folder.glob("out-mine-*.txt")
    assert out.read_text() == done.stdout


def test_setup_lines_and_variables_reach_the_script(plain: Desk) -> None:
    plain.script("env.py", "import os; print(os.environ['A'], os.environ['B'])")
    done = plain.launch("-t5", "--setup", "export A='a b'", "--env", "B=c d", "env.py")
    assert done.stdout == "a b c d\n", done.stderr


def test_ranks_from_the_login_node(plain: Desk) -> None:
    plain.script("rank.py", "import os; print(os.environ['RANK'], os.environ['WORLD_SIZE'])")
    done = plain.launch("-N2", "-t5", "--ranks-per-node=2", "rank.py")
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == [f"[rank {r}] {r} 4" for r in range(4)]


def test_a_range_of_nodes_takes_what_is_free(plain: Desk) -> None:
    plain.script("count.py", "import os; print(os.environ['HPC_NUM_NODES'])")
    assert plain.launch("-N2-4", "-c2", "-t5", "count.py").stdout == "4\n"
    blocker = plain.run("sbatch", "--parsable", "-N1", "--exclusive", "-t5", "-o", "/dev/null", "--wrap", "sleep 300")
    plain.bed.wait_job(blocker.stdout.strip(), ["RUNNING"])
    assert plain.launch("-N2-4", "-c2", "-t5", "count.py").stdout == "3\n"


def test_an_ordinary_user(plain: Desk) -> None:
    user = pwd.getpwnam("nobody")
    can = "import os, sys; os.setuid(65534); os.execv(sys.executable, [sys.executable, '-c', 'import hpc'])"
    if subprocess.run([sys.executable, "-c", can], cwd="/", capture_output=True, timeout=30).returncode:
        pytest.skip(f"another user cannot run {sys.executable}")
    plain.script("hosts.py", """
        import os, socket
        import hpc as ray
        ray.init()
        print(ray.get(ray.remote(socket.gethostname).remote()), os.getuid())
    """)  # fmt: skip
    done = plain.launch("-N2", "-t5", "hosts.py", env={"HOME": str(plain.folder)}, user=user.pw_uid, group=user.pw_gid)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(rf"nid000[12] {user.pw_uid}\n", done.stdout)
    assert (plain.jobs / "1").stat().st_mode & 0o077 == 0


# ---------------------------------------------------------------- cancelling, Ctrl-C


def test_a_job_cancelled_in_the_queue(plain: Desk) -> None:
    with full(plain):
        process = plain.start(*launcher(), "-N1", "-t5", "plain.py")
        status = plain.jobs / "1" / "job.json"
        wait_for("submitted", lambda: status.exists() and json.loads(status.read_text())["scheduler_id"] != "", 20)
        (row,) = json.loads(plain.hpc("ps", "--json").stdout)
        assert row["state"] == "queued"
        assert plain.hpc("cancel", "1").returncode == 0
        _, err = process.communicate(timeout=20)
    assert process.returncode == 121
    assert "error[CANCELLED]" in err


def test_a_running_job_cancelled(plain: Desk) -> None:
    process = plain.start(*launcher(), "-N2", "-t5", "waits.py")
    assert process.stdout is not None and process.stdout.readline() == "driver waits\n"
    assert plain.hpc("cancel", "last").returncode == 0
    process.communicate(timeout=20)
    assert process.returncode == 128 + signal.SIGTERM
    again = plain.hpc("cancel", "last")
    assert again.returncode == 0 and "has ended already" in again.stdout


def test_ctrl_c_without_a_terminal_cancels(plain: Desk) -> None:
    with full(plain):
        process = plain.start(*launcher(), "-N1", "-t5", "plain.py")
        job = plain.jobs / "1" / "job.json"
        wait_for("submitted", lambda: job.exists() and json.loads(job.read_text())["scheduler_id"] != "", 20)
        job_id = json.loads(job.read_text())["scheduler_id"]
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
        assert process.returncode == 121
        assert plain.bed.job_field(job_id, "JobState") == "CANCELLED"


def test_ctrl_c_once_in_the_queue_detaches(plain: Desk) -> None:
    with full(plain) as blocker:
        shell = Terminal(plain, *launcher(), "-N1", "-t5", "plain.py", "4")
        shell.see(r"queued +\d+.*(Resources|Priority)")
        shell.interrupt()
        shell.see("still queued; Ctrl-C again within 2 s cancels")
        assert shell.end() == 130
        assert "hpc attach 1" in shell.text
        plain.run("scancel", blocker)
        assert plain.hpc("attach").returncode == 4


def test_ctrl_c_twice_in_the_queue_cancels(plain: Desk) -> None:
    with full(plain):
        shell = Terminal(plain, *launcher(), "-N1", "-t5", "plain.py")
        shell.see(r"queued +\d+.*(Resources|Priority)")
        shell.interrupt()
        shell.see("still queued")
        shell.interrupt()
        assert shell.end() == 121


def test_ctrl_c_twice_while_it_runs_interrupts_the_script(plain: Desk) -> None:
    shell = Terminal(plain, *launcher(), "-N1", "-t5", "waits.py")
    shell.see("driver waits")
    shell.see(r"running +1 node,")
    shell.interrupt()
    shell.see("sends SIGINT to the script")
    shell.interrupt()
    assert shell.end() == 5
    assert "script got KeyboardInterrupt" in shell.text


def test_a_job_killed_without_a_word_is_noticed(plain: Desk) -> None:
    process = plain.start(*launcher(), "-N1", "-t5", "waits.py")
    assert process.stdout is not None and process.stdout.readline() == "driver waits\n"
    pid = json.loads((plain.jobs / "1" / "status.json").read_text())["pid"]
    os.kill(pid, signal.SIGKILL)
    process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGKILL


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("options", "code", "words", "fix"),
    [
        (["-p", "bach"], "PARTITION", "no partition is called 'bach'", "--partition=batch"),
        (["-N", "9"], "TOO-MANY-NODES", "9 nodes asked for, but partition batch has 4", "--nodes=4"),
        (["-N2", "-p", "debug"], "TOO-MANY-NODES", "partition debug allows 1 per job", "--nodes=1"),
        (["-t", "2h"], "TIME-LIMIT", "partition batch allows 1:00:00", "--time=1:00:00"),
        (["-c", "9"], "TOO-MANY-CPUS", "have 2 CPUs, you asked for 9", "--cpus-per-task=2"),
        (["--mem", "64G"], "TOO-MUCH-MEMORY", "have 2000 MiB", "--mem=2000M"),
        (["--gpus-per-node", "2"], "TOO-MANY-GPUS", "have 0 GPUs", ""),
        (["-C", "fast"], "REJECTED", "Slurm refused the job", ""),
        (["--submit-arg=--bogus"], "REJECTED", "Slurm refused the job", ""),
    ],
)
def test_refusals_name_the_value_the_limit_and_the_fix(
    plain: Desk, options: list[str], code: str, words: str, fix: str
) -> None:
    done = plain.launch("-t5", *options, "plain.py", "1")
    assert done.returncode == 120, done.stderr
    assert f"error[{code}]" in done.stderr and words in done.stderr
    assert "sbatch: " in done.stderr  # Slurm's own words are quoted
    if fix:
        assert f"fix:   hpc-launch {fix} " in done.stderr and done.stderr.rstrip().endswith("plain.py 1")
    assert list(plain.jobs.iterdir()) == []


def test_a_site_that_wants_a_time_limit() -> None:
    why = reason_to_skip()
    if why:
        pytest.skip(why)
    with SlurmBed(nodes=1, require_time=True) as bed:
        desk = Desk(bed, bed.scratch / "work", {"HPC_JOB_DIR": str(bed.scratch / "jobs")})
        desk.script("plain.py", PLAIN)
        done = desk.launch("plain.py")
        assert done.returncode == 120
        assert "error[NO-TIME]" in done.stderr and "fix:   hpc-launch --time=30m plain.py" in done.stderr
        assert desk.launch("--time=2m", "plain.py").returncode == 0


def test_a_site_that_queues_what_can_never_run() -> None:
    why = reason_to_skip()
    if why:
        pytest.skip(why)
    with SlurmBed(nodes=1, enforce_limits=False) as bed:
        desk = Desk(bed, bed.scratch / "work", {"HPC_JOB_DIR": str(bed.scratch / "jobs"), "HPC_POLL_INTERVAL": "0.3"})
        desk.script("plain.py", PLAIN)
        process = desk.start(*launcher(), "--time=2h", "plain.py")
        assert process.stderr is not None
        lines = iter(process.stderr.readline, "")
        said = next(line for line in lines if "PartitionTimeLimit" in line)
        assert "more time than the partition allows: will not start as it is" in said
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
        assert process.returncode == 121


def test_a_partition_that_is_down_says_so_while_it_waits(plain: Desk) -> None:
    done = plain.launch("-t5", "-p", "closed", "--detach", "plain.py")
    assert done.returncode == 0
    assert "the partition is down" in plain.hpc("status").stdout
    plain.hpc("cancel", "last", check=True)


def test_no_controller_is_the_clusters_fault(plain: Desk) -> None:
    conf = (plain.bed.scratch / "slurm.conf").read_text()
    dead = plain.folder / "dead.conf"
    dead.write_text(
        re.sub(r"SlurmctldPort=\d+", "SlurmctldPort=1", conf).replace("MessageTimeout=10", "MessageTimeout=1")
    )
    (plain.folder / "topology.conf").write_text((plain.bed.scratch / "topology.conf").read_text())
    done = plain.launch("-t5", "plain.py", env={"SLURM_CONF": str(dead)}, timeout_s=120)
    assert done.returncode == 120
    assert "error[SCHEDULER-DOWN]" in done.stderr and "nothing was submitted" in done.stderr


def test_a_missing_script_is_found_before_anything_is_submitted(plain: Desk) -> None:
    done = plain.launch("-t5", "plan.py")
    assert done.returncode == 127
    assert "error[NO-SCRIPT]: no such script: plan.py" in done.stderr and "fix:   plain.py" in done.stderr


def test_a_folder_that_cannot_be_written(plain: Desk) -> None:
    done = plain.launch("-t5", "--job-dir", "/proc/nowhere", "plain.py")
    assert done.returncode == 125
    assert "error[JOB-DIR]" in done.stderr and "job_dir (--job-dir)" in done.stderr


def test_a_job_whose_python_is_not_on_the_nodes(plain: Desk) -> None:
    done = plain.launch("-t5", "--setup", "exit 3", "plain.py")
    assert done.returncode == 125
    assert "error[JOB-DIR]" in done.stderr and "exit code 3" in done.stderr


# ---------------------------------------------------------------- looking before leaping


def test_a_dry_run_shows_the_script_the_commands_and_each_values_origin(plain: Desk) -> None:
    (plain.folder / "hpc.toml").write_text('partition = "batch"\ncpus-per-task = 2\n')
    env = {"HPC_TIME": "30m"}
    done = plain.launch("--dry-run", "-N", "4", "plain.py", "1", env=env)
    assert done.returncode == 0
    for line in (
        "#SBATCH --nodes=4", "#SBATCH --time=00:30:00", "#SBATCH --partition=batch", "#SBATCH --cpus-per-task=2",
        f"sbatch --parsable {plain.jobs}/1/job.sbatch", "# cost: 4 nodes x 00:30:00 = 2 node-hours at most",
    ):  # fmt: skip
        assert line in done.stdout
    rows = {tuple(line.split()) for line in done.stdout.splitlines()}
    assert {("nodes", "4", "--nodes"), ("time", "00:30:00", "HPC_TIME"), ("partition", "batch", "./hpc.toml")} <= rows
    assert not plain.jobs.exists()
    plain.launch("--detach", "-N", "4", "plain.py", "1", env=env, check=True)
    shown = done.stdout.split("\n\n# submitted by")[0].split("\n", 1)[1]
    assert (plain.jobs / "1" / "job.sbatch").read_text().rstrip() == shown
    plain.hpc("cancel", "all", check=True)


def test_test_only_adds_slurms_estimate(plain: Desk) -> None:
    done = plain.launch("--test-only", "-N2", "-t5", "plain.py")
    assert done.returncode == 0 and "# Slurm's estimate: to start at 20" in done.stdout
    assert list(plain.jobs.iterdir()) == [] and plain.bed.jobs() == []


def test_a_folder_on_the_login_node_only(plain: Desk, tmp_path: Path) -> None:
    """A compute node that does not see the job's folder: the job fails at once, and we say why."""
    hidden = Path("/dev/shm") / f"hidden-{os.getpid()}"
    hidden.mkdir()
    try:
        done = plain.launch("-t5", "--job-dir", str(hidden), "--setup", f"mv {hidden}/1 {hidden}/x; exit 1", "plain.py")
    finally:
        subprocess.run(["rm", "-rf", str(hidden)], check=True)
    assert done.returncode == 125 and "error[JOB-DIR]" in done.stderr
