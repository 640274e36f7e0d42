"""hpc-launch at the login node of a real Slurm: submit, follow, leave, come back, cancel, and be refused."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from desk import Desk, launcher
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


def test_what_was_asked_for_goes_before_a_profile_and_names_come_whole(plain: Desk) -> None:
    plain.script("left.py", "import hpc; hpc.init(); print(hpc.get_runtime_context().time_left_s() > 120)")
    profile = {"SBATCH_PARTITION": "closed", "SBATCH_TIMELIMIT": "1", "SBATCH_REQUEUE": "1", "SBATCH_WAIT": "1"}
    name, out = 'it\'s "one" #1', "o\"u't #1.txt"
    done = plain.launch("-t5", "-p", "batch", "-J", name, "-o", out, "left.py", env=profile)
    assert done.returncode == 0 and done.stdout == "True\n", done.stderr
    assert (plain.folder / out).read_text() == done.stdout
    shown = plain.run("scontrol", "show", "job", plain.job_id()).stdout
    assert f"JobName={name}\n" in shown and "Requeue=0" in shown


def test_a_job_whose_folder_is_gone_runs_nothing_in_another_one(plain: Desk) -> None:
    """Slurm starts it in /tmp then, where everybody can have put a script of that name."""
    folder = plain.folder / "sub"
    folder.mkdir()
    (folder / "hpc_gone.py").write_text("print('ours')")
    planted = Path("/tmp/hpc_gone.py")
    planted.write_text("print('a stranger')")
    try:
        with plain.bed.full():
            options = ["-t5", "--detach", "hpc_gone.py"]
            plain.bed.run([*launcher(), *options], cwd=folder, env=plain.env, check=True)
            shutil.rmtree(folder)
        done = plain.hpc("attach", "1")
    finally:
        planted.unlink()
    assert done.returncode == 125 and "a stranger" not in done.stdout, done.stdout
    assert "error[JOB-DIR]" in done.stderr and f"the folder of the job cannot be entered: {folder}" in done.stderr


def test_with_min_nodes_a_job_takes_what_is_free(plain: Desk) -> None:
    plain.script("count.py", "import os; print(os.environ['HPC_NUM_NODES'])")
    assert plain.launch("-N4", "--min-nodes=2", "-c2", "-t5", "count.py").stdout == "4\n"
    blocker = plain.run("sbatch", "--parsable", "-N1", "--exclusive", "-t5", "-o", "/dev/null", "--wrap", "sleep 300")
    plain.bed.wait_job(blocker.stdout.strip(), ["RUNNING"])
    assert plain.launch("-N4", "--min-nodes=2", "-c2", "-t5", "count.py").stdout == "3\n"


# ---------------------------------------------------------------- cancelling, Ctrl-C


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
        process.communicate(timeout=90)
        assert process.returncode == 121
        many = desk.start(*launcher(), "--nodes=9", "-t5", "plain.py")
        assert many.stderr is not None
        said = next(line for line in iter(many.stderr.readline, "") if "PartitionConfig" in line)
        assert "does not have the nodes that it asks for: will not start as it is" in said
        many.send_signal(signal.SIGINT)
        many.communicate(timeout=90)


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


def test_an_sbatch_that_hangs_is_said_and_a_submission_that_was_killed_does_not_wait_for_ever(plain: Desk) -> None:
    nowhere = {"SLURM_CONF": str(plain.folder / "nowhere.conf")}
    process = plain.start(*launcher(), "-t5", "plain.py", env=nowhere)
    assert process.stderr is not None
    said = process.stderr.readline()
    assert re.search(r"^submitting waiting for sbatch, 3 s  sbatch: error: ", said), said
    assert json.loads(plain.hpc("ps", "--json").stdout)[0]["state"] == "submitting"
    sbatch = [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    process.kill()
    process.communicate(timeout=90)
    for pid in sbatch:
        os.kill(pid, signal.SIGKILL)
    (row,) = json.loads(plain.hpc("ps", "--json").stdout)
    assert row["state"] == "ended" and "its submission was interrupted" in row["text"]


def test_a_missing_script_is_found_before_anything_is_submitted(plain: Desk) -> None:
    done = plain.launch("-t5", "plan.py")
    assert done.returncode == 127
    assert "error[NO-SCRIPT]: no such script: plan.py" in done.stderr and "fix:   plain.py" in done.stderr


def test_a_folder_that_cannot_be_written(plain: Desk) -> None:
    done = plain.launch("-t5", "--job-dir", "/proc/nowhere", "plain.py")
    assert done.returncode == 125
    assert "error[JOB-DIR]" in done.stderr and "job_dir (--job-dir)" in done.stderr


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
