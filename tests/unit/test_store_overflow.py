"""Room on disk for what finds none in memory because all of it is being read: the pure part."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from unit.test_object_store import PAGE, NoBytes, Store, at, ident

from hpc.core.ids import Address
from hpc.core.raylet.object_store import OVERFLOW_AFTER_S
from hpc.core.raylet.report import store_totals
from hpc.core.wire import Allocated, Fetch, FetchAll, Fetched, FetchedAll, Free, PleaseUnpin, Seal, Unpin


class FileBytes(NoBytes):
    """An arena with a file behind it, on a disk that has room as long as it is ``ok``."""

    def __init__(self, pages):
        super().__init__()
        self.overflow_bytes = pages * PAGE
        self.reserved = {}
        self.ok = True

    def reserve(self, offset, size):
        if not self.ok:
            return "No space left on device"
        assert offset not in self.reserved
        self.reserved[offset] = size
        return ""

    def discard(self, offset, size):
        assert self.reserved.pop(offset) == size


def with_file(pages, file_pages, **more):
    """A store of so many pages in memory, and a file of so many."""
    arena = FileBytes(file_pages)
    store = Store(pages, arena=arena, **more)
    store.arena = arena
    return store


def give_back_nothing(store):
    """All who are asked to give back pins say that they need them."""
    while any(isinstance(msg, PleaseUnpin) for _, msg in store.objects.outbox):
        asked = [dst for dst, msg in store.objects.outbox if isinstance(msg, PleaseUnpin)]
        store.objects.outbox[:] = [(dst, msg) for dst, msg in store.objects.outbox if not isinstance(msg, PleaseUnpin)]
        for dst in asked:
            store.objects.on_unpin(dst, Unpin([]))


def full(running=(), pages=2, **more):
    """A store whose pages are all pinned by process 2."""
    store = with_file(pages, 10, **more)
    store.objects.is_running = lambda proc: proc in running
    for number in range(pages):
        store.put(2, number, keep=True)
    return store


def test_who_is_writing_is_waited_for():
    store = full()
    store.alloc(3, 7)
    store.alloc(4, 8)
    give_back_nothing(store)
    assert [msg.req for msg in store.take(Allocated)] == [3]
    store.objects.tick(OVERFLOW_AFTER_S)
    assert [msg.req for msg in store.take(Allocated)] == [4]


def test_who_reads_all_of_memory_and_does_not_work_makes_others_use_the_disk():
    store = full()
    store.alloc(3, 7)
    give_back_nothing(store)
    (answer,) = store.take(Allocated)
    assert answer.offset == 2 * PAGE
    store.objects.on_seal(at(3), Seal(ident(7), answer.offset, PAGE))
    store.objects.on_fetch(at(4), Fetch(ident(7), PAGE, [1]))
    (found,) = store.take(Fetched)
    assert found.offset == answer.offset
    assert store_totals(store.objects)["overflow_bytes"] == PAGE
    for proc in (3, 4):
        store.objects.on_unpin(at(proc), Unpin([ident(7)]))
    assert store.arena.reserved
    store.objects.on_free(at(2), Free([ident(7)]))
    assert not store.arena.reserved
    assert store_totals(store.objects)["overflow_bytes"] == store.objects.spiller.mapped_bytes == 0


def test_while_a_reader_works_others_wait_for_it_but_not_for_ever():
    store = full(running={2})
    store.alloc(3, 7)
    give_back_nothing(store)
    store.objects.tick(OVERFLOW_AFTER_S / 2)
    assert not store.take(Allocated)
    store.objects.tick(OVERFLOW_AFTER_S)
    (answer,) = store.take(Allocated)
    assert answer.offset == 2 * PAGE


def test_what_a_reader_lets_go_of_is_used_before_the_disk():
    store = full(running={2})
    store.alloc(3, 7)
    give_back_nothing(store)
    store.objects.on_unpin(at(2), Unpin([ident(1)]))
    store.disk()
    (answer,) = store.take(Allocated)
    assert 0 <= answer.offset < 2 * PAGE
    assert not store.arena.reserved


def test_arguments_of_a_child_are_had_while_its_parent_holds_all_of_memory():
    store = with_file(2, 10)
    for number in range(4):
        store.put(5, number)
    store.disk()
    store.objects.on_fetch_all(at(2), FetchAll(1, [ident(0), ident(1)], [PAGE] * 2, [[1]] * 2))
    store.disk()
    assert store.take(FetchedAll)[0].why == ""
    store.objects.on_fetch_all(at(3), FetchAll(2, [ident(2), ident(3)], [PAGE] * 2, [[1]] * 2))
    give_back_nothing(store)
    store.disk()
    (answer,) = store.take(FetchedAll)
    assert sorted(answer.offsets) == [2 * PAGE, 3 * PAGE]
    assert store.objects.spiller.used_bytes <= 2 * PAGE  # what was read back to the disk is there once
    store.objects.on_unpin(at(3), Unpin(list(answer.idents)))
    store.objects.on_free(at(5), Free([ident(n) for n in range(4)]))
    store.objects.on_unpin(at(2), Unpin([ident(0), ident(1)]))
    store.disk()
    assert not store.arena.reserved
    assert store.objects.layout.used_bytes == store.objects.spiller.used_bytes == 0


def test_spilled_and_mapped_bytes_share_one_limit():
    store = full(disk_pages=3)
    for number in (7, 8, 9):
        store.alloc(3, number)
        give_back_nothing(store)
        (answer,) = store.take(Allocated)
        store.objects.on_seal(at(3), Seal(ident(number), answer.offset, PAGE))
    store.alloc(3, 10)
    give_back_nothing(store)
    store.objects.tick(OVERFLOW_AFTER_S + 10)
    (refused,) = store.take(Allocated)
    assert refused.offset == -1
    assert "0 of 0 MiB on disk are used" in refused.why


def test_a_disk_that_has_no_room_is_named_and_tried_again():
    store = full()
    store.arena.ok = False
    store.alloc(3, 7)
    give_back_nothing(store)
    assert not store.take(Allocated)
    assert "No space left on device" in store.objects.spiller.state()
    store.arena.ok = True
    store.objects.tick(1.0)
    (answer,) = store.take(Allocated)
    assert answer.offset == 2 * PAGE


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 7), st.integers(2, 5)), max_size=80))
def test_nothing_is_left_whatever_the_order(steps):
    store = with_file(3, 5, disk_pages=6)
    memory = store.objects
    for number in range(8):
        store.alloc(9, number)
        store.disk()
        give_back_nothing(store)
        for answer in store.take(Allocated):
            if answer.offset >= 0:
                memory.on_seal(at(9), Seal(ident(number), answer.offset, PAGE))
                memory.on_unpin(at(9), Unpin([ident(number)]))
    pinned = []
    for now, (kind, number, proc) in enumerate(steps):
        if kind == 0 and ident(number) in memory.stored:
            memory.on_fetch(at(proc), Fetch(ident(number), PAGE, [1]))
        elif kind == 1 and pinned:
            who, what = pinned.pop(number % len(pinned))
            memory.on_unpin(who, Unpin([what]))
        elif kind == 2:
            store.disk()
        else:
            memory.tick(now / 2)
        give_back_nothing(store)
        pinned += [(dst, msg.ident) for dst, msg in memory.outbox if isinstance(msg, Fetched) and msg.offset >= 0]
        memory.outbox.clear()
        memory.layout.check()
        memory.overflow.layout.check()
        disk = memory.spiller
        assert disk.used_bytes + disk.mapped_bytes <= disk.limit_bytes
        assert sum(store.arena.reserved.values()) == disk.mapped_bytes == memory.overflow.layout.used_bytes
    for proc in (2, 3, 4, 5, 9):
        memory.proc_gone(proc)
    store.disk()
    memory.on_free(at(9), Free([ident(n) for n in range(8)]))
    memory.owner_gone(Address(1, 1))
    while store.disk():
        pass
    assert memory.layout.used_bytes == memory.spiller.used_bytes == memory.spiller.mapped_bytes == 0
    assert not store.arena.reserved


def test_without_a_file_there_is_no_overflow():
    store = Store(1)
    store.put(2, 0, keep=True)
    store.alloc(3, 7)
    give_back_nothing(store)
    store.objects.tick(60.0)
    (answer,) = store.take(Allocated)
    assert answer.offset == -1


def test_the_file_has_no_name_and_gives_back_what_is_freed(tmp_path):
    import os

    from hpc.core.store.arena import create_arena
    from hpc.core.store.overflow_file import ArenaWithOverflow, create_overflow

    size = 1 << 20
    try:
        fd = create_overflow(str(tmp_path), 16 << 20)
    except OSError as error:
        pytest.skip(f"the file system cannot: {error}")
    arena = ArenaWithOverflow(create_arena(size), size, -1, fd, 16 << 20)
    try:
        assert not list(tmp_path.iterdir())
        assert arena.reserve(size, 4 << 20) == ""
        assert os.fstat(fd).st_blocks * 512 >= 4 << 20
        arena.writable(size + 4096, 5)[:] = b"hello"
        assert bytes(arena.readable(size + 4096, 5)) == b"hello"
        arena.discard(size, 4 << 20)
        assert os.fstat(fd).st_blocks * 512 < 1 << 20
    finally:
        arena.close()
