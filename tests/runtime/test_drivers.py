"""Drivers: several on one session, coming and going; in notebooks, threads and forked children."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

import hpc
from runtime.running import eventually, one_node

HELPERS = """
import hpc, os, sys, time
"""


@hpc.remote
def add(a: int, b: int) -> int:
    return a + b


class Other:
    """Another driver, a process that runs a script and then does what stdin says: exits at its end."""

    def __init__(self, script: str, **env: str) -> None:
        code = HELPERS + textwrap.dedent(script) + "\nprint('ready', flush=True)\nsys.stdin.read()\n"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, **env},
        )  # fmt: skip
        self.said: list[str] = []
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.strip() == "ready":
                break
            self.said.append(line.strip())
        else:
            self.process.wait()
            pytest.fail(f"the other driver did not get ready: {self.said}")

    def leave(self, how: str = "exit") -> None:
        if how == "kill":
            self.process.send_signal(signal.SIGKILL)
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(30)


def run_script(text: str, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", HELPERS + textwrap.dedent(text)], env={**os.environ, **env}, capture_output=True,
        text=True, timeout=60, cwd=cwd,
    )  # fmt: skip


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# ---------------------------------------------------------------- several drivers


def test_names_of_drivers_are_their_own_unless_they_share_a_namespace():
    with one_node(num_cpus=4):
        address = hpc.get_runtime_context().get_job_id()
        script = f"""
            hpc.init(address={address!r}, namespace=NAMESPACE)
            @hpc.remote(num_cpus=0)
            class A:
                def who(self): return WHO
            a = A.options(name="a").remote()
            print(hpc.get(a.who.remote()))
        """
        others = [
            Other(script.replace("NAMESPACE", repr(namespace)).replace("WHO", repr(f"{namespace}'s")))
            for namespace in ("lab", None, None)
        ]
        assert [other.said for other in others] == [["lab's"], ["None's"], ["None's"]]
        with pytest.raises(ValueError, match="a"):
            hpc.get_actor("a")
        assert hpc.get(hpc.get_actor("a", namespace="lab").who.remote()) == "lab's"
        for other in others:
            other.leave()
        assert hpc.get(add.remote(1, 2)) == 3


@pytest.mark.parametrize("how", ["exit", "kill"])
def test_a_driver_that_leaves_takes_all_that_was_its(how: str):
    with one_node(num_cpus=2, object_store_memory=128 << 20):
        address = hpc.get_runtime_context().get_job_id()
        other = Other(f"""
            hpc.init(address={address!r}, namespace="other")
            @hpc.remote(num_cpus=1)
            class Holder:
                def pid(self): return os.getpid()
            @hpc.remote(num_cpus=1)
            def endless(pid_file):
                open(pid_file, "w").write(str(os.getpid()))
                while True: time.sleep(0.1)
            holder = Holder.options(name="holder").remote()
            pid = hpc.get(holder.pid.remote())
            kept = hpc.put(bytes(90 << 20))
            running = endless.remote(os.environ["HPC_TMPDIR"] + "/endless-pid")
            waiting = [endless.remote("/nowhere") for _ in range(20)]
            while not os.path.exists(os.environ["HPC_TMPDIR"] + "/endless-pid"): time.sleep(0.01)
            print(pid)
        """)
        pid_file = Path(os.environ["HPC_TMPDIR"], "endless-pid")
        pids = [int(other.said[-1]), int(eventually(pid_file.read_text))]
        pid_file.unlink()
        assert all(alive(pid) for pid in pids)
        assert hpc.get(hpc.get_actor("holder", namespace="other").pid.remote()) == pids[0]
        stays = hpc.put("stays")
        other.leave(how)
        eventually(lambda: not any(alive(pid) for pid in pids))
        eventually(lambda: hpc.available_resources().get("CPU") == 2)
        assert hpc.get([add.remote(i, 1) for i in range(4)], timeout=60) == [1, 2, 3, 4]
        with pytest.raises(ValueError):
            hpc.get_actor("holder", namespace="other")
        again = hpc.put(bytes(90 << 20))  # there is room for it only once the other's object is gone
        assert len(hpc.get(again)) == 90 << 20
        assert hpc.get(stays) == "stays"


def test_an_actor_of_a_driver_that_left_is_dead_for_those_who_still_have_its_handle():
    with one_node(num_cpus=2):
        other = Other(f"""
            hpc.init(address={hpc.get_runtime_context().get_job_id()!r}, namespace="other")
            @hpc.remote(num_cpus=0)
            class A:
                def value(self): return 7
            a = A.options(name="a").remote()
            hpc.get(a.value.remote())
        """)
        a = hpc.get_actor("a", namespace="other")
        assert hpc.get(a.value.remote()) == 7
        other.leave()
        with pytest.raises(hpc.exceptions.ActorDiedError):
            eventually(lambda: hpc.get(a.value.remote(), timeout=60) is None)


def test_objects_of_a_driver_that_left_are_lost_for_those_who_still_have_a_reference():
    @hpc.remote(num_cpus=0)
    class Box:
        def keep(self, refs):
            self.refs = refs

        def take(self):
            return self.refs

    with one_node(num_cpus=2, namespace="lab"):
        box = Box.options(name="box").remote()
        assert hpc.get(box.keep.remote([])) is None
        other = Other(f"""
            hpc.init(address={hpc.get_runtime_context().get_job_id()!r}, namespace="lab")
            kept = hpc.put(bytes(1 << 20))
            hpc.get(hpc.get_actor("box").keep.remote([kept]))
        """)
        (ref,) = hpc.get(box.take.remote())
        other.leave()
        with pytest.raises(hpc.exceptions.OwnerDiedError):
            eventually(lambda: hpc.get(ref, timeout=60) is None)


def test_drivers_that_come_and_go_leave_the_session_as_it_was():
    with one_node(num_cpus=2):
        address = hpc.get_runtime_context().get_job_id()
        script = f"""
            for _ in range(5):
                with hpc.init(address={address!r}):
                    print(hpc.get(hpc.remote(lambda: 5).remote()), end=" ")
        """
        for _ in range(2):
            assert run_script(script).stdout.split() == ["5"] * 5
        assert hpc.get(add.remote(2, 2)) == 4
        eventually(lambda: hpc.available_resources()["CPU"] == 2)


# ---------------------------------------------------------------- this process


def test_five_sessions_one_after_the_other_leave_no_descriptors():
    counts = []
    for i in range(5):
        with one_node(num_cpus=1, object_store_memory=64 << 20):
            assert hpc.get(add.remote(i, 1)) == i + 1
            assert len(hpc.get(hpc.put(bytes(1 << 20)))) == 1 << 20
        counts.append(len(os.listdir("/proc/self/fd")))
    assert counts[-1] <= counts[1], counts


def test_init_again_is_allowed_when_said_so_in_drivers_and_workers():
    @hpc.remote
    def inside():
        import hpc as again

        return again.init(ignore_reinit_error=True)["session"]

    with one_node() as _:
        session = hpc.get_runtime_context().get_job_id()
        assert hpc.init(ignore_reinit_error=True)["session"] == session
        assert hpc.get(inside.remote()) == session


def test_a_driver_inside_a_running_event_loop():
    async def notebook() -> list[int]:
        with one_node():
            refs = [add.remote(i, 1) for i in range(3)]
            first = await refs[0]
            rest = await asyncio.gather(*refs[1:])
            return [first, *rest, hpc.get(add.remote(1, 1))]

    assert asyncio.run(notebook()) == [1, 2, 3, 2]


def test_a_driver_in_another_thread_and_one_that_outlives_it():
    found: list[object] = []

    def begin() -> None:
        hpc.init(address="local", num_cpus=1)
        found.append(hpc.get(add.remote(1, 2)))

    thread = threading.Thread(target=begin)
    thread.start()
    thread.join(60)
    try:
        assert found == [3]
        assert hpc.get(add.remote(2, 2)) == 4  # the session does not end with the thread that began it
    finally:
        ender = threading.Thread(target=hpc.shutdown)
        ender.start()
        ender.join(30)
    assert not hpc.is_initialized()


# ---------------------------------------------------------------- fork


def in_child(body) -> str:
    """What ``body`` returns, or the exception that it raises, in a forked child that runs to its regular end."""
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            try:
                text = repr(body())
            except Exception as error:
                text = f"{type(error).__name__}: {error}"
            os.write(write, text.encode())
            import hpc.api.init

            hpc.api.init._at_exit()
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        text = pipe.read()
    os.waitpid(pid, 0)
    return text


def test_a_forked_child_gets_a_clear_error_and_the_parent_goes_on():
    with one_node():
        ref = add.remote(1, 2)
        held = hpc.put(bytes(1 << 20))
        value = hpc.get(held)
        for use in (
            lambda: hpc.get(ref),
            lambda: hpc.put(1),
            lambda: add.remote(1, 1),
            lambda: hpc.wait([ref]),
            lambda: hpc.nodes(),
            lambda: hpc.cancel(ref),
            lambda: hpc.get_runtime_context().get_node_id(),
        ):
            assert "this process was forked from one that is connected" in in_child(use)
        assert in_child(hpc.is_initialized) == "False"
        assert in_child(lambda: (hpc.shutdown(), len(value))) == f"(None, {1 << 20})"
        assert hpc.get([ref, *[add.remote(i, i) for i in range(100)]], timeout=60)[-1] == 198


def test_a_forked_child_may_have_a_connection_of_its_own():
    with one_node():
        address = hpc.get_runtime_context().get_job_id()

        def connect() -> int:
            with hpc.init(address=address):
                return hpc.get(add.remote(20, 22))

        assert in_child(connect) == "42"
        assert hpc.get(add.remote(1, 1)) == 2


def test_children_of_workers_get_the_error_too():
    @hpc.remote
    def forks() -> str:
        import multiprocessing

        with multiprocessing.get_context("fork").Pool(1) as pool:
            return pool.apply(_put_in_child)

    with one_node():
        assert "this process was forked" in hpc.get(forks.remote(), timeout=30)


def _put_in_child() -> str:
    try:
        hpc.put(1)
    except RuntimeError as error:
        return str(error)
    return "no error"


# ---------------------------------------------------------------- options from files and the environment


def test_init_reads_the_files_and_variables_that_hpc_launch_reads(tmp_path: Path):
    script = """
        with hpc.init(address="local") as context:
            print(len(hpc.nodes()), hpc.cluster_resources()["CPU"], context["node_dir"], os.environ.get("FROM_FILE"))
    """
    (tmp_path / "hpc.toml").write_text('nodes = 2\ncpus_per_task = 3\nenv = ["FROM_FILE=1"]\n')
    env = {"XDG_CONFIG_HOME": str(tmp_path / "none")}
    said = run_script(script, tmp_path, **env).stdout.split()
    assert said[:2] == ["2", "6.0"] and said[3] == "1"
    assert run_script(script, tmp_path, HPC_NODES="1", **env).stdout.split()[:2] == ["1", "3.0"]
    given = script.replace('address="local"', 'address="local", num_cpus=1')
    assert run_script(given, tmp_path, **env).stdout.split()[:2] == ["2", "2.0"]
    bad = run_script(script, tmp_path, HPC_NODES="many", **env)
    assert "ValueError" in bad.stderr and "HPC_NODES" in bad.stderr
