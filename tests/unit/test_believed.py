"""Any process of a session can send any message: of whom deaths are believed, and which questions are answered."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from hpc.core.events.rows import MAX_TEXT, ActorRow
from hpc.core.head.machine import HeadMachine
from hpc.core.ids import HEAD, Address, make_id, raylet_of
from hpc.core.owner.machine import OwnerMachine
from hpc.core.owner.shell.last_words import take_last_words
from hpc.core.raylet.machine import RayletMachine
from hpc.core.resources import UNIT, NodeResources
from hpc.core.store.layout import Layout
from hpc.core.wire import (
    AT_OWNER,
    WIRE_VERSION,
    ActorsEnded,
    NodeDied,
    NodeInfo,
    NodeRegister,
    NodeTable,
    ProcessGone,
    Release,
    StateAnswer,
    StateQuery,
    Unroutable,
    encode_body,
)

ME, STRANGER = Address(1, 1), Address(2, 7)
CPU = {"CPU": UNIT}


class NoArena:
    overflow_bytes = 0

    def read(self, offset: int, size: int) -> bytes:
        return b""


def info(node: int) -> NodeInfo:
    return NodeInfo(node, "h", "e", "k", CPU, {}, False, 1, "/d")


@pytest.fixture
def raylet() -> RayletMachine:
    machine = RayletMachine(info(1), NodeResources(CPU), Layout(1 << 20), NoArena())  # type: ignore[arg-type]
    machine.handle(HEAD, [NodeTable(1, [info(1), info(2)])])
    return machine


@pytest.fixture
def head() -> HeadMachine:
    machine = HeadMachine()
    for node in (1, 2):
        machine.handle(raylet_of(node), [NodeRegister(info(node), WIRE_VERSION)], 0.0)
    return machine


@pytest.mark.parametrize("src", [STRANGER, raylet_of(2), Address(1, 1)])
def test_a_raylet_hears_of_deaths_from_the_head_alone(raylet, src):
    driver = raylet.driver_joined(1, b"job")
    here = Address(1, driver.proc)
    raylet.handle(src, [NodeDied(2, "so I say"), ProcessGone(here, "so I say"), NodeTable(1, [])])
    assert not raylet.dead and 2 in raylet.nodes and here not in raylet.borrowing.dead_owners
    raylet.handle(HEAD, [NodeDied(2, "no word")])
    assert raylet.dead == {2: "no word"}


def test_an_owner_hears_of_deaths_from_its_raylet_alone():
    owner = OwnerMachine(ME)
    owner.handle(STRANGER, [NodeDied(2, "so I say"), ProcessGone(Address(3, 4), "so I say")])
    assert not owner.state.gone and not owner.state.gone_nodes
    owner.handle(raylet_of(1), [NodeDied(2, "no word"), ProcessGone(Address(3, 4), "ended")])
    assert Address(3, 4) in owner.state.gone and 2 in owner.state.gone_nodes


@pytest.mark.parametrize(("src", "is_believed"), [(STRANGER, False), (raylet_of(1), False), (raylet_of(2), True)])
def test_the_head_hears_of_the_end_of_a_process_from_its_own_raylet(head, src, is_believed):
    head.outbox.clear()
    gone = ProcessGone(Address(2, 3), "ended")
    head.handle(src, [gone], 1.0)
    assert (gone in [msg for _, msg in head.outbox]) == is_believed


def test_a_raylet_alone_says_that_a_process_is_not_there_any_more(raylet, head):
    owner, other = OwnerMachine(ME), Address(3, 4)
    for src in (STRANGER, Address(1, 9)):
        owner.handle(src, [Unroutable(other)])
        raylet.handle(src, [Unroutable(other)])
        head.handle(src, [Unroutable(other)], 1.0)
    assert not owner.state.gone and not raylet.borrowing.dead_owners and not head.detached.owner.state.gone
    owner.handle(raylet_of(3), [Unroutable(other)])
    raylet.handle(raylet_of(3), [Unroutable(other)])
    head.handle(raylet_of(2), [Unroutable(other)], 1.0)
    for gone in (owner.state.gone, raylet.borrowing.dead_owners, head.detached.owner.state.gone):
        assert other in gone


def test_last_words_of_a_process_are_its_own():
    class Said:
        def last_words(self, process: Address) -> Any:
            yield [(ME, src, encode_body([NodeDied(2, "so I say")])) for src in (raylet_of(1), HEAD)]
            yield [(ME, process, encode_body([Release(make_id(ME, 1), 0)]))]

    owner, heard = OwnerMachine(ME), []
    owner.handlers[Release] = lambda src, msg: heard.append(src)
    take_last_words(Said(), owner, [ProcessGone(STRANGER, "ended")])  # type: ignore[arg-type]
    assert heard == [STRANGER] and not owner.state.gone_nodes


@pytest.mark.parametrize("limit", [-1, (1 << 64) - 1, 0, 5])
@pytest.mark.parametrize("what", ["workers", "store", "ended_actors", "waiting"])
def test_a_raylet_answers_a_question_for_any_number_of_rows(raylet, what, limit):
    raylet.driver_joined(1, b"job")
    raylet.handle(STRANGER, [StateQuery(3, what, limit)])
    (answer,) = [msg for dst, msg in raylet.outbox if dst == STRANGER]
    assert isinstance(answer, StateAnswer) and answer.req == 3
    there = {"workers": 1 if limit > 0 else 0, "store": 1}  # a row of the store tells its totals
    assert len(msgspec.msgpack.decode(answer.data)) == there.get(what, 0)


@pytest.mark.parametrize("limit", [-1, (1 << 64) - 1])
@pytest.mark.parametrize("what", ["tasks", "actors", "objects", "demand"])
def test_the_head_answers_a_question_for_any_number_of_rows(head, what, limit):
    head.begin(1)
    head.outbox.clear()
    head.handle(STRANGER, [StateQuery(3, what, limit)], 1.0)
    assert [msg.req for dst, msg in head.outbox if dst == STRANGER] == [3]


def test_an_owner_cuts_the_texts_of_actors_that_have_ended_before_it_tells_of_them():
    owner = OwnerMachine(ME)
    long = "x" * 1_000_000
    row = ActorRow("00", long, "DEAD", long, long, long, 0, 0, False, long, "1.1", "", "", "", {})
    owner.ended_actors._add(row)
    owner.ended_actors.tell()
    (told,) = sent(owner, ActorsEnded)
    (one,) = told.rows
    assert {len(text) for text in (one.class_name, one.why, one.name, one.ray_namespace, one.death_cause)} == {MAX_TEXT}


def test_an_argument_that_has_no_room_in_a_message_leaves_room_for_those_behind_it():
    owner = OwnerMachine(ME)
    owner.state.max_values_bytes = 100
    idents = [owner.objects.put_inline(bytes(size), []) for size in (60, 90, 40, 1)]
    values, error = owner.arguments.values(idents)
    assert error is None and [value.kind == AT_OWNER for value in values] == [False, True, False, True]
    assert [len(value.data) for value in values] == [60, 0, 40, 0] and [value.size for value in values][1] == 90


def sent(owner: OwnerMachine, kind: type) -> list[Any]:
    return [msg for messages in owner.outbox.values() for msg in messages if type(msg) is kind]
