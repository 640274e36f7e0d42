"""Handles of deployments: how code calls them, in a driver and in other deployments.

``handle.remote(...)`` sends a request and returns at once; the response is awaited, or its `result` taken. All handles
of a deployment in a process share one router (`hpc.serve.calls.routing`). A handle can be pickled; the copy finds the
router of its own process.
"""

from __future__ import annotations

import asyncio
import threading
import time
import warnings
from collections.abc import AsyncIterator, Generator, Iterator
from functools import partial
from typing import Any, Generic, TypeVar

import hpc
from hpc import spi
from hpc.exceptions import GetTimeoutError, RayTaskError
from hpc.serve.calls import clock, routers
from hpc.serve.calls.call import MISSING, Call
from hpc.serve.calls.routing import SHUT_DOWN
from hpc.serve.context import NO_REQUEST, current_request, new_request_id
from hpc.serve.exceptions import DeploymentUnavailableError, RayServeException
from hpc.serve.messages import DEFAULT_APP, DeploymentID, RequestMeta, packed_meta

T = TypeVar("T")
R = TypeVar("R")

_IN_LOOP = "Sync methods should not be called from within an `asyncio` event loop. Use `await response` instead."
_NO_GENERATORS = (
    "Streaming deployment handle results cannot be passed to downstream handle calls. Iterate over the response, and "
    "pass what it gives"
)
#: A stream that nobody reads on is cancelled after this time.
BROKEN_OFF_S = 1.0
_SERIALIZATIONS = ("cloudpickle", "pickle", "msgpack", "orjson")


class _Default:
    """Stands for an option that was not given."""

    def __repr__(self) -> str:
        return "<not given>"


DEFAULT: Any = _Default()


def _in_loop() -> bool:
    return asyncio._get_running_loop() is not None  # the public one raises where there is none, which costs 0.6 us


class HandleOptions:
    """The options of a handle: what `DeploymentHandle.options` changes."""

    __slots__ = (
        "by_reference", "is_plain", "method_name", "multiplexed_model_id", "prefers_node", "priority",
        "request_serialization", "response_serialization", "session_id", "stream", "timeout_s",
    )  # fmt: skip

    def __init__(self, **given: Any) -> None:
        self.method_name: str = given.get("method_name", "__call__")
        self.multiplexed_model_id: str = given.get("multiplexed_model_id", "")
        self.session_id: str = given.get("session_id", "")
        self.stream: bool = given.get("stream", False)
        self.priority: int = given.get("priority", 0)
        self.timeout_s: float | None = given.get("timeout_s")
        self.prefers_node: bool = given.get("prefers_node", False)
        self.by_reference: bool = given.get("by_reference", True)
        self.request_serialization: str = given.get("request_serialization", "cloudpickle")
        self.response_serialization: str = given.get("response_serialization", "cloudpickle")

        #: Whether a request is told the method alone.
        self.is_plain = not (
            self.multiplexed_model_id or self.session_id or self.stream or self.priority or self.timeout_s is not None
        )

    def given(self) -> dict[str, Any]:
        """All of them by their names."""
        return {name: getattr(self, name) for name in self.__slots__ if name != "is_plain"}

    def changed(self, changes: dict[str, Any]) -> HandleOptions:
        """A copy with changes."""
        return HandleOptions(**{**self.given(), **changes})


class Family:
    """A handle, and those that were made of it by `options` and by names of methods. They are shut down together."""

    is_closed = False


class DeploymentHandle(Generic[T]):
    """A handle of a deployment. An attribute is a method: ``handle.predict.remote(x)``."""

    def __init__(
        self,
        deployment_name: str,
        app_name: str = DEFAULT_APP,
        *,
        _options: Any = None,
        _router: Any = None,
        _family: Family | None = None,
    ):
        self._family = _family or Family()
        self.deployment_id = DeploymentID(deployment_name, app_name)
        self._handle_options: HandleOptions = _options or HandleOptions()
        self._router: Any = _router

    @property
    def deployment_name(self) -> str:
        """The deployment."""
        return self.deployment_id.name

    @property
    def app_name(self) -> str:
        """Its application."""
        return self.deployment_id.app_name

    @property
    def is_initialized(self) -> bool:
        """Whether it was used already: what `_init` sets is fixed then."""
        return self._router is not None

    def _init(self, *, _prefer_local_routing: bool = False, **options: Any) -> None:
        """Set what holds for all requests. Raises RuntimeError once the handle was used."""
        if self._router is not None:
            raise RuntimeError(
                "Handle has already been initialized. Note that a handle is implicitly initialized when you call "
                "`.options()` or `.remote()`. You either tried to call `._init()` twice or called `._init()` after "
                "calling `.options()` or `.remote()`. If you want to modify the init options, please do so before "
                "calling `.options()` or `.remote()`."
            )
        if options:
            raise TypeError(f"_init() got an unexpected keyword argument {next(iter(options))!r}")
        self._handle_options = self._handle_options.changed({"prefers_node": _prefer_local_routing})
        self._router = routers.router_of(self.deployment_id, prefers_node=_prefer_local_routing)

    def _ready(self) -> Any:
        if self._router is None:
            self._router = routers.router_of(self.deployment_id, prefers_node=self._handle_options.prefers_node)
        return self._router

    def running_replicas_populated(self) -> bool:
        """Whether a replica was ever known here."""
        return self._router is not None and self._router.has_replicas

    def options(
        self,
        *,
        method_name: str = DEFAULT,
        multiplexed_model_id: str = DEFAULT,
        session_id: str = DEFAULT,
        stream: bool = DEFAULT,
        priority: int = DEFAULT,
        timeout_s: float | None = DEFAULT,
        _prefer_local_routing: bool = DEFAULT,
        _by_reference: bool = DEFAULT,
        request_serialization: str = DEFAULT,
        response_serialization: str = DEFAULT,
    ) -> DeploymentHandle[T]:
        """A handle with other options. ``stream``: the method is a generator. Requests of a ``session_id`` go to one
        replica while it has room. Those of a higher ``priority`` overtake others that wait; negative ones are for work
        that can wait. ``timeout_s``: how long a request may wait for a replica. The last two are not Ray's. The two
        serializations are Ray's for its transport by gRPC, and have no effect here."""
        given = {
            "method_name": method_name,
            "multiplexed_model_id": multiplexed_model_id,
            "session_id": session_id,
            "stream": stream,
            "priority": priority,
            "timeout_s": timeout_s,
            "by_reference": _by_reference,
            "request_serialization": request_serialization,
            "response_serialization": response_serialization,
        }
        changes = {name: value for name, value in given.items() if value is not DEFAULT}
        for name in ("request_serialization", "response_serialization"):
            if changes.get(name, "pickle") not in _SERIALIZATIONS:
                raise ValueError(f"{name} must be one of {', '.join(_SERIALIZATIONS)}, not {changes[name]!r}")
        if _prefer_local_routing is not DEFAULT:
            warnings.warn(
                "Modifying `_prefer_local_routing` with `options()` is deprecated. Please use `init()` instead.",
                stacklevel=2,
            )
            self._init(_prefer_local_routing=_prefer_local_routing)
        changed = self._handle_options.changed(changes)
        return DeploymentHandle(
            self.deployment_name, self.app_name, _options=changed, _router=self._ready(), _family=self._family
        )

    def __getattr__(self, name: str) -> DeploymentHandle[T]:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        made = self.options(method_name=name)
        self.__dict__[name] = made
        return made

    def remote(self, *args: Any, **kwargs: Any) -> Any:
        """Send a request. Returns a `DeploymentResponse`; with ``stream=True`` a `DeploymentResponseGenerator`. A
        response among the arguments (not inside of others) is resolved, and its value does not pass through here."""
        router = self._router or self._ready()
        options = self._handle_options
        call = router.begin("stream" if options.stream else "call", self._meta(options), args, kwargs)
        call.family = self._family
        if self._family.is_closed:
            call.finish(RayServeException(SHUT_DOWN))
            return DeploymentResponseGenerator(call) if options.stream else DeploymentResponse(call)
        waits = [one for one in (*args, *kwargs.values()) if isinstance(one, _Response)] if args or kwargs else ()
        if waits:
            _Resolving(call, waits)
        else:
            router.submit(call)
        return DeploymentResponseGenerator(call) if options.stream else DeploymentResponse(call)

    def _meta(self, options: HandleOptions) -> RequestMeta:
        context = current_request.get()
        if context is NO_REQUEST and options.is_plain:
            return RequestMeta(new_request_id(), options.method_name)
        return RequestMeta(
            context.request_id or new_request_id(),
            options.method_name,
            context.route,
            context.app_name,
            options.multiplexed_model_id,
            options.session_id,
            options.timeout_s,
            False,
            options.stream,
            options.priority or context.priority,
            context.trace,
        )

    def broadcast(self, method_name: str, *args: Any, **kwargs: Any) -> DeploymentBroadcastResponse:
        """Call a method on all replicas that there are now. It is for what is seldom done: no limit holds for it.
        Errors are raised by its `results`."""
        meta = self._meta(self._handle_options.changed({"method_name": method_name, "stream": False}))
        return DeploymentBroadcastResponse(self._ready(), meta, args, kwargs)

    def shutdown(self) -> None:
        """Send nothing more by this handle and those that were made of it. Their requests that wait fail. Other handles
        of the deployment go on."""
        self._family.is_closed = True
        if self._router is not None:
            self._router.strand(self._family)

    async def shutdown_async(self) -> None:
        """The same."""
        self.shutdown()

    def __repr__(self) -> str:
        return f"DeploymentHandle(deployment='{self.deployment_name}')"

    def __reduce__(self) -> tuple[Any, ...]:
        return _handle, (self.deployment_name, self.app_name, self._handle_options.given())


def _handle(name: str, app: str, options: dict[str, Any]) -> DeploymentHandle[Any]:
    """A handle, from what its ``__reduce__`` gave."""
    return DeploymentHandle(name, app, _options=HandleOptions(**options))


class _Resolving:
    """A request whose arguments are responses: it is sent once all of them have values, with references to these."""

    def __init__(self, call: Call, waits: list[_Response[Any]]) -> None:
        for one in waits:
            if isinstance(one, DeploymentResponseGenerator):
                call.forget()
                raise RuntimeError(_NO_GENERATORS)
        self._call = call
        self._left = len(waits)
        self._counting = threading.Lock()
        self._waits = waits
        for one in waits:
            one._call.when_over(self._one)

    def _one(self) -> None:
        """One of them is over, as the thread says that has read it: it waits for nobody."""
        call = self._call
        with self._counting:
            self._left -= 1
            if self._left:
                return
        for one in self._waits:
            if one._call.error is not None:
                call.finish(one._call.error)
                return
        call.router.soon(self._submit)

    def _submit(self) -> None:
        call = self._call
        if call.family.is_closed:  # type: ignore[attr-defined]
            call.finish(RayServeException(SHUT_DOWN))
            return
        try:
            call.args = tuple(_resolved(arg) for arg in call.args)
            call.kwargs = {name: _resolved(arg) for name, arg in call.kwargs.items()}
            call.router.submit(call, by_parent=False)
            spi.send_now()
        except Exception as error:
            call.finish(error)


def _resolved(arg: Any) -> Any:
    return arg._call.argument() if isinstance(arg, _Response) else arg


class _Response(Generic[R]):
    """What both kinds of responses have in common."""

    def __init__(self, call: Any) -> None:
        self._call = call

    @property
    def request_id(self) -> str:
        """The id of the request: that of the request that has made it, where there is one."""
        found: str = self._call.meta.request_id
        return found

    @property
    def by_reference(self) -> bool:
        """Whether its value is an object of the runtime: always."""
        return True

    def cancel(self) -> None:
        """Try to cancel the request. One that waits is never sent. In one that runs asyncio.CancelledError is raised,
        and what it has requested is cancelled too. Its value then raises RequestCancelledError, unless it came
        first."""
        self._call.router.cancel(self._call)

    def cancelled(self) -> bool:
        """Whether `cancel` was called; the request may have ended before."""
        found: bool = self._call.is_cancelled
        return found

    def __reduce__(self) -> Any:
        raise RayServeException(
            f"`{type(self).__name__}` is not serializable. If you are passing the `{type(self).__name__}` in a nested "
            "object (e.g. a list or dictionary) to a downstream deployment handle call, that is no longer supported. "
            "Please only pass `DeploymentResponse` objects as top level arguments."
        )


class DeploymentResponse(_Response[R]):
    """The response of a request: ``await response`` in coroutines, ``response.result()`` elsewhere. Passed as an
    argument of another request it is resolved on the way."""

    def __await__(self) -> Generator[Any, None, R]:
        call = self._call
        if not call.is_over:
            yield from call.settled().__await__()
        value: R = call.value()
        return value

    def result(self, *, timeout_s: float | None = None, _skip_asyncio_check: bool = False) -> R:
        """Wait for the value. Raises TimeoutError after ``timeout_s`` seconds, RuntimeError inside of an event loop,
        and what the request has raised."""
        if not _skip_asyncio_check and _in_loop():
            raise RuntimeError(_IN_LOOP)
        call = self._call
        if not call.is_over:
            value = call.wait(timeout_s)
            if value is not MISSING:
                return value  # type: ignore[no-any-return]
        found: R = call.value()
        return found

    async def _to_object_ref(self) -> Any:
        """The value as an ObjectRef, for tasks and actors. Waits until the request has its answer."""
        await self._call.settled()
        return self._call.argument()

    def _to_object_ref_sync(self, _timeout_s: float | None = None, _allow_running_in_asyncio_loop: bool = False) -> Any:
        """The same, outside of coroutines."""
        if not _allow_running_in_asyncio_loop and _in_loop():
            raise RuntimeError(
                "Sync methods should not be called from within an `asyncio` event loop. Use `await "
                "response._to_object_ref()` instead."
            )
        self._call.wait(_timeout_s)
        return self._call.argument()

    def __repr__(self) -> str:
        return f"DeploymentResponse(request_id='{self.request_id}')"


class DeploymentResponseGenerator(_Response[R]):
    """The response of a stream: iterate over it with ``async for`` in coroutines, ``for`` elsewhere. One that is read
    in part and dropped then is cancelled: what makes the items would wait for its reader, and keep its place."""

    #: Somebody reads, and is not at the end.
    _is_read = False

    def __await__(self) -> Any:
        raise TypeError(
            "`DeploymentResponseGenerator` cannot be awaited directly. Use `async for` or `await response.__anext__() "
            "instead`."
        )

    def result(self, *, timeout_s: float | None = None, _skip_asyncio_check: bool = False) -> Any:
        """Not there: raises TypeError."""
        raise TypeError(
            "`DeploymentResponseGenerator` doesn't support `.result()`. Use iteration instead: `for item in response` "
            "(outside deployments) or `async for item in response` (inside deployments)."
        )

    def __aiter__(self) -> AsyncIterator[R]:
        return self

    async def __anext__(self) -> R:
        call = self._call
        if not call.is_over:
            await call.settled()
        self._check()
        self._is_read = True
        try:
            value: R = await call.next_item()
        except StopAsyncIteration:
            self._is_read = False
            raise
        return value

    def __iter__(self) -> Iterator[R]:
        return self

    def __next__(self) -> R:
        if _in_loop():
            raise RuntimeError(
                "Sync methods should not be called from within an `asyncio` event loop. Use `async for` or `await "
                "response.__anext__()` instead."
            )
        call = self._call
        if not call.is_over:
            call.wait(None)
        self._check()
        self._is_read = True
        try:
            value: R = call.next_item_sync()
        except StopIteration:
            self._is_read = False
            raise
        return value

    def __del__(self) -> None:
        call = self._call
        if self._is_read and call.state == "sent" and not call.is_cancelled:
            # In a moment, on another thread: a finalizer may come in the middle of anything. Whoever reads may have
            # been cancelled too, and with it this one: it is not to be cancelled twice before it has ended.
            try:
                clock.at(time.monotonic() + BROKEN_OFF_S, partial(call.router.cancel, call))
            except RuntimeError:
                pass  # the interpreter ends, and begins no thread

    def _check(self) -> None:
        call = self._call
        if call.error is not None:
            raise call.error

    async def _to_object_ref_gen(self) -> Any:
        """The items as an ObjectRefGenerator. Waits until a replica has accepted the request."""
        await self._call.settled()
        self._check()
        self._is_read = False
        return self._call.generator

    def _to_object_ref_gen_sync(
        self, _timeout_s: float | None = None, _allow_running_in_asyncio_loop: bool = False
    ) -> Any:
        """The same, outside of coroutines."""
        if not _allow_running_in_asyncio_loop and _in_loop():
            raise RuntimeError(_IN_LOOP)
        self._call.wait(_timeout_s)
        self._check()
        self._is_read = False
        return self._call.generator

    def __repr__(self) -> str:
        return f"DeploymentResponseGenerator(request_id='{self.request_id}')"


class DeploymentBroadcastResponse:
    """The results of a call on all replicas, one for each that there was. Their order means nothing."""

    def __init__(self, router: Any, meta: RequestMeta, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._error: BaseException | None = None
        self._refs: list[Any] = []
        self._router = router
        self._request = packed_meta(meta), args, kwargs
        self._is_sent = threading.Event()
        with router.lock:
            router.when_known(self._send)

    def _send(self) -> None:
        """It is known which replicas there are (the router's lock is held)."""
        router, (packed, args, kwargs) = self._router, self._request
        table, seats = router.table, list(router.machine.seats)
        try:
            if table is None or table.is_deleted or not table.is_available or not seats:
                self._error = DeploymentUnavailableError(router.deployment_id, "it has no replicas")
            for ident in seats if self._error is None else ():
                self._refs.append(router.replicas[ident].actor.broadcast.remote(packed, *args, **kwargs))
        except Exception as error:  # of arguments that cannot be sent
            self._error = error
        self._is_sent.set()

    def _wait_until_sent(self, timeout_s: float | None) -> None:
        """The first word of the controller may be underway."""
        if not self._is_sent.wait(timeout_s):
            raise TimeoutError("Timed out waiting for broadcast results.")

    def results(self, *, timeout_s: float | None = None, return_exceptions: bool = False) -> list[Any]:
        """All results. Raises TimeoutError, and the first error; with ``return_exceptions`` errors are results."""
        if _in_loop():
            raise RuntimeError(_IN_LOOP.replace("await response", "await response.results_async()"))
        if timeout_s is not None and timeout_s < 0:
            raise ValueError("timeout_s must be None or non-negative.")
        until = None if timeout_s is None else time.monotonic() + timeout_s
        self._wait_until_sent(timeout_s)
        if self._error is not None:
            raise self._error
        found: list[Any] = []
        for ref in self._refs:
            left = None if until is None else max(0.0, until - time.monotonic())
            try:
                found.append(hpc.get(ref, timeout=left))
            except Exception as error:
                if isinstance(error, GetTimeoutError) and not isinstance(error, RayTaskError):
                    raise TimeoutError("Timed out waiting for broadcast results.") from None
                if not return_exceptions:
                    raise
                found.append(error)
        return found

    async def results_async(self, *, timeout_s: float | None = None, return_exceptions: bool = False) -> list[Any]:
        """The same in coroutines."""
        if timeout_s is not None and timeout_s < 0:
            raise ValueError("timeout_s must be None or non-negative.")
        if not self._is_sent.is_set():
            await asyncio.get_running_loop().run_in_executor(None, self._wait_until_sent, timeout_s)
        if self._error is not None:
            raise self._error
        try:
            gathered = asyncio.gather(*[_value(ref) for ref in self._refs], return_exceptions=return_exceptions)
            return list(await asyncio.wait_for(gathered, timeout_s))
        except asyncio.TimeoutError:
            raise TimeoutError("Timed out waiting for broadcast results.") from None

    def __repr__(self) -> str:
        return "DeploymentBroadcastResponse()"


async def _value(ref: Any) -> Any:
    return await ref
