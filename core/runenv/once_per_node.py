"""Things that are made once per node however many workers want them, and found again by the next ones.

A thing is a path, made under an flock on ``PATH.lock``; ``PATH.done`` says that it is whole. The lock ends with its
holder however it dies, and who comes next makes the thing anew. A failure is shared by all who waited while it happened
(``PATH.failed``). So a hundred workers do not run the same failing installer one after the other. A worker that comes
later tries again.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LOOK_S = 0.02


class SetupError(Exception):
    """A runtime environment cannot be made on this node; the text is for the user."""


class Deadline:
    """The end of the time that a set-up may take; no end where ``timeout_s`` is negative."""

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self.at = time.monotonic() + timeout_s if timeout_s >= 0 else float("inf")

    def left_s(self) -> float | None:
        """Seconds that are left, None for no limit. Raises SetupError when there are none."""
        left = self.at - time.monotonic()
        if left <= 0:
            raise SetupError(
                f"it took longer than {self.timeout_s:g} s; runtime_env['config']['setup_timeout_seconds'] is the limit"
            )
        return None if left == float("inf") else left


def made_once(path: str, make: Callable[[], None], deadline: Deadline) -> None:
    """Have ``make`` make ``path``, unless it is there. Raises SetupError, also if somebody else's attempt failed
    while this caller waited for it."""
    if os.path.exists(path + ".done") and os.path.exists(path):
        return
    asked = time.time()
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    with _locked(path + ".lock", deadline):
        if os.path.exists(path + ".done") and os.path.exists(path):
            return
        _raise_shared(path + ".failed", asked)
        try:
            make()
        except SetupError as error:
            write_whole(path + ".failed", str(error))
            raise
        write_whole(path + ".done", "")


def _raise_shared(path: str, asked: float) -> None:
    try:
        if os.stat(path).st_mtime >= asked:
            with open(path, encoding="utf-8") as file:
                raise SetupError(file.read())
    except FileNotFoundError:
        pass


def write_whole(path: str, text: str) -> None:
    """Write a file that others see whole or not at all; readable by this user only."""
    partial = f"{path}.{os.getpid()}"
    fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(partial, path)


@contextmanager
def _locked(path: str, deadline: Deadline) -> Iterator[None]:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SetupError(f"cannot open {path}: {error.strerror}") from None
    try:
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                deadline.left_s()
                time.sleep(LOOK_S)
            except OSError as error:
                raise SetupError(f"cannot lock {path}: {error.strerror}; HPC_ENV_CACHE names another place") from None
        yield
    finally:
        os.close(fd)
