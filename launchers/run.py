"""The one place that runs a scheduler's commands: bounded in time, never through a shell.

A controller may not answer, and a file system may stall. Everything that may hang gets a time limit here, so that no
caller can forget it. Rejected: a retry loop inside (callers know whether asking twice is harmless; submitting twice is
not).
"""

from __future__ import annotations

import fcntl
import os
import shlex
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO

QUERY_TIMEOUT_S = 20.0
SUBMIT_TIMEOUT_S = 60.0
PROBE_TIMEOUT_S = 5.0
WAITING_S = 3.0

_waiting: Callable[[float, str], object] | None = None


@dataclass(frozen=True)
class CommandAnswer:
    """What a command said. `code` is None when it did not end in time, 127 when there is no such command."""

    argv: tuple[str, ...]
    code: int | None
    out: str
    err: str
    timeout_s: float

    @property
    def ok(self) -> bool:
        return self.code == 0

    @property
    def missing(self) -> bool:
        return self.code == 127 and not self.out

    @property
    def timed_out(self) -> bool:
        return self.code is None

    def why(self) -> str:
        """The failure in one or two lines, quoting the command."""
        name = self.argv[0]
        if self.timed_out:
            return f"{name} did not answer within {self.timeout_s:g} s"
        said = "; ".join(line.strip() for line in (self.err or self.out).splitlines() if line.strip())
        return said[-600:] if said else f"{name} ended with {self.code} and said nothing"


def run_command(
    argv: Sequence[str],
    *,
    timeout_s: float = QUERY_TIMEOUT_S,
    text_in: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
) -> CommandAnswer:
    """Run one command to its end, or to its time limit, when it is killed. Never raises for what the command does."""
    whole = dict(os.environ if env is None else env)
    stdin = subprocess.DEVNULL if text_in is None else subprocess.PIPE
    try:
        process = subprocess.Popen(
            list(argv),
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=whole,
            cwd=cwd,
            start_new_session=True,  # a Ctrl-C at the terminal is ours to handle, not the command's
        )
    except (FileNotFoundError, PermissionError) as error:
        return CommandAnswer(tuple(argv), 127, "", f"{argv[0]}: {error.strerror}", timeout_s)
    with process:
        try:
            return _answer(process, tuple(argv), timeout_s, text_in)
        except BaseException:
            process.kill()
            raise


def _answer(
    process: subprocess.Popen[str], argv: tuple[str, ...], timeout_s: float, text_in: str | None
) -> CommandAnswer:
    began = time.monotonic()
    while True:
        waited = time.monotonic() - began
        step_s = timeout_s - waited if _waiting is None else min(timeout_s - waited, WAITING_S)
        try:
            out, err = process.communicate(text_in, timeout=max(0.0, step_s))
            return CommandAnswer(argv, process.returncode, out, err, timeout_s)
        except subprocess.TimeoutExpired as late:
            text_in = None  # it is on its way
            waited, said = time.monotonic() - began, _text(late.stderr)
            if waited >= timeout_s:
                process.kill()
                out, err = process.communicate()
                return CommandAnswer(argv, None, out, err, timeout_s)
            if _waiting is not None:
                _waiting(waited, next((line.strip() for line in reversed(said.splitlines()) if line.strip()), ""))


@contextmanager
def while_waiting(told: Callable[[float, str], object]) -> Iterator[None]:
    """Within, `told` is called every few seconds while a command has no answer. It hears how long the command is waited
    for, and the last line of its stderr. For a person at a terminal, of whom there is one."""
    global _waiting
    before, _waiting = _waiting, told
    try:
        yield
    finally:
        _waiting = before


def _text(raw: bytes | str | None) -> str:
    return raw.decode(errors="replace") if isinstance(raw, bytes) else raw or ""


def shown(argv: Sequence[str]) -> str:
    """A command line as a person would paste it."""
    return shlex.join(argv)


def readable_bytes(fd: int) -> int:
    """How many bytes wait in a pipe or a socket; 0 at its end."""
    return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, b"\0" * 4), sys.byteorder)


class Background:
    """A command whose end is not waited for: `poll()` gives its answer when it is there. Killed at its time limit."""

    def __init__(
        self, argv: Sequence[str], *, timeout_s: float = QUERY_TIMEOUT_S, env: Mapping[str, str] | None = None
    ):
        self.argv, self.timeout_s = tuple(argv), timeout_s
        import tempfile  # a run on nodes that are there does without

        self._out, self._err = tempfile.TemporaryFile(), tempfile.TemporaryFile()
        self._end_s = time.monotonic() + timeout_s
        self._failed: CommandAnswer | None = None
        try:
            self._process: subprocess.Popen[bytes] | None = subprocess.Popen(
                list(argv), stdin=subprocess.DEVNULL, stdout=self._out, stderr=self._err,
                env=dict(os.environ if env is None else env), start_new_session=True,
            )  # fmt: skip
        except (FileNotFoundError, PermissionError) as error:
            self._process = None
            self._failed = CommandAnswer(self.argv, 127, "", f"{argv[0]}: {error.strerror}", timeout_s)

    def poll(self) -> CommandAnswer | None:
        if self._process is None:
            return self._failed
        code = self._process.poll()
        if code is None and time.monotonic() < self._end_s:
            return None
        if code is None:
            self._process.kill()
            self._process.wait()
        self._process = None
        self._failed = CommandAnswer(self.argv, code, _whole(self._out), _whole(self._err), self.timeout_s)
        return self._failed

    def wait(self) -> CommandAnswer:
        """Its answer, which comes within its time limit."""
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(max(0.0, self._end_s - time.monotonic()))
        answer = self.poll()
        assert answer is not None
        return answer

    def said(self) -> str:
        """What it has written so far."""
        return _whole(self._err) + _whole(self._out)

    def close(self) -> None:
        """Forget it; what still runs is killed."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._out.close()
        self._err.close()


def _whole(file: IO[bytes]) -> str:
    """By its descriptor and from its beginning: a command that still writes shares the position of the file."""
    size = os.fstat(file.fileno()).st_size
    return os.pread(file.fileno(), size, 0).decode(errors="replace")
