"""What is true of a real OpenPBS alone: its refusals and comments, the job scripts that are shipped, signals."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from desk import Desk, launcher, nothing_left
from netbed import wait_for
from pbs_bed import PbsBed
from programs import HOSTS, PLAIN, pretend_jupyter

pytestmark = pytest.mark.scheduler

ROOT = Path(__file__).resolve().parents[2]

SAVES = """
    import signal, sys, time
    import hpc
    hpc.init()

    @hpc.remote
    class Kept:
        def answer(self):
            return 42

    kept = Kept.remote()
    hpc.get(kept.answer.remote())

    def save(signum, frame):  # calls of actors go on while the session drains
        print("saved", hpc.get(kept.answer.remote()), flush=True)
        sys.exit(9)

    signal.signal(signal.SIGTERM, save)
    print("waits", flush=True)
    while True:
        time.sleep(0.05)
"""


@pytest.fixture
def desk(pbs_whole: PbsBed, request: pytest.FixtureRequest) -> Iterator[Desk]:
    found = Desk.at(pbs_whole, request.node.name)
    for name, text in (("hosts.py", HOSTS), ("plain.py", PLAIN), ("saves.py", SAVES)):
        found.script(name, text)
    yield found
    pbs_whole.cancel_all()


@pytest.mark.parametrize(
    ("options", "code", "words", "fix"),
    [
        (["-p", "smal"], "PARTITION", "no queue is called 'smal'", "--partition=small"),
        (["-N2", "-p", "small"], "TOO-MANY-NODES", "queue small allows 1 per job", "--nodes=1"),
        (["-t", "2h"], "TIME-LIMIT", "queue workq allows 01:00:00", "--time=01:00:00"),
        (["-C", "fast=1"], "REJECTED", "this PBS knows no resource 'fast'", ""),
        (["--submit-arg=--bogus"], "REJECTED", "PBS refused the job", ""),
    ],
)
def test_refusals_name_the_value_the_limit_and_the_fix(
    desk: Desk, options: list[str], code: str, words: str, fix: str
) -> None:
    done = desk.launch("-t5", *options, "plain.py", "1")
    assert done.returncode == 120, done.stderr
    assert f"error[{code}]" in done.stderr and words in done.stderr and "why:" in done.stderr
    if fix:
        assert f"fix:   hpc-launch {fix} " in done.stderr
    assert list(desk.jobs.iterdir()) == []


def test_a_job_of_a_queue_that_is_not_started_says_so_while_it_waits(desk: Desk) -> None:
    assert desk.launch("-t5", "-p", "closed", "--detach", "plain.py").returncode == 0
    wait_for("the comment", lambda: "the queue is not started" in desk.hpc("status").stdout, 90.0, 0.3)
    desk.hpc("cancel", "last", check=True)


def test_no_server_is_the_clusters_fault(desk: Desk) -> None:
    conf = desk.folder / "dead.conf"
    text = Path(desk.bed.env["PBS_CONF_FILE"]).read_text()
    conf.write_text(f"{text}PBS_BATCH_SERVICE_PORT=1\n")
    done = desk.launch("-t5", "plain.py", env={"PBS_CONF_FILE": str(conf)}, timeout_s=120)
    assert done.returncode == 120
    assert "error[SCHEDULER-DOWN]" in done.stderr and "nothing was submitted" in done.stderr


def test_a_session_that_may_grow_begins_with_the_least(desk: Desk) -> None:
    desk.script("count.py", "import os; print(os.environ['HPC_NUM_NODES'])")
    assert desk.launch("-N2-4", "-t5", "count.py").stdout == "2\n"


@pytest.mark.parametrize("how", ["submitted", "own"])
def test_a_script_that_is_ended_can_still_save_what_it_has(desk: Desk, how: str) -> None:
    """PBS signals all processes of the job on the first node; the session there goes on until the script has ended."""
    out = desk.folder / "out"
    if how == "submitted":
        desk.launch("-N2", "-t5", "--detach", "-o", str(out), "saves.py", check=True)
        job_id = desk.job_id()
    else:
        script = desk.folder / "own.sh"
        script.write_text(f"#!/bin/bash\ncd {desk.folder}\nexec {launcher()[0]} saves.py\n")
        job_id = desk.bed.submit(script, 2, out)
    wait_for("the script", lambda: out.exists() and "waits" in out.read_text(), 90.0, 0.1)
    desk.bed.end(job_id)
    wait_for("its end", lambda: desk.bed.phase(job_id) == "ended", 90.0, 0.1)
    assert "saved 42" in out.read_text()
    nothing_left(desk)


def test_the_templates_run_as_they_are(desk: Desk) -> None:
    for name, nodes in (("train", 4), ("tasks", 2)):
        out = desk.folder / f"{name}.out"
        template = ROOT / "templates" / "pbs" / f"{name}.pbs"
        job = desk.run(
            "qsub", "-f", "-v", f"SCRIPT=hosts.py {nodes}", "-o", str(out), str(template), check=True
        ).stdout.strip()
        wait_for(f"the end of {name}", lambda job=job: desk.bed.phase(job) == "ended", 60.0, 0.2)
        said = json.loads(next(line for line in out.read_text().splitlines() if line.startswith("{")))
        assert said["nodes"] == desk.bed.hosts[:nodes]


def test_the_template_of_an_array_runs_each_of_its_jobs(desk: Desk) -> None:
    desk.script("number.py", "import os; open(f'number-{os.environ[\"PBS_ARRAY_INDEX\"]}', 'w')")
    template = ROOT / "templates" / "pbs" / "array.pbs"
    options = ["-J", "3-5:2", "-v", "SCRIPT=number.py", "-o", f"{desk.folder}/"]
    desk.run("qsub", "-f", *options, str(template), check=True)
    wait_for("both", lambda: {p.name for p in desk.folder.glob("number-*")} == {"number-3", "number-5"}, 60.0, 0.2)


SHORT = ("-l", "walltime=00:05:00")  # no queue of the bed gives hours


def test_the_template_of_a_notebook_says_how_to_reach_it_and_ends_when_cancelled(desk: Desk) -> None:
    env = ",".join(f"{name}={value}" for name, value in pretend_jupyter(desk).items())
    out, address = desk.folder / "notebook.out", desk.folder / "notebook-url"
    template = str(ROOT / "templates" / "pbs" / "notebook.pbs")
    job = desk.run("qsub", "-f", *SHORT, "-v", env, "-o", str(out), template, check=True).stdout.strip()
    wait_for("the notebook", lambda: out.exists() and "open the address in" in out.read_text(), 60.0, 0.2)
    text = out.read_text()
    assert "ssh -N -L 8888:127.0.0.1:4711 -J bed@" in text and "@px1" in text
    assert address.stat().st_mode & 0o777 == 0o600 and address.read_text().strip().rpartition("=")[2] not in text
    desk.bed.end(job)
    wait_for("its end", lambda: desk.bed.phase(job) == "ended", 60.0, 0.2)
    assert not address.exists()


BEGUN = """
    import hpc, time
    hpc.init()
    begun = hpc.saved_state("begun", 0)
    hpc.save_state("begun", begun + 1)
    print("begun", begun, flush=True)
    while not begun:
        time.sleep(0.1)
"""


def test_the_template_for_nodes_that_are_taken_goes_on_where_it_was(desk: Desk) -> None:
    desk.script("begun.py", BEGUN)
    out = desk.folder / "preemptible.out"
    template = str(ROOT / "templates" / "pbs" / "preemptible.pbs")
    job = desk.run("qsub", "-f", *SHORT, "-v", "SCRIPT=begun.py", "-o", str(out), template, check=True).stdout.strip()
    wait_for("the script", lambda: out.exists() and "begun 0" in out.read_text(), 60.0, 0.2)
    desk.bed.requeue(job)
    wait_for("the second run", lambda: desk.bed.phase(job) == "ended", 90.0, 0.2)
    assert "begun 1" in out.read_text() and desk.bed.exit_code(job) == 0, out.read_text()


def test_the_commands_for_a_prompt_work(desk: Desk) -> None:
    """What interactive.md says, in a job of its own: PBS gives a shell on the first node, with the same environment."""
    desk.script("prompt.py", """
        import hpc
        hpc.init()
        print(hpc.get([hpc.remote(abs).remote(-n) for n in range(4)]), len(hpc.nodes()))
    """)  # fmt: skip
    code, out = desk.own(2, launcher()[0], "prompt.py")
    assert code == 0 and "[0, 1, 2, 3] 2" in out, out


def test_a_node_that_cannot_run_python_is_named(desk: Desk) -> None:
    done = desk.launch("-N3", "-t5", "--start-timeout=20", "--step-arg=/nowhere/wrapper", "plain.py")
    assert done.returncode == 122
    assert "px2" in done.stdout and "px3" in done.stdout and "PBS could not start it there" in done.stdout


def test_signals_that_are_sent_with_qsig_reach_the_script(desk: Desk) -> None:
    desk.script("usr.py", """
        import signal, sys, time
        signal.signal(signal.SIGUSR1, lambda *_: (print("got USR1", flush=True), sys.exit(3)))
        print("waits", flush=True)
        time.sleep(60)
    """)  # fmt: skip
    process = desk.start(*launcher(), "-t5", "usr.py")
    assert process.stdout is not None and process.stdout.readline() == "waits\n"
    desk.run("qsig", "-s", "USR1", desk.job_id(), check=True)
    out, _ = process.communicate(timeout=90)
    assert "got USR1" in out and process.returncode == 3
