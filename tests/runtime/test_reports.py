"""Each way in which a job ends leaves a report that names it, whatever is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import hpc
from hpc import spi
from hpc.core.node.reap import descendants, is_running
from hpc.report.recorder import NICE
from hpc.report.render import MAX_BYTES
from runtime.hosting import hpc_command, python_script, started
from runtime.running import eventually, one_node

pytestmark = pytest.mark.usefixtures("no_leaks")

BODY = """
    import os, signal, sys, time
    from pathlib import Path
    import hpc

    hpc.init()
    here = Path(sys.argv[1])

    @hpc.remote
    def work(i):
        return i

    @hpc.remote(max_retries=0)
    def bad():
        print("last words, password=hunter2", file=sys.stderr, flush=True)
        raise ValueError("on purpose")

    @hpc.remote(max_retries=0)
    def zygote():
        return os.getppid()

    def on(node):
        return hpc.util.scheduling_strategies.NodeAffinitySchedulingStrategy(str(node), soft=False)

    assert hpc.get([work.remote(i) for i in range(200)])[-1] == 199
    try:
        hpc.get(bad.remote())
    except ValueError:
        pass
"""


def begin(folder: Path, body: str, nodes: int = 1) -> subprocess.Popen[str]:
    (folder / "x.py").write_text(textwrap.dedent(BODY) + textwrap.dedent(body))
    command = [sys.executable, "-m", "hpc.cli.launch", "--scheduler=local", f"--nodes={nodes}", "x.py", str(folder)]
    return subprocess.Popen(command, cwd=folder, env=environment(folder), text=True, start_new_session=True)


def environment(folder: Path) -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith("SLURM_")} | {"HPC_JOB_DIR": str(folder / "jobs")}


def report(folder: Path, *words: str) -> dict:
    command = [sys.executable, "-m", "hpc", "report", "last", "--json", *words]
    done = subprocess.run(command, env=environment(folder), capture_output=True, text=True, timeout=60, cwd=folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def page(folder: Path) -> str:
    path = folder / "jobs" / "1" / "report.html"
    text = path.read_text()
    assert len(text) <= MAX_BYTES and text.endswith("</body></html>\n") and "hunter2" not in text
    assert sorted(one.name for one in path.parent.iterdir() if one.name != "logs.zip") == [
        "events.jsonl", "job.json", "record.json", "report.html", "status.json",
    ]  # fmt: skip
    return text


def counts(facts: dict) -> dict[str, tuple[int, int]]:
    return {one["name"]: (one["count"], one["failed"]) for one in facts["named"]}


@pytest.mark.parametrize(("code", "words"), [(0, "The script ended by itself"), (3, "The script ended with an error")])
def test_a_script_that_ends_by_itself(tmp_path, code, words):
    assert begin(tmp_path, f"sys.exit({code})").wait(60) == code
    text = page(tmp_path)
    assert f"{words} (exit code {code})" in text and "last words" in text
    facts = report(tmp_path)
    assert facts["ending"]["cause"] == ("error" if code else "normal") and facts["ending"]["code"] == code
    assert counts(facts) == {"work": (200, 0), "bad": (1, 1)} and facts["unseen"] == 0
    assert facts["failed"][0]["name"] == "bad" and "password=[hidden]" in facts["failed"][0]["log"][-1]


def test_a_job_that_is_cancelled(tmp_path):
    job = begin(tmp_path, "(here / 'ran').touch(); time.sleep(60)")
    eventually((tmp_path / "ran").exists)
    job.send_signal(signal.SIGTERM)
    assert job.wait(60) == 128 + signal.SIGTERM
    assert "It was told to end (exit code 143)" in page(tmp_path)
    facts = report(tmp_path)
    assert facts["ending"]["cause"] == "signal" and counts(facts)["work"] == (200, 0)


@pytest.mark.parametrize("recorder_too", [False, True])
def test_a_job_that_is_killed_by_force(tmp_path, recorder_too):
    job = begin(tmp_path, "(here / 'ran').touch(); time.sleep(60)")
    eventually((tmp_path / "jobs" / "1" / "report.html").exists)
    eventually(lambda: (tmp_path / "ran").exists() and counts(report(tmp_path)).get("work") == (200, 0))
    facts = report(tmp_path)
    assert facts["ending"]["cause"] == "running"
    recorder = recorder_of(job.pid)
    if recorder_too:
        os.kill(recorder, signal.SIGKILL)
    job.kill()
    job.wait(60)
    eventually(lambda: not is_running(recorder))
    if not recorder_too:
        eventually(lambda: "It was ended by force" in page(tmp_path))
    facts = report(tmp_path)
    assert facts["ending"]["cause"] == "killed" and counts(facts)["work"] == (200, 0)
    done = subprocess.run([sys.executable, "-m", "hpc", "report", "1"], env=environment(tmp_path), timeout=60)
    assert done.returncode == 0 and "It was ended by force" in page(tmp_path)


def recorder_of(launch: int) -> int:
    """The one process below a launch that is nicer than that by as much as a recorder is."""

    def niceness(pid: int) -> int:
        return os.getpriority(os.PRIO_PROCESS, pid)

    meant = min(19, niceness(launch) + NICE)
    (found,) = [pid for pid in descendants(launch) if is_running(pid) and niceness(pid) == meant]
    return found


def test_a_recorder_that_is_killed_harms_nothing(tmp_path):
    job = begin(tmp_path, "(here / 'ran').touch()\nwhile not (here / 'go').exists(): time.sleep(0.01)")
    eventually((tmp_path / "ran").exists)
    os.kill(recorder_of(job.pid), signal.SIGKILL)
    (tmp_path / "go").touch()
    assert job.wait(60) == 0
    assert report(tmp_path)["ending"]["cause"] == "normal"


def test_a_node_that_is_lost_while_the_job_goes_on(tmp_path):
    body = """
        os.kill(hpc.get(zygote.options(scheduling_strategy=on(2)).remote()), signal.SIGKILL)
        while len([node for node in hpc.nodes() if node["Alive"]]) > 1:
            time.sleep(0.01)
    """
    assert begin(tmp_path, body, nodes=2).wait(60) == 0
    text = page(tmp_path)
    assert "node lost" in text and "The script ended by itself" in text
    facts = report(tmp_path)
    assert [(node["node"], node["alive"]) for node in facts["nodes"]] == [(1, True), (2, False)]
    assert facts["nodes"][1]["why"]
    shown = subprocess.run(
        [sys.executable, "-m", "hpc", "events", "1", "--severity=error"], env=environment(tmp_path), timeout=60,
        capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert "NODE_LOST" in shown and "NODE_JOINED" not in shown


@pytest.mark.parametrize("options", [["--ranks-per-node=1"], ["--runtime=torchrun"]])
def test_ranks_leave_a_report_too(tmp_path, options):
    if "--runtime=torchrun" in options:
        pytest.importorskip("torch")
    (tmp_path / "x.py").write_text("import sys\nprint('bye')\nsys.exit(3)")
    command = [sys.executable, "-m", "hpc.cli.launch", "--scheduler=local", "--nodes=2", *options, "x.py"]
    code = subprocess.run(command, cwd=tmp_path, env=environment(tmp_path), capture_output=True, timeout=120).returncode
    assert code
    text = (tmp_path / "jobs" / "1" / "report.html").read_text()
    assert f"The script ended with an error (exit code {code})" in text and "<h2>Nodes</h2>" in text
    facts = report(tmp_path)
    assert facts["is_plain"] and [node["node"] for node in facts["nodes"]] == [1, 2]
    assert facts["uses"][-1][2] > 0  # CPUs


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_session_of_hpc_start(how):
    with started() as facts:
        base = Path(os.environ["HPC_TMPDIR"]) / "jobs"

        def folder() -> Path | None:
            found = [one for one in base.glob("*/job.json") if facts["session"] in one.read_text()]
            return found[0].parent if found and (found[0].parent / "report.html").exists() else None

        eventually(folder)
        path = folder()
        assert path is not None and "It runs" in (path / "report.html").read_text()
        script = (
            "import hpc; hpc.init(); hpc.get([hpc.remote(lambda: 1).options(name='one').remote() for _ in range(5)])"
        )
        assert python_script(script, HPC_ADDRESS=facts["session"]).returncode == 0
        assert f"session {facts['session']}" in hpc_command("ps").stdout
        if how == "kill":
            os.kill(facts["pid"], signal.SIGKILL)
            eventually(lambda: "It was ended by force" in (path / "report.html").read_text())
            with started() as other:  # which sweeps what the other has left
                assert other["session"] != facts["session"]
        else:
            assert hpc_command("stop", f"--session={facts['session']}").returncode == 0
            text = (path / "report.html").read_text()
            assert "The script ended by itself" not in text and "hpc stop" in text and "driver left" in text
            assert "<td>one</td>" in text
            assert json.loads((path / "status.json").read_text())["state"] == "ended"


def test_the_loss_of_the_session(tmp_path):
    body = "os.kill(hpc.get(zygote.remote()), signal.SIGKILL)\nwhile True: hpc.get(work.remote(1))"
    assert begin(tmp_path, body).wait(60) == 123
    assert "The session was lost (exit code 123)" in page(tmp_path)
    assert report(tmp_path)["ending"]["cause"] == "lost"


def test_a_session_without_a_folder_is_reported_as_it_is_now(tmp_path):
    with one_node():
        hpc.get([hpc.remote(lambda: 1).options(name="one").remote() for _ in range(5)])
        command = [sys.executable, "-m", "hpc", "report", "-o", "now.html"]
        assert subprocess.run(command, cwd=tmp_path, env=environment(tmp_path), timeout=60).returncode == 0
    text = (tmp_path / "now.html").read_text()
    assert "It runs" in text and '<td>one</td><td class="n">5</td>' in text


def test_a_guest_is_no_job(tmp_path):
    from hpc.core.owner.shell.client import Client
    from hpc.util.state import list_jobs, list_workers

    with one_node():
        guest = Client(spi.ensure_client().node_dir, "driver", b"", spin_s=0.0)
        try:
            assert len(list_jobs()) == 1 and len(list_workers([("is_guest", "=", True)])) == 1
        finally:
            guest.close()
