"""The backend "shm" at its edges: random streams of operations, shared memory of tensors, forks, and long waits."""

from __future__ import annotations

import os
import random
import signal
import socket
import threading
import time

import numpy as np
import pytest
from unit.collective_ranks import run

from hpc.collective import membership
from hpc.collective.group import ShmTensors
from hpc.collective.ops import ReduceOp
from hpc.collective.shm import callers, wires
from hpc.collective.shm.group import ShmGroup
from hpc.collective.work import Lanes, Turns

UFUNCS = {ReduceOp.SUM: np.add, ReduceOp.PRODUCT: np.multiply, ReduceOp.MIN: np.minimum, ReduceOp.MAX: np.maximum}
TYPES = ["int8", "uint16", "int64", "float16", "float32", "float64", "complex64", "bool"]
SIZES = [0, 1, 3, 100, 2048, 2049, 16_385, 33_000, 100_003]
KINDS = ["allreduce", "reduce", "broadcast", "allgather", "reducescatter", "alltoall", "gather", "scatter", "send"]


class Turn:
    """One operation of a stream: what every rank has, and what rank ``me`` must get."""

    def __init__(self, rng: random.Random, ranks: int, seed: int, me: int) -> None:
        self.kind, self.size, self.dtype = rng.choice(KINDS), rng.choice(SIZES), rng.choice(TYPES)
        self.root, self.op = rng.randrange(ranks), rng.choice(list(UFUNCS))
        if self.dtype == "complex64":
            self.op = ReduceOp.SUM
        self.ranks, self.seed, self.me = range(ranks), seed, me

    def has(self, rank: int, part: int = 0) -> np.ndarray:
        numbers = np.random.default_rng([self.seed, rank, part]).integers(0, 3, self.size)
        return numbers.astype(self.dtype)

    def combined(self, part: int = 0) -> np.ndarray:
        out = self.has(0, part)
        for rank in self.ranks[1:]:
            UFUNCS[self.op](out, self.has(rank, part), out)
        return out

    def do(self, tensors: ShmTensors) -> list[tuple[np.ndarray, np.ndarray]]:
        """Do it. Returns what has come of it beside what must have."""
        mine, out = self.has(self.me), np.empty(self.size, self.dtype)
        parts, outs = [self.has(self.me, r) for r in self.ranks], [np.empty_like(out) for _ in self.ranks]
        me, root, at_root = self.me, self.root, self.me == self.root
        if self.kind == "allreduce":
            tensors.allreduce(mine, self.op)
            return [(mine, self.combined())]
        if self.kind == "reduce":
            tensors.reduce(mine, root, self.op)
            return [(mine, self.combined() if at_root else self.has(me))]
        if self.kind == "broadcast":
            tensors.broadcast(mine, root)
            return [(mine, self.has(root))]
        if self.kind == "allgather":
            tensors.allgather(outs, mine)
            return [(outs[r], self.has(r)) for r in self.ranks]
        if self.kind == "reducescatter":
            tensors.reducescatter(out, parts, self.op)
            return [(out, self.combined(me))]
        if self.kind == "alltoall":
            tensors.alltoall(outs, parts)
            return [(outs[r], self.has(r, me)) for r in self.ranks]
        if self.kind == "gather":
            tensors.gather(outs if at_root else None, mine, root)
            return [(outs[r], self.has(r)) for r in self.ranks if at_root]
        if self.kind == "scatter":
            tensors.scatter(out, parts if at_root else None, root)
            return [(out, self.has(root, me))]
        to = (root + 1) % len(self.ranks)
        if at_root:
            tensors.send(mine, to)
        elif me == to:
            tensors.recv(out, root)
            return [(out, self.has(root))]
        return []


@pytest.mark.parametrize("nodes", [(2,), (4,), (1, 1), (2, 1), (1, 3)])
def test_a_random_stream_of_operations_gives_what_numpy_gives(nodes: tuple[int, ...]) -> None:
    seed = random.randrange(1 << 30)

    def stream(group: ShmGroup) -> list[str]:
        rng, wrong = random.Random(seed), []
        for number in range(40):
            turn = Turn(rng, group.size, seed + number, group.rank)
            pairs = turn.do(ShmTensors(group))
            if not all(np.array_equal(found, expected) for found, expected in pairs):
                wrong.append(f"{number}: {turn.kind} of {turn.size} {turn.dtype} by {turn.op}, root {turn.root}")
        return wrong

    assert run(nodes, stream) == [[]] * sum(nodes), seed


def exchanges_in_place(group: ShmGroup) -> list[float]:
    tensors, size = ShmTensors(group), 100_000
    same = [np.full(size, 10.0 * group.rank + r) for r in range(group.size)]
    tensors.alltoall(same, same)
    # The tensor is where the result of rank 0 goes.
    whole = [np.full(size, float(group.rank)) for _ in range(group.size)]
    tensors.allgather(whole, whole[0])
    return [float(x) for array in (*same, *whole) for x in (array.min(), array.max())]


@pytest.mark.parametrize("nodes", [(2,), (1, 1), (1, 2)])
def test_results_may_go_into_the_memory_of_what_is_sent(nodes: tuple[int, ...]) -> None:
    ranks = range(sum(nodes))
    expected = [
        [x for r in ranks for x in [10.0 * r + me] * 2] + [float(r) for r in ranks for _ in (0, 1)] for me in ranks
    ]
    assert run(nodes, exchanges_in_place) == expected


def mixes_types(group: ShmGroup) -> None:
    ShmTensors(group).broadcast(np.ones(4, "int64" if group.rank else "float64"), 0)
    ShmTensors(group).barrier()


@pytest.mark.parametrize("nodes", [(2,), (1, 1)])
def test_numbers_of_one_type_never_come_as_another(nodes: tuple[int, ...]) -> None:
    for name, text in run(nodes, mixes_types):
        assert name == "CollectiveError"
        assert "of float64 with rank 0" in text and "of int64 with rank 0" in text, text


def odd_arrays(group: ShmGroup) -> list[str]:
    tensors = ShmTensors(group)
    single, matrix = np.array(1.0), np.matrix(np.ones((300, 200)))
    tensors.allreduce(single, ReduceOp.SUM)
    tensors.allreduce(matrix, ReduceOp.SUM)
    wrong = [] if single == 2 and (matrix == 2).all() else ["values"]
    for refused in (np.ma.masked_array([1.0, 2.0], [True, False]), np.ones(2, ">f8")):
        try:
            tensors.allreduce(refused, ReduceOp.SUM)
            wrong.append(str(refused.dtype))
        except ValueError:
            pass
    try:
        tensors.allgather([np.ones(2, "f4"), np.ones(2, "i4")], np.ones(2, "f4"))
        wrong.append("types")
    except ValueError:
        pass
    return wrong


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_arrays_of_no_dimension_and_matrices_are_taken_and_masks_refused() -> None:
    assert run((2,), odd_arrays) == [[], []]


@pytest.mark.parametrize("nodes", [(2,), (1, 1)])
def test_a_child_that_a_rank_has_forked_is_no_rank_and_does_not_hide_its_death(nodes: tuple[int, ...]) -> None:
    wait, end = os.pipe()

    def dies_beside_its_child(group: ShmGroup) -> None:
        tensors = ShmTensors(group)
        tensors.barrier()
        if group.rank == 0:
            told, tell = os.pipe()
            if os.fork() == 0:
                try:
                    tensors.barrier()
                except Exception as error:
                    os.write(tell, str(error).encode())
                os.read(wait, 1)
                os._exit(0)
            assert b"forked by a rank" in os.read(told, 1000)
            tensors.barrier()
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            tensors.barrier()
            tensors.barrier()
        finally:
            os.write(end, b"x")

    first, (name, text) = run(nodes, dies_beside_its_child, timeout_s=10)
    os.close(wait)
    os.close(end)
    assert first is None
    assert name == "CollectiveError" and "rank 0 (" in text and "has died" in text, text


def comes_late(group: ShmGroup) -> bool:
    if group.rank == 0:
        time.sleep(2.5)
    ShmTensors(group).barrier()
    return True


def test_a_rank_that_is_long_in_coming_is_not_taken_for_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wires, "_PROBE_S", 0.005)
    assert run((1, 1, 1), comes_late) == [True] * 3


def test_groups_of_two_names_are_joined_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    other_came, both = threading.Event(), membership.Membership()

    class Joined:
        rank, world_size, backend = 0, 1, "SHM"

    def make(name: str, *_: object) -> Joined:
        if name == "second":
            other_came.set()
        assert other_came.wait(10)
        return Joined()

    monkeypatch.setattr(membership, "make_group", make)
    thread = threading.Thread(target=both.join, args=("first", 0, 1, "SHM", 1, 1.0))
    thread.start()
    both.join("second", 0, 1, "SHM", 1, 1.0)
    thread.join(10)
    assert both.has("first") and both.has("second")


def test_leaving_waits_for_the_operation_of_another_thread() -> None:
    turns, started, go_on = Turns("group"), threading.Event(), threading.Event()
    order: list[str] = []

    def operation() -> None:
        started.set()
        go_on.wait(10)
        order.append("operation")

    def close() -> None:
        turns.close()
        order.append("closed")

    threads = [threading.Thread(target=turns.run, args=(operation,)), threading.Thread(target=close)]
    threads[0].start()
    assert started.wait(10)
    threads[1].start()
    threads[1].join(0.05)
    go_on.set()
    for thread in threads:
        thread.join(10)
    assert order == ["operation", "closed"]
    with pytest.raises(RuntimeError, match="destroyed"):
        turns.run(operation)


class SlowSocket:
    """A connection from which 1 MB is read at a time."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock, self.allowed = sock, 0

    def fileno(self) -> int:
        return self._sock.fileno()

    def recv_into(self, view: memoryview) -> int:
        if not self.allowed:
            raise BlockingIOError
        n = self._sock.recv_into(view[: self.allowed])
        self.allowed -= n
        return n


def is_slow(group: ShmGroup) -> bool:
    """A transfer that takes longer than the time limit, and never stands still for so long."""
    if group.rank == 1:
        go_on = wires._Incoming.go_on

        def slowly(incoming: wires._Incoming) -> bool:
            if not isinstance(incoming.sock, SlowSocket):
                incoming.sock = SlowSocket(incoming.sock)  # type: ignore[assignment]
            time.sleep(0.2)
            incoming.sock.allowed = 1_000_000  # type: ignore[attr-defined]
            return go_on(incoming)

        wires._Incoming.go_on = slowly  # type: ignore[method-assign]
    mine = np.zeros(20_000_000, np.uint8)
    ShmTensors(group).allgather([mine.copy(), mine.copy()], mine)
    return True


def test_the_time_limit_between_nodes_is_for_a_rank_that_stands_still_and_not_for_a_long_transfer() -> None:
    assert run((1, 1), is_slow, timeout_s=1.5) == [True, True]


def calls_beside_strangers(group: ShmGroup) -> float:
    """Rank 0 makes silent connections to rank 1, which does not know what they are, before it calls."""
    strangers = []
    if group.rank == 0:
        assert group._wires is not None
        strangers = [socket.create_connection(group._wires._addresses[1]) for _ in range(3)]
        strangers[0].sendall(b"hpc-coll")
    began = time.monotonic()
    ShmTensors(group).barrier()
    took = time.monotonic() - began
    for stranger in strangers:
        stranger.close()
    return took


def test_a_silent_stranger_at_the_port_of_a_rank_holds_nobody_up() -> None:
    assert max(run((1, 1), calls_beside_strangers)) < callers.CALL_S / 2


def look_until(still: wires._Still, gone: int | None, seconds: float) -> bool:
    until = time.monotonic() + seconds
    while still.gone != gone and time.monotonic() < until:
        still.look(100, [0, 1])
        time.sleep(0.002)
    return still.gone == gone


def test_a_rank_whose_bytes_stand_still_is_gone_if_its_node_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_STILL_S", "_PROBE_S"):
        monkeypatch.setattr(wires, name, 0.02)
    with wires.listen("127.0.0.1") as there:
        # Nobody has addresses of 192.0.2.0/24: packets to them are lost, or refused by the network.
        still = wires._Still([there.getsockname(), ("192.0.2.1", 9)])
        assert look_until(still, 1, 30)
        still.close()
        still = wires._Still([there.getsockname(), there.getsockname()])
        assert not look_until(still, 0, 0.5) and still.gone is None
        still.close()


def sends_before_it_receives(group: ShmGroup) -> bool:
    """Both ranks begin to send more than any buffer holds before they receive, while a collective goes on."""
    tensors, lanes, other = ShmTensors(group), Lanes("group"), 1 - group.rank
    mine, into = np.full(6_000_000, group.rank + 1.0), [np.zeros(6_000_000) for _ in range(2)]
    works = [lanes.to(other).begin(lambda tag=tag: tensors.send(mine, other, tag)) for tag in range(2)]
    total = np.ones(1000)
    tensors.allreduce(total, ReduceOp.SUM)
    works += [lanes.source(other).begin(lambda tag=tag: tensors.recv(into[tag], other, tag)) for tag in range(2)]
    assert all(work.wait(60) for work in works)
    lanes.close()
    return bool((np.array(into) == other + 1.0).all() and (total == 2.0).all())


@pytest.mark.parametrize("nodes", [(2,), (1, 1)])
def test_two_ranks_may_send_before_they_receive(nodes: tuple[int, ...]) -> None:
    assert run(nodes, sends_before_it_receives) == [True, True]


def receives_by_another_tag(group: ShmGroup) -> None:
    tensors = ShmTensors(group)
    if group.rank == 0:
        tensors.send(np.zeros(3), 1, 5)
        tensors.barrier()
    tensors.recv(np.zeros(3), 0, 6)


def test_messages_of_two_tags_are_not_taken_for_each_other() -> None:
    _, (name, text) = run((2,), receives_by_another_tag)
    assert name == "CollectiveError" and "tagged 5" in text and "tagged 6" in text
