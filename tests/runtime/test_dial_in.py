"""Nodes that dial in: the group's own processes here, and joiners that a scheduler would have started elsewhere."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

import hpc
from hpc.core.node.reap import descendants, is_running
from hpc.launchers.dial_in import DialInGroup
from hpc.launchers.joiner import joiner_command
from hpc.launchers.joinfile import read_join_file
from hpc.launchers.local.group import BEARERS
from hpc.launchers.local.nursery import Nursery
from hpc.launchers.session import Session
from hpc.launchers.session_errors import SessionError
from runtime.running import eventually, on

OVERRIDES = {"num_cpus": 1, "object_store_bytes": 64 << 20}


@contextmanager
def joiner(path: Path, rank: int) -> Iterator[subprocess.Popen[str]]:
    """What a scheduler starts on another machine."""
    process = subprocess.Popen(
        joiner_command(str(path), rank), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def session_of(path: Path, size: int, min_nodes: int | None = None) -> Session:
    return Session(
        DialInGroup(size, str(path)), overrides=OVERRIDES, interface="lo", driver_host=True, min_nodes=min_nodes
    )


def all_below(*pids: int) -> list[int]:
    return [each for pid in pids for each in (pid, *descendants(pid))]


def test_nodes_that_dial_in_are_a_session_and_leave_nothing(tmp_path: Path) -> None:
    path = tmp_path / "join"
    with ExitStack() as stack:
        late = stack.enter_context(joiner(path, 2))  # it is there before the file, and before rank 1
        session = session_of(path, 3)
        session.start()
        try:
            first = stack.enter_context(joiner(path, 1))
            assert [info.rank for info in session.wait_ready(30.0)] == [0, 1, 2]
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            secret = read_join_file(str(path)).secret.encode()
            nurseries = {one.pid for one in BEARERS if isinstance(one, Nursery)}  # of the suite
            everything = [pid for pid in all_below(os.getpid(), first.pid, late.pid) if pid not in nurseries]
            for pid in everything:
                for place in ("cmdline", "environ"):
                    with suppress(OSError):  # a process that has ended meanwhile
                        assert secret not in Path(f"/proc/{pid}/{place}").read_bytes()
            hpc.init(address=session.local_dir())
            where = hpc.remote(lambda: os.getppid())
            parents = {hpc.get(where.options(scheduling_strategy=on(node)).remote(), timeout=60) for node in (1, 2, 3)}
            assert len(parents) == 3
        finally:
            hpc.shutdown()
            session.stop(2.0)
        assert first.wait(60) == 0 and late.wait(60) == 0
    eventually(lambda: not any(is_running(pid) for pid in everything if pid != os.getpid()))
    assert not path.exists()


def test_a_node_is_lost_with_its_joiner_and_the_others_go_on(tmp_path: Path) -> None:
    path = tmp_path / "join"
    session = session_of(path, 3)
    session.start()
    with joiner(path, 1) as first, joiner(path, 2) as second:
        session.wait_ready(30.0)
        below = all_below(first.pid)
        first.send_signal(signal.SIGTERM)
        eventually(lambda: (session.pump(0.1), len(session.ready()) == 2)[1])
        assert [info.rank for info in session.ready()] == [0, 2] and session.state == "ready"
        eventually(lambda: not any(is_running(pid) for pid in below))
        with joiner(path, 1) as again:  # a rank does not come twice
            assert again.wait(30) == 1
            assert again.stderr is not None and "no part of the session" in again.stderr.read()
        session.stop(1.0)
        assert second.wait(60) == 0


def test_the_end_of_a_session_does_not_wait_for_a_node_that_never_came(tmp_path: Path) -> None:
    path = tmp_path / "join"
    session = session_of(path, 3, min_nodes=2)
    session.start_timeout_s = 4.0
    with joiner(path, 1):
        session.start()
        assert len(session.wait_ready(60.0)) == 2
        began = time.monotonic()
        session.stop(60.0)
        assert time.monotonic() - began < 30.0


def test_nodes_end_when_their_launcher_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "join"
    program = textwrap.dedent(
        f"""
        from hpc.launchers.dial_in import DialInGroup
        from hpc.launchers.session import Session
        session = Session(DialInGroup(2, {str(path)!r}), overrides={OVERRIDES!r}, interface="lo", driver_host=True)
        session.start(); session.wait_ready(30.0); print("ready", flush=True)
        while True: session.pump(1.0)
        """
    )
    with joiner(path, 1) as one:
        launcher = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        assert launcher.stdout is not None
        with launcher.stdout:
            assert launcher.stdout.readline() == "ready\n"
        everything = all_below(launcher.pid, one.pid)
        launcher.kill()
        launcher.wait()
        eventually(lambda: not any(is_running(pid) for pid in everything))
    assert not path.exists() or read_join_file(str(path))  # a killed launcher leaves the file, which opens nothing


def test_a_group_whose_file_cannot_be_written_says_so(tmp_path: Path) -> None:
    session = session_of(tmp_path / "nowhere" / "join", 2)
    session.start()
    with pytest.raises(SessionError, match="of 2 nodes came"):
        session.wait_ready()
    (words,) = session.groups[0].last_words
    assert "no node can come in: the join file" in words and "cannot be written" in words
