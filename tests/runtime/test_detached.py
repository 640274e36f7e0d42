"""Detached actors outlive the driver that made them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import hpc
from hpc.actor import list_named_actors
from hpc.core.process.current import need_client
from hpc.state.gather import from_raylets
from hpc.util.state import list_actors
from runtime.running import eventually, one_node

MAKER = """
    import os, sys
    import numpy as np
    import hpc

    hpc.init(address={address!r}, namespace="shared")

    @hpc.remote(lifetime="detached", name="counter", max_restarts=2, num_cpus=0.1)
    class Counter:
        def __init__(self, start, array):
            self.value = int(start + array[0])
        def add(self, by):
            self.value += by
            return self.value
        def pid(self):
            return os.getpid()
        def crash(self):
            os._exit(1)

    counter = Counter.remote(hpc.put(10), np.full(200_000, 5))
    print(hpc.get(counter.add.remote(1)))
"""


def make(address: str) -> None:
    script = textwrap.dedent(MAKER.format(address=address))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "16", done.stderr


def test_a_detached_actor_outlives_its_maker():
    with one_node(namespace="shared"):
        make(hpc.get_runtime_context().gcs_address)
        counter = hpc.get_actor("counter")
        assert hpc.get(counter.add.remote(4)) == 20
        (row,) = [row for row in list_actors() if row["name"] == "counter"]
        assert row["state"] == "ALIVE" and row["pid"] == hpc.get(counter.pid.remote())
        del counter  # the last handle
        counter = hpc.get_actor("counter")
        assert hpc.get(counter.add.remote(1)) == 21
        with pytest.raises(ValueError, match="no actor named"):
            hpc.get_actor("counter", namespace="other")
        hpc.kill(counter)
        with pytest.raises(hpc.exceptions.ActorDiedError):
            wait_for_another(counter, hpc.get(counter.pid.remote()))  # a call may overtake the news
        eventually(lambda: not is_known("counter"))


def is_known(name: str) -> bool:
    try:
        hpc.get_actor(name)
    except ValueError:
        return False
    return True


def test_names_are_given_once():
    with one_node():
        cls = hpc.remote(Box)
        box = cls.options(name="box", lifetime="detached").remote(1)
        assert hpc.get(box.get.remote()) == 1
        with pytest.raises(ValueError, match="taken"):
            cls.options(name="box", lifetime="detached").remote(2)
        again = cls.options(name="box", lifetime="detached", get_if_exists=True).remote(3)
        assert list_named_actors() == ["box"]
        space = hpc.get_runtime_context().namespace
        assert {"name": "box", "namespace": space} in list_named_actors(all_namespaces=True)
        assert again == box and hpc.get(again.get.remote()) == 1
        with pytest.raises(ValueError, match="lifetime"):
            cls.options(lifetime="forever")


class Box:
    def __init__(self, value):
        self.value = value

    def get(self):
        return self.value

    def size(self):
        return int(np.size(self.value))

    def pid(self):
        return os.getpid()


def test_it_restarts_by_its_policy():
    with one_node():
        box = hpc.remote(Box).options(lifetime="detached", max_restarts=1).remote([hpc.put(3)])
        pid = hpc.get(box.pid.remote())
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: not os.path.exists(f"/proc/{pid}"))
        second = wait_for_another(box, pid)
        os.kill(second, signal.SIGKILL)
        with pytest.raises(hpc.exceptions.ActorDiedError):
            wait_for_another(box, second)


def test_no_process_but_the_heads_own_is_needed_by_a_detached_actor():
    with one_node():
        box = hpc.remote(Box).options(name="box", lifetime="detached").remote(1)
        pid = hpc.get(box.pid.remote())
        killed = set(worker_pids(need_client().node_dir)) - {pid}
        for other in killed:
            os.kill(other, signal.SIGKILL)
        eventually(lambda: not killed & {row["pid"] for row in from_raylets("workers").rows})
        assert hpc.get(box.pid.remote(), timeout=60) == pid
        hpc.kill(box)
        eventually(lambda: not is_known("box"))
        other = hpc.remote(Box).options(name="box", lifetime="detached").remote(2)
        assert hpc.get(other.get.remote()) == 2


def test_it_ends_by_an_argument_that_failed_and_its_name_is_free():
    @hpc.remote
    def fail():
        raise ValueError("no")

    with one_node():
        for ref in (fail.remote(), fail.remote()):
            box = hpc.remote(Box).options(name="box", lifetime="detached").remote(ref)
            with pytest.raises((ValueError, hpc.exceptions.ActorDiedError)):
                hpc.get(box.get.remote(), timeout=60)
            eventually(lambda: not is_known("box"))


def wait_for_another(box, pid: int) -> int:
    """The process id of the actor's next incarnation; a call may be faster than the news of a death."""
    while True:
        try:
            now = hpc.get(box.pid.remote())
        except hpc.exceptions.ActorUnavailableError:
            continue
        if now != pid:
            return int(now)


def worker_pids(node_dir: str) -> list[int]:
    """The processes that listen as workers of this node: found by the names of their sockets."""
    with open("/proc/net/unix") as table:
        rows = [line.split() for line in table if f"{node_dir}/w" in line]
    inodes = {f"socket:[{row[6]}]" for row in rows if row[-1].endswith(".sock")}
    found = []
    for pid in (entry for entry in os.listdir("/proc") if entry.isdigit()):
        try:
            names = {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
        except OSError:
            continue
        if names & inodes:
            found.append(int(pid))
    return found
