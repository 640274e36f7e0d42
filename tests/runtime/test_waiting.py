"""Long chains, failures in lists, the end of a session under those who wait, and defects of the runtime."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

import hpc
from hpc.core.process.current import need_client
from hpc.exceptions import ActorDiedError, GetTimeoutError, SessionLostError
from runtime.running import eventually, one_node


@pytest.fixture(scope="module", autouse=True)
def session():
    with one_node(num_cpus=3):
        yield


@hpc.remote
def step(value):
    return value


@hpc.remote
def fail_at(gate: Path):
    eventually(gate.exists, 60.0)
    raise ValueError("the root")


@hpc.remote
def wait_for_gate(gate: Path):
    eventually(gate.exists, 60.0)
    return 1


def test_a_long_chain_of_pending_steps_ends_with_the_error_of_the_first(tmp_path):
    ref = fail_at.remote(tmp_path / "gate")
    for _ in range(1500):
        ref = step.remote(ref)
    (tmp_path / "gate").touch()
    with pytest.raises(ValueError, match="the root"):
        hpc.get(ref, timeout=60)


def test_a_long_chain_of_nested_references_is_let_go_without_harm():
    state = None
    for at in range(3000):
        state = hpc.put((at, state))
    del state
    eventually(lambda: len(need_client().machine.state.entries) < 1000)
    assert hpc.get(step.remote(5), timeout=60) == 5


def test_many_futures_whose_callbacks_wait_are_all_called(tmp_path):
    gate = wait_for_gate.remote(tmp_path / "gate")
    waits = [wait_for_gate.remote(tmp_path / "gate") for _ in range(400)]
    seen: list[int] = []
    futures = [step.remote(gate).future() for _ in range(400)]
    for future, ref in zip(futures, waits):
        future.add_done_callback(lambda _, ref=ref: seen.append(hpc.get(ref)))
    (tmp_path / "gate").touch()
    assert [future.result(60) for future in futures] == [1] * 400
    eventually(lambda: len(seen) == 400, 60.0)


@pytest.mark.parametrize("place", [0, 1])
def test_get_of_a_list_raises_as_soon_as_one_has_failed_wherever_it_stands(tmp_path, place):
    slow = wait_for_gate.remote(tmp_path / "never")
    failing = fail_at.remote(tmp_path / "gate")
    refs = [slow, failing] if place else [failing, slow]
    threading.Timer(0.1, (tmp_path / "gate").touch).start()
    with pytest.raises(ValueError, match="the root"):
        hpc.get(refs, timeout=30)
    assert hpc.wait([slow], timeout=0) == ([], [slow])
    with pytest.raises(ValueError, match="the root"):
        hpc.get(refs)  # it is known already
    assert not need_client().machine.state.error_watches
    (tmp_path / "never").touch()


def test_get_of_a_list_raises_as_soon_as_an_actor_has_died(tmp_path):
    @hpc.remote
    class Mortal:
        def die(self):
            import os

            os._exit(1)

    mortal = Mortal.remote()
    slow = wait_for_gate.remote(tmp_path / "never")
    with pytest.raises(ActorDiedError):
        hpc.get([slow, mortal.die.remote()], timeout=30)
    (tmp_path / "never").touch()


def test_of_several_errors_get_raises_the_first_in_the_list(tmp_path):
    @hpc.remote
    def raise_this(text):
        raise ValueError(text)

    refs = [raise_this.remote("a"), raise_this.remote("b")]
    hpc.wait(refs, num_returns=2)
    with pytest.raises(ValueError, match="a"):
        hpc.get([hpc.put(0), *refs])


def test_a_time_out_leaves_no_waiter_behind(tmp_path):
    refs = [wait_for_gate.remote(tmp_path / "gate") for _ in range(3)]
    with pytest.raises(GetTimeoutError, match=r"3 of 3 .* 0.05 s"):
        hpc.get(refs, timeout=0.05)
    objects = need_client().machine.state.entries
    assert not any(objects[ref._id].waiters for ref in refs)
    (tmp_path / "gate").touch()
    assert hpc.get(refs) == [1, 1, 1]


def test_wait_of_nothing_is_nothing_and_nonsense_is_refused():
    assert hpc.wait([]) == ([], [])
    assert hpc.wait([], num_returns=3, timeout=0) == ([], [])
    ref = hpc.put(1)
    for nonsense in ((ref,), {ref}, iter([ref]), "text", ref):
        with pytest.raises(TypeError, match="list of ObjectRefs"):
            hpc.wait(nonsense)
    for number in (0, -1):
        with pytest.raises(ValueError, match="num_returns"):
            hpc.wait([ref], num_returns=number)
    with pytest.raises(ValueError, match="timeout"):
        hpc.wait([ref], timeout=-1)


def test_wait_counts_a_failed_one_as_ready():
    @hpc.remote
    def fail():
        raise ValueError("no")

    refs = [fail.remote(), hpc.put(2)]
    assert hpc.wait(refs, num_returns=2, timeout=60) == (refs, [])


def test_a_defect_of_the_runtime_is_shown_and_ends_a_worker_with_the_reason(capfd):
    @hpc.remote(max_restarts=0)
    class Breaks:
        def break_machine(self):
            def settle():
                raise RecursionError("a defect")

            machine = need_client().machine
            machine.state.dirty[None] = None
            machine.leases.settle = settle
            hpc.get(step.remote(1))

    with pytest.raises(ActorDiedError):
        hpc.get(Breaks.remote().break_machine.remote(), timeout=30)
    seen = ""

    def told():
        nonlocal seen
        seen += capfd.readouterr().err
        return "This is a defect of hpc" in seen and "RecursionError: a defect" in seen

    eventually(told)


# What follows ends the session.


def test_shutdown_tells_the_threads_that_wait_in_get_and_wait(tmp_path):
    gate = tmp_path / "never"
    refs = [wait_for_gate.remote(gate) for _ in range(3)]
    chain = refs[0]
    for _ in range(500):
        chain = step.remote(chain)
    errors: list[BaseException] = []
    waiting = threading.Barrier(4)

    def call(what):
        waiting.wait()
        try:
            what()
        except BaseException as error:
            errors.append(error)

    threads = [
        threading.Thread(target=call, args=(what,))
        for what in (lambda: hpc.get(refs), lambda: hpc.get(chain), lambda: hpc.wait(refs, num_returns=3))
    ]
    for thread in threads:
        thread.start()
    waiting.wait()
    eventually(lambda: need_client().machine.state.error_watches)
    hpc.shutdown()
    for thread in threads:
        thread.join(60)
    assert len(errors) == 3 and all(isinstance(error, SessionLostError) for error in errors)
    assert all("shut down" in str(error) for error in errors)


def test_a_defect_of_the_runtime_in_the_driver_is_shown_and_ends_the_session(capfd, tmp_path):
    with one_node():
        ref = wait_for_gate.remote(tmp_path / "never")
        client = need_client()
        threading.Timer(0.1, lambda: setattr(client.machine.objects, "drain_dropped", lambda: 1 / 0)).start()
        with pytest.raises(SessionLostError, match="ZeroDivisionError"):
            hpc.get(ref, timeout=30)
    assert "This is a defect of hpc" in capfd.readouterr().err
