"""References and handles of a session that has ended are refused, never taken for something of the next."""

from __future__ import annotations

import asyncio

import cloudpickle
import pytest

import hpc
from hpc.core import serialization
from hpc.exceptions import ActorHandleNotFoundError
from runtime.running import one_node

STALE = "earlier session"


@hpc.remote
class Account:
    def __init__(self, owner):
        self.owner = owner

    def who(self):
        return self.owner

    def take(self, value):
        return value


@hpc.remote
def echo(*values, **named):
    return values


@hpc.remote(num_returns="streaming")
def items():
    yield 1
    yield 2


def test_without_a_session_there_is_nothing_to_get():
    with one_node():
        ref = hpc.put(1)
    with pytest.raises(ValueError, match="has left it"):
        hpc.get(ref)


def test_without_a_session_a_generator_has_no_next_item():
    with one_node():
        stream = items.remote()
        hpc.get(stream.completed())
    with pytest.raises(ValueError, match="has left it"):
        next(stream)


@pytest.fixture(scope="module")
def old():
    """Things of a session that has ended, while another one runs in which the same numbers are used again."""
    with one_node():
        puts = [hpc.put(f"old {i}") for i in range(3)]
        handle = Account.options(name="account").remote("old owner")
        assert hpc.get(handle.who.remote()) == "old owner"
        result, stream = echo.remote(1), items.remote()
        hpc.get(result)
        written = serialization.dump_code([puts[0], handle])[0]
    with one_node():
        new = [hpc.put(f"new {i}") for i in range(3)]
        other = Account.remote("new owner")
        assert hpc.get(other.who.remote()) == "new owner"
        yield {"puts": puts, "handle": handle, "result": result, "stream": stream, "written": written, "new": new}


ENTRANCES = {
    "get": lambda old: hpc.get(old["puts"][0]),
    "get of a result": lambda old: hpc.get(old["result"]),
    "get of a list": lambda old: hpc.get([old["new"][0], old["puts"][0]]),
    "wait": lambda old: hpc.wait([old["new"][0], old["puts"][0]], num_returns=2),
    "argument": lambda old: echo.remote(old["puts"][0]),
    "keyword": lambda old: echo.remote(a=old["puts"][0]),
    "nested": lambda old: echo.remote([{"a": old["puts"][0]}]),
    "put": lambda old: hpc.put([old["puts"][0]]),
    "call": lambda old: old["handle"].who.remote(),
    "handle as an argument": lambda old: echo.remote(old["handle"]),
    "handle in a value": lambda old: hpc.put({"a": old["handle"]}),
    "argument of a call": lambda old: Account.remote("x").take.remote(old["puts"][0]),
    "argument of a constructor": lambda old: Account.remote(old["puts"][0]),
    "closure": lambda old: hpc.remote(lambda ref=old["puts"][0]: ref).remote(),
    "kill": lambda old: hpc.kill(old["handle"]),
    "cancel": lambda old: hpc.cancel(old["result"]),
    "cancel of a generator": lambda old: hpc.cancel(old["stream"]),
    "future": lambda old: old["puts"][0].future(),
    "the next item of a generator": lambda old: next(old["stream"]),
    "the next item within a time": lambda old: old["stream"]._next_sync(0.1),
}


@pytest.mark.parametrize("name", ENTRANCES)
def test_what_is_of_an_earlier_session_is_refused_where_it_is_handed_in(old, name):
    with pytest.raises(ValueError, match=STALE):
        ENTRANCES[name](old)


@pytest.mark.parametrize("name", ["call", "kill"])
def test_a_handle_says_that_its_actor_is_not_of_this_session(old, name):
    with pytest.raises(ActorHandleNotFoundError, match=r"actor [0-9a-f]+ is of an earlier session"):
        ENTRANCES[name](old)


def test_awaiting_one_is_refused(old):
    async def wait():
        return await old["puts"][0]

    with pytest.raises(ValueError, match=STALE):
        asyncio.run(wait())


def test_an_item_is_not_waited_for(old):
    async def item():
        return await old["stream"].__anext__()

    with pytest.raises(ValueError, match=STALE):
        asyncio.run(item())


def test_one_that_comes_from_a_file_is_not_taken_for_an_object_of_this_session(old):
    ref, handle = cloudpickle.loads(old["written"])
    assert ref == old["puts"][0] and ref not in old["new"]
    with pytest.raises(hpc.exceptions.OwnerDiedError, match="another session"):
        hpc.get(ref, timeout=60)
    with pytest.raises(hpc.exceptions.OwnerDiedError, match="another session"):
        hpc.get(echo.remote(ref), timeout=60)
    with pytest.raises(hpc.exceptions.ActorDiedError, match="another session"):
        hpc.get(handle.who.remote(), timeout=60)
    hpc.kill(handle)

    @hpc.remote
    def look(boxed):
        return hpc.get(boxed[0], timeout=60)

    with pytest.raises(hpc.exceptions.OwnerDiedError, match="another session"):
        hpc.get(look.remote([ref]), timeout=60)


def test_code_of_an_earlier_session_works_in_the_next(old):
    assert hpc.get(echo.remote(2)) == (2,)
    assert hpc.get(Account.remote("again").who.remote()) == "again"
