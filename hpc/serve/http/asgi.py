"""What answers HTTP in a replica: an ASGI application, or a plain deployment, whose results become answers.

An answer that is whole when it begins is one message to the proxy. One that goes on becomes a `Stream`, which its first
bytes open. Parts that an application sends while nobody takes them are joined, up to a bound. The application runs in a
task of its own, because it may go on after its answer (background tasks of starlette).
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from typing import Any
from urllib.parse import unquote

from hpc.serve.http.convert import ERROR, converted, error_reply, item_bytes, item_type
from hpc.serve.http.eager import Nested
from hpc.serve.http.lifespan import ASGI, Event, Lifespan, know_errors
from hpc.serve.messages import HttpReply, HttpRequest

logger = logging.getLogger("hpc.serve")

#: An answer whose length is known and is not larger is waited for.
WHOLE_BYTES = 1 << 20
#: How long an answer that has begun is waited for before it is opened without a byte of its body.
OPEN_S = 0.002
WHOLE_S = 0.02
#: Bytes of a stream that wait for the proxy; then the application waits.
UNSENT_BYTES = 64 << 10
#: A stream waits this long for each that is open before it sends its next part, so that many fast ones send fewer and
#: larger parts; and at most so long. One whose parts come further apart waits for nothing.
SPACING_S = 0.0002
MOST_SPACING_S = 0.02
_FRAME = struct.Struct("!BI")
TEXT, BYTES, CLOSE = 1, 2, 3
#: How the application may answer a websocket, once.
BEGINS = ("websocket.accept", "websocket.http.response.start")
#: The status of a websocket that the application takes.
ACCEPTED = 101
#: How long tasks in the background may go on when the replica ends.
BACKGROUND_S = 5.0

#: Asks the proxy for what the client sends further: an event of ASGI.
Pull = Callable[[], Awaitable[Event]]
#: Runs a function in a thread: a replica gives its own pool.
InThread = Callable[[Callable[[], Any]], Awaitable[Any]]


#: What is no response of starlette's, and no generator.
_PLAIN = frozenset({str, bytes, dict, list, int, float, bool, type(None)})


@functools.cache
def _starlette() -> tuple[Any, Any]:
    """Starlette's Request and Response, which the gateway's machine need not have."""
    from starlette.requests import Request
    from starlette.responses import Response

    return Request, Response


async def _in_thread(work: Callable[[], Any]) -> Any:
    return await asyncio.to_thread(work)


def frame(kind: int, payload: bytes) -> bytes:
    """A message of a websocket on its way to the proxy."""
    return _FRAME.pack(kind, len(payload)) + payload


def frames(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The messages of a websocket in a part of a stream, which holds whole ones."""
    at = 0
    while at < len(data):
        kind, size = _FRAME.unpack_from(data, at)
        at += _FRAME.size
        yield kind, data[at : at + size]
        at += size


def whole(status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> HttpReply:
    """An answer that is whole. Its length is left out where it says what the body does: answers without it are made
    from parts that are known."""
    length = (b"content-length", b"%d" % len(body))
    return HttpReply(status, [one for one in headers if one != length], body)


class Stream:
    """An answer that goes on: its status, headers and first bytes; iterating has the rest. Close it in any case."""

    def __init__(
        self,
        status: int,
        headers: list[tuple[bytes, bytes]],
        first: bytes,
        rest: AsyncIterator[bytes],
        close: Callable[[], Awaitable[None]],
    ) -> None:
        self.status = status
        self.headers = headers
        self.first = first
        self._rest = rest
        self._close = close

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._rest

    async def close(self) -> None:
        """End the work on it. Closing what has ended changes nothing."""
        await self._close()


class App:
    """A replica's callable as what answers HTTP. ``target``: an ASGI application, or what a plain deployment runs."""

    def __init__(self, target: Any, *, is_asgi: bool, in_thread: InThread = _in_thread) -> None:
        self.is_asgi = is_asgi
        self._target = target
        self._in_thread = in_thread
        self._state: dict[str, Any] = {}
        self._lifespan: Lifespan | None = None
        self._running: set[_Running] = set()
        self._nested = Nested()
        self._call = _Call(target, in_thread) if not is_asgi else None

    async def start(self) -> None:
        """Run the application's start-up. Raises RuntimeError if that fails."""
        if not self.is_asgi:
            return
        know_errors(self._target)
        self._lifespan = Lifespan(self._target, self._state)
        await self._lifespan.start()

    async def stop(self) -> None:
        """Wait for tasks in the background, end what runs, and run the application's shutdown."""
        behind = [running.task for running in self._running if running.is_answered and running.task is not None]
        if behind:
            await asyncio.wait(behind, timeout=BACKGROUND_S)
        for running in list(self._running):
            await running.close()
        if self._lifespan is not None:
            await self._lifespan.stop()

    async def handle(self, request: HttpRequest, pull: Pull) -> HttpReply | Stream:
        """Answer a request. A plain deployment's error is an answer too: 500, or what its kind says."""
        if self._call is None:
            return await self._run(self._target, request, pull)
        if request.kind == "websocket":
            return HttpReply(403)
        try:
            result = await self._call(_Asking(self, request, pull))
            return await self._answer(result, request, pull)
        except Exception as error:
            return error_reply(error)

    async def _answer(self, result: Any, request: HttpRequest, pull: Pull) -> HttpReply | Stream:
        if type(result) in _PLAIN:
            return converted(result)
        if inspect.isasyncgen(result):
            return await _streamed(result)
        if inspect.isgenerator(result):
            return await _streamed(_threaded(result, self._in_thread))
        Response = _starlette()[1]
        if not isinstance(result, Response):
            return converted(result)
        if type(result).__call__ is Response.__call__ and result.background is None:
            return whole(result.status_code, result.raw_headers, bytes(result.body))
        return await self._run(result, request, pull)

    async def _run(self, app: Any, request: HttpRequest, pull: Pull) -> HttpReply | Stream:
        running = _Running(app, request, pull, self._state, self._nested)
        if running.task is not None:
            self._running.add(running)
            running.task.add_done_callback(lambda _: self._running.discard(running))
        try:
            return await running.outcome()
        except asyncio.CancelledError:
            await running.close()
            raise

    def scope(self, request: HttpRequest) -> Event:
        """The scope of a request, as ASGI has it."""
        return scope_of(request, self._state)


def scope_of(request: HttpRequest, state: dict[str, Any]) -> Event:
    """The scope of a request, as ASGI has it. The path of the request is as it was received."""
    path = request.path
    scope: Event = {
        "type": request.kind,
        "asgi": ASGI,
        "http_version": request.http_version,
        "scheme": request.scheme,
        "path": unquote(path) if "%" in path else path.encode("latin-1").decode("utf-8", "replace"),
        "raw_path": path.encode("latin-1"),
        "query_string": request.query,
        "root_path": request.root_path,
        "headers": [(name, value) for name, value in request.headers],
        "client": request.client,
        "server": request.server,
        "state": state.copy(),
    }
    if request.kind == "websocket":
        offers = [value.decode("latin-1") for name, value in request.headers if name == b"sec-websocket-protocol"]
        scope["subprotocols"] = [one.strip() for offer in offers for one in offer.split(",")]
        scope["extensions"] = {"websocket.http.response": {}}
    else:
        scope["method"] = request.method
    return scope


class _Receiver:
    """The ``receive`` of a request: what came with it, then what the proxy is asked for, then the disconnect."""

    def __init__(self, request: HttpRequest, pull: Pull) -> None:
        self._pull = pull
        self._kind = request.kind
        self._first: Event | None = None
        if request.kind == "http":
            self._first = {"type": "http.request", "body": request.body, "more_body": request.more}
        self._more = request.more or request.kind == "websocket"
        self._gone = asyncio.Event()
        self._last: Event | None = None
        self._pulling: asyncio.Future[Event] | None = None

    async def __call__(self) -> Event:
        first, self._first = self._first, None
        if first is not None:
            return first
        if self._last is not None:
            return self._last
        while self._more and not self._gone.is_set():
            if self._pulling is None:
                self._pulling = asyncio.ensure_future(self._pull())
                self._pulling.add_done_callback(lambda done: done.cancelled() or done.exception())
            pulling = self._pulling
            # The proxy has handed the event out: whoever stops to wait for it, as by a timeout, takes it the next time.
            event = await asyncio.shield(pulling)
            if self._pulling is pulling:
                self._pulling = None
                if event["type"].endswith(".disconnect"):
                    self._last = event
                elif event["type"] == "http.request":
                    self._more = bool(event["more_body"])
                return event
            if self._last is not None:
                return self._last
        await self._gone.wait()
        return {"type": f"{self._kind}.disconnect"}

    def leave(self) -> None:
        """Tell that the client is gone."""
        self._gone.set()


class _Asking:
    """Makes starlette's Request of a request, when a deployment takes one."""

    __slots__ = ("_app", "_pull", "_request")

    def __init__(self, app: App, request: HttpRequest, pull: Pull) -> None:
        self._app = app
        self._request = request
        self._pull = pull

    def request(self) -> Any:
        """The request, as the user's code sees it."""
        return _starlette()[0](self._app.scope(self._request), _Receiver(self._request, self._pull))


class _Call:
    """How a plain deployment is called: on the loop when it is async, else in a thread; with a request or without."""

    def __init__(self, target: Any, in_thread: InThread) -> None:
        function = target if inspect.isroutine(target) else getattr(target, "__call__", target)  # noqa: B004
        self._target = target
        self._in_thread = in_thread
        self._takes = _takes_any(function)
        self._is_async = inspect.iscoroutinefunction(function)
        self._is_generator = inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)

    async def __call__(self, asking: _Asking) -> Any:
        args = (asking.request(),) if self._takes else ()
        if self._is_async:
            return await self._target(*args)
        if self._is_generator:
            return self._target(*args)
        result = await self._in_thread(lambda: self._target(*args))
        return await result if inspect.isawaitable(result) else result


def _takes_any(function: Any) -> bool:
    try:
        return bool(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return True


# ---------------------------------------------------------------- what an application sends


class _Running:
    """An ASGI application at work on one request. ``streams``: how many are open in this process."""

    streams = 0

    def __init__(self, app: Any, request: HttpRequest, pull: Pull, state: dict[str, Any], nested: Nested) -> None:
        self._is_socket = request.kind == "websocket"
        self._receive = _Receiver(request, pull)
        self._loop = asyncio.get_running_loop()
        self._status = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._length: int | None = None
        self._parts: list[bytes] = []
        self._unsent = 0
        self._is_done = False
        self._is_over = self._is_broken = False
        self._is_open = False
        self._is_gone = False
        self._opens = False
        self._timer: asyncio.TimerHandle | None = None
        self._changed: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        send = self._send_socket if self._is_socket else self._send
        #: None where the application has ended without a wait.
        self.task = nested.begin(self._work(app(scope_of(request, state), self._receive, send)))

    async def _work(self, work: Awaitable[None]) -> None:
        """The application, to its end."""
        try:
            await work
        except asyncio.CancelledError:
            self._is_broken = True
            raise
        except Exception as error:
            self._is_broken = True
            if not self._is_gone:
                logger.error("A request ends in an error", exc_info=error)
        finally:
            self._is_over = True
            self._stop_timer()
            self._wake()

    async def outcome(self) -> HttpReply | Stream:
        """The answer, once it is whole or its first bytes are there."""
        while True:
            if self._is_done and self._status and self._status != ACCEPTED:
                self._stop_timer()
                return whole(self._status, self._headers, self._take())
            if self._opens:
                self._stop_timer()
                self._is_open = True
                return Stream(self._status, self._headers, self._take(), self._rest(), self._left)
            if self._is_over:
                return HttpReply(500, [(b"content-type", b"text/plain; charset=utf-8")], ERROR)
            if self._status and self._timer is None and not self._is_socket:  # a denial is whole
                self._look_later()
            await self._change()

    @property
    def is_answered(self) -> bool:
        """Whether the application has sent all of its answer."""
        return self._is_done

    async def _left(self) -> None:
        """Nobody reads further. An application that has sent all goes on: it may remove the file that it has sent."""
        if self._is_done:
            self._receive.leave()
        else:
            await self.close()

    async def close(self) -> None:
        """End the work, since nobody reads the answer."""
        self._is_gone = True
        self._receive.leave()
        self._make_room()
        if self.task is not None and not self.task.done():
            self.task.cancel()
            await asyncio.wait([self.task])

    # -------------------------------------------------------------- from the application

    async def _send(self, message: Event) -> None:
        if self._is_gone:
            raise OSError("the client is gone")
        kind = message["type"]
        if kind == "http.response.start":
            if self._status:
                raise RuntimeError("an answer begins once: http.response.start was sent twice")
            self._begin(int(message["status"]), message.get("headers", ()))
            if self._changed is not None:  # somebody waits for the answer
                self._look_later()
        elif kind == "http.response.body":
            if not self._status:
                raise RuntimeError("an answer begins by http.response.start, before its body")
            if self._is_done:
                raise RuntimeError("the answer has ended")
            await self._add(bytes(message.get("body", b"")), not message.get("more_body", False))
        else:
            raise RuntimeError(f"an application of HTTP does not send {kind!r}")

    def _begin(self, status: int, headers: Any) -> None:
        self._status = status
        self._headers = [(bytes(name), bytes(value)) for name, value in headers]
        for name, value in self._headers:
            if name.lower() == b"content-length" and value.isdigit() and int(value) <= WHOLE_BYTES:
                self._length = int(value)

    async def _add(self, data: bytes, is_last: bool) -> None:
        if data:
            self._parts.append(data)
            self._unsent += len(data)
        if is_last:
            self._is_done = True
            self._wake()
        elif data and (self._length is None or self._is_open):
            self._opens = True
            self._wake()
        while self._unsent > UNSENT_BYTES and not self._is_done and not self._is_gone and self._opens:
            if self._room is None or self._room.done():
                self._room = self._loop.create_future()
            await asyncio.shield(self._room)  # several may send at a time, and one of them be cancelled

    async def _send_socket(self, message: Event) -> None:
        if self._is_gone:
            raise OSError("the client is gone")
        kind = message["type"]
        if kind in BEGINS and self._status:
            raise RuntimeError(f"the application has answered the websocket already: {kind!r} comes too late")
        if kind == "websocket.send" and self._status != ACCEPTED:
            raise RuntimeError("an application accepts a websocket before it sends to it")
        if kind == "websocket.http.response.body" and self._status in (0, ACCEPTED):
            raise RuntimeError("a denial begins by websocket.http.response.start, before its body")
        if kind == "websocket.accept":
            headers = list(message.get("headers", ()))
            if message.get("subprotocol"):
                headers.append((b"sec-websocket-protocol", message["subprotocol"].encode("latin-1")))
            self._begin(ACCEPTED, headers)
            self._open()
        elif kind == "websocket.send":
            text = message.get("text")
            data = frame(TEXT, text.encode()) if text is not None else frame(BYTES, bytes(message["bytes"]))
            await self._add(data, False)
        elif kind == "websocket.close":
            if not self._status:
                self._begin(403, ())
                await self._add(b"", True)
                return
            reason = str(message.get("reason") or "").encode()
            await self._add(frame(CLOSE, struct.pack("!H", int(message.get("code") or 1000)) + reason), True)
        elif kind == "websocket.http.response.start":
            self._begin(int(message["status"]), message.get("headers", ()))
        elif kind == "websocket.http.response.body":
            self._parts.append(bytes(message.get("body", b"")))
            if not message.get("more_body", False):
                await self._add(b"", True)
        else:
            raise RuntimeError(f"an application of websockets does not send {kind!r}")

    # -------------------------------------------------------------- to the proxy

    def _look_later(self) -> None:
        self._timer = self._loop.call_later(OPEN_S if self._length is None else WHOLE_S, self._open)

    def _open(self) -> None:
        """Open the answer without waiting for more of it."""
        self._opens = True
        self._wake()

    async def _rest(self) -> AsyncIterator[bytes]:
        _Running.streams += 1
        try:
            async for part in self._parts_as_they_come():
                yield part
        finally:
            _Running.streams -= 1

    async def _parts_as_they_come(self) -> AsyncIterator[bytes]:
        next_at = 0.0
        while True:
            if self._parts:
                early_s = next_at - self._loop.time()
                if early_s > 0 and not self._is_done and self._unsent < UNSENT_BYTES:
                    await asyncio.sleep(early_s)
                yield self._take()
                next_at = self._loop.time() + min(MOST_SPACING_S, SPACING_S * _Running.streams)
            elif self._is_done:
                return
            elif self._is_over:
                if self._is_socket and not self._is_broken:
                    return
                raise RuntimeError("the application ended before its answer was whole")
            else:
                await self._change()

    def _take(self) -> bytes:
        data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        self._unsent = 0
        self._make_room()
        return data

    def _make_room(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    async def _change(self) -> None:
        self._changed = self._loop.create_future()
        await self._changed

    def _wake(self) -> None:
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


# ---------------------------------------------------------------- generators of plain deployments


async def _streamed(items: Any) -> Stream:
    """A generator's items as a stream; its first one says of what kind. An error before it is the caller's."""
    try:
        first = await items.__anext__()
    except StopAsyncIteration:
        return Stream(200, [(b"content-type", b"text/plain; charset=utf-8")], b"", _nothing(), _no_close)

    async def rest() -> AsyncIterator[bytes]:
        async for item in items:
            yield item_bytes(item)

    return Stream(200, [(b"content-type", item_type(first))], item_bytes(first), rest(), items.aclose)


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""


async def _no_close() -> None:
    return


async def _threaded(items: Any, in_thread: InThread) -> AsyncIterator[Any]:
    """A generator that is no coroutine, each step in a thread."""
    end = object()
    try:
        while True:
            item = await in_thread(lambda: next(items, end))
            if item is end:
                return
            yield item
    finally:
        await in_thread(items.close)
