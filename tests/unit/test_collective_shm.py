"""The backend "shm": every operation on one node and several, and what happens when a rank does not come."""

from __future__ import annotations

import errno
import os
import signal
import socket
import time
from collections.abc import Callable

import numpy as np
import pytest
from unit.collective_ranks import run

from hpc.collective.group import ShmTensors
from hpc.collective.ops import DTYPES, ReduceOp, describe, what
from hpc.collective.shm.group import ShmGroup

LAYOUTS = [(1,), (2,), (3,), (1, 1), (2, 1), (2, 2), (1, 2, 1), (3, 1, 1)]
#: Elements: nothing, one, a few, more than is small, more than a chunk; and odd numbers, so that slices are unequal.
SIZES = [0, 1, 5, 4096, 4099, 40_001, 300_007]


def numbers(rank: int, size: int, dtype: str = "float64") -> np.ndarray:
    """What rank has: whole numbers, so that sums are exact in any order."""
    return ((np.arange(size) * 7 + rank * 3) % 11).astype(dtype)


def check_reductions(group: ShmGroup) -> bool:
    tensors, ranks = ShmTensors(group), range(group.size)
    for size in SIZES:
        for op, function in (
            (ReduceOp.SUM, np.sum),
            (ReduceOp.PRODUCT, np.prod),
            (ReduceOp.MIN, np.min),
            (ReduceOp.MAX, np.max),
            (ReduceOp.AVERAGE, np.mean),
        ):
            expected = function(np.stack([numbers(r, size) for r in ranks]), axis=0)
            mine = numbers(group.rank, size)
            tensors.allreduce(mine, op)
            np.testing.assert_allclose(mine, expected, rtol=1e-12)
            root = size % group.size
            mine = numbers(group.rank, size)
            tensors.reduce(mine, root, op)
            np.testing.assert_allclose(mine, expected if group.rank == root else numbers(group.rank, size), rtol=1e-12)
        parts = [numbers(group.rank + 5 * r, size) for r in ranks]
        out = np.empty(size)
        tensors.reducescatter(out, parts, ReduceOp.SUM)
        np.testing.assert_array_equal(out, sum(numbers(r + 5 * group.rank, size) for r in ranks))
        np.testing.assert_array_equal(parts[0], numbers(group.rank, size))
    return True


def check_movements(group: ShmGroup) -> bool:
    tensors, me, ranks = ShmTensors(group), group.rank, range(group.size)
    for size in SIZES:
        for root in ranks:
            mine = numbers(me, size)
            tensors.broadcast(mine, root)
            np.testing.assert_array_equal(mine, numbers(root, size))
            outs = [np.empty(size) for _ in ranks] if me == root else None
            tensors.gather(outs, numbers(me, size), root)
            for r, out in enumerate(outs or ()):
                np.testing.assert_array_equal(out, numbers(r, size))
            out = np.empty(size)
            tensors.scatter(out, [numbers(root + 2 * r, size) for r in ranks] if me == root else None, root)
            np.testing.assert_array_equal(out, numbers(root + 2 * me, size))
        outs = [np.empty(size) for _ in ranks]
        tensors.allgather(outs, numbers(me, size))
        for r in ranks:
            np.testing.assert_array_equal(outs[r], numbers(r, size))
        outs = [np.empty(size) for _ in ranks]
        tensors.alltoall(outs, [numbers(me + 4 * r, size) for r in ranks])
        for r in ranks:
            np.testing.assert_array_equal(outs[r], numbers(r + 4 * me, size))
        after, before = (me + 1) % group.size, (me - 1) % group.size
        if after != me:
            out = np.empty(size)
            for first in (me % 2 == 0, me % 2 == 1):
                if first:
                    tensors.send(numbers(me, size), after)
                else:
                    tensors.recv(out, before)
            if group.size % 2 == 0:
                np.testing.assert_array_equal(out, numbers(before, size))
        tensors.barrier()
    return True


@pytest.mark.parametrize("nodes", LAYOUTS)
def test_reductions_are_those_of_numpy(nodes: tuple[int, ...]) -> None:
    assert run(nodes, check_reductions) == [True] * sum(nodes)


@pytest.mark.parametrize("nodes", [n for n in LAYOUTS if sum(n) % 2 == 0 or sum(n) == 1])
def test_movements_bring_the_same_bytes(nodes: tuple[int, ...]) -> None:
    assert run(nodes, check_movements) == [True] * sum(nodes)


def check_bits(group: ShmGroup) -> list[bytes]:
    tensors = ShmTensors(group)
    found = []
    for size in (7, 40_001):
        mine = np.random.default_rng(group.rank).standard_normal(size).astype(np.float32)
        tensors.allreduce(mine, ReduceOp.SUM)
        found.append(mine.tobytes())
    return found


@pytest.mark.parametrize("nodes", [(3,), (2, 1), (1, 1, 1)])
def test_all_ranks_get_the_same_bits(nodes: tuple[int, ...]) -> None:
    first, *others = run(nodes, check_bits)
    assert all(other == first for other in others)


def check_types(group: ShmGroup) -> list[str]:
    tensors, wrong = ShmTensors(group), []
    for dtype in set(DTYPES) - {"bytes", "bfloat16", "bool"}:
        for size in (3, 20_000):
            mine = numbers(group.rank, size, dtype)
            tensors.allreduce(mine, ReduceOp.SUM)
            if not np.array_equal(mine, sum(numbers(r, size, dtype) for r in range(group.size))):
                wrong.append(f"{dtype} {size}")
    grid = np.zeros((4, 6))[:, ::2]
    grid[...] = group.rank + 1
    tensors.allreduce(grid, ReduceOp.SUM)
    if not (grid == 3).all():
        wrong.append("not contiguous")
    return wrong


def test_types_of_numbers_and_arrays_that_are_not_contiguous() -> None:
    assert run((2,), check_types) == [[], []]


def check_torch(group: ShmGroup) -> list[float]:
    import torch

    tensors = ShmTensors(group)
    plain = torch.full((3, 2), float(group.rank + 1))
    tensors.allreduce(plain, ReduceOp.SUM)
    half = torch.full((20_000,), float(group.rank + 1), dtype=torch.bfloat16)
    tensors.allreduce(half, ReduceOp.AVERAGE)
    turned = torch.arange(6.0).reshape(2, 3).t() * (group.rank + 1)
    tensors.broadcast(turned, 1)
    leaf = torch.ones(2, requires_grad=True)
    tensors.allreduce(leaf, ReduceOp.SUM)
    return [plain.sum().item(), half.float().mean().item(), turned[2, 1].item(), leaf.sum().item()]


def test_tensors_of_torch() -> None:
    pytest.importorskip("torch")
    assert run((2,), check_torch) == [[18.0, 1.5, 10.0, 4.0]] * 2


# ---------------------------------------------------------------- ranks that do not come


def dies(group: ShmGroup) -> None:
    tensors = ShmTensors(group)
    tensors.barrier()
    if group.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    began = time.monotonic()
    try:
        while True:
            tensors.allreduce(np.ones(50_000), ReduceOp.SUM)
    finally:
        assert time.monotonic() - began < 10


@pytest.mark.parametrize("nodes", [(3,), (1, 1, 1), (2, 2), (2, 1)])
def test_the_death_of_a_rank_raises_on_all_others_and_names_it(nodes: tuple[int, ...]) -> None:
    found = run(nodes, dies)
    assert found.pop(1) is None
    for name, text in found:
        assert name == "CollectiveError", text
        assert "rank 1 (" in text and ("has died" in text), text


def differs(group: ShmGroup) -> None:
    tensors = ShmTensors(group)
    if group.rank == 0:
        tensors.allreduce(np.ones(10), ReduceOp.SUM)
    else:
        tensors.allreduce(np.ones(12, np.float32), ReduceOp.MAX)


@pytest.mark.parametrize("nodes", [(2,), (1, 1)])
def test_ranks_that_do_not_do_the_same_are_told_what_each_does(nodes: tuple[int, ...]) -> None:
    for name, text in run(nodes, differs):
        assert name == "CollectiveError"
        assert "rank 0 (" in text and "allreduce of 80 bytes of float64 by SUM" in text, text
        assert "rank 1 (" in text and "allreduce of 48 bytes of float32 by MAX" in text, text


def two_roots(operation: str) -> Callable[[ShmGroup], None]:
    """Two ranks that read nothing of each other in it: each takes itself for the root, or both the other one."""

    def program(group: ShmGroup) -> None:
        tensors = ShmTensors(group)
        root, data = group.rank % 2, np.ones(6)
        if operation == "broadcast":
            tensors.broadcast(data, root)
        elif operation == "scatter":
            tensors.scatter(data, [np.ones(6)] * group.size if root == group.rank else None, root)
        else:
            tensors.gather(None, data, 1 - root)
        tensors.allreduce(data, ReduceOp.SUM)

    return program


@pytest.mark.parametrize("operation", ["broadcast", "scatter", "gather"])
def test_ranks_with_different_roots_are_told_at_the_latest_by_their_next_operation(operation: str) -> None:
    for name, text in run((2,), two_roots(operation)):
        assert name == "CollectiveError"
        assert f"{operation} of 48 bytes of float64 with rank 0" in text, text
        assert f"{operation} of 48 bytes of float64 with rank 1" in text, text


def leaves(group: ShmGroup) -> None:
    tensors = ShmTensors(group)
    tensors.allreduce(np.ones(10), ReduceOp.SUM)
    if group.rank == 0:
        return
    tensors.allreduce(np.ones(10), ReduceOp.SUM)


@pytest.mark.parametrize("nodes", [(2,), (1, 1)])
def test_a_rank_that_leaves_is_an_error_for_those_that_go_on(nodes: tuple[int, ...]) -> None:
    first, (name, text) = run(nodes, leaves)
    assert first is None and name == "CollectiveError"
    assert "rank 0 (" in text and "left" in text, text


def late(group: ShmGroup) -> None:
    if group.rank == 0:
        time.sleep(1.5)
    ShmTensors(group).barrier()


@pytest.mark.parametrize("nodes", [(2,), (1, 1)])
def test_a_rank_that_does_not_come_in_time_is_named(nodes: tuple[int, ...]) -> None:
    (first, _), (name, text) = run(nodes, late, timeout_s=0.5)
    assert first == "CollectiveError"
    assert name == "CollectiveTimeoutError" and "rank 0 (" in text and "barrier within 0.5 s" in text


def refuses(group: ShmGroup) -> list[str]:
    tensors, found = ShmTensors(group), []
    fixed = np.ones(3)
    fixed.flags.writeable = False
    for call in (
        lambda: tensors.allreduce(fixed, ReduceOp.SUM),
        lambda: tensors.allreduce(np.ones(3, np.int64), ReduceOp.AVERAGE),
        lambda: tensors.allreduce(np.array(["a"]), ReduceOp.SUM),
        lambda: tensors.allgather([np.ones(2), np.ones(3)], np.ones(2)),
    ):
        try:
            call()
        except ValueError as error:
            found.append(str(error).partition(":")[0])
    # Nothing of that has harmed the group.
    tensors.barrier()
    return found


def test_what_cannot_be_done_is_said_before_anything_happens() -> None:
    assert (
        run((2,), refuses)
        == [
            [
                "the array is read-only, as what hpc.get returns",
                "an average of int64 is no int64",
                "arrays of <U1 cannot be sent",
                "a tensor has 24 bytes where 16 are needed",
            ]
        ]
        * 2
    )


def interrupted(group: ShmGroup) -> None:
    tensors = ShmTensors(group)
    if group.rank == 0:
        signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        try:
            tensors.barrier()
        except KeyboardInterrupt:
            pass
        tensors.barrier()
    else:
        while group.ended() is None:
            time.sleep(0.01)
        tensors.barrier()


def test_an_interrupted_operation_ends_the_group_for_all() -> None:
    for name, text in run((2,), interrupted):
        assert name == "CollectiveError" and "rank 0 (" in text and "interrupted in barrier: KeyboardInterrupt" in text


def test_a_word_says_what_a_rank_does() -> None:
    word = what("reduce", 1 << 35, "bfloat16", ReduceOp.MIN, 65535)
    assert word < 1 << 64
    assert describe(word) == f"reduce of {1 << 35} bytes of bfloat16 by MIN with rank 65535"
    assert describe(what("barrier", 0)) == "barrier"


def dies_before_it_is_met(group: ShmGroup) -> None:
    if group.rank == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    ShmTensors(group).barrier()


def test_a_rank_of_another_node_that_died_before_it_had_called_is_noticed() -> None:
    found = run((1, 1, 1), dies_before_it_is_met)
    assert found.pop(0) is None
    for name, text in found:
        assert name == "CollectiveError" and "rank 0 (" in text and "has died or left" in text


def calls_a_rank_whose_port_closes(group: ShmGroup) -> None:
    if group.rank == 0:

        def reset(*_args: object, **_named: object) -> None:
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))

        socket.create_connection = reset  # type: ignore[assignment]
    ShmTensors(group).barrier()


def test_a_rank_whose_port_closes_while_it_is_called_has_died_or_left() -> None:
    found = run((1, 1), calls_a_rank_whose_port_closes)
    assert found[0][0] == "CollectiveError" and "rank 1 (" in found[0][1] and "has died or left" in found[0][1]
