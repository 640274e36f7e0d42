"""Detached actors and their owner, the head: it is killed, stopped and killed again, together with actors and nodes.

Calls go from caller to actor and fail for no death of a head. What is asked of a head waits for the next one, and is
done once.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import hpc
from runtime.running import Heads, eventually, kill9, local_nodes, on, soft


@hpc.remote(num_cpus=0.1)
class Counter:
    """It counts its calls, and each start leaves a line in a file."""

    def __init__(self, folder, *given):
        self.calls = 0
        self.given = given
        with open(folder / "starts", "a") as file:
            file.write(f"{os.getpid()}\n")

    def add(self):
        self.calls += 1
        return self.calls, os.getpid()

    def pid(self):
        return os.getpid()

    def size(self):
        return [int(np.size(one)) for one in self.given]

    def wait(self):
        time.sleep(3600)


def starts(folder) -> list[int]:
    path = folder / "starts"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def is_known(name: str) -> bool:
    try:
        hpc.get_actor(name)
    except ValueError:
        return False
    return True


@pytest.fixture
def heads():
    with local_nodes(2, num_cpus=4, config={"head_hang_s": 1.5}) as session:
        yield Heads(session)


def driver(session, body: str, *words: object) -> subprocess.Popen[str]:
    """Another driver of the session: a process of its own, which is told ``words``."""
    begin = f"import os, sys, time\nimport hpc\nhpc.init(address={session.local_dir()!r})\n"
    program = begin + textwrap.dedent(body)
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", program, *map(str, words)], stdout=pipe, stderr=pipe, text=True)


def ended(process: subprocess.Popen[str]) -> str:
    """What a driver has printed, once it has ended well."""
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out.strip()


CALLS = """
    counter = hpc.get_actor("counter", sys.argv[2])
    seen, failed = [], 0
    print("calls", flush=True)
    while not os.path.exists(sys.argv[1]):
        try:
            seen.append(hpc.get(counter.add.remote(), timeout=60))
        except hpc.exceptions.HpcError:
            failed += 1
    print(len(seen), len({pid for _, pid in seen}), failed)
"""


def test_no_call_of_two_drivers_fails_while_the_head_is_killed_twenty_times(heads, tmp_path):
    """The issue's promise: no detached actor ends with its owner, however often that dies, and state is kept."""
    counter = Counter.options(name="counter", lifetime="detached", scheduling_strategy=on(2)).remote(tmp_path)
    first = hpc.get(counter.add.remote())
    other = driver(heads.session, CALLS, tmp_path / "stop", space())
    assert other.stdout is not None and other.stdout.readline().strip() == "calls"
    mine, failed = [first], []
    stop = threading.Event()

    def call():
        while not stop.is_set():
            try:
                mine.append(hpc.get(counter.add.remote(), timeout=60))
            except hpc.exceptions.HpcError as error:
                failed.append(error)

    caller = threading.Thread(target=call)
    caller.start()
    for _ in range(20):
        heads.kill()
    assert is_known("counter")  # the last one has begun to answer
    stop.set()
    caller.join(60)
    (tmp_path / "stop").touch()
    count, pids, other_failed = map(int, ended(other).split())
    assert (failed, other_failed) == ([], 0)
    assert {pid for _, pid in mine} == {first[1]} and pids == 1 and starts(tmp_path) == [first[1]]
    assert hpc.get(counter.add.remote())[0] == len(mine) + count + 1  # each call was made once, in one process
    hpc.kill(counter)


def space() -> str:
    return str(hpc.get_runtime_context().namespace)


@pytest.mark.parametrize("restarts", [0, 1])
def test_a_head_and_an_actor_that_are_killed_in_the_same_moment(heads, tmp_path, restarts):
    """The actor is made again once, if it may be, by the next head."""
    array = hpc.put(np.ones(100_000))
    actor = Counter.options(lifetime="detached", max_restarts=restarts, name="both").remote(tmp_path, array, 3)
    pid = hpc.get(actor.pid.remote())
    os.kill(heads.pid(), signal.SIGKILL)
    kill9(pid)
    if restarts:
        eventually(lambda: len(starts(tmp_path)) == 2)
        assert hpc.get(repeated(actor, "size"), timeout=60) == [100_000, 1]
        kill9(starts(tmp_path)[-1])
    eventually(lambda: not is_known("both"))
    with pytest.raises(hpc.exceptions.ActorDiedError):
        hpc.get(actor.pid.remote(), timeout=60)
    assert len(starts(tmp_path)) == 1 + restarts


def repeated(actor, method: str):
    """A call that is made again where the actor has died before it heard of the call."""
    return getattr(actor, method).options(max_task_retries=-1).remote()


def test_what_is_asked_of_a_head_that_is_stopped_is_done_once_by_the_next(heads, tmp_path):
    """Stopped for longer than the limit, it is killed: it cannot go on beside the next one."""
    old = Counter.options(name="old", lifetime="detached").remote(tmp_path)
    busy = Counter.options(name="busy", lifetime="detached").remote(tmp_path)
    pid = hpc.get(old.pid.remote())
    hanging = busy.wait.remote()
    stopped = heads.pid()
    os.kill(stopped, signal.SIGSTOP)
    with ThreadPoolExecutor(3) as threads:
        made = threads.submit(Counter.options(name="new", lifetime="detached").remote, tmp_path)
        found = threads.submit(hpc.get_actor, "old")
        hpc.kill(busy)
        assert hpc.get([old.pid.remote() for _ in range(100)], timeout=60) == [pid] * 100
        new = made.result(60)
        assert hpc.get(found.result(60).pid.remote(), timeout=60) == pid
    assert not os.path.exists(f"/proc/{stopped}") and heads.pid() != stopped
    assert hpc.get(new.add.remote(), timeout=60)[0] == 1
    with pytest.raises(hpc.exceptions.ActorDiedError):
        hpc.get(hanging, timeout=60)
    eventually(lambda: not is_known("busy"))
    assert len(starts(tmp_path)) == 3
    for actor in (old, new):
        hpc.kill(actor)


def test_one_that_is_killed_while_it_runs_ends_although_the_head_dies_with_the_word(heads, tmp_path):
    """It would never look for its end by itself: the process is ended by the next head."""
    for wait in (False, True, False):
        busy = Counter.options(name="busy", lifetime="detached").remote(tmp_path)
        pid = hpc.get(busy.pid.remote(), timeout=60)
        busy.wait.remote()
        hpc.kill(busy)
        heads.kill(wait=wait)
        eventually(lambda pid=pid: not os.path.exists(f"/proc/{pid}"))
        eventually(lambda: not is_known("busy"))


def test_a_node_is_lost_together_with_the_head(heads, tmp_path):
    """What lived there lives elsewhere; what lived on the other node has noticed nothing."""
    there = Counter.options(lifetime="detached", max_restarts=1, scheduling_strategy=soft(2)).remote(tmp_path)
    here = Counter.options(lifetime="detached", scheduling_strategy=on(1)).remote(tmp_path)
    first, second = hpc.get([there.pid.remote(), here.pid.remote()])
    supervisor = next(n for n in heads.session.nodes.values() if n is not heads.session.head).hello["pid"]
    os.kill(heads.pid(), signal.SIGKILL)
    kill9(int(supervisor))
    eventually(lambda: heads.session.pump(0.05) or len(starts(tmp_path)) == 3)
    assert hpc.get(repeated(there, "pid"), timeout=60) == starts(tmp_path)[-1] != first
    assert hpc.get(here.pid.remote(), timeout=60) == second
    for actor in (there, here):
        hpc.kill(actor)


def test_a_driver_that_dies_before_it_has_made_its_actor_leaves_no_name(heads, tmp_path):
    half = """
        import pickle
        from hpc.core.process.current import need_client
        from hpc.core.wire import NameRegister, NewActor
        ask = need_client().conversation.ask_head
        ident = ask(lambda req: NewActor(req)).data
        handle = pickle.dumps((ident, "Half", {}, None))
        ask(lambda req: NameRegister(req, sys.argv[1], "half", ident, handle))
        print("named", flush=True)
        time.sleep(60)
    """
    other = driver(heads.session, half, space())
    assert other.stdout is not None and other.stdout.readline().strip() == "named"
    with pytest.raises(ValueError, match="taken"):
        Counter.options(name="half", lifetime="detached").remote(tmp_path)
    heads.kill()
    other.kill()
    other.communicate()

    def again():
        try:
            return Counter.options(name="half", lifetime="detached").remote(tmp_path)
        except ValueError:
            return None

    actor = eventually(again)
    assert hpc.get(actor.add.remote(), timeout=60)[0] == 1
    hpc.kill(actor)


def test_many_that_want_the_same_actor_get_one_and_can_call_it_at_once(heads, tmp_path):
    """One that is found by its name may not be made yet: its calls wait for that."""
    cls = Counter.options(name="one", lifetime="detached", get_if_exists=True)

    def want(_):
        return hpc.get(cls.remote(tmp_path).pid.remote(), timeout=60)

    for _ in range(3):
        with ThreadPoolExecutor(8) as threads:
            assert len(set(threads.map(want, range(8)))) == 1
        hpc.kill(hpc.get_actor("one"))
        eventually(lambda: not is_known("one"))
    assert len(starts(tmp_path)) == 3


MAKES = """
    import numpy as np

    @hpc.remote(name="left", lifetime="detached", max_restarts=-1, namespace=sys.argv[2])
    class Sizes:
        def __init__(self, folder, *given):
            self.given = given
            with open(folder + "/starts", "a") as file:
                file.write(f"{os.getpid()}\\n")

        def size(self):
            return [int(np.size(one)) for one in self.given]

    made = Sizes.remote(sys.argv[1], hpc.put(np.ones(10)), hpc.put(np.ones(300_000)), np.ones(200_000), 3)
    print(hpc.get(made.size.remote()))
"""


def test_it_is_made_again_with_its_arguments_when_its_maker_is_gone(heads, tmp_path):
    other = driver(heads.session, MAKES, tmp_path, space())
    sizes = [10, 300_000, 200_000, 1]
    assert ended(other) == str(sizes)
    actor = hpc.get_actor("left")
    for head_too in (False, True, False):
        if head_too:
            os.kill(heads.pid(), signal.SIGKILL)
        count = len(starts(tmp_path))
        kill9(starts(tmp_path)[-1])
        eventually(lambda count=count: len(starts(tmp_path)) == count + 1)
        assert hpc.get(repeated(actor, "size"), timeout=60) == sizes
    hpc.kill(actor)
