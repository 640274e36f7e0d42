"""hpc-launch on local nodes: the script's exit code, signals, Ctrl-C, leftovers, and its folder of a job."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hpc.core.node import witness
from hpc.core.node.reap import descendants

LAUNCH = [sys.executable, "-m", "hpc.cli.launch", "--scheduler=local"]
WAITS = """
    import os, signal, sys, time
    try:
        print("up", os.getpid(), os.getppid(), flush=True)
        while True:
            time.sleep(0.05)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
        sys.exit(5)
"""


class Place:
    """A folder with scripts, and hpc-launch in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("SLURM_")}
        self.env |= {"HPC_JOB_DIR": str(folder / "jobs"), "XDG_CONFIG_HOME": str(folder / "config")}

    def script(self, name: str, body: str) -> None:
        (self.folder / name).write_text(textwrap.dedent(body))

    def run(self, *argv: str, **more: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*LAUNCH, *argv], cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=60,
            stdin=subprocess.DEVNULL, **more,  # type: ignore[call-overload]
        )  # fmt: skip

    def start(self, *argv: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*LAUNCH, *argv], cwd=self.folder, env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

    def hpc(self, *argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "hpc", *argv],
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=60,
        )


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def up(process: subprocess.Popen[str]) -> int:
    """The pid of the script, once it runs."""
    assert process.stdout is not None
    word, pid, _ = process.stdout.readline().split()
    assert word == "up"
    return int(pid)


def eventually(check: Callable[[], bool], timeout_s: float = 60.0) -> None:
    end = time.monotonic() + timeout_s
    while not check():
        assert time.monotonic() < end, "not within the time"
        time.sleep(0.02)


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.parametrize("code", [0, 3, 250])
def test_the_scripts_exit_code_is_ours(place: Place, code: int) -> None:
    place.script("x.py", f"import sys; print(sys.argv[1:]); sys.exit({code})")
    done = place.run("-N2", "x.py", "-N", "a b")
    assert (done.returncode, done.stdout) == (code, "['-N', 'a b']\n")
    status = json.loads((place.folder / "jobs" / "1" / "status.json").read_text())
    assert (status["state"], status["exit_code"], status["nodes"]) == ("ended", code, 2)


@pytest.mark.parametrize("closed", ["<&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_standard_streams_that_are_closed_change_nothing(place: Place, closed: str) -> None:
    place.script("x.py", """
        import os, sys
        print("said"); print("said", file=sys.stderr)
        open("ran", "w").write(str([os.readlink(f"/proc/self/fd/{fd}")[:5] for fd in (0, 1, 2)]))
        sys.exit(4)
    """)  # fmt: skip
    command = f"exec {shlex.join([*LAUNCH, 'x.py'])} {closed}"
    done = subprocess.run(["bash", "-c", command], cwd=place.folder, env=place.env, capture_output=True, timeout=60)
    assert done.returncode == 4, done
    said = (place.folder / "ran").read_text()
    assert "sock" not in said and (closed == "<&-" or said.count("/dev/") >= 2)
    listed = f"exec {sys.executable} -m hpc ps {closed}"
    assert subprocess.run(["bash", "-c", listed], cwd=place.folder, env=place.env, timeout=60).returncode == 0


def test_a_script_that_a_signal_ends(place: Place) -> None:
    place.script("x.py", "import os; os.kill(os.getpid(), 6)")
    assert place.run("x.py").returncode == 128 + 6


def test_a_users_own_modules_do_not_shadow_ours_or_pythons(place: Place) -> None:
    for name in ("core", "launchers", "json", "select", "queue", "signal"):
        place.script(f"{name}.py", "raise SystemExit('shadowed')")
    place.script("x.sh", "#!/bin/sh\necho fine\n")
    (place.folder / "x.sh").chmod(0o755)
    installed = Path(sys.executable).parent / "hpc-launch"
    if not installed.exists():
        pytest.skip("hpc-launch is not installed beside this Python")
    done = subprocess.run(
        [str(installed), "--scheduler=local", "-N2", "x.sh"], cwd=place.folder, env=place.env, capture_output=True,
        text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "fine\n"), done.stderr


def test_the_scripts_environment(place: Place) -> None:
    place.script("x.py", """
        import os
        e = os.environ
        assert os.path.exists(e["HPC_SESSION_DIR"] + "/raylet.sock") and e["HPC_ADDRESS"].startswith("tcp://")
        networks = e["GLOO_SOCKET_IFNAME"], e["NCCL_SOCKET_IFNAME"]
        print(e["HPC_NUM_NODES"], 0 < float(e["HPC_READY_S"]) < 30, e["GIVEN"], *networks)
    """)  # fmt: skip
    done = place.run("-N2", "--env=GIVEN=a b", "--env=NCCL_SOCKET_IFNAME=mine", "x.py")
    assert done.stdout == "2 True a b lo mine\n", done.stderr


def test_a_preflight_measures_the_nodes_before_the_script_begins(place: Place) -> None:
    place.script("x.py", "import os; print('rank', os.environ.get('RANK', 'none'))")
    done = place.run("-N2", "--preflight=exclude", "--ranks-per-node=1", "x.py")
    assert sorted(line.partition("] ")[2] for line in done.stdout.splitlines()) == ["rank 0", "rank 1"], done.stderr
    said = done.stderr.partition("hpc: preflight: ")[2].splitlines()[0]
    assert re.match(r"(all nodes: )?links:? at least .* over 1 pairs", said), said
    assert place.run("-N1", "--preflight", "x.py").stdout == "rank none\n"
    refused = place.run("-N2", "--preflight", "--stage", "x.py")
    assert refused.returncode == 2 and "--preflight measures with this Python" in refused.stderr


def test_what_local_nodes_cannot_do_is_told_or_refused(place: Place) -> None:
    place.script("x.py", "print('ran')")
    done = place.run("-t5", "--partition=x", "--exclusive", "-N1", "-c1", "x.py")
    assert done.stdout == "ran\n"
    assert "runs on nodes of this machine: nothing comes of --time, --partition, --exclusive\n" in done.stderr
    assert "nothing comes of" not in place.run("-N1", "-c1", "--no-exclusive", "x.py").stderr
    for option, words in (("--detach", "leaves a job that was submitted"), ("--mem=900T", "and this machine has")):
        done = place.run(option, "x.py")
        assert (done.returncode, done.stdout) == (2, "") and words in done.stderr and "fix:" in done.stderr


def test_resources_of_local_nodes_by_the_schedulers_own_flags(place: Place) -> None:
    place.script("x.py", """
        import hpc as ray
        ray.init()
        have = ray.cluster_resources()
        print(have["CPU"], have["GPU"], 2**30 < have["memory"] <= 2 * 2**30)
    """)  # fmt: skip
    done = place.run("-N2", "-c3", "--gpus-per-node=a100:1", "--mem=1G", "x.py")
    assert done.stdout == "6.0 2.0 True\n", done.stderr


@pytest.mark.parametrize("argv", [["y.py"], ["-N2", "y.py"]])
def test_a_missing_script_starts_nothing(place: Place, argv: list[str]) -> None:
    done = place.run(*argv)
    assert done.returncode == 127 and "error[NO-SCRIPT]" in done.stderr and not (place.folder / "jobs").exists()


def test_a_job_folder_that_cannot_be_made_does_not_stop_a_local_run(place: Place) -> None:
    place.script("x.py", "print('ran')")
    assert place.run("--job-dir=/proc/no", "x.py").stdout == "ran\n"


# ---------------------------------------------------------------- signals


def test_sigterm_reaches_the_script(place: Place) -> None:
    place.script("x.py", "import signal, sys\nsignal.signal(15, lambda *_: sys.exit(9))\n" + textwrap.dedent(WAITS))
    process = place.start("x.py")
    up(process)
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 9


def test_a_signal_to_the_whole_process_group_reaches_the_script_once(place: Place) -> None:
    place.script("x.py", """
        import os, signal
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        print("up", os.getpid(), os.getppid(), flush=True)
        signal.sigwait([signal.SIGTERM])
        print("again:", signal.sigtimedwait([signal.SIGTERM], 0.5))
    """)  # fmt: skip
    process = place.start("x.py")
    up(process)
    os.killpg(process.pid, signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert "again: None" in out, err


def test_the_first_failure_of_a_rank_is_shown_last_and_once_and_others_noise_is_found_by_hpc_logs(place: Place) -> None:
    place.script("x.py", """
        import os, signal, sys, time
        def lost(*_):
            raise ConnectionResetError("Connection reset by peer")
        signal.signal(signal.SIGTERM, lost)
        open(f"there{os.environ['RANK']}", "w").close()
        while not (os.path.exists("there0") and os.path.exists("there1")):
            time.sleep(0.01)
        if os.environ["RANK"] == "1":
            raise KeyError("no such weight")
        time.sleep(600)
    """)  # fmt: skip
    done = place.run("--ranks-per-node=2", "x.py")
    assert done.returncode == 1
    last = [line for line in done.stderr.splitlines() if line.startswith("    |")]
    assert last[-1] == "    | KeyError: 'no such weight'" and done.stderr.count("KeyError: ") == 1
    assert "rank 1 on node 1 (" in done.stderr and "Connection reset" not in done.stderr + done.stdout
    assert "Connection reset by peer" in place.hpc("logs", "--rank", "0").stdout


@pytest.mark.parametrize("ranks", [[], ["--ranks-per-node=1"]])
def test_what_is_sent_to_all_processes_reaches_the_script_once(place: Place, ranks: list[str]) -> None:
    """As Ctrl-C does, `timeout`, and a scheduler that ends a job; what is sent to hpc-launch alone is passed on."""
    place.script("x.py", """
        import os, signal, sys, time
        signal.signal(signal.SIGUSR1, lambda *_: print("usr1", flush=True))
        signal.signal(signal.SIGTERM, lambda *_: print("term", flush=True))
        print("up", os.getpid(), flush=True)
        while not os.path.exists("go"):
            time.sleep(0.05)
    """)  # fmt: skip
    process = place.start("-Q", *ranks, "x.py")
    assert process.stdout is not None and "up" in process.stdout.readline()
    for signum, word in ((signal.SIGUSR1, "usr1"), (signal.SIGTERM, "term")):
        for pid in [process.pid, *descendants(process.pid)]:
            os.kill(pid, signum)
        assert word in process.stdout.readline()
        time.sleep(2 * witness.WAIT_S)  # until hpc-launch would have passed it on
    (place.folder / "go").touch()
    out, _ = process.communicate(timeout=60)
    assert out == ""


def test_a_script_that_ignores_sigterm_is_killed_after_the_grace_period(place: Place) -> None:
    place.script("x.py", "import signal\nsignal.signal(15, signal.SIG_IGN)\n" + textwrap.dedent(WAITS))
    process = place.start("--grace=0.5", "x.py")
    script = up(process)
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 128 + 9 and not running(script)


def test_user_signals_are_passed_on(place: Place) -> None:
    place.script("x.py", "import signal, sys\nsignal.signal(12, lambda *_: sys.exit(8))\n" + textwrap.dedent(WAITS))
    process = place.start("x.py")
    up(process)
    process.send_signal(signal.SIGUSR2)
    process.communicate(timeout=60)
    assert process.returncode == 8


DRAINS = """
    import os, threading, time, hpc
    hpc.init()

    @hpc.remote
    def where():
        return hpc.get_runtime_context().draining().reason

    told = threading.Event()
    hpc.on_drain(lambda notice: (print("told", notice.reason, flush=True), told.set()))
    hpc.save_state("step", 3)
    print("up", os.getpid(), "waits", flush=True)
    while hpc.get_runtime_context().draining() is None:
        time.sleep(0.02)
    print("goes on", told.wait(60), os.path.exists(os.environ["HPC_JOB_DIR"] + "/1/states/script/step"))
"""


def test_a_warning_signal_begins_the_draining_and_does_not_end_a_script_without_a_handler(place: Place) -> None:
    place.script("x.py", DRAINS)
    process = place.start("--drain-signal=USR1", "x.py")
    up(process)
    process.send_signal(signal.SIGUSR1)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert out.split("\n")[:2] == ["told SIGUSR1", "goes on True True"]
    assert "the session drains (SIGUSR1): nothing new begins" in err
    refused = place.run("--drain-signal=KILL", "x.py")
    assert refused.returncode == 2 and "neither USR1 nor USR2" in refused.stderr


def test_sigint_without_a_terminal_reaches_the_script_once(place: Place) -> None:
    place.script("x.py", WAITS)
    process = place.start("x.py")
    up(process)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (5, "interrupted\n")


def test_ctrl_c_at_a_terminal_is_a_keyboard_interrupt_in_the_script(place: Place) -> None:
    place.script("x.py", WAITS)
    pid, master = pty.fork()
    if pid == 0:
        os.chdir(place.folder)
        os.execve(sys.executable, [*LAUNCH, "-N2", "x.py"], place.env)
    text = b""
    try:
        while b"up" not in text:
            text += os.read(master, 4096)
        os.write(master, b"\x03")
        while True:
            text += os.read(master, 4096)
    except OSError:  # the terminal's other end is closed
        pass
    _, status = os.waitpid(pid, 0)
    os.close(master)
    assert os.waitstatus_to_exitcode(status) == 5
    assert text.count(b"interrupted") == 1


def test_a_second_sigint_ends_a_script_that_ignores_the_first(place: Place) -> None:
    place.script("x.py", "import signal\nsignal.signal(2, signal.SIG_IGN)\n" + textwrap.dedent(WAITS))
    process = place.start("x.py")
    up(process)
    process.send_signal(signal.SIGINT)
    eventually(lambda: "SIGINT" in (place.folder / "jobs" / "1" / "events.jsonl").read_text())
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 128 + 15


def test_hpc_launch_killed_takes_everything_with_it(place: Place) -> None:
    place.script("x.py", WAITS)
    process = place.start("-N2", "x.py")
    script = up(process)
    process.kill()
    process.wait(60)
    eventually(lambda: not running(script))
    rows = json.loads(place.hpc("ps", "--json").stdout)
    assert rows[0]["state"] == "lost"
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    process.stderr.close()


def test_what_the_script_leaves_behind_is_ended(place: Place) -> None:
    place.script("x.py", """
        import subprocess
        null = subprocess.DEVNULL
        child = subprocess.Popen(["sleep", "300"], start_new_session=True, stdout=null, stderr=null)
        print(child.pid, flush=True)
    """)  # fmt: skip
    done = place.run("x.py")
    assert done.returncode == 0 and not running(int(done.stdout))


# ---------------------------------------------------------------- hpc ps, status, cancel


def test_a_local_run_is_listed_and_can_be_cancelled(place: Place) -> None:
    place.script("x.py", WAITS)
    process = place.start("x.py")
    up(process)
    eventually(lambda: json.loads(place.hpc("ps", "--json").stdout)[0]["state"] == "running")
    assert "running" in place.hpc("status").stdout
    assert "asked to end" in place.hpc("cancel", "last").stdout
    process.communicate(timeout=60)
    assert process.returncode == 128 + 15
    assert "has ended already" in place.hpc("cancel", "1").stdout


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (["pss"], 2, "fix:   hpc ps"),
        (["status", "7"], 2, "error[NO-JOB]: no job matches '7'"),
        (["cancel"], 2, "which job?"),
        (["explain", "NOPE"], 2, "TIME-LIMIT"),
    ],
)  # fmt: skip
def test_what_hpc_says_to_mistakes(place: Place, argv: list[str], code: int, words: str) -> None:
    done = place.hpc(*argv)
    assert done.returncode == code and words in done.stderr


def test_what_is_shown_of_a_job_that_ran_at_a_terminal(place: Place) -> None:
    assert "no session of yours runs on this machine, and no job is known" in place.hpc("status").stderr
    place.script("x.py", "print('ran')")
    place.run("x.py")
    status = place.hpc("status")
    assert "this is the last job, 1" in status.stderr and "ended     ok" in status.stdout
    for command in ("logs", "attach"):
        done = place.hpc(command)
        assert done.returncode == 2 and "error[AT-TERMINAL]" in done.stderr and "fix:" in done.stderr


def test_help_and_explanations(place: Place) -> None:
    assert "hpc attach" in place.hpc().stdout
    assert "--min-nodes" in place.run("--help").stdout and place.run("--version").stdout.startswith("hpc ")
    assert "exit code 120" in place.hpc("explain", "time-limit").stdout


@pytest.mark.parametrize("ranks", [[], ["--ranks-per-node=1"]], ids=["tasks", "ranks"])
def test_what_one_job_has_compiled_the_next_one_begins_with_and_a_damaged_archive_is_said(
    place: Place, ranks: list[str]
) -> None:
    place.env["CUDA_CACHE_PATH"] = "/mine"
    place.script("x.py", """
        import os, sys
        def kernel():
            assert os.environ["CUDA_CACHE_PATH"] == "/mine"
            folder = os.environ["TRITON_CACHE_DIR"]
            os.makedirs(folder, exist_ok=True)
            with open(os.path.join(folder, sys.argv[1] if len(sys.argv) > 1 else "k"), "w") as file:
                file.write("compiled")
            return sorted(os.listdir(folder)), folder
        if "RANK" not in os.environ:
            import hpc
            hpc.init()
            kernel = hpc.remote(kernel)
            found, folder = hpc.get(kernel.remote())
            assert os.environ["TRITON_CACHE_DIR"] == folder and os.environ["CUDA_CACHE_PATH"] == "/mine"
        else:
            found, folder = kernel()
        print(len(found), folder.startswith(os.path.expanduser("~/")), flush=True)
    """)  # fmt: skip
    first = place.run(*ranks, "--cache=kept", "x.py", "a")
    assert "1 False" in first.stdout and "1 compiled files are kept in" in first.stderr, first.stderr
    again = place.run(*ranks, "--cache=kept", "x.py", "b" if ranks else "")
    assert f"{2 if ranks else 1} False" in again.stdout, again
    (place.folder / "kept/caches.tar.gz").write_bytes(b"no archive")
    broken = place.run(*ranks, "--cache=kept", "x.py", "c")
    assert broken.returncode == 0 and "the caches begin empty" in broken.stderr and "damaged" in broken.stderr


def test_ranks_that_fail_are_all_started_again_and_meet_at_the_same_port(place: Place) -> None:
    place.script("x.py", """
        import os, socket, subprocess, sys, time
        count, rank = os.environ["TORCHELASTIC_RESTART_COUNT"], os.environ["RANK"]
        assert os.environ["TORCHELASTIC_MAX_RESTARTS"] == "2"
        where = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
        if rank == "0":
            with socket.create_server(where) as server:
                server.accept()[0].sendall(count.encode())
        else:
            while True:
                try:
                    assert socket.create_connection(where).recv(9).decode() == count
                    break
                except ConnectionRefusedError:
                    time.sleep(0.01)
        print("met", count, flush=True)
        if rank == "1" and int(count) < int(sys.argv[1]):
            subprocess.Popen(["sleep", "600"])
            raise ValueError(f"bad {count}")
        if int(count) < int(sys.argv[1]):
            time.sleep(600)
    """)  # fmt: skip
    done = place.run("--ranks-per-node=2", "--max-restarts=2", "x.py", "2")
    assert done.returncode == 0, done.stderr
    assert [done.stdout.count(f"met {n}") for n in range(3)] == [2, 2, 2]
    assert "bad 0" in done.stderr and "all ranks start again (2 of 2)" in done.stderr
    worse = place.run("--ranks-per-node=2", "--max-restarts=2", "x.py", "3")
    said = [line for line in worse.stderr.splitlines() if line.startswith("    |")]
    assert worse.returncode == 1 and said[-1] == "    | ValueError: bad 2"
    refused = place.run("--max-restarts=2", "x.py", "3")
    assert refused.returncode == 2 and "--ranks-per-node" in refused.stderr
