"""Errors of tasks and actors as programs meet them."""

from __future__ import annotations

import errno

import pytest

import hpc
from hpc.exceptions import ActorAlreadyExistsError, ActorDiedError, RayTaskError, TaskError, WorkerCrashedError
from runtime.running import eventually, one_node, settle


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
    assert hpc.get(actor.alive.remote(), timeout=60)


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
                hpc.get(used, timeout=60)
            name = "use" if used is not None and "use did not run" in str(caught.value) else "lets_it_pass"
            assert isinstance(caught.value, TaskError) and caught.value.function_name.endswith(name)
            assert first.__name__ in str(caught.value)


def test_a_name_that_is_taken():
    kept = Raises.options(name="taken").remote()
    with pytest.raises(ActorAlreadyExistsError):
        Raises.options(name="taken").remote()
    hpc.get(kept.alive.remote())


@hpc.remote
def fails(text):
    raise ValueError(text)


class Shown:
    """What this process has printed since, as long as it is looked at."""

    def __init__(self, capfd):
        self.capfd, self.text = capfd, ""

    def __call__(self, what):
        captured = self.capfd.readouterr()
        self.text += captured.out + captured.err
        return what in self.text


def test_an_error_that_nobody_gets_is_shown_when_its_reference_goes(capfd):
    shown = Shown(capfd)
    fails.remote("dropped at once")
    eventually(lambda: shown("ValueError: dropped at once"))
    actor = Raises.remote()
    kept = [fails.remote("kept"), actor.do.remote("os")]
    hpc.get(actor.alive.remote())
    eventually(lambda: not any(ref._client.machine.state.entries[ref._id].result is None for ref in kept))
    assert not shown("ValueError: kept")
    kept.clear()
    eventually(lambda: shown("ValueError: kept") and shown("Raises.do raised:"))
    assert "raise ValueError(text)" in shown.text and shown.text.count("ValueError: kept") == 1


def test_errors_that_somebody_knows_of_are_not_shown(capfd):
    shown = Shown(capfd)

    @hpc.remote
    def get_it(refs):
        with pytest.raises(ValueError, match="borrowed"):
            hpc.get(refs[0])

    got, waited, needed = fails.remote("gotten"), fails.remote("waited"), fails.remote("needed")
    with pytest.raises(ValueError, match="gotten"):
        hpc.get(got)
    hpc.wait([waited])
    with pytest.raises(ValueError, match="needed"):
        hpc.get(get_it.remote(needed))
    hpc.get(get_it.remote([fails.remote("borrowed")]))
    del got, waited, needed
    settle()
    fails.remote("the last")
    eventually(lambda: shown("ValueError: the last"))
    assert shown.text.count("nobody got") == 1


def test_an_error_of_several_values_is_that_of_all_of_them(capfd):
    """A get of one of them is enough, in whichever order they are let go; without any it is one error."""
    shown = Shown(capfd)
    three = fails.options(num_returns=3)
    for order in (0, 2):
        refs = three.remote(f"of several {order}")
        with pytest.raises(ValueError, match="of several"):
            hpc.get(refs[1])
        del refs[order]
        del refs
    first, *others = three.remote("of a late get")
    del others
    with pytest.raises(ValueError, match="of a late get"):
        hpc.get(first)
    del first
    unseen = three.remote("of none")
    hpc.wait([fails.remote("waited")])
    del unseen
    eventually(lambda: shown("ValueError: of none"))
    settle()
    assert shown.text.count("nobody got") == 1


def test_many_alike_are_shown_once_and_counted(capfd):
    shown = Shown(capfd)
    for _ in range(10):
        fails.remote("alike")
    eventually(lambda: shown("nobody got 10 errors like that of"))
    assert shown.text.count("ValueError: alike") == 1


def test_a_constructor_that_fails_says_so_where_it_ran(capfd):
    shown = Shown(capfd)

    @hpc.remote
    class Bad:
        def __init__(self):
            raise ValueError("in a constructor")

    kept = Bad.remote()
    eventually(lambda: shown("ValueError: in a constructor"))
    del kept


def test_an_error_of_a_constructor_that_a_call_has_told_is_not_shown_as_one_that_nobody_got(capfd):
    shown = Shown(capfd)

    @hpc.remote
    class Broken:
        def __init__(self):
            raise ValueError("told by a call")

    kept = Broken.remote()
    with pytest.raises(ActorDiedError, match="told by a call"):
        hpc.get(kept.__ray_ready__.remote(), timeout=60)
    del kept
    settle()
    fails.remote("the very last")
    eventually(lambda: shown("ValueError: the very last"))
    assert shown.text.count("nobody got") == 1
