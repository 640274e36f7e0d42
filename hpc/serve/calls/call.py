"""A request on its way: where it is, who waits for it, and how its answer is had.

Any thread may wait, or any event loop; the thread that reads the answer from the socket wakes them. A thread that
waits for a request that was sent waits for the call of the actor. It reads the answer itself, and no other thread
hands it over.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import hpc
from hpc import spi
from hpc.exceptions import ActorDiedError, ActorUnavailableError, GetTimeoutError, RayTaskError, TaskCancelledError
from hpc.serve.calls.router import Request
from hpc.serve.context import remove_child
from hpc.serve.exceptions import ReplicaDiedError, RequestCancelledError
from hpc.serve.messages import Rejected, RequestMeta

if TYPE_CHECKING:
    from hpc.serve.calls.ports import Routes

Kind = Literal["call", "stream", "http"]
_numbers = itertools.count(1)
#: Held while a waiter is added or all are taken, and over nothing else. A finalizer may come in between.
_waiting = threading.RLock()
#: A thread that waits for a replica looks so often whether the request has left it, since it was silent.
LOOK_S = 0.25
TIMED_OUT = "Timed out resolving to ObjectRef."


class _Missing:
    """Stands for no value."""


MISSING: Any = _Missing()


def is_death(error: BaseException) -> bool:
    """Whether a call has failed since its actor is gone, and not since its code has raised that."""
    return isinstance(error, (ActorDiedError, ActorUnavailableError)) and not isinstance(error, RayTaskError)


class Call(Request):
    """A request with its arguments. ``ref``: the call of the actor that has it now. ``is_accepted``: a stream's first
    word has come. ``is_over``: there is an answer, or an error; of a stream, its first word."""

    __slots__ = (
        "args", "error", "family", "generator", "is_accepted", "is_begun", "is_cancelled", "is_over", "is_safe", "kind",
        "kwargs", "latch", "meta", "parent", "ref", "router", "sent_at", "serial", "waiters",
    )  # fmt: skip

    def __init__(
        self,
        router: Routes,
        kind: Kind,
        meta: RequestMeta,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        parent: str = "",
        is_safe: bool = False,
        deadline: float | None = None,
    ) -> None:
        super().__init__(meta.multiplexed_model_id, meta.session_id, meta.priority, deadline)
        self.router = router
        self.kind = kind
        self.meta = meta
        self.args = args
        self.kwargs = kwargs
        self.parent = parent
        self.is_safe = is_safe
        self.serial = next(_numbers)
        #: The handles by one of which it was made.
        self.family: object = None
        self.ref: Any = None
        self.generator: Any = None
        self.error: BaseException | None = None
        self.is_over = False
        self.is_accepted = False
        self.is_cancelled = False
        self.sent_at = 0.0
        #: Whether the replica may have begun it, as far as is known.
        self.is_begun = True
        self.latch: Any = None
        self.waiters: list[Callable[[], None]] | None = None

    # -------------------------------------------------------------- its end

    def finish(self, error: BaseException | None = None) -> None:
        """There is an answer (``ref`` has it), or an error. The router's lock is not needed."""
        if self.is_over:
            return
        self.error = error
        self.is_over = True
        if self.kind != "stream" or error is not None:
            self.forget()
        self.args, self.kwargs = (), {}
        self.stir()

    def forget(self) -> None:
        """Its parent has nothing to cancel any more."""
        if self.parent:
            remove_child(self.parent, self.serial)

    def stir(self) -> None:
        """Wake all that wait: it is over, or it was sent."""
        latch, self.latch = self.latch, None
        if latch is not None:
            latch.open()
        if self.is_over:
            with _waiting:
                waiters, self.waiters = self.waiters, None
            for waiter in waiters or ():
                waiter()

    def when_over(self, waiter: Callable[[], None]) -> None:
        """Call ``waiter`` once it is over; from any thread, or at once."""
        with _waiting:
            if not self.is_over:
                if self.waiters is None:
                    self.waiters = []
                self.waiters.append(waiter)
                return
        waiter()

    # -------------------------------------------------------------- waiting

    async def settled(self) -> None:
        """Until it is over. Where the coroutine is cancelled while the request still waits, it is withdrawn."""
        if self.is_over:
            return
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        thread = threading.get_ident()

        def wake() -> None:
            if threading.get_ident() == thread:
                _resolve(future)
            elif not loop.is_closed():
                loop.call_soon_threadsafe(_resolve, future)

        self.when_over(wake)
        try:
            await future
        except asyncio.CancelledError:
            if self.state == "queued":
                self.router.cancel(self)
            raise

    def wait(self, timeout_s: float | None) -> Any:
        """Until it is over, in this thread. Returns the value of a unary call where it is had on the way, else MISSING.
        Raises TimeoutError, and what the call has raised."""
        until = None if timeout_s is None else time.monotonic() + timeout_s
        while not self.is_over:
            ref = self.ref if self.kind != "stream" else None
            if ref is None:
                self._wait_for_news(until)
                continue
            left = _left(until)
            try:
                value = hpc.get(ref, timeout=LOOK_S if left is None else min(LOOK_S, left))
            except GetTimeoutError as error:
                if isinstance(error, RayTaskError):
                    raise
                if left is not None and left <= LOOK_S:
                    raise GetTimeoutError(f"the request has no answer after {timeout_s} s") from None
            except TaskCancelledError:
                self.router.answered(self, ref)
            except (ActorDiedError, ActorUnavailableError) as error:
                if not is_death(error):
                    raise
                self.router.answered(self, ref)
            else:
                if type(value) is not Rejected:
                    return value
                self.router.answered(self, ref)
        return MISSING

    def _wait_for_news(self, until: float | None) -> None:
        with self.router.lock:
            if self.is_over or (self.ref is not None and self.kind != "stream"):
                return
            latch = self.latch
            if latch is None:
                latch = self.latch = spi.latch()
        if self.is_over:
            return  # it was over before the latch was there, so nobody opens it
        try:
            hpc.get(latch.ref, timeout=_left(until))
        except GetTimeoutError:
            raise TimeoutError(TIMED_OUT) from None

    def value(self) -> Any:
        """The answer of a unary call that is over. Raises what the call has raised."""
        if self.error is not None:
            raise self.error
        return hpc.get(self.ref)

    def argument(self) -> Any:
        """The answer as an argument of another call: a reference, so that a large value need not come here."""
        if self.error is not None and self.ref is None:
            raise self.error
        return self.ref

    async def next_item(self) -> Any:
        """The next item of a stream that has begun. Raises StopAsyncIteration, and what its code has raised."""
        ref = await self.generator.__anext__()
        return self._item(ref)

    def next_item_sync(self) -> Any:
        """The same in a thread; StopIteration at the end."""
        return self._item(next(self.generator))

    def _item(self, ref: Any) -> Any:
        try:
            return hpc.get(ref)
        except BaseException as error:
            if self.is_cancelled and isinstance(error, TaskCancelledError):
                raise self.cancelled_error() from None
            if is_death(error):
                name = str(self.router.deployment_id)
                raise ReplicaDiedError(self.meta.request_id, name, str(error)) from None
            raise

    def cancelled_error(self) -> RequestCancelledError:
        """What is raised where it was cancelled."""
        return RequestCancelledError(self.meta.request_id)


def _left(until: float | None) -> float | None:
    return None if until is None else max(0.0, until - time.monotonic())


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
