"""SIGKILL at named points of a fixed program: its values are right, and nothing is left behind.

Each point is a kind of process, a kind of message and which of them: the process ends when it has read it, or when it
has handled it and before anything that follows from it is sent.
"""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path

import numpy as np
import pytest

import hpc
from hpc.core.crashpoints import MARK
from hpc.launchers.local.group import LocalGroup
from hpc.launchers.session import Session
from hpc.launchers.session_errors import StartError
from hpc.launchers.session_thread import SessionThread

pytestmark = pytest.mark.timeout(90)
SIZE = 200_000
PATIENCE_S = 45.0

#: What reaches each kind of process while the program runs.
WORKER = ["LeaseBegin:1", "DefineFunction:1", "Task:1", "Task:7", "CreateActor:1", "Call:1", "Call:2", "Calls:1"]
WORKER += ["LeaseGrant:1", "Done:1", "BorrowAcked:1", "ObjectValue:1", "Allocated:1", "Fetched:1"]
RAYLET = ["LeaseRequest:1", "LeaseRequest:2", "LeaseReturn:1", "Tickets:1", "Alloc:1", "Seal:1", "Unpin:1", "Free:1"]
RAYLET += ["Fetch:1", "BorrowAdd:1", "BorrowDrop:1", "HoldAcked:1", "Blocked:1", "Unblocked:1", "Pull:1", "Chunk:1"]
RAYLET += ["HeartbeatAck:1"]
HEAD = [
    "NodeRegister:3",
    "Heartbeat:2",
    "Heartbeat:20",
    "NodeDemand:1",
    "NodeDemand:3",
    "NameRegister:1",
    "NameLookup:1",
]
#: Whether these come to node 2 depends on which workers are faster.
SOMETIMES = {"Alloc", "Free", "Fetch", "BorrowAdd", "BorrowDrop", "Chunk", "Pull", "Tickets", "Blocked", "Unblocked"}
SOMETIMES |= {"Seal", "Unpin", "HoldAcked", "LeaseReturn", "Allocated", "Fetched", "ObjectValue", "BorrowAcked"}
POINTS = [f"worker:{point}:before" for point in WORKER]
POINTS += [f"raylet:{point}:after" for point in RAYLET]
POINTS += [f"head:{point}:{when}" for point in HEAD for when in ("before", "after")]


@hpc.remote(max_retries=-1)
def square(x):
    return x * x


@hpc.remote(max_retries=-1)
def block(value):
    return np.full(SIZE, value, np.uint8)


@hpc.remote(max_retries=-1)
def total(*arrays):
    return sum(int(array.sum()) for array in arrays)


@hpc.remote(max_retries=-1)
def nested(values):
    return sum(hpc.get([square.remote(v) for v in values]))


@hpc.remote(max_retries=-1)
def read(box):
    return int(hpc.get(box[0]).sum())


@hpc.remote(max_retries=-1)
def count(n):
    yield from range(n)


@hpc.remote(max_restarts=-1, max_task_retries=-1, num_cpus=0)
class Keeper:
    def __init__(self):
        self.kept = None

    def keep(self, box):
        self.kept = box[0]
        return True

    def double(self, x):
        return 2 * x


def program(name: str = "keeper") -> None:
    """A bit of everything, with values that are known; its actor gets this name."""
    squares = [square.options(scheduling_strategy="SPREAD").remote(i) for i in range(12)]
    blocks = [block.options(scheduling_strategy="SPREAD").remote(i) for i in range(6)]
    keeper = Keeper.options(name=name, scheduling_strategy="SPREAD").remote()
    assert hpc.get(keeper.keep.remote([blocks[0]]))
    doubles = [keeper.double.remote(i) for i in range(8)]
    assert hpc.get(total.options(scheduling_strategy="SPREAD").remote(*blocks)) == 15 * SIZE
    assert hpc.get([read.options(scheduling_strategy="SPREAD").remote([b]) for b in blocks[:3]]) == [0, SIZE, 2 * SIZE]
    assert hpc.get([nested.remote([1, 2, 3]) for _ in range(3)]) == [14] * 3
    assert hpc.get(squares) == [i * i for i in range(12)]
    assert hpc.get(doubles) == [2 * i for i in range(8)]
    assert [hpc.get(ref) for ref in count.remote(5)] == list(range(5))
    assert hpc.get(hpc.get_actor(name).double.remote(4)) == 8
    assert int(hpc.get(blocks[5])[0]) == 5


def somebody_died(folders: list[str]) -> bool:
    """Whether a process of one of these nodes ended at the point that it was told."""
    return any(not Path(folder).exists() or Path(folder, MARK).exists() for folder in folders)


def started(config: dict[str, object], tries: int = 3) -> Session:
    """A session of three nodes. One whose node ends at its point before the others have come does not start, and says
    so: that is no question of this test, so it is tried again."""
    session = Session(LocalGroup(3), overrides={"num_cpus": 2, "object_store_bytes": 64 << 20}, config=config)
    try:
        session.start()
        session.wait_ready(30.0)
    except StartError as error:
        session.stop(1.0)
        if tries > 1 and "its raylet was killed by SIGKILL" in str(error):
            return started(config, tries - 1)
        raise
    return session


def run(config: dict[str, object], until_reached: bool = False) -> bool:
    """Run the program on three nodes, again and again if it has to be until_reached; whether somebody died as told."""
    session = started(config)
    pumped = SessionThread(session)
    try:
        node_dir = session.local_dir()
        assert node_dir is not None
        hpc.init(address=node_dir)
        folders = [os.path.dirname(node["RayletSocketName"]) for node in hpc.nodes()]
        program()
        deadline = time.monotonic() + PATIENCE_S
        while until_reached and not somebody_died(folders) and time.monotonic() < deadline:
            program(f"keeper-{uuid.uuid4().hex}")  # the 20th heartbeat, say, comes when it comes
        return somebody_died(folders)
    finally:
        hpc.shutdown()
        pumped.stop(2.0, "the test is over")


def test_the_program_itself():
    assert not run({"loopback": True})


@pytest.mark.parametrize("point", POINTS)
def test_a_death_at_a_point(point):
    """The driver's node is 1, with the head; raylets die on node 2."""
    config: dict[str, object] = {"loopback": True, "crash": point}
    if point.startswith("raylet"):
        config["crash_node"] = 2
    always = point.split(":")[1] not in SOMETIMES
    assert run(config, until_reached=always) or not always, "the point was not reached"


def test_a_death_before_the_node_is_there_is_said():
    with pytest.raises(StartError, match=r"node 2 .*its raylet was killed by SIGKILL"):
        run({"loopback": True, "crash": "raylet:NodeTable:1:before", "crash_node": 2})
