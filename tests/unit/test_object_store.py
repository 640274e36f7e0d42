"""The pure object store of a raylet: spilling, waiting for room, sets of arguments and transfers."""

from __future__ import annotations

from functools import partial

import pytest

from hpc.core.ids import Address, make_id
from hpc.core.raylet.object_store import ObjectStore
from hpc.core.raylet.pulls import CHUNK_BYTES, MAX_ASKED_BYTES, WINDOW
from hpc.core.raylet.spill import READ, WRITE, Spiller
from hpc.core.store.layout import Layout
from hpc.core.wire import (
    Abandon,
    Alloc,
    Allocated,
    Chunk,
    Fetch,
    FetchAll,
    Fetched,
    FetchedAll,
    Free,
    LocationAdded,
    PleaseUnpin,
    Pull,
    PullBusy,
    PullFailed,
    Seal,
    Unpin,
)

PAGE = 4096
OWNER = Address(1, 1)


class NoBytes:
    """An arena without memory."""

    overflow_bytes = 0

    def readable(self, offset, size):
        return memoryview(bytes(size))


def ident(number):
    return make_id(OWNER, number)


def at(proc):
    return Address(1, proc)


def came(objects, node, chunk):
    """A piece has come, and has been placed where it belongs."""
    pull = objects.pulls.expects(node, chunk.ident, chunk.offset, len(chunk.data))
    if pull is not None:
        objects.pulls.advance(node, pull, len(chunk.data))


class Store:
    """A store of a few pages with its disk, driven by hand."""

    def __init__(self, pages, disk_pages=1000, node=1, arena=None):
        arena = arena or NoBytes()
        self.objects = ObjectStore(node, Layout(pages * PAGE), arena, spiller=Spiller(disk_pages * PAGE))
        self.reqs = 0

    def take(self, kind=None):
        out, self.objects.outbox[:] = list(self.objects.outbox), []
        return [msg for _, msg in out if kind is None or isinstance(msg, kind)]

    def disk(self, error=""):
        """Let the disk do all that it was given; how many jobs that was."""
        done = 0
        while self.objects.spiller.jobs:
            job = self.objects.spiller.jobs.pop(0)
            self.objects.disk_ended(job, error if job.kind == WRITE else "")
            done += 1
        return done

    def alloc(self, proc, number, pages=1):
        self.reqs += 1
        self.objects.on_alloc(at(proc), Alloc(self.reqs, pages * PAGE, ident(number)))
        return self.reqs

    def put(self, proc, number, pages=1, keep=False):
        self.alloc(proc, number, pages)
        self.disk()
        (answer,) = self.take(Allocated)
        assert answer.offset >= 0
        self.objects.on_seal(at(proc), Seal(ident(number), answer.offset, pages * PAGE))
        if not keep:
            self.objects.on_unpin(at(proc), Unpin([ident(number)]))

    def fetch_all(self, proc, *numbers, pages=1, nodes=(1,)):
        self.reqs += 1
        idents = [ident(n) for n in numbers]
        self.objects.on_fetch_all(at(proc), FetchAll(self.reqs, idents, [pages * PAGE] * len(idents), [[*nodes]] * 9))
        return self.reqs

    def in_memory(self):
        return {n for n in range(100) if ident(n) in self.objects.lru}


# ---------------------------------------------------------------- spilling


def test_the_least_recently_used_object_leaves_first_and_comes_back():
    store = Store(4)
    for number in range(4):
        store.put(2, number)
    store.objects.on_fetch(at(2), Fetch(ident(0), PAGE, [1]))
    store.objects.on_unpin(at(2), Unpin([ident(0)]))
    store.take()
    store.put(2, 9)
    assert 1 not in store.in_memory()
    assert 0 in store.in_memory()
    store.objects.on_fetch(at(3), Fetch(ident(1), PAGE, [1]))
    assert not store.take(Fetched)
    store.disk()
    (answer,) = store.take(Fetched)
    assert answer.offset >= 0
    assert store.objects.spiller.restored_objects == 1


def test_what_came_back_leaves_again_without_being_written():
    store = Store(2)
    for number in range(3):
        store.put(2, number)
    store.objects.on_fetch(at(2), Fetch(ident(0), PAGE, [1]))
    store.disk()
    store.objects.on_unpin(at(2), Unpin([ident(0)]))
    written = store.objects.spiller.spilled_objects
    store.objects.on_fetch(at(2), Fetch(ident(1), PAGE, [1]))
    store.objects.on_fetch(at(2), Fetch(ident(2), PAGE, [1]))
    store.disk()
    assert len(store.take(Fetched)) == 3
    assert store.objects.spiller.spilled_objects <= written + 1


def test_objects_that_are_freed_while_the_disk_is_at_work_leave_nothing():
    store = Store(1)
    store.put(2, 0)
    store.alloc(2, 1)
    (job,) = store.objects.spiller.jobs
    assert job.kind == WRITE
    store.objects.on_free(at(2), Free([ident(0)]))
    store.disk()
    assert [a.offset for a in store.take(Allocated)] == [0]
    store.objects.on_abandon(at(2), Abandon(0))
    assert store.objects.layout.used_bytes == store.objects.spiller.used_bytes == 0
    assert not store.objects.spiller.files
    store.put(2, 2)
    store.put(2, 3)
    store.objects.on_fetch(at(2), Fetch(ident(2), PAGE, [1]))
    while store.objects.spiller.jobs and store.objects.spiller.jobs[0].kind != READ:
        store.objects.disk_ended(store.objects.spiller.jobs.pop(0), "")
    store.objects.on_free(at(2), Free([ident(2)]))
    store.disk()
    store.objects.on_unpin(at(2), Unpin([ident(2)]))
    store.objects.on_free(at(2), Free([ident(3)]))
    store.disk()
    assert not store.objects.stored
    assert not store.objects.spiller.files
    assert store.objects.layout.used_bytes == 0


def test_a_file_goes_with_its_last_object():
    store = Store(16)
    for number in range(16):
        store.put(2, number)
    store.alloc(2, 20, 4)
    store.disk()
    assert len(store.objects.spiller.files) == 1
    (name,) = store.objects.spiller.files
    for number in range(3):
        store.objects.on_free(at(2), Free([ident(number)]))
        assert name in store.objects.spiller.files
    store.objects.on_free(at(2), Free([ident(3)]))
    assert [(j.kind, j.file) for j in store.objects.spiller.jobs] == [("remove", name)]
    assert store.objects.spiller.used_bytes == 0


def test_an_error_of_the_disk_keeps_the_object_and_is_told():
    store = Store(1)
    store.put(2, 0)
    store.alloc(2, 1)
    store.disk("no space left on device")
    assert 0 in store.in_memory()
    for now in (0.2, 3.0, 6.0, 9.0, 12.0):
        store.objects.tick(now)
        store.disk("no space left on device")
    (answer,) = store.take(Allocated)
    assert "no space left on device" in answer.why


def test_holes_between_objects_become_one():
    store = Store(8)
    for number in range(8):
        store.put(2, number, keep=number in (3,))
    for number in (0, 2, 4, 6):
        store.objects.on_free(at(2), Free([ident(number)]))
    assert store.objects.layout.free_bytes == 4 * PAGE
    assert store.objects.layout.largest_hole == PAGE
    store.put(2, 20, pages=4)
    assert {3, 20} <= store.in_memory()


def test_processes_are_asked_for_pins_that_they_only_keep_in_case():
    store = Store(2)
    store.put(2, 0, keep=True)
    store.put(3, 1, keep=True)
    store.alloc(4, 2)
    out, store.objects.outbox[:] = list(store.objects.outbox), []
    assert {dst for dst, msg in out if isinstance(msg, PleaseUnpin)} == {at(2), at(3)}
    store.objects.on_unpin(at(2), Unpin([ident(0)]))
    store.disk()
    assert [a.offset for a in store.take(Allocated)] == [0]


def test_who_reads_what_others_need_is_named():
    store = Store(2)
    store.objects.describe = lambda proc: f"worker {proc}"
    store.put(2, 0, pages=2, keep=True)
    store.alloc(4, 2)
    store.objects.on_unpin(at(2), Unpin([]))
    store.objects.tick(4.9)
    assert not store.take(Allocated)
    store.objects.tick(5.1)
    (answer,) = store.take(Allocated)
    assert "worker 2 reads" in answer.why


def test_who_waits_for_a_task_to_end_waits_as_long_as_it_runs():
    store = Store(2)
    running = {2}
    store.objects.is_running = running.__contains__
    store.put(2, 0, pages=2, keep=True)
    store.alloc(4, 2)
    store.objects.on_unpin(at(2), Unpin([]))
    for now in (6.0, 60.0, 600.0):
        store.objects.tick(now)
    assert not store.take(Allocated)
    running.clear()
    store.objects.tick(601.0)
    assert store.take(Allocated)[0].why


# ---------------------------------------------------------------- sets


def test_a_set_is_pinned_all_or_none():
    store = Store(10)
    for number in range(3):
        store.put(2, number)
    store.take()
    req = store.fetch_all(5, 0, 1, 2)
    (answer,) = store.take(FetchedAll)
    assert answer.req == req
    assert len(answer.offsets) == 3
    assert all(store.objects.stored[ident(n)].pins == {5: 1} for n in range(3))


def test_two_sets_that_do_not_fit_together_take_turns():
    store = Store(10)
    store.objects.is_running = lambda proc: True
    for number in range(4):
        store.put(2, number, pages=3)
    store.take()
    first = store.fetch_all(5, 0, 1, pages=3)
    second = store.fetch_all(6, 2, 3, pages=3)
    store.disk()
    assert [a.req for a in store.take(FetchedAll)] == [first]
    store.objects.on_unpin(at(5), Unpin([ident(0), ident(1)]))
    store.disk()
    assert [a.req for a in store.take(FetchedAll)] == [second]


def test_a_younger_set_gives_back_what_it_has_while_an_older_one_lacks_room():
    store = Store(10)
    store.objects.is_running = lambda proc: True
    for number in range(6):
        store.put(2, number, pages=3)
    store.put(2, 8, pages=6, keep=True)
    store.objects.is_running = lambda proc: proc == 2
    store.take()
    first = store.fetch_all(5, 0, 1, pages=3)
    second = store.fetch_all(6, 2, 3, pages=3)
    store.disk()
    assert not store.take(FetchedAll)
    assert any(5 in obj.pins for obj in store.objects.stored.values())
    assert not any(6 in obj.pins for obj in store.objects.stored.values())
    store.objects.on_unpin(at(2), Unpin([ident(8)]))
    store.disk()
    assert [a.req for a in store.take(FetchedAll)] == [first]
    store.objects.proc_gone(5)
    store.disk()
    assert [a.req for a in store.take(FetchedAll)] == [second]


def test_a_set_that_can_never_fit_is_an_error_at_once():
    store = Store(10)
    store.fetch_all(5, 0, 1, pages=6)
    (answer,) = store.take(FetchedAll)
    assert "too large together" in answer.why


def test_the_waits_of_a_process_that_ends_are_forgotten():
    store = Store(2)
    store.put(2, 0, pages=2, keep=True)
    store.fetch_all(5, 1, nodes=(2,))
    store.alloc(5, 3)
    store.objects.proc_gone(5)
    assert not store.objects.sets
    assert not store.objects.wanted


def test_an_object_that_is_being_written_is_waited_for():
    """The news of a result can reach its reader before the writer's Seal comes here."""
    store = Store(4)
    store.alloc(2, 0)
    (room,) = store.take(Allocated)
    store.objects.on_fetch(at(3), Fetch(ident(0), PAGE, [1]))
    assert not store.take(Fetched)
    store.objects.on_seal(at(2), Seal(ident(0), room.offset, PAGE))
    assert store.take(Fetched)[0].offset == room.offset
    store.alloc(2, 1)
    store.take()
    store.objects.on_fetch(at(3), Fetch(ident(1), PAGE, [1]))
    store.objects.proc_gone(2)
    assert store.take(Fetched)[0].offset == -1


# ---------------------------------------------------------------- transfers


class Nodes:
    """Several stores and the messages between them; an object of ``size`` bytes lies on node 1."""

    def __init__(self, count, size):
        self.size = size
        self.stores = {n: Store(size // PAGE * 2, node=n) for n in range(1, count + 1)}
        self.stores[1].put(2, 0, pages=size // PAGE)
        self.got = set()

    def fetch(self, node, nodes=(1,)):
        self.stores[node].objects.on_fetch(Address(node, 2), Fetch(ident(0), self.size, list(nodes)))

    def step(self, dead=()):
        """Deliver one round of bulk messages; whether there were any."""
        bulk = [(n, dst, m) for n, s in self.stores.items() if n not in dead for dst, m in s.objects.bulk]
        for store in self.stores.values():
            store.objects.bulk.clear()
        for src, dst, msg in bulk:
            if dst in dead:
                continue
            memory = self.stores[dst].objects
            handler = {
                Pull: memory.on_pull,
                Chunk: partial(came, memory),
                PullFailed: memory.pulls.on_pull_failed,
                PullBusy: memory.pulls.on_pull_busy,
            }[type(msg)]
            handler(src, msg)
        for node, store in self.stores.items():
            for msg in store.take():
                if isinstance(msg, Fetched):
                    assert msg.offset >= 0, msg
                    self.got.add(node)
                assert isinstance(msg, (Fetched, LocationAdded, Allocated))
        return bool(bulk)

    def sent(self, node):
        return self.stores[node].objects.pulls.sent_bytes


def test_one_object_to_eight_nodes_costs_its_source_two_copies():
    nodes = Nodes(9, 64 * CHUNK_BYTES)
    for node in range(2, 10):
        nodes.fetch(node)
    while nodes.step():
        pass
    assert nodes.got == set(range(2, 10))
    assert nodes.sent(1) < 4 * nodes.size
    assert sum(nodes.sent(n) for n in range(1, 10)) == 8 * nodes.size


@pytest.mark.parametrize("dead", [1, 2, 3])
@pytest.mark.parametrize("when", range(0, 40, 3))
def test_a_source_that_dies_is_replaced(dead, when):
    """The object has two whole copies; one of the nodes dies at some point of the transfer."""
    nodes = Nodes(8, 32 * CHUNK_BYTES)
    nodes.fetch(2)
    while nodes.step():
        pass
    for node in range(3, 9):
        nodes.fetch(node, (1, 2))
    gone = ()
    for turn in range(1000):
        if turn == when:
            gone = (dead,)
            for node, store in nodes.stores.items():
                if node != dead:
                    store.objects.forget_node(dead) if dead != 1 else forget_but_keep(store.objects)
        if not nodes.step(gone):
            break
    assert nodes.got | {dead} == set(range(2, 9)) | {dead}


def forget_but_keep(memory):
    """Node 1 dies, but not as the owner: what is tested is the transfer."""
    memory.pulls.forget_node(1)


def test_a_stalled_pull_begins_again():
    nodes = Nodes(3, 32 * CHUNK_BYTES)
    nodes.fetch(3)
    nodes.stores[3].objects.bulk.clear()
    assert not nodes.step()
    nodes.stores[3].objects.tick(20.0)
    while nodes.step():
        pass
    assert nodes.got == {3}


def test_bytes_that_were_asked_of_one_node_are_bounded():
    store = Store(200 * 1024, node=2)
    for number in range(50):
        store.objects.on_fetch(at(3), Fetch(ident(number), 8 * CHUNK_BYTES, [1]))
    asked = sum(min(m.window * CHUNK_BYTES, 8 * CHUNK_BYTES) for _, m in store.objects.bulk if isinstance(m, Pull))
    assert 0 < asked <= MAX_ASKED_BYTES
    bulk, store.objects.bulk[:] = list(store.objects.bulk), []
    _, first = bulk[0]
    for part in range(8):
        chunk = Chunk(first.ident, part * CHUNK_BYTES, memoryview(bytes(CHUNK_BYTES)), 8 * CHUNK_BYTES)
        came(store.objects, 1, chunk)
    assert len(store.objects.bulk) == 1
    assert store.objects.bulk[0][1].window == WINDOW


def test_an_object_on_disk_is_read_back_for_another_node():
    store = Store(2)
    for number in range(4):
        store.put(2, number)
    assert 0 not in store.in_memory()
    store.objects.on_pull(7, Pull(ident(0), 0, WINDOW))
    assert not store.objects.bulk
    store.disk()
    assert [type(m) for _, m in store.objects.bulk] == [Chunk]
    assert not store.objects.stored[ident(0)].pins


def test_the_last_copy_is_not_dropped():
    store = Store(2)
    store.objects.on_fetch(at(2), Fetch(ident(0), PAGE, [3]))
    store.objects.bulk.clear()
    came(store.objects, 3, Chunk(ident(0), 0, memoryview(bytes(PAGE)), PAGE))
    store.objects.on_unpin(at(2), Unpin([ident(0)]))
    store.take()
    store.objects.forget_node(3)
    store.put(2, 1)
    store.put(2, 2)
    assert ident(0) in store.objects.stored


def test_a_copy_that_comes_when_its_owner_and_its_readers_are_gone_does_not_stay():
    store = Store(2, node=2)
    store.objects.on_fetch(at(2), Fetch(ident(0), PAGE, [3]))
    store.objects.owner_gone(OWNER)
    store.objects.proc_gone(2)
    came(store.objects, 3, Chunk(ident(0), 0, memoryview(bytes(PAGE)), PAGE))
    assert not store.objects.stored
    assert not store.objects.layout.used_bytes


# ---------------------------------------------------------------- what a lost process wrote


def test_what_a_lost_process_wrote_is_freed_and_what_another_wrote_again_stays():
    store = Store(4)
    store.put(2, 0)
    store.put(3, 1)
    store.objects.on_free(at(1), Free([ident(0), ident(1), ident(2)], writer=2))
    assert set(store.objects.stored) == {ident(1)}
    store.put(2, 0)
    store.alloc(4, 0)
    (answer,) = store.take(Allocated)
    store.objects.on_free(at(1), Free([ident(0)], writer=4))  # while it is being written
    store.objects.on_seal(at(4), Seal(ident(0), answer.offset, PAGE))
    store.objects.on_unpin(at(4), Unpin([ident(0)]))
    store.objects.on_free(at(1), Free([ident(0)], writer=2))  # late: another has written it too
    assert ident(0) in store.objects.stored and not store.objects.writing.freed_early
    store.objects.on_free(at(1), Free([ident(0)]))
    assert ident(0) not in store.objects.stored


def test_what_a_process_writes_after_its_owner_gave_it_up_is_freed():
    """The owner may be faster than the process, which is being killed."""
    store = Store(4)
    store.objects.is_there = {2}.__contains__
    store.objects.on_free(at(1), Free([ident(0)], writer=2))
    store.put(2, 0)
    store.put(3, 0)
    assert set(store.objects.stored) == {ident(0)} and store.objects.stored[ident(0)].writer == 3
    store.objects.proc_gone(2)
    store.objects.on_free(at(1), Free([ident(1)], writer=9))
    assert not store.objects.writing.disowned


def test_a_copy_is_nobodys_writing():
    store = Store(2, node=2)
    store.objects.on_fetch(at(2), Fetch(ident(0), PAGE, [3]))
    came(store.objects, 3, Chunk(ident(0), 0, memoryview(bytes(PAGE)), PAGE))
    store.objects.on_unpin(at(2), Unpin([ident(0)]))
    store.objects.on_free(at(1), Free([ident(0)], writer=2))
    assert ident(0) in store.objects.stored
