"""Errors of tasks and actors as programs meet them."""

from __future__ import annotations

import errno

import pytest
from running import one_node

import hpc
from hpc.exceptions import ActorAlreadyExistsError, RayTaskError, TaskError, WorkerCrashedError


@pytest.fixture(scope="module", autouse=True)
def session():
    with one_node():
        yield


class BadStr(Exception):
    def __str__(self):
        raise RuntimeError("str broken")


class Final(Exception):
    def __init_subclass__(cls, **options):
        raise RuntimeError("no subclasses")


RAISED = {
    "os": OSError(errno.ENOSPC, "full", "/scratch/x"),
    "memory": MemoryError("too much"),
    "bad": BadStr(),
    "final": Final("text"),
}


@hpc.remote
class Raises:
    def do(self, what):
        raise RAISED[what]

    def alive(self):
        return True


def test_an_error_that_misbehaves_costs_no_actor_its_life():
    actor = Raises.remote()
    with pytest.raises(OSError) as caught:
        hpc.get(actor.do.remote("os"))
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, "/scratch/x")
    with pytest.raises(MemoryError):
        hpc.get(actor.do.remote("memory"))
    with pytest.raises(BadStr):
        hpc.get(actor.do.remote("bad"))
    with pytest.raises(RayTaskError) as caught:
        hpc.get(actor.do.remote("final"))
    assert isinstance(caught.value.cause, Final)
    assert hpc.get(actor.alive.remote(), timeout=20)


def test_who_needs_what_failed_fails_with_it_and_says_its_own_name():
    @hpc.remote(max_retries=0)
    def crashes():
        import os

        os._exit(1)

    @hpc.remote
    def raises():
        raise ValueError("bad")

    @hpc.remote
    def use(x):
        return x

    @hpc.remote
    def lets_it_pass(refs):
        return hpc.get(refs[0])

    for first, kind in ((raises, ValueError), (crashes, WorkerCrashedError)):
        ref = first.remote()
        for used in (use.remote(ref), lets_it_pass.remote([ref])):
            with pytest.raises(kind) as caught:
                hpc.get(used, timeout=20)
            name = "use" if used is not None and "use did not run" in str(caught.value) else "lets_it_pass"
            assert isinstance(caught.value, TaskError) and caught.value.function_name.endswith(name)
            assert first.__name__ in str(caught.value)


def test_a_name_that_is_taken():
    kept = Raises.options(name="taken").remote()
    with pytest.raises(ActorAlreadyExistsError):
        Raises.options(name="taken").remote()
    hpc.get(kept.alive.remote())
