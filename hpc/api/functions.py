"""Remote functions: what ``@hpc.remote`` makes of a function."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hpc.api import options as opts
from hpc.api.connection import ensure_client
from hpc.api.packing import export, pack_arguments, references_to, shape_of
from hpc.api.signatures import Signature, signature_of
from hpc.api.worker_env import portable, worker_env
from hpc.core.owner.ref import ObjectRef
from hpc.core.owner.shell.client import Client
from hpc.core.owner.shell.collecting import Collecting
from hpc.core.owner.tables import TaskKind
from hpc.core.process.context import current_task, process
from hpc.core.wire import STREAMING


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

    __module__ = "hpc.remote_function"

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
        self._name = str(options.get("name") or getattr(function, "__name__", repr(function)))
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
        fn = export(client, code, self._name)
        held, placement, strategy = opts.placement(options, actor=False)
        env = worker_env(client, options.get("runtime_env"))
        self._kind = TaskKind(
            fn,
            self._name,
            shape_of(client, held, placement, strategy, env, False, float(opts.option(options, "time_request") or 0.0)),
            default_returns(self._function, options),
            int(opts.option(options, "max_retries")),
            bool(retry),
            opts.window(opts.option(options, "_generator_backpressure_num_objects")),
        )
        self._group = process.group
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
            context, kind = current_task.get(), self._kind
            if context is None:
                task = client.submit(kind, data, refs, holds, b"", 0)
            else:
                task = client.submit(kind, data, refs, holds, context.task, context.depth + 1)
        except Collecting:
            return client.later(functools.partial(self.remote, *args, **kwargs))
        if kind.num_returns == 1:
            return ObjectRef(task, client)
        return references_to(client, task, kind.num_returns)
