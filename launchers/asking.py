"""One question to a scheduler from within a session's loop, which does not wait for the answer."""

from __future__ import annotations

import time
from collections.abc import Callable

from hpc.launchers.loop import SessionLoop
from hpc.launchers.scheduler import Inquiry, JobInfo

#: Where something has to be decided, an answer is waited for at most this time.
PATIENCE_S = 3.0
POLL_S = 0.05


def ask(loop: SessionLoop, question: Inquiry, then: Callable[[JobInfo | None], object]) -> None:
    """Call ``then`` with the answer, or with None where there is none in time."""
    until_s = time.monotonic() + PATIENCE_S

    def look() -> None:
        news = question.poll()
        info = news.info if news is not None else None
        if info is None and not question.over and time.monotonic() < until_s:
            loop.at(time.monotonic() + POLL_S, look)
            return
        question.close()
        then(info)

    look()
