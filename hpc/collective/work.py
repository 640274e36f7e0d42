"""Operations that go on while the caller does something else."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable


class Work:
    """An operation that was begun with ``async_op=True``."""

    def __init__(self) -> None:
        self._done = threading.Event()
        self._error: BaseException | None = None

    def wait(self, timeout: float | None = None) -> bool:
        """Until the operation is done, or ``timeout`` seconds have passed. Whether it is done.

        Raises what the operation has raised."""
        if not self._done.wait(timeout):
            return False
        if self._error is not None:
            raise self._error
        return True

    def is_completed(self) -> bool:
        """Whether it is done, well or not."""
        return self._done.is_set()

    def exception(self) -> BaseException | None:
        """What it has raised; None if it has not, or is not done."""
        return self._error

    def finish(self, error: BaseException | None) -> None:
        """The operation is done."""
        self._error = error
        self._done.set()


class Turns:
    """The operations of one group, one at a time and in the order of the calls, whichever threads make them."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._changed = threading.Condition(threading.Lock())
        self._waiting: deque[tuple[Callable[[], None], Work]] = deque()
        self._thread: threading.Thread | None = None
        self._closed = False

    def run(self, call: Callable[[], None]) -> None:
        """Do it now, after what was begun before."""
        if self._waiting:
            self.begin(call).wait()
            return
        with self._lock:
            if self._closed:
                raise RuntimeError("the group was destroyed")
            call()

    def begin(self, call: Callable[[], None]) -> Work:
        """Do it in the group's thread."""
        work = Work()
        with self._changed:
            if self._closed:
                raise RuntimeError("the group was destroyed")
            self._waiting.append((call, work))
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=f"collective {self._name}", daemon=True)
                self._thread.start()
            self._changed.notify()
        return work

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._waiting:
                    if self._closed:
                        return
                    self._changed.wait()
                call, work = self._waiting[0]
            error: BaseException | None = None
            try:
                with self._lock:
                    call()
            except BaseException as raised:
                error = raised
            with self._changed:
                # Only now: a call that comes meanwhile goes behind this one.
                self._waiting.popleft()
            work.finish(error)

    def close(self) -> None:
        """Take nothing more. What was begun is done first."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        # What another thread does now, in its own turn.
        with self._lock:
            pass


class Lanes:
    """The messages of one rank: in order to each rank and from each rank, and all of these beside the others.

    So two ranks may both begin to send before they begin to receive, as large as the messages are."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._lanes: dict[tuple[str, int], Turns] = {}
        self._closed = False

    def to(self, rank: int) -> Turns:
        """The messages that go to a rank."""
        return self._lane("to", rank)

    def source(self, rank: int) -> Turns:
        """The messages that come from a rank."""
        return self._lane("from", rank)

    def _lane(self, way: str, rank: int) -> Turns:
        lane = self._lanes.get((way, rank))
        if lane is None:
            with self._lock:
                lane = self._lanes.setdefault((way, rank), Turns(f"{self._name} {way} {rank}"))
                if self._closed:
                    lane.close()
        return lane

    def close(self) -> None:
        """Take nothing more. What was begun is done first."""
        with self._lock:
            self._closed = True
        for lane in list(self._lanes.values()):
            lane.close()
