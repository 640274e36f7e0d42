"""Which process of a pool gets which chunk: one thread that owns all of the pool's state.

Everything comes to it as an event: chunks that were submitted, replies, the wish to end. So there are no locks, and
the callbacks of results run on this thread, as they run on one thread of the standard library's pool.
"""

from __future__ import annotations

import queue
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any

import hpc
from hpc.exceptions import ActorDiedError, ActorError, HpcError, SessionLostError
from hpc.util.multiprocessing.worker import Outcome

#: Called with the outcomes of a chunk, or with the error that it met as a whole.
Finish = Callable[[list[Outcome], BaseException | None], None]
#: How long a pool that is closed waits for its processes to end by themselves.
GRACE_S = 5.0


@dataclass(slots=True)
class Chunk:
    """Items for one function. ``function`` may be the reference of one; chunks of one ``key`` have the same."""

    key: str
    function: Any
    how: int
    items: list[Any]
    finish: Finish


@dataclass(eq=False, slots=True)
class Process:
    """An actor of the pool, its place (which node it is meant for), and how many chunks it has been given."""

    place: int
    actor: Any
    chunks: int = 0
    running: Chunk | None = None


class Dispatcher:
    """The thread of a pool over these actors. ``make(place)`` makes another one for a place; that happens where one has
    died, and after ``most`` chunks (None: never). Without ``make`` (in a copy of a pool) one that has died is gone."""

    def __init__(self, make: Callable[[int], Any] | None, actors: list[Any], most: int | None) -> None:
        self.make = make
        self.most = most
        self.waiting: deque[Chunk] = deque()
        self.processes = [Process(place, actor) for place, actor in enumerate(actors)]
        self.idle = list(reversed(self.processes))
        self.leaving: list[Any] = []
        self.shared = False
        self.closing = False
        self.ended = False
        self.gone = False
        self.events: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._run, name="hpc-pool", daemon=True)

    def wait_ready(self) -> None:
        """Wait until all processes have run their initializer, and raise what one of them raised."""
        try:
            hpc.get([process.actor.__ray_ready__.remote() for process in self.processes])
        except BaseException:
            self._kill()
            raise

    def start(self) -> None:
        """Begin."""
        self.thread.start()

    # What any thread may call.

    def submit(self, chunk: Chunk) -> None:
        """Run a chunk when a process is free."""
        self.events.put(partial(self._submit, chunk))
        if self.gone:
            self._drain()

    def close(self) -> None:
        """End once all chunks are done."""
        self.events.put(self._close)

    def terminate(self) -> None:
        """End now: chunks that run or wait fail."""
        self.events.put(self._terminate)

    def share(self) -> list[Any]:
        """The actors, for a copy of the pool elsewhere: they live on when this pool is dropped, as long as one has
        them."""
        self.shared = True
        return [process.actor for process in self.processes]

    def drop(self) -> None:
        """The pool is gone without a word: its processes end, unless other copies of it have them."""
        self.events.put(self._leave_to_others if self.shared else self._terminate)

    def join(self) -> None:
        """Wait until the processes have ended."""
        if threading.current_thread() is self.thread:
            raise RuntimeError("a callback of a pool cannot wait for the pool's end")
        self.thread.join()

    # What the thread does.

    def _run(self) -> None:
        while not self.ended:
            self.events.get()()
            if self.closing and not self.waiting and not any(process.running for process in self.processes):
                self._leave()
        self.gone = True
        self._drain()

    def _drain(self) -> None:
        """What is submitted after the end fails: here, or in the thread that came too late."""
        while True:
            try:
                event = self.events.get_nowait()
            except queue.Empty:
                return
            event()

    def _submit(self, chunk: Chunk) -> None:
        if self.ended:
            _finish(chunk, [], ActorDiedError("the pool was terminated"))
            return
        if not self.processes:
            _finish(chunk, [], ActorDiedError("the processes of the pool have ended"))
            return
        self.waiting.append(chunk)
        self._assign()

    def _assign(self) -> None:
        while self.waiting and self.idle:
            chunk, process = self.waiting.popleft(), self.idle.pop()
            try:
                future = process.actor.run.remote(chunk.key, chunk.function, chunk.how, chunk.items).future()
            except Exception as error:
                self.idle.append(process)
                _finish(chunk, [], error if hpc.is_initialized() else SessionLostError("the pool's session has ended"))
                continue
            process.running = chunk
            process.chunks += 1
            future.add_done_callback(partial(self._reply, process, chunk))

    def _reply(self, process: Process, chunk: Chunk, future: Future[list[Outcome]]) -> None:
        """On a thread of the runtime, which must not be held up."""
        self.events.put(partial(self._done, process, chunk, future))

    def _done(self, process: Process, chunk: Chunk, future: Future[list[Outcome]]) -> None:
        if process.running is not chunk:
            return  # given up by terminate
        process.running = None
        error = future.exception()
        broken = isinstance(error, ActorError)
        if broken and self.make is None:
            self._lose(process)
        else:
            if self.make is not None and (broken or (self.most is not None and process.chunks >= self.most)):
                self._replace(process, broken, self.make)
            self.idle.append(process)
        self._assign()
        _finish(chunk, [] if error is not None else future.result(), error)

    def _lose(self, process: Process) -> None:
        self.processes.remove(process)
        if not self.processes:
            failed = list(self.waiting)
            self.waiting.clear()
            for chunk in failed:
                _finish(chunk, [], ActorDiedError("the processes of the pool have ended"))

    def _replace(self, process: Process, broken: bool, make: Callable[[int], Any]) -> None:
        try:
            if not broken:
                self.leaving.append(process.actor.__ray_terminate__.remote())
            process.actor = make(process.place)
            process.chunks = 0
        except HpcError as error:
            print(f"hpc: a process of a pool could not be replaced: {error}", file=sys.stderr)

    def _close(self) -> None:
        self.closing = True

    def _leave(self) -> None:
        """All is done: the processes end by themselves."""
        self.ended = True
        try:
            self.leaving += [process.actor.__ray_terminate__.remote() for process in self.processes]
            if hpc.wait(self.leaving, num_returns=len(self.leaving), timeout=GRACE_S)[1]:
                self._kill()
        except HpcError:
            pass  # the session is gone, and they with it
        self._forget()

    def _terminate(self) -> None:
        if self.ended:
            return
        self.ended = True
        self._kill()
        failed = [*(process.running for process in self.processes), *self.waiting]
        self._forget()
        for chunk in failed:
            if chunk is not None:
                _finish(chunk, [], ActorDiedError("the pool was terminated"))

    def _leave_to_others(self) -> None:
        if not self.ended:
            self.ended = True
            self._forget()

    def _kill(self) -> None:
        for process in self.processes:
            try:
                hpc.kill(process.actor)
            except (HpcError, ValueError):
                return  # the session of the pool has ended, and they with it

    def _forget(self) -> None:
        self.waiting.clear()
        self.idle.clear()
        self.leaving.clear()
        for process in self.processes:
            process.running = process.actor = None
        self.processes = []


def _finish(chunk: Chunk, outcomes: list[Outcome], error: BaseException | None) -> None:
    try:
        chunk.finish(outcomes, error)
    except Exception:
        print("hpc: the callback of a pool's result raised:", file=sys.stderr)
        traceback.print_exc()
