"""A node leaves a session that goes on: what lies there moves to the others before, and nothing is computed again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import hpc
from hpc.core.process.current import need_client
from hpc.exceptions import ObjectLostError, OwnerDiedError
from hpc.launchers.local.group import LocalGroup
from hpc.launchers.session import Session
from hpc.launchers.session_nodes import Event
from runtime.running import eventually, local_nodes, on, soft, store_stats

MIB = 1 << 20


@hpc.remote(num_cpus=0, max_retries=0)
def make(number: int, mib: int, log: Path) -> np.ndarray:
    """A value that nothing makes again; its making is noted."""
    return _noted(number, mib, log)


@hpc.remote(num_cpus=0, max_retries=0)
def items(count: int, mib: int, log: Path) -> Iterator[np.ndarray]:
    for number in range(count):
        yield _noted(number, mib, log)


@hpc.remote(num_cpus=0)
class Makes:
    """Gives values as results, and references to values of its own."""

    def make(self, number: int, mib: int, log: Path) -> np.ndarray:
        return _noted(number, mib, log)

    def put(self) -> list[hpc.ObjectRef]:
        return [hpc.put(np.ones(MIB, np.uint8))]


def _noted(number: int, mib: int, log: Path) -> np.ndarray:
    with log.open("a") as file:
        file.write(f"{number}\n")
    return np.full(mib * MIB, number, np.uint8)


@pytest.fixture
def nodes(no_leaks: None) -> Iterator[Session]:
    """Three nodes that have room for 96 MiB each, and more on disk."""
    with local_nodes(3, object_store_bytes=96 * MIB) as running:
        yield running


def wait_gone(running: Session, node: int) -> None:
    eventually(lambda: running.pump(0.05) or running.nodes[node].state == "gone")


def wait_drained(running: Session, node: int) -> None:
    eventually(lambda: running.pump(0.05) or running.nodes[node].drained, 60.0)


def test_all_values_of_a_node_that_leaves_are_read_afterwards_and_none_is_made_again(
    nodes: Session, tmp_path: Path
) -> None:
    log = tmp_path / "made"
    there = soft(3)
    actor = Makes.options(scheduling_strategy=there).remote()
    made = [make.options(scheduling_strategy=there).remote(number, 20, log) for number in range(8)]  # more than fits
    made += [actor.make.remote(number, 20, log) for number in (8, 9)]
    stream = items.options(scheduling_strategy=there, num_returns="streaming").remote(2, 10, log)
    first = next(stream)
    hpc.wait(made, num_returns=len(made), fetch_local=False)
    eventually(lambda: len(log.read_text().split()) == 12)
    view = hpc.get(made[0])  # is being read
    assert store_stats(3)["spilled_objects"] > 0, "some of them are on disk"
    del actor
    nodes.drain_node(3, 60.0, "it goes")
    wait_drained(nodes, 3)
    nodes.remove_node(3, 0.2)
    wait_gone(nodes, 3)
    for number, ref in enumerate(made):
        value = hpc.get(ref, timeout=30)
        assert (value.size, value[0], value[-1]) == (20 * MIB, number, number)
        del value
    assert [hpc.get(ref)[-1] for ref in (first, *stream)] == [0, 1]
    assert view[-1] == 0
    assert sorted(map(int, log.read_text().split())) == sorted([*range(10), 0, 1]), "each was made once"
    homes = {
        node for ref in made for node in need_client().machine.state.entries[bytes.fromhex(ref.hex())].result.nodes
    }
    assert homes <= {1, 2}


def test_a_task_reads_what_moved_while_it_waited_and_what_comes_late_moves_too(nodes: Session, tmp_path: Path) -> None:
    log, gate = tmp_path / "made", tmp_path / "gate"

    @hpc.remote(num_cpus=0, max_retries=0)
    def late() -> np.ndarray:
        eventually(gate.exists, 60.0)
        return _noted(5, 4, log)

    @hpc.remote(num_cpus=0)
    def total(*values: np.ndarray) -> int:
        return sum(int(value[-1]) for value in values)

    early = make.options(scheduling_strategy=soft(3)).remote(3, 4, log)
    running = late.options(scheduling_strategy=soft(3)).remote()
    hpc.wait([early], fetch_local=False)
    sum_ref = total.options(scheduling_strategy=soft(2)).remote(early, running)
    nodes.drain_node(3, 60.0, "it goes")
    eventually(lambda: 3 not in _homes(early) or len(_homes(early)) > 1)
    assert not nodes.nodes[3].drained, "a task runs there"
    gate.touch()
    wait_drained(nodes, 3)
    nodes.remove_node(3, 0.2)
    wait_gone(nodes, 3)
    assert hpc.get(sum_ref, timeout=30) == 8 and hpc.get(running, timeout=30)[0] == 5


def _homes(ref: hpc.ObjectRef) -> tuple[int, ...]:
    return need_client().machine.state.entries[bytes.fromhex(ref.hex())].result.nodes


def test_a_node_that_has_nothing_has_drained_at_once_and_one_that_is_alone_does_not_move(nodes: Session) -> None:
    nodes.drain_node(3, 60.0, "it goes")
    wait_drained(nodes, 3)
    value = make.options(scheduling_strategy=soft(2)).remote(1, 1, Path("/dev/null"))
    hpc.wait([value], fetch_local=False)
    nodes.tell_head({"op": "time", "left_s": 60.0, "drain": "all of it ends"})
    eventually(lambda: hpc.get_runtime_context().draining() is not None)
    assert _homes(value) == (2,)


def test_what_an_actor_put_is_lost_with_its_node(nodes: Session) -> None:
    """As everywhere: it ends with its owner."""
    actor = Makes.options(scheduling_strategy=soft(3), max_restarts=1).remote()
    (inner,) = hpc.get(actor.put.remote())
    nodes.drain_node(3, 1.0, "it goes")
    nodes.remove_node(3, 0.2)
    wait_gone(nodes, 3)
    with pytest.raises(OwnerDiedError):
        hpc.get(inner, timeout=30)


def test_what_nobody_has_room_for_is_told_and_lost_and_what_is_smaller_moves(nodes: Session) -> None:
    (large,) = nodes.add_group(LocalGroup(1), overrides={"num_cpus": 1, "object_store_bytes": 256 * MIB})
    nodes.wait_node(large, 30.0)
    events: list[Event] = []
    nodes.on_event = events.append
    there = on(large)  # it waits until all know of the node
    too_large = make.options(scheduling_strategy=there).remote(1, 150, Path("/dev/null"))
    small = make.options(scheduling_strategy=there).remote(2, 10, Path("/dev/null"))
    hpc.wait([too_large, small], num_returns=2, fetch_local=False)
    nodes.drain_node(large, 60.0, "it goes")
    eventually(lambda: nodes.pump(0.05) or len(_homes(small)) > 1)
    time.sleep(1.5)  # its owner knows; the node that leaves hears of it a moment later, and tells nobody
    nodes.remove_node(large, 1.0)
    wait_gone(nodes, large)
    (left,) = [event.text for event in events if event.kind == "left"]
    assert "1 values, 157.3 MB, did not move" in left and not nodes.nodes[large].drained
    assert hpc.get(small, timeout=30)[-1] == 2
    eventually(lambda: large not in _homes(too_large))  # whoever stopped the node knows it sooner than its owner
    with pytest.raises(ObjectLostError, match="retries"):
        hpc.get(too_large, timeout=30)


def test_many_small_values_move_in_seconds(no_leaks: None) -> None:
    @hpc.remote(num_cpus=0, max_retries=0, num_returns=250, scheduling_strategy=soft(2))
    def many(first: int) -> list[np.ndarray]:
        return [np.full(110_000, (first + number) % 251, np.uint8) for number in range(250)]

    with local_nodes(2, object_store_bytes=256 * MIB) as running:
        refs = [ref for first in range(0, 1000, 250) for ref in many.remote(first)]
        hpc.wait(refs, num_returns=len(refs), fetch_local=False)
        running.drain_node(2, 60.0, "it goes")
        wait_drained(running, 2)
        running.remove_node(2, 0.2)
        wait_gone(running, 2)
        assert [int(value[0]) for value in hpc.get(refs)] == [number % 251 for number in range(1000)]
