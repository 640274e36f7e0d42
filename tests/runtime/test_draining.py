"""Before the end: nothing new begins, callbacks run, actors save; and the next session begins with what was saved."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import hpc
from hpc.core.process.current import need_client
from hpc.exceptions import ActorDiedError, NoStateError, TaskError
from hpc.launchers.session import Session
from hpc.util import state
from runtime.running import Heads, eventually, local_nodes, on, one_node, soft, where_once


@hpc.remote(num_cpus=0)
class Keeps:
    """An actor with a state, which says in a file that its node drains."""

    def __init__(self, told: Path | None = None, after_s: float = 0.0) -> None:
        self.total = 0

        def tell(notice: hpc.runtime_context.DrainNotice) -> None:
            time.sleep(after_s)
            told.write_text(f"{notice.reason} {notice.left_s:.0f}")

        if told is not None:
            hpc.on_drain(tell)

    def add(self, amount: int) -> int:
        self.total += amount
        return self.total

    def __hpc_checkpoint__(self) -> int:
        return self.total

    def __hpc_restore__(self, total: int) -> None:
        self.total = total


@hpc.remote(num_cpus=0)
class KeepsAsync:
    """The same with coroutines."""

    def __init__(self) -> None:
        self.words: list[str] = []

    async def add(self, word: str) -> list[str]:
        self.words.append(word)
        return self.words

    async def __hpc_checkpoint__(self) -> list[str]:
        return self.words

    async def __hpc_restore__(self, words: list[str]) -> None:
        self.words = words


@hpc.remote(num_cpus=0)
class Waits:
    """An actor with a call that is interrupted."""

    def until(self, gate: Path) -> str:
        eventually(gate.exists, 60.0)
        return str(hpc.get_runtime_context().get_node_id())


@hpc.remote(num_cpus=0)
def large() -> np.ndarray:
    """A value that is kept where it was made."""
    return np.zeros(1 << 20, np.uint8)


@hpc.remote
def one() -> int:
    return 1


@pytest.fixture
def nodes(no_leaks: None, tmp_path: Path) -> Iterator[Session]:
    """Two nodes with a CPU each."""
    with local_nodes(2, config={"state_dir": str(tmp_path / "states")}) as running:
        yield running


def drain(running: Session, left_s: float = 300.0) -> None:
    running.tell_head({"op": "time", "left_s": left_s, "drain": "the test ends"})


def test_a_session_that_drains(nodes: Session, tmp_path: Path) -> None:
    told, go = tmp_path / "told", tmp_path / "go"
    notices: list[hpc.runtime_context.DrainNotice] = []
    called = threading.Event()

    @hpc.on_drain
    def first(notice):
        notices.append(notice)
        raise ValueError("the others are called all the same")

    hpc.on_drain(lambda notice: called.set())
    actor = Keeps.options(name="keeps", max_restarts=1).remote(told)
    other = KeepsAsync.options(name="keeps too").remote()
    assert hpc.get([actor.add.remote(5), other.add.remote("a")]) == [5, ["a"]]
    running_task = where_once.remote(go)
    eventually(lambda: state.get_task(running_task.hex()).state == "RUNNING")
    context = hpc.get_runtime_context()
    assert context.draining() is None
    drain(nodes)
    assert called.wait(60)
    assert notices[0].reason == "the test ends" and 290 < notices[0].left_s <= 300
    assert context.draining().reason == "the test ends" and 290 < context.time_left_s() <= 300
    eventually(lambda: told.exists() and told.read_text().startswith("the test ends "))
    late = threading.Event()
    hpc.on_drain(lambda notice: late.set())  # that comes after it has begun is called at once
    assert late.wait(60)
    # Nothing new begins, and that is said; what runs goes on, calls too.
    new = [one.options(scheduling_strategy=where).remote() for where in ("DEFAULT", on(1), on(2))]
    assert hpc.wait(new, timeout=0.5)[0] == []
    eventually(lambda: "the test ends" in state.get_task(new[0].hex()).why)
    assert hpc.get(actor.add.remote(1)) == 6
    Heads(nodes).kill()
    assert hpc.wait(new, timeout=0.5)[0] == [], "the next head knows that it drains"
    go.touch()
    assert hpc.get(running_task) in ("1", "2")
    files = tmp_path / "states" / "actors"
    eventually(lambda: len([p for p in files.rglob("keeps*") if p.is_file()]) == 2)


def test_what_was_saved_comes_back_in_the_next_session(tmp_path: Path, no_leaks: None) -> None:
    env = {"HPC_STATE_DIR": str(tmp_path / "states")}
    with one_node(env):
        actor = Keeps.options(name="n/a/m e", namespace="lab").remote()
        hpc.get([actor.add.remote(2), actor.add.remote(3)])
        first = hpc.get(actor.__hpc_save__.remote())
        hpc.get(actor.add.remote(37))
        path = Path(hpc.get(actor.__hpc_save__.remote()))
        assert str(path) == first and path.with_name(path.name + ".old").exists()
        other = KeepsAsync.options(name="async").remote()
        hpc.get(other.add.remote("a"))
        hpc.get(other.__hpc_save__.remote())
        assert hpc.saved_state("step") is None and hpc.saved_state("step", 7) == 7
        hpc.save_state("step", 12)
        hpc.get(hpc.remote(lambda: hpc.save_state("from a task", [hpc.saved_state("step")])).remote())
        with pytest.raises(NoStateError, match="references to objects"):
            hpc.save_state("refs", [hpc.put(1)])
        with pytest.raises(TypeError):
            hpc.save_state("", 1)
        nameless = Keeps.remote()
        with pytest.raises(TaskError, match="without a name"):
            hpc.get(nameless.__hpc_save__.remote())
    with one_node(env):
        actor = Keeps.options(name="n/a/m e", namespace="lab").remote()
        assert hpc.get(actor.add.remote(0)) == 42
        assert hpc.get(KeepsAsync.options(name="async").remote().add.remote("b")) == ["a", "b"]
        assert (hpc.saved_state("step"), hpc.saved_state("from a task")) == (12, [12])
        elsewhere = Keeps.options(name="n/a/m e", namespace="another").remote()
        assert hpc.get(elsewhere.add.remote(0)) == 0
        hpc.kill(actor)
        path.write_bytes(path.read_bytes()[:-1])  # the version before counts
        eventually(lambda: _restored() == 5)
        path.with_name(path.name + ".old").write_bytes(b"no state")
        with pytest.raises(ActorDiedError, match="damaged"):
            eventually(_restored)


def _restored() -> int | None:
    try:
        actor = Keeps.options(name="n/a/m e", namespace="lab").remote()
    except ValueError:  # the one that was killed still has the name
        return None
    return hpc.get(actor.add.remote(0))


def test_without_a_folder_nothing_can_be_saved(no_leaks: None) -> None:
    with one_node():
        check_without_a_folder()


def check_without_a_folder() -> None:
    with pytest.raises(NoStateError, match="--state-dir"):
        hpc.save_state("step", 1)
    actor = Keeps.options(name="homeless").remote()
    assert hpc.get(actor.add.remote(1)) == 1
    with pytest.raises(TaskError, match="--state-dir"):
        hpc.get(actor.__hpc_save__.remote())
    with pytest.raises(TypeError, match="function of one argument"):
        hpc.on_drain("soon")


def test_a_node_that_is_taken_away_drains_and_costs_nobody_a_retry(nodes: Session, tmp_path: Path) -> None:
    go = tmp_path / "go"
    actor = Keeps.options(name="moves", scheduling_strategy=soft(2), max_restarts=1, max_task_retries=1).remote()
    assert hpc.get(actor.add.remote(5)) == 5
    waits = Waits.options(scheduling_strategy=soft(2), max_restarts=1, max_task_retries=1).remote()
    call = waits.until.remote(go)
    value = large.options(scheduling_strategy=soft(2), max_retries=1).remote()
    hpc.wait([value], fetch_local=False)
    task = where_once.options(scheduling_strategy=soft(2), max_retries=1).remote(go)
    eventually(lambda: state.get_task(task.hex()).state == "RUNNING")
    nodes.drain_node(2, 60.0, "it goes")
    eventually(lambda: (tmp_path / "states").exists())
    blocked = one.options(scheduling_strategy=on(2)).remote()
    assert hpc.get(one.remote()) == 1, "the other node works on"
    assert hpc.wait([blocked], timeout=0.3)[0] == []
    nodes.remove_node(2, 0.2)
    eventually(lambda: nodes.pump(0.05) or nodes.nodes[2].state == "gone")
    eventually(lambda: state.get_task(task.hex()).node_id == "1")
    assert state.get_task(task.hex()).retries_left == 1
    assert hpc.get(actor.add.remote(1)) == 6, "it has begun anew with what was saved"
    assert state.list_actors(filters=[("name", "=", "moves")])[0].restarts_left == 1
    machine = need_client().machine
    eventually(lambda: machine.state.calls[bytes.fromhex(call.hex())].sent)
    assert machine.state.calls[bytes.fromhex(call.hex())].retries == 1
    assert hpc.get(value).nbytes == 1 << 20, "it was made again"
    assert machine.lineage.origins[bytes.fromhex(value.hex())].rec.retries == 1
    go.touch()
    assert hpc.get([task, call]) == ["1", "1"]


@pytest.mark.parametrize("pause_s", [0.02, 0.5])
def test_what_an_actor_has_answered_is_not_lost_with_a_node_that_drains(
    nodes: Session, tmp_path: Path, pause_s: float
) -> None:
    """It is called all the time, or now and then: it begins anew elsewhere between two calls, with all that it had,
    and when its callback has ended."""
    told = tmp_path / "told"
    moves = Keeps.options(name="moves", scheduling_strategy=soft(2), max_restarts=1, max_task_retries=1)
    actor = moves.remote(told, 1.0)
    pinned = Keeps.options(name="stays", scheduling_strategy=on(2), max_restarts=1).remote()
    assert hpc.get([actor.add.remote(1), pinned.add.remote(1)]) == [1, 1]
    nodes.drain_node(2, 6.0, "it goes")
    deadline, total = time.monotonic() + 60.0, 1
    while (there := state.list_actors(filters=[("name", "=", "moves")])[0]).node_id != "1":
        total += 1
        assert hpc.get(actor.add.remote(1)) == total
        assert time.monotonic() < deadline, "it stays"
        nodes.pump(pause_s)
    assert hpc.get(actor.add.remote(1)) == total + 1 and total > 1
    assert there.restarts_left == 1 and told.exists()
    assert hpc.get(pinned.add.remote(1)) == 2, "it cannot be elsewhere"
    hpc.kill(pinned)
    eventually(lambda: nodes.pump(0.05) or nodes.nodes[2].drained)


def test_a_task_that_could_not_finish_is_not_begun(nodes: Session) -> None:
    nodes.tell_head({"op": "time", "left_s": 100.0})
    eventually(lambda: hpc.get_runtime_context().time_left_s() is not None)
    short = one.options(time_request=50)
    assert hpc.get([short.remote() for _ in range(5)]) == [1] * 5
    long = one.options(time_request=500).remote()
    assert hpc.wait([long], timeout=0.5)[0] == []
    eventually(lambda: "time_request" in state.get_task(long.hex()).why)
    assert "500 s" in state.get_task(long.hex()).why
    assert hpc.get(one.remote()) == 1, "others pass it"
    nodes.tell_head({"op": "time", "left_s": 1000.0})
    assert hpc.get(long, timeout=60) == 1
    nodes.tell_head({"op": "time", "left_s": 51.0})
    eventually(lambda: hpc.get_runtime_context().time_left_s() < 60)
    time.sleep(1.2)
    assert hpc.wait([short.remote()], timeout=0.5)[0] == [], "also where a worker is leased that has run others like it"
    nodes.tell_head({"op": "time", "left_s": 30.0, "nodes": [2]})
    nodes.tell_head({"op": "time", "left_s": None})
    assert hpc.get([where.options(time_request=50).remote() for _ in range(4)]) == ["1"] * 4


@hpc.remote(scheduling_strategy="SPREAD")
def where() -> str:
    return str(hpc.get_runtime_context().get_node_id())


@pytest.mark.parametrize("value", [0, -1, float("inf"), float("nan")])
def test_a_time_that_is_none(value: float) -> None:
    with pytest.raises(ValueError, match="time_request"):
        one.options(time_request=value)
    with pytest.raises(TypeError, match="seconds"):
        one.options(time_request="1h")
