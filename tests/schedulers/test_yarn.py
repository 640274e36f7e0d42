"""What is true of YARN alone, on a real one. What every scheduler keeps is in test_promises.py."""

from __future__ import annotations

import getpass
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from desk import Desk, launcher, nothing_left
from netbed import wait_for
from programs import HOSTS, WAITS, pretend_jupyter
from yarn_bed import YarnBed

from hpc.launchers.yarn.manager import Manager

pytestmark = pytest.mark.scheduler

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def desk(yarn_whole: YarnBed, request: pytest.FixtureRequest) -> Iterator[Desk]:
    yield Desk.at(yarn_whole, request.node.name)
    yarn_whole.cancel_all()


def test_the_template_runs_and_gpus_are_those_that_were_asked_for(desk: Desk) -> None:
    desk.script("hosts.py", HOSTS)
    desk.script("gpus.py", "import hpc; hpc.init(); print('GPUs', hpc.cluster_resources()['GPU'])")
    wishes = {"NODES": "2", "CPUS": "1", "MEM": "1G", "TIME": "5m", "HPC_GPUS_PER_NODE": "2"}
    done = desk.run("bash", str(ROOT / "templates/yarn/train.sh"), "gpus.py", env=wishes)
    assert done.returncode == 0, done.stderr
    assert "GPUs 4.0" in done.stdout


WISHES = {"NODES": "2", "CPUS": "1", "MEM": "1G", "TIME": "5m"}


def test_the_template_for_tasks_runs_on_all_nodes(desk: Desk) -> None:
    desk.script("hosts.py", HOSTS)
    done = desk.run("bash", str(ROOT / "templates/yarn/tasks.sh"), "hosts.py", "2", env=WISHES)
    assert done.returncode == 0 and len(json.loads(done.stdout)["hosts"]) == 2, done.stderr


def test_the_template_of_a_notebook_says_how_to_reach_it_and_ends_when_cancelled(desk: Desk) -> None:
    more = [f"--env={name}={value}" for name, value in pretend_jupyter(desk).items()]
    process = desk.start("bash", str(ROOT / "templates/yarn/notebook.sh"), *more, env=WISHES)
    assert process.stdout is not None
    said = ""
    while "open the address in" not in said:
        line = process.stdout.readline()
        assert line, process.communicate(timeout=90)
        said += line
    address = desk.folder / "notebook-url"
    assert f"-J {getpass.getuser()}@{os.uname().nodename} " in said and "@yn0" in said
    assert address.stat().st_mode & 0o777 == 0o600 and address.read_text().strip().rpartition("=")[2] not in said
    desk.hpc("cancel", "last", check=True)
    process.communicate(timeout=60)
    assert not address.exists()


def test_the_template_for_containers_that_are_taken_goes_on_where_it_was(desk: Desk, yarn_whole: YarnBed) -> None:
    """All containers are killed at once, without a word, and so is the master."""
    desk.script("begun.py", """
        import hpc, time
        hpc.init()
        begun = hpc.saved_state("begun", 0)
        hpc.save_state("begun", begun + 1)
        print("begun", begun, flush=True)
        while not begun:
            time.sleep(0.1)
    """)  # fmt: skip
    process = desk.start("bash", str(ROOT / "templates/yarn/preemptible.sh"), "begun.py", env=WISHES)
    assert process.stdout is not None and process.stdout.readline() == "begun 0\n", process.communicate(timeout=90)
    first = desk.job_id()
    os.kill(desk.status()["pid"], signal.SIGKILL)
    out, err = process.communicate(timeout=150)
    assert process.returncode == 0 and out.endswith("begun 1\n"), out + err
    assert desk.job_id(2) != first and yarn_whole.phase(first) == "ended"
    nothing_left(desk)


def test_a_job_outlives_its_master_and_does_not_run_twice(desk: Desk, yarn_whole: YarnBed) -> None:
    """YARN starts the master anew, which may start all containers once more."""
    desk.script("waits.py", WAITS)
    process = desk.start(*launcher(), "-N2", "-t5", "waits.py")
    assert process.stdout is not None and process.stdout.readline().startswith("waits")
    job_id = desk.job_id()
    assert 300 < int(yarn_whole.app(job_id)["timeouts"]["timeout"][0]["remainingTimeInSeconds"]) <= 360
    masters = [pid for host in yarn_whole.hosts for pid in yarn_whole.masters(host)]
    assert len(masters) == 1
    os.kill(masters[0], signal.SIGKILL)

    def another() -> bool:
        attempts = Manager(yarn_whole.env).get(f"/apps/{job_id}/appattempts")["appAttempts"]["appAttempt"]
        return len(attempts) == 2 and yarn_whole.app(job_id)["state"] == "RUNNING"

    wait_for("a second attempt", another, 90.0, 0.1)
    (desk.folder / "go").touch()
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0 and "went" in out and "waits" not in out, (out, err)
    wait_for("the end of the application", lambda: yarn_whole.phase(job_id) == "ended", 90.0)
    nothing_left(desk)


def test_a_job_that_fails_before_it_has_a_session_keeps_no_node(desk: Desk, yarn_whole: YarnBed) -> None:
    desk.script("never.py", "")
    done = desk.launch("-N2", "-t5", "--setup=false", "never.py")
    assert done.returncode not in (0, 123), done.stderr
    wait_for("the end of the application", lambda: yarn_whole.phase(desk.job_id()) == "ended", 90.0)
    nothing_left(desk)


def test_the_installed_client_says_the_same_as_rest(
    desk: Desk, yarn_whole: YarnBed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where REST wants a login: its tables are read, and its orders are obeyed."""
    desk.script("waits.py", WAITS)
    process = desk.start(*launcher(), "-N2", "-t5", "waits.py")
    assert process.stdout is not None and process.stdout.readline().startswith("waits")
    job_id = desk.job_id()
    by_rest, by_client = Manager(yarn_whole.env), Manager(yarn_whole.env)
    by_client.by_client = True
    same = ("id", "state", "finalStatus", "queue")
    one, other = by_rest.app(job_id), by_client.app(job_id)
    assert {name: one[name] for name in same} == {name: other[name] for name in same}
    assert (
        sorted(by_client.containers(job_id)) == sorted(by_rest.containers(job_id))
        and len(by_rest.containers(job_id)) == 2
    )
    assert job_id in [app["id"] for app in by_client.apps()]
    by_client.kill(job_id)
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
