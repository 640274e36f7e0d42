"""Forked processes of a node, each tied to the process that made it.

`fork_child` gives the child what it needs and nothing else. It has its own log files, its signals are back to their
defaults, and it gets PR_SET_PDEATHSIG. Every other descriptor is closed: a sibling that inherits a socket keeps it from
ending. SIGINT is ignored: Ctrl-C at a terminal hits the whole foreground group, and only the launcher decides what it
means. That signal is sent when the forking *thread* ends, so only single threaded processes may fork with it. The child
then compares its parent, for the case that it died before the call.

Rejected: multiprocessing, whose resource tracker and semaphores outlive a kill -9. Rejected too: subprocess with
preexec_fn, which starts a new interpreter: 100 ms, and a storm of imports on a parallel file system.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from hpc.core.node.output import begin_logs, standard_streams

PR_SET_PDEATHSIG = 1
PR_SET_NAME = 15
PR_SET_CHILD_SUBREAPER = 36
NR_PIDFD_OPEN = 434  # the same on every architecture
LOST_PARENT = 81  # exit code of a child whose parent was gone before it was tied to it

#: What `redirect` has put in the place of sys.stdout and sys.stderr: good for the children of this process too.
_written_to: list[object] = []
_handled: list[int] | None = None

_libc = ctypes.CDLL(None, use_errno=True)
_prctl = _libc.prctl
_prctl.restype = ctypes.c_int
_prctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong]


def become_subreaper() -> None:
    """Orphans below this process become its children, not init's: none escapes by a double fork."""
    _call_prctl(PR_SET_CHILD_SUBREAPER, 1)


def die_with(parent: int, signum: int = signal.SIGKILL) -> None:
    """Send this process `signum` when its parent ends; end at once if that has happened already."""
    _call_prctl(PR_SET_PDEATHSIG, signum)
    if os.getppid() != parent:
        os._exit(LOST_PARENT)


def set_name(name: str) -> None:
    """The name in ps and top, at most 15 bytes."""
    buffer = ctypes.create_string_buffer(name.encode()[:15])
    _prctl(PR_SET_NAME, ctypes.addressof(buffer), 0, 0, 0)


def _call_prctl(option: int, value: int) -> None:
    if _prctl(option, value, 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"prctl({option}): {os.strerror(error)}")


def open_pidfd(pid: int) -> int | None:
    """A descriptor that is readable once the process has ended; None on a kernel before 5.3.

    ProcessLookupError if there is no such process. By the system call: Pythons built for old systems (conda's)
    have no os.pidfd_open.
    """
    fd: int = _libc.syscall(NR_PIDFD_OPEN, pid, 0)
    if fd >= 0:
        os.set_inheritable(fd, False)
        return fd
    if ctypes.get_errno() == errno.ESRCH:
        raise ProcessLookupError(errno.ESRCH, "no such process")
    return None


def thread_count() -> int:
    """How many threads this process has, those of C libraries too."""
    return len(os.listdir("/proc/self/task"))


def close_all_but(keep: Iterable[int]) -> None:
    """Close every descriptor except 0, 1, 2 and those in `keep`.

    By the list of those that are open. Without the system call (kernels before 5.9) os.closerange tries every number up
    to a limit that may be a thousand million.
    """
    kept = {0, 1, 2, *keep}
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in kept:
            try:
                os.close(int(name))
            except OSError:  # the descriptor of this very listing
                continue


def handled_signals() -> list[int]:
    """The signals for which this process has handlers made by Python."""
    return [signum for signum in signal.valid_signals() if callable(signal.getsignal(signum))]


def note_signals() -> None:
    """Remember which signals have handlers, for processes that fork often: none must be added after this."""
    global _handled
    _handled = handled_signals()


def reset_signals() -> None:
    """Handlers made by Python become defaults, SIGINT is ignored, and no wake-up descriptor is left."""
    signal.set_wakeup_fd(-1)
    for signum in _handled if _handled is not None else handled_signals():
        signal.signal(signum, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def signals_blocked() -> Iterator[None]:
    """Hold signals back, so that no handler of the parent runs in a child that was just forked."""
    old = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)


def redirect(stdout_path: str, stderr_path: str) -> None:
    """Stdin from /dev/null, stdout and stderr appended to files (one file if the paths are equal)."""
    null = os.open(os.devnull, os.O_RDONLY)
    out = os.open(stdout_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    err = out
    if stderr_path != stdout_path:
        err = os.open(stderr_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    for fd, target in ((null, 0), (out, 1), (err, 2)):
        os.dup2(fd, target)
    for fd in {null, out, err}:
        if fd > 2:
            os.close(fd)
    if _written_to != [sys.stdout, sys.stderr]:
        sys.stdout, sys.stderr = standard_streams()
        _written_to[:] = [sys.stdout, sys.stderr]
    begin_logs()


def flush_output() -> None:
    """Flush stdout and stderr, whatever state they are in."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # it may be the user's, or in the middle of a write
            continue


def fork_child(
    body: Callable[[], object],
    *,
    name: str,
    keep: Iterable[int] = (),
    log: tuple[str, str] | None = None,
    death_signal: int | None = signal.SIGKILL,
) -> int:
    """Fork a child that runs `body` and ends with its result as the exit code (None is 0).

    `keep` are the descriptors it needs besides 0 to 2, and `log` the files for its stdout and stderr. `death_signal` is
    what it gets when this process ends (None: nothing). Returns its pid.
    """
    parent = os.getpid()
    flush_output()
    with signals_blocked():
        pid = os.fork()
        if pid:
            return pid
        code = 1
        try:
            code = _run_child(body, name, keep, log, parent, death_signal)
        except BaseException:
            traceback.print_exc()
        finally:
            flush_output()
            os._exit(code)


def _run_child(
    body: Callable[[], object],
    name: str,
    keep: Iterable[int],
    log: tuple[str, str] | None,
    parent: int,
    death_signal: int | None,
) -> int:
    if death_signal is not None:
        die_with(parent, death_signal)
    if log is not None:
        redirect(*log)
    close_all_but(keep)
    reset_signals()
    set_name(name)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    try:
        result = body()
    except SystemExit as error:
        result = error.code
        if isinstance(result, str):
            print(result, file=sys.stderr)
            return 1
    return result if isinstance(result, int) else 0


def why_not_run(program: str, error: OSError) -> str:
    """Why a program could not be started. The kernel says of a script's interpreter what it would say of the script."""
    if error.errno == errno.ENOEXEC:
        return "it is no program of this machine, nor a script whose first line names an interpreter (#!/bin/bash)"
    if error.errno != errno.ENOENT or not os.path.exists(program):
        return error.strerror or str(error)
    try:
        with open(program, "rb") as file:
            first = file.readline(256)
    except OSError:
        first = b""
    if not first.startswith(b"#!"):
        return "the program that loads it is not on this machine"
    words = os.fsdecode(first[2:].rstrip(b"\n")).split()
    return f"its first line names {words[0] if words else 'nothing'!r}, which is not on this machine"
