"""Nodes that are silent, or lose a part of themselves: what others notice, and that nothing is damaged."""

from __future__ import annotations

import os
import signal
import time
from contextlib import contextmanager

import pytest

import hpc
from hpc.core.node.reap import descendants
from hpc.core.node.times import fault_times
from hpc.exceptions import ActorDiedError
from runtime.running import eventually, hpc_json, kill9, local_nodes, pid_of, soft

#: A process that a busy machine does not run for two seconds is no dead node: the limits are above that.
QUICK = {"heartbeat_s": 0.1, "suspect_s": 0.4, "dead_s": 4.0, "fence_s": 2.5}


def node_dir(node):
    return os.path.dirname(hpc.nodes()[node - 1]["RayletSocketName"])


def alive():
    return [n["Alive"] for n in hpc.nodes()]


@hpc.remote(max_retries=3)
def mark(folder, name, gate=None):
    """Leave a mark, work until the gate is there, say where."""
    node = hpc.get_runtime_context().get_node_id()
    open(f"{folder}/{name}-{node}", "w").close()
    if gate is not None:
        eventually(gate.exists, 60.0)
    return name, node


@hpc.remote
class Log:
    def __init__(self):
        self.lines = []

    def add(self, line):
        self.lines.append(line)
        return len(self.lines)


@contextmanager
def stopped(pid):
    """A process and all below it, stopped; they go on at the end."""
    pids = [pid, *descendants(pid)]
    for each in pids:
        os.kill(each, signal.SIGSTOP)
    try:
        yield
    finally:
        for each in pids:
            try:
                os.kill(each, signal.SIGCONT)
            except ProcessLookupError:
                continue


def test_a_stall_heals_and_loses_nothing(tmp_path):
    """Enough heartbeats are missing for the node to be suspect, and not enough for it to be dead."""
    gate = tmp_path / "gate"
    with local_nodes(2, config={"heartbeat_s": 0.2, "suspect_s": 0.8, "dead_s": 20.0, "fence_s": 15.0}):
        log = Log.options(scheduling_strategy=soft(2)).remote()
        assert hpc.get(log.add.remote(0)) == 1
        refs = [mark.options(scheduling_strategy=soft(2)).remote(str(tmp_path), "a", gate)]
        eventually(lambda: list(tmp_path.glob("a-2")))
        with stopped(int(hpc_json(node_dir(2))["pid"])):
            calls = [log.add.remote(n) for n in range(1, 50)]
            gate.touch()
            assert hpc.wait([*refs, *calls], timeout=1.6)[0] == []
        assert hpc.get(refs, timeout=60) == [("a", "2")]
        assert hpc.get(calls, timeout=60) == list(range(2, 51))
        assert alive() == [True, True]


def test_a_silent_node_is_suspect_then_dead_and_ends_when_it_comes_back(tmp_path):
    with local_nodes(3, config=QUICK) as session:
        log = Log.options(scheduling_strategy=soft(3)).remote()
        assert hpc.get(log.add.remote(0)) == 1
        hpc.get(mark.options(scheduling_strategy=soft(3)).remote(str(tmp_path), "warm"))
        moved = mark.options(scheduling_strategy=soft(3)).remote(str(tmp_path), "moved", tmp_path / "gate")
        eventually(lambda: list(tmp_path.glob("moved-3")))
        there = node_dir(3)
        supervisor = int(hpc_json(there)["pid"])
        with stopped(supervisor):
            calls = [log.add.remote(n) for n in range(5)]
            (tmp_path / "gate").touch()
            new = [mark.options(scheduling_strategy="SPREAD").remote(str(tmp_path), f"n{n}") for n in range(8)]
            eventually(lambda: alive() == [True, True, False])
            assert "no word from it" in hpc.nodes()[2]["DeathReason"]
            assert hpc.get(moved, timeout=60)[1] in ("1", "2")
            assert {node for _, node in hpc.get(new, timeout=60)} <= {"1", "2"}
            for call in calls:
                with pytest.raises(ActorDiedError):
                    hpc.get(call, timeout=60)
        eventually(lambda: session.pump(0.05) or session.nodes[3].state == "gone")
        eventually(lambda: not os.path.exists(there))
        assert alive() == [True, True, False]
        again = [mark.remote(str(tmp_path), f"m{n}") for n in range(10)]
        assert [name for name, _ in hpc.get(again, timeout=60)] == [f"m{n}" for n in range(10)]
        eventually(lambda: hpc.available_resources().get("CPU") == 2)


def test_a_stopped_head_holds_nothing_against_the_nodes(tmp_path):
    """It was away for longer than a node may be that gets new work; the nodes' own patience is not used up."""
    with local_nodes(2, config={**QUICK, "dead_s": 60.0, "fence_s": 45.0}) as session:
        hpc.get([mark.options(scheduling_strategy=soft(n)).remote(str(tmp_path), "w") for n in (1, 2)])
        head = pid_of(session.local_dir(), "head")
        with stopped(head):
            refs = [mark.remote(str(tmp_path), f"n{n}") for n in range(20)]
            assert len(hpc.get(refs, timeout=60)) == 20
            time.sleep(1.5)
        assert alive() == [True, True]
        assert hpc.get(mark.options(scheduling_strategy=soft(2)).remote(str(tmp_path), "x"), timeout=60)[0] == "x"


def test_nodes_end_themselves_when_no_head_answers():
    with local_nodes(2, config=QUICK) as session:
        hpc.nodes()
        with stopped(pid_of(session.local_dir(), "head")):
            eventually(lambda: session.pump(0.05) or all(n.state == "gone" for n in session.nodes.values()))


@pytest.mark.parametrize("what", ["raylet", "zygote", "supervisor"])
def test_a_node_without_one_of_its_parts_ends_and_its_work_is_done_elsewhere(tmp_path, what):
    with local_nodes(3) as session:
        log = Log.options(scheduling_strategy=soft(3)).remote()
        assert hpc.get(log.add.remote(0)) == 1
        gate = tmp_path / "gate"
        moved = [mark.options(scheduling_strategy=soft(n)).remote(str(tmp_path), f"t{n}", gate) for n in (2, 3)]
        eventually(lambda: list(tmp_path.glob("t3-3")) and list(tmp_path.glob("t2-2")))
        there = node_dir(3)
        supervisor = int(hpc_json(there)["pid"])
        below = descendants(supervisor)
        kill9(supervisor if what == "supervisor" else pid_of(there, what))
        # About 0.3 s on a machine with nothing else to do; by its silence alone it would be dead after 60 s.
        eventually(lambda: session.pump(0.02) or not alive()[2], 30.0)
        gate.touch()
        results = hpc.get(moved, timeout=60)
        assert results[0] == ("t2", "2")
        assert results[1][1] in ("1", "2")
        with pytest.raises(ActorDiedError):
            hpc.get(log.add.remote(1), timeout=60)
        eventually(lambda: not [p for p in below if os.path.exists(f"/proc/{p}/exe")])
        eventually(lambda: not os.path.exists(there))


def test_a_node_whose_zygote_hangs_ends_and_its_work_is_done_elsewhere(tmp_path):
    with local_nodes(3, config=QUICK) as session:
        log = Log.options(scheduling_strategy=soft(3), max_restarts=1).remote()
        assert hpc.get(log.add.remote(0)) == 1
        there = node_dir(3)
        below = descendants(int(hpc_json(there)["pid"]))
        os.kill(pid_of(there, "zygote"), signal.SIGSTOP)
        eventually(lambda: session.pump(0.02) or session.nodes[3].state == "gone", 30)
        assert "zygote hangs: it has not answered for" in session.nodes[3].why
        eventually(lambda: not [p for p in below if os.path.exists(f"/proc/{p}/exe")])
        eventually(lambda: session.pump(0.02) or not alive()[2])
        assert hpc.get(log.add.remote(0), timeout=60) == 1


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"suspect_s": 70}, "must be above 0 and grow"),
        ({"heartbeat_s": 0}, "it takes seconds from 0.001"),
        ({"fence_s": 61}, "below dead_s"),
    ],
)
def test_times_in_the_wrong_order_are_refused(config, words):
    with pytest.raises(ValueError, match=words):
        fault_times(config)


def test_times_follow_from_the_one_that_is_given():
    assert fault_times({}) == (1.0, 2.0, 10.0, 60.0, 45.0)
    assert fault_times({"dead_s": 12}) == (1.0, 2.0, 2.0, 12.0, 9.0)
