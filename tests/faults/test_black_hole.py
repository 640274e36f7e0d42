"""Packets that vanish: a node in a black hole comes back unharmed, or is dead and has stopped in time."""

from __future__ import annotations

import os
import signal
import time

import numpy as np
from faults.linkbed import linked_nodes

import hpc
from hpc.core.node.reap import descendants, is_running
from runtime.running import eventually, hpc_json, pid_of, soft

#: The fence falls 3 s before the burial: a busy test machine is slow, and must not be what is tested.
TIMES = {"heartbeat_s": 0.1, "suspect_s": 0.5, "dead_s": 5.5, "fence_s": 2.5}


@hpc.remote(num_cpus=0)
class Scribe:
    """Writes the numbers of its calls; and, if it is told to, a line every few milliseconds, called or not."""

    def __init__(self, path):
        self.path = path
        self.life = f"{hpc.get_runtime_context().get_node_id()}-{os.getpid()}"

    def write(self, number):
        with open(self.path, "a") as file:
            file.write(f"{number}\n")
        return number

    def go_on(self):
        import threading

        def run():
            with open(self.path, "a", buffering=1) as file:
                while True:
                    file.write(f"{self.life} {time.monotonic():.3f}\n")
                    time.sleep(0.005)

        threading.Thread(target=run, daemon=True).start()
        return self.life


@hpc.remote
def make(size):
    return np.full(size, 5, dtype=np.uint8)


@hpc.remote
def where():
    return hpc.get_runtime_context().get_node_id()


def alive():
    return [n["Alive"] for n in hpc.nodes()]


def lives(path):
    return [line.split()[0] for line in path.read_text().splitlines() if " " in line]


def test_a_black_hole_heals_and_loses_nothing(tmp_path):
    """Longer than a connection lives in silence, shorter than a node: calls, a pull and new work wait inside."""
    path = tmp_path / "log"
    with linked_nodes(2, tmp_path, num_cpus=2) as (_, bed):
        scribe = Scribe.options(scheduling_strategy=soft(2)).remote(str(path))
        assert hpc.get(scribe.write.remote(0)) == 0
        big = make.options(scheduling_strategy=soft(2)).remote(8 << 20)
        hpc.wait([big], fetch_local=False)
        before = bed.accepted
        bed.hold(2)
        begin = time.monotonic()
        calls = [scribe.write.remote(number) for number in range(1, 501)]
        pulled = hpc.remote(lambda array: int(array.sum())).options(scheduling_strategy=soft(1)).remote(big)
        new = where.options(scheduling_strategy=soft(2)).remote()
        assert hpc.wait([calls[-1], pulled], num_returns=2, timeout=1.5)[0] == []
        eventually(lambda: bed.accepted > before)  # ZeroMQ has given the silent connections up, and meets silence anew
        assert time.monotonic() - begin >= 1.5
        bed.heal(2)
        assert hpc.get(calls, timeout=60) == list(range(1, 501))
        assert hpc.get(pulled, timeout=60) == 5 * (8 << 20)
        assert hpc.get(new, timeout=60) == "2"
        assert path.read_text().split() == [str(n) for n in range(501)]
        assert alive() == [True, True]


def test_after_a_longer_black_hole_only_the_new_incarnation_writes(tmp_path):
    """An actor that writes all the time, called or not: no line of the old life follows the first of the new."""
    path = tmp_path / "log"
    with linked_nodes(3, tmp_path, config=TIMES) as (session, bed):
        scribe = Scribe.options(scheduling_strategy=soft(3), max_restarts=1, max_task_retries=-1).remote(str(path))
        old = hpc.get(scribe.go_on.remote())
        assert old.startswith("3-")
        there = os.path.dirname(hpc.nodes()[2]["RayletSocketName"])
        below = descendants(int(hpc_json(there)["pid"]))
        bed.hold(3)
        call = scribe.go_on.remote()
        eventually(lambda: alive() == [True, True, False])
        new = hpc.get(call, timeout=60)
        assert new[0] in "12"
        eventually(lambda: lives(path).count(new) > 20)
        bed.heal(3)  # what it still had to say arrives now, and changes nothing
        eventually(lambda: session.pump(0.05) or session.nodes[3].state == "gone")
        eventually(lambda: not [pid for pid in below if is_running(pid)])
        seen = lives(path)
        assert old not in seen[seen.index(new) :]
        assert seen.count(old) > 20
        assert hpc.get(scribe.write.remote(1), timeout=60) == 1


def test_a_raylet_that_hangs_takes_its_workers_with_it(tmp_path):
    """Only the raylet is stopped: its workers would go on for ever beside the new incarnation of their actor."""
    path = tmp_path / "log"
    # the head's own limit for silence is far: it is the supervisor beside the raylet that ends it
    with linked_nodes(3, tmp_path, config={**TIMES, "dead_s": 60.0}) as (session, _):
        scribe = Scribe.options(scheduling_strategy=soft(3), max_restarts=1, max_task_retries=-1).remote(str(path))
        old = hpc.get(scribe.go_on.remote())
        there = os.path.dirname(hpc.nodes()[2]["RayletSocketName"])
        os.kill(pid_of(there, "raylet"), signal.SIGSTOP)
        eventually(lambda: session.pump(0.05) or session.nodes[3].state == "gone")
        assert "raylet hangs: it has not answered for 2.5 s" in session.nodes[3].why
        new = hpc.get(scribe.go_on.remote(), timeout=60)
        assert new[0] in "12"
        eventually(lambda: lives(path).count(new) > 20)
        seen = lives(path)
        assert old not in seen[seen.index(new) :]
