"""The process of a worker as the user's code sees it: how it ends, its signals, its children, its threads, its name."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import hpc
from hpc.core.worker.threads import LeaseThreads
from runtime.running import eventually, one_node

ERRORS = hpc.exceptions


@pytest.fixture(scope="module")
def session():
    before = os.environ.pop("OMP_NUM_THREADS", None)
    with one_node(num_cpus=4):
        yield
    if before is not None:
        os.environ["OMP_NUM_THREADS"] = before


# ---------------------------------------------------------------- how it ends


@hpc.remote(max_retries=0)
def ends(code, path, words):
    import atexit

    atexit.register(lambda: Path(path).write_text("atexit"))
    print(f"the last words: {words}", end="")
    sys.exit(code)


@hpc.remote
class Ends:
    def pid(self):
        return os.getpid()

    def end(self, code, path):
        with open(path, "a") as file:
            file.write("x")
        sys.exit(code)


#: Each has words of its own: equal lines of several workers are counted first, and shown seconds later.
@pytest.mark.parametrize(("code", "words"), [(0, "well"), (3, "badly"), (None, "silently"), ("words", "by words")])
def test_a_task_that_calls_exit_has_failed_and_its_atexit_handlers_run(session, tmp_path, capfd, code, words):
    path = tmp_path / "mark"
    with pytest.raises(ERRORS.WorkerCrashedError, match=rf"it called exit\({code}\)"):
        hpc.get(ends.remote(code, str(path), words))
    eventually(lambda: path.exists() and path.read_text() == "atexit")
    eventually(lambda: f"the last words: {words}" in capfd.readouterr().out)


def test_the_text_that_a_task_exits_with_is_its_last_word(session, tmp_path, capfd):
    with pytest.raises(ERRORS.WorkerCrashedError):
        hpc.get(ends.remote("all is lost", str(tmp_path / "mark"), ""))
    eventually(lambda: "all is lost" in capfd.readouterr().err)


def test_an_actor_that_exits_well_is_not_restarted_and_its_call_not_repeated(session, tmp_path):
    actor = Ends.options(max_restarts=1, max_task_retries=1).remote()
    with pytest.raises(ERRORS.ActorDiedError):
        hpc.get(actor.end.remote(0, str(tmp_path / "runs")))
    with pytest.raises(ERRORS.ActorDiedError):
        hpc.get(actor.pid.remote())
    assert (tmp_path / "runs").read_text() == "x"


def test_an_actor_that_exits_with_an_error_is_restarted(session, tmp_path):
    actor = Ends.options(max_restarts=1).remote()
    before = hpc.get(actor.pid.remote())
    with pytest.raises(ERRORS.ActorUnavailableError):
        hpc.get(actor.end.remote(3, str(tmp_path / "runs")))
    assert hpc.get(actor.pid.remote()) != before


@pytest.mark.parametrize(
    ("raises", "status"),
    [("SystemExit(5)", 5), ("SystemExit(0)", 0), ("SystemExit()", 0), ("SystemExit('no')", 1), ("ValueError()", 1)],
)
def test_a_child_that_a_task_forks_ends_as_a_program_of_its_own(session, raises, status):
    @hpc.remote
    def forks():
        import atexit

        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            atexit.register(lambda: os.write(write, b"atexit"))
            raise eval(raises)
        os.close(write)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return code, os.read(read, 100)

    assert hpc.get(forks.remote()) == (status, b"atexit")


# ---------------------------------------------------------------- signals

SHOW = (
    "import signal as s; print([str(s.getsignal(n)) for n in (s.SIGUSR1, s.SIGUSR2)], "
    "s.getsignal(s.SIGINT) is s.default_int_handler, s.pthread_sigmask(s.SIG_BLOCK, ()))"
)


def test_programs_that_tasks_start_find_signals_as_in_a_shell(session):
    @hpc.remote
    def starts():
        return subprocess.run([sys.executable, "-c", SHOW], capture_output=True, text=True).stdout

    in_a_shell = subprocess.run([sys.executable, "-c", SHOW], capture_output=True, text=True).stdout
    assert hpc.get(starts.remote()) == in_a_shell
    assert "True set()" in in_a_shell


def test_children_that_tasks_fork_find_signals_as_in_a_shell(session):
    @hpc.remote
    def forks(signum):
        child = os.fork()
        if child == 0:
            os.kill(os.getpid(), signum)
            os._exit(0)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    for signum in (signal.SIGUSR1, signal.SIGUSR2):
        assert hpc.get(forks.remote(signum)) == -signum


def test_a_warning_of_the_scheduler_ends_no_task_and_an_interrupt_is_an_exception_in_it(session):
    @hpc.remote(max_retries=0)
    def signals(signum):
        try:
            os.kill(os.getpid(), signum)
            time.sleep(0.1)
        except KeyboardInterrupt:
            return "interrupted"
        return "lived"

    assert hpc.get(signals.remote(signal.SIGUSR1)) == "lived"
    assert hpc.get(signals.remote(signal.SIGUSR2)) == "lived"
    assert hpc.get(signals.remote(signal.SIGINT)) == "interrupted"


def test_an_interrupt_of_a_worker_that_has_nothing_to_do_does_no_harm(session):
    pid = hpc.get(Ends.remote().pid.remote())
    actor = Ends.remote()
    pid = hpc.get(actor.pid.remote())
    os.kill(pid, signal.SIGINT)
    assert hpc.get(actor.pid.remote()) == pid


# ---------------------------------------------------------------- threads


@hpc.remote
def threads():
    return os.environ.get("OMP_NUM_THREADS")


@hpc.remote
class Threads:
    def threads(self):
        return os.environ.get("OMP_NUM_THREADS")


def test_a_task_or_actor_has_as_many_threads_as_cpus(session):
    for cpus, expected in ((0, "1"), (0.5, "1"), (1, "1"), (2, "2"), (3, "3")):
        assert hpc.get(threads.options(num_cpus=cpus).remote()) == expected
    assert hpc.get(Threads.options(num_cpus=2).remote().threads.remote()) == "2"
    assert hpc.get(Threads.remote().threads.remote()) == "1"


def test_libraries_that_do_not_read_that_variable_have_their_own_and_the_users_word_stays(session):
    @hpc.remote
    def others():
        return [os.environ.get(name) for name in ("RAYON_NUM_THREADS", "POLARS_MAX_THREADS", "MKL_NUM_THREADS")]

    assert hpc.get(others.options(num_cpus=2).remote()) == ["2", "2", None]
    said = {"env_vars": {"RAYON_NUM_THREADS": "7", "OMP_NUM_THREADS": "3", "MKL_NUM_THREADS": "4"}}
    assert hpc.get(others.options(num_cpus=2, runtime_env=said).remote()) == ["7", "2", "4"]


def test_what_a_task_does_to_the_number_of_threads_ends_with_it_and_an_actors_stays(session):
    @hpc.remote
    def change(value):
        before = os.environ.get("OMP_NUM_THREADS"), os.getpid()
        os.environ.pop("OMP_NUM_THREADS")
        if value:
            os.environ["OMP_NUM_THREADS"] = value
        return before

    @hpc.remote(num_cpus=2)
    class Changes:
        def change(self, value):
            before = os.environ.get("OMP_NUM_THREADS")
            os.environ["OMP_NUM_THREADS"] = value
            return before

    two = change.options(num_cpus=2)
    seen = [hpc.get(task.remote(value)) for task in (change, two) for value in ("7", "", "9", "")]
    assert [threads for threads, _ in seen] == ["1"] * 4 + ["2"] * 4
    assert len({pid for _, pid in seen}) < len(seen)  # or nothing was shown
    actor = Changes.remote()
    assert hpc.get([actor.change.remote("7"), actor.change.remote("8")]) == ["2", "7"]


def test_libraries_that_were_loaded_before_follow(session):
    @hpc.remote
    def blas_threads():
        import ctypes

        import numpy  # noqa: F401

        from hpc.core.worker.threads import loaded

        for path in loaded("openblas"):
            for name in ("scipy_openblas_get_num_threads64_", "openblas_get_num_threads64_"):
                function = getattr(ctypes.CDLL(path), name, None)
                if function is not None:
                    return function()
        return None

    if hpc.get(blas_threads.remote()) is None:
        pytest.skip("this numpy has no OpenBLAS")
    assert hpc.get(blas_threads.remote()) == 1
    assert hpc.get(blas_threads.options(num_cpus=2).remote()) == 2
    assert hpc.get(blas_threads.remote()) == 1


def test_what_the_user_has_said_of_threads_goes_before(session, monkeypatch):
    env = {"env_vars": {"OMP_NUM_THREADS": "5"}}
    assert hpc.get(threads.options(num_cpus=2, runtime_env=env).remote()) == "5"
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    LeaseThreads().use(2)
    assert os.environ["OMP_NUM_THREADS"] == "7"


# ---------------------------------------------------------------- names


def names_of(pid):
    command = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode()
    return Path(f"/proc/{pid}/comm").read_text().rstrip("\n"), command


@hpc.remote
def a_task_with_a_long_name():
    return names_of(os.getpid()), os.getpid()


def test_a_worker_is_called_in_ps_and_top_as_what_it_runs_and_idle_otherwise(session):
    names, pid = hpc.get(a_task_with_a_long_name.remote())
    assert names == ("hpc::a_task_wit", "hpc::a_task_with_a_long_name")
    eventually(lambda: names_of(pid) == ("hpc::IDLE", "hpc::IDLE"))
    names, _ = hpc.get(a_task_with_a_long_name.options(name="another").remote())
    assert names == ("hpc::another", "hpc::another")


@pytest.mark.parametrize("options", [{}, {"max_concurrency": 2}])
def test_an_actor_is_called_by_its_class_and_while_it_runs_a_method_by_that(session, options):
    @hpc.remote
    class Box:
        def names(self):
            return names_of(os.getpid())[0], os.getpid()

    name, pid = hpc.get(Box.options(**options).remote().names.remote())
    assert name == "hpc::Box.names"
    box = Box.options(**options).remote()
    name, pid = hpc.get(box.names.remote())
    eventually(lambda: names_of(pid) == ("hpc::Box", "hpc::Box"))
