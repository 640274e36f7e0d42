"""A user's class or function at work: it is made, reconfigured, called, asked how it is, and ended.

Coroutines run on the event loop of the replica, without a hop. Plain methods run in a pool of as many threads as
requests may run at a time, so that none of them stops the others.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Literal

from hpc.serve.exceptions import RayServeException

MethodKind = Literal["async", "sync", "async_generator", "generator"]
#: How many items of a plain generator are made ahead of their reader.
AHEAD = 64


class UserMethod:
    """A method of the user's object, and how it is to be called."""

    __slots__ = ("call", "kind", "name")

    def __init__(self, name: str, call: Callable[..., Any]) -> None:
        self.name = name
        self.call = call
        self.kind: MethodKind = kind_of(call)


def kind_of(call: Callable[..., Any]) -> MethodKind:
    """How a function, a method or an object with `__call__` is to be called."""
    if getattr(call, "_hpc_on_loop", False):
        return "async"
    for one in (call, getattr(call, "__call__", None), getattr(call, "func", None)):  # noqa: B004
        if inspect.iscoroutinefunction(one):
            return "async"
        if inspect.isasyncgenfunction(one):
            return "async_generator"
        if inspect.isgeneratorfunction(one):
            return "generator"
    return "sync"


class Servable:
    """What one replica serves."""

    def __init__(
        self, func_or_class: Any, init_args: tuple[Any, ...], init_kwargs: dict[str, Any], threads: int
    ) -> None:
        self._target = func_or_class
        self._init_args = init_args
        self._init_kwargs = init_kwargs
        self._threads = threads
        self._pool: ThreadPoolExecutor | None = None
        self._methods: dict[str, UserMethod] = {}
        self.instance: Any = None

    @property
    def is_class(self) -> bool:
        """Whether it is a class, whose constructor gets the arguments."""
        return inspect.isclass(self._target)

    async def construct(self, before: Callable[[Any], None] = lambda instance: None) -> None:
        """Make the object, in the running loop; ``__init__`` may be a coroutine. ``before`` is called with the object
        ahead of its constructor, which may ask for the context of the replica."""
        if not self.is_class:
            self.instance = self._target
            before(self.instance)
            return
        cls = self._target
        self.instance = instance = cls.__new__(cls)
        before(instance)
        made = cls.__init__(instance, *self._init_args, **self._init_kwargs)
        if inspect.isawaitable(made):
            await made

    def resize(self, threads: int) -> None:
        """As many requests may run at a time from now on."""
        if threads != self._threads:
            self._threads = threads
            old, self._pool = self._pool, None
            if old is not None:
                old.shutdown(wait=False)

    def has(self, name: str) -> bool:
        """Whether the class has this hook."""
        return self.is_class and callable(getattr(self.instance, name, None))

    def hooks(self) -> list[str]:
        """Which of the hooks of a deployment the class has."""
        names = ("check_health", "reconfigure", "record_autoscaling_stats", "record_routing_stats")
        return [name for name in names if self.has(name)]

    def method(self, name: str) -> UserMethod:
        """A method by its name. Raises RayServeException where there is none."""
        found = self._methods.get(name)
        if found is None:
            if not self.is_class and name == "__call__":
                call = self.instance
            else:
                call = getattr(self.instance, name, None)
            if not callable(call) or isinstance(call, type) or (name == "__call__" and not self._is_callable()):
                raise RayServeException(
                    f"Tried to call a method '{name}' that does not exist. Available methods: {self._names()}."
                )
            found = self._methods[name] = UserMethod(name, call)
        return found

    def _is_callable(self) -> bool:
        return not self.is_class or hasattr(self._target, "__call__")  # noqa: B004

    def _names(self) -> list[str]:
        if not self.is_class:
            return ["__call__"]
        names = [name for name in dir(self._target) if not name.startswith("__")]
        return sorted(name for name in names if callable(getattr(self._target, name)))

    # -------------------------------------------------------------- calls

    async def call(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The value of a method."""
        method = self.method(name)
        if method.kind == "async":
            value = method.call(*args, **kwargs)
            if inspect.isawaitable(value):
                value = await value
        elif method.kind == "sync":
            value = await self.in_thread(partial(method.call, *args, **kwargs))
            if inspect.isawaitable(value):
                value = await value
        else:
            value = None
        if method.kind in ("async_generator", "generator") or inspect.isgenerator(value) or inspect.isasyncgen(value):
            raise TypeError(
                f"Method '{method.name}' returned a generator. You must use `handle.options(stream=True)` to call "
                "generators on a deployment."
            )
        return value

    async def items(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> AsyncIterator[Any]:
        """The items of a method that is a generator, or returns one."""
        method = self.method(name)
        if method.kind == "sync":
            value = await self.in_thread(partial(method.call, *args, **kwargs))
        else:
            value = method.call(*args, **kwargs)
        if inspect.isawaitable(value):
            value = await value
        if inspect.isasyncgen(value):
            try:
                async for item in value:
                    yield item
            finally:
                await value.aclose()
        elif inspect.isgenerator(value):
            threaded = ThreadedItems(value, self._executor())
            try:
                async for item in threaded:
                    yield item
            finally:
                threaded.close()
        else:
            raise TypeError(
                f"Called method '{method.name}' with `handle.options(stream=True)` but it did not return a generator."
            )

    async def in_thread(self, work: Callable[[], Any]) -> Any:
        """Run a function in the pool, with the context of the request."""
        context = contextvars.copy_context()
        return await asyncio.get_running_loop().run_in_executor(self._executor(), context.run, work)

    def _executor(self) -> ThreadPoolExecutor:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(max(1, min(self._threads, 512)), thread_name_prefix="serve")
        return self._pool

    async def hook(self, name: str, *args: Any) -> Any:
        """Call a hook of the user's class, which may be a coroutine; the plain ones run in a thread."""
        call = getattr(self.instance, name)
        if inspect.iscoroutinefunction(call):
            return await call(*args)
        value = await self.in_thread(partial(call, *args))
        return await value if inspect.isawaitable(value) else value

    async def reconfigure(self, user_config: Any, rank: Any) -> None:
        """Give the user's class its config. Raises ValueError where it has no method for that."""
        if not self.has("reconfigure"):
            if user_config is not None:
                raise ValueError("user_config specified but deployment " + _MUST_HAVE)
            return
        takes_rank = "rank" in inspect.signature(self.instance.reconfigure).parameters
        if user_config is None and not takes_rank:
            return
        call = self.instance.reconfigure
        made = call(user_config, rank=rank) if takes_rank else call(user_config)
        if inspect.isawaitable(made):
            await made

    async def delete(self) -> None:
        """Run the user's ``__del__``, once; it may be a coroutine."""
        instance = self.instance
        end = getattr(type(instance), "__del__", None) if self.is_class else None
        if end is not None:
            try:
                made = end(instance)
                if inspect.isawaitable(made):
                    await made
            finally:
                try:
                    type(instance).__del__ = _nothing
                except (AttributeError, TypeError):
                    pass
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)


_MUST_HAVE = "has no `reconfigure` method: give the class one, or take user_config out"


def _nothing(instance: Any) -> None:
    """What ``__del__`` is once it has run."""


class _End:
    """Stands behind the last item; ``error``: what the generator has raised."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class ThreadedItems:
    """The items of a plain generator, which runs in a thread, some ahead of its reader."""

    def __init__(self, generator: Any, pool: ThreadPoolExecutor) -> None:
        self._generator = generator
        self._loop = asyncio.get_running_loop()
        self._items: deque[Any] = deque()
        self._news = asyncio.Event()
        self._room = threading.Semaphore(AHEAD)
        self._closed = False
        pool.submit(contextvars.copy_context().run, self._run)

    def __aiter__(self) -> ThreadedItems:
        return self

    async def __anext__(self) -> Any:
        while not self._items:
            self._news.clear()
            await self._news.wait()
        item = self._items.popleft()
        self._room.release()
        if type(item) is _End:
            if item.error is not None:
                raise item.error
            raise StopAsyncIteration
        return item

    def close(self) -> None:
        """Nobody reads on: the generator ends at its next item."""
        self._closed = True
        self._room.release()

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            for item in self._generator:
                self._room.acquire()
                if self._closed:
                    break
                self._put(item)
        except BaseException as raised:
            error = raised
        finally:
            self._generator.close()
        self._put(_End(error))

    def _put(self, item: Any) -> None:
        self._items.append(item)
        if not self._closed and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._news.set)
