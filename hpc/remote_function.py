"""Remote functions: what ``@hpc.remote`` makes of a function."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hpc import options as opts
from hpc.connection import ensure_client
from hpc.core.ids import return_id
from hpc.core.owner.client import LOOK_MASK, MAX_PENDING_BYTES, Client
from hpc.core.owner.collecting import Collecting
from hpc.core.owner.generator import ObjectRefGenerator
from hpc.core.owner.ref import ObjectRef
from hpc.core.process.context import current_task, process
from hpc.core.wire import DYNAMIC, STREAM_IDS, STREAMING, Task
from hpc.runtime_env import portable, worker_env
from hpc.signatures import Signature, signature_of
from hpc.submit import export, pack_arguments, shape_of


def default_returns(function: Callable[..., Any], options: Mapping[str, Any]) -> int:
    """The number of return values as it goes over the wire: what was said, else "streaming" for generators."""
    if options.get("num_returns") is None and is_generator(function):
        return STREAMING
    return opts.returns(opts.option(options, "num_returns") if options.get("num_returns") is not None else 1)


def is_generator(function: Any) -> bool:
    """Whether calling the function gives a generator, plain or asynchronous."""
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)


class RemoteFunction:
    """A function that runs elsewhere: ``f.remote(...)`` returns a reference to its result at once."""

    def __init__(
        self, function: Callable[..., Any], options: dict[str, Any], signature: Signature | None = None
    ) -> None:
        if inspect.iscoroutinefunction(function):
            raise ValueError(
                "a task cannot be an 'async def' function: make it a method of an actor, or call it in a plain "
                "function with asyncio.run()"
            )
        self._function = function
        self._signature = signature_of(function) if signature is None else signature
        self._low, self._high = self._signature.low, self._signature.high
        self._options = opts.check_options(options, actor=False)
        opts.check_generator(options.get("num_returns"), is_generator(function), "function")
        self._name = str(options.get("name") or getattr(function, "__qualname__", repr(function)))
        self._client: Client | None = None
        functools.update_wrapper(self, function)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(f"{self._name}() is a remote function: call {self._name}.remote() instead")

    def __getstate__(self) -> dict[str, Any]:
        return {
            "_function": self._function,
            "_options": portable(self._options),
            "_name": self._name,
            "_signature": self._signature,
            "_client": None,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._low, self._high = self._signature.low, self._signature.high

    def options(self, **options: Any) -> RemoteFunction:
        """The same function with other options; ``self`` stays as it is."""
        return RemoteFunction(self._function, {**self._options, **options}, self._signature)

    def _remote(self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any) -> Any:
        """``options(**options).remote(*args, **kwargs)``, as older programs write it."""
        return self.options(**options).remote(*(args or ()), **(kwargs or {}))

    def bind(self, /, *args: Any, **kwargs: Any) -> Any:
        """Not supported yet."""
        raise NotImplementedError("task graphs (bind) are not supported yet")

    def _prepare(self, client: Client) -> None:
        options = self._options
        retry = opts.option(options, "retry_exceptions")
        kinds = tuple(retry) if isinstance(retry, (list, tuple)) else None
        code = (self._function, kinds, int(opts.option(options, "max_calls") or 0))
        self._fn = export(client, code, self._name)
        held, placement, strategy = opts.placement(options, actor=False)
        env = worker_env(client, options.get("runtime_env"))
        self._shape = shape_of(client, held, placement, strategy, env, False)
        self._group = process.group
        self._num_returns = default_returns(self._function, options)
        self._window = opts.window(opts.option(options, "_generator_backpressure_num_objects"))
        self._retries = int(opts.option(options, "max_retries"))
        self._retry_exceptions = bool(retry)
        self._client = client

    def remote(self, /, *args: Any, **kwargs: Any) -> Any:
        """Submit a call. Returns an ObjectRef, a list of them for several return values, None for none; for a
        generator an ObjectRefGenerator. Raises TypeError for arguments that the function does not take."""
        if kwargs or not self._low <= len(args) <= self._high:
            self._signature.check(args, kwargs)
        client = ensure_client()
        try:
            if self._client is not client or self._group is not process.group:
                self._prepare(client)
            data, refs, holds, _alive = pack_arguments(client, args, kwargs)
            context = current_task.get()
            count = self._num_returns
            machine = client.machine
            if machine.pending_bytes > MAX_PENDING_BYTES:
                client.wait_for_room()
            with client.lock:
                if machine.dropped:
                    machine.drain_dropped()
                task = machine.new_ids(count if count >= 0 else STREAM_IDS)
                msg = Task(
                    task,
                    0,
                    self._fn,
                    self._name,
                    data,
                    count,
                    (),
                    refs,
                    holds,
                    0,
                    0 if context is None else context.depth + 1,
                    self._retry_exceptions,
                    self._window,
                )
                parent = b"" if context is None else context.task
                machine.submit(msg, self._shape, self._retries, self._retry_exceptions, holds, parent)
                if machine.urgent:
                    client._flush()
        except Collecting:
            return client.collections.later(functools.partial(self.remote, *args, **kwargs))
        if machine.woken:
            client._after()
        if not machine.state.made & LOOK_MASK:
            client.look()
        if count == 1 or count == DYNAMIC:
            return ObjectRef(task, client)
        if count == STREAMING:
            return ObjectRefGenerator(task, client)
        return [ObjectRef(return_id(task, index), client) for index in range(count)] if count else None
