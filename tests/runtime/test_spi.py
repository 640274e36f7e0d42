"""The names for libraries: identity, keys and their changes, places of objects, buffers."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import hpc
from hpc import spi
from hpc.exceptions import ActorDiedError, GangError, GetTimeoutError, ObjectStoreFullError
from runtime.running import eventually, kill9, local_nodes, on, store_stats

MIB = 1 << 20


@pytest.fixture(scope="module")
def session():
    with local_nodes(2, num_cpus=2) as session:
        yield session


@pytest.fixture
def space(request):
    """A namespace of this test's own."""
    return request.node.name


# ---------------------------------------------------------------- identity


@hpc.remote
def identity():
    return spi.whoami()


@hpc.remote
class Host:
    def identity(self):
        return spi.whoami()

    def pid(self):
        import os

        return os.getpid()

    def put(self, nbytes):
        self.kept = hpc.put(np.ones(nbytes, np.uint8))
        return [self.kept]

    def places(self, refs):
        return spi.places(refs)


def test_each_process_knows_what_it_is(session):
    me = spi.whoami()
    assert (me.kind, me.actor, me.task) == ("driver", None, None)
    assert me.session == hpc.get_runtime_context().get_session_name() and me.job.hex() == me.session
    ref = identity.options(scheduling_strategy=on(2)).remote()
    task = hpc.get(ref)
    assert (task.kind, task.actor, task.node.hex(), task.process.node) == ("worker", None, "2", 2)
    assert task.task == ref.task_id() and task.worker.hex() == str(task.process)
    host = Host.remote()
    call = hpc.get(host.identity.remote())
    assert call.actor == host._actor_id and call.task is not None and call.session == me.session
    assert len({me.process, task.process, call.process}) == 3


# ---------------------------------------------------------------- keys


def test_keys_are_set_read_listed_and_deleted(session, space):
    first = spi.kv_put(space, "a/1", b"one")
    assert spi.kv_put(space, "a/2", b"two") > first
    assert spi.kv_put(space, "a/1", b"other", overwrite=False) == 0
    assert [spi.kv_get(space, key) for key in ("a/1", "a/2", "b")] == [b"one", b"two", None]
    assert spi.kv_keys(space) == spi.kv_keys(space, "a/") == ["a/1", "a/2"] and spi.kv_keys(space, "b") == []
    assert spi.kv_get(space + "x", "a/1") is None, "namespaces are apart"
    assert spi.kv_delete(space, "a/2") == 1 and spi.kv_delete(space, "a/2") == 0
    assert spi.kv_delete(space, "a", prefix=True) == 1 and spi.kv_keys(space) == []


def test_what_cannot_be_a_value_is_refused(session, space):
    with pytest.raises(ValueError, match="object store"):
        spi.kv_put(space, "a", bytes(spi.MAX_VALUE_BYTES + 1))
    with pytest.raises(TypeError):
        spi.kv_put(space, "a", "text")
    with pytest.raises(ValueError, match="namespace"):
        spi.kv_put("", "a", b"")
    assert spi.kv_put(space, "a", bytes(spi.MAX_VALUE_BYTES))
    with spi.watch(space, "a") as watch:
        assert len(watch.next(10)[0].value) == spi.MAX_VALUE_BYTES
    spi.kv_delete(space, "a")


def test_a_watch_tells_what_is_there_and_then_each_change(session, space):
    spi.kv_put(space, "c/1", b"1")
    with spi.watch(space, "c/", prefix=True) as watch:
        assert [(c.key, c.value) for c in watch.next(10)] == [("c/1", b"1")]
        assert watch.next(0.05) == [], "nothing has changed"
        version = spi.kv_put(space, "c/2", b"2")
        assert watch.next(10) == [spi.Change("c/2", b"2", version)]
        for value in (b"3", b"4", b"5"):
            spi.kv_put(space, "c/1", value)
        spi.kv_put(space, "d", b"other")
        last: dict[str, bytes | None] = {}
        eventually(lambda: last.update({c.key: c.value for c in watch.next(0.5)}) or last.get("c/1") == b"5")
        spi.kv_delete(space, "c/1")
        assert [(c.key, c.value) for c in watch.next(10)] == [("c/1", None)]
    with pytest.raises(ValueError, match="closed"):
        watch.next(0)
    watch.close()


def test_a_watch_that_ends_leaves_no_question_at_the_head(session, space):
    from hpc.core.process.current import need_client

    asked = need_client().machine.state.asked
    before = len(asked)
    watch, other = spi.watch(space, "never"), spi.watch(space, "never")
    assert watch.next(0.01) == other.next(0.01) == []
    assert len(asked) == before + 2, "one question each, however often one waits"
    assert watch.next(0.01) == [] and len(asked) == before + 2
    watch.close()
    del other
    gc.collect()
    eventually(lambda: len(asked) == before)


def test_workers_and_coroutines_watch_too(session, space):
    @hpc.remote
    def follow(space):
        with spi.watch(space, "go") as watch:
            return watch.next(20)[0].value

    @hpc.remote
    class Follower:
        def __init__(self):
            self.waited = asyncio.Event()

        async def follow(self, space):
            seen = []
            with spi.watch(space, "", prefix=True) as watch:
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(watch.next_async(), 0.01)
                self.waited.set()
                async for changes in watch:
                    seen += [(change.key, change.value) for change in changes]
                    if "end" in dict(seen):
                        return seen

        async def ready(self):
            return await self.waited.wait()

    follower = Follower.remote()
    found = follower.follow.remote(space)
    waiting = [follow.options(scheduling_strategy=on(node), num_cpus=0).remote(space) for node in (1, 2)]
    assert hpc.get(follower.ready.remote(), timeout=60), "its event loop is free while it watches"
    spi.kv_put(space, "go", b"now")
    assert hpc.get(waiting, timeout=60) == [b"now", b"now"]
    spi.kv_put(space, "end", b"")
    assert hpc.get(found, timeout=60) == [("go", b"now"), ("end", b"")]


# ---------------------------------------------------------------- places


def test_places_say_where_objects_lie_and_how_large_they_are(session, tmp_path):
    @hpc.remote
    def make(nbytes):
        return bytes(nbytes)

    @hpc.remote
    def wait(gate):
        eventually(gate.exists, 30)

    @hpc.remote
    def fail():
        raise ValueError

    gate = tmp_path / "gate"
    small, large, bad = make.remote(10), make.options(scheduling_strategy=on(2)).remote(MIB), fail.remote()
    late = wait.remote(gate)
    hpc.wait([small, large, bad], num_returns=3, timeout=60, fetch_local=False)
    found = spi.places([small, large, bad, late, large])
    assert [place.state for place in found] == ["inline", "stored", "failed", "pending", "stored"]
    assert [str(node.hex()) for node in found[1].nodes] == ["2"] and found[1] == found[4]
    assert MIB <= found[1].size_bytes < MIB + 1000 and 10 <= found[0].size_bytes < 100
    hpc.get(large)
    eventually(lambda: len(spi.places([large])[0].nodes) == 2)
    gate.touch()
    hpc.wait([late], timeout=60)
    assert spi.places([]) == []
    with pytest.raises(TypeError, match="references"):
        spi.places([1])


def test_places_of_a_generators_items_are_known_without_their_bytes(session):
    pa = pytest.importorskip("pyarrow")

    @hpc.remote(num_returns="streaming", scheduling_strategy=on(2))
    def blocks(count):
        table = pa.table({"number": np.arange(1_000_000)})
        for index in range(count):
            yield table.slice(index * 20_000, 20_000)
            yield {"rows": 20_000}

    refs = list(blocks.remote(4))
    found = spi.places(refs)
    assert [place.state for place in found] == ["stored", "inline"] * 4
    assert {str(node.hex()) for place in found[::2] for node in place.nodes} == {"2"}
    assert all(160_000 <= place.size_bytes < 162_000 for place in found[::2]), "a slice has only its own rows"
    last = hpc.get(refs[6])["number"]
    assert last[0].as_py() == 60_000 and not last.chunk(0).to_numpy().flags.writeable


def test_owners_are_asked_for_theirs_and_one_that_is_gone_knows_nothing(session):
    host = Host.options(scheduling_strategy=on(2)).remote()
    (theirs,) = hpc.get(host.put.remote(MIB))
    mine = hpc.put(np.zeros(MIB, np.uint8))
    here, there = spi.places([mine, theirs])
    assert ([n.hex() for n in here.nodes], [n.hex() for n in there.nodes]) == (["1"], ["2"])
    assert hpc.get(host.places.remote([mine, theirs])) == [here, there]
    kill9(hpc.get(host.pid.remote()))
    eventually(lambda: spi.places([theirs], timeout_s=60)[0].state in ("unknown", "failed"))
    assert spi.places([mine])[0].state == "stored"


# ---------------------------------------------------------------- buffers


@hpc.remote
def total(array):
    return int(np.asarray(array).sum()), bool(np.asarray(array).flags.writeable)


@pytest.mark.parametrize("nbytes", [0, 1, 1000, 3 * MIB + 1])
def test_a_buffer_becomes_an_object_that_all_nodes_read(session, nbytes):
    buffer = spi.allocate(nbytes)
    np.frombuffer(buffer.view, np.uint8)[:] = 1
    assert buffer.view.nbytes == nbytes and not buffer.view.readonly
    ref = buffer.seal()
    assert hpc.get([total.options(scheduling_strategy=on(n)).remote(ref) for n in (1, 2)]) == [(nbytes, False)] * 2
    seen = spi.view(ref)
    assert seen.readonly and bytes(seen[:2]) == b"\1\1"[:nbytes] and len(seen) == nbytes
    with pytest.raises(ValueError, match="sealed"):
        buffer.seal()
    with pytest.raises(ValueError):
        buffer.view[:1] = b"0"


def test_a_worker_fills_a_buffer_in_place(session):
    @hpc.remote
    def squares(count):
        with spi.allocate(8 * count) as buffer:
            out = np.frombuffer(buffer.view, np.int64)
            np.multiply(np.arange(count), np.arange(count), out=out)
            del out
            return [buffer.seal()]

    task = squares.options(scheduling_strategy=on(2)).remote(100_000)
    (ref,) = hpc.get(task)
    assert int(np.frombuffer(spi.view(ref), np.int64)[-1]) == 99_999**2
    assert int(hpc.get(ref).view(np.int64)[1000]) == 1_000_000


def test_nobody_writes_into_what_is_sealed(session):
    buffer = spi.allocate(1000)
    array = np.frombuffer(buffer.view, np.uint8)
    with pytest.raises(ValueError, match="in use"):
        buffer.seal()
    part = buffer.view[10:20]
    del array
    with pytest.raises(ValueError, match="in use"):
        buffer.seal()
    part[:] = bytes(range(10))
    del part
    assert bytes(spi.view(buffer.seal())[10:14]) == b"\0\1\2\3"


def test_space_that_is_not_sealed_comes_back_with_the_last_view(session):
    gc.collect()
    before = store_stats()["used_bytes"]

    def used():
        return store_stats()["used_bytes"]

    buffer = spi.allocate(8 * MIB)
    assert used() >= before + 8 * MIB
    array = np.frombuffer(buffer.view, np.uint8)
    buffer.abandon()
    buffer.abandon()
    assert used() >= before + 8 * MIB, "somebody may still write into it"
    del array
    eventually(lambda: used() == before)
    with pytest.raises(KeyError), spi.allocate(8 * MIB) as buffer:
        raise KeyError
    eventually(lambda: used() == before)
    spi.allocate(8 * MIB)
    eventually(lambda: used() == before)


@pytest.mark.parametrize("size", [200_000, 4 * MIB], ids=["in a span", "in room of its own"])
def test_a_value_that_is_not_written_to_its_end_takes_no_room(session, monkeypatch, size):
    def break_off(*_):
        raise KeyboardInterrupt

    kept = hpc.put(bytes(size))
    gc.collect()
    before = store_stats()["used_bytes"]
    monkeypatch.setattr("hpc.core.serialization.Serialized.write_into", break_off)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            hpc.put(bytes(size))
    monkeypatch.undo()
    eventually(lambda: store_stats()["used_bytes"] == before)
    eventually(lambda: store_stats()["span_bytes"] == 0)
    assert hpc.get(kept) == bytes(size)


def test_what_cannot_be_a_buffer_is_refused(session):
    for wrong, error in ((-1, ValueError), (1.5, TypeError), (True, TypeError)):
        with pytest.raises(error):
            spi.allocate(wrong)
    with pytest.raises(ObjectStoreFullError):
        spi.allocate(1 << 40)
    with pytest.raises(TypeError, match="no buffer, but list"):
        spi.view(hpc.put([1]))
    with pytest.raises(GetTimeoutError):
        spi.view(identity.options(resources={"nothing": 1}).remote(), timeout_s=0.05)


# ---------------------------------------------------------------- actors that belong together


@hpc.remote(num_cpus=0)
class Member:
    def pid(self):
        return os.getpid()

    def wait(self, refs):
        return hpc.get(refs)


def members(count):
    made = [Member.remote() for _ in range(count)]
    return made, spi.share_fate(made, [f"member {number}" for number in range(count)])


def test_the_first_member_that_ends_takes_the_others_along(session):
    made, fate = members(3)
    pids = hpc.get([member.pid.remote() for member in made])
    never = spi.latch()
    calls = [member.wait.remote([never.ref]) for member in made]
    assert not fate.is_over and not hpc.wait([fate.over], timeout=0.1)[0]
    kill9(pids[2])
    assert hpc.wait([fate.over], timeout=60)[0] and fate.is_over
    for call in (*calls, made[0].pid.remote()):
        with pytest.raises(GangError, match=r"member 2 on node .*SIGKILL") as caught:
            hpc.get(call, timeout=60)
        assert caught.value.rank == 2 and isinstance(caught.value, ActorDiedError)
    eventually(lambda: not [pid for pid in pids if Path(f"/proc/{pid}").exists()])


def test_members_in_other_hands_raise_the_same(session):
    made, fate = members(2)

    @hpc.remote(num_cpus=0)
    def error_of(member):
        try:
            hpc.get(member.pid.remote())
        except GangError as error:
            return error.rank, str(error)

    fate.end("there was no more to do", 1)
    rank, text = hpc.get(error_of.remote(made[0]), timeout=60)
    assert rank == 1 and "member 1" in text and "there was no more to do" in text


def test_members_that_have_parted_end_for_themselves(session):
    made, fate = members(2)
    hpc.get(made[0].pid.remote())
    fate.part()
    hpc.kill(made[0])
    assert hpc.get(made[1].pid.remote(), timeout=60) > 0


def test_what_can_share_no_fate_is_refused(session):
    member = Member.remote()
    with pytest.raises(TypeError, match="handles of actors, not int"):
        spi.share_fate([1], ["one"])
    with pytest.raises(ValueError, match="a name for each"):
        spi.share_fate([member], [])

    @hpc.remote(num_cpus=0)
    def tie(member):
        spi.share_fate([member], ["not mine"])

    with pytest.raises(ValueError, match="in the process that made them"):
        hpc.get(tie.remote(member), timeout=60)


def test_an_actor_has_begun_when_it_has_a_process(session):
    @hpc.remote(num_cpus=4)
    class Large:
        """No node has so much."""

    @hpc.remote(num_cpus=0)
    class Small:
        def here(self):
            return True

    large, small = Large.remote(), Small.remote()
    hpc.get(small.here.remote())
    assert spi.has_begun(small) and not spi.has_begun(large)
    hpc.kill(large)
    with pytest.raises(TypeError, match="takes the handle of an actor, not int"):
        spi.has_begun(3)


def test_a_latch_has_its_value_when_it_is_opened(session):
    latch = spi.latch()
    assert not hpc.wait([latch.ref], timeout=0.1)[0]
    latch.open()
    latch.open()
    assert hpc.get(latch.ref, timeout=60) is None


def test_a_latch_wakes_the_thread_that_waits_for_nothing_else(session):
    def late_s():
        latch, opened = spi.latch(), []
        timer = threading.Timer(0.02, lambda: (opened.append(time.monotonic()), latch.open()))
        timer.start()
        hpc.get(latch.ref, timeout=60)
        now = time.monotonic()
        timer.join()
        return now - opened[0]

    late = [late_s() for _ in range(5)]
    assert min(late) < 0.02, late


def test_an_interface_has_a_name(session):
    assert spi.interface_of("127.0.0.1") == "lo"
    assert spi.interface_of("203.0.113.77") is None
