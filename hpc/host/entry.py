"""A job's entrypoint in a process of its own, below one that ends all of it.

The outer process (`hpc-job`) does nothing but wait. It is a subreaper, so what the entrypoint starts and leaves behind
is ended. That is when the entrypoint ends, when the job is stopped, or when the session's host dies. The entrypoint has
a session and process group of its own, and its output goes to the job's log.
"""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Mapping

from hpc.core.node.process import become_subreaper, fork_child
from hpc.core.node.reap import descendants, end_descendants, reap_ended, signal_all

CANNOT_RUN = 126
END_TIMEOUT_S = 10.0


def start_entrypoint(command: str, cwd: str, env: Mapping[str, str], log: str, grace_s: float) -> int:
    """Start the outer process; return its pid. SIGTERM ends the job, by force after `grace_s`. It ends as the
    entrypoint has ended: with its exit code, or by the same signal."""
    return fork_child(
        lambda: _run(command, cwd, env, grace_s), name="hpc-job", log=(log, log), death_signal=signal.SIGTERM
    )


def _execute(command: str, cwd: str, env: Mapping[str, str]) -> int:
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        os.chdir(cwd)
        os.execve("/bin/sh", ["sh", "-c", command], dict(env))
    except OSError as error:
        os.write(2, f"hpc: the entrypoint cannot be started in {cwd}: {error.strerror}\n".encode())
    return CANNOT_RUN


def _run(command: str, cwd: str, env: Mapping[str, str], grace_s: float) -> int:
    become_subreaper()
    watched = {signal.SIGTERM, signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    child = fork_child(lambda: _execute(command, cwd, env), name="hpc-entry")
    deadline: float | None = None
    while True:
        for pid, status in reap_ended()[0]:
            if pid == child:
                end_descendants(END_TIMEOUT_S)
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else _end_by(-code)
        left_s = 3600.0 if deadline is None else max(0.0, deadline - time.monotonic())
        came = signal.sigtimedwait(watched, left_s)
        if came is not None and came.si_signo == signal.SIGTERM and deadline is None:
            deadline = time.monotonic() + grace_s
            signal_all(descendants(os.getpid()), signal.SIGTERM)
        elif came is None and deadline is not None:
            signal_all(descendants(os.getpid()), signal.SIGKILL)
            deadline = time.monotonic() + 1.0


def _end_by(signum: int) -> int:
    """End this process by the signal, so that its parent sees that and no number which a shell could have given."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # what there was to see died with the entrypoint
    if signum != signal.SIGKILL:
        signal.signal(signum, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signum})
    os.kill(os.getpid(), signum)
    return 128 + signum  # a signal that ends nobody
