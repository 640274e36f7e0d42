"""Batch inference beside a service: a file of requests, one in each line, and a file of answers, line by line the same.

Line n of the answers is the answer to line n of the requests. So the answers are their own ledger. After a
kill the lines that are whole have been answered, and the next run goes on behind them. Requests have a low priority:
replicas take them only into slots that others leave free.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

import msgspec

from hpc.serve.exceptions import BackPressureError, DeploymentUnavailableError, RayServeException

#: Below that of all other requests, which have 0.
LOW = -1
#: How many answers may wait for the one before them, for each request that runs.
AHEAD = 4
#: The answers are on disk after so many lines, or so many seconds.
SYNC_LINES, SYNC_S = 1000, 5.0
#: A try that failed is made again after this long, and twice as long each time.
FIRST_PAUSE_S = 0.25
LEDGER = ".ledger"
#: By this much of their beginning the requests are known again.
START_BYTES = 1 << 16


class LedgerError(RayServeException):
    """The answers that are there belong to other requests, or another run writes them."""


@dataclass(frozen=True)
class FileDone:
    """What became of a file: how many ``lines`` it has, with an error, and ``before``: of an earlier run."""

    lines: int
    errors: int
    before: int


class _Ledger(msgspec.Struct, frozen=True):
    """Of which requests a file has the answers. ``start``: a hash of the first bytes, as they may grow at the end."""

    deployment: str
    method: str
    start: str
    start_bytes: int


@dataclass(slots=True)
class _Line:
    """A line on its way."""

    number: int
    value: Any
    response: Any = None
    error: str = ""
    tries: int = 0


def answer_file(handle: Any, requests: str, answers: str, *, at_once: int = 64, retries: int = 2) -> FileDone:
    """Answer each line of a file of JSON by a deployment, beside what it serves. Run again after a kill, it goes on.

    handle: of the deployment, with its method; of one with ``stream=True`` the items become a list. requests: a path;
    line by line a JSON value, which is the argument. answers: a path; line n is {"line": n, "output": value}, or
    {"line": n, "error": text}, with n from 0. Empty lines have an answer too: an error. at_once: requests that are at
    the replicas at a time. retries: of a line whose request fails. Ray has no such name.

    Raises LedgerError where ``answers`` has those of other requests, or another run is at work on it; OSError."""
    if at_once < 1 or retries < 0:
        raise ValueError("at_once is 1 or more, and retries 0 or more")
    with open(requests, "rb") as source, open(answers + LEDGER, "a+b") as ledger:
        try:
            fcntl.flock(ledger, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # other errors: the file system has no locks
            raise LedgerError(f"another run writes {answers}") from None
        options = handle._handle_options
        is_new = not os.path.exists(answers) or not os.path.getsize(answers)
        _check(ledger, source, f"{handle.app_name}/{handle.deployment_name}", options.method_name, answers, is_new)
        with open(answers, "a+b") as out:
            before, errors = _whole_lines(out)
            run = _Run(handle.options(priority=LOW), out, at_once, retries)
            run.all(_behind(source, before))
            return FileDone(before + run.written, errors + run.errors, before)


def _check(ledger: IO[bytes], source: IO[bytes], deployment: str, method: str, answers: str, is_new: bool) -> None:
    """Raise LedgerError unless these are the requests whose answers are there; note them in a new ledger."""
    ledger.seek(0)
    data = ledger.read()
    if data and not is_new:
        try:
            known = msgspec.json.decode(data, type=_Ledger)
        except msgspec.MsgspecError:
            raise LedgerError(f"{answers}{LEDGER} is damaged: move {answers} away, and begin anew") from None
        start = source.read(known.start_bytes)
        same = _hash(start) == known.start and (known.deployment, known.method) == (deployment, method)
        if not same:
            raise LedgerError(f"{answers} has answers to other requests, or of {known.deployment}: name another file")
    elif not is_new:
        raise LedgerError(f"{answers} was not written here: name another file")
    else:
        start = source.read(START_BYTES)
        if b"\n" in start or len(start) < START_BYTES:  # the last line may grow yet
            start = start[: start.rfind(b"\n") + 1]
        ledger.truncate(0)
        ledger.write(msgspec.json.encode(_Ledger(deployment, method, _hash(start), len(start))))
        ledger.flush()
        os.fsync(ledger.fileno())
    source.seek(0)


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _whole_lines(out: IO[bytes]) -> tuple[int, int]:
    """How many lines are whole, and how many of them are errors; what is behind them is cut off."""
    out.seek(0)
    count = errors = end = 0
    for line in out:
        try:
            found = json.loads(line) if line.endswith(b"\n") else None
        except ValueError:
            found = None
        if not isinstance(found, dict) or found.get("line") != count:
            break
        errors += "error" in found
        count, end = count + 1, end + len(line)
    out.truncate(end)
    out.seek(0, os.SEEK_END)
    return count, errors


def _behind(source: IO[bytes], before: int) -> Iterator[_Line]:
    """The lines that have no answer yet."""
    for number, line in enumerate(source):
        if number >= before:
            try:
                yield _Line(number, json.loads(line))
            except (ValueError, RecursionError) as error:
                yield _Line(number, None, error=f"no JSON: {error}", tries=-1)


class _Run:
    """One run over the lines: those that are at the replicas, and answers that wait for the ones before them."""

    def __init__(self, handle: Any, out: IO[bytes], at_once: int, retries: int) -> None:
        self._handle = handle
        self._streams = handle._handle_options.stream
        self._out = out
        self._at_once = at_once
        self._retries = retries
        self._lines: deque[_Line] = deque()
        self._unsynced = 0
        self._synced_at = time.monotonic()
        self.written = self.errors = 0

    def all(self, lines: Iterator[_Line]) -> None:
        """Answer them all."""
        is_more = True
        while is_more or self._lines:
            while is_more and self._has_room():
                line = next(lines, None)
                if line is None:
                    is_more = False
                else:
                    self._send(line)
                    self._lines.append(line)
            if self._lines:
                self._write(self._lines.popleft())
        self._sync()

    def _has_room(self) -> bool:
        """Whether one more may be sent: the oldest is waited for, and answers behind it are kept here meanwhile."""
        if len(self._lines) < self._at_once:
            return True
        if self._streams or len(self._lines) >= AHEAD * self._at_once:
            return False
        running = sum(1 for line in self._lines if line.response is not None and not line.response._call.is_over)
        return running < self._at_once

    def _send(self, line: _Line) -> None:
        if line.tries < 0:
            return
        line.tries += 1
        line.response = None
        try:
            line.response = self._handle.remote(line.value)
        except DeploymentUnavailableError:
            raise
        except Exception as error:  # its value cannot be sent
            line.error = _said(error)

    def _write(self, line: _Line) -> None:
        """Wait for an answer, and write it behind those before it."""
        told: dict[str, Any] = {"line": line.number}
        try:
            told["output"] = self._outcome(line)
            data = json.dumps(told, allow_nan=False)
        except _NoOutcome as error:
            data = json.dumps({"line": line.number, "error": str(error)})
        except (TypeError, ValueError, RecursionError) as error:
            data = json.dumps({"line": line.number, "error": f"the answer is no JSON: {error}"})
        self.errors += '"output"' not in data[:40]
        self._out.write(data.encode() + b"\n")
        self._out.flush()
        self.written += 1
        self._unsynced += 1
        if self._unsynced >= SYNC_LINES or time.monotonic() - self._synced_at >= SYNC_S:
            self._sync()

    def _outcome(self, line: _Line) -> Any:
        pause_s = FIRST_PAUSE_S
        while line.tries >= 0:
            waits = False
            try:
                if line.response is not None:
                    return list(line.response) if self._streams else line.response.result()
            except DeploymentUnavailableError:
                raise  # there is nobody to answer this or any other line: the run ends, and can be gone on with
            except Exception as error:
                line.error, waits = _said(error), isinstance(error, BackPressureError)
            if line.tries > self._retries and not waits:
                break
            time.sleep(pause_s)
            pause_s = min(10.0, 2 * pause_s)
            self._send(line)
        raise _NoOutcome(line.error)

    def _sync(self) -> None:
        os.fsync(self._out.fileno())
        self._unsynced, self._synced_at = 0, time.monotonic()


def _said(error: Exception) -> str:
    """An error in one line; its text may be empty, or all of it white."""
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[-1]}"


class _NoOutcome(Exception):
    """A line has no answer, for this reason."""
