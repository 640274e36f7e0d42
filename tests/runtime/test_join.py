"""Nodes that join over the network, with a join file: on this machine, by its loopback interface."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import hpc
from hpc.core.net.curve import KeyPair
from hpc.core.node.reap import descendants, is_running
from hpc.launchers.joinfile import JoinFileError, read_join_file, remove_join_file
from runtime.hosting import ENV, hpc_command, started
from runtime.running import eventually


@pytest.fixture
def elsewhere() -> Iterator[str]:
    """Where the directories of the "other machine" go."""
    path = tempfile.mkdtemp(prefix="hpcj-", dir="/tmp")
    yield path
    eventually(lambda: not os.listdir(path))
    shutil.rmtree(path)


def join_words(path: Path, *more: str) -> list[str]:
    return ["start", f"--join-file={path}", "--num-cpus=1", "--interface=lo", "--json", *more]


def test_a_joined_node_is_one_like_the_others(tmp_path: Path, elsewhere: str):
    path = tmp_path / "join"
    with started("--num-cpus=1", "--interface=lo", f"--join-file={path}") as facts:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        join = read_join_file(str(path))
        result = hpc_command(*join_words(path, "--resources", '{"far": 1}'), env={"HPC_TMPDIR": elsewhere})
        node = json.loads(result.stdout)
        assert node["node"] == 2 and node["dir"].startswith(elsewhere), result.stderr
        for pid in [facts["pid"], *descendants(facts["pid"]), node["pid"], *descendants(node["pid"])]:
            for secret in ("cmdline", "environ"):
                assert join.secret.encode() not in Path(f"/proc/{pid}/{secret}").read_bytes()
        hpc.init(address=node["dir"])  # a driver there
        try:
            where = hpc.remote(lambda data: (hpc.get_runtime_context().get_node_id(), len(data)))
            data = hpc.put(bytes(8 << 20))
            assert hpc.get(where.options(resources={"far": 1}).remote(data), timeout=60) == ("2", 8 << 20)
            spread = [where.options(scheduling_strategy="SPREAD").remote(data) for _ in range(4)]
            assert {number for number, _size in hpc.get(spread, timeout=60)} == {"1", "2"}
        finally:
            hpc.shutdown()
        everything = [node["pid"], *descendants(node["pid"])]
    assert not path.exists()
    eventually(lambda: not any(is_running(pid) for pid in everything))


def test_a_joined_node_leaves_with_its_command_or_by_hpc_stop(tmp_path: Path, elsewhere: str):
    path = tmp_path / "join"
    with started("--num-cpus=1", "--interface=lo", f"--join-file={path}") as facts:
        words = [sys.executable, "-m", "hpc", *join_words(path, "--block")]
        with hpc.init(address=facts["session"]):
            for how in ("signal", "stop", "crash"):
                process = subprocess.Popen(words, env={**ENV, "HPC_TMPDIR": elsewhere}, stdout=subprocess.PIPE)
                assert process.stdout is not None
                with process.stdout:
                    node = json.loads(process.stdout.readline())
                eventually(lambda: hpc.cluster_resources()["CPU"] == 2)
                if how == "signal":
                    process.send_signal(signal.SIGTERM)
                elif how == "stop":
                    left = hpc_command("stop", f"--session={facts['session']}", f"--node={node['node']}")
                    assert left.returncode == 0, left.stderr
                else:
                    os.kill(json.loads(Path(node["dir"], "session.json").read_text())["pid"], signal.SIGKILL)
                process.wait(60)
                eventually(lambda: hpc.cluster_resources()["CPU"] == 1)
                eventually(lambda node=node: not os.path.exists(node["dir"]))


def test_who_has_not_the_key_does_not_get_in(tmp_path: Path, elsewhere: str):
    path = tmp_path / "join"
    with started("--num-cpus=1", "--interface=lo", f"--join-file={path}") as facts:
        stranger = KeyPair.make()
        replace(read_join_file(str(path)), public=stranger.public, secret=stranger.secret).write(str(tmp_path / "bad"))
        words = join_words(tmp_path / "bad", "--start-timeout=1s")
        result = hpc_command(*words, env={"HPC_TMPDIR": elsewhere})
        assert result.returncode == 125 and "nothing was heard from tcp://127.0.0.1" in result.stderr
        with hpc.init(address=facts["session"]):
            assert len(hpc.nodes()) == 1
        wrong = hpc_command("start", f"--join-file={path}", "--address=0123456789ab")
        assert f"is that of session {facts['session']}" in wrong.stderr
        there = hpc_command(*join_words(path, "--interface=no-such-if"), env={"HPC_TMPDIR": elsewhere})
        assert "no-such-if is not on this machine" in there.stderr


def test_the_file_must_be_private_and_whole(tmp_path: Path):
    path = tmp_path / "join"
    with pytest.raises(JoinFileError, match="cannot be read"):
        read_join_file(str(path))
    path.write_text("{}")
    with pytest.raises(JoinFileError, match="chmod 600"):
        read_join_file(str(path))
    path.chmod(0o600)
    for text in ("{}", "[]", "no", '{"hpc": "join", "session": "a"}'):
        path.write_text(text)
        with pytest.raises(JoinFileError, match="is no join file"):
            read_join_file(str(path))
    remove_join_file(str(path), "a")  # not one of ours: stays
    assert path.exists()
    result = hpc_command("start", "--head", "--interface=lo", f"--join-file={tmp_path}/none/join")
    assert result.returncode == 122 and "cannot be written" in result.stderr
