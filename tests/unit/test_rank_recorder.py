"""A rank's stack can be had whatever it does, without root and without ptrace."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from hpc.core.node import rank_recorder
from hpc.core.node.rank_recorder import FRAMES, Recorder, look_at, read_dump

WATCHED = """
import sys, threading
sys.path.insert(0, {folder!r})
from rank_recorder import Recorder
recorder = Recorder(threading.get_ident())
recorder.arm()
print(recorder.signum, recorder.fd, recorder.thread, flush=True)
def hangs():
    print("there", flush=True)
    {body}
hangs()
"""


def look(body: str) -> tuple[str, str]:
    """What is seen of a process that does this."""
    code = WATCHED.format(folder=os.path.dirname(rank_recorder.__file__), body=body)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        signum, fd, thread = (int(word) for word in process.stdout.readline().split())
        assert process.stdout.readline() == "there\n"
        time.sleep(0.1)
        try:
            return look_at(process.pid, signum, fd, thread)
        finally:
            process.kill()


@pytest.mark.parametrize(
    "body",
    [
        "while True: pass",
        "lock = threading.Lock(); lock.acquire(); lock.acquire()",
        "import ctypes; ctypes.PyDLL(None).sleep(100)",
    ],
    ids=["an endless loop", "a lock", "native code that holds the interpreter"],
)
def test_the_stack_of_a_process_is_taken_from_outside(body: str):
    state, stack = look(body)
    assert state in "RS" and stack.splitlines()[-1].endswith("in hangs")


def test_a_stopped_process_is_said_to_be_stopped_and_is_not_waited_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rank_recorder, "DUMP_S", 100.0)
    assert look("import os; os.kill(os.getpid(), 19)") == ("T", "")


def test_a_process_without_a_handler_is_not_sent_the_signal():
    with subprocess.Popen(["sleep", "60"]) as process:
        assert look_at(process.pid, signal.SIGRTMIN + 11, 1, 0)[1] == ""
        assert process.poll() is None
        process.kill()


def test_the_stack_of_a_thread_has_its_calls_and_their_lines():
    waits, go_on = threading.Event(), threading.Event()

    def deep(calls: int) -> None:
        if calls:
            deep(calls - 1)
        else:
            waits.set()
            go_on.wait()

    thread = threading.Thread(target=deep, args=(FRAMES + 5,))
    thread.start()
    waits.wait()
    assert thread.ident is not None
    stack = Recorder(thread.ident).stack().splitlines()
    go_on.set()
    thread.join()
    assert stack[0] == "..." and "in wait" in stack[-2] and any("go_on.wait()" in line for line in stack)


SERVED = """
import os, socket, sys, threading, time
sys.path.insert(0, {folder!r})
import rank_recorder

rank_recorder.LAST_LOOK_S = 100.0
ours, other = socket.socketpair()

class Slow(rank_recorder.Recorder):
    def rows(self):
        os.write(1, b"looks\\n")
        looks.set()
        time.sleep(0.3)
        os.write(1, b"has looked\\n")
        return [{{"operation": "x" * {size}}}]

rank_recorder.Recorder, looks = Slow, threading.Event()
rank_recorder.serve(ours.detach())
if os.fork() == 0:
    sys.exit()  # runs what is to be done at exit, too
os.wait()
other.sendall(b"?")
looks.wait()
"""


@pytest.mark.parametrize("size", [1, 10_000_000], ids=["", "and nobody reads what it says"])
def test_a_script_that_ends_during_a_look_waits_for_its_end(size: int):
    code = SERVED.format(folder=os.path.dirname(rank_recorder.__file__), size=size)
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout == "looks\nhas looked\n"


def test_the_dump_of_all_threads_is_read_for_one_of_them():
    text = (
        "Thread 0x00007f01 (most recent call first):\n"
        '  File "/a.py", line 3 in inner\n  File "/a.py", line 9 in outer\n\n'
        'Current thread 0x00007f02 [main] (most recent call first):\n  File "/b.py", line ??? in other\n'
    )
    assert read_dump(text, 0x7F01) == 'File "/a.py", line 9, in outer\nFile "/a.py", line 3, in inner'
    assert read_dump(text, 0x7F02) == 'File "/b.py", line 0, in other'
    assert read_dump(text, 0x7F03) == ""


def test_a_look_at_the_collectives_costs_next_to_nothing():
    pytest.importorskip("torch")
    import torch.distributed as dist

    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        recorder = Recorder(threading.get_ident())
        took = []
        for _ in range(200):
            began = time.perf_counter()
            recorder.sample()
            took.append(time.perf_counter() - began)
        assert sorted(took)[100] < 0.001
        assert recorder.standing()["waits_s"] == 0.0 and recorder.samples == 200
        (group,) = recorder.rows()
        assert (group["me"], group["size"], group["title"]) == (0, 1, "the default group")
    finally:
        dist.destroy_process_group()
