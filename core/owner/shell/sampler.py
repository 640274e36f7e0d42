"""A profile of this process: its stacks, counted many times a second by a thread of its own while somebody asks for it.

A thread of the process may look at the frames of the others, so no ptrace is needed, which clusters forbid. Each stack
has the time that passed in it, and the time that its thread was on a CPU by the kernel's count. So code that waits is
told from code that computes. Code that holds the interpreter's lock in C is seen when it gives the lock up. Its CPU
time is not lost, but counts for the stack that is seen then.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from types import CodeType, FrameType
from typing import Any

from hpc.core.owner.shell.stacks import ENTRY, OURS, format_threads

#: The longest profile, and the most samples a second.
MOST_S, MOST_HZ = 120.0, 250.0
#: How soon code gives up the interpreter's lock meanwhile. With Python's own 5 ms most samples would fall where code
#: gives it up by itself, as at each look at a file.
SWITCH_S = 0.0005
#: Different stacks that are kept, and calls of one; time in further ones is counted together.
MOST_STACKS, MOST_CALLS = 2000, 100

#: The kernel's clock for the CPU time of one thread, by its number: what pthread_getcpuclockid reckons, and safe also
#: for a thread that has ended. Rejected: /proc/self/task/*/schedstat, which some kernels fill with zeros.
_CPU_CLOCK = 6

Stack = tuple[CodeType, ...]


class Sampler:
    """One profile of ``seconds`` at ``hz`` samples a second."""

    def __init__(self, seconds: float, hz: float) -> None:
        self.wanted_s = min(MOST_S, max(0.1, seconds))
        self._step_s = 1 / min(MOST_HZ, max(1.0, hz))
        self._times: dict[Stack, list[float]] = {}
        self._other = [0.0, 0.0]
        self._cpu_s: dict[int, float] = {}
        self._samples = 0
        self._passed_s = 0.0
        self._own_cpu_s = 0.0
        self._thread = threading.Thread(target=self._run, name="hpc-profile", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    @property
    def is_running(self) -> bool:
        """Whether it goes on."""
        return self._thread.is_alive()

    def row(self) -> dict[str, Any]:
        """What was seen until now: stacks as (calls with a ; between, seconds that passed, seconds on a CPU)."""
        stacks = [[";".join(map(_name, stack)), *times] for stack, times in list(self._times.items())]
        return {
            "pid": os.getpid(), "is_running": self.is_running, "samples": self._samples, "wanted_s": self.wanted_s,
            "passed_s": self._passed_s, "own_cpu_s": self._own_cpu_s, "stacks": stacks, "other": self._other,
        }  # fmt: skip

    def _run(self) -> None:
        before_s = sys.getswitchinterval()
        sys.setswitchinterval(min(before_s, SWITCH_S))
        try:
            self._look()
        finally:
            sys.setswitchinterval(before_s)

    def _look(self) -> None:
        begun_s = last_s = time.monotonic()
        next_s = begun_s
        while last_s - begun_s < self.wanted_s:
            # Not in step with code that does the same again and again.
            next_s = max(next_s + self._step_s * random.uniform(0.5, 1.5), last_s)
            time.sleep(max(0.0, next_s - last_s))
            now_s = time.monotonic()
            self._sample(now_s - last_s)
            self._samples += 1
            self._passed_s = now_s - begun_s
            self._own_cpu_s = time.thread_time()
            last_s = now_s

    def _sample(self, passed_s: float) -> None:
        natives = {thread.ident: thread.native_id for thread in threading.enumerate()}
        natives[threading.main_thread().ident] = os.getpid()  # a worker was forked: threading still has its parent's
        own = threading.get_ident()
        for ident, frame in sys._current_frames().items():
            if ident == own or not (stack := self._users(frame)):
                continue
            times = self._times.get(stack)
            if times is None:
                is_full = len(self._times) >= MOST_STACKS
                times = self._other if is_full else self._times.setdefault(stack, [0.0, 0.0])
            times[0] += passed_s
            times[1] += self._on_cpu_s(natives.get(ident))

    def _on_cpu_s(self, native: int | None) -> float:
        """How long a thread was on a CPU since the last sample; 0 at its first one, and where its number is unknown."""
        if native is None:
            return 0.0
        try:
            now_s = time.clock_gettime(~native << 3 | _CPU_CLOCK)
        except OSError:  # it has ended
            return 0.0
        before_s = self._cpu_s.get(native, now_s)
        self._cpu_s[native] = now_s
        return max(0.0, now_s - before_s)  # the number may be that of a new thread by now

    def _users(self, frame: FrameType | None) -> Stack:
        """The calls of the user's code and of what it calls, the outermost first; empty for a thread without any."""
        found: list[CodeType] = []
        has_users = False
        while frame is not None:
            code = frame.f_code
            name = str(frame.f_globals.get("__name__", ""))
            if (name, code.co_name) == ENTRY:
                break
            top = name.partition(".")[0]
            has_users = has_users or (top != OURS and top not in sys.stdlib_module_names)
            if top != OURS:
                found.append(code)
            elif not found:
                found.append(_WAITS)
            frame = frame.f_back
        return tuple(found[::-1][:MOST_CALLS]) if has_users else ()


def _waits_in_hpc() -> None:
    """Stands for the runtime's own calls below the user's, whatever they are."""


_WAITS = _waits_in_hpc.__code__


def _name(code: CodeType) -> str:
    """A call in words: its name, its file and the line of its definition."""
    if code is _WAITS:
        return "(waits in hpc)"
    name = getattr(code, "co_qualname", code.co_name).replace(";", ",")
    return f"{name} ({os.path.basename(code.co_filename)}:{code.co_firstlineno})"


_newest: Sampler | None = None


def process_rows(what: str) -> list[dict[str, Any]] | None:
    """What is asked of this process itself: "stack", "profile:SECONDS:HZ", which begins a profile unless one is being
    made, or "profile", which tells the newest one. None for any other question; no row where no thread can begin."""
    global _newest
    kind, *wanted = what.split(":")
    if kind == "stack":
        return [{"pid": os.getpid(), "text": format_threads(whole=False), "whole": format_threads(whole=True)}]
    if kind != "profile":
        return None
    if len(wanted) == 2 and not (_newest is not None and _newest.is_running):
        sampler = Sampler(float(wanted[0]), float(wanted[1]))
        try:
            sampler.start()
        except RuntimeError:  # no more threads: somebody else's wish to look must not end what this process does
            return []
        _newest = sampler
        return [{"pid": os.getpid(), "is_running": True}]
    return [] if _newest is None else [_newest.row()]
