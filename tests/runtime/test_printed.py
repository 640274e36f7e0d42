"""What workers print reaches the driver: all of it, in order, also what comes last; a full disk ends no task."""

import io
import os
import resource
import signal
import subprocess
import sys
import threading

import pytest

import hpc
from hpc import spi
from hpc.core.owner.shell import printed
from runtime.running import eventually, local_nodes, on, one_node, pid_of

LINES = 5000
PROGRAM = f"""
import sys
import hpc
hpc.init(address="local", num_cpus=1)

@hpc.remote
class Talks:
    def talk(self, n):
        for i in range(n):
            print(f"line {{i:06d}} " + "." * 60)
        print("the last words", end="")

talks = Talks.remote()
hpc.get(talks.talk.remote({LINES}))
"""


@pytest.mark.parametrize("end", ["", "hpc.shutdown()", "sys.exit(3)", "raise ValueError", "hpc.kill(talks)"])
def test_all_that_was_printed_before_the_last_get_is_shown_however_the_program_ends(end):
    seen = subprocess.run([sys.executable, "-c", PROGRAM + end], capture_output=True, text=True, timeout=60)
    lines = [line.partition("line ")[2][:6] for line in seen.stdout.splitlines() if ") line 0" in line]
    assert lines == [f"{i:06d}" for i in range(LINES)], seen.stderr[-1000:]
    if "kill" not in end:  # who is killed writes nothing out
        assert "the last words" in seen.stdout


def test_what_a_worker_printed_before_it_died_comes_before_the_news_of_its_death_is_of_use(capfd):
    @hpc.remote(max_retries=0)
    def talk():
        import os

        for i in range(LINES):
            print(f"dying {i:06d} " + "." * 60)
        print("why it dies", file=sys.stderr, flush=True)
        os._exit(1)

    with one_node(num_cpus=1), pytest.raises(hpc.exceptions.WorkerCrashedError):
        hpc.get(talk.remote())
    out, err = capfd.readouterr()
    assert out.count("dying 0") == LINES
    assert "why it dies" in err


def test_a_node_that_may_have_more_to_say_and_does_not_answer_is_named(capfd, monkeypatch):
    @hpc.remote
    def talk():
        print("heard", flush=True)

    monkeypatch.setattr(printed, "SILENT_S", 0.3)
    with local_nodes(2) as session:
        hpc.get(talk.options(scheduling_strategy=on(2)).remote())
        raylet = pid_of(session.nodes[2].hello["dir"], "raylet")
        os.kill(raylet, signal.SIGSTOP)
        try:
            hpc.shutdown()
        finally:
            os.kill(raylet, signal.SIGCONT)
    assert "hpc: output of workers on node 2 may be missing" in capfd.readouterr().err


def test_what_tasks_of_tasks_printed_on_other_nodes_is_shown(capfd):
    @hpc.remote
    def inner():
        print("from afar", end="")

    @hpc.remote
    def outer():
        hpc.get(inner.options(scheduling_strategy=on(3)).remote())

    with local_nodes(3):
        hpc.get(outer.options(scheduling_strategy=on(2)).remote())
    assert "node=3) from afar" in capfd.readouterr().out


def test_lines_that_no_driver_wants_to_see_hold_up_nothing():
    @hpc.remote
    def talk():
        print("." * (4 << 20))

    with one_node(num_cpus=1, log_to_driver=False):
        hpc.get([talk.remote() for _ in range(3)])


def test_a_task_whose_log_file_takes_nothing_more_goes_on_and_says_later_what_is_missing(capfd):
    @hpc.remote
    def talk():
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
        for _ in range(100):
            print("x" * 99)
            print("y" * 99, file=sys.stderr)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        print("there is room again")
        return "done"

    with one_node(num_cpus=1):
        assert hpc.get(talk.remote()) == "done"
    out = capfd.readouterr().out
    assert "bytes of output could not be kept here and were dropped: File too large" in out
    assert "there is room again" in out


def test_a_stream_that_waits_for_the_program_does_not_hold_up_the_values_that_it_waits_for(monkeypatch):
    """As that of a notebook, which is written in Python and has locks of its own."""
    lock = threading.Lock()

    class Stream(io.StringIO):
        def write(self, text):
            with lock:
                return super().write(text)

    @hpc.remote
    def talk():
        print("from a worker", flush=True)
        return 1

    with one_node(num_cpus=1):
        stream = Stream()
        monkeypatch.setattr(sys, "stdout", stream)
        printing = spi.ensure_client().printed
        with lock:
            eventually(lambda: hpc.get(talk.remote(), timeout=20) == 1 and printing._taken > 0)
            assert hpc.get(talk.remote(), timeout=20) == 1 and not stream.getvalue()
        spi.flush_printed()
        assert "from a worker" in stream.getvalue()
