"""The ids by which tasks stand in a trace of OpenTelemetry, and W3C's text form of them (`traceparent`). Pure.

An id is made of what all processes know: the session's name and the task's own id. So nothing travels with a task, and
whoever exports its span later finds the same id as the code that ran in it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import NamedTuple

#: The variable by which a program hands its trace to those that it starts.
VARIABLE = "TRACEPARENT"
_FORM = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")


class Trace(NamedTuple):
    """A trace, and the span below which a session stands; 0: it stands below none."""

    trace: int
    above: int = 0
    is_sampled: bool = True


def parsed(text: str) -> Trace | None:
    """A traceparent; None for what is none, as W3C says."""
    text = text.strip()
    found = _FORM.match(text)
    if found is None:
        return None
    more = text[found.end() :]  # of versions that come later
    if more and (text.startswith("00") or not more.startswith("-")):
        return None
    return Trace(int(found[1], 16), int(found[2], 16), bool(int(found[3], 16) & 1))


def trace_of(session: str, environ: Mapping[str, str]) -> Trace:
    """The trace of a session: that which its environment names, else one of its own."""
    return parsed(environ.get(VARIABLE, "")) or Trace(_number(f"trace {session}", 16))


def session_span(session: str) -> int:
    """The span of the session as a whole."""
    return _number(f"session {session}", 8)


def task_span(session: str, task: str, attempt: int) -> int:
    """The span of an attempt of a task, whose id is hexadecimal."""
    return _number(f"task {session} {task} {attempt}", 8)


def traceparent(trace: Trace, span: int) -> str:
    """W3C's text form of a span in a trace."""
    return f"00-{trace.trace:032x}-{span:016x}-{int(trace.is_sampled):02x}"


def _number(text: str, size: int) -> int:
    """A number that is not 0, which means nothing, of so many bytes."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:size], "big") or 1
