"""A node dies with the only copy of a value: the task that made it runs again, and what it needed with it."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Iterator

import numpy as np
import pytest

import hpc
from hpc.core.process.current import need_client
from hpc.exceptions import ObjectFreedError, ObjectLostError, ObjectReconstructionFailedError
from hpc.launchers.session import Session
from runtime.running import eventually, kill9, local_nodes, pid_of, soft

SIZE = 300_000


@hpc.remote(num_cpus=0.01)
def block(value, mark):
    with open(mark, "a") as file:
        file.write(".")
    return np.full(SIZE, value, np.uint8)


@hpc.remote(num_cpus=0.01)
def twice(array, mark):
    with open(mark, "a") as file:
        file.write(".")
    return array * 2


@hpc.remote
def total(array):
    return int(array.sum())


@pytest.fixture(autouse=True)
def session(no_leaks: None) -> Iterator[Session]:
    with local_nodes(3) as made:
        yield made


def kill_node(session: Session, number: int) -> None:
    """SIGKILL its raylet, and wait until this process knows that it is gone."""
    row = next(n for n in hpc.nodes() if n["NodeID"] == str(number))
    kill9(pid_of(os.path.dirname(row["RayletSocketName"]), "raylet"))
    eventually(lambda: session.pump(0.02) or number in need_client().machine.state.gone_nodes)


def runs(mark) -> int:
    return len(mark.read_text())


def test_the_reader_gets_it_again(session, tmp_path):
    ref = block.options(scheduling_strategy=soft(2)).remote(7, tmp_path / "one")
    hpc.wait([ref], fetch_local=False)
    kill_node(session, 2)
    assert hpc.get(ref)[5] == 7
    assert runs(tmp_path / "one") == 2


def test_a_chain_whose_beginning_was_freed(session, tmp_path):
    first = block.options(scheduling_strategy=soft(2)).remote(1, tmp_path / "first")
    chain = first
    for _ in range(4):
        chain = twice.options(scheduling_strategy=soft(2)).remote(chain, tmp_path / "steps")
    hpc.wait([chain], fetch_local=False)
    del first
    kill_node(session, 2)
    assert hpc.get(total.remote(chain)) == 16 * SIZE
    assert runs(tmp_path / "first") == 2 and runs(tmp_path / "steps") == 8
    del chain
    machine = need_client().machine
    lineage = machine.lineage

    def forgotten() -> bool:
        gc.collect()
        need_client().flush()
        return not machine.state.origins and not lineage.made_by and not lineage.lineage_bytes

    eventually(forgotten)


def test_a_borrower_gets_it_again(session, tmp_path):
    @hpc.remote
    def read(box):
        return int(hpc.get(box[0])[0])

    ref = block.options(scheduling_strategy=soft(2)).remote(9, tmp_path / "mark")
    hpc.wait([ref], fetch_local=False)
    kill_node(session, 2)
    assert hpc.get(read.options(scheduling_strategy=soft(3)).remote([ref])) == 9


def test_what_cannot_be_made_again_says_so(session, tmp_path):
    once = block.options(scheduling_strategy=soft(2), max_retries=0).remote(1, tmp_path / "once")

    @hpc.remote(num_cpus=0)
    class Maker:
        def make(self):
            return np.zeros(SIZE)

    maker = Maker.options(scheduling_strategy=soft(2)).remote()
    made = maker.make.remote()
    hpc.wait([once, made], num_returns=2, fetch_local=False)
    need_client().flush()
    kill_node(session, 2)
    for ref in (once, made):
        with pytest.raises(ObjectReconstructionFailedError, match=r"node 2.* no retries") as caught:
            hpc.get(ref)
        assert isinstance(caught.value, ObjectLostError)
        assert caught.value.reason == "OBJECT_UNRECONSTRUCTABLE_RETRIES_DISABLED"
        assert "max_retries" in caught.value.reason_message


def test_what_is_needed_to_make_a_value_again_is_kept_although_the_program_lets_it_go(session, tmp_path):
    there = block.options(scheduling_strategy=soft(1), max_retries=0).remote(2, tmp_path / "once")
    results = [
        twice.options(scheduling_strategy=soft(2)).remote(hpc.put(np.ones(SIZE, np.uint8)), tmp_path / "put"),
        twice.options(scheduling_strategy=soft(2)).remote(there, tmp_path / "made"),
    ]
    del there
    hpc.wait(results, num_returns=2, fetch_local=False)
    gc.collect()
    need_client().flush()
    kill_node(session, 2)
    assert [int(array[0]) for array in hpc.get(results)] == [2, 4]
    assert (runs(tmp_path / "put"), runs(tmp_path / "made"), runs(tmp_path / "once")) == (2, 2, 1)
    del results
    gc.collect()
    eventually(lambda: need_client().flush() or not need_client().machine.state.entries)


def test_what_was_given_up_by_hand_is_made_again_for_the_value_that_needs_it(session, tmp_path):
    first = block.options(scheduling_strategy=soft(2)).remote(3, tmp_path / "first")
    second = twice.options(scheduling_strategy=soft(2)).remote(first, tmp_path / "second")
    hpc.wait([second], fetch_local=False)
    hpc.internal.free(first)
    with pytest.raises(ObjectFreedError):
        hpc.get(first)
    kill_node(session, 2)
    assert int(hpc.get(second)[0]) == 6


@hpc.remote(max_restarts=-1, max_task_retries=2, num_cpus=0)
class Maker:
    """Its results are made again by calls."""

    def make(self, value):
        return np.full(SIZE, value, np.uint8)

    def twice(self, array):
        return array * 2


def test_results_of_an_actors_calls_are_made_again_in_its_next_life(session):
    maker = Maker.options(scheduling_strategy=soft(2)).remote()
    made = maker.make.remote(4)
    used = maker.twice.remote(made)
    hpc.wait([used], fetch_local=False)
    del made
    gc.collect()
    kill_node(session, 2)
    assert int(hpc.get(used, timeout=30)[0]) == 8
    later = maker.twice.remote(used)
    assert int(hpc.get(later, timeout=30)[0]) == 16


def test_a_result_of_a_call_is_lost_with_an_actor_that_has_ended(session):
    maker = Maker.options(scheduling_strategy=soft(2)).remote()
    made = maker.make.remote(4)
    hpc.wait([made], fetch_local=False)
    hpc.kill(maker)
    kill_node(session, 2)
    with pytest.raises(ObjectReconstructionFailedError, match="actor whose make made it has ended"):
        hpc.get(made, timeout=30)


def test_a_limit_on_what_is_remembered(session, tmp_path):
    lineage = need_client().machine.lineage
    lineage.max_lineage_bytes = 5000
    refs = [block.options(scheduling_strategy=soft(2)).remote(i, tmp_path / "mark") for i in range(12)]
    hpc.wait(refs, num_returns=len(refs), fetch_local=False)
    assert lineage.lineage_bytes <= 5000
    remembered = [i for i, ref in enumerate(refs) if ref.binary() in lineage.made_by]
    assert 0 < len(remembered) < len(refs)
    kill_node(session, 2)
    for i, ref in enumerate(refs):
        if i in remembered:
            assert hpc.get(ref)[0] == i
        else:
            with pytest.raises(ObjectReconstructionFailedError, match="forgotten"):
                hpc.get(ref)


def test_items_of_a_generator(session, tmp_path):
    @hpc.remote
    def blocks(n):
        for i in range(n):
            yield np.full(SIZE, i, np.uint8)

    refs = list(blocks.options(scheduling_strategy=soft(2)).remote(4))
    kill_node(session, 2)
    assert [int(hpc.get(ref)[0]) for ref in refs] == [0, 1, 2, 3]


def test_what_a_task_only_passed_on_before_it_had_a_value_is_there_when_it_runs_again(session, tmp_path):
    gate = tmp_path / "gate"

    @hpc.remote(num_cpus=0.01)
    def later():
        while not gate.exists():
            time.sleep(0.01)
        return 3

    @hpc.remote(num_cpus=0.01)
    def holder(refs, mark):
        first = not os.path.exists(mark)
        with open(mark, "a") as file:
            file.write(".")
        return np.full(SIZE, 1 if first else hpc.get(refs[0]), np.uint8)

    pending = later.remote()
    made = holder.options(scheduling_strategy=soft(2)).remote([pending], tmp_path / "holder")
    hpc.wait([made], fetch_local=False)
    gate.touch()
    assert hpc.get(pending) == 3
    del pending
    gc.collect()
    kill_node(session, 2)
    assert hpc.get(made, timeout=60)[0] == 3
    assert runs(tmp_path / "holder") == 2


def test_an_argument_that_was_an_error_is_there_when_the_task_runs_again(session, tmp_path):
    """Seed 229189 of the simulator, with dying heads."""

    @hpc.remote(num_cpus=0.01, max_retries=0)
    def fail():
        raise KeyError("gone")

    failed = fail.remote()
    with pytest.raises(KeyError):
        hpc.get(failed)

    @hpc.remote(num_cpus=0.01)
    def holder(refs, mark):
        with open(mark, "a") as file:
            file.write(".")
        return np.full(SIZE, len(refs), np.uint8)

    made = holder.options(scheduling_strategy=soft(2)).remote([failed], tmp_path / "holder")
    hpc.wait([made], fetch_local=False)
    del failed
    gc.collect()
    kill_node(session, 2)
    assert hpc.get(made, timeout=60)[0] == 1
    assert runs(tmp_path / "holder") == 2


def test_items_of_a_generator_that_still_runs(session, tmp_path):
    @hpc.remote(num_cpus=0.01)
    def blocks(n):
        for i in range(n):
            if i == n - 1:
                (tmp_path / "waits").touch()
                while not (tmp_path / "go").exists():
                    time.sleep(0.005)
            yield np.full(SIZE, i, np.uint8)

    generator = blocks.options(scheduling_strategy=soft(2)).remote(4)
    refs = [next(generator) for _ in range(3)]
    eventually((tmp_path / "waits").exists)
    kill_node(session, 2)
    assert [int(hpc.get(ref, timeout=30)[7]) for ref in refs] == [0, 1, 2]
    (tmp_path / "go").touch()
    assert [int(hpc.get(ref, timeout=30)[7]) for ref in generator] == [3]
