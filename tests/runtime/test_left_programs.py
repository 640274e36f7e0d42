"""Programs that tasks and actors have started end with their worker, before others get what it held."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import hpc
from runtime.running import eventually, one_node

#: A daemon by the book, which nothing ties to who started it. It does not want to end.
DAEMON = """
import os, signal, sys, time
os.fork() and os._exit(0)
os.setsid()
os.fork() and os._exit(0)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
with open(sys.argv[1] + ".new", "w") as file:
    file.write(str(os.getpid()))
os.rename(sys.argv[1] + ".new", sys.argv[1])
time.sleep(1000)
"""


@pytest.fixture(scope="module")
def session():
    with one_node(num_cpus=4, num_gpus=1):
        yield


def daemon(path):
    """Start a daemon; returns its process id."""
    subprocess.run([sys.executable, "-c", DAEMON, path], check=True)
    while not os.path.exists(path):
        time.sleep(0.01)
    return int(Path(path).read_text())


def there(pid):
    return os.path.exists(f"/proc/{pid}")


@hpc.remote(num_gpus=1, num_cpus=0)
def next_on_the_gpu(pid):
    return there(pid)


@hpc.remote(num_gpus=1)
class Holder:
    def daemon(self, path):
        return daemon(path)

    def leave(self, how):
        {"exit": sys.exit, "_exit": os._exit, "signal": lambda code: os.kill(os.getpid(), code)}[how[0]](how[1])


@pytest.mark.parametrize("how", [("exit", 0), ("exit", 1), ("_exit", 1), ("signal", 9), "kill", "drop"])
def test_who_gets_the_gpu_of_an_actor_finds_none_of_its_programs(session, tmp_path, how):
    actor = Holder.remote()
    pid = hpc.get(actor.daemon.remote(str(tmp_path / "pid")))
    assert there(pid)
    if how == "kill":
        hpc.kill(actor)
    elif how != "drop":
        with pytest.raises(hpc.exceptions.ActorDiedError):
            hpc.get(actor.leave.remote(how))
    del actor
    assert not hpc.get(next_on_the_gpu.remote(pid))


def test_who_gets_the_gpu_of_a_task_finds_none_of_its_programs_also_when_its_process_stays(session, tmp_path):
    @hpc.remote(num_gpus=1)
    def starts(path):
        return daemon(path), os.getpid(), hpc.put("what it owns")

    pid, worker, kept = hpc.get(starts.remote(str(tmp_path / "pid")))
    assert not hpc.get(next_on_the_gpu.remote(pid))
    assert there(worker)
    assert hpc.get(kept) == "what it owns"


def test_a_task_that_crashes_takes_its_programs_with_it(session, tmp_path):
    @hpc.remote(max_retries=0)
    def crashes(path):
        daemon(path)
        os._exit(1)

    with pytest.raises(hpc.exceptions.WorkerCrashedError):
        hpc.get(crashes.remote(str(tmp_path / "pid")))
    assert not there(int((tmp_path / "pid").read_text()))


def test_programs_of_a_worker_that_lives_run_on(session, tmp_path):
    @hpc.remote
    class Starts:
        def daemon(self, path):
            return daemon(path)

    one, other = Starts.remote(), Starts.remote()
    pid = hpc.get(one.daemon.remote(str(tmp_path / "one")))
    gone = hpc.get(other.daemon.remote(str(tmp_path / "other")))
    del other
    eventually(lambda: not there(gone))
    assert there(pid)
    os.kill(pid, signal.SIGKILL)


def test_a_daemon_that_has_ended_is_gone_and_the_users_own_children_wait_for_him(session, tmp_path):
    @hpc.remote(num_cpus=0)
    class Starts:
        def start(self, path):
            self.program = subprocess.Popen(["sh", "-c", "exit 3"])
            self.apart = subprocess.Popen(["sh", "-c", "exit 4"], start_new_session=True)
            self.forked = os.fork() or os._exit(5)
            return daemon(path)

        def ended(self, pid):
            """Once nothing is left of a process: the codes with which the others have ended."""
            while there(pid):
                time.sleep(0.05)
            code = os.waitstatus_to_exitcode(os.waitpid(self.forked, 0)[1])
            return self.program.wait(), self.apart.wait(), code

    actor = Starts.remote()
    pid = hpc.get(actor.start.remote(str(tmp_path / "pid")))
    os.kill(pid, signal.SIGKILL)
    assert hpc.get(actor.ended.remote(pid), timeout=30) == (3, 4, 5)


def test_a_program_may_clear_up_and_shared_memory_is_removed(session, tmp_path):
    program = "import signal, sys, time\nsignal.signal(15, lambda *_: (open(sys.argv[1], 'w').close(), sys.exit()))\n"
    program += "print('ready', flush=True)\ntime.sleep(1000)"

    @hpc.remote
    class Starts:
        def start(self, path):
            from multiprocessing import shared_memory

            self.program = subprocess.Popen([sys.executable, "-c", program, path], stdout=subprocess.PIPE)
            self.program.stdout.readline()
            self.memory = shared_memory.SharedMemory(create=True, size=64)
            return self.memory.name

    actor = Starts.remote()
    name = hpc.get(actor.start.remote(str(tmp_path / "cleared")))
    assert (Path("/dev/shm") / name).exists()
    hpc.kill(actor)
    eventually(lambda: (tmp_path / "cleared").exists())
    eventually(lambda: not (Path("/dev/shm") / name).exists())
