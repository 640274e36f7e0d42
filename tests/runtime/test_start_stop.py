"""`hpc start`, `hpc stop`: sessions that outlive the command that began them."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import hpc
from hpc.core.node.reap import descendants, is_running
from hpc.host.find import bases, hosts, read_host, started_here
from hpc.launchers.registry import job_mark
from runtime.hosting import ENV, hpc_command, python_script, started
from runtime.running import children, eventually, one_node

READY = "import hpc; c = hpc.init({}); print(c['session'], hpc.get(hpc.remote(lambda: 6 * 7).remote()))"


def test_a_session_lives_on_and_drivers_find_it():
    with started("--labels", "zone=a", "--resources", '{"disk": 2}') as facts:
        session = facts["session"]
        for how in ("", "address='auto'", f"address={session!r}", f"address={facts['node_dir']!r}"):
            result = python_script(READY.format(how))
            assert result.stdout.split() == [session, "42"], result.stderr
        assert python_script(READY.format(""), HPC_ADDRESS=session).stdout.split() == [session, "42"]
        result = python_script(READY.format("num_cpus=1"))
        assert "belong to a session's start" in result.stderr
        own = python_script(READY.format("address='local', num_cpus=1")).stdout.split()
        assert own[0] != session and own[1] == "42"
        with hpc.init(address=session):
            assert hpc.cluster_resources()["disk"] == 2
            assert hpc.nodes()[0]["Labels"]["zone"] == "a"
    assert hosts() == []


def test_the_host_is_a_process_of_its_own_and_its_socket_is_private():
    with started() as facts:
        pid = facts["pid"]
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        assert fields[2] == fields[3] != str(os.getsid(0))  # group and session are not ours
        assert fields[4] == "0"  # no terminal
        for fd in ("0", "1", "2"):
            assert os.readlink(f"/proc/{pid}/fd/{fd}") in ("/dev/null", f"{facts['dir']}/logs/host.log")
        assert stat.S_IMODE(os.stat(facts["dir"]).st_mode) == 0o700
        assert stat.S_IMODE(os.stat(f"{facts['dir']}/host.sock").st_mode) == 0o600
        assert children(pid)  # the supervisors are its own
        os.kill(pid, signal.SIGHUP)  # not deaf to signals: it ends in order
        eventually(lambda: not is_running(pid))
        assert not os.path.exists(facts["dir"]) and not os.path.exists(facts["node_dir"])


def test_nodes_are_added_and_removed():
    with started("--num-cpus=1") as facts:
        session = facts["session"]
        added = hpc_command("start", f"--address={session}", "--num-cpus=1", "--resources", '{"disk": 1}', "--json")
        node = json.loads(added.stdout)["node"]
        assert node["node"] == 2
        with hpc.init(address=session):
            where = hpc.remote(lambda: hpc.get_runtime_context().get_node_id())
            assert hpc.get(where.options(resources={"disk": 1}).remote(), timeout=60) == "2"
            removed = hpc_command("stop", f"--session={session}", "--node=2")
            assert removed.stdout == f"node 2 has left session {session}\n"
            eventually(lambda: [row["Alive"] for row in hpc.nodes()] == [True, False])
            assert not os.path.exists(node["dir"])
            again = hpc_command("start", "--address=auto", "--num-cpus=1")
            assert again.stdout.startswith("node 3 with 1 CPUs joined session"), again.stderr
        refused = hpc_command("stop", f"--session={session}", "--node=1")
        assert "hpc stop" in refused.stderr and refused.returncode == 125
        refused = hpc_command("stop", f"--session={session}", "--node=9")
        assert "it has: 1, 3" in refused.stderr


def test_a_node_that_is_added_with_block_leaves_with_the_command():
    with started("--num-cpus=1") as facts:
        command = [sys.executable, "-m", "hpc", "start", "--address=auto", "--num-cpus=1", "--block", "--json"]
        process = subprocess.Popen(command, env=ENV | {"HPC_TMPDIR": os.environ["HPC_TMPDIR"]}, stdout=subprocess.PIPE)
        assert process.stdout is not None
        node = json.loads(process.stdout.readline())["node"]
        with hpc.init(address=facts["session"]):
            eventually(lambda: hpc.cluster_resources()["CPU"] == 2)
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
            process.stdout.close()
            eventually(lambda: hpc.cluster_resources()["CPU"] == 1)
        eventually(lambda: not os.path.exists(node["dir"]))


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_block_stays_and_ends_in_order(signum: signal.Signals):
    command = [sys.executable, "-m", "hpc", "start", "--head", "--num-cpus=1", "--block", "--json"]
    env = ENV | {"HPC_TMPDIR": os.environ["HPC_TMPDIR"]}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        facts = json.loads(process.stdout.readline())
        assert facts["pid"] == process.pid
        assert python_script(READY.format("")).stdout.split() == [facts["session"], "42"]
        process.send_signal(signum)
        assert process.wait(30) == 0
    assert not os.path.exists(facts["dir"]) and not os.path.exists(facts["node_dir"])


def test_stop_names_what_there_is_and_touches_nothing_else():
    none = hpc_command("stop")
    assert none.returncode == 2 and "no session that `hpc start` began runs" in none.stderr
    with one_node() as _, started() as first, started() as second:
        mine = hpc.get_runtime_context().get_job_id()
        unclear = hpc_command("stop")
        assert unclear.returncode == 2
        assert first["session"] in unclear.stderr and second["session"] in unclear.stderr
        assert mine not in unclear.stderr
        other = hpc_command("stop", f"--session={mine}")  # a session, but none that `hpc start` began
        assert other.returncode == 2 and "no session" in other.stderr
        several = python_script(READY.format(""))
        assert "several sessions that `hpc start` began" in several.stderr
        assert hpc_command("stop", f"--session={second['session']}").returncode == 0
        assert not is_running(second["pid"]) and is_running(first["pid"])
        assert hpc.get(hpc.remote(lambda: 1).remote()) == 1
        assert hpc_command("stop").stdout == f"session {first['session']} ended\n"


def test_sessions_of_another_allocation_are_not_joined_by_chance():
    assert job_mark({"SLURM_JOB_ID": "7"}) == "SLURM_JOB_ID=7"
    with started() as facts:
        elsewhere = started_here({"HPC_TMPDIR": os.environ["HPC_TMPDIR"], "PBS_JOBID": "7"})
        assert elsewhere is None
        assert started_here({"HPC_TMPDIR": os.environ["HPC_TMPDIR"]}) == facts["node_dir"]


def test_a_host_that_is_killed_takes_all_of_its_session_along():
    with started() as facts:
        everything = descendants(facts["pid"])
        assert len(everything) > 4
        os.kill(facts["pid"], signal.SIGKILL)
        eventually(lambda: not any(is_running(pid) for pid in everything))
        eventually(lambda: not os.path.exists(facts["node_dir"]))
        assert hosts() == []
    with started() as other:
        assert not os.path.exists(facts["dir"])  # swept by the next
        assert read_host(other["dir"]) is not None


def test_a_head_that_is_lost_ends_the_session_and_its_host():
    with started() as facts:
        os.kill(json.loads(Path(facts["node_dir"], "session.json").read_text())["pid"], signal.SIGKILL)
        eventually(lambda: not is_running(facts["pid"]))
        assert not os.path.exists(facts["dir"])


def test_a_start_that_fails_says_why_and_leaves_nothing():
    result = hpc_command("start", "--head", "--interface=no-such-if")
    assert result.returncode == 122
    assert "no-such-if" in result.stderr and "did not start" in result.stderr
    assert hosts() == []
    result = hpc_command("start", "--head", "--tmpdir=/nonexistent-folder")
    assert "no such directory" in result.stderr


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["start"], "one of --head"),
        (["start", "--head", "--address=x"], "one of --head"),
        (["start", "--head", "--num-cpus=many"], "--num-cpus: not a number"),
        (["start", "--head", "--resources={"], "--resources: not JSON"),
        (["start", "--head", '--resources={"a": "b"}'], "names and numbers"),
        (["start", "--head", "--labels=zone"], "NAME=VALUE"),
        (["start", "--address=0123456789ab"], "no session '0123456789ab'"),
        (["start", "--address=auto", "--namespace=x"], "only with --head"),
        (["stop", "now"], "takes no word 'now'"),
        (["stop", "--sesion=x"], "no such option"),
    ],
)
def test_wrong_words(words: list[str], expected: str, capsys: pytest.CaptureFixture[str]):
    from hpc.cli.main import main

    assert main(words) == 2
    assert expected in capsys.readouterr().err


def test_requests_that_make_no_sense_do_not_disturb_the_host():
    with started() as facts:
        for data in (b"nonsense\n", b"[]\n", b'{"op": "nothing"}\n', b'{"op": "add_node", "overrides": 7}\n', b"{}\n"):
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(20)
                sock.connect(f"{facts['dir']}/host.sock")
                sock.sendall(data)
                reply = json.loads(sock.makefile().readline())
                assert reply["ok"] is False and reply["why"]
        assert is_running(facts["pid"])


def test_a_session_in_another_folder_is_named_by_its_directory():
    folder = tempfile.mkdtemp(prefix="hpcs-", dir="/tmp")
    result = hpc_command("start", "--head", "--num-cpus=1", f"--tmpdir={folder}")
    address = next(line.split("=")[1] for line in result.stdout.splitlines() if "hpc stop" in line)
    assert address.startswith(f"{folder}/hpc-"), result.stderr
    try:
        for env in ({"HPC_ADDRESS": address}, {"HPC_SESSION_DIR": address}):
            assert python_script(READY.format(""), **env).stdout.endswith(" 42\n")
        assert hpc_command("job", "submit", f"--address={address}", "--", "echo", "hi").stdout == "hi\n"
    finally:
        assert hpc_command("stop", f"--session={address}").returncode == 0
    os.rmdir(folder)


def test_the_default_namespace_of_a_session():
    with started("--namespace=lab") as facts:
        script = "import hpc; hpc.init({}); print(hpc.get_runtime_context().namespace)"
        assert python_script(script.format("")).stdout.strip() == "lab"
        assert python_script(script.format("namespace='mine'")).stdout.strip() == "mine"
        assert facts["namespace"] == "lab"


def test_what_is_not_given_comes_from_files_and_variables(tmp_path: Path):
    (tmp_path / "hpc.toml").write_text("cpus_per_task = 3\ngpus_per_node = 2\n")
    env = {"XDG_CONFIG_HOME": str(tmp_path / "none"), "HPC_GPUS_PER_NODE": "1"}
    result = hpc_command("start", "--head", "--json", cwd=tmp_path, env=env)
    facts = json.loads(result.stdout)
    assert (facts["nodes"][0]["cpus"], facts["nodes"][0]["gpus"]) == (3, 1)
    assert hpc_command("stop", f"--session={facts['session']}").returncode == 0


def test_where_hosts_are_looked_for():
    assert bases({"HPC_TMPDIR": "/a", "TMPDIR": "/b"}) == ["/a"]
    assert bases({"TMPDIR": "/b"}) == ["/b", "/tmp"]
    assert bases({}) == ["/tmp"]
