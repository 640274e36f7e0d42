"""Where the threads of this process are, as text."""

from __future__ import annotations

import sys
import threading
import traceback


def format_threads() -> str:
    """The stack of each Python thread, innermost call last."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    parts = []
    for ident, frame in sys._current_frames().items():
        stack = "".join(traceback.format_stack(frame))
        parts.append(f"thread {names.get(ident, ident)}:\n{stack}")
    return "\n".join(parts)
