"""The pure object store of a raylet against a model: whatever is asked of it, in whatever order."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from unit.test_object_store import OWNER, PAGE, Store, at, ident

from hpc.core.raylet.spill import WRITE
from hpc.core.wire import (
    Allocated,
    FetchAll,
    FetchedAll,
    Free,
    Seal,
    Unpin,
)


class StoreModel(RuleBasedStateMachine):
    """Processes write, read, let go, free and die, in any order, with a disk that is slow and sometimes fails."""

    def __init__(self):
        super().__init__()
        self.store = Store(12)
        self.memory = self.store.objects
        self.memory.is_running = lambda proc: False
        self.now = 0.0
        self.count = 0
        self.allocs = {}
        self.fetches = {}
        self.pins = {}
        self.objects = {}
        self.freed = set()

    procs = st.integers(2, 4)

    def answers(self):
        for dst, msg in list(self.memory.outbox):
            proc = dst.proc
            if isinstance(msg, Allocated):
                number, size = self.allocs.pop(msg.req)
                if msg.offset >= 0:
                    self.memory.on_seal(dst, Seal(ident(number), msg.offset, size))
                    self.objects[number] = size
                    self.pins.setdefault(proc, []).append(number)
            elif isinstance(msg, FetchedAll):
                owner, numbers = self.fetches.pop(msg.req)
                assert owner == proc
                if not msg.why:
                    self.pins.setdefault(proc, []).extend(numbers)
                    for number, offset in zip(numbers, msg.offsets):
                        assert self.memory.stored[ident(number)].offset == offset
                else:
                    assert "room" in msg.why or any(n in self.freed for n in numbers)
        self.memory.outbox.clear()

    @rule(proc=procs, pages=st.integers(1, 5))
    def write(self, proc, pages):
        self.count += 1
        req = self.store.reqs + 1
        self.allocs[req] = (self.count, pages * PAGE)
        self.store.alloc(proc, self.count, pages)
        self.answers()

    @precondition(lambda self: self.objects)
    @rule(proc=procs, data=st.data())
    def read(self, proc, data):
        numbers = data.draw(st.lists(st.sampled_from(sorted(self.objects)), min_size=1, max_size=3, unique=True))
        self.store.reqs += 1
        self.fetches[self.store.reqs] = (proc, numbers)
        sizes = [self.objects[n] for n in numbers]
        request = FetchAll(self.store.reqs, [ident(n) for n in numbers], sizes, [[1]] * len(numbers))
        self.memory.on_fetch_all(at(proc), request)
        self.answers()

    @precondition(lambda self: any(self.pins.values()))
    @rule(data=st.data())
    def let_go(self, data):
        proc = data.draw(st.sampled_from(sorted(p for p, held in self.pins.items() if held)))
        number = self.pins[proc].pop(data.draw(st.integers(0, len(self.pins[proc]) - 1)))
        self.memory.on_unpin(at(proc), Unpin([ident(number)]))
        self.answers()

    @precondition(lambda self: self.objects)
    @rule(data=st.data())
    def free(self, data):
        number = data.draw(st.sampled_from(sorted(self.objects)))
        del self.objects[number]
        self.freed.add(number)
        self.memory.on_free(OWNER, Free([ident(number)]))
        self.answers()

    @rule(proc=procs)
    def die(self, proc):
        self.pins.pop(proc, None)
        left = {want.req for want in self.memory.wanted if want.src.proc != proc}
        self.allocs = {req: what for req, what in self.allocs.items() if req in left}
        self.fetches = {req: what for req, what in self.fetches.items() if what[0] != proc}
        self.memory.proc_gone(proc)
        self.answers()

    @precondition(lambda self: self.memory.spiller.jobs)
    @rule(fails=st.integers(0, 9), data=st.data())
    def disk(self, fails, data):
        jobs = self.memory.spiller.jobs
        job = jobs.pop(data.draw(st.integers(0, len(jobs) - 1)))
        self.memory.disk_ended(job, "broken" if job.kind == WRITE and not fails else "")
        self.answers()

    @rule(seconds=st.sampled_from([0.1, 1.0, 6.0]))
    def wait(self, seconds):
        self.now += seconds
        self.memory.tick(self.now)
        self.answers()

    @invariant()
    def the_layout_is_whole(self):
        self.memory.layout.check()

    @invariant()
    def what_is_pinned_is_in_memory(self):
        for held in self.pins.values():
            for number in held:
                obj = self.memory.stored[ident(number)]
                assert obj.offset >= 0
                assert obj.busy != "restoring"

    @invariant()
    def nothing_is_forgotten_before_its_time(self):
        for number in self.objects:
            obj = self.memory.stored[ident(number)]
            assert obj.offset >= 0 or obj.disk is not None

    def teardown(self):
        """Everybody leaves, the disk ends its work: nothing is left, and nobody waits."""
        for proc in (2, 3, 4):
            self.memory.proc_gone(proc)
        self.memory.on_free(OWNER, Free([ident(n) for n in self.objects]))
        self.store.disk()
        assert not self.memory.stored
        assert not self.memory.sets
        assert not self.memory.wanted
        assert not self.memory.spiller.files
        assert self.memory.layout.used_bytes == self.memory.spiller.used_bytes == 0


StoreModel.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
test_the_store_against_a_model = StoreModel.TestCase
