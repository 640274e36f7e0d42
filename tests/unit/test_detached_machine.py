"""The head as the owner of detached actors, message by message, with another head in its place at any time."""

from __future__ import annotations

from types import SimpleNamespace

from hypothesis import given, settings
from hypothesis import strategies as st

from hpc.core.head.journal import MAGIC, decode, encode
from hpc.core.head.machine import HeadMachine
from hpc.core.head.main import Head
from hpc.core.head.restore import restore, snapshot
from hpc.core.ids import HEAD, HEAD_NODE, Address, make_id, raylet_of
from hpc.core.owner.machine import OwnerMachine
from hpc.core.wire import (
    INLINE,
    STORED,
    WIRE_VERSION,
    ActorState,
    Answer,
    CreateActor,
    HeadHolds,
    HeadLeases,
    HoldAcked,
    HoldAdd,
    Inherit,
    KeepActor,
    KillActor,
    LeaseGrant,
    LeaseRequest,
    LeaseReturn,
    NameLookup,
    NameRegister,
    NewActor,
    NodeInfo,
    NodeRegister,
    ObjectValue,
    ProcessGone,
    Result,
    WatchActor,
)

MAKER, OTHER = Address(1, 3), Address(2, 4)


class Bed:
    """A head with two nodes, and what it has said."""

    def __init__(self):
        self.journal = bytearray(MAGIC)
        self.head = HeadMachine()
        self.now = 0.0
        self.head.begin(1)
        for node in (1, 2):
            info = NodeInfo(node, f"n{node}", "", "", {"CPU": 40_000}, {}, False, 0, "")
            self.say(raylet_of(node), NodeRegister(info, WIRE_VERSION))

    def say(self, src, *messages):
        """What the head says to these messages, as (to whom, what)."""
        self.now += 0.01
        self.head.handle(src, messages, self.now)
        self.head.journal_parts()
        self.journal += b"".join(map(encode, self.head.journal))
        self.head.journal.clear()
        said = list(self.head.outbox)
        self.head.outbox.clear()
        return said

    def answer(self, src, msg):
        (answer,) = [said for dst, said in self.say(src, msg) if isinstance(said, Answer) and dst == src]
        return answer

    def restart(self, short=False):
        """Another head, which has read the journal, or the short one that it was made."""
        data = MAGIC + b"".join(map(encode, snapshot(self.head))) if short else bytes(self.journal)
        self.head = HeadMachine(now=self.now)
        restore(self.head, decode(data)[0])
        self.head.begin(self.head.epoch + 1)

    def new(self, req=1):
        return self.answer(MAKER, NewActor(req)).data

    @property
    def actors(self):
        return self.head.detached.owner.state.actors


def keep(ident, req=9, refs=(), restarts=1, known=None, name=""):
    options = {"name": name, "namespace": ""}
    create = CreateActor(ident, 0, b"fn", "Actor", b"", options, (), refs, ())
    return KeepActor(req, create, {}, {"CPU": 1}, "DEFAULT", {}, restarts, b"code", b"", MAKER, known or {})


def of(said, kind):
    return [(dst, msg) for dst, msg in said if isinstance(msg, kind)]


def test_an_id_is_asked_for_again_and_is_the_same():
    bed = Bed()
    first = bed.new(1)
    assert bed.new(1) == first != bed.new(2)
    bed.restart()
    assert bed.new(1) == first
    assert bed.new(3) not in (first, bed.new(2))


def test_what_has_ended_is_not_made_again_although_it_is_asked_for_again():
    bed = Bed()
    ident = bed.new()
    assert bed.answer(MAKER, keep(ident)).ok and bed.actors[ident].state == "pending"
    bed.say(OTHER, KillActor(ident))
    assert ident not in bed.actors or bed.actors[ident].state == "dead"
    bed.restart()
    said = bed.say(MAKER, keep(ident))
    assert of(said, Answer) == [(MAKER, Answer(9, True))] and not of(said, LeaseRequest) and ident not in bed.actors


def test_a_name_waits_for_its_actor_and_goes_with_a_maker_that_dies():
    bed = Bed()
    first, second = bed.new(1), bed.new(2)
    assert bed.answer(MAKER, NameRegister(3, "", "a", first, b"h")).ok
    assert bed.answer(MAKER, NameRegister(4, "", "b", second, b"h")).ok
    assert bed.say(OTHER, WatchActor(first)) == [(OTHER, ActorState(first, "pending", 0, HEAD))]
    bed.restart()
    bed.say(OTHER, WatchActor(first), WatchActor(second))
    assert bed.answer(MAKER, keep(first, name="a")).ok
    (told,) = [msg for _, msg in of(bed.say(raylet_of(1), ProcessGone(MAKER, "")), ActorState)]
    assert (told.actor, told.state) == (second, "dead")
    assert OTHER in bed.actors[first].watchers
    found = [bed.answer(OTHER, NameLookup(req, "", name)).ok for req, name in enumerate("ab")]
    assert found == [True, False]


def test_one_that_is_killed_before_it_is_made_is_not_made():
    bed = Bed()
    ident = bed.new()
    bed.answer(MAKER, NameRegister(3, "", "a", ident, b"h"))
    bed.say(OTHER, KillActor(ident))
    assert bed.answer(MAKER, keep(ident, name="a")).ok and ident not in bed.actors
    assert not bed.answer(OTHER, NameLookup(4, "", "a")).ok
    other = bed.new(2)
    bed.say(OTHER, KillActor(other, no_restart=False))  # it may be made again, and so it may be made
    assert bed.answer(MAKER, keep(other)).ok and bed.actors[other].state == "pending"


def test_an_actor_whose_name_is_taken_is_not_made():
    bed = Bed()
    first, second = bed.new(1), bed.new(2)
    bed.answer(MAKER, NameRegister(3, "", "a", first, b"h"))
    assert not bed.answer(MAKER, NameRegister(4, "", "a", second, b"h")).ok
    bed.restart(short=True)
    assert bed.answer(OTHER, NameLookup(5, "", "a")).ok
    assert bed.answer(MAKER, keep(second)).ok and second not in bed.actors
    bed.say(OTHER, KillActor(first))
    bed.restart()
    assert not bed.answer(MAKER, NameRegister(4, "", "a", second, b"h")).ok, "it will not be made"
    assert bed.answer(MAKER, NameRegister(6, "", "a", bed.new(5), b"h")).ok


def test_values_that_were_given_outlive_their_owner_and_the_head():
    bed = Bed()
    ident, small, large = bed.new(), make_id(MAKER, 1), make_id(MAKER, 2)
    where = {large: Result(STORED, b"", 10, (2,))}
    said = bed.say(MAKER, keep(ident, refs=(small, large), restarts=-1, known=where))
    assert (raylet_of(2), Inherit([large], "more")) in said and not of(said, Answer)
    assert sorted(ident for _, msg in of(said, HoldAdd) for ident in msg.idents) == [small, large]
    said = bed.say(MAKER, HoldAcked([small]), HoldAcked([large]), ObjectValue(small, Result(INLINE, b"v")))
    assert of(said, LeaseRequest) and of(said, Answer) == [(MAKER, Answer(9, True))] and not of(said, Inherit)
    for short in (False, True):
        bed.say(raylet_of(1), ProcessGone(MAKER, "it has ended"))
        bed.restart(short)
        again = bed.say(raylet_of(2), HeadLeases([]))
        assert (raylet_of(2), Inherit([large], "all")) in again
        bed.say(raylet_of(1), ProcessGone(MAKER, "it has ended"))
        values = [bed.head.detached.owner.state.entries[ref].result for ref in (small, large)]
        assert [(value.kind, value.data, value.nodes) for value in values] == [(INLINE, b"v", ()), (STORED, b"", (2,))]
    said = bed.say(OTHER, KillActor(ident))
    assert (raylet_of(2), Inherit([large], "less")) in said
    assert not bed.head.detached.owner.state.entries


def test_a_maker_that_names_places_which_cannot_be_keeps_nobody_from_hearing():
    bed, sent = Bed(), []
    ident, large = bed.new(), make_id(MAKER, 2)
    known = {large: Result(STORED, b"", 10, (-1, 1 << 40, 2))}
    shell = Head.__new__(Head)  # with nothing but what it sends by
    shell.machine, shell.journal = bed.head, None
    shell.links = SimpleNamespace(send=lambda node, body: sent.append(node))
    bed.head.handle(MAKER, [keep(ident, refs=(large,), known=known)], bed.now)
    bed.head.handle(OTHER, [NewActor(1)], bed.now)
    shell._send_outbox()
    assert {MAKER.node, OTHER.node} <= set(sent) and all(node in (1, 2) for node in sent)


def test_the_last_copy_of_what_was_given_is_lost_with_its_node():
    bed = Bed()
    ident, large = bed.new(), make_id(MAKER, 2)
    bed.say(MAKER, keep(ident, refs=(large,), known={large: Result(STORED, b"", 10, (2,))}))
    bed.say(raylet_of(1), ProcessGone(MAKER, "it has ended"))
    bed.head.lose_node(2, "its power has gone")
    result = bed.head.detached.owner.state.entries[large].result
    assert b"node 2, which had the last copy" in result.data


@st.composite
def histories(draw):
    """What happens to three actors, in any order."""
    actor = st.integers(0, 2)
    step = st.one_of(
        st.tuples(st.just("make"), actor),
        st.tuples(st.just("kill"), actor),
        st.tuples(st.just("watch"), actor),
        st.tuples(st.just("grant"), st.integers(1, 2)),
        st.tuples(st.just("restart"), st.booleans()),
        st.tuples(st.just("gone"), st.sampled_from([MAKER, OTHER])),
    )
    return draw(st.lists(step, max_size=14))


@settings(max_examples=150, deadline=None)
@given(histories())
def test_a_head_that_takes_anothers_place_knows_the_same_actors(steps):
    """Whatever came before: the same rows, an actor on one worker at most, each made once and never after its end."""
    bed = Bed()
    idents = [bed.new(req) for req in range(1, 4)]
    made: set[bytes] = set()
    killed: set[bytes] = set()
    wanted: dict[int, int] = {}
    lease = 100
    for what, which in steps:
        if what == "restart":
            before = sorted(bed.head.detached.rows())
            bed.restart(which)
            assert sorted(bed.head.detached.rows()) == before
            wanted.clear()
            said = [(0, msg) for node in (1, 2) for _, msg in bed.say(raylet_of(node), HeadLeases(kept(bed, node)))]
            assert not [msg for _, msg in said if isinstance(msg, LeaseReturn)]
        elif what == "grant":
            req = next((req for req, count in wanted.items() if count), None)
            if req is None:
                continue
            wanted[req] -= 1
            lease += 1
            said = bed.say(raylet_of(which), LeaseGrant(req, lease, Address(which, lease), "", {}))
            for _, create in of(said, CreateActor):
                assert create.actor not in killed
        else:
            ident = idents[which] if isinstance(which, int) else b""
            msg = {
                "make": lambda ident=ident: keep(ident),
                "kill": lambda ident=ident: KillActor(ident),
                "watch": lambda ident=ident: WatchActor(ident),
                "gone": lambda which=which: ProcessGone(which, ""),
            }[what]()
            if what == "kill":
                killed.add(ident)
            if what == "make" and ident not in killed:
                made.add(ident)
            said = bed.say(raylet_of(which.node) if what == "gone" else MAKER, msg)
        for _, request in of(said, LeaseRequest):
            wanted[request.req] = request.count
        leases = [actor.lease.worker for actor in bed.actors.values() if actor.lease is not None]
        assert len(set(leases)) == len(leases)
        assert not killed & {ident for ident, actor in bed.actors.items() if actor.state != "dead"}
        assert {ident for ident, actor in bed.actors.items() if actor.state != "dead"} <= made


def kept(bed, node):
    """What the raylet of a node has leased to the head: all that the head knows of."""
    leases = bed.head.detached.owner.state.leases.values()
    return [(lease.ident, lease.worker.proc) for lease in leases if lease.worker.node == node]


def test_a_head_that_is_killed_while_it_writes_leaves_an_actor_whole_or_promised():
    """Whichever record is the last one that it wrote: who asks again has the actor, once."""
    bed = Bed()
    ident, ref = bed.new(), make_id(MAKER, 1)
    begun = len(decode(bytes(bed.journal))[0])
    bed.say(MAKER, keep(ident, refs=(ref,), known={ref: Result(INLINE, b"v")}), HoldAcked([ref]))
    made = len(decode(bytes(bed.journal))[0])
    bed.say(OTHER, KillActor(ident))
    ops = decode(bytes(bed.journal))[0]
    assert begun + 4 <= made < len(ops)
    for many in range(begun, len(ops) + 1):
        bed.journal = bytearray(MAGIC + b"".join(map(encode, ops[:many])))
        bed.restart()
        detached = bed.head.detached
        assert all(actor.create.fn in detached.owner.state.functions for actor in bed.actors.values())
        assert of(bed.say(MAKER, keep(ident, refs=(ref,)), HoldAcked([ref])), Answer) == [(MAKER, Answer(9, True))]
        assert ident in bed.actors or many > made
        rows = sorted(key[:1] for key, _ in detached.rows())
        assert (b"p" not in rows and rows.count(b"a") == rows.count(b"s") == rows.count(b"c")) and len(rows) <= 4
        before = sorted(detached.rows())
        bed.restart()
        assert sorted(bed.head.detached.rows()) == before


def test_who_waits_for_a_value_has_it_when_another_actor_brings_it():
    bed = Bed()
    first, second, ref = bed.new(1), bed.new(2), make_id(OTHER, 1)
    bed.say(MAKER, keep(first, refs=(ref,)))
    assert bed.actors[first].unresolved
    bed.say(MAKER, keep(second, refs=(ref,), known={ref: Result(INLINE, b"v")}))
    bed.say(raylet_of(2), ProcessGone(OTHER, "it has ended"))
    assert not (bed.actors[first].unresolved or bed.actors[second].unresolved)
    assert {actor.state for actor in bed.actors.values()} == {"pending"}


def test_what_the_head_before_held_and_this_one_does_not_is_let_go():
    bed = Bed()
    ident, ref = bed.new(), make_id(MAKER, 1)
    bed.say(MAKER, keep(ident, refs=(ref,)))
    bed.restart()
    said = bed.say(raylet_of(1), HeadLeases([]))
    assert of(said, HeadHolds) == [(raylet_of(1), HeadHolds([ref]))]
    owner = OwnerMachine(MAKER)
    mine, other = [owner.objects.put_inline(b"", []) for _ in range(2)]
    for one in (mine, other):
        owner.handle(HEAD, [HoldAdd([one], HEAD_NODE)])
        owner.objects.let_go(one)
    owner.handle(OTHER, [HeadHolds([mine])])
    assert len(owner.state.entries) == 2  # nobody but the raylet passes that on
    owner.handle(raylet_of(1), [HeadHolds([mine])])
    assert [*owner.state.entries] == [mine]


def test_a_raylet_is_told_by_the_head_alone():
    from hpc.core.raylet.ownerless import Ownerless

    orphans = Ownerless({7})
    mine, theirs = make_id(MAKER, 1), make_id(Address(7, 1), 1)
    orphans.dead_owners.add(MAKER)
    assert orphans.has(mine) and orphans.has(theirs) and not orphans.has(make_id(OTHER, 1))
    assert orphans.inherit(OTHER, Inherit([mine], "more")) == () and orphans.has(mine)
    assert not orphans.inherit(HEAD, Inherit([mine, theirs], "more")) and not (orphans.has(mine) or orphans.has(theirs))
    assert orphans.inherit(HEAD, Inherit([mine], "less")) == [mine] and orphans.has(mine)
    assert orphans.inherit(HEAD, Inherit([mine], "all")) == [theirs] and not orphans.has(mine) and orphans.has(theirs)


def test_an_owner_on_a_node_that_was_lost_before_the_head_began_is_not_waited_for():
    bed = Bed()
    ident, ref = bed.new(), make_id(OTHER, 1)
    bed.say(MAKER, keep(ident, refs=(ref,)))
    bed.say(OTHER, HoldAcked([ref]), ObjectValue(ref, Result(STORED, b"", 10, (2,))))
    bed.head.lose_node(2, "its power has gone")
    bed.say(raylet_of(1))
    bed.restart()
    owner = bed.head.detached.owner
    assert not owner.objects.unacked
    assert ident not in owner.state.actors or not owner.state.actors[ident].unresolved
