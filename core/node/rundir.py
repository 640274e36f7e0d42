"""The directory of one node of one session: made, marked as alive, removed, and swept when its owner died.

`<base>/hpc-<uid>-<session>-<node>`, 0700, on node-local disk. It holds the sockets (whose path must stay
under 100 bytes: the kernel takes 107), the logs and session.json. Nothing in it is secret.

An flock on the file `lock`, held by the supervisor, tells that a node is alive. It ends with the supervisor however
that dies. It also tells across PID namespaces (containers that share /tmp), which a process id in a file does not. A
directory whose lock is free was left by a kill that took everything at once: a scheduler's, or the OOM killer's. So was
one that has no lock any more: that kill came while it was being removed. The next supervisor of the same user removes
it. A process that looks whether a lock is free shares the lock. So two that look at the same time do not take each
other for its owner.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import stat
import time
from collections.abc import Mapping

from msgspec import Struct

from hpc.core.variables import TMPDIR, named, text

MAX_SOCKET_PATH = 99
LONGEST_SOCKET = "w9999999.sock"
UNNAMED = ".new"  # at the end of the name while the directory is made
UNNAMED_AGE_S = 3600.0  # after that nobody is making it any more
STAGED = ".stage"  # at the end of the name of a folder with an environment, which a launcher made for a node
_NAME = re.compile(r"hpc-(\d+)-[0-9A-Za-z]+-\d+(\.new|\.stage)?\Z")


class RunDirError(Exception):
    """The directory cannot be made; the text says what to do."""


class RunDir(Struct, frozen=True):
    """A made directory and the descriptor that holds its lock."""

    path: str
    lock_fd: int


def dir_name(session: str, node: int) -> str:
    """The last part of the path of a node's directory."""
    return f"hpc-{os.getuid()}-{session}-{node}"


def choose_base(session: str, node: int, option: str | None, environ: Mapping[str, str]) -> str:
    """Where the directory goes: the option, $HPC_TMPDIR (Ray's name too), $TMPDIR if it is usable and short, or /tmp.

    What the user chose must be usable, else RunDirError; $TMPDIR is often set for another machine.
    """
    name = dir_name(session, node)
    for source, base in (("base_dir", option), (named(TMPDIR, environ), text(TMPDIR, environ))):
        if base:
            problem = _problem(base, name)
            if problem:
                raise RunDirError(f"{source}={base}: {problem}")
            return os.path.abspath(base)
    tmpdir = environ.get("TMPDIR")
    if tmpdir and not _problem(tmpdir, name):
        return os.path.abspath(tmpdir)
    problem = _problem("/tmp", name)
    if problem:
        raise RunDirError(f"/tmp: {problem}; choose a node-local directory with HPC_TMPDIR")
    return "/tmp"


def _problem(base: str, name: str) -> str | None:
    longest = os.path.join(os.path.abspath(base), name, LONGEST_SOCKET)
    if len(os.fsencode(longest)) > MAX_SOCKET_PATH:
        room = MAX_SOCKET_PATH - len(name) - len(LONGEST_SOCKET) - 2
        return f"too long for socket paths, at most {room} bytes are possible"
    if not os.path.isdir(base):
        return "no such directory"
    if not os.access(base, os.W_OK | os.X_OK):
        return "not writable for this user"
    return None


def make(base: str, session: str, node: int) -> RunDir:
    """Make the directory with its lock and logs folder, and check that it is ours.

    It gets its name when the lock is held: a sweep that sees the name never finds the lock free while we live.
    """
    path = os.path.join(base, dir_name(session, node))
    unnamed = path + UNNAMED
    try:
        os.mkdir(unnamed, 0o700)
        os.chmod(unnamed, 0o700)
        found = os.lstat(unnamed)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
            raise RunDirError(f"{unnamed}: owner or mode changed under us; is its parent safe?")
        lock_fd = os.open(os.path.join(unnamed, "lock"), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.mkdir(os.path.join(unnamed, "logs"), 0o700)
        os.rename(unnamed, path)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
            raise RunDirError(f"{path} exists: a session of that name runs here")
        raise RunDirError(f"{path}: {error.strerror}")
    return RunDir(path, lock_fd)


def own(path: str) -> int:
    """Take over a folder that was made for this node: it is swept once this process, which has its lock, is gone.

    Returns the descriptor that holds the lock.
    """
    partial = os.path.join(path, f"lock.{os.getpid()}")
    lock_fd = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.rename(partial, os.path.join(path, "lock"))
    return lock_fd


def describe(run_dir: str, facts: Mapping[str, object]) -> None:
    """Write session.json, whole or not at all."""
    path = os.path.join(run_dir, "session.json")
    partial = path + ".part"
    fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "w") as file:
        json.dump(dict(facts), file)
    os.replace(partial, path)


def described(run_dir: str) -> dict[str, object]:
    """What session.json of a node says; OSError or ValueError where there is none that can be read."""
    with open(os.path.join(run_dir, "session.json"), encoding="utf-8") as file:
        facts: dict[str, object] = json.load(file)
    return facts


def remove(path: str) -> None:
    """Remove a directory and all below it, following no link; what is gone already is no error."""
    try:
        entries = list(os.scandir(path))
    except OSError:
        return
    for entry in entries:
        try:
            if entry.is_dir(follow_symlinks=False):
                remove(entry.path)
            else:
                os.unlink(entry.path)
        except OSError:
            continue
    try:
        os.rmdir(path)
    except OSError:
        return


def sweep(base: str) -> list[str]:
    """Remove the directories in `base` that dead supervisors of this user left; return their paths."""
    swept: list[str] = []
    try:
        entries = list(os.scandir(base))
    except OSError:
        return swept
    for entry in entries:
        match = _NAME.match(entry.name)
        if match is None or int(match[1]) != os.getuid() or not _is_ours(entry):
            continue
        if _is_dead(entry.path):
            remove(entry.path)
            swept.append(entry.path)
    return swept


def _is_ours(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_uid == os.getuid()
    except OSError:
        return False


def is_alive(path: str) -> bool:
    """Whether a directory is this user's alone and its owner runs."""
    try:
        found = os.lstat(path)
    except OSError:
        return False
    ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077
    return ours and os.path.exists(os.path.join(path, "lock")) and not _is_dead(path)


def _is_dead(path: str) -> bool:
    try:
        unlocked = path.endswith(STAGED) and not os.path.exists(os.path.join(path, "lock"))
        if path.endswith(UNNAMED) or unlocked:
            return time.time() - os.stat(path).st_mtime > UNNAMED_AGE_S
        fd = os.open(os.path.join(path, "lock"), os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return os.path.isdir(path)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def live_sessions(environ: Mapping[str, str] | None = None) -> list[dict[str, object]]:
    """What session.json says of each node of this user's whose raylet listens on this machine, with its "dir"."""
    environ = os.environ if environ is None else environ
    found: list[dict[str, object]] = []
    for base in sorted({text(TMPDIR, environ) or "/tmp", environ.get("TMPDIR") or "/tmp", "/tmp"}):
        try:
            entries = list(os.scandir(base))
        except OSError:
            continue
        for entry in entries:
            if not _is_ours(entry) or _is_dead(entry.path):
                continue
            try:
                facts = described(entry.path)
            except (OSError, ValueError):
                continue
            if os.path.exists(os.path.join(entry.path, "raylet.sock")):
                found.append({**facts, "dir": entry.path})
    return found
