"""A question that is answered in a process of its own, because the answer needs somebody else's library.

A vendor's library starts threads and keeps device files open: processes that are forked later would be unsafe. Where a
driver is broken it hangs, or ends the process. Rejected: its command-line tool, which takes longer and
prints what is for people.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable
from typing import TypeVar

import msgspec

from hpc.core.node.process import fork_child

Answer = TypeVar("Answer")
#: Within this time an answer is there, or none is expected.
ANSWER_S = 15.0
#: How long a process that was killed may take to end: one that a driver holds ends when the driver lets it.
END_S = 0.5


class NotAnswered(Exception):
    """The process that was asked has ended without an answer, or has not answered in time."""


def ask_apart(question: Callable[[], Answer], kind: type[Answer], limit_s: float = ANSWER_S) -> Answer:
    """What the question answers in a child. NotAnswered says why there is none. For processes of one thread."""
    read, write = os.pipe()

    def tell() -> None:
        with os.fdopen(write, "wb") as pipe:
            pipe.write(msgspec.msgpack.encode(question()))

    try:
        pid = fork_child(tell, name="hpc-devices", keep=(write,))
    finally:
        os.close(write)
    try:
        heard, in_time = _hear(read, time.monotonic() + limit_s)
    finally:
        os.close(read)
        _end(pid)
    if not in_time:
        raise NotAnswered(f"no answer within {limit_s:g} s")
    try:
        return msgspec.msgpack.decode(heard, type=kind)
    except (msgspec.DecodeError, EOFError):
        raise NotAnswered("the process that asked has failed") from None


def _hear(fd: int, deadline: float) -> tuple[bytes, bool]:
    """All that comes until the other end is closed, and whether that was in time."""
    heard = b""
    while True:
        left_s = deadline - time.monotonic()
        if left_s <= 0 or not select.select([fd], [], [], left_s)[0]:
            return heard, False
        piece = os.read(fd, 1 << 16)
        if not piece:
            return heard, True
        heard += piece


def _end(pid: int) -> None:
    """Kill it if it still runs, and see to it that nothing is left: what is not gone yet is left to whoever reaps."""
    deadline = time.monotonic() + END_S
    killed = False
    while True:
        try:
            if os.waitpid(pid, os.WNOHANG)[0]:
                return
        except ChildProcessError:
            return
        if not killed:
            os.kill(pid, signal.SIGKILL)
            killed = True
        elif time.monotonic() > deadline:
            return
        time.sleep(0.001)
