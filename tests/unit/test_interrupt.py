"""Where a cancelled task may be interrupted: in the user's code, and where the runtime waits, and nowhere else."""

from __future__ import annotations

import builtins
import signal
import sys
import threading

import pytest

from hpc.core.worker.interrupt import CANCEL_SIGNAL, Interrupter


def at_work(name, inner):
    """A function of a module of this name that calls the inner one, and notes that it came to its end."""
    scope = {"__name__": name, "inner": inner, "ends": []}
    exec("def work():\n    inner()\n    ends.append(1)", scope)
    return scope["work"], scope["ends"]


@pytest.fixture
def worker():
    before = signal.getsignal(CANCEL_SIGNAL)
    running = [b"task"]
    kicks = []

    def run(code):
        code()

    made = Interrupter(lambda: running[0], lambda: kicks.append(1), frozenset({run.__code__}))
    made.run, made.now, made.kicks = run, running, kicks
    yield made
    signal.signal(CANCEL_SIGNAL, before)


def test_in_the_users_code_it_is_raised_at_once(worker):
    def code():
        thread = threading.Thread(target=worker.cancel, args=(b"task",))
        thread.start()
        while True:
            thread.join(0.001)

    with pytest.raises(KeyboardInterrupt):
        worker.run(code)


@pytest.mark.parametrize("module", ["hpc.core.owner.shell.client", "hpc.core.anything"])
def test_in_the_runtime_it_waits_for_a_place_where_nothing_breaks(worker, module):
    runtime, ends = at_work(module, lambda: worker.cancel(b"task"))

    def code():
        runtime()
        assert ends == [1], "the runtime was interrupted"
        worker.check()
        raise AssertionError("it was not raised where the runtime waits")

    with pytest.raises(KeyboardInterrupt):
        worker.run(code)


def test_what_was_put_off_is_raised_by_the_next_signal_in_the_users_code(worker):
    runtime, ends = at_work("hpc.core.net", lambda: worker.cancel(b"task"))
    user, reached = at_work("__main__", lambda: signal.raise_signal(CANCEL_SIGNAL))

    def code():
        runtime()
        user()

    with pytest.raises(KeyboardInterrupt):
        worker.run(code)
    assert ends == [1] and reached == []


def test_a_module_that_is_being_imported_is_made_to_its_end(worker, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    text = f"import builtins, signal\nbuiltins.cancel_now()\nsignal.raise_signal({CANCEL_SIGNAL})\nwhole = True\n"
    (tmp_path / "half_made.py").write_text(text)
    monkeypatch.setattr(builtins, "cancel_now", lambda: worker.cancel(b"task"), raising=False)

    def code():
        import half_made

        assert half_made.whole, "the import was interrupted"
        signal.raise_signal(CANCEL_SIGNAL)
        raise AssertionError("it was not raised after the import")

    with pytest.raises(KeyboardInterrupt):
        worker.run(code)
    monkeypatch.delitem(sys.modules, "half_made")


def test_another_task_is_left_alone(worker):
    worker.cancel(b"other")
    assert worker.kicks == []
    runtime, ends = at_work("hpc.core.net", lambda: worker.cancel(b"task"))

    def code():
        runtime()
        worker.now[0] = b"the next one"
        worker.check()

    worker.run(code)
    assert ends == [1]


def test_between_tasks_nothing_is_raised(worker):
    worker.cancel(b"task")  # the stack has no border: no user's code runs
    worker.now[0] = b""
    worker.check()
    worker.again()
    assert worker.kicks == [1]


def test_other_threads_do_not_raise_for_the_main_one(worker):
    runtime, _ = at_work("hpc.core.net", lambda: worker.cancel(b"task"))
    caught = []

    def elsewhere():
        try:
            worker.check()
        except KeyboardInterrupt as error:
            caught.append(error)

    def code():
        runtime()
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()

    worker.run(code)
    assert caught == []


def test_a_full_queue_of_signals_is_no_error(worker, monkeypatch):
    def full(*args):
        raise BlockingIOError

    monkeypatch.setattr(signal, "pthread_kill", full)
    worker.cancel(b"task")
    assert worker.kicks == [1]
