"""Where the threads of this process are, as text: in the user's code, or in all."""

from __future__ import annotations

import sys
import threading
import traceback
from types import FrameType

#: The packages that are ours: `hpc` and what it was made of.
OURS = "hpc"
#: Where a worker enters what it runs for others.
ENTRY = ("hpc.core.worker.main", "worker_main")


def format_threads(*, whole: bool) -> str:
    """The stack of each Python thread, innermost call last; only what is the user's, unless ``whole``."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    parts = []
    for ident, frame in sys._current_frames().items():
        stack = _stack(frame)
        text = _format(stack) if whole else _format_users(stack)
        if text:
            parts.append(f"thread {names.get(ident, ident)}:\n{text}")
    return "\n".join(parts)


def _stack(frame: FrameType | None) -> list[tuple[FrameType, int]]:
    """The frames and their lines, outermost first."""
    found = []
    while frame is not None:
        found.append((frame, frame.f_lineno))
        frame = frame.f_back
    return found[::-1]


def _format(stack: list[tuple[FrameType, int]]) -> str:
    return "".join(traceback.StackSummary.extract(iter(stack), lookup_lines=True).format())


def _format_users(stack: list[tuple[FrameType, int]]) -> str:
    """What the user's code does; "" for a thread that has none of it."""
    modules = [str(frame.f_globals.get("__name__", "")) for frame, _ in stack]
    entries = [i for i, (frame, _) in enumerate(stack) if (modules[i], frame.f_code.co_name) == ENTRY]
    first = entries[-1] + 1 if entries else 0
    tops = [module.partition(".")[0] for module in modules]
    users = [i for i in range(first, len(stack)) if tops[i] != OURS and tops[i] not in sys.stdlib_module_names]
    if not users:
        return ""
    text = _format([stack[i] for i in range(first, len(stack)) if tops[i] != OURS])
    ours = [i for i in range(users[-1] + 1, len(stack)) if tops[i] == OURS]
    return text + (f"    (in {modules[ours[0]]}.{stack[ours[0]][0].f_code.co_name})\n" if ours else "")
